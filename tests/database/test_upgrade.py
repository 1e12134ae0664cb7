"""A database of an earlier version is brought to this one's schema with everything in it, damage included."""

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from alphalens_keyctl.database import Database
from tests.services.postgresql import Databases
from tests.support import old_schema
from tests.support.commands import ForkServer, Keyctl

ROW = (
    "INSERT INTO api_key (id, name, name_folded, labels, created_at, created_by, activated_at, revoked_at, revoked_by,"
    " use_count, digest, digest_scheme) VALUES (:id, :name, :name, '{}', '2026-11-23 12:00:00.000000', 'test',"
    " '2026-11-23 12:00:00.000000', :revoked_at, :revoked_by, 0, :digest, 'sha256')"
)
EVENT = (
    "INSERT INTO audit_event (seq, at, actor, action, detail, previous_hash, hash)"
    " VALUES (:seq, '2026-11-23 12:00:00.000000', 'test', 'key.create', '{}', :previous, :hash)"
)


@pytest.fixture(params=["sqlite", "postgresql"])
def old(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, Database]]:
    """A database of schema 0004, and its URL."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'old.db'}"
    else:
        databases: Databases = request.getfixturevalue("databases")
        url = databases.create()
    database = old_schema.make(url, "0004")
    yield url, database
    database.close()


def key(ident: str, name: str, **values: Any) -> dict[str, Any]:
    return {"id": ident, "name": name, "revoked_at": None, "revoked_by": None, "digest": ident.encode() + bytes(20)} | (
        values
    )


def test_keys_events_and_damage_of_schema_0004_are_all_there_after_the_upgrade(
    old: tuple[str, Database], fork_server: ForkServer, tmp_path: Path
) -> None:
    """Promises 5 and 14."""
    url, database = old
    damage = "2030-19-39 29:59:59.000000" if database.one_writer else "infinity"
    with database.recording() as tx:
        revoked = {"revoked_at": "2026-11-23 12:00:00.000000", "revoked_by": "test"}
        for row in (
            key("A" * 12, "gone", **revoked), key("B" * 12, "here"), key("C" * 12, "broken"), key("D" * 12, "zoë")
        ):  # fmt: skip
            tx.execute(text(ROW), row)
        tx.execute(text("UPDATE api_key SET last_used_at = :damage WHERE name = 'broken'"), {"damage": damage})
        tx.execute(text("INSERT INTO usage_event (at, key_id, outcome) VALUES (:at, 'BBBBBBBBBBBB', 'ok')"),
                   {"at": damage})  # fmt: skip
        if not database.one_writer:
            tx.execute(text("INSERT INTO usage_event (at, outcome) VALUES ('-infinity', 'malformed')"))
    keyctl = Keyctl(fork_server, tmp_path, url)
    keyctl.ok("db", "upgrade")
    every = keyctl.keys()
    assert {row["name"]: row["status"] for row in every} == {
        "gone": "revoked", "here": "active", "broken": "damaged", "zoë": "active"
    }  # fmt: skip
    assert keyctl.ok("show", "here", "--json").json["status"] == "active"
    keyctl.ok("audit", "usage")
    keyctl.ok("audit", "usage", "--jsonl")
    for name in ("here", "C" * 12, "zoë"):
        keyctl.ok("revoke", name)
    # Each key is bound by an event of the upgrade, the damaged one too.
    assert keyctl.ok("audit", "verify", "--json").json["events"] == 4 + 3


def test_an_event_that_left_no_room_behind_it_no_longer_stops_every_change(
    old: tuple[str, Database], fork_server: ForkServer, tmp_path: Path
) -> None:
    """Promises 6 and 7: the log goes on, and says that it was tampered with."""
    url, database = old
    with database.recording() as tx:
        tx.execute(text(ROW), key("B" * 12, "here"))
        tx.execute(text(EVENT), {"seq": 1, "previous": bytes(32), "hash": b"1" * 32})
        tx.execute(text(EVENT), {"seq": 2**63 - 1, "previous": b"1" * 32, "hash": b"2" * 32})
    keyctl = Keyctl(fork_server, tmp_path, url)
    keyctl.ok("db", "upgrade")
    keyctl.ok("revoke", "here")
    assert keyctl.ok("audit", "head", "--json").json["seq"] == 4
    assert keyctl("audit", "verify", "--json").status == 5


def test_a_role_that_recorded_uses_before_goes_on_with_it_after_the_upgrade(
    old: tuple[str, Database], fork_server: ForkServer, tmp_path: Path
) -> None:
    """Promise 8: no use is lost between the upgrade and `db grant`."""
    url, database = old
    if database.one_writer:
        pytest.skip("SQLite knows no roles")
    role = f"keyctl_{uuid.uuid4().hex[:12]}"
    with database.recording() as tx:
        tx.execute(text(f"CREATE ROLE {role}"))
        tx.execute(text(f"GRANT UPDATE (last_used_at, use_count, first_used_at) ON api_key TO {role}"))
    Keyctl(fork_server, tmp_path, url).ok("db", "upgrade")
    with database.reading() as connection:
        query = "SELECT has_function_privilege(:role, 'alphalens_keyctl_record_uses(jsonb, jsonb)', 'EXECUTE')"
        assert connection.scalar(text(query), {"role": role})
        assert not connection.scalar(text(query), {"role": "pg_monitor"})
