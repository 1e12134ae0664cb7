"""An attempt to deliver a key, and what tells others that it still runs."""

from collections.abc import Callable
from typing import NamedTuple


class Attempt(NamedTuple):
    """A running attempt, as the process that makes it has it.

    `lease` is the length of a lease in seconds where no lock can tell whether the attempt runs, else None.
    `descriptors` hold the lock: a process that inherits them keeps the attempt running until it has ended too. `alarm`
    is a descriptor that becomes readable when the lock may be lost, or None where that cannot be. `prove` raises
    `KeyctlError` (database_unreachable) when the lock is lost.
    """

    lease: float | None = None
    descriptors: tuple[int, ...] = ()
    alarm: int | None = None
    prove: Callable[[], None] = lambda: None
