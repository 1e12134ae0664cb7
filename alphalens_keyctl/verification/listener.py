"""The connection over which PostgreSQL announces every change to a key."""

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
# An administrator may have switched the trigger off: then silence means nothing. After the trigger was switched off
# and on again, or restored with its table, its row in the catalogue has another xmin (PostgreSQL, system columns),
# and any key may have changed meanwhile.
_ANNOUNCED: Final = """SELECT tgrelid, oid, xmin::text FROM pg_trigger WHERE tgrelid = 'api_key'::regclass
    AND tgname = 'api_key_announce' AND tgenabled IN ('O', 'A')"""
_RETRY: Final = 0.25
_LONGEST_RETRY: Final = 5.0


class Told(Protocol):
    """Whoever is told of changes."""

    def changed(self) -> None:
        """A key has changed, or may have changed while no connection listened."""

    def told_until(self, moment: float) -> None:
        """Every change up to now was announced; silence means "no change" until `moment` (monotonic seconds)."""


class Listener(threading.Thread):
    """A thread that listens until it is stopped, and connects anew when its connection is lost.

    Silence counts for `max_staleness` seconds from the last question that the server answered over the listening
    connection: a network that swallows packets looks like a database in which nothing changes.
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
        """Ask the thread to end. It ends within a quarter of `max_staleness`, and at the latest within 1 s."""
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
                pass  # down, a standby, or without the right to listen: until then `max_staleness` bounds what is read
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
            if found != announcer:  # at the start too: nobody listened before
                announcer = found
                self._told.changed()
            for _ in connection.notifies(timeout=0):
                self._told.changed()
            self._told.told_until(asked_at + self._max_staleness)
            for _ in connection.notifies(timeout=self._interval, stop_after=1):
                self._told.changed()

    @staticmethod
    def _announcer(connection: "Driver") -> tuple[object, ...] | None:
        """What tells the trigger that announces changes from any other; None while no trigger announces them."""
        found: tuple[object, ...] | None = connection.execute(_ANNOUNCED).fetchone()
        return found
