"""Promise 7: `audit verify` also finds an index that hides what stands in the log, and a file that is not whole."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import psycopg
import pytest

from alphalens_keyctl.database import Database, indexes
from tests.support.commands import Keyctl
from tests.support.databases import by_hand, dialect, on_postgresql, on_sqlite, path_of

SPARING_REVOCATIONS: Final = "CREATE INDEX audit_event_key ON audit_event (key_id, seq) WHERE action <> 'key.revoke'"


def found(keyctl: Keyctl) -> dict[str, Any]:
    """What `audit verify` finds broken, its events being sound."""
    result = keyctl("audit", "verify", "--json")
    assert (result.status, result.stderr) == (5, ""), result
    assert result.json["sound"] is False
    broken: dict[str, Any] = result.json["break"]
    assert list(broken) == ["seq", "kind", "about"]
    assert broken["seq"] is None
    told = keyctl("audit", "verify")
    assert told.status == 5
    assert told.stdout.startswith(f"Broken ({broken['kind']}): ")
    assert broken["about"] in told.stdout
    return broken


def actions(keyctl: Keyctl, name: str) -> list[str]:
    return [event["action"] for event in keyctl.ok("audit", "--key", name, "--json").json]


def test_the_list_of_indexes_is_what_the_migrations_make(database: Database) -> None:
    with database.reading() as connection:
        made = indexes._found(connection)
        assert indexes.altered(connection) is None
        assert indexes.unsound(connection, stop=lambda: False) is None
    of_partitions = {name for name in made if name.startswith(("usage_event_2", "usage_event_default_"))}
    assert {name: made[name] for name in made.keys() - of_partitions} == indexes.EXPECTED[dialect(database)]


def test_an_index_that_is_missing_or_was_made_otherwise_is_found(keyctl: Keyctl, database_url: str) -> None:
    keyctl.create("ci")
    by_hand(database_url, "DROP INDEX audit_event_key")
    assert found(keyctl) == {"seq": None, "kind": "index", "about": "index audit_event_key is missing"}
    by_hand(database_url, SPARING_REVOCATIONS)
    broken = found(keyctl)
    assert broken["kind"] == "index"
    assert broken["about"].startswith("index audit_event_key is defined otherwise: ")
    by_hand(database_url, "DROP INDEX audit_event_key")
    by_hand(database_url, "CREATE INDEX audit_event_key ON audit_event (key_id, seq)")
    assert keyctl("audit", "verify").status == 0


def test_an_index_of_the_administrators_own_is_none_of_ours(keyctl: Keyctl, database_url: str) -> None:
    by_hand(database_url, "CREATE INDEX mine ON audit_event (actor, at)")
    assert keyctl("audit", "verify").status == 0


@on_sqlite
def test_an_index_that_spares_revocations_and_no_longer_says_so_is_found(keyctl: Keyctl, database_url: str) -> None:
    _, ident = keyctl.create("ci")
    by_hand(database_url, "DROP INDEX audit_event_key")
    by_hand(database_url, SPARING_REVOCATIONS)
    keyctl.ok("revoke", "ci")
    with closing(sqlite3.connect(path_of(database_url), isolation_level=None)) as connection:
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute(
            "UPDATE sqlite_master SET sql = 'CREATE INDEX audit_event_key ON audit_event (key_id, seq)'"
            " WHERE name = 'audit_event_key'"
        )
    assert "key.revoke" not in actions(keyctl, ident), "nothing is hidden: the test is none"
    broken = found(keyctl)
    assert broken["kind"] == "damaged"
    assert "missing from index audit_event_key" in broken["about"]


@on_sqlite
def test_a_backup_under_the_log_of_the_file_before_is_found(keyctl: Keyctl, database_url: str, tmp_path: Path) -> None:
    """`mv backup.db keys.db`, with the old `-wal` beside it: SQLite plays that log into the other file."""
    path, backup = path_of(database_url), tmp_path / "backup.db"
    log = path.with_name(path.name + "-wal")
    keyctl.create("old")
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(backup)) as target:
        source.backup(target)
    (tmp_path / "fleet.csv").write_text("name\n" + "".join(f"service {number}\n" for number in range(60)))
    keyctl.ok("create", "--from", str(tmp_path / "fleet.csv"))
    # A connection that stays, as a service's does, keeps the next commit in the log.
    with closing(sqlite3.connect(path)) as service:
        service.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        keyctl.create("new")
        shutil.copyfile(log, tmp_path / "old-wal")
    backup.replace(path)
    shutil.copyfile(tmp_path / "old-wal", log)
    assert found(keyctl)["kind"] == "damaged"


@on_postgresql
def test_an_index_that_is_not_valid_is_found(keyctl: Keyctl, database_url: str) -> None:
    by_hand(database_url, "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'audit_event_key'::regclass")
    assert found(keyctl)["about"] == "index audit_event_key is missing"


@on_postgresql
def test_an_index_whose_condition_was_erased_is_found_where_amcheck_is_installed(
    keyctl: Keyctl, database_url: str
) -> None:
    with psycopg.connect(database_url) as session:
        if session.execute("SELECT 1 FROM pg_available_extensions WHERE name = 'amcheck'").fetchone() is None:
            pytest.skip("needs a server with the extension amcheck, which the wheel of PostgreSQL does not carry")
    by_hand(database_url, "CREATE EXTENSION amcheck")
    _, ident = keyctl.create("ci")
    by_hand(database_url, "DROP INDEX audit_event_key")
    by_hand(database_url, SPARING_REVOCATIONS)
    keyctl.ok("revoke", ident)
    by_hand(database_url, "UPDATE pg_index SET indpred = NULL WHERE indexrelid = 'audit_event_key'::regclass")
    broken = found(keyctl)
    assert broken["kind"] == "damaged"
    assert "audit_event_key" in broken["about"]
