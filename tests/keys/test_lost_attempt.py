"""Promises 3 and 4 on PostgreSQL when the session that marks a delivery as running ends before the delivery."""

import os
import signal
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest

from tests.services.pgbouncer import pooling
from tests.services.postgresql import Databases
from tests.support.commands import ForkServer, Keyctl
from tests.support.held_delivery import HeldDelivery
from tests.support.judge import Judge, judge
from tests.support.raw_keys import raw_key_in

LOCKS = (
    "pg_locks JOIN pg_database ON pg_database.oid = pg_locks.database"
    " WHERE locktype = 'advisory' AND datname = current_database()"
)
END_THE_HOLDERS = f"SELECT count(pg_terminate_backend(pid)) FROM {LOCKS}"


@pytest.fixture
def database_url(databases: Databases, postgresql_template: str) -> str:
    return databases.create(postgresql_template)


@pytest.fixture
def judging(database_url: str) -> Iterator[Judge]:
    with judge(database_url) as one:
        yield one


def test_a_session_limit_of_the_role_does_not_end_the_mark_of_a_delivery_that_runs(
    keyctl: Keyctl, judging: Judge, tmp_path: Path
) -> None:
    """Promise 4: of two rotations one wins, and the destination holds its key."""
    name = judging.scalar("SELECT quote_ident(current_database())")
    judging.execute(f"ALTER DATABASE {name} SET idle_session_timeout = '200ms'")
    keyctl.create("ci")
    running = HeldDelivery(keyctl, tmp_path / "held", "rotate", "ci")
    time.sleep(0.5)  # longer than the limit: a session that may end has ended
    other = keyctl("rotate", "ci", "--json")
    assert (other.status, other.error["code"]) == (6, "lost_race")
    assert running.finish().status == 0
    assert judging.opens(running.raw)


def test_a_delivery_whose_mark_is_lost_ends_its_command_and_undoes_itself(
    keyctl: Keyctl, judging: Judge, tmp_path: Path
) -> None:
    """Promises 3 and 4: the next rotation wins, and no older key comes after its key."""
    raw, _ = keyctl.create("ci")
    (tmp_path / "key").write_text(f"{raw}\n")
    (tmp_path / "key").chmod(0o600)
    running = HeldDelivery(keyctl, tmp_path / "held", "rotate", "ci", "--key-file", str(tmp_path / "key"))
    assert judging.scalar(END_THE_HOLDERS) == 1
    # The command still waits: nobody lets it go on.
    result = running.process.wait()
    assert result.status == 7
    assert "may have taken over" in result.stderr
    assert judging.opens(raw)
    assert (tmp_path / "key").read_text() == f"{raw}\n"
    new = raw_key_in(keyctl.ok("rotate", "ci"))
    assert new is not None
    assert judging.opens(new)


@pytest.mark.parametrize("command", ["create", "rotate"])
def test_an_attempt_that_was_taken_over_while_it_stood_still_says_until_when_its_key_opens(
    keyctl: Keyctl, judging: Judge, tmp_path: Path, command: str
) -> None:
    """Promise 3: what the other run delivered stays as it is, and nothing that is said of a key is untrue."""
    if command == "rotate":
        keyctl.create("ci")
    held = HeldDelivery(keyctl, tmp_path / "held", command, "ci")
    os.kill(held.process.pid, signal.SIGSTOP)
    judging.scalar(END_THE_HOLDERS)
    judging.wait_until_unlocked()
    kept = tmp_path / "kept"
    keyctl.ok(command, "ci", "--no-print", "--pipe-to", f"cp /dev/stdin {kept}")
    os.kill(held.process.pid, signal.SIGCONT)
    late = held.process.wait()
    assert late.status == 7
    (ends_at,) = (key.retires_at for key in judging.every_key() if key.id == held.id)
    assert f"Key {held.id}, which a destination may hold, opens until {ends_at:%Y-%m-%dT%H:%M:%S}" in late.stderr
    assert "opens nothing" not in late.stderr
    assert judging.opens(held.raw)
    assert judging.opens(kept.read_text().strip())
    judging.assert_sound()


def test_a_lock_that_anybody_could_take_makes_no_dead_attempt_look_alive(
    keyctl: Keyctl, judging: Judge, database_url: str, tmp_path: Path
) -> None:
    """Promise 14: a role that cannot make keys cannot stop a rotation by the number of its lock."""
    keyctl.create("ci")
    running = HeldDelivery(keyctl, tmp_path / "held", "rotate", "ci")
    number = judging.scalar(f"SELECT classid::bigint << 32 | objid::bigint FROM {LOCKS}")
    running.die()
    role = f"keyctl_nosy_{uuid.uuid4().hex[:12]}"
    judging.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'nosy'")
    server = urlsplit(database_url)
    try:
        with psycopg.connect(
            f"postgresql://{role}:nosy@{server.hostname}:{server.port or 5432}{server.path}", autocommit=True
        ) as nosy:
            nosy.execute("SELECT pg_advisory_lock(%s)", [number])
            keyctl.ok("rotate", "ci")
    finally:
        judging.execute(f"DROP ROLE {role}")


@pytest.mark.parametrize("command", ["create", "rotate"])
def test_where_the_pooler_has_no_session_to_give_the_command_ends_in_time_and_says_so(
    fork_server: ForkServer, keyctl: Keyctl, judging: Judge, postgresql_url: str, tmp_path: Path, command: str
) -> None:
    """Promise 11: `create` needs two sessions, one of which marks the delivery. The pooler itself gives up after two
    minutes, in words of its own."""
    keyctl.create("old")
    (tmp_path / "config.toml").write_text("connect_timeout = 2\nlock_timeout = 1\n")
    with pooling(postgresql_url, mode="session", sessions=1) as pooler:
        assert keyctl.database_url is not None
        pooled = Keyctl(fork_server, keyctl.home, pooler.url(keyctl.database_url))
        result = pooled("--config", str(tmp_path / "config.toml"), command, "old" if command == "rotate" else "new")
    assert result.status == 7
    assert "no session became free in time" in result.stderr
    assert [key.name for key in judging.every_key()] == ["old"]
