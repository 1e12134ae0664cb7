"""`KeyVerifier.verify`, against the least that anyone could do by hand in the same process.

Bursts, because a loop is faster than any database can log: it would soon measure only how full the queue is.
No other begins before every use of one is written. What can go on without end is a row of its own.
"""

import hmac
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import psycopg

from alphalens_keyctl import KeyVerifier
from tests.benchmarks import bursts, seeding, table
from tests.benchmarks.bursts import Loop
from tests.benchmarks.scale import Scale
from tests.services.postgresql import Databases, Server

_WARM_SQLITE = 0.5
_WARM_POSTGRESQL = 1.0
_FIRST_SIGHT = 0.6
_WITH_SCOPE = 0.97
_SCOPE = "prices:read"
# Flat, give or take what two runs of the same differ by.
_FLAT = 0.8
_BARE = "sqlite3 and SHA-256, bare"
_KNOWN = 100
_ID = slice(4, 16)  # of alk_<id>_…
# What decides whether a key opens; the digest first.
_DECISIVE = "SELECT digest, status, expires_at, retires_at FROM api_key WHERE id = ?"


def rows(scale: Scale, folder: Path) -> list[table.Row]:
    """Warm: every key has been seen before."""
    path = str(folder / "keys.db")
    seeding.sqlite(Path(path), keys=0, events=0)
    with _postgresql(folder) as url:
        raw_keys = seeding.known(_KNOWN, path, url)
        measured = _warm(path, url, raw_keys, scale)
        against = measured.pop("bare")
        goals = {"SQLite, warm": _WARM_SQLITE, "PostgreSQL, warm": _WARM_POSTGRESQL}
        result = [
            table.rate(f"verify, {name}", speed, against, _BARE, goals.get(name)) for name, speed in measured.items()
        ]
        for name, database in (("SQLite", path), ("PostgreSQL", url)):
            speed = _sustained(database, raw_keys, scale.seconds)
            what = f"verify, {name}, warm, {scale.seconds} s on end, every use written"
            result.append(table.rate(what, speed, against, _BARE, None))
    return result


def warm_on_sqlite(path: str, raw_keys: list[str], scale: Scale) -> float:
    """Verifications a second, recorded: what others are compared with."""
    with KeyVerifier(path) as verifier:
        return bursts.rates({"": _loop(verifier, raw_keys)}, length=scale.burst, rounds=scale.starts)[""]


def scoped(scale: Scale, folder: Path) -> list[table.Row]:
    """Warm, with a scope asked for: what that adds."""
    path = str(folder / "keys.db")
    seeding.sqlite(Path(path), keys=0, events=0)
    plain = seeding.known(_KNOWN, path)
    restricted = seeding.known(_KNOWN, path, name="restricted", scopes=f'["{_SCOPE}"]')
    with KeyVerifier(path) as verifier:
        loops = {
            "none asked": _loop(verifier, plain),
            "a key without scopes": _loop(verifier, plain, scope=_SCOPE),
            "a key with scopes": _loop(verifier, restricted, scope=_SCOPE),
        }
        speeds = bursts.rates(loops, length=scale.burst, rounds=scale.starts)
    against = speeds.pop("none asked")
    goals = {"a key without scopes": _WITH_SCOPE}
    return [
        table.rate(f"verify, SQLite, warm, a scope asked of {name}", speed, against, "no scope asked", goals.get(name))
        for name, speed in speeds.items()
    ]


def first_sight(scale: Scale, folder: Path) -> list[table.Row]:
    """Keys that were never seen before, or longer ago than is remembered."""
    from alphalens_keyctl.verification.source import COLUMNS

    select = f"SELECT {COLUMNS['postgresql']} FROM api_key WHERE id = %s".encode()
    with _postgresql(folder) as url:
        raw_keys = seeding.known(scale.burst, url)
        with psycopg.connect(url, autocommit=True) as connection, _forgetful(url) as verifier:
            cursor = connection.cursor(binary=True)

            def bare(raw_key: str) -> None:
                if cursor.execute(select, (raw_key[_ID],), prepare=True).fetchone() is None:
                    raise RuntimeError("a key is missing")

            loops = {"ours": _loop(verifier, raw_keys), "bare": Loop(bare, raw_keys)}
            speed = bursts.rates(loops, length=scale.burst // 4, rounds=scale.starts)
    name = "psycopg, bare prepared SELECT"
    return [table.rate("verify, PostgreSQL, first sight, usage off", speed["ours"], speed["bare"], name, _FIRST_SIGHT)]


class _Table(NamedTuple):
    path: str
    raw_keys: list[str]


def growing(scale: Scale, folder: Path) -> list[table.Row]:
    """The same in small and in large tables."""
    large = {count: _table(folder, count) for count in (10_000, scale.rows)}
    # Who is asked for one key only has always seen it: at first sight there must be two to tell apart.
    return [
        *_by_size("warm", {1: _table(folder, 1)} | large, _silent, scale.burst, scale),
        *_by_size("first sight", {2: _table(folder, 2)} | large, _forgetful, scale.burst // 4, scale),
    ]


def _by_size(
    how: str, tables: dict[int, _Table], opened: Callable[[str], KeyVerifier], length: int, scale: Scale
) -> list[table.Row]:
    verifiers = {count: opened(one.path) for count, one in tables.items()}
    loops = {str(count): _loop(verifiers[count], one.raw_keys) for count, one in tables.items()}
    speeds = bursts.rates(loops, length=length, rounds=scale.starts)
    for verifier in verifiers.values():
        verifier.close()
    smallest, *others = tables
    name = f"the same of {smallest}"
    return [
        table.rate(
            f"verify, SQLite, {how}, usage off, {count:,} keys", speeds[str(count)], speeds[str(smallest)], name, _FLAT
        )
        for count in others
    ]


def _table(folder: Path, count: int) -> _Table:
    path = folder / f"{count}.db"
    known = min(count, _KNOWN)
    seeding.sqlite(path, keys=count - known, events=0)
    return _Table(str(path), seeding.known(known, str(path)))


def _warm(path: str, url: str, raw_keys: list[str], scale: Scale) -> dict[str, float]:
    with (
        closing(sqlite3.connect(path)) as connection,
        KeyVerifier(path) as on_sqlite,
        _silent(path) as on_sqlite_silent,
        KeyVerifier(url) as on_postgresql,
        _silent(url) as on_postgresql_silent,
    ):

        def bare(raw_key: str) -> None:
            digest = connection.execute(_DECISIVE, (raw_key[_ID],)).fetchone()[0]
            if not hmac.compare_digest(digest, sha256(raw_key.encode()).digest()):
                raise RuntimeError("a good key is refused")

        loops = {
            "bare": Loop(bare, raw_keys),
            "SQLite, warm": _loop(on_sqlite, raw_keys),
            "SQLite, warm, usage off": _loop(on_sqlite_silent, raw_keys),
            "PostgreSQL, warm": _loop(on_postgresql, raw_keys),
            "PostgreSQL, warm, usage off": _loop(on_postgresql_silent, raw_keys),
        }
        return bursts.rates(loops, length=scale.burst, rounds=scale.starts)


def _sustained(database: str, raw_keys: list[str], seconds: int) -> float:
    """Verifications a second that were allowed, and written by the end of the time that is counted."""
    allowed, begin = 0, time.perf_counter()
    with KeyVerifier(database) as verifier:
        while time.perf_counter() < begin + seconds:
            for raw_key in raw_keys:
                if verifier.verify(raw_key, client_ip="192.0.2.7", method="GET", path="/v1/prices"):
                    allowed += 1
                else:
                    time.sleep(0.001)  # as many wait to be written as may
    return allowed / (time.perf_counter() - begin)


def _loop(verifier: KeyVerifier, raw_keys: list[str], scope: str | None = None) -> Loop:
    def once(raw_key: str) -> None:
        if not verifier.verify(raw_key, scope=scope, client_ip="192.0.2.7", method="GET", path="/v1/prices"):
            raise RuntimeError("a good key is refused")

    return Loop(once, raw_keys, verifier.flush)


def _silent(database: str) -> KeyVerifier:
    return KeyVerifier(database, usage="off")


def _forgetful(database: str) -> KeyVerifier:
    """Remembers no key but the last: each of several in turn is seen for the first time."""
    return KeyVerifier(database, usage="off", cache_size=1)


@contextmanager
def _postgresql(folder: Path) -> Iterator[str]:
    server = Server()
    try:
        url = Databases(server.url).create()
        seeding.postgresql(url, folder, keys=0, events=0)
        yield url
    finally:
        server.close()
