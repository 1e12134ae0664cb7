"""What admins do to a fleet, at 10,000, 100,000 and 1,000,000 keys, on both databases: does it grow with the table?"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.benchmarks import processes, seeding, table
from tests.benchmarks.processes import Cost
from tests.benchmarks.scale import Scale
from tests.services.postgresql import Databases, Server

_SMALLEST = 10_000
_STEP = 10
# Commands that select a few keys: from step to step they may take so much longer, which is noise and the depth
# of an index.
_FLAT = 1.5
_AT_LEAST = 0.5
_FEW = 10
_FOUND = 5  # what `audit check` ends with
# The same events once more, in a database of the same schema, by nothing but the driver.
_BARE = """
import sqlite3, sys, time
columns = "seq, at, actor, action, key_id, key_name, detail, previous_hash, hash"
rows = sqlite3.connect(sys.argv[1]).execute(
    f"SELECT {columns} FROM audit_event WHERE action = 'key.revoke' ORDER BY seq").fetchall()
target = sqlite3.connect(sys.argv[2], isolation_level=None)
target.execute("PRAGMA foreign_keys = ON")
begin = time.perf_counter()
target.execute("DROP TRIGGER audit_event_next_link")  # they follow nothing there
target.execute("BEGIN IMMEDIATE")
target.executemany(f"INSERT INTO audit_event ({columns}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
target.execute("COMMIT")
print(len(rows) / (time.perf_counter() - begin))
"""


class Command(NamedTuple):
    """What is run, and whether it selects a few keys whatever the size of the table."""

    arguments: str
    few: bool


COMMANDS = (
    Command("list", few=False),
    Command("list --jsonl", few=False),
    Command("list --owner few@example.com --jsonl", few=True),
    Command("list --label fleet=few --jsonl", few=True),
    Command("list --name known-* --jsonl", few=True),
    Command("show known-1", few=True),
    Command("revoke --owner few@example.com --unused-for 1m --dry-run --yes", few=True),
    Command("revoke --unused-for 400d --max 1000000 --in-use --dry-run --yes", few=False),
    Command("audit --key service-8", few=True),
    Command("audit check --json", few=False),
)
_FOR_REAL = "--quiet revoke --unused-for 400d --max 1000000 --in-use --yes"


def rows(scale: Scale, folder: Path) -> Iterator[table.Row]:
    env = processes.environment(folder)
    sizes = [size for size in (_SMALLEST * _STEP**step for step in range(3)) if size <= scale.rows]
    server = Server()
    try:
        databases = Databases(server.url)
        for kind in ("SQLite", "PostgreSQL"):
            before: dict[str, Cost] = {}
            for size in sizes:
                if kind == "SQLite":
                    database = str(folder / f"{size}.db")
                    seeding.sqlite(Path(database), keys=size, events=size)
                else:
                    database = databases.create()
                    seeding.postgresql(database, folder, keys=size, events=size)
                _add_few(database)
                yield from _measured(kind, size, database, scale, env, before)
                yield _for_real(kind, size, _copy(database, databases), env, before)
    finally:
        server.close()
    yield _revoked(folder, sizes[-1], env, scale)


def _measured(
    kind: str, size: int, database: str, scale: Scale, env: dict[str, str], before: dict[str, Cost]
) -> Iterator[table.Row]:
    program = (*processes.PROGRAM, "--database", database)
    costs = processes.in_turn(
        {
            command.arguments: lambda _round, command=command: processes.run(  # type: ignore[misc]
                (*program, *command.arguments.split()), env, also=_FOUND
            )
            for command in COMMANDS
        },
        scale.rounds,
    )
    for command in COMMANDS:
        cost = costs[command.arguments]
        what = f"{kind}, {size:,} keys: {command.arguments}"
        yield table.growth(what, cost.seconds, cost.peak, before.get(command.arguments), _FLAT if command.few else None)
        before[command.arguments] = cost


def _for_real(kind: str, size: int, database: str, env: dict[str, str], before: dict[str, Cost]) -> table.Row:
    """Once: what is revoked stays revoked. The others have warmed the program up."""
    os.sync()
    cost = processes.run((*processes.PROGRAM, "--database", database, *_FOR_REAL.split()), env)
    row = table.growth(f"{kind}, {size:,} keys: {_FOR_REAL}", cost.seconds, cost.peak, before.get(_FOR_REAL), None)
    before[_FOR_REAL] = cost
    return row


def _copy(database: str, databases: Databases) -> str:
    """The same keys once more, to be changed."""
    if database.startswith("postgresql:"):
        return databases.create(template=database.rpartition("/")[2])
    copy = f"{database}-copy"
    shutil.copyfile(database, copy)
    return copy


def _add_few(database: str) -> None:
    """Ten keys that the filters above find."""
    seeding.known(_FEW, database, owner="few@example.com", labels='{"fleet": "few"}')


def _revoked(folder: Path, size: int, env: dict[str, str], scale: Scale) -> table.Row:
    """For real, an event for each key, against writing the same events without anything else."""
    source, target = folder / f"{size}.db", folder / "bare.db"
    subprocess.run((*processes.PROGRAM, "--database", str(target), "db", "upgrade"), env=env, check=True)
    revoke = ("revoke", "--name", "*", "--max", "2000000", "--in-use", "--yes")
    said = processes.lines_of((*processes.PROGRAM, "--database", str(source), "list", "--jsonl"), env)
    os.sync()  # hundreds of megabytes were made, and neither of the two shall wait for them
    cost = processes.run((*processes.PROGRAM, "--quiet", "--database", str(source), *revoke), env)
    os.sync()
    bare = float(processes.output((*processes.python(_BARE), str(source), str(target)), env))
    what = f"revoke --name '*', {said:,} keys, peak {cost.peak / 1e6:.0f} MB"
    return table.rate(what, said / cost.seconds, bare, "executemany of the same events", scale.goal(_AT_LEAST))
