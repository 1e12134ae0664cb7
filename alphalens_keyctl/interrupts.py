"""Ctrl-C, held back between an effect and the knowledge of it (promises 2 and 3).

Python raises KeyboardInterrupt at any instruction of the main thread. Between the start of a process and the variable
that names the process, say, nobody could end what was started. So a job that has to be done or undone as a whole holds
Ctrl-C back, and lets it in where the job waits: for a command, the keyring, stdout or the server.

    with held():
        process = Popen(...)
        try:
            with let_in():
                process.wait()
        finally:
            process.kill()

Nothing is held in other threads, where Python never raises KeyboardInterrupt, and nothing where Ctrl-C has a handler of
the caller's own or is ignored.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from types import FrameType
from typing import Final


class _Held:
    """What the main thread holds back. `depth` counts the blocks, `open` says that one of them waits now, `came` that
    Ctrl-C came and was not raised yet."""

    def __init__(self) -> None:
        self.depth = 0
        self.open = False
        self.came = False

    def take(self, _number: int, _frame: FrameType | None) -> None:
        """Handle SIGINT."""
        if self.open:
            raise KeyboardInterrupt
        self.came = True

    def raise_late(self) -> None:
        if self.came:
            self.came = False
            raise KeyboardInterrupt


_state = _Held()


@contextmanager
def held() -> Iterator[None]:
    """Hold Ctrl-C back while the block, or the function that this decorates, lasts, except inside `let_in`.

    KeyboardInterrupt is raised by `let_in`, where Ctrl-C came before. Where it came after the last `let_in` of a block
    that ended well, the job is done: the next block raises it, if there is one.
    """
    if not _can_hold():
        yield
        return
    outermost = _state.depth == 0
    if outermost:
        _state.raise_late()
        signal.signal(signal.SIGINT, _state.take)
    waited, _state.open = _state.open, False
    _state.depth += 1
    try:
        yield
    finally:
        _state.depth -= 1
        _state.open = waited
        if outermost:
            signal.signal(signal.SIGINT, signal.default_int_handler)


def let_in() -> AbstractContextManager[None]:
    """Let Ctrl-C in while the block lasts, inside `held`: for a wait. Raises KeyboardInterrupt also for an earlier
    Ctrl-C. Outside `held`, and in other threads, nothing changes."""
    if _state.depth == 0 or threading.get_ident() != threading.main_thread().ident:
        return _NOTHING_HELD  # made once: every statement of a verification comes by here
    return _letting_in()


_NOTHING_HELD: Final = nullcontext()


@contextmanager
def _letting_in() -> Iterator[None]:
    waited = _state.open
    try:
        _state.open = True  # inside `try`: from here on Ctrl-C raises
        _state.raise_late()
        yield
    finally:
        _state.open = waited


def _can_hold() -> bool:
    if threading.get_ident() != threading.main_thread().ident:
        return False
    return _state.depth > 0 or signal.getsignal(signal.SIGINT) is signal.default_int_handler
