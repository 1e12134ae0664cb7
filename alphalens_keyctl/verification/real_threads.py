"""Threads and locks of the operating system, also where gevent has put its own in their place.

A patched thread shares the one real thread with every request. What waits there for the database, or lowers the
thread's priority, does so for all of them; and a lock from before the patch, held while another greenlet runs, is
never let go.
"""

import _thread
import sys
import threading
from _queue import SimpleQueue  # queue.SimpleQueue may be a patched one
from collections.abc import Callable
from types import BuiltinFunctionType
from typing import Any

__all__ = ["Lock", "SimpleQueue", "are_real", "start"]


def Lock() -> Any:  # noqa: N802  # stands for threading.Lock
    """Return a new lock that blocks the real thread, never held for longer than a thread of ours works."""
    return _original("allocate_lock")()


def start(run: Callable[[], None], *, name: str) -> object:
    """Run `run` in a new daemon thread, a real one where there is a way to start one.

    Returns the thread, or a stand-in for it. Raises RuntimeError where the process may have no more threads.
    """
    if isinstance(_thread.start_new_thread, BuiltinFunctionType):
        thread = threading.Thread(target=run, name=name, daemon=True)
        thread.start()
        return thread
    return _original("start_new_thread")(run, ())


def are_real() -> bool:
    """Return whether `start` starts real threads. Another library than gevent may have patched them."""
    return isinstance(_original("start_new_thread"), BuiltinFunctionType)


def _original(name: str) -> Callable[..., Any]:
    gevent: Any = sys.modules.get("gevent.monkey")
    original: Callable[..., Any] = getattr(_thread, name) if gevent is None else gevent.get_original("_thread", name)
    return original
