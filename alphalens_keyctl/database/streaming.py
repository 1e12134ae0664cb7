"""Many rows, a page at a time, whatever one of them holds."""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final

from sqlalchemy import Connection, Select
from sqlalchemy.exc import OperationalError

from alphalens_keyctl.database import sqlite

# So few that the processor has them at hand until they are written; over a network each page is a round trip.
_ROWS_AT_ONCE: Final = {"sqlite": 200, "postgresql": 2000}
_NOT_TEXT: Final = "Could not decode to UTF-8"


def pages(connection: Connection, query: Select[Any], *, plain: bool = False) -> Iterator[Sequence[Any]]:
    """The rows of an ordered query, in constant memory. Text that is not UTF-8, which only SQLite can hold, is bytes.
    With `plain` the rows are tuples of what the driver makes of the columns, whatever their types would.

    Looking out for such text takes as long as all else, so a look is taken from the first page on that has any. The
    transaction sees the same rows again.
    """
    read = 0
    try:
        with _text_read_by(connection, strict=True):
            for page in _pages(connection, query, plain=plain):
                yield page
                read += len(page)
            return
    except OperationalError as error:
        if not (isinstance(error.orig, sqlite3.OperationalError) and str(error.orig).startswith(_NOT_TEXT)):
            raise
    with _text_read_by(connection, strict=False):
        for page in _pages(connection, query, plain=plain):
            if read < len(page):
                yield page[read:]
            read = max(0, read - len(page))


def _pages(connection: Connection, query: Select[Any], *, plain: bool) -> Iterator[Sequence[Any]]:
    at_once = _ROWS_AT_ONCE[connection.dialect.name]
    with connection.execution_options(yield_per=at_once).execute(query) as result:
        if not plain:
            yield from result.partitions()
            return
        # SQLAlchemy takes half as long again to make rows of its own.
        while page := result.cursor_strategy.fetchmany(result, result.cursor, at_once):
            yield page


def _text_read_by(connection: Connection, *, strict: bool) -> AbstractContextManager[None]:
    if connection.dialect.name != "sqlite":
        return nullcontext()
    return sqlite.text_read_by(connection, str if strict else sqlite.text_or_bytes)
