"""Keys in a SQLite file: each call asks the file whether anything has changed."""

import sqlite3
import threading
import time
from contextlib import suppress
from itertools import count
from typing import Final

from alphalens_keyctl.database import Database, Limits, faults
from alphalens_keyctl.database import sqlite as file
from alphalens_keyctl.database.address import SQLiteAddress
from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.verification.source import COLUMNS, Sighting, record_of

_SELECT: Final = f"SELECT {COLUMNS['sqlite']} FROM api_key WHERE id = ?"  # noqa: S608  # our own constants
# Seconds between two looks at the path: another file may have been put in its place.
_LOOK_AGAIN: Final = 1.0

_Identity = tuple[int, int]


class _Reader:
    """A connection that cannot write, and the version of the file's content that it saw last."""

    __slots__ = ("ask", "connection", "identity", "seen")

    def __init__(self, connection: sqlite3.Connection, identity: _Identity) -> None:
        self.connection = connection
        self.identity = identity
        self.ask = connection.cursor().execute
        connection.execute("PRAGMA query_only = ON")
        self.seen = -1


class SQLiteSource:
    """The `Source` of a SQLite file: a pool of readers. A reader that notices a change starts a new generation.

    A reader notices what was committed since that reader was asked last, so a reader that was idle for long starts a
    new generation for changes that others have noticed before. Each key is then read once more; to take an old
    change for noticed could miss a revocation.
    """

    def __init__(self, address: SQLiteAddress, *, timeout: float) -> None:
        self._address = address
        self._timeout = timeout
        self._count = count(1)
        self._generation = 0
        self._begin()

    def _begin(self) -> None:
        self._idle: list[_Reader] = []
        self._open_ones: set[_Reader] = set()
        self._gate = threading.Lock()  # held while the process forks: no thread opens the file meanwhile
        self._identity: _Identity | None = None
        self._look_at = 0.0
        self._closed = False

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
        # Meanwhile another thread may have found another file at the path.
        current = reader.identity == self._identity
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
            # Meanwhile another thread may have found another file at the path.
            current = reader.identity == self._identity
        except sqlite3.Error as error:
            self._drop(reader)
            raise faults.explain(error, self._address) from error
        self._give_back(reader)
        if not current:
            return self.fetch(key_id)
        try:
            return Sighting(record_of(row) if row else None, generation, read_at)
        except (TypeError, ValueError) as error:
            raise faults.unreadable(self._address) from error

    def before_fork(self) -> None:
        # POSIX locks do not pass to a child, and SQLite in the child would count on its parent's: the child could
        # remove a write-ahead log that the parent still reads (SQLite, "How To Corrupt", 2.6).
        self._gate.acquire()
        deadline = time.monotonic() + self._timeout
        while self._open_ones and time.monotonic() < deadline:
            try:
                self._drop(self._idle.pop())
            except IndexError:
                time.sleep(0.001)  # every reader is in use; a thread gives one back soon

    def after_fork(self, *, child: bool) -> None:
        if child:
            self._begin()
        else:
            self._gate.release()

    def close(self) -> None:
        self._closed = True
        while self._idle:
            with suppress(IndexError):
                self._drop(self._idle.pop())

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
                if reader.identity == self._identity:
                    return reader
                self._drop(reader)
        return self._open()

    def _give_back(self, reader: _Reader) -> None:
        if self._closed or reader.identity != self._identity:
            self._drop(reader)
        else:
            self._idle.append(reader)

    def _drop(self, reader: _Reader) -> None:
        reader.connection.close()
        self._open_ones.discard(reader)

    def _open(self) -> _Reader:
        with self._gate:
            if self._closed:
                raise KeyctlError(Code.DATABASE_UNREACHABLE, "the verifier is closed")
            if self._identity is None:
                # Brings an older schema up to date, raises for a newer one, and makes no file where there is none.
                Database.open(self._address, Limits(lock_timeout=self._timeout), create=False).close()
                self._identity = self._identify()
                self._generation = next(self._count)
            if self._identity is None:
                raise KeyctlError(Code.DATABASE_MISSING, f"there is no database at {self._address.display}")
            try:
                connection = file.connect(self._address.path, lock_timeout=self._timeout)
                reader = _Reader(connection, self._identity)
            except sqlite3.Error as error:
                raise faults.explain(error, self._address) from error
            self._open_ones.add(reader)
            return reader

    def _look(self) -> None:
        """Look whether the path still leads to the file that is open; if not, start a new generation."""
        self._look_at = time.monotonic() + _LOOK_AGAIN
        if self._identity is not None and self._identify() != self._identity:
            self._identity = None
            self._generation = next(self._count)

    def _identify(self) -> _Identity | None:
        try:
            found = self._address.path.stat()
        except OSError:
            return None
        return found.st_dev, found.st_ino
