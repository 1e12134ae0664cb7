"""Loops inside this process, timed in turn."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import cycle, islice
from typing import NamedTuple


class Loop(NamedTuple):
    """`once` is called with an argument after the other; `settle` before the clock starts."""

    once: Callable[[str], object]
    settle: Callable[[], object] = lambda: None


def rates(loops: Mapping[str, Loop], arguments: Sequence[str], *, length: int, rounds: int) -> dict[str, float]:
    """Calls a second of each loop: the median of the rounds, after one that only warms up.

    In turn, so that what slows the machine down slows all of them.
    """
    round_ = list(islice(cycle(arguments), length))
    seconds: dict[str, list[float]] = {name: [] for name in loops}
    for number in range(rounds + 1):
        for name, (once, settle) in loops.items():
            settle()
            begin = time.perf_counter()
            for argument in round_:
                once(argument)
            if number:
                seconds[name].append(time.perf_counter() - begin)
    return {name: length / statistics.median(took) for name, took in seconds.items()}
