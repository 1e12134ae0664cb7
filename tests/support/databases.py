"""The two databases: which one a test runs on, and what an administrator does there by hand."""

import sqlite3
from collections.abc import Container, Iterable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest

from alphalens_keyctl.address import PostgreSQLAddress
from alphalens_keyctl.database import Database
from tests.support.raw_keys import key_id

on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
on_postgresql = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)


def mostly_on_sqlite(cases: Iterable[Any], *, on_both: Container[Any]) -> list[Any]:
    """The cases as parameters of a test: `on_both` databases those that differ there, on SQLite alone the others."""
    return [case if case in on_both else one_database(case) for case in cases]


def one_database(*case: Any) -> Any:
    """A case as parameters of a test, on SQLite alone."""
    return pytest.param(*case, marks=pytest.mark.one_database)


def dialect(database: Database) -> str:
    """`postgresql` or `sqlite`."""
    return "postgresql" if isinstance(database.address, PostgreSQLAddress) else "sqlite"


def path_of(url: str) -> Path:
    """The file that a SQLite URL names."""
    return Path(url.removeprefix("sqlite:///"))


def by_hand(url: str | None, statement: str, *values: object) -> None:
    """Run what an administrator types into sqlite3 or psql."""
    assert url is not None
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(path_of(url), timeout=10, isolation_level=None)) as connection:
            connection.execute("PRAGMA ignore_check_constraints = ON")
            connection.execute(statement.replace("%s", "?"), values)
    else:
        with psycopg.connect(url, autocommit=True) as session:
            session.execute(statement.encode(), values)


def stored(url: str, moment: datetime) -> object:
    """A time as the database's own shell takes it."""
    return moment.strftime("%Y-%m-%d %H:%M:%S.%f") if url.startswith("sqlite") else moment


def revoke_by_hand(url: str, raw: str) -> None:
    """Write a revocation as another program would: no audit event, only the trigger knows."""
    now = stored(url, datetime.now(UTC))
    by_hand(url, "UPDATE api_key SET revoked_at = %s, revoked_by = 'me' WHERE id = %s", now, key_id(raw))


def suspend_by_hand(url: str, ident: str) -> None:
    """Write a suspension as another program would."""
    by_hand(url, "UPDATE api_key SET suspended_at = %s WHERE id = %s", stored(url, datetime.now(UTC)), ident)


def end_sessions(url: str) -> None:
    """End every session in this database, as a change of its settings needs."""
    with psycopg.connect(url, autocommit=True) as session:
        session.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
            " AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
        )


def listeners(url: str) -> set[int]:
    """The server's processes of sessions that listen in this database."""
    query = """SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
        AND (query LIKE '%LISTEN%' OR query LIKE '%pg_trigger%')"""
    with psycopg.connect(url) as session:
        return {row[0] for row in session.execute(query)}
