"""Waiting for something that another process or thread does."""

import time
from collections.abc import Callable
from typing import Final

WAIT: Final = 30.0  # seconds after which what should have happened counts as missing


def wait_for(there: Callable[[], object], what: str = "it did not come about in time", within: float = WAIT) -> None:
    """Look again and again until it holds; fail with `what` when it does not `within` seconds.

    Between two looks it waits three times as long as the look took, and a twentieth of the time since the first one: a
    look at a server, or by a command, would cost those that are waited for their processor.
    """
    first = begun = time.monotonic()
    while not there():
        ended = time.monotonic()
        assert ended < first + within, what
        time.sleep(min(max(0.01, 3 * (ended - begun), (ended - first) / 20), 0.5))
        begun = time.monotonic()
