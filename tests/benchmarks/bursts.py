"""Loops inside this process, timed in turn."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import cycle, islice
from typing import NamedTuple


class Loop(NamedTuple):
    """`once` is called with one argument after the other; `settle` then waits for what other threads still do."""

    once: Callable[[str], object]
    arguments: Sequence[str]
    settle: Callable[[], object] = lambda: None


def rates(loops: Mapping[str, Loop], *, length: int, rounds: int) -> dict[str, float]:
    """Calls a second of each loop: the median of the rounds, after one that only warms up.

    In turn, so that what slows the machine down slows all of them.
    """
    seconds: dict[str, list[float]] = {name: [] for name in loops}
    for number in range(rounds + 1):
        for name, (once, arguments, settle) in loops.items():
            in_order = list(islice(cycle(arguments), length))
            begin = time.perf_counter()
            for argument in in_order:
                once(argument)
            took = time.perf_counter() - begin
            settle()  # or the next one's time would be taken while this one's threads still work
            if number:
                seconds[name].append(took)
    return {name: length / statistics.median(all_) for name, all_ in seconds.items()}
