"""The connection over which PostgreSQL announces every change to a key."""

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from alphalens_keyctl.database import postgresql
from alphalens_keyctl.verification import real_threads

if TYPE_CHECKING:
    from alphalens_keyctl.database.postgresql import Driver, Server

CHANNEL: Final = "alphalens_keyctl"
# An administrator may have switched the trigger off: then silence means nothing. After the trigger was switched off
# and on again, or restored with its table, its row in the catalogue has another xmin (PostgreSQL, system columns),
# and any key may have changed meanwhile. What is committed stands before the position, in the write-ahead log.
_ANNOUNCED: Final = """SELECT tgrelid, oid, xmin::text, CAST(pg_current_wal_lsn() - '0/0' AS bigint)
    FROM pg_trigger WHERE tgrelid = 'api_key'::regclass AND tgname = 'api_key_announce' AND tgenabled IN ('O', 'A')"""
_RETRY: Final = 0.25
_LONGEST_RETRY: Final = 5.0


class Primary(NamedTuple):
    """Where to listen: a way to connect to a primary, and whether the lookups go to the same servers."""

    dial: "Callable[[], Driver]"
    of_lookups: bool


class Told(Protocol):
    """Whoever is told of changes."""

    def listening(self, server: "Server", *, of_lookups: bool) -> None:
        """From now on this server announces. `of_lookups`: it was found where the lookups go, too."""

    def changed(self) -> None:
        """A key has changed, or may have changed while no connection listened."""

    def told_until(self, moment: float, position: int) -> None:
        """Every change up to now was announced; silence means "no change" until `moment` (monotonic seconds).
        `position`, in the server's write-ahead log, is where the server was `max_staleness` before that moment."""


class Listener(threading.Thread):
    """A thread that listens until it is stopped, and connects anew, to the next primary, when its connection is lost.

    Silence counts for `max_staleness` seconds from the last question that the server answered over the listening
    connection: a network that swallows packets looks like a database in which nothing changes.
    """

    def __init__(self, primaries: Sequence[Primary], told: Told, *, timeout: float, max_staleness: float) -> None:
        super().__init__(name="alphalens-keyctl listener", daemon=True)
        self._primaries = primaries
        self._timeout = timeout
        self.tried = False
        """Whether every primary was tried, or one announces."""
        self.listens = False
        """Whether a connection listens, and has answered the last question."""
        self._told = told
        self._max_staleness = max_staleness
        self._interval = min(max(max_staleness / 4, 0.02), 1.0)
        self._stop_asked = threading.Event()

    def start(self) -> None:
        """Listen from now on, in a real thread: psycopg may wait in a way that no patch of `threading` knows."""
        real_threads.start(self.run, name=self.name)

    def stop(self) -> None:
        """Ask the thread to end. It ends within a quarter of `max_staleness`, and at the latest within 1 s."""
        self._stop_asked.set()

    def run(self) -> None:
        import psycopg

        wait = _RETRY
        while not self._stop_asked.is_set():
            for primary in self._primaries:
                try:
                    with closing(primary.dial()) as connection:
                        connection.autocommit = True
                        server = postgresql.begin_session(connection, answer_limit=self._timeout)
                        if server is not None and self._state(connection) is not None:
                            self._listen(connection, server, of_lookups=primary.of_lookups)
                            wait = _RETRY
                except psycopg.Error:
                    pass  # down, a standby, or without the right: until then `max_staleness` bounds what is read
                self.listens = False
            self.tried = True
            self._stop_asked.wait(wait)
            wait = min(wait * 2, _LONGEST_RETRY)

    def _listen(self, connection: "Driver", server: "Server", *, of_lookups: bool) -> None:
        connection.execute(f"LISTEN {CHANNEL}")
        self._told.listening(server, of_lookups=of_lookups)
        announcer = None
        while not self._stop_asked.is_set():
            asked_at = time.monotonic()
            state = self._state(connection)
            if state is None:
                return
            *found, position = state
            if found != announcer:  # at the start too: nobody listened before
                announcer = found
                self._told.changed()
            for _ in connection.notifies(timeout=0):
                self._told.changed()
            self._told.told_until(asked_at + self._max_staleness, position)
            self.tried = self.listens = True
            for _ in connection.notifies(timeout=self._interval, stop_after=1):
                self._told.changed()

    @staticmethod
    def _state(connection: "Driver") -> tuple[Any, ...] | None:
        """What tells the trigger that announces changes from any other, and the server's position; None while no
        trigger announces changes."""
        state: tuple[Any, ...] | None = connection.execute(_ANNOUNCED).fetchone()
        return state
