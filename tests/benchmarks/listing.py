"""`list --jsonl` of a million keys, against the program that comes with SQLite."""

import shutil
from collections.abc import Callable
from pathlib import Path

from alphalens_keyctl.keys.selection import KeyDocument
from tests.benchmarks import processes, seeding, table
from tests.benchmarks.processes import Cost
from tests.benchmarks.scale import Scale

_AT_LEAST = 0.4
_BELOW = 150_000_000
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
    return result


def command(database: str, options: str) -> tuple[str, ...]:
    return (*processes.PROGRAM, "--database", database, *options.split())
