"""Waiting for something that another process or thread does."""

import time
from collections.abc import Callable
from typing import Final

WAIT: Final = 30.0  # seconds after which what should have happened counts as missing


def wait_for(there: Callable[[], object], what: str = "it did not come about in time", within: float = WAIT) -> None:
    """Look again and again until it holds; fail with `what` when it does not `within` seconds."""
    deadline = time.monotonic() + within
    while not there():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)
