"""Keys in PostgreSQL: a record that was read holds until the listening connection is told of a change.

Where no connection can listen (the server is down, a pooler stands between, a standby answers), a record holds for
`max_staleness` seconds after it was read, and no longer.
"""

import queue
import threading
import time
from contextlib import suppress
from itertools import count
from typing import TYPE_CHECKING, Any, Final

from alphalens_keyctl.database import Database, Limits, postgresql
from alphalens_keyctl.database.address import PostgreSQLAddress
from alphalens_keyctl.database.faults import explain
from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.verification.listener import Listener
from alphalens_keyctl.verification.source import COLUMNS, Sighting, record_of

if TYPE_CHECKING:
    from psycopg import Cursor

_SELECT: Final = f"SELECT {COLUMNS['postgresql']} FROM api_key WHERE id = %s".encode()  # noqa: S608  # our own constants
# Once the keys are known, few are read; more connections would only be a burden to the server.
_MOST_CONNECTIONS: Final = 4
# What a forked child inherits. A child that closed a connection would end the parent's session, so the child keeps it.
_inherited: Final[list[object]] = []


class PostgreSQLSource:
    """The `Source` of a PostgreSQL database: a few connections to read with, and a listener. Times are in seconds."""

    def __init__(
        self, address: PostgreSQLAddress, *, connect_timeout: float, timeout: float, max_staleness: float
    ) -> None:
        self._address = address
        self._limits = Limits(connect_timeout, timeout, timeout)
        self._max_staleness = max_staleness
        self._dial = postgresql.dialer(address, connect_timeout=connect_timeout, answer_limit=timeout)
        self._count = count(1)
        self._generation = 0
        self._begin()

    def _begin(self) -> None:
        # Each connection is kept as its one cursor: the cursor remembers how to read each column.
        self._idle: list[Cursor[Any]] = []
        # Holds as many Nones as connections are not in use. A semaphore would do; its acquire costs ten times as much.
        self._free: queue.SimpleQueue[None] = queue.SimpleQueue()
        for _ in range(_MOST_CONNECTIONS):
            self._free.put(None)
        self._starting = threading.Lock()
        self._listener: Listener | None = None
        self._told_until = 0.0
        self._closed = False

    def refresh(self) -> bool:
        return True  # the listener learns of each change by itself

    def vouches(self, generation: int, read_at: float) -> bool:
        now = time.monotonic()
        return generation == self._generation and (now < self._told_until or now < read_at + self._max_staleness)

    def fetch(self, key_id: str) -> Sighting:
        if self._listener is None:
            self._start()
        free = self._free
        try:
            free.get(timeout=self._limits.query_timeout)
        except queue.Empty:
            raise KeyctlError(Code.DATABASE_BUSY, "the database did not answer in time") from None
        try:
            return self._read(key_id)
        finally:
            free.put(None)

    def replaced(self) -> bool:
        return False

    def reopen(self) -> None:
        pass

    def before_fork(self) -> None:
        pass

    def after_fork(self, *, child: bool) -> None:
        if child:
            _inherited.extend((self._idle, self._listener))
            self._begin()
            self.changed()

    def close(self) -> None:
        self._closed = True
        if self._listener is not None:
            self._listener.stop()
        while self._idle:
            with suppress(IndexError):
                self._idle.pop().connection.close()

    def changed(self) -> None:
        """A key may have changed: no record that was read before holds any longer."""
        # No number is given twice, so of two threads at once neither can bring an old generation back.
        self._generation = next(self._count)

    def told_until(self, moment: float) -> None:
        """Every change up to now was announced: records hold until `moment` (monotonic seconds)."""
        self._told_until = moment

    def _start(self) -> None:
        with self._starting:
            if self._listener is None:
                Database.open(self._address, self._limits).close()  # raises for a schema that this program cannot read
                self._listener = Listener(self._dial, self, max_staleness=self._max_staleness)
                self._listener.start()

    def _read(self, key_id: str) -> Sighting:
        import psycopg

        deadline = time.monotonic() + self._limits.query_timeout
        while True:
            cursor, fresh = self._take()
            generation, read_at = self._generation, time.monotonic()
            try:
                row = cursor.execute(_SELECT, (key_id,)).fetchone()
                record = record_of(row) if row else None
            except psycopg.OperationalError as error:
                with suppress(psycopg.Error):
                    cursor.connection.close()
                if fresh or time.monotonic() >= deadline:
                    raise explain(error, self._address) from error
                # The connection had died while nobody used it, so the others have, too.
                self._forget_idle()
                continue
            except (psycopg.Error, TypeError, ValueError) as error:
                cursor.connection.close()
                raise explain(error, self._address) from error
            if self._closed:
                cursor.connection.close()
            else:
                self._idle.append(cursor)
            return Sighting(record, generation, read_at)

    def _take(self) -> "tuple[Cursor[Any], bool]":
        if self._closed:
            raise KeyctlError(Code.DATABASE_UNREACHABLE, "the verifier is closed")
        try:
            return self._idle.pop(), False
        except IndexError:
            return self._connected(), True

    def _connected(self) -> "Cursor[Any]":
        import psycopg

        try:
            connection = self._dial()
            connection.autocommit = True
            # Behind a pooler the next statement may run on another connection, which knows no prepared statement.
            connection.prepare_threshold = None if postgresql.is_pooled(connection) else 0
        except psycopg.Error as error:
            raise explain(error, self._address) from error
        # Values in binary form depend on neither the session's time zone nor its date style.
        return connection.cursor(binary=True)

    def _forget_idle(self) -> None:
        while self._idle:
            with suppress(IndexError):
                self._idle.pop().connection.close()
