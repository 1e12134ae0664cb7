"""Every fault of a delivery by combination: destinations × command × step × what goes wrong there.

`strike` runs inside the forked child, before the command. `Row` is a row of combinations on one set of
destinations; `run_matrix` runs and judges them. All of them, with a table of what came of it:

    python -m tests.support.strikes [--stride N] [--only create|rotate] [--with DESTINATION] [--without DESTINATION]
        [--database-url URL]
"""

import argparse
import itertools
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

from sqlalchemy import Connection, event
from sqlalchemy.engine import Engine

from alphalens_keyctl.database import Database, Limits, parse_address
from alphalens_keyctl.delivery import keyring
from alphalens_keyctl.delivery.command import Command as PipeTo
from alphalens_keyctl.delivery.files import KeyFile
from alphalens_keyctl.delivery.keyring import Keyring
from tests.support.commands import ForkServer, Keyctl, Result
from tests.support.deliveries import Command, DeliveryJudge, Found, run_together
from tests.support.destinations import ASIDE, File, Stored, destination_of, use_keyring
from tests.support.faults import die, limit_file_size

KINDS = ("pipe-to", "keyring", "key-file", "env-file")
# In the order in which the program hands over; a keyring there is but one of.
COMBINATIONS = [
    *[(kind,) for kind in KINDS],
    *[pair for pair in itertools.combinations_with_replacement(KINDS, 2) if pair != ("keyring", "keyring")],
]
# A keyring's own process starts within this many seconds on a busy machine, and one that hangs is given up after.
PATIENCE = 2.5
AT_ONCE = 4
MODULE = "tests.support.strikes"  # also where this file is the program that runs


class Fault(NamedTuple):
    """What goes wrong, where. `number` counts destinations or transactions from 1; `by` is who does it: the
    program's own process at that point, or the destination's."""

    what: str  # kill, failure, no space, no answer
    step: str  # stage, hand_over, transaction
    number: int
    when: str  # before, during, after
    by: str
    action: str

    @property
    def told(self) -> str | None:
        """What the destination's own process is told to do wrong."""
        return self.action if self.by == "destination" else None


def faults_of(kinds: Sequence[str], database: str) -> Iterator[Fault]:
    """Every fault that can strike a delivery to these kinds of destinations."""
    for number, kind in enumerate(kinds, 1):
        yield from _faults_at(number, kind)
    for number in (1, 2, 3):
        for when in ("before", "during", "after"):
            yield Fault("kill", "transaction", number, when, "program", "kill")
        yield Fault("no space", "transaction", number, "before", "program", "fill")
        if database == "postgresql":
            yield Fault("failure", "transaction", number, "during", "program", "disconnect")


def _faults_at(number: int, kind: str) -> Iterator[Fault]:
    for step, when in itertools.product(("stage", "hand_over"), ("before", "after")):
        yield Fault("kill", step, number, when, "program", "kill")
        yield Fault("no space", step, number, when, "program", "fill")
    # Where a process is started, or a file written: a keyring's process is started to look first.
    yield Fault("kill", "stage" if kind == "keyring" else "hand_over", number, "during", "program", "kill")
    if kind in ("key-file", "env-file"):
        yield Fault("kill", "stage", number, "during", "program", "kill")
        yield Fault("failure", "stage", number, "before", "program", "obstruct")
        yield Fault("failure", "stage", number, "during", "program", "refuse")
        yield Fault("failure", "hand_over", number, "before", "program", "unstage")
        yield Fault("failure", "hand_over", number, "during", "program", "refuse")
        return
    if kind == "pipe-to":
        yield Fault("failure", "stage", number, "before", "program", "disable")
    for what, action in (("kill", "kill"), ("failure", "fail"), ("no answer", "hang")):
        if kind == "keyring":
            yield Fault(what, "stage", number, "during", "destination", f"{action} read")
        for when in ("before", "after"):
            yield Fault(what, "hand_over", number, "during", "destination", f"{action} {when}")


# --- inside the child -------------------------------------------------------------------------------------------------


def strike(step: str, number: int, when: str, action: str) -> None:
    """Do something at a step of the delivery: before the `number`-th destination or transaction takes it, after,
    or midway: see `_midway`, and for a transaction just before its commit."""
    act = ACTIONS[action]
    if step == "transaction":
        _strike_transaction(number, when, act)
        return
    reached = itertools.count(1)
    for destination in (PipeTo, Keyring, KeyFile):
        setattr(destination, step, _struck(getattr(destination, step), reached, number, when, act))


def _struck(
    original: Callable[..., Any], reached: Iterator[int], number: int, when: str, act: Callable[..., None]
) -> Callable[..., Any]:
    def method(self: Any, *arguments: Any) -> Any:
        if next(reached) != number:
            return original(self, *arguments)
        if when == "before":
            act(self)
        with _midway(act, self) if when == "during" else nullcontext():
            answer = original(self, *arguments)
        if when == "after":
            act(self)
        return answer

    return method


@contextmanager
def _midway(act: Callable[..., None], destination: Any) -> Iterator[None]:
    """Between what is written and the sync that makes it last, or just after another process was started. That a
    sync fails is the one fault that is only played: no disk of a test machine can be made to do it."""
    process = subprocess.Popen

    class Started(process):  # type: ignore[misc,valid-type]
        def _execute_child(self, *arguments: Any, **options: Any) -> None:
            super()._execute_child(*arguments, **options)
            act(destination)  # the process runs, and nobody who started it knows its number yet

    def sync(_descriptor: int) -> None:
        act(destination)

    with mock.patch.object(os, "fsync", sync), mock.patch.object(subprocess, "Popen", Started):
        yield


def _strike_transaction(number: int, when: str, act: Callable[..., None]) -> None:
    reached = itertools.count(1)
    original = Database.writing

    @contextmanager
    def writing(self: Database) -> Iterator[Any]:
        mine = next(reached) == number
        if mine and when == "before":
            act(self)
        with original(self) as tx:
            yield tx
            if mine and when == "during":
                event.listen(Engine, "commit", act, once=True)
        if mine and when == "after":
            act(self)

    Database.writing = writing  # type: ignore[method-assign]


def be_impatient() -> None:
    """So that a keyring that hangs costs half the time; what the limit is for does not change."""
    keyring.LIMIT = PATIENCE  # type: ignore[misc]


def _fail(_destination: object) -> None:
    raise OSError(5, "Input/output error")


def _obstruct(destination: Any) -> None:
    path = destination.path
    if path.exists():
        os.link(path, path.with_name("second-name"))
    else:
        path.mkdir()


def _unstage(destination: Any) -> None:
    next(destination.path.parent.glob(ASIDE)).unlink()


def _disable(destination: Any) -> None:
    Path(destination._line._words[0]).chmod(0o600)


def _disconnect(connection: Connection) -> None:
    driver: Any = connection.connection.driver_connection
    with socket.socket(fileno=os.dup(driver.fileno())) as its:
        its.shutdown(socket.SHUT_RDWR)


ACTIONS: dict[str, Callable[..., None]] = {
    "kill": lambda *_: die(),
    "fill": lambda *_: limit_file_size(0),
    "refuse": _fail,
    "obstruct": _obstruct,
    "unstage": _unstage,
    "disable": _disable,
    "disconnect": _disconnect,
    "interrupt": lambda *_: os.kill(os.getpid(), signal.SIGINT),
    "terminate": lambda *_: os.kill(os.getpid(), signal.SIGTERM),
}


# --- the matrix -------------------------------------------------------------------------------------------------------


class Case(NamedTuple):
    """A command on one set of destinations, and what strikes it."""

    command: str
    kinds: tuple[str, ...]
    fault: Fault
    printed: bool

    @property
    def faithless(self) -> bool:
        """Whether a command stored the key and then said that it had not."""
        return self.fault.told == "fail after" and self.kinds[self.fault.number - 1] == "pipe-to"


class Row:
    """One set of destinations, struck again and again: for `rotate` the same key and destinations, for `create` new
    ones each time."""

    def __init__(self, command: str, kinds: tuple[str, ...], cases: Sequence[Case], folder: Path) -> None:
        self.command = command
        self.kinds = kinds
        self.cases = iter(cases)
        self._folder = folder
        self._numbers = itertools.count(1)
        self.name = ""
        self.destinations: list[File | Stored] = []
        self.move_on()

    def move_on(self) -> None:
        """Take new destinations, and a name that has no key."""
        self.name = f"{self.command}-{'-'.join(self.kinds)}-{next(self._numbers)}"
        self.destinations = [
            destination_of(kind, self._folder, self.name, number) for number, kind in enumerate(self.kinds)
        ]

    def arguments(self, command: str, *, printed: bool = False) -> list[str]:
        options = [option for destination in self.destinations for option in destination.options()]
        first = ["--if-missing"] if command == "create" else []
        return [command, self.name, *first, *options, *([] if printed else ["--no-print"])]

    def repair(self) -> None:
        """Take away what stood in the way."""
        for destination in self.destinations:
            if isinstance(destination, Stored):
                if destination.kind == "pipe-to":
                    (destination.folder / "store").chmod(0o700)
                continue
            destination.path.with_name("second-name").unlink(missing_ok=True)
            if destination.path.is_dir():
                destination.path.rmdir()


def matrix(
    folder: Path,
    database: str,
    *,
    command: str,
    first: int = 0,
    stride: int = 1,
    kinds: Sequence[tuple[str, ...]] = tuple(COMBINATIONS),
) -> list[Row]:
    """The matrix, or every `stride`-th combination of it from the `first` on, counted from 0."""
    made = []
    before = 0
    for one in kinds:
        faults = list(faults_of(one, database))
        # A stride that shares a factor with the order above would always leave out the same kind of fault.
        chosen = [fault for at, fault in enumerate(faults, before) if at % stride == first]
        before += len(faults)
        cases = [Case(command, one, fault, printed=at % 3 == 0) for at, fault in enumerate(chosen)]
        if cases:
            made.append(Row(command, one, cases, folder))
    return made


Outcomes = Counter[tuple[tuple[str, ...], str, str, str]]


def run_matrix(keyctl: Keyctl, judge: DeliveryJudge, rows: Sequence[Row]) -> Outcomes:
    """Strike every case and judge it, run the command again and judge that; returns what came of them, by
    destinations, command, kind of fault and outcome."""
    came: Outcomes = Counter()
    if rows[0].command == "rotate":
        for group in _groups(rows):
            for row, ended in zip(
                group, run_together(keyctl, *(Command(row.arguments("create")) for row in group)), strict=True
            ):
                judge.assert_finished(row.name, row.destinations, ended.result, printed=False)
    while struck := [(row, case) for row in rows if (case := next(row.cases, None))]:
        for group in _groups(struck):
            for row, case, outcome in _strike_group(keyctl, judge, group):
                came[row.kinds, row.command, case.fault.what, outcome] += 1
    return came


def _strike_group(
    keyctl: Keyctl, judge: DeliveryJudge, group: Sequence[tuple[Row, Case]]
) -> Iterator[tuple[Row, Case, str]]:
    outcomes = strike_and_judge(keyctl, judge, group)
    again = run_together(keyctl, *(Command(row.arguments(row.command, printed=case.printed)) for row, case in group))
    with judge.together():
        for (row, case), ended in zip(group, again, strict=True):
            judge.assert_finished(row.name, row.destinations, ended.result, printed=case.printed)
    for (row, case), outcome in zip(group, outcomes, strict=True):
        if row.command == "create":
            row.move_on()
        yield row, case, outcome


def strike_and_judge(keyctl: Keyctl, judge: DeliveryJudge, group: Sequence[tuple[Row, Case]]) -> list[str]:
    """Run these at once, each struck; returns what came of each, and takes away what stood in the way."""
    before = [judge.look(row.name, row.destinations) for row, _ in group]
    struck = run_together(keyctl, *(_prepared(row, case) for row, case in group))
    judge.wait_until_alone()
    with judge.together():
        outcomes = [
            _judge(judge, row, case, found, ended.result)
            for (row, case), found, ended in zip(group, before, struck, strict=True)
        ]
    for row, _ in group:
        row.repair()
    return outcomes


def _prepared(row: Row, case: Case) -> Command:
    fault = case.fault
    arguments = row.arguments(case.command, printed=case.printed)
    if fault.told is None:
        given = [fault.step, fault.number, fault.when, fault.action]
        return Command(arguments, [(MODULE, "strike", given)])
    destination = row.destinations[fault.number - 1]
    assert isinstance(destination, Stored)
    (destination.folder / "fault").write_text(f"{fault.told}\n" if destination.kind == "pipe-to" else fault.told)
    if fault.what != "no answer":
        return Command(arguments, struck=True)
    if destination.kind == "pipe-to":
        return Command([*arguments, "--pipe-timeout", "1"], struck=True)
    return Command(arguments, [(MODULE, "be_impatient", [])])


def _judge(judge: DeliveryJudge, row: Row, case: Case, before: Found, result: Result) -> str:
    faithless = row.destinations[case.fault.number - 1] if case.faithless else None
    try:
        # What struck, struck. But where nothing is written any more a disk can be full and nobody notices, and
        # a first transaction that cleans up after another process may fail.
        if case.fault.what == "kill":
            assert result.status == -signal.SIGKILL, result
        elif case.fault.what != "no space" and not (case.fault.step == "transaction" and before.unfinished):
            assert result.status == 7, result
        return judge.assert_unharmed(
            row.name, row.destinations, before, result, printed=case.printed, faithless=faithless
        )
    except AssertionError as error:
        error.add_note(f"{case}")
        raise


def _groups(items: Sequence[Any]) -> Iterator[Sequence[Any]]:
    for start in range(0, len(items), AT_ONCE):
        yield items[start : start + AT_ONCE]


# --- all of it --------------------------------------------------------------------------------------------------------


@contextmanager
def surroundings(database_url: str | None) -> Iterator[tuple[Keyctl, Path]]:
    """A home with a keyring, and a database: the one given, made empty, or a SQLite file."""
    folder = Path(tempfile.mkdtemp(prefix="keyctl-faults-"))
    fork_server = ForkServer()
    try:
        (folder / "home").mkdir()
        keyctl = Keyctl(fork_server, folder / "home", database_url or f"sqlite:///{folder / 'keys.db'}")
        use_keyring(keyctl, folder)
        assert keyctl.database_url is not None
        database = Database.connect(parse_address(keyctl.database_url), Limits())
        database.upgrade()
        database.close()
        yield keyctl, folder
    finally:
        fork_server.close()
        shutil.rmtree(folder)


def table(came: Outcomes) -> str:
    """Destinations × command, and how many of each fault ended in what."""
    columns = sorted({(what, outcome) for _, _, what, outcome in came})
    rows = sorted({(kinds, command) for kinds, command, _, _ in came})
    heads = [f"{what}: {outcome}" for what, outcome in columns]
    written = [["destinations", "command", *heads, "all"]]
    for kinds, command in rows:
        counts = [came[kinds, command, what, outcome] for what, outcome in columns]
        written.append([" + ".join(kinds), command, *map(str, counts), str(sum(counts))])
    sums = [sum(int(row[at]) for row in written[1:]) for at in range(2, len(heads) + 3)]
    written.append(["all", "", *map(str, sums)])
    return "\n".join(f"| {' | '.join(row)} |" for row in written)


def _summary(came: Outcomes) -> str:
    counts: Counter[str] = Counter()
    for (_, _, what, outcome), number in came.items():
        counts[f"{what}: {outcome}"] += number
    return ", ".join(f"{number} {what}" for what, number in sorted(counts.items()))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.support.strikes", description=__doc__)
    parser.add_argument("--stride", type=int, default=1, help="take every so many-th combination")
    parser.add_argument("--only", choices=("create", "rotate"), help="this command alone")
    parser.add_argument("--with", choices=KINDS, dest="kind", help="only where this destination is one of them")
    parser.add_argument("--without", choices=KINDS, help="only where this destination is none of them")
    parser.add_argument("--database-url", help="an empty PostgreSQL database; by default a SQLite file of its own")
    options = parser.parse_args()
    came: Outcomes = Counter()
    violations = 0
    with surroundings(options.database_url) as (keyctl, folder):
        assert keyctl.database_url is not None
        judge = DeliveryJudge(keyctl.database_url)
        for command in [options.only] if options.only else ["rotate", "create"]:
            for kinds in COMBINATIONS:
                if (options.kind and options.kind not in kinds) or options.without in kinds:
                    continue
                rows = matrix(folder, judge.kind, command=command, stride=options.stride, kinds=[kinds])
                try:
                    found = run_matrix(keyctl, judge, rows)
                    print(f"{command} {' + '.join(kinds)}: {_summary(found)}", flush=True)
                    came += found
                except AssertionError as error:  # the rest of these rows is left out
                    violations += 1
                    print("violation:", error, *getattr(error, "__notes__", ()), file=sys.stderr, flush=True)
        judge.close()
    print(table(came))
    print(f"{came.total()} combinations, violations: {violations}")
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
