"""What a monitor reads off a verifier: what waits, what was lost, and since when the database is silent."""

import time
from contextlib import suppress
from typing import Final, NamedTuple

from alphalens_keyctl.errors import KeyctlError
from alphalens_keyctl.verification.recorder import Recorder
from alphalens_keyctl.verification.source import Source

# Seconds of silence after which the database is asked.
_SILENCE: Final = 1.0


class Pulse(NamedTuple):
    """The state of a verifier. `waiting` and `dropped` count uses and refused attempts. `heard_at` is when the database
    last answered, in monotonic seconds; None if it never did. `listens` says whether a connection listens for changes;
    None where the database announces none (SQLite)."""

    waiting: int
    dropped: int
    heard_at: float | None
    listens: bool | None


def take(source: Source, recorder: Recorder | None) -> Pulse:
    """Return the state, and ask a database that was silent for a second, within the source's time limit."""
    heard_at = source.heard_at
    if heard_at is None or time.monotonic() - heard_at > _SILENCE:
        with suppress(KeyctlError):
            source.fetch("")
    waiting, dropped = (0, 0) if recorder is None else (recorder.waiting, recorder.dropped)
    return Pulse(waiting, dropped, source.heard_at, source.listens)
