"""No write by SQL, in whatever form a dialect has, undoes what the database holds (promises 5, 6 and 7)."""

import datetime as dt
from typing import Any

import pytest
from sqlalchemy import insert, text
from sqlalchemy.exc import DBAPIError

from alphalens_keyctl import keyformat
from alphalens_keyctl.database import Database
from alphalens_keyctl.models import event_table, key_table
from tests.support.commands import Keyctl
from tests.support.databases import by_hand

NOW = dt.datetime(2026, 11, 23, 12, 0, 0, tzinfo=dt.UTC)
# What a new row takes over from another one.
REST = "owner, purpose, labels, created_at, created_by, activated_at, use_count, digest, digest_scheme"
NAMED = f"name, name_folded, {REST}"


def copy(of: str, *, into: str = "INSERT INTO", ident: str = "'ZZZZZZZZZZZZ'", columns: str = "", values: str = "",
         name: str = "'new', 'new'") -> str:  # fmt: skip
    """A row that repeats the key named `of`, but for its id and name; `columns` are more of them, with `values`."""
    return (
        f"{into} api_key (id, {NAMED}{columns}) SELECT {ident}, {name}, {REST}{values} FROM api_key WHERE name = '{of}'"
    )


UNREVOKE = "UPDATE api_key SET revoked_at = NULL, revoked_by = NULL WHERE name = 'gone'"
ITSELF = {"ident": "id", "name": "name, name_folded"}
RETIRING = "(SELECT id FROM api_key WHERE retires_at IS NOT NULL)"
# The keys of `keys`: revoked, current, and a retiring one with its current successor.
UNDOING = {
    "both": [
        "UPDATE api_key SET id = 'ZZZZZZZZZZZZ' WHERE name = 'gone'",
        "UPDATE api_key SET digest = (SELECT digest FROM api_key WHERE name = 'gone') WHERE name = 'here'",
        "UPDATE api_key SET digest_scheme = 'none' WHERE name = 'here'",
        UNREVOKE,
        "UPDATE api_key SET name = 'here' WHERE name = 'other'",
        "UPDATE api_key SET name_folded = 'other' WHERE name = 'here'",
        "UPDATE api_key SET name = 'Here', name_folded = 'there' WHERE name = 'other'",
        "UPDATE api_key SET name = 'hére' WHERE name = 'schlüssel'",
        "UPDATE api_key SET name_folded = 'hére' WHERE name = 'schlüssel'",
        "UPDATE api_key SET name = 'schlüssel', name_folded = 'schluessel' WHERE name = 'other'",
        copy("here", name="name, 'elsewhere'"),
        copy("schlüssel", name="name, 'elsewhere'"),
        copy("here", ident="'ZZZZ ZZZZZZZ'"),
        copy("gone", **ITSELF) + " ON CONFLICT (id) DO UPDATE SET revoked_at = NULL, revoked_by = NULL",
        "DELETE FROM api_key WHERE name = 'gone'",
    ],
    "sqlite": [
        copy("gone", into="INSERT OR REPLACE INTO", **ITSELF),
        copy("gone", into="REPLACE INTO", **ITSELF),
        copy("here", into="INSERT OR REPLACE INTO", name="name, name_folded"),
        copy("gone", into="INSERT OR REPLACE INTO", columns=", rowid", values=", rowid"),
        copy("gone", into="INSERT OR REPLACE INTO", columns=", rowid", values=", -1"),
        copy("here", into="INSERT OR REPLACE INTO", columns=", replaces", values=f", {RETIRING}"),
        copy("here", ident="CAST('ZZZZZZZZZZZZ' AS BLOB)"),
        "UPDATE OR REPLACE api_key SET id = (SELECT id FROM api_key WHERE name = 'gone') WHERE name = 'here'",
        "UPDATE OR REPLACE api_key SET rowid = (SELECT rowid FROM api_key WHERE name = 'gone') WHERE name = 'here'",
        "UPDATE OR REPLACE api_key SET name = 'here', name_folded = 'here' WHERE name = 'other'",
        f"UPDATE OR REPLACE api_key SET replaces = {RETIRING} WHERE name = 'other'",
        "UPDATE OR REPLACE api_key SET retires_at = NULL, replaced_by = NULL WHERE retires_at IS NOT NULL",
        "UPDATE api_key SET name = CAST(name AS BLOB) WHERE name = 'here'",
        "UPDATE api_key SET name = name || char(0) WHERE name = 'here'",
        # Last: the setting stays with the connection.
        "PRAGMA recursive_triggers = ON; " + copy("gone", into="REPLACE INTO", **ITSELF),
    ],
    "postgresql": [
        "MERGE INTO api_key USING (SELECT) AS one ON name = 'gone' WHEN MATCHED THEN UPDATE SET revoked_at = NULL",
        "MERGE INTO api_key USING (SELECT) AS one ON name = 'gone' WHEN MATCHED THEN DELETE",
        "TRUNCATE api_key CASCADE",
        f"SET LOCAL session_replication_role = replica; {UNREVOKE}",
    ],
}
NO_TIMES = {
    "sqlite": [
        "2030-19-39 29:59:59.000000", "2030-02-30 00:00:00.000000", "2030-01-01 24:00:00.000000",
        "0000-01-01 00:00:00.000000", "2030-01-01 00:60:00.000000",
    ],
    "postgresql": ["infinity", "-infinity", "12026-01-01 00:00:00+00", "0044-03-15 00:00:00+00 BC"],
}  # fmt: skip
TIMES = [
    "created_at", "activated_at", "expires_at", "retires_at", "suspended_at", "last_used_at", "first_used_at",
    "lease_until",
]  # fmt: skip


def row(name: str, **values: Any) -> dict[str, Any]:
    """A complete, active key."""
    raw = keyformat.generate()
    return {
        "id": raw.id, "name": name, "name_folded": name, "labels": {}, "created_at": NOW, "created_by": "test",
        "activated_at": NOW, "use_count": 0, "digest": raw.digest(), "digest_scheme": "sha256",
    } | values  # fmt: skip


@pytest.fixture
def keys(database: Database) -> Database:
    """A revoked key, current ones, and a rotation."""
    old = row("rotated")
    with database.writing() as tx:
        tx.execute(insert(key_table).values(row("gone", revoked_at=NOW, revoked_by="test")))
        for name in ("here", "other", "schlüssel"):
            tx.execute(insert(key_table).values(row(name)))
        tx.execute(insert(key_table).values(old | {"retires_at": NOW}))
        tx.execute(insert(key_table).values(row("rotated", replaces=old["id"])))
    return database


def refusal(database: Database, script: str) -> str | None:
    """What the database says to statements; None where it takes them. Nothing of them stays."""
    with database.writing() as tx:
        try:
            for statement in script.split("; "):
                tx.execute(text(statement))
        except DBAPIError as error:
            return str(error.orig)
        finally:
            tx.rollback()
    return None


def test_no_form_of_a_write_takes_a_key_away_brings_it_back_or_makes_it_another(keys: Database) -> None:
    """Promise 5."""
    taken = [
        statement
        for statement in UNDOING["both"] + UNDOING["sqlite" if keys.one_writer else "postgresql"]
        if refusal(keys, statement) is None
    ]
    assert taken == []


def test_what_the_program_writes_is_taken(keys: Database) -> None:
    """The guards are no wall: keys of any name, their renaming, and every column that may change."""
    for statement in (
        "UPDATE api_key SET name = 'Here' WHERE name = 'here'",
        "UPDATE api_key SET name = 'new', name_folded = 'new' WHERE name = 'here'",
        "UPDATE api_key SET name = 'ÉTÉ', name_folded = 'été' WHERE name = 'schlüssel'",
        "UPDATE api_key SET owner = 'team', purpose = 'p', expires_at = '2030-02-28 23:59:59.999999' WHERE id > ''",
        "UPDATE api_key SET digest = digest, id = id, revoked_at = revoked_at",
    ):
        assert refusal(keys, statement) is None, statement


@pytest.mark.parametrize("column", TIMES)
def test_the_database_takes_no_time_that_is_none(keys: Database, column: str) -> None:
    """Promise 14: a row that cannot be read would stand in the way of others."""
    taken = []
    for time in NO_TIMES["sqlite" if keys.one_writer else "postgresql"]:
        given = NAMED.replace(column, f"'{time}'") if column in NAMED else NAMED
        columns, values = ("", "") if column in NAMED else (f", {column}", f", '{time}'")
        made = f"INSERT INTO api_key (id, {NAMED}{columns}) SELECT 'ZZZZZZZZZZZZ', {given}{values} FROM api_key"
        for statement in (
            f"UPDATE api_key SET {column} = '{time}' WHERE name = 'here'",
            made.replace(" name, name_folded, owner, purpose, labels, ", " 'new', 'new', NULL, NULL, labels, ")
            + " WHERE name = 'here'",
        ):
            taken += [statement] if refusal(keys, statement) is None else []
    if keys.one_writer and refusal(keys, f"UPDATE api_key SET {column} = CAST({column} AS BLOB)") is None:
        assert column not in ("created_at", "activated_at")  # the only ones that have a value to make one of
    assert taken == []


def test_an_event_has_a_time_too_and_on_postgresql_a_use(keys: Database, keyctl: Keyctl) -> None:
    """Promise 14. On SQLite the look would cost a tenth of a use's recording; there it is read with care."""
    keyctl.create("ci")
    for time in NO_TIMES["sqlite" if keys.one_writer else "postgresql"]:
        assert refusal(keys, _link("seq + 1", "hash", at=f"'{time}'")) is not None, time
        if not keys.one_writer:
            use = f"INSERT INTO usage_event (at, outcome) VALUES ('{time}', 'malformed')"
            assert refusal(keys, use) is not None, time


def test_an_event_is_taken_as_the_next_link_alone(keys: Database, keyctl: Keyctl) -> None:
    """Promise 7."""
    keyctl.create("ci")
    forged = {
        "before the end": _link("seq", "hash"),
        "after a gap": _link("seq + 2", "hash"),
        "the last number there is": _link("9223372036854775807", "hash"),
        "below all": _link("0", "hash"),
        "on another hash": _link("seq + 1", "previous_hash"),
        "on the start": _link("seq + 1", "CAST(substr(hash, 1, 0) AS BLOB)" if keys.one_writer else "''"),
    }
    for name, statement in forged.items():
        assert refusal(keys, statement) is not None, name
    assert refusal(keys, _link("seq + 1", "hash")) is None
    keyctl.ok("revoke", "ci")
    assert keyctl.ok("audit", "verify", "--log-only", "--json").json["events"] == 3


def test_many_events_at_once_are_looked_at_one_by_one(keys: Database, keyctl: Keyctl) -> None:
    """Promise 7: the second of two in one statement has to follow the first."""
    keyctl.create("ci")
    columns = ", ".join(event_table.c.keys())
    values = "at, actor, action, key_id, key_name, detail"
    last = "(SELECT * FROM audit_event ORDER BY seq DESC LIMIT 1)"
    first = f"SELECT seq + 1 AS seq, {values}, hash AS previous_hash, previous_hash AS hash FROM {last} AS a"
    fork = f"SELECT seq + 2 AS seq, {values}, hash, hash FROM {last} AS b"
    assert refusal(keys, f"INSERT INTO audit_event ({columns}) {first} UNION ALL {fork} ORDER BY 1") is not None


UNGUARDED_DELETE = {
    "sqlite": ["DROP TRIGGER audit_event_no_delete", "DELETE FROM audit_event WHERE seq = 2"],
    "postgresql": [
        "ALTER TABLE audit_event DISABLE TRIGGER audit_event_no_update",
        "DELETE FROM audit_event WHERE seq = 2",
        "ALTER TABLE audit_event ENABLE ALWAYS TRIGGER audit_event_no_update",
    ],
}


def test_no_event_takes_the_place_of_one_that_was_removed(keys: Database, keyctl: Keyctl) -> None:
    """Promise 7: an owner took an event out, and whoever may write events cannot mend that."""
    keyctl.create("ci")
    keyctl.ok("revoke", "ci")
    for statement in UNGUARDED_DELETE["sqlite" if keys.one_writer else "postgresql"]:
        by_hand(keyctl.database_url, statement)
    assert refusal(keys, _link("2", "hash", behind="WHERE seq = 1")) is not None


def test_two_who_append_at_once_do_not_fork_the_log(keys: Database, keyctl: Keyctl) -> None:
    """Promise 7, without the program's own lock."""
    if keys.one_writer:
        pytest.skip("SQLite has one writer at a time")
    keyctl.create("ci")
    with keys.recording() as one, keys.recording() as two:
        one.execute(text(_link("seq + 1", "hash")))
        two.execute(text("SET LOCAL lock_timeout = '100ms'"))
        with pytest.raises(DBAPIError):
            two.execute(text(_link("seq + 1", "hash", actor="'other'")))
        two.rollback()
        one.rollback()


def _link(seq: str, previous: str, *, at: str = "at", actor: str = "actor", behind: str = "") -> str:
    columns = ", ".join(event_table.c.keys())
    return (
        f"INSERT INTO audit_event ({columns}) SELECT {seq}, {at}, {actor}, action, key_id, key_name, detail,"
        f" {previous}, previous_hash FROM audit_event {behind} ORDER BY seq DESC LIMIT 1"
    )
