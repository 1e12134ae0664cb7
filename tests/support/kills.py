"""Random kills of `rotate` with two destinations, each judged, with their counts.

Every run gets SIGKILL after a random part of the time that an unharmed run takes (with --late N, of what is left
of it after that part: the beginning of a run is long and writes nothing); one that has ended by then is
no kill, and another takes its destination. Then the same command is run again, unharmed.

    python -m tests.support.kills --number 1000 [--late 0.6] [--seed N] [--database-url URL]
"""

import argparse
import random
import signal
import statistics
import sys
from collections import Counter
from pathlib import Path

from tests.support.commands import Keyctl
from tests.support.deliveries import Command, DeliveryJudge, run_together
from tests.support.strikes import Row, surroundings

DESTINATIONS = [("key-file", "env-file"), ("pipe-to", "key-file")]
UNHARMED = 5  # runs that are timed, the latest
# The judge reads the whole log each time: a database of its own for so many keeps that short.
A_DATABASE = 100
WHEN = {"nothing": "before delivering", "delivering": "while delivering", "done": "after the handover"}


class Victim:
    """A key that is rotated, killed half-way, judged and rotated again."""

    def __init__(self, keyctl: Keyctl, judge: DeliveryJudge, kinds: tuple[str, ...], folder: Path, timed: int) -> None:
        self._keyctl = keyctl
        self._judge = judge
        self._row = Row("rotate", kinds, [], folder)
        self.came: Counter[str] = Counter()
        self._finish("create")
        self._durations = [self._finish("rotate") for _ in range(timed)]

    def kill(self, chance: random.Random, late: float) -> None:
        """One kill, and the run after it. Raises AssertionError for what may not be."""
        while True:
            destinations = self._row.destinations
            before = self._judge.look(self._row.name, destinations)
            # An unharmed run of late: a machine that becomes busy makes all of them longer.
            delay = chance.uniform(late, 1) * statistics.median(self._durations[-UNHARMED:])
            command = Command(self._row.arguments("rotate", printed=True), kill_after=delay)
            (killed, _), *_ = run_together(self._keyctl, command)
            self._judge.wait_until_alone()
            outcome = self._judge.assert_unharmed(self._row.name, destinations, before, killed, printed=True)
            self._durations.append(self._finish("rotate"))
            if killed.status == -signal.SIGKILL:
                self.came[WHEN[outcome]] += 1
                return
            self.came["ended before the kill"] += 1

    def _finish(self, command: str) -> float:
        printed = command == "rotate"
        ended = run_together(self._keyctl, Command(self._row.arguments(command, printed=printed)))[0]
        self._judge.assert_finished(self._row.name, self._row.destinations, ended.result, printed=printed)
        return ended.seconds


def kill(
    keyctl: Keyctl,
    judge: DeliveryJudge,
    folder: Path,
    number: int,
    chance: random.Random,
    *,
    late: float = 0.0,
    timed: int = UNHARMED,
) -> Counter[str]:
    """So many kills, by turns on each set of destinations; what came of them, violations too. Before the first, so many
    unharmed runs of each are timed."""
    came: Counter[str] = Counter()
    victims = [Victim(keyctl, judge, kinds, folder, timed) for kinds in DESTINATIONS]
    for at in range(number):
        try:
            victims[at % len(victims)].kill(chance, late)
        except AssertionError as error:
            came["violations"] += 1
            print(f"violation: {error}", file=sys.stderr)
            # It may have left what the next judgement would find again.
            (folder / f"after-{at}").mkdir()
            came += victims[at % len(victims)].came
            victims[at % len(victims)] = Victim(
                keyctl, judge, DESTINATIONS[at % len(victims)], folder / f"after-{at}", timed
            )
    for victim in victims:
        came += victim.came
    return came


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.support.kills", description=__doc__)
    parser.add_argument("--number", type=int, default=1000)
    parser.add_argument("--late", type=float, default=0.0, help="the part of a run that is spared, 0 to 1")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument("--database-url", help="an empty PostgreSQL database; by default SQLite files of its own")
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    chance = random.Random(options.seed)
    came: Counter[str] = Counter()
    share = options.number if options.database_url else A_DATABASE
    for start in range(0, options.number, share):
        with surroundings(options.database_url) as (keyctl, folder):
            assert keyctl.database_url is not None
            judge = DeliveryJudge(keyctl.database_url)
            came += kill(keyctl, judge, folder, min(share, options.number - start), chance, late=options.late)
            judge.close()
        kills = sum(came[when] for when in WHEN.values())
        counted = ", ".join(f"{came[when]} {when}" for when in (*WHEN.values(), "ended before the kill"))
        print(f"{kills} kills: {counted}; violations: {came['violations']}", flush=True)
    return 1 if came["violations"] else 0


if __name__ == "__main__":
    sys.exit(main())
