"""Processes that do the same work, each replaced when it ends, until their supervisor is told to stop."""

import logging
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from typing import Final

# Seconds between two looks at the workers.
_LOOK: Final = 0.5
# Seconds between two signs of life of a worker; seconds of silence after which a worker counts as hung; and seconds
# that a new worker gets beyond them, to load its modules.
_BEAT: Final = 1.0
_SILENCE: Final = 10.0
_LOADING: Final = 60.0
# Seconds in which every worker must end once it was told to: more than requests under way and the last uses get.
_END: Final = 30.0

_log = logging.getLogger(__name__)
# A forked worker would inherit locks that another thread holds, and connections to the database.
_spawning = multiprocessing.get_context("spawn")


class Worker:
    """A process that runs `work`, which reaches it pickled, through a pipe: what `work` holds, a password say, is in
    no argument and no environment variable."""

    def __init__(self, work: Callable[[], int]) -> None:
        self._pipe, theirs = _spawning.Pipe()
        self._process = _spawning.Process(target=_run, args=(work, theirs))
        self._process.start()
        theirs.close()
        self._heard_at = time.monotonic() + _LOADING

    @property
    def pid(self) -> int | None:
        return self._process.pid

    @property
    def exit_status(self) -> int | None:
        """The exit status, negative for a signal; None while the process runs."""
        return self._process.exitcode

    def is_hung(self) -> bool:
        """Whether the process runs, and has given no sign of life for too long."""
        now = time.monotonic()
        with suppress(EOFError, OSError):  # the process has ended
            while self._pipe.poll():
                self._pipe.recv_bytes()
                self._heard_at = now
        return self.exit_status is None and now - self._heard_at > _SILENCE

    def terminate(self) -> None:
        """Ask the process to end."""
        self._process.terminate()

    def end(self, within: float) -> None:
        """Wait for the end of the process, and kill it after `within` seconds."""
        self._process.join(within)
        self._process.kill()
        self._process.join()
        self._pipe.close()


def supervise(works: Sequence[Callable[[], int]], *, fatal: int) -> set[int | None]:
    """Run each of `works`, which return an exit status, in a process, and replace each that ends or hangs.

    SIGHUP has every worker replaced. SIGTERM and SIGINT have every worker ended, and so has a worker that ends with
    the status `fatal`, because its successor would, too. Returns the exit statuses of the last workers.
    """
    with _signals() as received:
        workers = [Worker(work) for work in works]
        while not received & {signal.SIGTERM, signal.SIGINT} and fatal not in _exit_statuses(workers):
            time.sleep(_LOOK)
            if signal.SIGHUP in received:
                received.remove(signal.SIGHUP)
                for each in workers:
                    each.terminate()
            workers = [_replaced(each, work, fatal) for each, work in zip(workers, works, strict=True)]
        for each in workers:
            each.terminate()
        deadline = time.monotonic() + _END
        for each in workers:
            each.end(max(0.0, deadline - time.monotonic()))
    return _exit_statuses(workers)


def _exit_statuses(workers: list[Worker]) -> set[int | None]:
    return {each.exit_status for each in workers}


def _replaced(worker: Worker, work: Callable[[], int], fatal: int) -> Worker:
    """`worker`, or a new one where it has ended or is hung."""
    if worker.exit_status == fatal or (worker.exit_status is None and not worker.is_hung()):
        return worker
    worker.end(0.0)
    _log.warning("a worker ended and is replaced", extra={"worker": worker.pid, "exit_status": worker.exit_status})
    return Worker(work)


@contextmanager
def _signals() -> Iterator[set[int]]:
    """The signals received so far. While the block lasts they do nothing else."""
    received: set[int] = set()
    before = {
        number: signal.signal(number, lambda number, _frame: received.add(number))
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    }
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _run(work: Callable[[], int], supervisor: Connection) -> None:
    threading.Thread(target=_report, args=(supervisor,), daemon=True, name="alphalens-keyctl-worker").start()
    raise SystemExit(work())


def _report(supervisor: Connection) -> None:
    """Give signs of life, and end this process when the supervisor is gone: a worker that nobody supervises would
    hold the port."""
    with suppress(EOFError, OSError):
        supervisor.send_bytes(b".")
        while not supervisor.poll(_BEAT):
            supervisor.send_bytes(b".")
    os.kill(os.getpid(), signal.SIGTERM)
