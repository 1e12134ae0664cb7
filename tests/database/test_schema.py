"""The schema: what migrations make, and what the database itself holds whatever any code does."""

import datetime as dt
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import insert, text, update
from sqlalchemy.exc import DBAPIError
from sqlmodel import SQLModel

from alphalens_keyctl import migrations
from alphalens_keyctl.database import Database
from alphalens_keyctl.migrations.indexes import INDEXES
from alphalens_keyctl.models import key_table
from tests.support.commands import Keyctl
from tests.support.databases import dialect
from tests.support.key_rows import key_row

NOW = dt.datetime(2026, 11, 23, 12, 0, 0, tzinfo=dt.UTC)


Refused = Callable[..., None]


@pytest.fixture
def refused(database: Database) -> Refused:
    """Run statements in one transaction; the last of them, and none before it, must be refused."""

    def check(*statements: Any) -> None:
        executable = [text(statement) if isinstance(statement, str) else statement for statement in statements]
        with database.writing() as tx:
            for statement in executable[:-1]:
                tx.execute(statement)
            with pytest.raises(DBAPIError):
                tx.execute(executable[-1])
            tx.rollback()

    return check


def test_the_list_of_revisions_is_that_of_the_migration_scripts() -> None:
    scripts = ScriptDirectory(str(Path(migrations.__file__).parent))
    assert tuple(script.revision for script in scripts.walk_revisions())[::-1] == migrations.REVISIONS


# SQLAlchemy cannot read such an index back from SQLite; the tests of coalescing hold it.
@pytest.mark.filterwarnings("ignore:Skipped unsupported reflection of expression-based index")
@pytest.mark.filterwarnings("ignore:autogenerate skipping metadata-specified expression-based index")
# Older releases of Alembic compare the text of a generated column, which PostgreSQL spells in its own way.
@pytest.mark.filterwarnings("ignore:Computed default on api_key.status cannot be modified")
def test_migrations_make_exactly_the_tables_that_the_models_describe(database: Database) -> None:
    def is_described(name: str | None, kind: str, _parents: object) -> bool:
        # A partition is a part of the table that the models describe, and labels are looked up in another way on
        # each of the databases.
        left_out = "usage_event_" if kind == "table" else "api_key_label"
        return not (name is not None and name.startswith((left_out, "api_key_label", "alphalens_keyctl_writer")))

    with database.reading() as connection:
        opts = {"version_table": migrations.VERSION_TABLE, "include_name": is_described}
        context = MigrationContext.configure(connection, opts=opts)
        assert {index.table.metadata for index in INDEXES if index.table is not None} == {SQLModel.metadata}
        assert compare_metadata(context, SQLModel.metadata) == []


def test_the_database_allows_one_current_key_to_a_name(refused: Refused) -> None:
    refused(insert(key_table).values(key_row()), insert(key_table).values(key_row()))


def test_the_database_allows_one_live_successor_to_a_key(refused: Refused) -> None:
    """Promise 4."""
    old = key_row()
    successor = {"replaces": old["id"], "activated_at": None}
    refused(
        insert(key_table).values(old),
        insert(key_table).values(key_row(**successor)),
        insert(key_table).values(key_row(**successor)),
    )


def test_a_name_is_free_again_after_revocation(database: Database) -> None:
    with database.writing() as tx:
        tx.execute(insert(key_table).values(key_row(revoked_at=NOW, revoked_by="test")))
        tx.execute(insert(key_table).values(key_row()))


def test_the_database_keeps_a_revoked_key_revoked(refused: Refused) -> None:
    """Promise 5."""
    old = key_row(revoked_at=NOW, revoked_by="test")
    refused(insert(key_table).values(old), update(key_table).values(revoked_at=None, revoked_by=None))


def test_the_database_refuses_to_delete_a_key(refused: Refused) -> None:
    refused(insert(key_table).values(key_row()), "DELETE FROM api_key")


COPY = "at, actor, action, key_id, key_name, detail, previous_hash, hash FROM audit_event"
FORGERIES = {
    "both": [
        "UPDATE audit_event SET actor = 'other'",
        "DELETE FROM audit_event",
        "DELETE FROM audit_event WHERE seq = 2",
        f"INSERT INTO audit_event SELECT seq + 100, {COPY}",
    ],
    "sqlite": [f"INSERT OR REPLACE INTO audit_event SELECT seq, {COPY}"],
    "postgresql": [
        "TRUNCATE audit_event",
        f"INSERT INTO audit_event SELECT seq, {COPY} ON CONFLICT DO UPDATE SET actor = ''",
    ],
}


def test_the_database_refuses_to_change_or_fork_the_log(keyctl: Keyctl, database: Database, refused: Refused) -> None:
    """Promise 7."""
    keyctl.create("ci")
    for statement in FORGERIES["both"] + FORGERIES[dialect(database)]:
        refused(statement)
    assert keyctl.ok("audit", "verify", "--json").json["events"] == 2


@pytest.mark.parametrize(
    "wrong",
    [
        {"digest": b"short"},
        {"id": "short"},
        {"use_count": -1},
        {"activated_at": None, "retires_at": NOW},
        {"replaced_by": "000000000000"},
        {"revoked_at": NOW},
        {"replaces": "000000000000"},
    ],
)
def test_the_database_refuses_a_row_that_contradicts_itself(refused: Refused, wrong: dict[str, Any]) -> None:
    refused(insert(key_table).values(key_row(**wrong)))


def test_a_time_with_an_offset_cannot_be_written_by_hand_into_sqlite(database: Database, refused: Refused) -> None:
    if dialect(database) == "postgresql":
        # There the type itself holds it: whatever offset is written, the instant is kept.
        with database.writing() as tx:
            tx.execute(insert(key_table).values(key_row()))
            tx.execute(text("UPDATE api_key SET expires_at = '2027-01-31 10:00:00+02:00'"))
            assert tx.scalar(key_table.select().with_only_columns(key_table.c.expires_at)) == dt.datetime(
                2027, 1, 31, 8, tzinfo=dt.UTC
            )
        return
    refused(insert(key_table).values(key_row()), "UPDATE api_key SET expires_at = '2027-01-31 10:00:00+02:00'")


def test_status_is_derived_by_the_database_and_cannot_contradict_the_times(database: Database) -> None:
    states: dict[str, dict[str, Any]] = {
        "pending": {"activated_at": None},
        "delivering": {"activated_at": None, "delivering_to": "keyring"},
        "active": {},
        "suspended": {"suspended_at": NOW},
        "retiring": {"retires_at": NOW},
        "revoked": {"revoked_at": NOW, "revoked_by": "test"},
    }
    with database.writing() as tx:
        for status, values in states.items():
            tx.execute(insert(key_table).values(key_row(name=status, **values)))
        stored = {row.name: row.status for row in tx.execute(text("SELECT name, status FROM api_key"))}
        assert stored == {status: status for status in states}


def test_a_status_cannot_be_written_by_hand(refused: Refused) -> None:
    refused(insert(key_table).values(key_row()), "UPDATE api_key SET status = 'active'")
