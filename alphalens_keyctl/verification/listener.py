"""The connection that PostgreSQL tells of every change to a key."""

import threading
import time
from collections.abc import Callable
from contextlib import closing
from typing import TYPE_CHECKING, Final, Protocol

from alphalens_keyctl.database import postgresql
from alphalens_keyctl.verification import real_threads

if TYPE_CHECKING:
    from alphalens_keyctl.database.postgresql import Driver

CHANNEL: Final = "alphalens_keyctl"
# Somebody may have switched the trigger off: then silence means nothing. Or off and on again, or restored the
# table with it: then the catalogue's row is another (PostgreSQL, system column xmin), and all may have changed.
_ANNOUNCED: Final = """SELECT tgrelid, oid, xmin::text FROM pg_trigger WHERE tgrelid = 'api_key'::regclass
    AND tgname = 'api_key_announce' AND tgenabled IN ('O', 'A')"""
_RETRY: Final = 0.25
_LONGEST_RETRY: Final = 5.0


class Told(Protocol):
    """Who wants to know."""

    def changed(self) -> None:
        """A key has changed, or may have while nobody listened."""

    def told_until(self, moment: float) -> None:
        """Every change so far was told; believe in it until `moment` (monotonic seconds)."""


class Listener(threading.Thread):
    """Listens until stopped, and starts over when its connection is lost.

    Silence is only trusted for `max_staleness` seconds from the last question that the server answered over
    this very connection: a network that swallows packets looks like a database in which nothing happens.
    """

    def __init__(self, dial: "Callable[[], Driver]", told: Told, *, max_staleness: float) -> None:
        super().__init__(name="alphalens-keyctl listener", daemon=True)
        self._dial = dial
        self._told = told
        self._max_staleness = max_staleness
        self._interval = min(max(max_staleness / 4, 0.02), 1.0)
        self._stop_asked = threading.Event()

    def start(self) -> None:
        """Listen from now on, in a real thread: psycopg may wait in a way that no patch of `threading` knows."""
        real_threads.start(self.run, name=self.name)

    def stop(self) -> None:
        """Ask it to end; it does within its interval."""
        self._stop_asked.set()

    def run(self) -> None:
        import psycopg

        wait = _RETRY
        while not self._stop_asked.is_set():
            try:
                with closing(self._dial()) as connection:
                    connection.autocommit = True
                    if not postgresql.is_pooled(connection) and self._announcer(connection) is not None:
                        self._listen(connection)
                        wait = _RETRY
            except psycopg.Error:
                pass  # down, a standby, or without the right: the bound holds meanwhile
            self._stop_asked.wait(wait)
            wait = min(wait * 2, _LONGEST_RETRY)

    def _listen(self, connection: "Driver") -> None:
        connection.execute(f"LISTEN {CHANNEL}")
        announcer = None
        while not self._stop_asked.is_set():
            asked_at = time.monotonic()
            found = self._announcer(connection)
            if found is None:
                return
            if found != announcer:  # the first time too: whatever happened before
                announcer = found
                self._told.changed()
            for _ in connection.notifies(timeout=0):
                self._told.changed()
            self._told.told_until(asked_at + self._max_staleness)
            for _ in connection.notifies(timeout=self._interval, stop_after=1):
                self._told.changed()

    @staticmethod
    def _announcer(connection: "Driver") -> tuple[object, ...] | None:
        """What makes this very trigger, or None while nothing announces changes."""
        found: tuple[object, ...] | None = connection.execute(_ANNOUNCED).fetchone()
        return found
