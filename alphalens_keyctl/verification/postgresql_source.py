"""Keys in PostgreSQL: what was read holds as long as a listening connection is told of every change.

Where none can listen (the connection is down, a pooler stands between, a standby answers), it holds for a stated
bound and no longer.
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
# Looks at the database are rare once the keys are known; more connections would only be a burden to the server.
_MOST_CONNECTIONS: Final = 4
# Inherited by a forked child. Closing them there would end the parent's sessions.
_inherited: Final[list[object]] = []


class PostgreSQLSource:
    """A few connections to read with, and a listener. Times are in seconds."""

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
        # A connection is kept as its one cursor, which remembers how each column is read.
        self._idle: list[Cursor[Any]] = []
        # One for each connection that nobody uses. A semaphore would do; its acquire costs ten times as much.
        self._free: queue.SimpleQueue[None] = queue.SimpleQueue()
        for _ in range(_MOST_CONNECTIONS):
            self._free.put(None)
        self._starting = threading.Lock()
        self._listener: Listener | None = None
        self._told_until = 0.0
        self._closed = False

    def refresh(self) -> bool:
        return True  # the listener is told

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
        """Something may have changed: nothing that was read before holds any more."""
        # A number is never given twice, so no thread can turn the generation back to one that was left.
        self._generation = next(self._count)

    def told_until(self, moment: float) -> None:
        """Every change so far was told, and until `moment` (monotonic seconds) that is believed to go on."""
        self._told_until = moment

    def _start(self) -> None:
        with self._starting:
            if self._listener is None:
                Database.open(self._address, self._limits).close()  # refuses a schema that this program cannot read
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
                # It had died while nobody used it, and the others have too.
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
            # Through a pooler the next statement may meet another connection, which knows no prepared one.
            connection.prepare_threshold = None if postgresql.is_pooled(connection) else 0
        except psycopg.Error as error:
            raise explain(error, self._address) from error
        # In binary form neither the session's time zone nor its date style plays a part.
        return connection.cursor(binary=True)

    def _forget_idle(self) -> None:
        while self._idle:
            with suppress(IndexError):
                self._idle.pop().connection.close()
