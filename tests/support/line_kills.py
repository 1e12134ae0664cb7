"""`create` and `rotate` killed at the lines of the program that they execute, each judged.

Every line takes hours; the tests take a stride of them.

    python -m tests.support.line_kills [--stride N] [--offset N] [--only create|rotate] [--database-url URL]
"""

import argparse
import json
import signal
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.support.commands import Before, Keyctl
from tests.support.faults import fault, kill_at_line
from tests.support.judge import Judge, judge
from tests.support.raw_keys import key_id, raw_key_in
from tests.support.strikes import surroundings

TAIL = 12  # the last lines, where the key is active already


def survive_create(keyctl: Keyctl, judge: Judge, name: str, before: Before) -> str:
    """`create` with a fault that kills it; returns what came of it."""
    killed = keyctl("create", name, before=before)
    assert killed.status in (0, -signal.SIGKILL), killed
    judge.wait_until_alone()
    raw, key = raw_key_in(killed), judge.current(name)
    if key is not None and key.status == "active":
        # A live key is one that was shown, and it counts.
        assert raw is not None, killed
        assert judge.opens(raw)
        assert keyctl("create", name).status == 6
        return "done"
    assert killed.status != 0
    assert raw is None or not judge.opens(raw)
    again = keyctl("create", name)
    assert again.status == 0, again
    assert judge.opens(again.stdout.strip())
    assert [key.revoke_reason for key in judge.every_key(name)[:-1]] in ([], ["abandoned"])
    return "nothing" if raw is None else "shown, opens nothing"


def survive_rotate(keyctl: Keyctl, judge: Judge, held: str, before: Before) -> tuple[str, str]:
    """`rotate` with a fault that kills it; returns what came of it and the raw key that is now the current one."""
    killed = keyctl("rotate", "ci", before=before)
    assert killed.status in (0, -signal.SIGKILL), killed
    judge.wait_until_alone()
    raw, current = raw_key_in(killed), judge.current("ci")
    assert current is not None
    assert current.status == "active"
    assert judge.opens(held)
    if current.id != key_id(held):
        assert raw is not None
        assert key_id(raw) == current.id
        assert judge.opens(raw)
        return "done", raw
    assert killed.status != 0
    assert raw is None or not judge.opens(raw)
    again = keyctl("rotate", "ci")
    assert again.status == 0, again
    assert judge.opens(held)
    return "nothing" if raw is None else "shown, opens nothing", again.stdout.strip()


# Of how many lines a command executed, counted from 1, and the first of them that can write anything → where to kill.
Choice = Callable[[int, int], Sequence[int]]


def kill_create(keyctl: Keyctl, judge: Judge, trace: Path, choose: Choice) -> Counter[str]:
    """Kill `create` at each of these lines; returns how many of them ended in what."""
    points = _lines_to_kill_at(keyctl, trace, choose, "create", "k0000")
    return Counter(survive_create(keyctl, judge, f"k{point:04}", fault(kill_at_line, point, "")) for point in points)


def kill_rotate(keyctl: Keyctl, judge: Judge, trace: Path, choose: Choice) -> Counter[str]:
    """The same for `rotate`."""
    keyctl.ok("create", "ci")
    points = _lines_to_kill_at(keyctl, trace, choose, "rotate", "ci")
    held = keyctl.ok("rotate", "ci").stdout.strip()
    came: Counter[str] = Counter()
    for point in points:
        outcome, held = survive_rotate(keyctl, judge, held, fault(kill_at_line, point, ""))
        came[outcome] += 1
    return came


def _lines_to_kill_at(keyctl: Keyctl, trace: Path, choose: Choice, *command: str) -> Sequence[int]:
    """Run the command once unharmed, and choose of the lines that it executed."""
    assert keyctl(*command, before=fault(kill_at_line, 0, str(trace))).status == 0
    lines = json.loads(trace.read_text())
    return choose(len(lines), next(n for n, line in enumerate(lines, 1) if line.startswith("keys/issuance.py")))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.support.line_kills", description=__doc__)
    parser.add_argument("--stride", type=int, default=1, help="take every so many-th line")
    parser.add_argument("--offset", type=int, default=1, help="begin at this line")
    parser.add_argument("--only", choices=("create", "rotate"), help="this command alone")
    parser.add_argument("--database-url", help="an empty PostgreSQL database; by default a SQLite file of its own")
    options = parser.parse_args()
    with surroundings(options.database_url) as (keyctl, folder), judge(keyctl.database_url) as judging:
        for command, kill in (("create", kill_create), ("rotate", kill_rotate)):
            if options.only in (None, command):
                came = kill(
                    keyctl, judging, folder / command, lambda end, _: range(options.offset, end + 1, options.stride)
                )
                print(f"{command}: {came.total()} lines, {dict(came)}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
