"""The audit log as it grows, over either way to the keys: every event behind a place once, in order, across outages."""

import select
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Final

from alphalens_keyctl.database.changes import Changes
from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.logs.audit import Head, LogFilter
from alphalens_keyctl.manager.backend import Backend
from alphalens_keyctl.models import Event

# Seconds for which an error may last before whoever follows ends with it: a restart, a failover and a file that is
# being replaced pass. A server whose database is away refuses every key; a file that cannot be opened may be just
# being put there.
_OUTAGES: Final[Mapping[Code, float]] = {
    Code.DATABASE_UNREACHABLE: 600.0,
    Code.DATABASE_BUSY: 600.0,
    Code.DATABASE_MISSING: 600.0,
    Code.SERVER_UNREACHABLE: 600.0,
    Code.SERVER_ERROR: 600.0,
    Code.UNAUTHENTICATED: 60.0,
    Code.DATABASE_UNUSABLE: 10.0,
}
_PAUSES: Final = (0.1, 0.2, 0.5, 1.0)  # seconds between two tries; the last one again and again

# Is told of an outage, and with None of its end.
Tell = Callable[[KeyctlError | None], None]


def follow(
    backend: Backend, wanted: LogFilter, place: Head, *, reader: int | None = None, tell: Tell = lambda _error: None
) -> Iterator[Sequence[Event]]:
    """Yield the events behind `place` that fit as they come, some at a time, oldest first; without end, or until the
    reader at the other end of the descriptor `reader`, a pipe say, has gone.

    No transaction is open while it waits. An outage is waited out and `tell` is told. Raises `KeyctlError`:
    log_replaced where the log no longer has the event at the place that was read last; an error that lasts.
    """
    outage = _Outage(tell)
    with ExitStack() as stack:
        changes: Changes | None = None
        while True:
            try:
                if changes is None:
                    changes = stack.enter_context(backend.changes())
                found, following = backend.new_events(place, wanted)
            except KeyctlError as error:
                if not outage.waited_out(error, reader):
                    return
                continue
            outage.over()
            if found:
                yield found
            more, place = following.seq > place.seq, following
            while not more:
                if not _pause(changes.descriptor, changes.interval, reader):
                    return
                try:
                    more = changes.happened()
                except KeyctlError as error:
                    if not outage.waited_out(error, reader):
                        return


class _Outage:
    """An error that may pass, and since when it lasts."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._since: float | None = None
        self._tries = 0

    def waited_out(self, error: KeyctlError, reader: int | None) -> bool:
        """Wait some time for the error to pass; False where the reader has gone. Raises the error where it lasts."""
        now = time.monotonic()
        if self._since is None:
            self._since, self._tries = now, 0
        if now - self._since >= _OUTAGES.get(error.code, 0.0):
            raise error
        if self._tries == 1:  # what the second try mends needs no word
            self._tell(error)
        pause = _PAUSES[min(self._tries, len(_PAUSES) - 1)]
        self._tries += 1
        return _pause(None, pause, reader)

    def over(self) -> None:
        """The error has passed."""
        if self._since is not None and self._tries > 1:
            self._tell(None)
        self._since = None


def _pause(descriptor: int | None, seconds: float, reader: int | None) -> bool:
    """Wait until the descriptor is readable, `seconds` at most; False where the reader has gone."""
    poll = select.poll()
    if descriptor is not None:
        poll.register(descriptor, select.POLLIN)
    if reader is not None:
        poll.register(reader, 0)  # errors and hang-ups are told in any case
    return all(which != reader for which, _event in poll.poll(seconds * 1000))
