"""`serve-api`, GET of one key, against a bare FastAPI route that runs the same SELECT; and the command line over it.

The bare route has no keys to check, no rights to ask for and no uses to record: what is compared is what all of that
costs. A key over HTTP is the document of `show`: the key, its lineage and its use.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

from tests.benchmarks import processes, seeding, serving, table
from tests.benchmarks.processes import Cost
from tests.benchmarks.scale import Scale
from tests.services.postgresql import Databases, Server

_AT_LEAST = 0.5
_START_AT_MOST = 1.0
_LISTED = 100_000
_CONNECTIONS = 8
_BARE = "FastAPI, the same SELECT"
# The options with which `serve-api` runs uvicorn, over an engine as SQLAlchemy makes one.
_ROUTE = """
import sys
import uvicorn
from fastapi import FastAPI
from sqlalchemy import create_engine
from alphalens_keyctl.keys.selection import key_of_id
from alphalens_keyctl.moments import utc_now

engine, app, select = create_engine(sys.argv[1]), FastAPI(), key_of_id()

@app.get("/v1/keys/{key}")
def one(key: str):
    with engine.connect() as connection:
        return dict(connection.execute(select, {"now": utc_now(), "key_id": key}).mappings().one())

uvicorn.run(app, port=int(sys.argv[2]), http="httptools", ws="none", log_level="critical", access_log=False,
            proxy_headers=False, server_header=False, timeout_keep_alive=75)
"""


class _Speed(NamedTuple):
    """Requests a second, and a second of the server's processor."""

    by_clock: float
    by_processor: float


def rows(scale: Scale, folder: Path) -> list[table.Row]:
    what = "serve-api, GET of one key"
    if serving.found("wrk") is None:
        return [table.missing(what, "wrk: not installed", _AT_LEAST)]
    path = folder / "keys.db"
    seeding.sqlite(path, keys=_LISTED, events=0)
    result = _one_key(f"{what}, SQLite", str(path), f"sqlite:///{path}", folder, scale)
    result += _command_line(str(path), folder, scale)
    server = Server()
    try:
        url = Databases(server.url).create()
        seeding.postgresql(url, folder, keys=0, events=0)
        sqlalchemys = url.replace("postgresql:", "postgresql+psycopg:", 1)
        result += _one_key(f"{what}, PostgreSQL", url, sqlalchemys, folder, scale)
    finally:
        server.close()
    return result


def _one_key(what: str, database: str, sqlalchemys: str, folder: Path, scale: Scale) -> list[table.Row]:
    (raw_key,) = seeding.known(1, database)
    (admin,) = seeding.known(1, database, name="admin", scopes='["keyctl:admin"]')
    path = f"/v1/keys/{raw_key[4:16]}"
    env = processes.environment(folder)
    ours = (*processes.PROGRAM, "--quiet", "--database", database, "serve-api")
    speeds: dict[str, list[_Speed]] = {"ours": [], "bare": []}
    with (
        serving.running(lambda port: (*ours, "--port", str(port)), env) as ours_at,
        serving.running(lambda port: (*processes.python(_ROUTE), sqlalchemys, str(port)), env) as bare_at,
    ):
        for number in range(scale.rounds + 1):
            for name, at in (("ours", ours_at), ("bare", bare_at)):
                speed = _load(at, path, admin, scale.seconds if number else 1)
                if number:
                    speeds[name].append(speed)
    by_clock = {name: median(speed.by_clock for speed in got) for name, got in speeds.items()}
    by_processor = {name: median(speed.by_processor for speed in got) for name, got in speeds.items()}
    return [
        table.rate(what, by_clock["ours"], by_clock["bare"], _BARE, _AT_LEAST),
        table.rate(
            f"{what}, a second of the server's processor", by_processor["ours"], by_processor["bare"], _BARE, _AT_LEAST
        ),
    ]


def _command_line(database: str, folder: Path, scale: Scale) -> list[table.Row]:
    """The same commands over the server and on the database."""
    (admin,) = seeding.known(1, database, name="caller", scopes='["keyctl:admin"]')
    env = processes.environment(folder)
    key_file = folder / "caller.key"
    key_file.write_text(admin)
    key_file.chmod(0o600)
    ours = (*processes.PROGRAM, "--quiet", "--database", database, "serve-api")
    with serving.running(lambda port: (*ours, "--port", str(port)), env) as at:
        ways = {
            "remote": (*processes.PROGRAM, "--server", f"http://127.0.0.1:{at.port}", "--api-key-file", str(key_file)),
            "local": (*processes.PROGRAM, "--database", database),
        }
        listed = _in_turn(ways, ("list", "--all", "--jsonl"), env, scale.rounds)
        started = _in_turn(ways, ("show", "caller-0", "--json"), env, scale.starts)
    return [
        table.rate(
            f"list --all --jsonl over serve-api, {_LISTED:,} keys",
            _LISTED / listed["remote"].seconds, _LISTED / listed["local"].seconds,
            "the same on the database", _AT_LEAST,
        ),
        table.duration(
            "show --json over serve-api", started["remote"].seconds, started["local"].seconds,
            "the same on the database", _START_AT_MOST,
        ),
    ]  # fmt: skip


def _in_turn(
    ways: Mapping[str, Sequence[str]], command: Sequence[str], env: Mapping[str, str], rounds: int
) -> dict[str, Cost]:
    measures: dict[str, Callable[[int], Cost]] = {
        name: lambda _round, way=way: processes.run((*way, *command), env)  # type: ignore[misc]
        for name, way in ways.items()
    }
    return processes.in_turn(measures, rounds)


def _load(server: serving.Running, path: str, raw_key: str, seconds: int) -> _Speed:
    before = server.processor_seconds()
    by_clock = serving.load(server.port, raw_key, seconds, path=path, connections=_CONNECTIONS)
    used = server.processor_seconds() - before
    return _Speed(by_clock, by_clock * seconds / used)
