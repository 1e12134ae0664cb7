"""Promises 5 and 9: what a verifier remembers never outlives what the database says, and where the database
says nothing the key is refused.

The verifier lives in the test's own process; changes are made by other processes or by hand.
"""

import signal
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest

from alphalens_keyctl import KeyVerifier
from alphalens_keyctl.keyformat import generate
from alphalens_keyctl.models import Reason
from tests.services.pgbouncer import pooling
from tests.services.postgresql import Server
from tests.support.commands import ForkServer, Keyctl
from tests.support.databases import (
    by_hand,
    listeners,
    on_postgresql,
    on_sqlite,
    path_of,
    revoke_by_hand,
    stored,
    suspend_by_hand,
)
from tests.support.freshness import BOUND, HANGING, NEVER, SLACK, TOLD, assert_revocation_counts, until, wait_until_told
from tests.support.raw_keys import key_id
from tests.support.waiting import wait_for


def assert_refused_in_bounded_time(verifier: KeyVerifier, raw: str) -> None:
    started = time.monotonic()
    answer = verifier.verify(raw)
    assert time.monotonic() - started < HANGING
    assert (answer.allowed, answer.reason) == (False, Reason.UNAVAILABLE)


@pytest.mark.parametrize("max_staleness", [NEVER, 1.0])
def test_a_key_that_another_process_revoked_is_refused_at_once(
    keyctl: Keyctl, database_url: str, max_staleness: float
) -> None:
    """Promise 5."""
    raw, ident = keyctl.create("ci")
    other, _ = keyctl.create("other")
    with KeyVerifier(database_url, max_staleness=max_staleness) as verifier:
        assert verifier.verify(raw)
        wait_until_told(verifier, database_url, raw)
        keyctl.ok("revoke", ident, "--yes")
        assert_revocation_counts(verifier, database_url, raw, within=TOLD)
        assert verifier.verify(other)


def test_a_change_by_hand_counts_like_any_other(keyctl: Keyctl, database_url: str) -> None:
    """Promise 5."""
    raw, ident = keyctl.create("ci")
    with KeyVerifier(database_url, max_staleness=NEVER, usage="off") as verifier:
        assert verifier.verify(raw)
        wait_until_told(verifier, database_url, raw)
        suspend_by_hand(database_url, ident)
        if database_url.startswith("sqlite"):
            assert verifier.verify(raw).reason is Reason.SUSPENDED
        until(verifier, raw, Reason.SUSPENDED, within=TOLD)
        by_hand(database_url, "UPDATE api_key SET suspended_at = NULL WHERE id = %s", ident)
        until(verifier, raw, Reason.OK, within=TOLD)
        revoke_by_hand(database_url, raw)
        assert_revocation_counts(verifier, database_url, raw, within=TOLD)


def test_the_end_of_a_life_and_of_a_grace_are_decided_at_the_call(keyctl: Keyctl, database_url: str) -> None:
    """Promise 5: nothing changes in the database when a key's time is over."""
    expiring, _ = keyctl.create("expiring")
    rotated, _ = keyctl.create("rotated")
    successor = keyctl.ok("rotate", "rotated").stdout.strip()
    soon = datetime.now(UTC) + timedelta(seconds=1.5)
    for column, raw in (("expires_at", expiring), ("retires_at", rotated)):
        by_hand(
            database_url, f"UPDATE api_key SET {column} = %s WHERE id = %s", stored(database_url, soon), key_id(raw)
        )
    with KeyVerifier(database_url, max_staleness=NEVER, usage="off") as verifier:
        before = [verifier.verify(raw) for raw in (expiring, rotated, successor)]
        if datetime.now(UTC) < soon:
            assert [answer.reason for answer in before] == [Reason.OK] * 3
        time.sleep(max(0.0, (soon - datetime.now(UTC)).total_seconds()) + 0.01)
        after = [verifier.verify(raw).reason for raw in (expiring, rotated, successor)]
        assert after == [Reason.EXPIRED, Reason.RETIRED, Reason.OK]


@on_postgresql
def test_after_its_listening_connection_was_killed_the_bound_holds_and_listening_comes_back(
    keyctl: Keyctl, database_url: str
) -> None:
    """Promise 5."""
    raw, _ = keyctl.create("ci")
    later, _ = keyctl.create("later")
    with KeyVerifier(database_url, max_staleness=BOUND) as verifier:
        assert verifier.verify(raw)
        wait_until_told(verifier, database_url, raw)
        killed = listeners(database_url)
        for process in killed:
            by_hand(database_url, "SELECT pg_terminate_backend(%s)", process)
        revoke_by_hand(database_url, raw)
        until(verifier, raw, Reason.REVOKED, within=BOUND + SLACK)
        wait_for(lambda: listeners(database_url) - killed, "nobody listens again")
        assert verifier.verify(later)


@on_postgresql
def test_where_the_trigger_is_off_the_bound_holds(keyctl: Keyctl, database_url: str) -> None:
    """Promise 5."""
    raw, ident = keyctl.create("ci")
    with KeyVerifier(database_url, max_staleness=BOUND) as verifier:
        assert verifier.verify(raw)
        wait_until_told(verifier, database_url, raw)
        by_hand(database_url, "ALTER TABLE api_key DISABLE TRIGGER api_key_announce")
        keyctl.ok("revoke", ident, "--yes")
        until(verifier, raw, Reason.REVOKED, within=BOUND + SLACK)


@on_postgresql
def test_where_the_trigger_was_off_for_one_transaction_the_bound_holds(keyctl: Keyctl, database_url: str) -> None:
    """Promise 5: what a restore of the data does, and no look from another session ever sees."""
    raw, ident = keyctl.create("ci")
    with KeyVerifier(database_url, max_staleness=BOUND, usage="off") as verifier:
        assert verifier.verify(raw)
        wait_until_told(verifier, database_url, raw)
        with psycopg.connect(database_url) as session:
            session.execute("ALTER TABLE api_key DISABLE TRIGGER api_key_announce")
            session.execute("UPDATE api_key SET revoked_at = now(), revoked_by = 'me' WHERE id = %s", (ident,))
            session.execute("ALTER TABLE api_key ENABLE ALWAYS TRIGGER api_key_announce")
        until(verifier, raw, Reason.REVOKED, within=BOUND + SLACK)


def test_without_any_staleness_every_call_asks(keyctl: Keyctl, database_url: str) -> None:
    """Promise 5: the next call already knows, on PostgreSQL too."""
    raw, ident = keyctl.create("ci")
    with KeyVerifier(database_url, max_staleness=0, usage="off") as verifier:
        for _ in range(3):
            assert verifier.verify(raw)
        suspend_by_hand(database_url, ident)
        assert verifier.verify(raw).reason is Reason.SUSPENDED
        by_hand(database_url, "UPDATE api_key SET suspended_at = NULL WHERE id = %s", ident)
        assert verifier.verify(raw)
        revoke_by_hand(database_url, raw)
        assert verifier.verify(raw).reason is Reason.REVOKED


@pytest.fixture
def pooled_url(database_url: str) -> Iterator[str]:
    """The same database through a pgbouncer in transaction mode."""
    with pooling(database_url) as pooler:
        yield pooler.url(database_url)


@on_postgresql
def test_behind_a_pooler_where_nobody_can_listen_the_bound_holds(
    keyctl: Keyctl, database_url: str, pooled_url: str
) -> None:
    """Promise 5."""
    raw, ident = keyctl.create("ci")
    with KeyVerifier(pooled_url, max_staleness=BOUND) as verifier:
        deadline = time.monotonic() + 2 * BOUND
        while time.monotonic() < deadline:
            assert verifier.verify(raw)
            time.sleep(0.02)
        keyctl.ok("revoke", ident, "--yes")
        until(verifier, raw, Reason.REVOKED, within=BOUND + SLACK)


@pytest.mark.parametrize("fault", ["stopped", "frozen"])
def test_without_its_server_every_key_is_refused_until_it_is_back(
    fork_server: ForkServer, tmp_path: Path, own_server: Server, own_url: str, fault: str
) -> None:
    """Promise 9: `unavailable`, in bounded time, and nobody has to restart the service."""
    raw, _ = Keyctl(fork_server, tmp_path, own_url).create("ci")
    with KeyVerifier(own_url, max_staleness=BOUND, timeout=BOUND) as verifier:
        assert verifier.verify(raw)
        wait_until_told(verifier, own_url, raw)
        if fault == "stopped":
            own_server.stop()
        else:
            own_server.signal_all(signal.SIGSTOP)
        try:
            until(verifier, raw, Reason.UNAVAILABLE, within=BOUND + SLACK)
            for _ in range(3):
                assert_refused_in_bounded_time(verifier, raw)
                time.sleep(0.3)
            assert verifier.trouble is not None
            assert not verifier.ready()
        finally:
            if fault == "stopped":
                own_server.start()
            else:
                own_server.signal_all(signal.SIGCONT)
        until(verifier, raw, Reason.OK, within=15)
        assert verifier.ready()


@on_sqlite
def test_a_missing_file_is_unavailable_and_is_not_made_and_once_there_it_is_opened(
    keyctl: Keyctl, database_url: str
) -> None:
    """Promise 9."""
    path = path_of(database_url)
    path.unlink()
    raw = generate().reveal()
    with KeyVerifier(database_url, timeout=BOUND) as verifier:
        assert_refused_in_bounded_time(verifier, raw)
        assert not verifier.ready()
        time.sleep(0.7)  # the refused attempt is to be written by now, where it could be
        assert not path.exists()
        raw, _ = keyctl.create("ci")
        until(verifier, raw, Reason.OK, within=5)


@on_sqlite
def test_a_file_that_is_removed_takes_what_was_remembered_of_it_along(keyctl: Keyctl, database_url: str) -> None:
    """Promise 9: an open connection would read the removed file for ever."""
    path = path_of(database_url)
    raw, _ = keyctl.create("ci")
    with KeyVerifier(database_url, timeout=BOUND, usage="off") as verifier:
        assert verifier.verify(raw)
        path.rename(path.with_name("elsewhere"))
        until(verifier, raw, Reason.UNAVAILABLE, within=1.0 + SLACK)
        assert not path.exists()


@on_sqlite
def test_a_file_put_in_anothers_place_is_the_one_that_is_asked(
    keyctl: Keyctl, fork_server: ForkServer, tmp_path: Path, database_url: str
) -> None:
    """Promise 5: a restored backup counts."""
    path = path_of(database_url)
    other = tmp_path / "other.db"
    old, _ = keyctl.create("old")
    new, _ = Keyctl(fork_server, keyctl.home, f"sqlite:///{other}").create("new")
    with KeyVerifier(database_url, usage="off") as verifier:
        assert verifier.verify(old)
        assert verifier.verify(new).reason is Reason.UNKNOWN
        for ending in ("-wal", "-shm"):
            path.with_name(path.name + ending).unlink(missing_ok=True)
        other.replace(path)
        until(verifier, old, Reason.UNKNOWN, within=1.0 + SLACK)
        assert verifier.verify(new)


@on_sqlite
def test_a_file_that_another_process_keeps_for_itself_is_unavailable_in_bounded_time(
    keyctl: Keyctl, database_url: str
) -> None:
    """Promise 9."""
    raw, _ = keyctl.create("ci")
    with KeyVerifier(database_url, timeout=BOUND) as verifier:
        with closing(sqlite3.connect(path_of(database_url), isolation_level=None)) as holder:
            holder.execute("PRAGMA locking_mode = EXCLUSIVE")
            holder.execute("BEGIN EXCLUSIVE")
            for _ in range(2):
                assert_refused_in_bounded_time(verifier, raw)
            holder.execute("ROLLBACK")
        until(verifier, raw, Reason.OK, within=5)


def test_made_up_keys_neither_fill_the_memory_nor_push_good_ones_out(keyctl: Keyctl, database_url: str) -> None:
    """Promise 9."""
    good = [keyctl.create(name)[0] for name in ("one", "two")]
    with KeyVerifier(database_url, cache_size=2, max_staleness=NEVER, usage="off") as verifier:
        for raw in good:
            assert verifier.verify(raw)
        wait_until_told(verifier, database_url, good[0])
        assert verifier.verify(good[1])
        for _ in range(100):
            assert verifier.verify(generate().reveal()).reason is Reason.UNKNOWN
        assert len(verifier._cache) == 2
        for raw in good:
            assert verifier.verify_cached(raw), "forgotten"
        third, _ = keyctl.create("three")
        assert verifier.verify(third)
        assert len(verifier._cache) == 2
