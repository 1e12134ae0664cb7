"""Commands as real processes, timed whole: from the start of the interpreter to its end."""

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, NamedTuple

ROOT = Path(__file__).parent.parent.parent
PROGRAM = (sys.executable, "-m", "alphalens_keyctl")
_LIMIT = 600.0


class Cost(NamedTuple):
    """What a run took: wall-clock seconds, and peak resident memory in bytes."""

    seconds: float
    peak: int


def python(code: str, *arguments: str) -> tuple[str, ...]:
    """A command for this interpreter."""
    return (sys.executable, "-c", code, *arguments)


def installed_script() -> tuple[str] | None:
    """The script that pip put beside this interpreter, if it did."""
    script = Path(sys.executable).with_name("alphalens-keyctl")
    return (str(script),) if script.exists() else None


def environment(home: Path) -> dict[str, str]:
    """What every measured process gets, the compared ones too: nothing that changes how Python starts."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "ALPHALENS", "XDG"))}
    return kept | {"HOME": str(home), "PYTHONPATH": str(ROOT)}


def run(
    command: Sequence[str],
    env: Mapping[str, str],
    *,
    stdin: Path | None = None,
    stdout: int | IO[bytes] = subprocess.DEVNULL,
    also: int = 0,
) -> Cost:
    """Run a command that must succeed, or end with the status `also`.

    The peak is the kernel's for that process. Between fork and exec it is still this one, so that this
    process's own memory is the least that can be reported: seeding therefore happens in another.
    """
    with open(stdin or os.devnull, "rb") as read:
        begin = time.perf_counter()
        process = subprocess.Popen(command, env=env, stdin=read, stdout=stdout)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - begin
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in (0, also):
        raise RuntimeError(f"exit status {process.returncode}: {command}")
    return Cost(seconds, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024))


def output(command: Sequence[str], env: Mapping[str, str], *, stdin: Path | None = None) -> bytes:
    """What a command that must succeed writes."""
    with open(stdin or os.devnull, "rb") as read:
        return subprocess.run(command, env=env, stdin=read, capture_output=True, check=True, timeout=_LIMIT).stdout


def lines_of(command: Sequence[str], env: Mapping[str, str]) -> int:
    """How many lines a command writes, without holding them."""
    with subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        count = 0
        while chunk := process.stdout.read(1 << 20):
            count += chunk.count(b"\n")
    if process.returncode != 0:
        raise RuntimeError(f"exit status {process.returncode}: {command}")
    return count


def in_turn(measures: Mapping[str, Callable[[int], Cost]], rounds: int) -> dict[str, Cost]:
    """Measure several things in turn, so that what slows the machine down slows all of them.

    Each gets the number of the round. The first round only warms up: bytecode, the page cache. Returns the
    median of the times and the largest of the peaks.
    """
    costs: dict[str, list[Cost]] = {name: [] for name in measures}
    for number in range(rounds + 1):
        for name, measure in measures.items():
            cost = measure(number)
            if number:
                costs[name].append(cost)
    return {
        name: Cost(statistics.median(cost.seconds for cost in got), max(cost.peak for cost in got))
        for name, got in costs.items()
    }
