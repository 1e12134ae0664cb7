"""Keys in PostgreSQL: a record that was read holds until the listening connection is told of a change.

So it is for a record read from the very server that announces changes. Any other (from a standby, through a pooler,
while nobody can listen) holds for `max_staleness` seconds after it was read, and no longer. A standby is asked only
once it has replayed what its primary had written `max_staleness` ago, and never again once it was ahead of that
primary: then it follows another.
"""

import queue
import threading
import time
from collections import deque
from contextlib import nullcontext, suppress
from itertools import count
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import sqlalchemy.dialects.postgresql.psycopg  # noqa: F401  # when the verifier is made, not in the first request

from alphalens_keyctl.address import PostgreSQLAddress
from alphalens_keyctl.database import Database, Limits, postgresql
from alphalens_keyctl.database.faults import explain, unreadable
from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.verification import listener
from alphalens_keyctl.verification.judgement import Record
from alphalens_keyctl.verification.listener import Listener
from alphalens_keyctl.verification.source import COLUMNS, Sighting, record_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from alphalens_keyctl.database.postgresql import Driver, Server

_SELECT: Final = f"SELECT {COLUMNS['postgresql']} FROM api_key WHERE id = "  # noqa: S608  # our own constants
_PREPARED: Final = f"{_SELECT}$1".encode()
_POOLED: Final = f"{_SELECT}%s".encode()
_REPLAYED: Final = "SELECT CAST(pg_last_wal_replay_lsn() - '0/0' AS bigint)"
_LOOK: Final = 0.02  # seconds between two looks at how far a standby is
# Once the keys are known, few are read; more connections would only be a burden to the server.
_MOST_CONNECTIONS: Final = 4
# What a forked child inherits. A child that closed a connection would end the parent's session, so the child keeps it.
_inherited: Final[list[object]] = []


class _Session(NamedTuple):
    """A connection. `row` reads the columns of the key with an id. `server` is None behind a pooler, where any server
    may answer the next statement."""

    connection: "Driver"
    row: "Callable[[str], tuple[Any, ...] | None]"
    server: "Server | None"


class PostgreSQLSource:
    """The `Source` of a PostgreSQL database: a few connections to read with, and a listener. Times are in seconds.

    `written` is where the same database is written, if elsewhere: changes are announced there where `address` leads to
    standbys alone.
    """

    def __init__(
        self,
        address: PostgreSQLAddress,
        written: PostgreSQLAddress | None = None,
        *,
        connect_timeout: float,
        timeout: float,
        max_staleness: float,
    ) -> None:
        self._address = address
        self._limits = Limits(connect_timeout, timeout, timeout)
        self._max_staleness = max_staleness
        self._dial = postgresql.dialer(address, connect_timeout=connect_timeout, answer_limit=timeout)
        self._primaries = [
            listener.Primary(
                postgresql.dialer(each, connect_timeout=connect_timeout, answer_limit=timeout, primary=True),
                of_lookups=each is address,
            )
            for each in (address, written)
            if each is not None
        ]
        # After the dialer, which says it where psycopg is not installed.
        from alphalens_keyctl.verification.prepared_lookup import PreparedLookup

        self._lookup = PreparedLookup
        self._count = count(1)
        self._generation = next(self._count)
        self._begin()

    def _begin(self) -> None:
        self._idle: list[_Session] = []
        # Holds as many Nones as connections are not in use. A semaphore would do; its acquire costs ten times as much.
        self._free: queue.SimpleQueue[None] = queue.SimpleQueue()
        for _ in range(_MOST_CONNECTIONS):
            self._free.put(None)
        self._starting = threading.Lock()
        self._listener: Listener | None = None
        self._told_until = 0.0
        self._told_by: Server | None = None
        self._only_here = False
        # When the primary was asked, and its position then: the latest that is `max_staleness` old, and those since.
        self._positions: deque[tuple[float, int]] = deque()
        self._floor: tuple[float, int] | None = None
        # When standbys were asked, and their positions then, by their start; and those that follow another primary.
        self._seen: dict[int, tuple[float, int]] = {}
        self._strays: set[int] = set()
        self._closed = False
        self.heard_at: float | None = None

    @property
    def listens(self) -> bool:
        return self._listener is not None and self._listener.listens

    def refresh(self) -> bool:
        return True  # the listener learns of each change by itself

    def vouches(self, generation: int, read_at: float) -> bool:
        now = time.monotonic()
        if generation == self._generation:
            return now < self._told_until or now < read_at + self._max_staleness
        return generation == _elsewhere(self._generation) and now < read_at + self._max_staleness

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

    def prepare(self) -> None:
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

    def listening(self, server: "Server", *, of_lookups: bool) -> None:
        """From now on this server announces. `of_lookups`: no other primary may be asked."""
        self._told_by, self._only_here = server, of_lookups
        # All of another server, or another history of the same.
        self._positions.clear()
        self._floor = None
        self._seen.clear()
        self._strays.clear()

    def changed(self) -> None:
        """A key may have changed: no record that was read before holds any longer."""
        # No number is given twice, so of two threads at once neither can bring an old generation back.
        self._generation = next(self._count)

    def told_until(self, moment: float, position: int) -> None:
        """Every change up to now was announced: records hold until `moment` (monotonic seconds)."""
        asked_at = moment - self._max_staleness
        self._positions.append((asked_at, position))
        while len(self._positions) > 1 and self._positions[1][0] <= asked_at - self._max_staleness:
            self._positions.popleft()
        self._floor = self._positions[0]
        self._find_strays(asked_at, position)
        self._told_until = moment
        self.heard_at = asked_at

    def _find_strays(self, asked_at: float, position: int) -> None:
        """Leave out the standbys that were ahead of the primary before it was at `position`.

        After a failover a standby may have replayed more of the old primary's log than the new primary has, or go on
        following the old one. Its position is then one in another timeline, and says nothing of what the new primary
        has written: a revoked key would stay accepted. The timeline itself is hidden from a role without further
        rights (`pg_stat_wal_receiver`), and the control file of a standby names the last one minutes late. But a
        primary sends only what it has written, so none of its own standbys is ever ahead of it. A stray that never is
        ahead either is soon behind, as the primary goes on, and is not asked for that.
        """
        for started, (seen_at, replayed) in list(self._seen.items()):
            if seen_at <= asked_at:
                del self._seen[started]
                if replayed > position:
                    self._strays.add(started)
                    self.changed()

    def _start(self) -> None:
        with self._starting:
            if self._listener is None:
                Database.open(self._address, self._limits).close()  # raises for a schema that this program cannot read
                self._listener = Listener(
                    self._primaries, self, timeout=self._limits.query_timeout, max_staleness=self._max_staleness
                )
                self._listener.start()

    def _read(self, key_id: str) -> Sighting:
        import psycopg

        deadline = time.monotonic() + self._limits.query_timeout
        while True:
            session, fresh = self._take()
            connection, row_of, server = session
            generation, read_at = self._generation, time.monotonic()
            try:
                doubt = self._doubt(session, deadline)
                row = None if doubt else row_of(key_id)
            except psycopg.OperationalError as error:
                with suppress(psycopg.Error):
                    connection.close()
                if fresh or time.monotonic() >= deadline:
                    raise explain(error, self._address) from error
                # The connection had died while nobody used it, so the others have, too.
                self._forget_idle()
                continue
            except psycopg.Error as error:
                connection.close()
                raise explain(error, self._address) from error
            if doubt:
                connection.close()
                if fresh:
                    raise KeyctlError(Code.DATABASE_BUSY, doubt)
                continue  # a standby may have become a primary, and another server may be found
            if self._closed:
                connection.close()
            else:
                self._idle.append(session)
            if server is None or server != self._told_by:
                generation = _elsewhere(generation)
            self.heard_at = read_at
            return Sighting(self._record(row), generation, read_at)

    def _record(self, row: "tuple[Any, ...] | None") -> Record | None:
        try:
            return record_of(row) if row else None
        except (TypeError, ValueError) as error:
            raise unreadable(self._address) from error

    def _doubt(self, session: _Session, until: float) -> str:
        """Why a server must not be asked; empty where it may. Waits for a standby that is behind."""
        server = session.server
        if server is None:
            return ""
        if server.standby:
            behind = not self._has_caught_up(session.connection, server, until)
            if server.started in self._strays:
                return "the standby follows another server than the one that announces changes"
            return "the standby is behind its primary" if behind else ""
        if server != self._told_by and self._only_here and time.monotonic() < self._told_until:
            return "two servers take changes at once, or one has just taken over from the other"
        return ""

    def _has_caught_up(self, connection: "Driver", server: "Server", until: float) -> bool:
        """Whether a standby has replayed what its primary had written `max_staleness` ago. Waits while that was not so
        long ago. Where no primary can be asked, nobody can tell, and the standby's word is taken."""
        while time.monotonic() < until:
            if self._listener is None or self._listener.tried:
                floor = self._floor
                if floor is None:
                    return True
                asked_at, position = floor
                (replayed,) = connection.execute(_REPLAYED).fetchone() or (None,)
                if replayed is not None and replayed >= position:
                    # The first one since the primary was asked: the later ones would never be old enough to compare.
                    self._seen.setdefault(server.started, (time.monotonic(), replayed))
                    return True
                if time.monotonic() >= asked_at + self._max_staleness:
                    return False
            time.sleep(_LOOK)
        return False

    def _take(self) -> tuple[_Session, bool]:
        if self._closed:
            raise KeyctlError(Code.DATABASE_UNREACHABLE, "the verifier is closed")
        try:
            return self._idle.pop(), False
        except IndexError:
            return self._connected(), True

    def _connected(self) -> _Session:
        import psycopg

        limit = self._limits.query_timeout
        try:
            connection = self._dial()
            connection.autocommit = True
            server = postgresql.begin_session(connection, answer_limit=limit)
            if server is not None:
                return _Session(connection, self._lookup(connection, _PREPARED, answer_limit=limit).row, server)
            hurried = postgresql.cuts_short(connection, answer_limit=limit)
        except psycopg.Error as error:
            raise explain(error, self._address) from error
        return _Session(connection, self._pooled(connection, hurried=hurried), server)

    def _pooled(self, connection: "Driver", *, hurried: bool) -> "Callable[[str], tuple[Any, ...] | None]":
        """How to read a row behind a pooler: the next statement may run on another connection, which knows no prepared
        one. `hurried` says that statements are cut short there."""
        cursor = connection.cursor(binary=True)

        def row(key_id: str) -> tuple[Any, ...] | None:
            with (
                postgresql.unhurried(connection, answer_limit=self._limits.query_timeout) if hurried else nullcontext()
            ):
                return cursor.execute(_POOLED, (key_id,)).fetchone()

        return row

    def _forget_idle(self) -> None:
        while self._idle:
            with suppress(IndexError):
                self._idle.pop().connection.close()


def _elsewhere(generation: int) -> int:
    """The mark of a record that was read elsewhere than where changes are announced: silence does not vouch for it."""
    return -generation
