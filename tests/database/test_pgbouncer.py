"""Promise 2 behind a pooler in transaction mode, where no lock outlives a transaction and a lease stands in.

A real pgbouncer in front of the test server; the direct sessions beside it go to the same database.
"""

import signal
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.services.pgbouncer import Pooler, pooling
from tests.services.postgresql import Databases
from tests.support.commands import ForkServer, Keyctl, Process
from tests.support.faults import go_on, paused
from tests.support.held_delivery import HeldDelivery
from tests.support.judge import Judge, judge
from tests.support.raw_keys import raw_key_in

LEASE = 60  # seconds after which an attempt that nobody renews counts as dead


@pytest.fixture(scope="module")
def pooler(postgresql_url: str) -> Iterator[Pooler]:
    with pooling(postgresql_url) as one:
        yield one


@pytest.fixture
def database_url(databases: Databases, postgresql_template: str) -> str:
    """PostgreSQL alone, by the direct way."""
    return databases.create(postgresql_template)


@pytest.fixture
def pooled(fork_server: ForkServer, keyctl: Keyctl, database_url: str, pooler: Pooler) -> Keyctl:
    """The program on the same database, through the pooler."""
    return Keyctl(fork_server, keyctl.home, pooler.url(database_url))


@pytest.fixture
def judging(database_url: str) -> Iterator[Judge]:
    with judge(database_url) as one:
        yield one


def delivering(keyctl: Keyctl, folder: Path, *arguments: str) -> Process:
    """A command that waits in the middle of its delivery."""
    return paused(keyctl, folder, "before_write", 1, *arguments)


def statuses(judging: Judge, name: str) -> list[str]:
    return [key.status for key in judging.every_key(name)]


def test_every_command_works_through_the_pooler(pooled: Keyctl, judging: Judge) -> None:
    created = pooled("create", "ci", "--json").json
    successor = pooled("rotate", "ci").stdout.strip()
    for raw in (created["raw_key"], successor):
        assert pooled("verify", stdin=raw.encode()).status == 0
    assert [key["status"] for key in pooled("list", "--json").json] == ["active", "retiring"]
    assert pooled("show", created["key"]["id"], "--json").json["status"] == "retiring"
    assert len(pooled("audit", "--jsonl").stdout.splitlines()) == 5
    for command in (("revoke", "ci", "--yes"), ("audit", "verify"), ("db", "status"), ("db", "upgrade")):
        assert pooled(*command).status == 0
    assert judging.current("ci") is None


def test_no_session_lock_and_no_setting_stays_with_the_poolers_connections(pooled: Keyctl) -> None:
    pooled.create("ci")
    pooled.ok("rotate", "ci")
    assert pooled.database_url is not None
    with psycopg.connect(pooled.database_url, prepare_threshold=None) as connection:
        locks = connection.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'").fetchone()
        settings = connection.execute("SELECT current_setting('statement_timeout'), current_setting('lock_timeout')")
        assert locks == (0,)
        assert settings.fetchone() == ("0", "0")


@pytest.mark.parametrize("command", ["create", "rotate"])
def test_a_key_left_by_a_killed_process_is_kept_for_its_lease_and_cleaned_after_it(
    pooled: Keyctl, judging: Judge, tmp_path: Path, command: str
) -> None:
    old = pooled.create("ci")[0] if command == "rotate" else None
    process = delivering(pooled, tmp_path / "pause", command, "ci")
    process.kill()
    assert process.wait().status == -signal.SIGKILL
    left = judging.scalar("SELECT extract(epoch FROM lease_until - now()) FROM api_key WHERE lease_until IS NOT NULL")
    assert LEASE - 30 < left <= LEASE
    held = pooled(command, "ci", "--json")
    assert (held.status, held.stdout) == (6, ""), held
    assert held.error["code"] == ("lost_race" if command == "rotate" else "name_taken")
    assert statuses(judging, "ci")[-1] == "pending"
    judging.execute("UPDATE api_key SET lease_until = lease_until - interval '1 minute' WHERE lease_until IS NOT NULL")
    raw = raw_key_in(pooled.ok(command, "ci"))
    assert raw is not None
    assert judging.opens(raw)
    assert old is None or judging.opens(old)
    assert "pending" not in statuses(judging, "ci")
    assert [key.revoke_reason for key in judging.every_key("ci")].count("abandoned") == 1


@pytest.mark.parametrize("way", ["direct", "pooled"])
def test_an_attempt_that_runs_is_left_alone_by_those_who_come_the_other_way(
    keyctl: Keyctl, pooled: Keyctl, judging: Judge, tmp_path: Path, way: str
) -> None:
    mine, theirs = (keyctl, pooled) if way == "direct" else (pooled, keyctl)
    old = mine.create("rotated")[0]
    creating = delivering(mine, tmp_path / "create", "create", "ci")
    rotating = delivering(mine, tmp_path / "rotate", "rotate", "rotated")
    assert theirs.ok("list").status == 0
    assert theirs("create", "ci").status == 6
    assert theirs("rotate", "rotated").status == 6
    assert statuses(judging, "ci") == ["pending"]
    for folder in ("create", "rotate"):
        go_on(tmp_path / folder)
    for process in (creating, rotating):
        result = process.wait()
        assert result.status == 0, result
        raw = raw_key_in(result)
        assert raw is not None
        assert judging.opens(raw)
    assert judging.opens(old)


@pytest.mark.parametrize("way", ["direct", "pooled"])
def test_a_direct_attempt_that_died_is_cleaned_by_those_who_come_either_way(
    keyctl: Keyctl, pooled: Keyctl, judging: Judge, tmp_path: Path, way: str
) -> None:
    process = delivering(keyctl, tmp_path / "pause", "create", "ci")
    process.kill()
    process.wait()
    judging.wait_until_unlocked()
    raw = raw_key_in((keyctl if way == "direct" else pooled).ok("create", "ci"))
    assert raw is not None
    assert judging.opens(raw)


def test_an_attempt_that_outlived_its_lease_cannot_bring_a_discarded_key_to_life(
    pooled: Keyctl, judging: Judge, tmp_path: Path
) -> None:
    process = delivering(pooled, tmp_path / "pause", "create", "ci")
    judging.execute("UPDATE api_key SET lease_until = now() - interval '1 second'")
    raw = raw_key_in(pooled.ok("create", "ci"))
    go_on(tmp_path / "pause")
    late = process.wait()
    assert late.status == 6, late
    shown = raw_key_in(late)
    assert shown is not None
    assert not judging.opens(shown)
    assert raw is not None
    assert judging.opens(raw)


def test_a_delivery_to_a_destination_keeps_its_lease_for_as_long_as_the_destination_may_take(
    keyctl: Keyctl, pooled: Keyctl, database_url: str, tmp_path: Path
) -> None:
    """Promise 4: while the command runs nobody takes the key over, whichever way they come; after the lease of one
    that died the next attempt goes on."""
    old, _ = pooled.create("ci")
    judge_ = Judge(database_url)
    left = "SELECT extract(epoch FROM lease_until - now()) FROM api_key WHERE lease_until IS NOT NULL"
    running = HeldDelivery(pooled, tmp_path / "live", "rotate", "ci", "--pipe-timeout", "100")
    assert LEASE + 2 * 100 - 30 < judge_.scalar(left) <= LEASE + 2 * 100
    for theirs in (keyctl, pooled):
        for arguments in (("rotate", "ci"), ("rotate", "ci", "--abort")):
            refused = theirs(*arguments, "--json")
            assert (refused.status, refused.stdout, refused.error["code"]) == (6, "", "lost_race")
    assert running.finish().status == 0
    assert judge_.opens(running.raw)
    dead = HeldDelivery(pooled, tmp_path / "dead", "rotate", "ci").die()
    assert keyctl("rotate", "ci").status == 6
    assert judge_.opens(dead.raw)
    judge_.execute("UPDATE api_key SET lease_until = now() - interval '1 second' WHERE lease_until IS NOT NULL")
    new = raw_key_in(pooled.ok("rotate", "ci"))
    assert new is not None
    assert all(judge_.opens(raw) for raw in (old, running.raw, dead.raw, new))
    assert [key.status for key in judge_.every_key("ci")] == ["retiring", "retiring", "retiring", "active"]
    judge_.close()
