"""The stored policy: what it forbids, to whom, and what is on record. Promises 6, 7, 13 and 14."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest
from sqlalchemy import text

from alphalens_keyctl.database import Database
from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.keys import stored_policy
from alphalens_keyctl.keys.stored_policy import StoredPolicy, breaches
from alphalens_keyctl.provenance import Act, Origin
from tests.support import unguarded
from tests.support.answers import assert_failed
from tests.support.commands import Keyctl
from tests.support.faults import at_once
from tests.support.key_rows import change
from tests.support.raw_keys import key_id

NOW: Final = datetime(2026, 11, 1, 12, tzinfo=UTC)
DAY: Final = timedelta(days=1)
YEAR: Final = 365 * DAY
ACT: Final = Act(NOW, "jo", Origin(None, None, None, None))
WITHIN: Final = ("--owner", "ops", "--purpose", "nightly", "--expires", "365d")


def lay_down(keyctl: Keyctl) -> None:
    keyctl.ok("policy", "set", "--max-lifetime", "365d", "--require", "purpose,owner", "--name-pattern", "Team-*")


def forbidden(keyctl: Keyctl, *arguments: str, **options: Any) -> str:
    """What a command is refused with that breaks the policy."""
    machine = () if "--from" in arguments else ("--json",)
    result = keyctl(*arguments, *machine, **options)
    assert (result.status, result.stdout) == (2, ""), result
    if machine:
        return assert_failed(result, 2, "policy_violation")["message"]
    return result.stderr


@pytest.mark.parametrize(
    ("facts", "rules"),
    [
        ({}, []),
        ({"owner": "ops", "purpose": "x", "expires_at": NOW + YEAR, "name": "TEAM-é[x]"}, []),
        ({"owner": None}, ["owner"]),
        ({"purpose": None}, ["purpose"]),
        ({"expires_at": None}, ["max-lifetime"]),
        ({"expires_at": NOW + YEAR + timedelta(microseconds=1)}, ["max-lifetime"]),
        ({"name": "xteam-a"}, ["name-pattern"]),
        ({"name": "team-é[x]", "labels": {}}, []),
        ({"owner": None, "purpose": None, "expires_at": None, "name": "x"},
         ["owner", "purpose", "max-lifetime", "name-pattern"]),
    ],
)  # fmt: skip
def test_every_breach_is_told_at_once_and_only_of_what_is_judged(facts: dict[str, Any], rules: list[str]) -> None:
    policy = StoredPolicy(YEAR, ("owner", "purpose"), "team-*é[x]" if "é" in facts.get("name", "") else "team-*")
    assert [breach.rule for breach in breaches(policy, facts, created_at=NOW)] == rules
    assert breaches(StoredPolicy(), facts, created_at=NOW) == []


def test_what_is_set_is_read_again_and_recorded_with_what_was_before(database: Database) -> None:
    """Promises 6 and 7."""
    steps = [
        StoredPolicy(YEAR, ("owner", "expires"), "a-*"), StoredPolicy(None, (), "ÉTÉ ?"), StoredPolicy(90 * DAY),
        StoredPolicy(),
    ]  # fmt: skip
    before = StoredPolicy()
    for step in steps:
        with database.writing() as tx:
            stored_policy.write(tx, before, step, ACT, reason=None)
        with database.reading() as connection:
            assert stored_policy.read(connection) == step
        before = step


def test_a_policy_that_nobody_of_ours_wrote_stops_changes_until_it_is_set_anew(
    keyctl: Keyctl, database: Database
) -> None:
    """Promise 14: keys are revoked and listed all the same."""
    lay_down(keyctl)
    raw, _ = keyctl.create("team-a", *WITHIN)
    # PostgreSQL's own types leave no room for anything but a number that is too large.
    damage = "max_lifetime = 'x'" if database.one_writer else "max_lifetime = 9223372036854775807"
    unguarded.write(database, f"UPDATE key_policy SET {damage}", table="key_policy")
    for command in (("create", "team-b", *WITHIN), ("policy", "show"), ("audit", "check")):
        assert_failed(keyctl(*command, "--json"), 7, "database_unusable")
    assert_failed(keyctl("policy", "set", "--max-lifetime", "90d", "--json"), 7, "database_unusable")
    keyctl.ok("revoke", "team-a")
    assert not keyctl.opens(raw)
    keyctl.ok("policy", "set", "--max-lifetime", "90d", "--require", "owner", "--unset", "name-pattern")
    assert keyctl.ok("policy", "show", "--json").json == {
        "max_lifetime": "90d", "require": ["owner"], "name_pattern": None,
    }  # fmt: skip


def test_a_policy_that_the_database_swallows_is_not_said_to_stand(database: Database) -> None:
    with database.writing() as tx:
        if database.one_writer:
            tx.execute(text("CREATE TRIGGER swallow BEFORE INSERT ON key_policy BEGIN SELECT RAISE(IGNORE); END"))
        else:
            tx.execute(text("CREATE RULE swallow AS ON INSERT TO key_policy DO INSTEAD NOTHING"))
    with pytest.raises(KeyctlError) as raised, database.writing() as tx:
        stored_policy.write(tx, StoredPolicy(), StoredPolicy(YEAR), ACT, reason=None)
    assert raised.value.code is Code.DATABASE_UNUSABLE


# --- what it forbids ------------------------------------------------------------------------------------------------


@pytest.mark.one_database
def test_create_refuses_with_all_that_is_wrong_and_leaves_no_key(keyctl: Keyctl, tmp_path: Path) -> None:
    lay_down(keyctl)
    said = forbidden(keyctl, "create", "ci", "--pipe-to", f"touch {tmp_path}/ran")
    for part in ("'ci'", "no owner", "no purpose", "never expires (365d at most)", "not like 'Team-*'"):
        assert part in said
    assert "365d from its creation at most" in forbidden(keyctl, "create", "team-a", *WITHIN[:4], "--expires", "366d")
    assert keyctl.keys() == []
    assert not (tmp_path / "ran").exists()
    keyctl.ok("create", "TEAM-a", *WITHIN)
    # A key that is there is not judged by those who only want to have one.
    keyctl.ok("policy", "set", "--name-pattern", "x-*")
    keyctl.ok("create", "team-a", "--if-missing")


@pytest.mark.one_database
def test_an_override_goes_on_record_with_what_it_overrode(keyctl: Keyctl) -> None:
    """Promise 6."""
    lay_down(keyctl)
    keyctl.create("team-a", *WITHIN[:2], "--override", "for the fair")
    keyctl.ok("rotate", "team-a", "--expires", "10d", "--override", "the fair goes on")
    keyctl.ok("update", "team-a", "--unset", "owner", "--override", "nobody has it")
    keyctl.ok("create", "team-b", *WITHIN, "--override", "to be sure")
    told = [
        (event["action"], event["detail"].get("override"), event["detail"].get("breaches"))
        for event in keyctl.ok("audit", "--json").json
        if event["action"] in ("key.create", "key.update")
    ]
    assert told == [
        ("key.create", "for the fair", ["purpose", "max-lifetime"]),
        ("key.create", "the fair goes on", ["purpose"]),
        ("key.update", "nobody has it", ["owner"]),
        ("key.create", "to be sure", None),
    ]
    assert keyctl("audit", "verify").status == 0


def test_rotate_refuses_a_successor_outside_the_policy_and_the_old_key_stays(keyctl: Keyctl) -> None:
    """Promise 3."""
    raw, _ = keyctl.create("ci", "--owner", "ops", "--expires", "900d")
    keyctl.create("team-a", *WITHIN)
    lay_down(keyctl)
    said = forbidden(keyctl, "rotate", "ci")
    for part in ("no purpose", "365d from its creation at most", "not like 'Team-*'"):
        assert part in said
    dry = keyctl("rotate", "ci", "team-a", "--dry-run")
    assert (dry.status, dry.stdout.count("Would rotate")) == (2, 2)
    assert "team-a" not in dry.stderr
    assert keyctl.opens(raw)
    assert [key["status"] for key in keyctl.keys()] == ["active"] * 2
    several = keyctl("rotate", "ci", "team-a", "--pipe-to", "cat", "--no-print")
    assert several.status == 1
    assert "no purpose" in several.stderr
    keyctl.ok("update", "ci", "--set-purpose", "x", "--set-name", "team-ci")
    keyctl.ok("rotate", "team-ci", "--expires", "30d")


def test_update_gets_no_key_past_its_longest_life_which_counts_from_its_creation(
    keyctl: Keyctl, database: Database
) -> None:
    lay_down(keyctl)
    _, key = keyctl.create("team-a", *WITHIN)
    change(database, key, created_at=datetime.now(UTC) - 100 * DAY)
    assert "365d from its creation at most" in forbidden(keyctl, "update", "team-a", "--set-expires", "266d")
    forbidden(keyctl, "update", "team-a", "--unset", "expires")
    said = forbidden(
        keyctl, "update", "team-a", "--unset", "owner", "--unset", "purpose", "--set-name", "x", "--dry-run"
    )
    assert said.count("has") == 3
    keyctl.ok("update", "team-a", "--set-expires", "264d")


def test_update_is_judged_by_what_it_changes_alone(keyctl: Keyctl) -> None:
    """What came before the policy can be put right step by step."""
    keyctl.create("old")
    keyctl.create("other")
    old = keyctl.ok("rotate", "other").stdout
    lay_down(keyctl)
    keyctl.ok("update", "old", "--set-owner", "ops", "--set-label", "a=b")
    assert "'other'" in forbidden(keyctl, "update", "other", "--set-name", "another")
    # The key that was rotated out takes the name of its successor, and is not judged.
    keyctl.ok("update", "other", "--set-name", "team-other")
    assert {key["name"] for key in keyctl.keys()} == {"old", "team-other"}
    assert keyctl.opens(old.strip())


def test_a_file_of_keys_is_refused_whole_with_every_line_that_is_wrong(keyctl: Keyctl) -> None:
    lay_down(keyctl)
    (keyctl.home / "keys.csv").write_text(
        "name,owner,purpose,expires\nteam-a,ops,x,30d\nci,ops,x,30d\nteam-b,,x,never\n"
    )
    for dry in ((), ("--dry-run",)):
        said = forbidden(keyctl, "create", "--from", "keys.csv", *dry)
        assert "line 2" not in said
        assert "line 3: 'ci' has a name" in said
        assert "line 4: 'team-b' has no owner, never expires" in said
    assert keyctl.keys() == []
    keyctl.ok("create", "--from", "keys.csv", "--override", "moving in")
    details = [event["detail"] for event in keyctl.ok("audit", "--action", "key.create", "--json").json]
    assert [detail["override"] for detail in details] == ["moving in"] * 3
    assert [detail.get("breaches") for detail in details] == [None, ["name-pattern"], ["owner", "max-lifetime"]]


def test_a_key_made_beside_the_policy_is_judged_by_the_one_that_stands_then(keyctl: Keyctl) -> None:
    """The check and the change are one transaction: whoever is first, no key is made after the policy without it."""
    keyctl.ok("policy", "show")
    *made, laid = at_once(
        keyctl, *(("create", f"ci-{number}") for number in range(4)), ("policy", "set", "--require", "owner")
    )
    assert laid.status == 0
    assert {result.status for result in made} <= {0, 2}
    log = keyctl.ok("audit", "--json").json
    (at,) = [event["seq"] for event in log if event["action"] == "policy.set"]
    created = {event["key_id"]: event["seq"] for event in log if event["action"] == "key.create"}
    assert all(seq < at for seq in created.values())
    assert {key_id(result.stdout.strip()) for result in made if result.status == 0} == set(created)
