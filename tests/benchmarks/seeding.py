"""Databases of many keys and events, as years of use would leave them: written in bulk, valid row by row.

The program makes the database; every constraint and trigger is in force while it is filled. Keys stand in the
order in which they were created, as they do in a database that grew.
"""

import hashlib
import json
import multiprocessing
import random
import sqlite3
import subprocess
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg

from alphalens_keyctl.database import Database, Limits, parse_address
from alphalens_keyctl.keyformat import ALPHABET, DIGEST_SCHEME, ID_LENGTH, generate
from alphalens_keyctl.logs import audit
from alphalens_keyctl.models import Action
from alphalens_keyctl.provenance import Act, Origin
from tests.benchmarks import processes

Value = str | int | bytes | None
Rows = Iterable[tuple[Value, ...]]

KEY_COLUMNS = (
    "id", "name", "name_folded", "owner", "purpose", "labels", "created_at", "created_by", "activated_at",
    "expires_at", "retires_at", "suspended_at", "last_used_at", "use_count", "revoked_at", "revoked_by",
    "revoke_reason", "replaces", "digest", "digest_scheme",
)  # fmt: skip
EVENT_COLUMNS = ("seq", "at", "actor", "action", "key_id", "key_name", "detail", "previous_hash", "hash")

# A key and its successor name each other: the older one is told when the younger is there. Deferring the check
# instead would make SQLite look for children of every row that comes, through the whole table.
_LINK = (
    "UPDATE api_key SET replaced_by = successor.id FROM api_key AS successor"
    " WHERE successor.replaces = api_key.id AND successor.revoked_at IS NULL"
)
_YEARS = timedelta(days=3 * 365)
_BOUND_AT_ONCE = 5000
# Of twenty keys in a row: two that were rotated, each followed by its successor, and one each of these.
_ROTATED, _RETIRING, _REVOKED, _EXPIRED, _SUSPENDED = 0, 2, 4, 5, 6


def sqlite(path: Path, *, keys: int, events: int) -> None:
    """A new SQLite file. Filled in a process of its own, whose memory is then not in any measurement."""
    _made_by_the_program(str(path), path.parent)
    _elsewhere(_fill_sqlite, str(path), keys, events)


def postgresql(url: str, folder: Path, *, keys: int, events: int) -> None:
    """The same in an empty PostgreSQL database."""
    _made_by_the_program(url, folder)
    _elsewhere(_fill_postgresql, url, keys, events)


def bind(path: Path) -> None:
    """Add the event to each key of a SQLite file that binds its row, as `db upgrade` does."""
    _elsewhere(_bind, str(path))


def _bind(path: str) -> None:
    database = Database.open(parse_address(f"sqlite:///{path}"), Limits())
    act = Act(datetime.now(UTC), "benchmark", Origin("host", "user", None, None))
    with database.writing() as tx:
        keys: list[tuple[str, str, dict[str, object]]] = [
            (key_id, name, {}) for key_id, name in tx.exec_driver_sql("SELECT id, name FROM api_key").all()
        ]
        for start in range(0, len(keys), _BOUND_AT_ONCE):
            audit.append_each(tx, act, Action.BIND, keys[start : start + _BOUND_AT_ONCE])
    database.close()


def known(
    count: int,
    *databases: str,
    owner: str = "team-1@example.com",
    labels: str = '{"env": "prod"}',
    name: str = "known",
    scopes: str | None = None,
) -> list[str]:
    """Adds the same active keys to each database, a SQLite file or a PostgreSQL URL; returns the raw keys."""
    raw_keys = [generate() for _ in range(count)]
    columns = (
        "id", "name", "name_folded", "owner", "labels", "created_at", "created_by", "activated_at", "use_count",
        "digest", "digest_scheme", "scopes",
    )  # fmt: skip
    at = _stored(datetime.now(UTC) - timedelta(days=1))
    rows: list[tuple[Value, ...]] = [
        (
            key.id, f"{name}-{number}", f"{name}-{number}", owner, labels, at,
            "admin@example.com", at, 0, key.digest(), DIGEST_SCHEME, scopes,
        )
        for number, key in enumerate(raw_keys)
    ]  # fmt: skip
    for database in databases:
        if database.startswith("postgresql:"):
            with psycopg.connect(database, autocommit=True) as connection:
                connection.execute("SET TimeZone = 'UTC'")
                _copy(connection, "api_key", columns, rows)
                connection.execute("VACUUM ANALYZE api_key")
        else:
            with closing(sqlite3.connect(database)) as file, file:
                _insert(file, "api_key", columns, rows)
    return [key.reveal() for key in raw_keys]


def _made_by_the_program(database: str, folder: Path) -> None:
    command = [*processes.PROGRAM, "--database", database, "db", "upgrade"]
    subprocess.run(command, env=processes.environment(folder), stdout=subprocess.DEVNULL, check=True)


def _elsewhere(fill: Callable[..., None], *arguments: object) -> None:
    process = multiprocessing.get_context("spawn").Process(target=fill, args=arguments)
    process.start()
    process.join()
    if process.exitcode != 0:
        raise RuntimeError("the database could not be filled")


def _fill_sqlite(path: str, keys: int, events: int) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for pragma in ("synchronous = OFF", "cache_size = -300000", "foreign_keys = ON"):
            connection.execute(f"PRAGMA {pragma}")
        connection.execute("BEGIN IMMEDIATE")
        for table, columns, rows in _tables(keys, events):
            _insert(connection, table, columns, rows)
        connection.execute(_LINK)
        connection.execute("COMMIT")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _fill_postgresql(url: str, keys: int, events: int) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        for table, columns, rows in _tables(keys, events):
            _copy(connection, table, columns, rows)
        connection.execute(_LINK)
        for table in ("api_key", "audit_event"):
            connection.execute(f"VACUUM ANALYZE {table}".encode())


def _insert(connection: sqlite3.Connection, table: str, columns: tuple[str, ...], rows: Rows) -> None:
    marks = ", ".join("?" * len(columns))
    connection.executemany(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})", rows)


def _copy(connection: "psycopg.Connection[Any]", table: str, columns: tuple[str, ...], rows: Rows) -> None:
    copying = f"COPY {table} ({', '.join(columns)}) FROM STDIN"
    with connection.cursor() as cursor, cursor.copy(copying.encode()) as copy:
        for row in rows:
            copy.write_row(row)


def _tables(keys: int, events: int) -> Iterator[tuple[str, tuple[str, ...], Rows]]:
    now = datetime.now(UTC)
    yield "api_key", KEY_COLUMNS, _keys(keys, now)
    yield "audit_event", EVENT_COLUMNS, _events(events, now)


def _keys(count: int, now: datetime) -> Iterator[tuple[Value, ...]]:
    chance = random.Random(2)
    labels = [json.dumps({"env": env, "team": f"team-{team}"}) for env in ("prod", "staging") for team in range(20)]
    predecessor: tuple[str, str] | None = None  # its name and its id
    for number in range(count):
        place = number % 20
        created = now - _YEARS + (_YEARS - timedelta(days=40)) * (number / count)
        key_id = _id(chance)
        name, replaces = predecessor or (f"service-{number}", None)
        rotated = place in (_ROTATED, _RETIRING) and number + 1 < count
        predecessor = (name, key_id) if rotated else None
        retires = (created + timedelta(days=10) if place == _ROTATED else now + timedelta(days=3)) if rotated else None
        revoked = created + timedelta(days=20) if place == _REVOKED else None
        expires = now + timedelta(days=number % 300 + 5) if number % 2 else None
        used = created + timedelta(hours=number % 900) if number % 3 else None
        yield (
            key_id, name, name, f"team-{number % 50}@example.com" if number % 7 else None,
            "Calls the pricing API from the nightly job" if number % 4 else None,
            chance.choice(labels) if number % 5 else "{}",
            _stored(created), "admin@example.com", _stored(created + timedelta(milliseconds=12)),
            _stored(created + timedelta(days=30) if place == _EXPIRED else expires), _stored(retires),
            _stored(created + timedelta(days=5) if place == _SUSPENDED else None), _stored(used),
            number % 1000 if used else 0,
            _stored(revoked), "security@example.com" if revoked else None, "seen in a log" if revoked else None,
            replaces, hashlib.sha256(key_id.encode()).digest(), DIGEST_SCHEME,
        )  # fmt: skip


def _events(count: int, now: datetime) -> Iterator[tuple[Value, ...]]:
    from alphalens_keyctl.logs.audit import GENESIS, canonical

    chance = random.Random(3)
    origin = {"database_user": "keyctl", "host": "build-7.example.com", "os_user": "runner"}
    created: dict[str, object] = {
        "expires_at": "2027-01-31T00:00:00Z",
        "labels": {"env": "prod"},
        "owner": "team-7@example.com",
    }
    said: dict[str, dict[str, object]] = {
        "key.create": created,
        "key.activate": {"delivered_to": ["stdout"]},
        "key.revoke": {"reason": "left the team"},
    }
    details = {
        action: json.dumps(words | {"origin": origin}, sort_keys=True, separators=(",", ":"))
        for action, words in said.items()
    }
    previous, key_id = GENESIS, _id(chance)
    for seq in range(1, count + 1):
        action = ("key.create", "key.activate", "key.create", "key.activate", "key.revoke")[seq % 5]
        if action == "key.create":
            key_id = _id(chance)
        at = _stored(now - _YEARS + _YEARS * (seq / count)) or ""
        actor, name, detail = f"github-actions:example/service-{seq % 90}", f"service-{seq // 2}", details[action]
        form = canonical(seq, at.replace(" ", "T") + "Z", actor, action, key_id, name, detail, previous)
        digest = hashlib.sha256(form).digest()
        yield seq, at, actor, action, key_id, name, detail, previous, digest
        previous = digest


def _id(chance: random.Random) -> str:
    return "".join(chance.choices(ALPHABET, k=ID_LENGTH))


def _stored(moment: datetime | None) -> str | None:
    """A time as SQLite keeps it; PostgreSQL reads it as UTC."""
    return None if moment is None else moment.strftime("%Y-%m-%d %H:%M:%S.%f")
