"""What happens to verifiers when their process forks, is told to end, or ends."""

import atexit
import os
import signal
import sys
import threading
from contextlib import suppress
from typing import Any, Final, Protocol

from alphalens_keyctl.errors import KeyctlError

_TERMINATION_LIMIT: Final = 12.0  # seconds that a SIGTERM waits for the last uses to be written


class Guarded(Protocol):
    """What has to know."""

    def before_fork(self) -> None: ...

    def after_fork(self, *, child: bool) -> None: ...

    def close(self) -> None: ...


# Kept alive until closed: one that nobody refers to any more may still hold the last uses.
_live: Final[set[Guarded]] = set()
# Two threads that fork at once would each let go of what the other one holds.
_one_fork = threading.Lock()
_forking: Final[list[Guarded]] = []
_told_multiprocessing: Final[set[int]] = set()


def guard(guarded: Guarded) -> None:
    """From now on, until it is released, tell it of forks, and close it when the process ends or is told to."""
    _live.add(guarded)
    # A program that handles SIGTERM itself ends by itself, past `atexit`; where nobody does, the process
    # would be gone with the last second of uses.
    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _terminate)


def release(guarded: Guarded) -> None:
    """It is closed: there is nothing more to look after."""
    _live.discard(guarded)


def close_at_end_of_child() -> None:
    """Children of multiprocessing end without `atexit`; they have a list of their own."""
    util: Any = sys.modules.get("multiprocessing.util")
    if util is not None and os.getpid() not in _told_multiprocessing:
        _told_multiprocessing.add(os.getpid())
        util.Finalize(None, _close_all, exitpriority=10)


def _terminate(_number: int, _frame: object) -> None:
    # Elsewhere than here: this thread may have been interrupted while it held a lock that closing needs.
    closing = threading.Thread(target=_close_all, daemon=True)
    closing.start()
    closing.join(_TERMINATION_LIMIT)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGTERM)


def _close_all() -> None:
    for guarded in list(_live):
        with suppress(KeyctlError):  # it has said so in the log
            guarded.close()


def _before_fork() -> None:
    _one_fork.acquire()
    _forking.extend(_live)
    for guarded in _forking:
        guarded.before_fork()


def _after_fork(*, child: bool) -> None:
    global _one_fork
    for guarded in _forking:
        guarded.after_fork(child=child)
    _forking.clear()
    if child:
        _one_fork = threading.Lock()
    else:
        _one_fork.release()


os.register_at_fork(
    before=_before_fork,
    after_in_parent=lambda: _after_fork(child=False),
    after_in_child=lambda: _after_fork(child=True),
)
atexit.register(_close_all)
