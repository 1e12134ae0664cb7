"""Keys in a SQLite file: on every call the file itself is asked whether anything changed."""

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
# How often the path is looked at: another file may have been put in its place.
_LOOK_AGAIN: Final = 1.0

_Identity = tuple[int, int]


class _Reader:
    """A connection that cannot write, and the state of the file that it saw last."""

    __slots__ = ("ask", "connection", "identity", "seen")

    def __init__(self, connection: sqlite3.Connection, identity: _Identity) -> None:
        self.connection = connection
        self.identity = identity
        self.ask = connection.cursor().execute
        connection.execute("PRAGMA query_only = ON")
        self.seen = -1


class SQLiteSource:
    """A pool of readers. Each reader's sight of a change starts a new generation of everything remembered.

    What a reader says of the file concerns itself alone, so a reader that has slept starts a generation too:
    that costs a look, and believing it would cost a revocation.
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
        self._gate = threading.Lock()  # held while a process forks: nobody opens a file then
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
        # Another thread may have found another file in the place of the one that was just asked.
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
            # Another thread may have found another file in the place of the one that was just read.
            current = reader.identity == self._identity
        except sqlite3.Error as error:
            self._drop(reader)
            raise faults.explain(error, self._address) from error
        self._give_back(reader)
        if not current:
            return self.fetch(key_id)
        with faults.translated(self._address):
            return Sighting(record_of(row) if row else None, generation, read_at)

    def before_fork(self) -> None:
        # An open connection in a child shares what SQLite believes of the parent's locks: the file would be
        # taken for locked where it is not, and a log that is still read from would be removed.
        self._gate.acquire()
        deadline = time.monotonic() + self._timeout
        while self._open_ones and time.monotonic() < deadline:
            try:
                self._drop(self._idle.pop())
            except IndexError:
                time.sleep(0.001)  # in use: its thread gives it back

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
        """Start a generation if another connection has committed since this one was asked last (SQLite, PRAGMA
        data_version)."""
        version = reader.ask("PRAGMA data_version").fetchone()[0]
        if version != reader.seen:
            reader.seen = version
            # A number is never given twice, so no thread can turn the generation back to one that was left.
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
                # Brings an older schema up to date, refuses a newer one, and makes no file where there is none.
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
        """Whether the path still leads to the file that is open."""
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
