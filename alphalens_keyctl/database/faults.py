"""What a driver raised, on either database → what the user is told."""

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from alphalens_keyctl.address import Address, SQLiteAddress
from alphalens_keyctl.database.lock_holders import Holder
from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.moments import rfc3339

_SQLITE_UNUSABLE: Final = {
    sqlite3.SQLITE_CORRUPT: ("the database file is damaged", "Restore it from a backup."),
    sqlite3.SQLITE_NOTADB: (
        "the file is not a SQLite database",
        "Name another file; this one is left as it is.",
    ),
    sqlite3.SQLITE_READONLY: ("the database cannot be written", "Check who owns the file and its folder."),
    sqlite3.SQLITE_CANTOPEN: (
        "the database file cannot be opened",
        "Check who owns the file and its folder.",
    ),
    sqlite3.SQLITE_PERM: ("the database file cannot be opened", "Check who owns the file and its folder."),
    sqlite3.SQLITE_FULL: ("the disk is full", "Make room and run the command again."),
    sqlite3.SQLITE_IOERR: ("the database file cannot be read or written", "Check the disk and its limits."),
}
_REFUSED: Final = frozenset({sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM})
_MOST_HOLDERS: Final = 5
_BUSY_HINT: Final = "Another process is writing. Run the command again, or raise lock_timeout."


@contextmanager
def translated(address: Address) -> Iterator[None]:
    """Turn what a driver raises inside the block into `KeyctlError`. Any other error is a fault of this program, of
    which no backup would be rid."""
    try:
        yield
    except SQLAlchemyError as error:
        raise explain(error, address) from error


def explain(error: Exception, address: Address) -> KeyctlError:
    """The `KeyctlError` for an error of a driver, which SQLAlchemy may have wrapped. The message holds no password.
    Raises any other error again."""
    original = error.orig if isinstance(error, DBAPIError) else error
    if isinstance(original, sqlite3.Error):
        return _explain_sqlite(original, address)
    # Recognised by its attribute: to import psycopg for its class would load psycopg into every command on SQLite.
    if isinstance(original, Exception) and hasattr(original, "sqlstate"):
        return _explain_postgresql(original, original.sqlstate, address)
    raise error


def _explain_sqlite(error: sqlite3.Error, address: Address) -> KeyctlError:
    # The low byte is the primary result code (SQLite, "Result and Error Codes").
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return KeyctlError(Code.DATABASE_BUSY, "the database is locked by another process", _BUSY_HINT)
    if code == sqlite3.SQLITE_CONSTRAINT:
        return _constraint(str(error))
    problem, hint = _SQLITE_UNUSABLE.get(code, (f"the database failed: {error}", "Run with --debug for more."))
    if code in _REFUSED and isinstance(address, SQLiteAddress):
        hint = _what_is_missing(address.path) or hint
    return KeyctlError(Code.DATABASE_UNUSABLE, f"{problem}: {address.display}", hint)


def _what_is_missing(path: Path) -> str | None:
    """What the user lacks at a file that SQLite could not open or write. SQLite itself does not say."""
    beside = f"SQLite keeps {path.name}-wal and {path.name}-shm beside the file, and writes them even to read it"
    try:
        if os.statvfs(path.parent).f_flag & os.ST_RDONLY:
            return f"{path.parent} is mounted read-only. {beside}: mount the folder so that it can be written."
    except OSError:
        return None
    if not os.access(path, os.R_OK | os.W_OK):
        return f"User {os.geteuid()} may not read and write the file: change its owner or its mode."
    if not os.access(path.parent, os.W_OK | os.X_OK):
        return f"User {os.geteuid()} may not write in {path.parent}. {beside}."
    return None


def _explain_postgresql(error: Exception, state: str | None, address: Address) -> KeyctlError:
    said = " ".join(address.scrub(str(error)).split())
    # SQLSTATE and its classes: PostgreSQL, "Error Codes".
    if state in ("55P03", "57014"):
        return KeyctlError(Code.DATABASE_BUSY, "the database did not answer in time", _BUSY_HINT)
    if state in ("40001", "40P01"):
        return KeyctlError(Code.DATABASE_BUSY, "the database gave way to another transaction", _BUSY_HINT)
    if (state or "").startswith("23"):
        return _constraint(said)
    if state is None and any(kind.__name__ == "DataError" for kind in type(error).__mro__):
        return unreadable(address)  # psycopg raises it for a time that Python cannot hold
    if state in ("42501", "25006"):
        return KeyctlError(
            Code.DATABASE_UNUSABLE,
            f"the database does not allow this: {said}",
            "Check the database user's rights, and that the server is not a read-only replica.",
        )
    if "statement pooling" in said:
        return KeyctlError(
            Code.DATABASE_UNUSABLE,
            f"the pooler at {address.display} allows no transactions: {said}",
            "Set pool_mode of pgbouncer to transaction or session for this database; it is statement.",
        )
    if state in ("42703", "42P07", "42809", "42804"):
        return KeyctlError(
            Code.DATABASE_UNUSABLE,
            f"a table here has the name of one of ours, and is another program's: {said}",
            "Tables of ours are api_key, audit_event and usage_event. Use a database of its own, or a schema that comes"
            " first in search_path: …?options=-csearch_path%3DSCHEMA.",
        )
    if state is None and not any(kind.__name__ == "OperationalError" for kind in type(error).__mro__):
        return KeyctlError(Code.DATABASE_UNUSABLE, f"the driver failed: {said}", "Run with --debug for more.")
    if state is None or state[:2] in ("08", "28", "3D", "53", "57"):
        return KeyctlError(
            Code.DATABASE_UNREACHABLE,
            f"the database at {address.display} cannot be reached: {said}",
            "Check the URL, the server and the network.",
        )
    return KeyctlError(Code.DATABASE_UNUSABLE, f"the database failed: {said}", "Run with --debug for more.")


def is_lock_timeout(error: KeyctlError) -> bool:
    """Whether an error that was explained here is a PostgreSQL lock that was not granted within `lock_timeout`."""
    cause = error.__cause__
    original = cause.orig if isinstance(cause, DBAPIError) else cause
    return getattr(original, "sqlstate", None) == "55P03"


def held_by(holders: Sequence[Holder]) -> KeyctlError:
    """What to say of a lock that was not granted in time: who holds what stood in the way, and how to end it."""
    if not holders:
        return KeyctlError(Code.DATABASE_BUSY, "another session held a lock all the time", _BUSY_HINT)
    named = "; ".join(
        f"process {holder.pid} of role '{holder.role}' since {rfc3339(holder.since) if holder.since else 'unknown'}"
        for holder in holders[:_MOST_HOLDERS]
    )
    return KeyctlError(
        Code.DATABASE_BUSY,
        f"another session held a lock all the time: {named}; nothing was changed",
        f"Run the command again; if the session hangs, end it as that role or a superuser: SELECT"
        f" pg_terminate_backend({holders[0].pid}).",
    )


def _constraint(said: str) -> KeyctlError:
    return KeyctlError(
        Code.CONFLICT,
        f"the database refused the change: {said}",
        "Something else changed the same key. Look at it again, then repeat the command.",
    )


def unreadable(address: Address) -> KeyctlError:
    """What to say of a row that holds what this program never writes."""
    return KeyctlError(
        Code.DATABASE_UNUSABLE,
        f"the database holds a value that cannot be read: {address.display}",
        "Restore it from a backup, or run with --debug for more.",
    )
