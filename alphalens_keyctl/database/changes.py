"""That somebody may have written events: PostgreSQL says so, in a SQLite file a counter changes, and where neither can
be asked, time passes. No transaction is open meanwhile.

with changes.of(address, engine) as told:
    wait until `told.descriptor` is readable, or for `told.interval`
    if told.happened(): read
"""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final, Protocol

from sqlalchemy import Engine

from alphalens_keyctl.address import Address, PostgreSQLAddress, SQLiteAddress
from alphalens_keyctl.database import faults, postgresql, sqlite_files
from alphalens_keyctl.database.sqlite_files import Files
from alphalens_keyctl.errors import Code, KeyctlError

if TYPE_CHECKING:
    from alphalens_keyctl.database.postgresql import Driver

CHANNEL: Final = "alphalens_keyctl_log"
# Seconds: between two looks at a SQLite file; between two questions where PostgreSQL says nothing of itself, behind a
# pooler say; between two where it does, which bounds what a lost notification costs; before it is asked to do so again.
_LOOK: Final = 0.05
_ASK: Final = 0.15
_ASK_ANYWAY: Final = 1.0
_LISTEN_AGAIN: Final = 2.0
# Seconds that the listening session may take for an answer. A network that swallows packets looks like silence.
_ANSWER: Final = 2.0
_LOCK: Final = 1.0


class Changes(Protocol):
    """What tells that events may have been written since `happened` was asked last."""

    @property
    def descriptor(self) -> int | None:
        """What becomes readable then; None where nothing does."""

    @property
    def interval(self) -> float:
        """Seconds after which to ask in any case."""

    def happened(self) -> bool:
        """Whether events may have been written. Raises `KeyctlError` (database_missing) while a SQLite file is away."""


class Unannounced:
    """Changes that nobody announces."""

    descriptor = None

    def __init__(self, interval: float) -> None:
        self.interval = interval

    def happened(self) -> bool:
        return True


@contextmanager
def of(address: Address, engine: Engine) -> Iterator[Changes]:
    """The changes of a database while the block lasts. Raises `KeyctlError`."""
    told = _Notified(engine) if isinstance(address, PostgreSQLAddress) else _Counted(address, engine)
    try:
        yield told
    finally:
        told.close()


class _Counted:
    """The change counter of a SQLite file (PRAGMA data_version), and whether the file is still the one at the path.

    The connection that asks cannot write: it keeps those that read from being the last on the file, and so from tidying
    up beside a file that was put in its place (`sqlite_files.keep`).
    """

    descriptor = None
    interval = _LOOK

    def __init__(self, address: SQLiteAddress, engine: Engine) -> None:
        self._address = address
        self._engine = engine
        self._keeper: sqlite3.Connection | None = None
        self._files: Files | None = None
        self._seen = 0
        self._open()

    def happened(self) -> bool:
        before = self._files
        if self._keeper is None or not self._are_there():
            self._let_go()
            self._open()
            return True
        try:
            version = self._version(self._keeper)
        except sqlite3.Error as error:
            raise faults.explain(error, self._address) from error
        changed, self._seen = version != self._seen, version
        if before != self._files:
            # Perhaps overwritten in place: those that read keep pages in memory. Mostly it was a checkpoint.
            self._engine.dispose()
            return True
        return changed

    def close(self) -> None:
        if self._are_there():
            # The last connection, which reads, writes the log of the file back into it.
            if self._keeper is not None:
                self._keeper.close()
        else:
            self._let_go()

    def _open(self) -> None:
        path = self._address.path
        before = sqlite_files.found(path)
        if before is None:
            raise KeyctlError(Code.DATABASE_MISSING, f"there is no database at {self._address.display}")
        keeper = None
        try:
            keeper = sqlite_files.keep(path, lock_timeout=_LOCK)
            self._seen = self._version(keeper)
        except sqlite3.Error as error:
            if keeper is not None:
                keeper.close()
            raise faults.explain(error, self._address) from error
        after = sqlite_files.found(path)
        if after is None or not before.may_have_become(after):
            keeper.close()
            raise KeyctlError(Code.DATABASE_BUSY, f"{self._address.display} is being replaced", "Try again.")
        self._keeper, self._files = keeper, after

    def _are_there(self) -> bool:
        there = sqlite_files.found(self._address.path)
        if self._keeper is None or self._files is None or not self._files.may_have_become(there):
            return False
        self._files = there
        return True

    def _let_go(self) -> None:
        """Close all that is open on a file that is no longer at the path, the connection that cannot write last."""
        self._engine.dispose()
        if self._keeper is not None:
            self._keeper.close()
            self._keeper = None

    @staticmethod
    def _version(keeper: sqlite3.Connection) -> int:
        version: int = keeper.execute("PRAGMA data_version").fetchone()[0]
        return version


class _Notified:
    """The notifications of PostgreSQL, over a session of its own. Where there can be none, behind a pooler or on a
    standby, and while that session is lost, the database is asked more often instead."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._session: Driver | None = None
        self._again_at = 0.0
        self._listen()

    @property
    def descriptor(self) -> int | None:
        return None if self._session is None else self._session.fileno()

    @property
    def interval(self) -> float:
        return _ASK if self._session is None else _ASK_ANYWAY

    def happened(self) -> bool:
        import psycopg

        if self._session is None:
            if time.monotonic() >= self._again_at:
                self._listen()
            return True
        try:
            self._session.execute("SELECT 1")
            for _ in self._session.notifies(timeout=0):
                pass
        except psycopg.Error:
            self.close()
        return True

    def close(self) -> None:
        if self._session is not None:
            self._session.close()
            self._session = None

    def _listen(self) -> None:
        import psycopg
        from sqlalchemy.exc import SQLAlchemyError

        self._again_at = time.monotonic() + _LISTEN_AGAIN
        try:
            pooled = self._engine.raw_connection()
            session: Driver = pooled.driver_connection  # type: ignore[assignment]  # our own class
            pooled.detach()
        except (SQLAlchemyError, psycopg.Error):
            return  # away; whoever reads hears why
        try:
            session.rollback()
            session.autocommit = True
            session.answer_limit = _ANSWER  # type: ignore[attr-defined]  # as above
            if postgresql.begin_session(session, answer_limit=_ANSWER) is not None:
                session.execute(f"LISTEN {CHANNEL}")
                self._session = session
                return
        except psycopg.Error:
            pass  # a standby takes no LISTEN
        with suppress(psycopg.Error):
            session.close()
