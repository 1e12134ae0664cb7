"""The usage log row by row: which rows, and the rows for machines."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any, Final, NamedTuple

from sqlalchemy import ColumnElement, Connection, Select, Text, and_, cast, select

from alphalens_keyctl.database import settled_uses
from alphalens_keyctl.database.instants import microsecond_text
from alphalens_keyctl.models import Reason, Use, key_table, usage_table

_ROWS_AT_ONCE: Final = 2000
# SQLite stores any type in any column; what somebody wrote by hand is read as text.
AS_TEXT: Final = {name: cast(column, Text) for name, column in usage_table.c.items() if isinstance(column.type, Text)}
KEY_NAME: Final = cast(key_table.c.name, Text).label("name")


class UsageFilter(NamedTuple):
    """Which rows to read. None means: any. `since` is included, `until` is not; both are aware. `among` is a query for
    the ids of the keys whose use may be read; attempts that meant no key are then left out. Every row is behind
    `after_id`, from where reading goes on."""

    key_ids: tuple[str, ...] | None = None
    outcome: Reason | None = None
    since: datetime | None = None
    until: datetime | None = None
    among: Select[tuple[str]] | None = None
    after_id: int | None = None


def documents(connection: Connection, wanted: UsageFilter, *, limit: int | None = None) -> Iterator[Use]:
    """The rows that match, streamed in constant memory: oldest first, with `limit` the latest so many; or where reading
    goes on behind a row, by their ids, with `limit` the next so many.

    Raises `KeyctlError` as `settled_uses.last` does where reading goes on: what it has passed by would never be read. A
    row of refused attempts has the count of now, which attempts of the same minute may still raise.
    """
    rows = select(usage_table).where(where(wanted))
    order = [usage_table.c.at, usage_table.c.id]
    if wanted.after_id is not None:
        order = [usage_table.c.id]
        rows = rows.where(usage_table.c.id <= settled_uses.last(connection))
    if limit is not None:
        from_end = wanted.after_id is None
        rows = rows.order_by(*(each.desc() if from_end else each for each in order)).limit(limit)
    chosen = rows.subquery()
    columns: dict[str, ColumnElement[Any]] = {
        **{name: cast(chosen.c[name], Text) for name in AS_TEXT},
        "id": chosen.c.id,
        "at": microsecond_text(chosen.c.at),
        "key_name": KEY_NAME,
        "count": chosen.c["count"],
    }
    query = (
        select(*(columns[name] for name in Use._fields))
        .select_from(chosen.outerjoin(key_table, key_table.c.id == chosen.c.key_id))
        .order_by(*(chosen.c[each.name] for each in order))
    )
    for page in connection.execution_options(yield_per=_ROWS_AT_ONCE).execute(query).partitions():
        # Making a Use of each row, a tuple in the order of the fields already, would cost as much as reading it.
        yield from page  # type: ignore[misc]  # rows stand for Uses


def where(wanted: UsageFilter) -> ColumnElement[bool]:
    """The condition that the rows fulfil."""
    column = usage_table.c
    conditions = [
        column.key_id.in_(wanted.key_ids) if wanted.key_ids is not None else None,
        column.key_id.in_(wanted.among) if wanted.among is not None else None,
        column.outcome == wanted.outcome.value if wanted.outcome is not None else None,
        column.at >= wanted.since if wanted.since is not None else None,
        column.at < wanted.until if wanted.until is not None else None,
        column.id > wanted.after_id if wanted.after_id is not None else None,
    ]
    return and_(True, *(condition for condition in conditions if condition is not None))
