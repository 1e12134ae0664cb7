"""`list --jsonl` of a million keys, against SQLite's own program; `list` on a terminal, against `list --csv`."""

import fcntl
import os
import shutil
import struct
import termios
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Thread

from alphalens_keyctl.keys.selection import KeyDocument
from tests.benchmarks import processes, seeding, table
from tests.benchmarks.processes import Cost
from tests.benchmarks.scale import Scale

_AT_LEAST = 0.4
_BELOW = 150_000_000
_ON_TERMINAL = 20_000  # rows
_AT_MOST = 3.0
_COLUMNS = ", ".join(KeyDocument._fields)


def rows(scale: Scale, folder: Path) -> list[table.Row]:
    env = processes.environment(folder)
    path = folder / "keys.db"
    seeding.sqlite(path, keys=scale.rows, events=0)
    ours = {options: command(str(path), options) for options in ("list --jsonl", "list --all --jsonl")}
    printed = {options: processes.lines_of(ours[options], env) for options in ours}
    sqlite3 = shutil.which("sqlite3")
    measures: dict[str, Callable[[int], Cost]] = {
        options: lambda _round, argv=argv: processes.run(argv, env)  # type: ignore[misc]
        for options, argv in ours.items()
    }
    if sqlite3 is not None:
        bare = (sqlite3, "-json", str(path), f"SELECT {_COLUMNS} FROM api_key")
        measures["sqlite3"] = lambda _round: processes.run(bare, env)
    costs = processes.in_turn(measures, scale.rounds)
    against = scale.rows / costs["sqlite3"].seconds if sqlite3 is not None else None
    name = "sqlite3 -json" if sqlite3 is not None else "sqlite3 is not installed"
    result = []
    for options in ours:
        cost, count = costs[options], printed[options]
        result.append(
            table.rate(f"{options}, {count:,} keys", count / cost.seconds, against, name, scale.goal(_AT_LEAST))
        )
        result.append(table.memory(f"{options}, peak memory", cost.peak, _BELOW))
    return [*result, on_terminal(scale, folder)]


def on_terminal(scale: Scale, folder: Path) -> table.Row:
    env = processes.environment(folder) | {"TERM": "xterm-256color"}
    path = folder / "terminal.db"
    seeding.sqlite(path, keys=_ON_TERMINAL, events=0)
    drawn, csv = (command(str(path), f"list --all --limit {_ON_TERMINAL}{form}") for form in ("", " --csv"))
    costs = processes.in_turn(
        {"drawn": lambda _round: _drawn(drawn, env), "csv": lambda _round: processes.run(csv, env)}, scale.rounds
    )
    what = f"list, {_ON_TERMINAL:,} rows on a terminal"
    return table.duration(what, costs["drawn"].seconds, costs["csv"].seconds, "list --csv", _AT_MOST)


def _drawn(argv: tuple[str, ...], env: dict[str, str]) -> Cost:
    """Run a command whose stdout is a terminal of 120 columns, which is read as fast as it is written."""
    terminal, stdout = os.openpty()
    fcntl.ioctl(stdout, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 120, 0, 0))
    reader = Thread(target=_read_to_the_end, args=(terminal,))
    reader.start()
    try:
        return processes.run(argv, env, stdout=stdout)
    finally:
        os.close(stdout)
        reader.join()
        os.close(terminal)


def _read_to_the_end(terminal: int) -> None:
    with suppress(OSError):  # EIO: nobody has the other end any more
        while os.read(terminal, 1 << 16):
            pass


def command(database: str, options: str) -> tuple[str, ...]:
    return (*processes.PROGRAM, "--database", database, *options.split())
