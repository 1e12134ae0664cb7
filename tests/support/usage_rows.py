"""Rows of the usage log, written and read without the program."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

import psycopg
from psycopg import sql
from sqlalchemy import insert, text

from alphalens_keyctl.database import Database
from alphalens_keyctl.models import usage_table

Row = dict[str, Any]
A_KEY: Final = "AAAAAAAAAAAA"


def usage_row(at: datetime, key_id: str | None = A_KEY, outcome: str = "ok", **values: Any) -> Row:
    """A row of the usage log: one use of a key, unless `values` say otherwise."""
    return {
        "at": at, "key_id": key_id, "outcome": outcome, "client_ip": "192.0.2.1", "method": "GET", "path": "/",
        "user_agent": "test", "count": 1,
    } | values  # fmt: skip


def record(database: Database, rows: Sequence[Row]) -> None:
    """Write rows of the usage log."""
    with database.writing() as tx:
        tx.execute(insert(usage_table), list(rows))


def usage_rows(database: Database) -> list[Any]:
    """The rows of the usage log, oldest first."""
    with database.reading() as connection:
        return list(connection.execute(text("SELECT * FROM usage_event ORDER BY id")))


def use_count(database: Database) -> int:
    """How often all keys together were used, as their rows say."""
    with database.reading() as connection:
        return int(connection.scalar(text("SELECT sum(use_count) FROM api_key")) or 0)


def make_partition(database: Database, name: str, start: str, end: str) -> None:
    """Add a partition to PostgreSQL's usage log, as an administrator may."""
    statement = sql.SQL("CREATE TABLE {} PARTITION OF usage_event FOR VALUES FROM ({}) TO ({})")
    with psycopg.connect(conninfo(database)) as connection:
        connection.execute(statement.format(sql.Identifier(name), start, end))


def conninfo(database: Database) -> str:
    """How psycopg connects to a database on PostgreSQL."""
    url: str = database.address.conninfo  # type: ignore[union-attr]  # PostgreSQL has one
    return url
