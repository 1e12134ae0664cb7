"""Keys in a SQLite file: each call asks the file whether anything has changed."""

import sqlite3
import threading
import time
from contextlib import suppress
from itertools import count
from typing import Final

import sqlalchemy.dialects.sqlite.pysqlite  # noqa: F401  # when the verifier is made, not in the first request

from alphalens_keyctl.address import SQLiteAddress
from alphalens_keyctl.database import Database, Limits, faults, sqlite_files
from alphalens_keyctl.database import sqlite as file
from alphalens_keyctl.database.sqlite_files import Files
from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.verification import process
from alphalens_keyctl.verification.source import COLUMNS, Sighting, record_of

_SELECT: Final = f"SELECT {COLUMNS['sqlite']} FROM api_key WHERE id = ?"  # noqa: S608  # our own constants
# Seconds between two looks at the paths: a backup may have been put back. Three calls of the system each time, so at
# each verification they would cost a good part of it.
_LOOK_AGAIN: Final = 0.01


class _Reader:
    """A connection that cannot write, and the version of the files' content that it saw last."""

    __slots__ = ("ask", "connection", "files", "seen")

    def __init__(self, connection: sqlite3.Connection, files: Files) -> None:
        self.connection = connection
        self.files = files
        self.ask = connection.cursor().execute
        connection.execute("PRAGMA query_only = ON")
        self.seen = -1


class SQLiteSource:
    """The `Source` of a SQLite file: a pool of readers. A reader that notices a change starts a new generation.

    A reader notices what was committed since that reader was asked last, so a reader that was idle for long starts a
    new generation for changes that others have noticed before. Each key is then read once more; to take an old
    change for noticed could miss a revocation.

    A file that was overwritten, or put in another's place, starts a new generation with new readers. Connections of
    one process to one file share their `-shm`, so where the files are others every connection is closed before one is
    opened.
    """

    def __init__(self, address: SQLiteAddress, *, timeout: float) -> None:
        self._address = address
        self._timeout = timeout
        self._count = count(1)
        self._generation = 0
        self.listens = None
        self._begin()

    def _begin(self) -> None:
        self._idle: list[_Reader] = []
        self._open_ones: set[_Reader] = set()
        self._gate = threading.Lock()  # held while the process forks: no thread opens the file meanwhile
        self._files: Files | None = None  # what the connections have open; None: nothing, or what is gone
        self._keeper: sqlite3.Connection | None = None
        self._look_at = 0.0
        self._closed = False
        self.heard_at: float | None = None

    def refresh(self) -> bool:
        try:
            reader = self._idle.pop()
        except IndexError:
            return False
        if time.monotonic() >= self._look_at:
            self._look()
        try:
            self._notice(reader)
        except sqlite3.Error:
            self._drop(reader)
            return False
        # Meanwhile another thread may have found other files at the path.
        current = reader.files is self._files
        self._give_back(reader)
        return current

    def vouches(self, generation: int, read_at: float) -> bool:
        return generation == self._generation

    def fetch(self, key_id: str) -> Sighting:
        reader = self._take()
        try:
            self._notice(reader)
            generation, read_at = self._generation, time.monotonic()
            row = reader.connection.execute(_SELECT, (key_id,)).fetchone()
            # Meanwhile another thread may have found other files at the path.
            current = reader.files is self._files
        except sqlite3.Error as error:
            self._drop(reader)
            raise faults.explain(error, self._address) from error
        self._give_back(reader)
        if not current:
            return self.fetch(key_id)
        self.heard_at = read_at
        try:
            return Sighting(record_of(row) if row else None, generation, read_at)
        except (TypeError, ValueError) as error:
            raise faults.unreadable(self._address) from error

    def replaced(self) -> bool:
        self._look()
        return self._files is None and self._keeper is not None

    def prepare(self) -> None:
        self._look()
        if self._files is None:
            self._reopen()

    def _reopen(self) -> None:
        with process.no_fork():
            if self._files is None and not self._closed:
                process.let_go(self._address)
                with self._gate:
                    self._open_files()

    def before_fork(self) -> None:
        # POSIX locks do not pass to a child, and SQLite in the child would count on its parent's: the child could
        # remove a write-ahead log that the parent still reads (SQLite, "How To Corrupt", 2.6).
        self._gate.acquire()
        keeper = self._leave_keeper()
        deadline = time.monotonic() + self._timeout
        while self._open_ones and time.monotonic() < deadline:
            try:
                self._drop(self._idle.pop())
            except IndexError:
                time.sleep(0.001)  # every reader is in use; a thread gives one back soon
        if keeper is not None:
            keeper.close()

    def after_fork(self, *, child: bool) -> None:
        if child:
            self._begin()
        else:
            self._gate.release()

    def close(self) -> None:
        self._closed = True
        keeper = self._leave_keeper()
        while self._idle:
            with suppress(IndexError):
                self._drop(self._idle.pop())
        if keeper is not None:
            keeper.close()

    def _notice(self, reader: _Reader) -> None:
        """Start a new generation if another connection has committed since `reader` was asked last (SQLite, PRAGMA
        data_version)."""
        version = reader.ask("PRAGMA data_version").fetchone()[0]
        if version != reader.seen:
            reader.seen = version
            # No number is given twice, so of two threads at once neither can bring an old generation back.
            self._generation = next(self._count)

    def _take(self) -> _Reader:
        if time.monotonic() >= self._look_at:
            self._look()
        while self._idle:
            with suppress(IndexError):
                reader = self._idle.pop()
                if reader.files is self._files:
                    return reader
                self._drop(reader)
        return self._open()

    def _give_back(self, reader: _Reader) -> None:
        if self._closed or reader.files is not self._files:
            self._drop(reader)
        else:
            self._idle.append(reader)

    def _drop(self, reader: _Reader) -> None:
        reader.connection.close()
        self._open_ones.discard(reader)

    def _open(self) -> _Reader:
        if self._files is None:
            self._reopen()
        with self._gate:
            if self._closed:
                raise KeyctlError(Code.DATABASE_UNREACHABLE, "the verifier is closed")
            files = self._files
            if files is None:
                raise self._being_replaced()
            try:
                connection = file.connect(self._address.path, lock_timeout=self._timeout)
                reader = _Reader(connection, files)
            except sqlite3.Error as error:
                raise faults.explain(error, self._address) from error
            self._open_ones.add(reader)
            return reader

    def _open_files(self) -> None:
        """Open the files at the path and start a new generation. The gate is held, and nothing is open but what is
        still in use after `let_go` has waited for it."""
        path = self._address.path
        before = sqlite_files.found(path)
        if before is not None and any(reader.files.main == before.main for reader in self._open_ones):
            raise self._being_replaced()
        # Brings an older schema up to date, raises for a newer one, and makes no file where there is none.
        database = Database.open(self._address, Limits(lock_timeout=self._timeout), create=False)
        try:
            keeper = sqlite_files.keep(path, lock_timeout=self._timeout)
        except sqlite3.Error as error:
            raise faults.explain(error, self._address) from error
        finally:
            database.close()
        after = sqlite_files.found(path)
        if before is None or after is None or not before.may_have_become(after):
            keeper.close()
            raise self._being_replaced()
        self._keeper, self._files = keeper, after
        self._look_at = time.monotonic() + _LOOK_AGAIN
        self._generation = next(self._count)

    def _leave_keeper(self) -> sqlite3.Connection | None:
        """Close the keeper, so that the last reader tidies up; or return the keeper, to be closed last, where there is
        something else at the path by now."""
        self._look()
        keeper, self._keeper = self._keeper, None
        unchanged, self._files = self._files is not None, None
        if keeper is not None and unchanged:
            keeper.close()
            return None
        return keeper

    def _look(self) -> None:
        """Look whether the paths still lead to what is open; if not, start a new generation."""
        self._look_at = time.monotonic() + _LOOK_AGAIN
        files = self._files
        if files is None:
            return
        there = sqlite_files.found(self._address.path)
        if there != files:
            # What was written into the same files is read by new readers: those there keep pages in memory.
            self._files = there if files.are_those_of(there) else None
            self._generation = next(self._count)

    def _being_replaced(self) -> KeyctlError:
        return KeyctlError(Code.DATABASE_BUSY, f"{self._address.display} is being replaced", "Try again.")
