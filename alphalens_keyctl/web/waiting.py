"""Threads in which requests wait for the database, so that the event loop does not wait."""

import asyncio
import logging
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

_Answer = TypeVar("_Answer")

THREADS: Final = 8
# Seconds that a request waits for a thread. While the database does not answer, each thread is taken for the
# verifier's time limit; without this limit the last request in the queue would wait for all before it.
PATIENCE: Final = 5.0

_log = logging.getLogger(__name__)


class NoThreadFreeError(Exception):
    """Every thread was taken for longer than a request may wait."""


class Threads:
    """A bounded pool, made at the first use, and made anew in a forked child, which inherits no threads."""

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None
        self._process = 0
        self._refused = 0
        self._told_at = float("-inf")

    async def run(self, function: Callable[[], _Answer]) -> _Answer:
        """Run `function` in a thread; return or raise what it does. Raises `NoThreadFreeError` when no thread was free
        within `PATIENCE`."""
        future = self._of_this_process().submit(function)
        wrapped = asyncio.wrap_future(future)
        await asyncio.wait((wrapped,), timeout=PATIENCE)
        # A call that has begun is awaited: it may have recorded a use, and a recorded use must be answered as a yes.
        if not wrapped.done() and future.cancel():
            self._tell()
            raise NoThreadFreeError
        return await wrapped

    def close(self) -> None:
        """End the threads when they have done their work."""
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
