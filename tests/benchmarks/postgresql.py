"""The long commands on PostgreSQL, for information: they have no goal of their own."""

import shutil
from collections.abc import Callable
from pathlib import Path

from alphalens_keyctl.keys.selection import KeyDocument
from tests.benchmarks import auditing, listing, processes, seeding, table
from tests.benchmarks.processes import Cost
from tests.benchmarks.scale import Scale
from tests.services.postgresql import Databases, Server

_COPY = f"COPY (SELECT {', '.join(KeyDocument._fields)} FROM api_key) TO STDOUT"


def rows(scale: Scale, folder: Path) -> list[table.Row]:
    server = Server()
    try:
        url = Databases(server.url).create()
        seeding.postgresql(url, folder, keys=scale.rows, events=scale.rows)
        return _measured(scale, url, processes.environment(folder))
    finally:
        server.close()


def _measured(scale: Scale, url: str, env: dict[str, str]) -> list[table.Row]:
    list_, verify = listing.command(url, "list --all --jsonl"), auditing.command(url, "--log-only")
    measures: dict[str, Callable[[int], Cost]] = {
        "list": lambda _round: processes.run(list_, env),
        "verify": lambda _round: processes.run(verify, env),
    }
    psql = shutil.which("psql")
    if psql is not None:
        copying = (psql, "--no-psqlrc", "--quiet", "--command", _COPY, url)
        measures["psql"] = lambda _round: processes.run(copying, env)
    costs = processes.in_turn(measures, scale.rounds)
    against = scale.rows / costs["psql"].seconds if psql is not None else None
    name = "psql, COPY of the same columns" if psql is not None else "psql is not installed"
    return [
        table.rate(
            f"PostgreSQL: list --all --jsonl, {scale.rows:,} keys",
            scale.rows / costs["list"].seconds,
            against,
            name,
            None,
        ),
        table.memory("PostgreSQL: list --all --jsonl, peak memory", costs["list"].peak, None),
        table.rate(
            f"PostgreSQL: audit verify, {scale.rows:,} events", scale.rows / costs["verify"].seconds, None, "", None
        ),
        table.memory("PostgreSQL: audit verify, peak memory", costs["verify"].peak, None),
    ]
