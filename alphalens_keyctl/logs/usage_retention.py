"""How long the usage log is kept: old rows are removed, and the audit log says so.

PostgreSQL partitions the log by month. A partition whose rows are all old is dropped, which costs no more than counting
the rows and leaves no dead rows behind. The old rows of every other partition are deleted one by one.
"""

import re
from datetime import UTC, datetime
from typing import Final, NamedTuple

from sqlalchemy import Connection, TableClause, column, delete, func, select, table, text

from alphalens_keyctl.database import Writing
from alphalens_keyctl.logs import audit
from alphalens_keyctl.models import Action, usage_table
from alphalens_keyctl.moments import rfc3339
from alphalens_keyctl.provenance import Act

# The name that the SQL function alphalens_keyctl_make_partitions gives to the partition of a month.
_MONTH: Final = re.compile(r"usage_event_([0-9]{4})_([0-9]{2})")
_PARTITIONS: Final = text(
    "SELECT space.nspname, child.relname"
    " FROM pg_inherits JOIN pg_class AS child ON child.oid = inhrelid"
    " JOIN pg_namespace AS space ON space.oid = child.relnamespace"
    " WHERE inhparent = to_regclass('usage_event') ORDER BY child.relname"
)


class _Partition(NamedTuple):
    """A partition of the table. `end` is the end of its month; None for the partition that takes the rows for which
    no month was made."""

    rows: TableClause
    end: datetime | None


def older(connection: Connection, before: datetime) -> int:
    """The number of rows of the usage log that are older than `before` (aware)."""
    return connection.scalar(select(func.count()).select_from(usage_table).where(usage_table.c.at < before)) or 0


def prune(tx: Writing, before: datetime, act: Act) -> int:
    """Remove the rows of the usage log that are older than `before` (aware); returns how many there were.

    Where there were any, the audit event is part of the same transaction (promise 6). `last_used_at` and `use_count`
    of the keys stay as they are.
    """
    removed = _prune_partitions(tx, before) if tx.dialect.name == "postgresql" else _delete(tx, usage_table, before)
    if removed:
        audit.append(tx, act, Action.PRUNE_USAGE, key_id=None, key_name=None, before=rfc3339(before), pruned=removed)
    return removed


def _prune_partitions(tx: Writing, before: datetime) -> int:
    removed = 0
    whole: list[TableClause] = []
    for rows, end in _partitions(tx):
        if end is not None and end <= before:
            # A row that came in between counting and dropping would vanish unrecorded.
            tx.exec_driver_sql(f"LOCK TABLE {_quoted(tx, rows)} IN SHARE MODE")
            total, younger = tx.execute(
                select(func.count(), func.count().filter(rows.c.at >= before)).select_from(rows)
            ).one()
            if not younger:  # the name of a partition is no proof of which rows the partition holds
                whole.append(rows)
                removed += total
                continue
        removed += _delete(tx, rows, before)
    # At the end, because dropping locks the whole log: until the commit no verifier can record a use.
    for rows in whole:
        tx.exec_driver_sql(f"DROP TABLE {_quoted(tx, rows)}")
    return removed


def _delete(tx: Writing, rows: TableClause, before: datetime) -> int:
    return tx.execute(delete(rows).where(rows.c.at < before)).rowcount


def _partitions(connection: Connection) -> list[_Partition]:
    return [
        _Partition(table(name, column("at", usage_table.c.at.type), schema=schema), _month_end(name))
        for schema, name in connection.execute(_PARTITIONS)
    ]


def _quoted(connection: Connection, rows: TableClause) -> str:
    return connection.dialect.identifier_preparer.format_table(rows)


def _month_end(name: str) -> datetime | None:
    month = _MONTH.fullmatch(name)
    if month is None or not 1 <= int(month[2]) <= 12 or not 1 <= int(month[1]) < 9999:
        return None
    years, months = divmod(int(month[1]) * 12 + int(month[2]), 12)
    return datetime(years, months + 1, 1, tzinfo=UTC)
