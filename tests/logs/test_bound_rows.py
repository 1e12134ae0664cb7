"""Promise 7: the audit log binds the keys: a row that is not what its events say makes `audit verify` fail."""

import datetime as dt
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import pytest
from sqlalchemy import Connection, select, update

from alphalens_keyctl.database import Database
from alphalens_keyctl.logs import audit, bound_rows
from alphalens_keyctl.logs.bound_rows import BOUND, UNBOUND, RowFault, Unbound
from alphalens_keyctl.models import key_table
from tests.support import unguarded
from tests.support.commands import Keyctl
from tests.support.databases import by_hand, on_sqlite

# What somebody may write into a column of a key, {other} being the id of another key.
TAMPERED: Final[dict[str, str | dict[str, str]]] = {
    "name": "'zebra'", "name_folded": "'zebra'", "owner": "'mallory'", "purpose": "'mine'", "labels": "'{\"a\":\"b\"}'",
    "created_at": "'2020-01-01 00:00:00.000000'", "created_by": "'mallory'", "activated_at": "NULL",
    "expires_at": "'2099-01-01 00:00:00.000000'", "retires_at": "'2099-01-01 00:00:00.000000'",
    "suspended_at": "'2020-01-01 00:00:00.000000'", "revoked_at": "'2020-01-01 00:00:00.000000'",
    "revoked_by": "'mallory'", "revoke_reason": "'why not'", "replaces": "'{other}'", "replaced_by": "'{other}'",
    "delivering_to": "'keyring'", "scopes": "'[\"a\"]'", "allow_from": "'[\"10.0.0.0/8\"]'",
    "awaits_use_of": "'{other}'", "grace_after_use": "7", "digest_scheme": "'md5'",
    "digest": {"sqlite": "zeroblob(32)", "postgresql": "decode(repeat('00', 32), 'hex')"},
}  # fmt: skip


class _UndoneError(Exception):
    pass


@contextmanager
def tampering(database: Database) -> Iterator[Connection]:
    """A transaction of somebody who owns the database, undone at the end of the block."""
    try:
        with database.writing() as tx:
            if database.one_writer:
                tx.exec_driver_sql("PRAGMA ignore_check_constraints = ON")
            else:
                checks = "conrelid = to_regclass('api_key') AND contype = 'c'"
                for (name,) in tx.exec_driver_sql(f"SELECT conname FROM pg_constraint WHERE {checks}").all():
                    tx.exec_driver_sql(f"ALTER TABLE api_key DROP CONSTRAINT {name}")
            yield tx
            raise _UndoneError
    except _UndoneError:
        pass


def run(tx: Connection, statement: str) -> None:
    """Run a statement as it stands; no colon or percent sign in it is a parameter's."""
    tx.exec_driver_sql(statement.replace("%", "%%"))


@pytest.fixture
def keys(keyctl: Keyctl, database: Database) -> tuple[str, str]:
    """The ids of two active keys in a database without guards."""
    _, first = keyctl.create("billing", "--owner", "ops", "--expires", "30d")
    _, other = keyctl.create("ci")
    for table in ("api_key", "audit_event"):
        unguarded.take_guards_away(database, table)
    return first, other


def test_each_column_of_a_key_is_bound_or_is_one_that_no_event_writes() -> None:
    assert {*BOUND} | UNBOUND == set(key_table.c.keys())
    assert not {*BOUND} & UNBOUND
    assert {*TAMPERED} | {"id"} == {*BOUND}


def test_whatever_is_changed_in_a_row_past_the_program_shows(database: Database, keys: tuple[str, str]) -> None:
    first, other = keys
    for column, tampered in TAMPERED.items():
        with tampering(database) as tx:
            value = tampered if isinstance(tampered, str) else tampered[tx.dialect.name]
            run(tx, f"UPDATE api_key SET {column} = {value.replace('{other}', other)} WHERE id = '{first}'")
            assert bound_rows.first_unbound(tx) == Unbound(RowFault.ALTERED, first), column
    with tampering(database) as tx:
        assert bound_rows.first_unbound(tx) is None


def test_two_keys_that_have_each_others_digest_show(database: Database, keys: tuple[str, str]) -> None:
    first, other = keys
    with tampering(database) as tx:
        for ident, source in ((first, other), (other, first)):
            taken = f"(SELECT digest FROM api_key WHERE id = '{source}')"
            run(tx, f"UPDATE api_key SET digest = {taken} WHERE id = '{ident}'")
        found = bound_rows.first_unbound(tx)
    assert found is not None
    assert found.fault is RowFault.ALTERED


def test_what_a_recording_of_use_and_a_lease_write_is_not_bound(database: Database, keys: tuple[str, str]) -> None:
    at = "'2026-01-01 00:00:00.000000'"
    with tampering(database) as tx:
        run(tx, f"UPDATE api_key SET last_used_at = {at}, use_count = 5, first_used_at = {at}, lease_until = {at}")
        assert bound_rows.first_unbound(tx) is None


def test_a_ghost_a_changed_id_and_a_key_that_went_show(database: Database, keys: tuple[str, str]) -> None:
    first, _other = keys
    columns = ", ".join(name for name in key_table.c.keys() if name not in ("id", "status", "name", "name_folded"))
    with tampering(database) as tx:
        ghost = f"SELECT 'GhostGhost00', 'ghost', 'ghost', {columns} FROM api_key WHERE id = '{first}'"
        run(tx, f"INSERT INTO api_key (id, name, name_folded, {columns}) {ghost}")
        assert bound_rows.first_unbound(tx) == Unbound(RowFault.UNKNOWN, "GhostGhost00")
    with tampering(database) as tx:
        run(tx, f"UPDATE api_key SET id = 'GhostGhost00' WHERE id = '{first}'")
        assert bound_rows.first_unbound(tx) == Unbound(RowFault.UNKNOWN, "GhostGhost00")
    with tampering(database) as tx:
        run(tx, f"DELETE FROM api_key WHERE id = '{first}'")
        assert bound_rows.first_unbound(tx) == Unbound(RowFault.MISSING, first)


def test_an_older_event_or_a_label_named_row_does_not_vouch_for_a_row(
    keyctl: Keyctl, database: Database, keys: tuple[str, str]
) -> None:
    """A row as an earlier event said it is not what the newest says; and only the event's own `row` counts."""
    first, _other = keys
    with tampering(database) as tx:
        run(tx, f"UPDATE api_key SET owner = 'mallory' WHERE id = '{first}'")
        forged = bound_rows.digests(tx, [first])[first]
    keyctl.ok("update", "billing", "--set-label", f"row={forged}")
    keyctl.ok("update", "billing", "--unset", "label:row")
    with tampering(database) as tx:
        assert bound_rows.first_unbound(tx) is None
        run(tx, f"UPDATE api_key SET owner = 'mallory' WHERE id = '{first}'")
        assert bound_rows.first_unbound(tx) == Unbound(RowFault.ALTERED, first)
    keyctl.ok("revoke", "billing")
    with tampering(database) as tx:
        run(tx, f"UPDATE api_key SET revoked_at = NULL, revoked_by = NULL WHERE id = '{first}'")
        assert bound_rows.first_unbound(tx) == Unbound(RowFault.ALTERED, first)


@on_sqlite
def test_the_digest_of_a_row_is_what_the_documentation_says(database: Database, keys: tuple[str, str]) -> None:
    first, _other = keys
    with database.reading() as connection:
        row = connection.exec_driver_sql(
            f"SELECT {', '.join(BOUND)} FROM api_key WHERE id = ?", (first,)
        ).one()  # fmt: skip
        values = [value.hex().upper() if isinstance(value, bytes) else value for value in row]
        form = json.dumps(values, separators=(",", ":"), ensure_ascii=False).encode()
        assert bound_rows.digests(connection, [first]) == {first: hashlib.sha256(form).hexdigest()}


def test_what_a_change_says_of_a_row_beforehand_is_what_the_row_is_afterwards(
    database: Database, keys: tuple[str, str]
) -> None:
    """To the byte, whatever stands in the row and comes to stand there."""
    hostile = {"purpose": "'\"\\%:x ?'", "owner": "'ö\u2028'", "labels": '\'{"b": "2", "a": "é"}\''}
    afterwards: tuple[dict[str, dt.datetime | str | None], ...] = (
        {"revoked_at": dt.datetime(2026, 1, 2, 3, 4, 5, 6, dt.UTC), "revoked_by": "a:b %(x)s", "revoke_reason": None},
        {"suspended_at": dt.datetime(2026, 1, 2, 5, 0, tzinfo=dt.timezone(dt.timedelta(hours=2)))},
        {"revoke_reason": 'zoë \\ " \x7f \U0001f511', "expires_at": None},
    )
    for values in afterwards:
        with tampering(database) as tx:
            blob = {"purpose": "x'00ff'", "delivering_to": "CAST(x'ff' AS TEXT)"} if database.one_writer else {}
            for number, (column, value) in enumerate([*hostile.items(), *blob.items()]):
                run(tx, f"UPDATE api_key SET {column} = {value} WHERE id = '{keys[number % 2]}'")
            said = bound_rows.with_digests(tx, select(key_table.c.id).order_by(key_table.c.id), values)
            tx.execute(update(key_table).values(**values))
            assert dict(said) == bound_rows.digests(tx, keys)


@on_sqlite
def test_a_row_with_bytes_where_no_bytes_belong_shows_and_can_be_revoked(
    keyctl: Keyctl, database: Database, keys: tuple[str, str]
) -> None:
    """Promise 14 too: the damage of one row stops no other key's event."""
    first, other = keys
    unguarded.write(database, f"UPDATE api_key SET purpose = x'00ff' WHERE id = '{first}'")
    assert keyctl("audit", "verify", "--json").json["break"] == {"seq": None, "kind": "altered_key", "about": first}
    keyctl.ok("revoke", first, other)
    assert keyctl.ok("audit", "verify", "--json").json["sound"]


def test_audit_verify_says_which_key_is_not_what_the_log_says(
    keyctl: Keyctl, database: Database, database_url: str, keys: tuple[str, str]
) -> None:
    first, _other = keys
    by_hand(database_url, f"UPDATE api_key SET owner = 'mallory' WHERE id = '{first}'")
    found = keyctl("audit", "verify", "--json")
    assert (found.status, found.json["sound"]) == (5, False)
    assert found.json["break"] == {"seq": None, "kind": "altered_key", "about": first}
    said = keyctl("audit", "verify").stdout
    assert said.startswith(f"Broken (altered_key): the row of key {first} is not what its newest event says.")
    assert keyctl.ok("audit", "verify", "--log-only", "--json").json["sound"]
    assert audit.verify(database, log_only=True).broken is None


def test_a_change_of_many_keys_binds_each_row_as_it_is_then(keyctl: Keyctl, database: Database) -> None:
    for number in range(12):
        keyctl.create(f"key-{number}", "--owner", "ops" if number % 2 else "web")
    keyctl.ok("suspend", "--yes", "--owner", "ops", "--reason", "a 'reason' with % and ?")
    keyctl.ok("resume", "--yes", "--owner", "ops")
    keyctl.ok("revoke", "--yes", "--owner", "ops", "--reason", "zoë")
    keyctl.ok("update", "--yes", "--max", "6", "--owner", "web", "--set-label", "a=b", "--set-expires", "9d")
    with database.reading() as connection:
        assert bound_rows.first_unbound(connection) is None
