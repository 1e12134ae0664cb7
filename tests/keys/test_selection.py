"""Which keys a filter means: SQL and a plain reading of the rows agree, whatever the filters and the database.

Promises 5 and 10: what `list` shows is what `revoke` would take.
"""

import random
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import combinations
from typing import Any, Final, NamedTuple

import pytest
from sqlalchemy import insert, true, update

from alphalens_keyctl.database import Database
from alphalens_keyctl.keyformat import DIGEST_SCHEME, generate
from alphalens_keyctl.keys import selection, wording
from alphalens_keyctl.keys.selection import Selection, Sort
from alphalens_keyctl.models import Status, key_table
from alphalens_keyctl.text import fold
from tests.support.commands import Keyctl
from tests.support.databases import by_hand, dialect, one_database
from tests.support.key_rows import change, put
from tests.support.raw_keys import with_id

Row = dict[str, Any]
Fits = Callable[["Fleet", Row], bool]

NOW: Final = datetime(2026, 11, 23, 12, 0, 0, 123456, tzinfo=UTC)
DAY: Final = timedelta(days=1)
TICK: Final = timedelta(microseconds=1)
NAMES: Final = ("ci-", "CI-", "ci_", "50%-", "naïve-", "ключ-", "STRASSE-", "straße-", "a*b-", "Ω-")
OWNERS: Final = (None, "ops", "Ops", "ops ", "o'reilly; --")
# A value that begins another, an odd one, one that looks like a path, one that looks like JSON.
LABELS: Final[tuple[dict[str, str], ...]] = (
    {}, {"team": "bill"}, {"team": "billing"}, {"team": "billing", "tier": "gold"}, {"a.b/c": "x"}, {"a": "b/c"},
    {"team": '"%_é{}'}, {"tier": "null"},
)  # fmt: skip
SCOPES: Final[tuple[tuple[str, ...] | None, ...]] = (
    None, None, ("a",), ("a:*",), ("a:b",), ("a:b:*", "z"), ("a:b:c",), ("aa:b",), ("keyctl:admin",),
    ("keyctl:audit", "keyctl:team"),
)  # fmt: skip
# Each side of every edge that the filters below have, and the edge itself.
AGES: Final = (-TICK, timedelta(0), TICK, 30 * DAY - TICK, 30 * DAY, 30 * DAY + TICK, 90 * DAY, 400 * DAY)


class Fleet(NamedTuple):
    """Keys as they stand in the table, by id."""

    rows: dict[str, Row]

    def retires_at(self, row: Row) -> datetime | None:
        end: datetime | None = row["retires_at"]
        if end is None or row["grace_after_use"] is None:
            return end
        used = self.rows[row["awaits_use_of"]]["first_used_at"]
        return end if used is None else min(end, used + timedelta(seconds=row["grace_after_use"]))

    def status(self, row: Row) -> str:
        if row["revoked_at"]:
            return "revoked"
        if not row["activated_at"] and not row["delivering_to"]:
            return "pending"
        over = row["expires_at"] is not None and row["expires_at"] <= NOW
        end = self.retires_at(row)
        if end is not None and (over or end <= NOW):
            return "retired"
        if over:
            return "expired"
        if row["suspended_at"]:
            return "suspended"
        if not row["activated_at"]:
            return "delivering"
        return "retiring" if end is not None else "active"

    def fitting(self, fits: Fits) -> set[str]:
        return {key_id for key_id, row in self.rows.items() if fits(self, row)}


class Filter(NamedTuple):
    """A filter as a part of a `Selection`, and what it says in Python."""

    part: dict[str, Any]
    fits: Fits


def like(glob: str) -> Fits:
    pattern = "".join({"*": ".*", "?": "."}.get(c, re.escape(c)) for c in fold(glob))
    return lambda _, row: re.fullmatch(pattern, row["name_folded"], re.DOTALL) is not None


def containing(*parts: str) -> Fits:
    def fits(_: Fleet, row: Row) -> bool:
        return all(
            fold(part) in row["name_folded"]
            or part.lower() in row["id"].lower()
            or (row["owner"] is not None and part.lower() in row["owner"].lower())
            for part in parts
        )

    return fits


def ago(column: str, span: timedelta) -> Fits:
    return lambda _, row: row[column] is not None and row[column] <= NOW - span


def idle(_: Fleet, row: Row) -> bool:
    since = row["last_used_at"] or row["activated_at"]
    return since is not None and since <= NOW - 30 * DAY


def labelled(**labels: str) -> Fits:
    return lambda _, row: labels.items() <= row["labels"].items()


def scoped(*wanted: str, free: bool = True) -> Fits:
    """Keys that have one of these texts as a scope, and with `free` those without scopes."""
    return lambda _, row: free if row["scopes"] is None else not set(wanted).isdisjoint(row["scopes"])


FILTERS: Final = (
    *(
        Filter({"statuses": wanted}, lambda fleet, row, wanted=wanted: fleet.status(row) in wanted)  # type: ignore[misc]  # a default binds it now
        # No filter selects damaged keys: the database cannot look for what cannot be read.
        for wanted in (
            *((status,) for status in Status if status is not Status.DAMAGED),
            (Status.EXPIRED, Status.RETIRED, Status.ACTIVE),
        )
    ),
    Filter({"final": True}, lambda _fleet, _row: True),
    *(Filter({"name_glob": glob}, like(glob))
      for glob in ("ci-*", "CI?1*", "*_*", "50%*", "*1", "NAÏVE-*", "strasse-*", "к?юч-*", "a?b-*", "nothing")),
    *(Filter({"owner": owner}, lambda _, row, owner=owner: row["owner"] == owner)  # type: ignore[misc]  # a default binds it now
      for owner in ("ops", "Ops", "o'reilly; --")),
    Filter({"containing": ("CI", "1")}, containing("CI", "1")),
    Filter({"containing": ("OPS",)}, containing("OPS")),
    Filter({"labels": {"team": "bill"}}, labelled(team="bill")),
    Filter({"labels": {"team": "billing", "tier": "gold"}}, labelled(team="billing", tier="gold")),
    Filter({"labels": {"a.b/c": "x"}}, lambda _, row: row["labels"].get("a.b/c") == "x"),
    Filter({"labels": {"team": '"%_é{}'}}, labelled(team='"%_é{}')),
    Filter({"labels": {"tier": "null"}}, labelled(tier="null")),
    Filter({"without": ("team",)}, lambda _, row: "team" not in row["labels"]),
    Filter({"without": ("a.b/c", "tier")}, lambda _, row: not {"a.b/c", "tier"} & set(row["labels"])),
    Filter({"never_used": True}, lambda _, row: row["last_used_at"] is None),
    Filter({"unused_for": 30 * DAY}, idle),
    Filter({"expired": True}, lambda fleet, row: fleet.status(row) == "expired"),
    Filter({"expires_within": 30 * DAY},
           lambda _, row: row["expires_at"] is not None and NOW < row["expires_at"] <= NOW + 30 * DAY),
    Filter({"never_expires": True}, lambda _, row: row["expires_at"] is None),
    Filter({"unowned": True}, lambda _, row: row["owner"] is None),
    Filter({"older_than": 30 * DAY}, ago("created_at", 30 * DAY)),
    Filter({"suspended_for": 30 * DAY}, ago("suspended_at", 30 * DAY)),
    Filter({"scopes": ("a",)}, scoped("a")),
    Filter({"scopes": ("a:*",)}, scoped("a:*")),
    Filter({"scopes": ("a:b:c",)}, scoped("a:*", "a:b:*", "a:b:c")),
    Filter({"scopes": ("keyctl:admin",)}, scoped("keyctl:admin", free=False)),
)  # fmt: skip


def wanted_by(*filters: Filter) -> tuple[Selection, Fits]:
    """Filters joined, with what holds where none speaks of a status: neither revoked nor retired."""
    part: dict[str, Any] = {}
    for one in filters:
        part |= one.part
    silent = not part.get("statuses") and not part.get("final")

    def fits(fleet: Fleet, row: Row) -> bool:
        live = not silent or fleet.status(row) not in ("revoked", "retired")
        return live and all(one.fits(fleet, row) for one in filters)

    return Selection(**part), fits


def grown(seed: int) -> list[Row]:
    """Keys of every kind, and pairs of which one replaced the other."""
    chance = random.Random(seed)

    def past(share: float) -> datetime | None:
        return NOW - chance.choice(AGES) if chance.random() < share else None

    rows: list[Row] = []
    for number in range(64):
        raw = generate()
        name = f"{chance.choice(NAMES)}{number}"
        row: Row = {
            "id": raw.id, "name": name, "name_folded": fold(name), "labels": dict(chance.choice(LABELS)),
            "owner": chance.choice(OWNERS), "created_at": past(1), "created_by": "sql", "activated_at": past(0.85),
            "delivering_to": chance.choice([None, "a file"]), "lease_until": None,
            "expires_at": NOW + chance.choice([1, -1]) * chance.choice(AGES) if chance.random() < 0.4 else None,
            "retires_at": None, "suspended_at": past(0.25), "last_used_at": past(0.6), "use_count": 0,
            "revoked_at": past(0.1), "revoked_by": None, "replaces": None, "replaced_by": None,
            # Whole milliseconds: SQLite reckons with no finer ones.
            "first_used_at": (used := past(0.4)) and used.replace(microsecond=used.microsecond // 1000 * 1000),
            "awaits_use_of": None, "grace_after_use": None, "scopes": chance.choice(SCOPES),
            "digest": raw.digest(), "digest_scheme": DIGEST_SCHEME,
        }  # fmt: skip
        row["revoked_by"] = "sql" if row["revoked_at"] else None
        if number % 4 == 3 and rows[-1]["activated_at"] is not None:
            old = rows[-1]
            row |= {"name": old["name"], "name_folded": old["name_folded"], "replaces": old["id"]}
            old |= {"retires_at": NOW + chance.choice([-1, 1]) * chance.choice(AGES), "replaced_by": row["id"]}
            if chance.random() < 0.6:
                old |= {"awaits_use_of": row["id"], "grace_after_use": chance.choice([0, 3600, 86400 * 60])}
        rows.append(row)
    return rows


def planted(database: Database, seed: int) -> Fleet:
    rows = grown(seed)
    later = ("replaced_by", "awaits_use_of", "grace_after_use")
    with database.writing() as tx:
        tx.execute(insert(key_table), [{**row, **dict.fromkeys(later)} for row in rows])
        for row in rows:
            if row["replaced_by"]:
                tx.execute(
                    update(key_table).where(key_table.c.id == row["id"]).values({name: row[name] for name in later})
                )
    return Fleet({row["id"]: row for row in rows})


def pairs() -> Iterator[tuple[Filter, ...]]:
    for one, other in combinations(FILTERS, 2):
        if not one.part.keys() & other.part.keys():
            yield one, other


def test_each_filter_and_each_pair_selects_what_its_words_say_of_every_key(database: Database) -> None:
    fleet, found_some = planted(database, 1), set()
    with database.reading() as connection:
        for filters in [(), *((one,) for one in FILTERS), *pairs()]:
            wanted, fits = wanted_by(*filters)
            found = selection.ids(connection, wanted, now=NOW)
            assert set(found) == fleet.fitting(fits), wanted
            assert found == sorted(found)
            found_some |= {id(one) for one in filters if found}
    # A filter that finds nothing anywhere would prove nothing, but for the one that is meant to.
    assert [one.part for one in FILTERS if id(one) not in found_some] == [{"name_glob": "nothing"}]


@pytest.mark.parametrize("seed", [2, one_database(3)])
def test_every_way_to_ask_for_a_selection_gives_the_same_keys(database: Database, seed: int) -> None:
    fleet = planted(database, seed)
    with database.reading() as connection:
        for one in FILTERS:
            wanted, fits = wanted_by(one)
            expected = fleet.fitting(fits)
            read = selection.read(connection, wanted, sort=Sort.NAME, limit=None, now=NOW)
            assert {key.id: key.status for key in read} == {
                each: fleet.status(fleet.rows[each]) for each in expected
            }, wanted
            assert [key.retires_at for key in read] == [fleet.retires_at(fleet.rows[key.id]) for key in read]
            streamed = selection.documents(connection, wanted, sort=Sort.NAME, limit=None, now=NOW)
            assert [row[0] for row in streamed] == [key.id for key in read]
            assert selection.count(connection, wanted, now=NOW) == len(expected)
            among = list(fleet.rows)[::2]
            assert selection.ids(connection, wanted, among=among, now=NOW) == [e for e in among if e in expected]
            live = fleet.fitting(wanted_by()[1])
            assert selection.leaves_any_out(connection, wanted, now=NOW) == bool(live - expected), wanted
            since = NOW - 30 * DAY
            used = selection.used_since(connection, wanted, since, also=true(), limit=100, now=NOW)
            rows = fleet.rows
            lately = {e for e in expected if rows[e]["last_used_at"] and rows[e]["last_used_at"] > since}
            assert {key.id for key in used} == lately, wanted


def test_a_text_is_found_as_it_stands_in_a_name_an_id_and_an_owner(database: Database) -> None:
    """No character of it is a wildcard on either database, and the case of no letter counts."""
    owner = "Größe 50%_*?[a-z]^$.(x|y){2}\\d+ ЖÉ'\""
    ids = {name: put(database, name, owner=owner) for name in ("Straße", "plain")}
    put(database, "other", owner="o", raw=with_id("zzzzzzzzzzzz"))

    def found(*parts: str) -> set[str]:
        with database.reading() as connection:
            some = selection.read(connection, Selection(containing=parts), sort=Sort.NAME, limit=None, now=NOW)
            assert [key.id for key in some] == [
                key.id
                for key in selection.stream(
                    connection, Selection(containing=parts), sort=Sort.NAME, limit=None, now=NOW
                )
            ]
        return {key.name for key in some}

    for part in (owner, owner.upper().replace("SS", "ß"), "50%_", "*?[a-z]", "^$.", "(x|y)", "{2}\\d+", "жé'\"", "GRÖ"):
        assert found(part) == set(ids), part
    for part in ("5_%", "G*e", "ö?e", "[a-z]{2}", "x|z", "\\d{1}", "50_"):
        assert found(part) == set(), part
    assert found("STRASSE") == {"Straße"}
    assert found(ids["plain"][3:9].swapcase(), "PLA") == {"plain"}
    assert found("ZZZZ") == {"other"}


def test_any_number_of_keys_may_be_asked_about_at_once(database: Database) -> None:
    """More than a statement takes parameters on either database."""
    there = [put(database, name) for name in ("one", "two")]
    among = [there[1], *(f"{number:012}" for number in range(70_000)), there[0]]
    with database.reading() as connection:
        assert selection.ids(connection, Selection(), among=among, now=datetime.now(UTC)) == there[::-1]
        found = selection.some(connection, among, now=NOW)
        assert [key.id for key in found] == there[::-1]


def test_a_key_that_was_never_used_counts_from_its_activation(keyctl: Keyctl, database: Database) -> None:
    now = datetime.now(UTC)
    put(database, "made yesterday", created_at=now - 90 * DAY, activated_at=now - DAY)
    put(database, "made long ago", created_at=now - 90 * DAY, activated_at=now - 60 * DAY)
    put(database, "used yesterday", activated_at=now - 60 * DAY, last_used_at=now - DAY, use_count=1)
    put(database, "used long ago", activated_at=now - 60 * DAY, last_used_at=now - 45 * DAY, use_count=1)
    put(database, "pending", activated_at=None, created_at=now - 60 * DAY, delivering_to="a file")
    listed = keyctl.ok("list", "--unused-for", "30d", "--sort", "name", "--json").json
    assert [key["name"] for key in listed] == ["made long ago", "used long ago"]


def test_labels_that_are_changed_by_hand_are_found_under_their_new_value_alone(
    keyctl: Keyctl, database: Database, database_url: str
) -> None:
    key_id = put(database, "ci", labels={"team": "billing", "tier": "gold"})
    other = put(database, "other", labels={"team": "billing"})

    def found(*labels: str) -> list[str]:
        options = [word for label in labels for word in ("--label", label)]
        return sorted(key["id"] for key in keyctl.ok("list", *options, "--json").json)

    assert found("team=billing") == sorted([key_id, other])
    by_hand(database_url, 'UPDATE api_key SET labels = \'{"team": "bill", "a.b/c": "=1+1"}\' WHERE id = %s', key_id)
    assert found("team=billing") == [other]
    assert found("team=bill") == found("a.b/c==1+1") == [key_id]
    assert found("tier=gold") == found("team=billin") == found("team=bill%") == []
    assert found("!a.b/c") == [other]
    by_hand(database_url, "UPDATE api_key SET labels = '{}' WHERE id = %s", key_id)
    assert found("team=bill") == []
    assert found("!team") == [key_id]
    with database.reading() as connection:
        if dialect(database) == "sqlite":
            rows = connection.exec_driver_sql("SELECT * FROM api_key_label").all()
            assert [tuple(row) for row in rows] == [("team", "billing", other)]


def test_a_label_of_any_value_is_found_by_it_and_by_no_other(keyctl: Keyctl) -> None:
    values = ["%", "_", "'", '"', "{}", "null", "a=b", "é", "🔑", "x" * 100, "x" * 99, ":name", "%s", "?", "X" * 99]
    ids = []
    for number, value in enumerate(values):
        made = keyctl("create", f"ci-{number}", "--json", "--label", f"k={value}")
        ids.append(made.json["key"]["id"])
    for key_id, value in zip(ids, values, strict=True):
        assert [key["id"] for key in keyctl("list", "--label", f"k={value}", "--json").json] == [key_id], value


BAD: Final = {
    ("--label", "team"): "invalid_input",
    ("--label", "=x"): "invalid_input",
    ("--label", "team="): "invalid_input",
    ("--label", "!"): "invalid_input",
    ("--label", "!team=x"): "invalid_input",
    ("--label", "team=a", "--label", "team=b"): "invalid_input",
    ("--label", "team=a", "--label", "!team"): "usage",
    ("--status", "unknown"): "usage",
    ("--status", ""): "usage",
    ("--unused-for", "30"): "invalid_input",
    ("--unused-for", "0d"): "invalid_input",
    ("--unused-for", "-3d"): "invalid_input",
    ("--older-than", "101y"): "invalid_input",
    ("--expires-within", "99999999w"): "invalid_input",
    ("--suspended-for", "soon"): "invalid_input",
    ("--name", ""): "invalid_input",
    ("--owner", " x"): "invalid_input",
    ("--expired", "--expires-within", "3d"): "usage",
    ("--expired", "--status", "active"): "usage",
    ("--expires-within", "3d", "--status", "expired"): "usage",
    ("--suspended-for", "3d", "--status", "active"): "usage",
}


@pytest.mark.one_database
def test_filters_that_cannot_be_meant_are_refused_by_every_command_with_a_hint(keyctl: Keyctl) -> None:
    keyctl.create("ci")
    commands = (
        ("list", "--json"), ("revoke", "--yes", "--json"), ("suspend", "--yes", "--json"),
        ("resume", "--yes", "--json"), ("rotate", "--jsonl"),
    )  # fmt: skip
    for options, code in BAD.items():
        for command in commands:
            refused = keyctl(*command, *options)
            assert (refused.status, refused.stdout) == (2, ""), (command, options, refused)
            assert refused.error["code"] == code, (command, options)
            assert refused.error["hint"], (command, options)
    (key,) = keyctl.keys()
    assert key["status"] == "active"


def test_suspended_keys_that_expired_are_no_contradiction(keyctl: Keyctl, database: Database) -> None:
    now = datetime.now(UTC)
    put(database, "off", suspended_at=now - 40 * DAY, expires_at=now - DAY)
    listed = keyctl.ok("list", "--suspended-for", "30d", "--status", "expired", "--json").json
    assert [key["name"] for key in listed] == ["off"]


SAME: Final = (
    ("--owner", "ops"), ("--label", "team=billing"), ("--label", "!team"), ("--name", "ci-*"), ("--never-used",),
    ("--unused-for", "30d"), ("--older-than", "30d"), ("--expires-within", "30d"),
    ("--owner", "ops", "--label", "team=billing"), ("--no-owner",), ("--never-expires",),
)  # fmt: skip


@pytest.mark.one_database
def test_every_command_means_the_same_keys_by_the_same_filters(keyctl: Keyctl, database: Database) -> None:
    now = datetime.now(UTC)
    for number in range(12):
        put(database, f"{'ci' if number % 2 else 'web'}-{number}", owner="ops" if number % 3 else None,
            labels={"team": "billing"} if number % 4 else {}, created_at=now - number * 9 * DAY,
            activated_at=now - number * 9 * DAY, last_used_at=None if number % 5 else now - 6 * number * DAY,
            expires_at=now + 8 * number * DAY + DAY if number % 6 else None,
            suspended_at=now if number > 7 else None)  # fmt: skip

    compare(keyctl)


def compare(keyctl: Keyctl) -> None:
    def listed(*options: str) -> set[str]:
        return {key["id"] for key in keyctl("list", *options, "--json").json}

    wide = ("--dry-run", "--json", "--max", "50")
    for options in SAME:
        live, active, off = (
            listed(*options, *more) for more in ((), ("--status", "active"), ("--status", "suspended"))
        )
        assert active, options
        revoked = keyctl("revoke", *options, *wide, "--in-use").json
        assert ({key["id"] for key in revoked["changed"]}, revoked["unchanged"]) == (live, []), options
        suspended = keyctl("suspend", *options, *wide, "--in-use").json
        assert {key["id"] for key in suspended["changed"]} == active, options
        assert {key["id"] for key in suspended["unchanged"]} == off, options
        resumed = keyctl("resume", *options, *wide).json
        assert ({key["id"] for key in resumed["changed"]}, resumed["unchanged"]) == (off, []), options
    expected = listed("--label", "team=billing", "--owner", "ops", "--status", "active")
    rotated = keyctl("rotate", "--label", "team=billing", "--owner", "ops", "--jsonl").stdout.splitlines()
    assert len(rotated) == len(expected)
    everything = keyctl("list", "--all", "--json").json
    assert {key["id"] for key in everything if key["replaced_by"]} == expected


def test_expiry_and_suspension_are_filters_of_revoke_suspend_and_resume_too(keyctl: Keyctl, database: Database) -> None:
    now = datetime.now(UTC)
    past = put(database, "past", expires_at=now - DAY)
    off = put(database, "off", suspended_at=now - 40 * DAY)
    put(database, "off lately", suspended_at=now - DAY)
    put(database, "ci")
    for options, expected in {("--expired",): past, ("--suspended-for", "30d"): off}.items():
        for command in ("list", "revoke"):
            more = ["--dry-run"] if command == "revoke" else []
            said = keyctl.ok(command, *options, *more, "--json").json
            assert [key["id"] for key in (said["changed"] if more else said)] == [expected]
    change(database, off, expires_at=now - DAY)
    assert keyctl.ok("resume", "--suspended-for", "30d", "--dry-run", "--json").json["changed"] == []


def test_a_selection_says_back_in_words_what_it_selects() -> None:
    for wanted, said in (
        (Selection(), "that are neither revoked nor retired"),
        (Selection(final=True, never_used=True), "never used"),
        (Selection((Status.ACTIVE, Status.SUSPENDED)), "that are active or suspended"),
        (
            Selection((Status.ACTIVE,), name_glob="ci-*", owner="ops"),
            "that are active, called like 'ci-*', owned by 'ops'",
        ),
        (Selection((Status.SUSPENDED,), suspended_for=3 * DAY), "that are suspended, suspended for 3 days"),
        (Selection(final=True, unused_for=9 * DAY, expired=True), "expired, not used for 9 days"),
        (
            Selection(final=True, older_than=28 * DAY, expires_within=timedelta(hours=3)),
            "expiring within 3 hours, created more than 28 days ago",
        ),
    ):
        assert wording.selected(wanted) == said
    nobody = Selection(final=True, unowned=True, never_expires=True)
    assert wording.selected(nobody) == "owned by nobody, without an expiry"
    labels = Selection(final=True, labels={"team": "billing", "tier": "gold"}, without=("env",))
    assert wording.selected(labels) == "labelled team=billing, labelled tier=gold, without label env"


def test_a_span_is_said_back_as_it_is_and_not_rounded_to_another() -> None:
    """Who confirms "not used for 28 days" has not confirmed 30 days."""
    said = {wording.selected(Selection(final=True, unused_for=days * DAY)) for days in (28, 29, 30, 31)}
    assert len(said) == 4
