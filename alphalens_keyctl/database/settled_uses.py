"""Up to where the usage log is whole: no use with a smaller id comes any more.

SQLite has one writer at a time, so ids come in the order of commits. PostgreSQL gives a use its id before the
transaction commits: one that began earlier may end later, and who goes on behind the largest id would never see its
uses.
"""

import time
from typing import Any, Final

from sqlalchemy import Connection

from alphalens_keyctl.errors import Code, KeyctlError

_STEP: Final = 0.005  # seconds between two looks; to record some uses takes about as long
_LAST: Final = "SELECT max(id) FROM usage_event"
# Every transaction that writes uses has this lock on the table before it gets an id, and to its end.
_WRITERS: Final = (
    "SELECT virtualtransaction FROM pg_locks WHERE granted AND locktype = 'relation' AND mode = 'RowExclusiveLock'"
    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    " AND relation = to_regclass('usage_event')"
)
_LIMIT: Final = "SELECT CAST(setting AS integer) / 1000.0 FROM pg_settings WHERE name = 'lock_timeout'"


def last(connection: Connection) -> int:
    """The largest id of the log once every use with a smaller one is in it or never will be; 0 where the log is empty.

    Waits, `lock_timeout` at most, for the transactions that are writing uses. Raises `KeyctlError`: database_busy where
    one of them goes on for longer, database_unusable on a standby, which does not know of them.
    """
    on_server = connection.dialect.name == "postgresql"
    if on_server and _only(connection, "SELECT pg_is_in_recovery()"):
        raise KeyctlError(
            Code.DATABASE_UNUSABLE,
            "a standby does not know which uses are still being written, so nobody can go on behind one here",
            "Name the primary, or leave --after out and take the uses by --since.",
        )
    found: int = _only(connection, _LAST) or 0
    if on_server:
        _wait_for_writers(connection)
    return found


def _wait_for_writers(connection: Connection) -> None:
    """Wait until those that are writing now have ended; those that begin meanwhile get larger ids."""
    writing = _writers(connection)
    if not writing:
        return
    give_up = time.monotonic() + float(_only(connection, _LIMIT))
    while writing := writing & _writers(connection):
        if time.monotonic() > give_up:
            raise KeyctlError(
                Code.DATABASE_BUSY,
                "another session has been writing uses all the time, so the next of them are not known yet",
                "Run the command again; pruning takes long.",
            )
        time.sleep(_STEP)


def _writers(connection: Connection) -> set[str]:
    return {row[0] for row in connection.exec_driver_sql(_WRITERS).all()}


def _only(connection: Connection, statement: str) -> Any:
    return connection.exec_driver_sql(statement).scalar_one()
