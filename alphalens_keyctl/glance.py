"""A glance at a database, by its driver alone: read-only, without a trace, and over within a second.

TAB asks for names. SQLAlchemy takes longer to load than a person waits for TAB.
"""

import os
import re
import sqlite3
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import quote

from alphalens_keyctl.address import Address, PostgreSQLAddress
from alphalens_keyctl.errors import Code, KeyctlError

_LIMIT: Final = 1.0  # seconds for all questions of a glance
_CONNECT_LIMIT: Final = 2  # seconds; libpq takes 1 for 2
_LONGEST_VALUE: Final = 1 << 20  # bytes; a foreign database may hold a text of a gigabyte
_PARAMETER: Final = re.compile(r"(?<!:):([a-z]+)")


class Glance(NamedTuple):
    """An open glance. `rows` answers a SELECT, whose parameters stand in it as `:name`; times are aware datetimes.
    `dialect` is `sqlite` or `postgresql`."""

    dialect: str
    rows: Callable[[str, Mapping[str, object]], list[tuple[Any, ...]]]


@contextmanager
def at(address: Address) -> Iterator[Glance]:
    """Look into the database while the block lasts, without checking its schema.

    Raises `KeyctlError` (database_unreachable), also inside the block, where there is no answer in time. Never makes a
    file: not the database, and not a `-wal` or `-shm` beside it.
    """
    with _at_server(address) if isinstance(address, PostgreSQLAddress) else _at_file(address.path) as glance:
        yield glance


@contextmanager
def _at_file(path: Path) -> Iterator[Glance]:
    deadline = time.monotonic() + _LIMIT
    try:
        with closing(_open(path)) as connection:
            connection.set_progress_handler(lambda: time.monotonic() > deadline, 10_000)
            connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _LONGEST_VALUE)
            connection.text_factory = _any_text
            connection.execute("PRAGMA trusted_schema = OFF")  # a view of a foreign file calls no odd function
            yield Glance("sqlite", lambda sql, given: connection.execute(sql, _as_stored(given)).fetchall())
    except (sqlite3.Error, OSError, ValueError) as error:
        raise KeyctlError(Code.DATABASE_UNREACHABLE, f"{path} cannot be read") from error


def _open(path: Path) -> sqlite3.Connection:
    if not stat.S_ISREG(os.stat(path).st_mode):  # to open a FIFO would wait for its writer
        raise FileNotFoundError
    wal, shm, journal = (os.path.exists(f"{path}{ending}") for ending in ("-wal", "-shm", "-journal"))
    if wal and not shm:
        raise FileNotFoundError  # SQLite would make the -shm
    # With nothing beside it the file is whole, and can be read as a file that never changes. Read in any other way, a
    # file in WAL mode would get a -wal and a -shm that stay.
    how = "mode=ro" if wal or journal else "mode=ro&immutable=1"
    return sqlite3.connect(f"file:{quote(str(path))}?{how}", uri=True, timeout=_LIMIT / 2, isolation_level=None)


def _any_text(stored: bytes) -> str:
    return stored.decode("utf-8", "surrogateescape")


def _as_stored(given: Mapping[str, object]) -> dict[str, object]:
    return {
        name: f"{value:%Y-%m-%d %H:%M:%S.%f}" if isinstance(value, datetime) else value for name, value in given.items()
    }


@contextmanager
def _at_server(address: PostgreSQLAddress) -> Iterator[Glance]:
    try:
        import psycopg
    except ImportError as error:
        raise KeyctlError(Code.DATABASE_UNREACHABLE, "psycopg is not installed") from error
    try:
        with psycopg.connect(address.conninfo, connect_timeout=_CONNECT_LIMIT, prepare_threshold=None) as connection:
            connection.read_only = True
            connection.execute(f"SET LOCAL statement_timeout = {_LIMIT * 1000:.0f}")

            def rows(sql: str, given: Mapping[str, object]) -> list[tuple[Any, ...]]:
                return connection.execute(_PARAMETER.sub(r"%(\1)s", sql), given).fetchall()

            yield Glance("postgresql", rows)
    except (psycopg.Error, ValueError) as error:
        # The error of the driver may repeat the URL, and TAB shows none.
        raise KeyctlError(Code.DATABASE_UNREACHABLE, f"{address.display} does not answer") from error
