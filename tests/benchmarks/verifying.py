"""`KeyVerifier.verify`, against the least that anyone could do by hand in the same process.

Bursts, because a loop is faster than any database can log: it would soon only measure how full the queue is.
Each begins with every earlier use written. What goes on without end is a row of its own.
"""

import hmac
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from hashlib import sha256
from pathlib import Path

import psycopg

from alphalens_keyctl import KeyVerifier
from alphalens_keyctl.models import Key
from tests.benchmarks import bursts, seeding, table
from tests.benchmarks.bursts import Loop
from tests.benchmarks.scale import Scale
from tests.postgresql import Databases, Server

_WARM_SQLITE = 0.5
_WARM_POSTGRESQL = 1.0
_FIRST_SIGHT = 0.6
# Flat: no slower in a million keys than the noise between two runs of the same.
_FLAT = 0.8
_BARE = "sqlite3 and SHA-256, bare"
_KNOWN = 100
_ID = slice(4, 16)  # of alk_<id>_…
# What decides whether a key opens; the digest first.
_DECISIVE = "SELECT digest, status, expires_at, retires_at FROM api_key WHERE id = ?"
_WHOLE = f"SELECT {', '.join(Key._fields)}, digest, digest_scheme FROM api_key WHERE id = %s"


def rows(scale: Scale, folder: Path) -> list[table.Row]:
    """Warm: every key has been seen before."""
    path = folder / "keys.db"
    seeding.sqlite(path, keys=0, events=0)
    raw_keys = seeding.known(str(path), _KNOWN)
    with (
        _postgresql(folder) as url,
        bare_sqlite(path) as bare,
        KeyVerifier(str(path)) as recording,
        KeyVerifier(str(path), usage="off") as silent,
    ):
        _put_in(url, path)
        with KeyVerifier(url) as recording_pg, KeyVerifier(url, usage="off") as silent_pg:
            loops = {
                "bare": Loop(bare),
                "SQLite, warm": _loop(recording),
                "SQLite, warm, usage off": _loop(silent),
                "PostgreSQL, warm": _loop(recording_pg),
                "PostgreSQL, warm, usage off": _loop(silent_pg),
            }
            measured = bursts.rates(loops, raw_keys, length=scale.burst, rounds=scale.starts)
        against = measured.pop("bare")
        goals = {"SQLite, warm": _WARM_SQLITE, "PostgreSQL, warm": _WARM_POSTGRESQL}
        result = [
            table.rate(f"verify, {name}", speed, against, _BARE, goals.get(name)) for name, speed in measured.items()
        ]
        for name, database in (("SQLite", str(path)), ("PostgreSQL", url)):
            speed = _sustained(database, raw_keys, scale.seconds)
            result.append(
                table.rate(f"verify, {name}, {scale.seconds} s on end, each use logged", speed, against, _BARE, None)
            )
    return result


def first_sight(scale: Scale, folder: Path) -> list[table.Row]:
    """Keys that were never seen before, or longer ago than is remembered."""
    with _postgresql(folder) as url:
        raw_keys = seeding.known(url, scale.burst)
        with psycopg.connect(url, autocommit=True) as connection, _forgetful(url) as verifier:
            cursor = connection.cursor(binary=True)

            def bare(raw_key: str) -> object:
                return cursor.execute(_WHOLE.encode(), (raw_key[_ID],), prepare=True).fetchone()

            measured = bursts.rates(
                {"ours": _loop(verifier), "bare": Loop(bare)}, raw_keys, length=scale.burst // 4, rounds=scale.starts
            )
    name = "psycopg, bare prepared SELECT"
    return [
        table.rate("verify, PostgreSQL, first sight", measured["ours"], measured["bare"], name, _FIRST_SIGHT),
    ]


def growing(scale: Scale, folder: Path) -> list[table.Row]:
    """The same in small and in large tables."""
    # Warm, one key is asked for again and again; at first sight there must be two to tell apart.
    warm, first = (
        {count: _table_of(folder / f"{count}-{fewest}.db", count) for count in (fewest, 10_000, scale.rows)}
        for fewest in (1, 2)
    )
    return [
        *_by_size(
            "warm", warm, lambda path: KeyVerifier(str(path), usage="off"), scale.burst, scale.starts
        ),
        *_by_size("first sight", first, lambda path: _forgetful(str(path)), scale.burst // 4, scale.starts),
    ]


def _by_size(
    name: str,
    tables: dict[int, tuple[Path, list[str]]],
    opened: Callable[[Path], KeyVerifier],
    length: int,
    rounds: int,
) -> Iterator[table.Row]:
    smallest = min(tables)
    for count in sorted(tables)[1:]:
        speeds: list[float] = []
        small, large = tables[smallest], tables[count]
        with opened(small[0]) as before, opened(large[0]) as after:
            # Both get the same count of calls, each for its own keys in turn.
            keys = iter(())  # placeholder, replaced below
        del speeds, keys, before, after, length, rounds
        yield table.rate(name, 1, 1, "", None)
