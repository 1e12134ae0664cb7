"""Threads in which a request waits for the database, so that the event loop does not."""

import asyncio
import logging
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

_Answer = TypeVar("_Answer")

THREADS: Final = 8
# Seconds that a request waits for a thread. While the database does not answer, each wait in a thread takes
# the verifier's time limit; without this one the last in the line would wait for all before it.
PATIENCE: Final = 5.0

_log = logging.getLogger(__name__)


class NoThreadFreeError(Exception):
    """Every thread was waiting, for longer than a request may."""


class Threads:
    """A bounded pool that is made at its first use, and anew in a child process, where threads do not go."""

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None
        self._process = 0
        self._refused = 0
        self._told_at = float("-inf")

    async def run(self, function: Callable[[], _Answer]) -> _Answer:
        """What `function` returns or raises. Raises `NoThreadFreeError` when it could not begin in time."""
        future = self._of_this_process().submit(function)
        wrapped = asyncio.wrap_future(future)
        await asyncio.wait((wrapped,), timeout=PATIENCE)
        # What has begun is waited for: it may have written a use down, which must then be answered as one.
        if not wrapped.done() and future.cancel():
            self._tell()
            raise NoThreadFreeError
        return await wrapped

    def close(self) -> None:
        """Let the threads go when they have done their work."""
        if self._pool is not None and self._process == os.getpid():
            self._pool.shutdown(wait=False)
        self._pool = None

    def _of_this_process(self) -> ThreadPoolExecutor:
        if self._pool is None or self._process != os.getpid():
            self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="alphalens-keyctl-verify")
            self._process = os.getpid()
        return self._pool

    def _tell(self) -> None:
        self._refused += 1
        now = time.monotonic()
        if now - self._told_at >= 1.0:  # a line a second, however many are refused
            _log.warning("refused without asking: the database does not keep up", extra={"refused": self._refused})
            self._told_at, self._refused = now, 0
