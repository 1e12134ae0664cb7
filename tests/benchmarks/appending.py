"""What the chain costs those who write: as the log grows, among eight writers, and until a follower shows an event."""

import json
import multiprocessing
import select
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import IO, Final

from alphalens_keyctl.database import Database, Limits, parse_address
from alphalens_keyctl.logs import audit
from alphalens_keyctl.models import Action
from alphalens_keyctl.provenance import Act, Origin
from tests.benchmarks import bursts, processes, seeding, table
from tests.benchmarks.scale import Scale
from tests.services.postgresql import Databases, Server

_FLAT: Final = 0.8
_CHAINED: Final = 0.5
_SHOWN_WITHIN: Final = 0.2  # seconds
_EVENTS: Final = 300  # each writer's, and those of a burst
_WRITERS: Final = 8
_FOLLOWED: Final = 20
_PATIENCE: Final = 30.0
# The same columns and indexes, and nothing that looks at the row before.
_UNCHAINED: Final = "CREATE TABLE unchained (LIKE audit_event INCLUDING INDEXES)"
_INSERT: Final = (
    "INSERT INTO unchained VALUES (%(seq)s, now(), 'ops', 'usage.prune', NULL, NULL, '{}', %(hash)s, %(hash)s)"
)


def rows(scale: Scale, folder: Path) -> Iterator[table.Row]:
    sizes = {"empty": 0, "grown": scale.rows}
    urls = {name: f"sqlite:///{folder / f'{name}.db'}" for name in sizes}
    for name, events in sizes.items():
        seeding.sqlite(folder / f"{name}.db", keys=0, events=events)
    yield _grown("SQLite", scale, urls)
    server = Server()
    try:
        databases = Databases(server.url)
        urls = {name: databases.create() for name in (*sizes, "written", "followed")}
        for name, url in urls.items():
            seeding.postgresql(url, folder, keys=0, events=sizes.get(name, 0))
        yield _grown("PostgreSQL", scale, {name: urls[name] for name in sizes})
        yield _among_writers(urls["written"])
        yield _followed("PostgreSQL", urls["followed"], folder)
    finally:
        server.close()
    (folder / "followed").mkdir()
    seeding.sqlite(folder / "followed" / "keys.db", keys=0, events=0)
    yield _followed("SQLite", f"sqlite:///{folder / 'followed' / 'keys.db'}", folder)


def _grown(kind: str, scale: Scale, urls: Mapping[str, str]) -> table.Row:
    opened = {name: Database.open(parse_address(url), Limits()) for name, url in urls.items()}
    loops = {name: bursts.Loop(partial(_append, database), ["x"]) for name, database in opened.items()}
    found = bursts.rates(loops, length=_EVENTS, rounds=scale.rounds + 2)
    for database in opened.values():
        database.close()
    return table.rate(
        f"an event behind {scale.rows:,} others, {kind}", found["grown"], found["empty"], "in an empty log", _FLAT
    )


def _append(database: Database, note: str) -> None:
    act = Act(datetime.now(UTC), "ops", Origin("host", "user", None, None))
    with database.writing() as tx:
        audit.append(tx, act, Action.PRUNE_USAGE, key_id=None, key_name=None, note=note)


def _among_writers(url: str) -> table.Row:
    database = Database.open(parse_address(url), Limits())
    with database.recording() as tx:
        tx.exec_driver_sql(_UNCHAINED)
    database.close()
    chained, bare = _together(_write_chained, url), _together(_write_unchained, url)
    return table.rate(
        f"{_WRITERS} writers of events at once, PostgreSQL", chained, bare, "the same without a chain", _CHAINED
    )


def _together(write: Callable[[Database, int], None], url: str) -> float:
    """Events a second of all writers, each a process, from when all are ready."""
    context = multiprocessing.get_context("spawn")
    ready = context.Barrier(_WRITERS + 1)
    writers = [context.Process(target=_run, args=(write, url, number, ready)) for number in range(_WRITERS)]
    for writer in writers:
        writer.start()
    ready.wait(_PATIENCE)
    begin = time.perf_counter()
    for writer in writers:
        writer.join()
    took = time.perf_counter() - begin
    assert all(writer.exitcode == 0 for writer in writers)
    return _WRITERS * _EVENTS / took


def _run(write: Callable[[Database, int], None], url: str, number: int, ready: Barrier) -> None:
    database = Database.open(parse_address(url), Limits(lock_timeout=_PATIENCE))
    with database.reading() as connection:
        audit.head(connection)  # a session is open, and the statement compiled
    ready.wait(_PATIENCE)
    for at in range(_EVENTS):
        write(database, number * _EVENTS + at)
    database.close()


def _write_chained(database: Database, number: int) -> None:
    _append(database, str(number))


def _write_unchained(database: Database, number: int) -> None:
    with database.recording() as tx:
        tx.exec_driver_sql(_INSERT, {"seq": number + 1, "hash": number.to_bytes(32)})


def _followed(kind: str, url: str, folder: Path) -> table.Row:
    database = Database.open(parse_address(url), Limits())
    took = []
    with _following(url, folder) as shown:
        for number in range(-1, _FOLLOWED):
            begin = time.perf_counter()
            _append(database, str(number))
            committed = time.perf_counter()
            assert select.select([shown], [], [], _PATIENCE)[0], "the follower shows nothing"
            assert json.loads(shown.readline())["detail"]["note"] == str(number)
            if number >= 0:  # the first one may wait for the follower to start
                took.append(max(time.perf_counter() - committed, 0.0))
            time.sleep(max(0.0, 0.3 - (time.perf_counter() - begin)))
    database.close()
    return table.duration(
        f"audit --follow, {kind}: an event is shown", statistics.median(took), _SHOWN_WITHIN, "the bound", 1
    )


@contextmanager
def _following(url: str, folder: Path) -> Iterator[IO[bytes]]:
    command = [*processes.PROGRAM, "--database", url, "audit", "--follow", "--jsonl"]
    process = subprocess.Popen(command, env=processes.environment(folder), stdout=subprocess.PIPE, bufsize=0)
    assert process.stdout is not None
    try:
        yield process.stdout
    finally:
        process.terminate()
        process.wait(_PATIENCE)
        process.stdout.close()
