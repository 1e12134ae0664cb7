"""Promises 5, 8 and 9 where a standby is read: a real one, which streams from its primary and can be held back.

PostgreSQL alone: SQLite has no standby.
"""

import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest

from alphalens_keyctl import KeyVerifier
from alphalens_keyctl.address import PostgreSQLAddress, parse_address
from alphalens_keyctl.database.postgresql import dialer
from alphalens_keyctl.errors import KeyctlError
from alphalens_keyctl.models import Reason
from tests.services.postgresql import Server, Standby
from tests.support.commands import ForkServer, Keyctl
from tests.support.databases import listeners, revoke_by_hand
from tests.support.freshness import BOUND, NEVER, SLACK, TOLD, until
from tests.support.raw_keys import key_id
from tests.support.waiting import wait_for
from tests.support.web import serving, with_key

# Verifiers, of each of which the reading and the listening connection may reach different servers.
SEVERAL = 6
# A standby may be a quarter more than `max_staleness` behind, and what it says holds for as long as that.
BEHIND = 2.25 * BOUND


@pytest.fixture(scope="module")
def standby(own_server: Server) -> Iterator[Standby]:
    standby = Standby(own_server)
    yield standby
    standby.close()


def hosts(url: str, *ports: int, **parameters: str) -> str:
    """The database of a URL on several servers, the first one first."""
    query = "&".join(f"{name}={value}" for name, value in parameters.items())
    return f"postgresql://keyctl@{','.join(f'127.0.0.1:{port}' for port in ports)}{urlsplit(url).path}?{query}"


def asked(url: str, statement: str) -> int:
    with psycopg.connect(url) as session:
        (number,) = session.execute(statement.encode()).fetchone() or (0,)
    return int(number or 0)


def sessions(url: str) -> set[int]:
    """The server's processes of sessions in this database."""
    with psycopg.connect(url) as session:
        return {row[0] for row in session.execute(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )}  # fmt: skip


def written_uses(url: str) -> int:
    return asked(url, "SELECT count(*) FROM usage_event WHERE outcome = 'ok'")


@pytest.fixture
def read_url(own_url: str, standby: Standby) -> Iterator[str]:
    """The database of `own_url` as the standby alone has it."""
    standby.catch_up()
    yield hosts(own_url, standby.port)
    standby.resume()


def test_of_several_hosts_the_one_that_is_written_is_read_however_far_a_standby_is_behind(
    own_keyctl: Keyctl, own_url: str, own_server: Server, standby: Standby
) -> None:
    """Promise 5."""
    raw, _ = own_keyctl.create("ci")
    standby.catch_up()
    url = hosts(own_url, standby.port, own_server.port, load_balance_hosts="random")
    verifiers = [KeyVerifier(url, usage="off", max_staleness=NEVER) for _ in range(SEVERAL)]
    for verifier in verifiers:
        assert verifier.verify(raw)
    wait_for(lambda: len(listeners(own_url)) == SEVERAL, "not every verifier listens", within=30)
    assert all(verifier.verify(raw) for verifier in verifiers)
    standby.pause()
    try:
        revoke_by_hand(own_url, raw)
        for verifier in verifiers:
            until(verifier, raw, Reason.REVOKED, within=TOLD)
    finally:
        standby.resume()
        for verifier in verifiers:
            verifier.close()


@pytest.mark.parametrize(
    ("said", "in_recovery"),
    [("", False), ("target_session_attrs=any\n", False), ("target_session_attrs=standby\n", True)],
)
def test_of_the_hosts_of_a_service_too_the_one_that_is_written_is_read_unless_it_says_otherwise(
    own_url: str,
    own_server: Server,
    standby: Standby,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    said: str,
    in_recovery: bool,
) -> None:
    """Promise 5."""
    services = tmp_path / "services"
    services.write_text(f"[keys]\nhost=127.0.0.1,127.0.0.1\nport={standby.port},{own_server.port}\n{said}")
    monkeypatch.setenv("PGSERVICEFILE", str(services))
    standby.catch_up()
    address = parse_address(f"postgresql://keyctl@{urlsplit(own_url).path}?service=keys")
    assert isinstance(address, PostgreSQLAddress)
    with dialer(address, connect_timeout=5, answer_limit=5)() as session:
        assert session.execute("SELECT pg_is_in_recovery()").fetchone() == (in_recovery,)


def test_what_a_standby_says_counts_no_longer_than_the_bound_and_not_at_all_once_it_is_behind(
    own_keyctl: Keyctl, own_url: str, read_url: str, standby: Standby
) -> None:
    """Promise 5: the primary says how far the standby must be."""
    raw, _ = own_keyctl.create("ci")
    standby.catch_up()
    with KeyVerifier(read_url, usage_database_url=own_url, max_staleness=BOUND, timeout=BOUND) as verifier:
        assert verifier.verify(raw)
        wait_for(lambda: listeners(own_url), "nobody listens")
        until(verifier, raw, Reason.OK, within=SLACK)
        standby.pause()
        revoke_by_hand(own_url, raw)
        until(verifier, raw, Reason.UNAVAILABLE, within=BEHIND + SLACK)
        assert verifier.trouble is not None
        assert "behind" in verifier.trouble.message
        for _ in range(5):
            assert not verifier.verify(raw)
            time.sleep(BOUND / 2)
        standby.resume()
        until(verifier, raw, Reason.REVOKED, within=SLACK)


def test_after_the_standby_has_caught_up_nothing_that_it_said_before_counts_for_longer_than_the_bound(
    own_keyctl: Keyctl, own_url: str, own_server: Server, standby: Standby
) -> None:
    """Promise 5: a caller who wants any server to be read gets no more than `max_staleness` of what a standby said,
    however well the changes are announced."""
    raw, _ = own_keyctl.create("ci")
    standby.catch_up()
    url = hosts(own_url, standby.port, own_server.port, load_balance_hosts="random", target_session_attrs="any")
    verifiers = [KeyVerifier(url, usage="off", max_staleness=BOUND) for _ in range(SEVERAL)]
    for verifier in verifiers:
        verifier.verify(raw)
    wait_for(lambda: len(listeners(own_url)) == SEVERAL, "not every verifier listens", within=30)
    standby.pause()
    revoke_by_hand(own_url, raw)
    for verifier in verifiers:
        verifier.verify(raw)
    standby.resume()
    standby.catch_up()
    for verifier in verifiers:
        until(verifier, raw, Reason.REVOKED, within=BEHIND + SLACK)
        verifier.close()


def test_on_a_standby_alone_keys_are_refused_rather_than_uses_lost(
    own_keyctl: Keyctl, read_url: str, standby: Standby
) -> None:
    """Promise 8: "required" refuses from the first use on, and the verifier is not ready; "best-effort" goes on."""
    raw, _ = own_keyctl.create("ci")
    standby.catch_up()
    verifier = KeyVerifier(read_url)
    assert [verifier.verify(raw).reason for _ in range(3)] == [Reason.UNAVAILABLE] * 3
    assert not verifier.ready()
    assert verifier.trouble is not None
    assert "standby" in verifier.trouble.message
    with suppress(KeyctlError):  # the refused attempts are lost, and this says so
        verifier.close()
    with KeyVerifier(read_url, usage="off") as looking:
        assert looking.verify(raw)
        assert looking.ready()


def test_a_verifier_reads_here_and_writes_uses_there(
    own_keyctl: Keyctl, own_url: str, read_url: str, standby: Standby
) -> None:
    """Promise 8."""
    raw, _ = own_keyctl.create("ci")
    standby.catch_up()
    with KeyVerifier(read_url, usage_database_url=own_url) as verifier:
        assert all(verifier.verify(raw) for _ in range(20))
        assert verifier.ready()
    assert written_uses(own_url) == 20


def test_serve_on_a_standby_is_not_ready_until_it_knows_where_to_write(
    own_keyctl: Keyctl, own_url: str, read_url: str, standby: Standby, fork_server: ForkServer, tmp_path: Path
) -> None:
    """Promise 8: by the environment or by config.toml."""
    raw, _ = own_keyctl.create("ci")
    standby.catch_up()
    home = tmp_path / "home"
    with serving(Keyctl(fork_server, home, read_url)) as served:
        assert served.ask("/readyz").status == 503
        assert served.ask("/", with_key(raw)).status == 401
        assert "standby" in served.log_text()
    (tmp_path / "config.toml").write_text(f"database_url = '{read_url}'\nusage_database_url = '{own_url}'\n")
    with serving(Keyctl(fork_server, home, None), before=("--config", str(tmp_path / "config.toml"))) as served:
        assert served.ask("/readyz").status == 204
        assert served.ask("/", with_key(raw)).status == 204
        assert served.stop().status == 0
    assert written_uses(own_url) == 1


def test_a_change_finds_the_server_that_takes_it_or_says_that_this_one_is_a_standby(
    own_keyctl: Keyctl, own_url: str, read_url: str, own_server: Server, standby: Standby, fork_server: ForkServer
) -> None:
    own_keyctl.create("ci")
    standby.catch_up()
    alone = Keyctl(fork_server, own_keyctl.home, read_url)
    assert [key["name"] for key in alone.ok("list", "--json").json] == ["ci"]
    for command in (("create", "new"), ("revoke", "ci", "--yes"), ("rotate", "ci"), ("db", "upgrade")):
        refused = alone(*command, "--json")
        assert (refused.status, refused.stdout, refused.error["code"]) == (7, "", "database_unusable"), command
        assert "standby" in refused.error["message"], command
    both = Keyctl(fork_server, own_keyctl.home, hosts(own_url, standby.port, own_server.port))
    both.create("new")
    both.ok("revoke", "ci", "--yes")


def test_a_standby_that_is_ahead_of_the_server_that_took_over_is_not_believed(
    own_keyctl: Keyctl, own_url: str, own_server: Server, read_url: str, standby: Standby
) -> None:
    """Promise 5: the standby follows the old primary, whose log has gone further than that of the new one; its position
    says nothing of what the new one has written."""
    raw, _ = own_keyctl.create("ci")
    promoted = Standby(own_server)
    try:
        promoted.catch_up()
        promoted.promote()
        asked(own_url, "SELECT length(pg_logical_emit_message(false, 'further', repeat('-', 1000000))::text)")
        standby.catch_up()
        new_url = hosts(own_url, promoted.port)
        with KeyVerifier(read_url, usage_database_url=new_url, max_staleness=BOUND, timeout=BOUND) as verifier:
            verifier.verify(raw)
            wait_for(lambda: listeners(new_url), "nobody listens to the new primary")
            revoke_by_hand(new_url, raw)
            until(verifier, raw, Reason.UNAVAILABLE, within=BEHIND + SLACK)
            assert verifier.trouble is not None
            assert "follows another" in verifier.trouble.message
            # It is not believed either while the new one has gone just as far.
            gap = asked(read_url, "SELECT CAST(pg_last_wal_replay_lsn() - '0/0' AS bigint)")
            gap -= asked(new_url, "SELECT CAST(pg_current_wal_lsn() - '0/0' AS bigint)")
            asked(new_url, f"SELECT length(pg_logical_emit_message(false, 'as far', repeat('-', {gap}))::text)")
            deadline = time.monotonic() + 2 * BOUND
            while time.monotonic() < deadline:
                assert not verifier.verify(raw)
                time.sleep(0.02)
    finally:
        promoted.close()


# The last test: the standby is none afterwards.
def test_after_a_failover_only_the_server_that_announces_changes_is_believed(
    own_keyctl: Keyctl, own_url: str, own_server: Server, standby: Standby
) -> None:
    """Promise 5: the old primary comes back, takes itself for the primary, and is the first that is tried."""
    raw, _ = own_keyctl.create("ci")
    other, _ = own_keyctl.create("other")
    standby.catch_up()
    url = hosts(own_url, own_server.port, standby.port)
    new_url = hosts(own_url, standby.port)
    with KeyVerifier(url, usage="off", max_staleness=BOUND) as verifier:
        assert verifier.verify(raw)
        wait_for(lambda: listeners(own_url), "nobody listens")
        own_server.stop()
        standby.promote()
        until(verifier, raw, Reason.OK, within=15)
        wait_for(lambda: listeners(new_url), "nobody listens to the new primary")
        until(verifier, raw, Reason.OK, within=SLACK)
        own_server.start()
        readers = sessions(new_url) - listeners(new_url)
        assert readers
        with psycopg.connect(new_url, autocommit=True) as session:
            session.execute("UPDATE api_key SET revoked_at = now(), revoked_by = 'me' WHERE id = %s", (key_id(raw),))
            for reader in readers:
                session.execute("SELECT pg_terminate_backend(%s)", (reader,))
        deadline = time.monotonic() + 4 * BOUND
        until(verifier, raw, Reason.UNAVAILABLE, within=BEHIND + SLACK)
        while time.monotonic() < deadline:
            assert not verifier.verify(raw)
            time.sleep(0.02)
        own_server.stop()
        until(verifier, raw, Reason.REVOKED, within=15)
        until(verifier, other, Reason.OK, within=SLACK)
    own_server.start()  # to be stopped
