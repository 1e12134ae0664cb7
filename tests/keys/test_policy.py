"""The policy's rules: each with keys just inside and just outside its limit, on both databases."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import insert

from alphalens_keyctl import keyformat
from alphalens_keyctl.database import Database
from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.keys import policy, stored_policy
from alphalens_keyctl.keys.stored_policy import StoredPolicy
from alphalens_keyctl.models import key_table
from alphalens_keyctl.provenance import Act, Origin
from alphalens_keyctl.settings import Thresholds
from alphalens_keyctl.text import fold

NOW: Final = datetime(2026, 11, 1, 12, tzinfo=UTC)
DAY: Final = timedelta(days=1)
TICK: Final = timedelta(microseconds=1)
SECOND: Final = timedelta(seconds=1)
ACT: Final = Act(NOW, "jo", Origin(None, None, None, None))
DEFAULTS: Final = Thresholds()
RULES: Final = {rule.id: rule for rule in policy.RULES}
REVOKED: Final = {"revoked_at": NOW - DAY, "revoked_by": "jo"}
RETIRING: Final = {"retires_at": NOW + DAY}
SUSPENDED: Final = {"suspended_at": NOW - DAY}
# Its stored status says suspended; the clock says that it is over.
SUSPENDED_AND_RETIRED: Final = {"suspended_at": NOW - DAY, "retires_at": NOW}
# Everything that any rule could object to at once.
WORST: Final[Mapping[str, Any]] = {
    "name": "test", "owner": None, "purpose": None, "activated_at": NOW - 999 * DAY, "last_used_at": None,
    "expires_at": None,
}  # fmt: skip


def put(database: Database, name: str, **columns: Any) -> str:
    """A key that breaks no rule but by what `columns` say. Returns its id."""
    raw = keyformat.generate()
    row = {
        "id": raw.id, "name": name, "owner": "ops", "purpose": "nightly export", "labels": {}, "created_by": "jo",
        "created_at": NOW - 2 * DAY, "activated_at": NOW - 2 * DAY, "last_used_at": NOW - DAY, "use_count": 1,
        "expires_at": NOW + 60 * DAY, "digest": raw.digest(), "digest_scheme": keyformat.DIGEST_SCHEME, **columns,
    }  # fmt: skip
    row["name_folded"] = fold(row["name"])
    with database.writing() as tx:
        tx.execute(insert(key_table).values(row))
    return raw.id


def broken(database: Database, *rules: str, limits: Thresholds = DEFAULTS) -> list[tuple[str, str]]:
    """Which keys, by name, break which rules; all rules where none is named."""
    with database.reading() as connection:
        chosen = [RULES[each] for each in rules] or policy.RULES
        return [(found.rule.id, found.key_name) for found in policy.check(connection, chosen, limits, now=NOW)]


# Rule → keys that break it, keys that are just good enough. No key breaks another rule of those that have a limit.
LIMITS: Final[Mapping[str, tuple[list[dict[str, Any]], list[dict[str, Any]]]]] = {
    "rotation-overdue": (
        [{"activated_at": NOW - 90 * DAY}, {"activated_at": NOW - 900 * DAY, "expires_at": None}],
        [
            {"activated_at": NOW - 90 * DAY + TICK},
            # The record is old, but the delivery was yesterday.
            {"created_at": NOW - 900 * DAY},
            {"activated_at": NOW - 90 * DAY, "suspended_at": NOW - DAY},
            {"activated_at": NOW - 90 * DAY, **RETIRING},
        ],
    ),
    "expiring": (
        [{"expires_at": NOW + 14 * DAY}, {"expires_at": NOW + TICK}],
        [
            {"expires_at": NOW + 14 * DAY + TICK},
            {"expires_at": NOW},
            {"expires_at": None},
            {"expires_at": NOW + DAY, "suspended_at": NOW - DAY},
            {"expires_at": NOW + 2 * DAY, **RETIRING},
        ],
    ),
    "retiring-in-use": ([], [RETIRING, {"retires_at": NOW - TICK}]),
    "delivering-long": (
        [{"activated_at": None, "delivering_to": "keyring", "created_at": NOW - timedelta(hours=1)}],
        [
            {"activated_at": None, "delivering_to": "keyring", "created_at": NOW - timedelta(hours=1) + TICK},
            {"activated_at": None, "created_at": NOW - DAY},
            {"activated_at": None, "delivering_to": "keyring", "created_at": NOW - DAY, "expires_at": NOW},
            {"activated_at": None, "delivering_to": "keyring", "created_at": NOW - DAY, "suspended_at": NOW},
        ],
    ),
    "no-expiry": (
        [{"expires_at": None}],
        [{"expires_at": NOW + TICK}, {"expires_at": None, "suspended_at": NOW - DAY}, {"expires_at": None, **RETIRING}],
    ),
    "unused": (
        [{"last_used_at": NOW - 90 * DAY}, {"last_used_at": NOW - 900 * DAY}],
        [
            {"last_used_at": NOW - 90 * DAY + TICK},
            {"last_used_at": None},
            {"last_used_at": NOW - 90 * DAY, "suspended_at": NOW - DAY},
        ],
    ),
    "never-used": (
        [{"last_used_at": None, "activated_at": NOW - 30 * DAY}],
        [
            {"last_used_at": None, "activated_at": NOW - 30 * DAY + TICK},
            {"last_used_at": None, "created_at": NOW - 900 * DAY},
            {"last_used_at": NOW - 900 * DAY, "activated_at": NOW - 900 * DAY},
            {"last_used_at": None, "activated_at": NOW - 30 * DAY, "suspended_at": NOW - DAY},
        ],
    ),
    "suspended-long": (
        [{"suspended_at": NOW - 30 * DAY}, {"suspended_at": NOW - 30 * DAY, **RETIRING}],
        [
            {"suspended_at": NOW - 30 * DAY + TICK},
            {},
            {"suspended_at": NOW - 30 * DAY, "expires_at": NOW},
            {"suspended_at": NOW - 30 * DAY, "retires_at": NOW},
        ],
    ),
    "owner-unknown": (
        [{"owner": None}, {"owner": None, "suspended_at": NOW - DAY}],
        [{"owner": "anybody"}, {"owner": None, "expires_at": NOW}, {"owner": None, **SUSPENDED_AND_RETIRED}],
    ),
    "no-purpose": (
        [{"purpose": None}, {"purpose": None, "suspended_at": NOW - DAY}],
        [{"purpose": "x"}, {"purpose": None, "expires_at": NOW}, {"purpose": None, **SUSPENDED_AND_RETIRED}],
    ),
    "meaningless-name": (
        [{"name": "test"}, {"name": "Key1", "suspended_at": NOW - DAY}],
        [{"name": "key2", "expires_at": NOW}, {"name": "key3", **SUSPENDED_AND_RETIRED}],
    ),
    # By the policy that is stored below.
    "policy-lifetime": (
        [{"expires_at": NOW + 363 * DAY + 2 * SECOND}, {"expires_at": None}, {"expires_at": None, **SUSPENDED}],
        [{"expires_at": NOW + 363 * DAY}, {"expires_at": None, **RETIRING}],
    ),
    "policy-owner": (
        [{"owner": None}, {"owner": None, **SUSPENDED}],
        [{"owner": "anybody"}, {"owner": None, "expires_at": NOW}],
    ),
    "policy-purpose": ([{"purpose": None}], [{"purpose": "x"}, {"purpose": None, **SUSPENDED_AND_RETIRED}]),
    "policy-name": (
        [{"name": "nobody's"}, {"name": "policy_name"}],
        [{"name": "POLICY-100%"}, {"name": "nobody", "expires_at": NOW}],
    ),
}  # fmt: skip


def test_every_rule_has_its_limits_here_and_a_severity_problem_and_advice() -> None:
    assert list(LIMITS) == list(RULES)
    assert [rule.id for rule in policy.RULES if rule.severity is policy.Severity.ERROR] == [
        "rotation-overdue", "expiring", "retiring-in-use", "delivering-long", "policy-lifetime", "policy-owner",
        "policy-purpose", "policy-name",
    ]  # fmt: skip
    assert all(rule.problem and rule.advice.endswith(".") for rule in policy.RULES)


@pytest.mark.parametrize("rule", LIMITS)
def test_a_rule_finds_the_keys_just_over_its_limit_and_none_just_under_it(database: Database, rule: str) -> None:
    if rule.startswith("policy-"):
        stored = StoredPolicy(365 * DAY, ("owner", "purpose"), "policy-*")
        with database.writing() as tx:
            stored_policy.write(tx, StoredPolicy(), stored, ACT, reason=None)
    bad, good = LIMITS[rule]
    wanted = set()
    for number, columns in enumerate([*bad, *good]):
        columns = {"name": f"{rule} {number}", **columns}
        put(database, **columns)
        wanted |= {(rule, columns["name"])} if number < len(bad) else set()
    assert set(broken(database, rule)) == wanted


@pytest.mark.parametrize("name", ["rotation_age", "unused", "never_used", "expiring", "suspended", "delivering"])
def test_a_threshold_of_the_configuration_moves_the_limit_of_its_rule_alone(database: Database, name: str) -> None:
    rule, column, sign = {
        "rotation_age": ("rotation-overdue", "activated_at", -1),
        "unused": ("unused", "last_used_at", -1),
        "never_used": ("never-used", "activated_at", -1),
        "expiring": ("expiring", "expires_at", 1),
        "suspended": ("suspended-long", "suspended_at", -1),
        "delivering": ("delivering-long", "created_at", -1),
    }[name]
    unlike: dict[str, dict[str, Any]] = {
        "never_used": {"last_used_at": None},
        "delivering": {"activated_at": None, "delivering_to": "keyring"},
    }
    more = unlike.get(name, {})
    put(database, "over", **more, **{column: NOW + sign * 5 * DAY})
    # Longer ago than the limit breaks it; farther ahead does not.
    put(database, "under", **more, **{column: NOW + sign * 5 * DAY + TICK})
    limit: dict[str, Any] = {name: 5 * DAY}
    assert broken(database, rule, limits=replace(DEFAULTS, **limit)) == [(rule, "over")]
    # Of these two the default is farther on the side that breaks the rule.
    both = name in ("expiring", "delivering")
    assert sorted(broken(database, rule)) == ([(rule, "over"), (rule, "under")] if both else [])


@pytest.mark.parametrize("delivering_to", ["pipe-to store", None])
def test_a_key_with_a_successor_on_its_way_is_not_expiring(database: Database, delivering_to: str | None) -> None:
    old = put(database, "billing", expires_at=NOW + DAY)
    assert broken(database, "expiring") == [("expiring", "billing")]
    put(database, "billing", replaces=old, activated_at=None, delivering_to=delivering_to, last_used_at=None)
    assert broken(database, "expiring") == []


def test_a_key_whose_successor_was_given_up_is_expiring(database: Database) -> None:
    old = put(database, "billing", expires_at=NOW + DAY)
    put(database, "billing", replaces=old, activated_at=None, **REVOKED)
    put(database, "billing", replaces=old, activated_at=None, **REVOKED)
    assert broken(database, "expiring") == [("expiring", "billing")]


def test_a_key_that_was_rotated_out_is_found_when_it_was_used_after_that(database: Database) -> None:
    for name, used in (("before", NOW - 2 * DAY), ("after", NOW - 2 * DAY + TICK), ("never", None)):
        new = put(database, name, activated_at=NOW - 2 * DAY)
        put(database, name, last_used_at=used, replaced_by=new, **RETIRING)
    assert broken(database, "retiring-in-use") == [("retiring-in-use", "after")]


@pytest.mark.parametrize("end", [{"retires_at": NOW}, REVOKED, {"expires_at": NOW}, {"suspended_at": NOW}])
def test_a_key_that_was_rotated_out_and_opens_no_more_is_not_in_use(database: Database, end: dict[str, Any]) -> None:
    new = put(database, "billing", activated_at=NOW - 2 * DAY)
    columns = {"last_used_at": NOW - TICK, "replaced_by": new, **RETIRING, **end}
    put(database, "billing", **columns)
    assert broken(database, "retiring-in-use") == []


@pytest.mark.parametrize(
    "state",
    [
        REVOKED,
        {**REVOKED, "suspended_at": NOW - 99 * DAY},
        {"retires_at": NOW},
        {"retires_at": NOW, "suspended_at": NOW - 99 * DAY},
        {"expires_at": NOW},
        {"expires_at": NOW, "suspended_at": NOW - 99 * DAY},
        {"activated_at": None},
        {"activated_at": None, "delivering_to": "pipe-to store", "created_at": NOW - timedelta(minutes=59)},
    ],
    ids=lambda state: "+".join(state),
)
def test_a_key_that_will_never_open_again_or_is_on_its_way_breaks_no_rule(
    database: Database, state: dict[str, Any]
) -> None:
    put(database, **{**WORST, **state})
    assert broken(database) == []


def test_a_key_in_order_breaks_no_rule_and_the_worst_breaks_all_that_fit(database: Database) -> None:
    put(database, "in order")
    assert broken(database) == []
    put(database, **WORST)
    found = [rule for rule, _ in broken(database)]
    assert found == [
        "rotation-overdue", "no-expiry", "never-used", "owner-unknown", "no-purpose", "meaningless-name",
    ]  # fmt: skip


def test_a_finding_tells_which_key_whose_and_what_it_is(database: Database) -> None:
    key_id = put(database, "billing", purpose=None, suspended_at=NOW - DAY)
    with database.reading() as connection:
        found = list(policy.check(connection, policy.RULES, Thresholds(), now=NOW))
    assert found == [policy.Finding(RULES["no-purpose"], key_id, "billing", "ops", "suspended")]


def test_a_finding_says_what_was_measured_against_which_limit(database: Database) -> None:
    put(database, "old", activated_at=NOW - 208 * DAY, expires_at=NOW + 6 * DAY)
    put(database, "lasting", purpose=None, suspended_at=NOW - DAY, retires_at=NOW + DAY)
    with database.reading() as connection:
        found = {
            each.rule.id: (each.at, each.value, each.limit, each.lifetime, each.rotated_out)
            for each in policy.check(connection, policy.RULES, Thresholds(), now=NOW)
        }
    assert found == {
        "rotation-overdue": (NOW - 208 * DAY, 208 * DAY, 90 * DAY, None, False),
        "expiring": (NOW + 6 * DAY, 6 * DAY, 14 * DAY, 214 * DAY, False),
        "no-purpose": (None, None, None, None, True),
    }


def test_only_owners_of_the_list_are_known_and_without_a_list_everybody_is(database: Database) -> None:
    for owner in ("ops", "OPS", "team-b", None):
        put(database, f"of {owner}" if owner != "OPS" else "of upper case", owner=owner)
    assert broken(database, "owner-unknown") == [("owner-unknown", "of None")]
    listed = broken(database, "owner-unknown", limits=Thresholds(owners=("ops", "team-b")))
    assert sorted(listed) == [("owner-unknown", "of None"), ("owner-unknown", "of upper case")]


@pytest.mark.parametrize("owner", ["%", "o_s", "'; DROP TABLE api_key; --", "Zoë"])
def test_an_owner_of_the_list_is_a_text_and_no_pattern(database: Database, owner: str) -> None:
    put(database, "of ops")
    put(database, "of owner", owner=owner)
    assert broken(database, "owner-unknown", limits=Thresholds(owners=(owner,))) == [("owner-unknown", "of ops")]


SAYS_NOTHING: Final = [
    "TEST", "Test 1", "key", "Key1", "key-42", "key_7", "key.1", "API-key 2", "api key", "My Key", "my-key-3",
    "apikey", "APIKEY2", "token1", "tmp", "temp2", "temporary", "default", "demo", "example", "foo", "bar3", "asdf",
    "untitled", "new", "xxx", "null", "todo", "testing",
]  # fmt: skip
SAYS_SOMETHING: Final = [
    "testing-pipeline-eu", "test-runner", "key-server", "keycloak", "apikey-rotation", "newsletter", "token-service",
    "foobar-app", "demo-berlin", "temperature", "barista", "mystery", "latest", "ci-test", "billing", "test1a",
    "1test", "test 1 2", "test--1", "7", "ключ",
]  # fmt: skip


def test_names_that_say_nothing_are_told_from_those_that_say_something(database: Database) -> None:
    for name in (*SAYS_NOTHING, *SAYS_SOMETHING):
        put(database, name)
    found = [name for _, name in broken(database, "meaningless-name")]
    assert sorted(found) == sorted(SAYS_NOTHING)


def test_findings_come_rule_by_rule_in_the_order_that_was_asked(database: Database) -> None:
    for number in range(3):
        put(database, f"billing {number}", purpose=None, owner=None)
    found = [rule for rule, _ in broken(database, "no-purpose", "owner-unknown")]
    assert found == ["no-purpose"] * 3 + ["owner-unknown"] * 3
    found = [rule for rule, _ in broken(database, "owner-unknown", "no-purpose")]
    assert found == ["owner-unknown"] * 3 + ["no-purpose"] * 3


def test_rules_are_chosen_by_id_once_each_and_asking_for_one_outweighs_ignoring_it() -> None:
    assert policy.chosen([], ignored=[]) == list(policy.RULES)
    assert policy.chosen(["unused", "expiring", "unused"], ignored=["unused"]) == [RULES["unused"], RULES["expiring"]]
    assert RULES["unused"] not in policy.chosen([], ignored=["unused"])
    assert len(policy.chosen([], ignored=["unused"])) == len(policy.RULES) - 1
    assert policy.chosen([], ignored=list(RULES)) == []


@given(st.text(max_size=30).filter(lambda text: text not in RULES))
def test_a_rule_that_there_is_not_is_refused_with_those_there_are(name: str) -> None:
    with pytest.raises(KeyctlError) as asked:
        policy.chosen([name], ignored=[])
    assert asked.value.code is Code.USAGE
    assert all(rule in asked.value.hint for rule in RULES)
    with pytest.raises(KeyctlError) as ignored:
        policy.chosen(["unused"], ignored=[name])
    assert ignored.value.code is Code.CONFIGURATION
    assert "'ignore'" in ignored.value.message
