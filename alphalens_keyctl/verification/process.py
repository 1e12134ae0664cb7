"""What happens to verifiers when their process forks, gets SIGTERM, or ends."""

import atexit
import os
import signal
import sys
import threading
from contextlib import AbstractContextManager, suppress
from typing import Any, Final, Protocol

from alphalens_keyctl.database import Address
from alphalens_keyctl.errors import KeyctlError

_TERMINATION_LIMIT: Final = 12.0  # seconds that the end by SIGTERM waits for the last uses to be written


class Guarded(Protocol):
    """What is told of forks and of the end."""

    address: Address

    def replaced(self) -> bool: ...

    def before_fork(self) -> None: ...

    def after_fork(self, *, child: bool) -> None: ...

    def close(self) -> None: ...


# Kept alive until closed: a verifier to which nothing refers any longer may still hold the last uses.
_live: Final[set[Guarded]] = set()
# Of two threads that fork at once, each would release the locks that the other one holds.
_one_fork = threading.Lock()
_forking: Final[list[Guarded]] = []
_told_multiprocessing: Final[set[int]] = set()


def guard(guarded: Guarded) -> None:
    """Tell `guarded` of forks, and close it when the process ends, until it is released."""
    _live.add(guarded)


def release(guarded: Guarded) -> None:
    """Stop looking after `guarded`, which is closed."""
    _live.discard(guarded)


def no_fork() -> AbstractContextManager[object]:
    """While the block lasts, the process does not fork, and no other thread calls `let_go`."""
    return _one_fork


def let_go(address: Address) -> None:
    """Have everything that is guarded close its connections to a SQLite file, as before a fork, where other files were
    put in the place of those that it has open. The caller holds `no_fork`."""
    let_gone: list[Guarded] = []
    try:
        for guarded in list(_live):
            if guarded.address == address and guarded.replaced():
                guarded.before_fork()
                let_gone.append(guarded)
    finally:
        for guarded in let_gone:
            guarded.after_fork(child=False)


def close_on_sigterm() -> None:
    """Have SIGTERM close what is guarded, and then end the process as it would have. A handler that the program has
    installed stays instead: that program ends by itself, through `atexit`.

    Raises ValueError outside the main thread, where Python installs no handler (signal, "Signals and threads").
    """
    if threading.current_thread() is not threading.main_thread():
        raise ValueError("a handler of SIGTERM can only be installed in the main thread")
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _terminate)


def close_at_end_of_child() -> None:
    """Have what is guarded closed at the end of a child of multiprocessing, which ends without `atexit`."""
    util: Any = sys.modules.get("multiprocessing.util")
    if util is not None and os.getpid() not in _told_multiprocessing:
        _told_multiprocessing.add(os.getpid())
        util.Finalize(None, _close_all, exitpriority=10)


def _terminate(_number: int, _frame: object) -> None:
    # In another thread: this one may have been interrupted while it held a lock that closing needs.
    closing = threading.Thread(target=_close_all, daemon=True)
    closing.start()
    closing.join(_TERMINATION_LIMIT)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGTERM)


def _close_all() -> None:
    for guarded in list(_live):
        with suppress(KeyctlError):  # the verifier has logged which uses are lost
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
