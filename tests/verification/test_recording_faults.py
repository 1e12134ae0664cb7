"""Promise 8 through faults: what was accepted is written once, whatever becomes of the server or of a commit.

PostgreSQL alone where a test does not say otherwise: SQLite has no server to stop, no row to lock and no commit
whose answer could be lost.
"""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from urllib.parse import urlsplit

import psycopg
import pytest

from alphalens_keyctl import KeyVerifier
from alphalens_keyctl.database import Database
from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.models import Reason
from tests.services.postgresql import Server, wait_until_up
from tests.support import unguarded
from tests.support.commands import Keyctl
from tests.support.databases import by_hand, end_sessions, on_postgresql
from tests.support.freshness import BOUND, HANGING, NEVER
from tests.support.uses import (
    Client,
    Fault,
    Proxy,
    assert_each_counted_once,
    do_not_wait,
    forget_it,
    lose_the_answer,
    rows,
)
from tests.support.waiting import wait_for

RECOVERY = 20.0  # seconds after which uses that are still not written count as lost
MALFORMED = 7

# So slow that a fault can be timed to hit a transaction that records.
DAWDLE = """CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN PERFORM pg_sleep(0.3); RETURN NULL; END $$;
    CREATE TRIGGER dawdle AFTER INSERT ON usage_event FOR EACH STATEMENT EXECUTE FUNCTION dawdle()"""
RECORDING = """SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state = 'active'
    AND pid <> pg_backend_pid() AND query LIKE 'SELECT alphalens_keyctl_record_uses%'"""
# Both act when the transaction is committed, the first time alone: a sequence remembers across a rollback.
AT_COMMIT = """CREATE SEQUENCE commits;
    CREATE FUNCTION at_commit() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN IF nextval('commits') = 1 THEN {}; END IF; RETURN NULL; END $$;
    CREATE CONSTRAINT TRIGGER at_commit AFTER UPDATE ON api_key DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION at_commit()"""
END_SESSION = "PERFORM pg_terminate_backend(pg_backend_pid()); PERFORM pg_sleep(10)"
TAKE_LONG = "PERFORM pg_sleep(1.5)"


def attempts(url: str) -> int:
    with psycopg.connect(url) as session:
        (number,) = session.execute("SELECT sum(count) FROM usage_event WHERE outcome = 'malformed'").fetchone() or (0,)
    return int(number or 0)


def is_recording(url: str) -> bool:
    with psycopg.connect(url) as session:
        return session.execute(RECORDING).fetchone() != (0,)


def is_written(verifier: KeyVerifier) -> bool:
    with suppress(KeyctlError):
        verifier.flush()
        return True
    return False


def assert_in_bounded_time(call: Callable[[], object]) -> None:
    started = time.monotonic()
    try:
        call()
    finally:
        assert time.monotonic() - started < HANGING


@pytest.fixture
def proxy(database_url: str) -> Iterator[Proxy]:
    with closing(Proxy(database_url)) as one:
        yield one


def kill_the_session_that_records(url: str) -> None:
    """As the kernel does when memory runs out: PostgreSQL then ends every session and recovers by itself."""
    with psycopg.connect(url) as session:
        processes = session.execute(RECORDING.replace("count(*)", "pid")).fetchall()
    for (process,) in processes:
        os.kill(process, signal.SIGKILL)


@pytest.mark.parametrize("how", ["fast", "immediate", "killed"])
def test_a_server_that_ends_in_the_middle_of_recording_costs_no_use(
    own_keyctl: Keyctl, own_server: Server, own_url: str, how: str
) -> None:
    """Promises 8 and 9: neither lost nor written twice, and nobody has to restart the service."""
    raw, _ = own_keyctl.create("ci")
    by_hand(own_url, DAWDLE)
    with KeyVerifier(own_url, max_staleness=BOUND, timeout=BOUND) as verifier:
        client = Client(verifier, raw)
        with client.asking():
            wait_for(lambda: is_recording(own_url), "nothing is recorded")
            if how == "killed":
                kill_the_session_that_records(own_url)
                wait_until_up(own_url)
            else:
                own_server.stop(how)
                wait_for(lambda: Reason.UNAVAILABLE in client.refused, "a server that is gone is not missed")
                own_server.start()
            before = len(client.accepted)
            wait_for(lambda: len(client.accepted) > before, "it does not come back")
        wait_for(lambda: is_written(verifier), "the uses are held for ever", RECOVERY)
    assert set(client.refused) <= {Reason.UNAVAILABLE}
    assert_each_counted_once(own_url, client)


@on_postgresql
@pytest.mark.parametrize(
    ("fault", "when_committing"),
    [
        pytest.param(lose_the_answer, None, id="the answer is lost"),
        pytest.param(do_not_wait, TAKE_LONG, id="the connection is lost and the commit goes on"),
        pytest.param(forget_it, None, id="the commit never arrives"),
        pytest.param(None, END_SESSION, id="the session is ended in the commit"),
    ],
)
def test_uses_are_counted_once_when_a_commit_is_not_answered(
    keyctl: Keyctl,
    database_url: str,
    proxy: Proxy,
    fault: Fault | None,
    when_committing: str | None,
) -> None:
    raw, _ = keyctl.create("ci")
    with KeyVerifier(proxy.url) as verifier:
        client = Client(verifier, raw)
        client.warm_up(database_url)
        if when_committing is not None:
            by_hand(database_url, AT_COMMIT.format(when_committing))
        proxy.at_commit = fault
        client.ask(50)
        for _ in range(MALFORMED):
            verifier.verify("x")
        with pytest.raises(KeyctlError):
            verifier.flush()
        assert proxy.at_commit is None
        client.ask(50)
        wait_for(lambda: is_written(verifier), "the uses are held for ever", RECOVERY)
    assert len(client.accepted) == 102
    assert_each_counted_once(database_url, client)
    assert attempts(database_url) == MALFORMED


@pytest.mark.parametrize("others", [0, 100], ids=["alone", "among others"])
def test_uses_are_counted_once_when_the_server_dies_with_a_commit_and_gives_its_number_again(
    own_keyctl: Keyctl, own_server: Server, own_url: str, others: int
) -> None:
    """What was not yet on the disk is forgotten, the numbers of transactions too: the same number may then be
    another transaction's, or one that is still to come."""
    raw, _ = own_keyctl.create("ci")
    by_hand(own_server.url, "ALTER SYSTEM SET wal_writer_delay = '10s'")
    by_hand(own_server.url, "SELECT pg_reload_conf()")
    with closing(Proxy(own_url)) as proxy, KeyVerifier(proxy.url, timeout=BOUND) as verifier:
        client = Client(verifier, raw)
        client.warm_up(own_url)
        proxy.at_commit = lambda *_: own_server.stop("immediate")
        client.ask(50)
        with pytest.raises(KeyctlError):
            verifier.flush()
        own_server.start()
        with psycopg.connect(own_url, autocommit=True) as session:
            for _ in range(others):
                session.execute("SELECT txid_current()")
        wait_for(client.ask, "it does not come back", RECOVERY)
        wait_for(lambda: is_written(verifier), "the uses are held for ever", RECOVERY)
    assert len(client.accepted) == 53
    assert_each_counted_once(own_url, client)


@on_postgresql
def test_a_key_that_somebody_locks_holds_up_its_own_uses_alone(keyctl: Keyctl, database_url: str) -> None:
    (locked, _), (free, _) = keyctl.create("locked"), keyctl.create("free")
    with KeyVerifier(database_url) as verifier:
        held, passing = Client(verifier, locked), Client(verifier, free)
        with psycopg.connect(database_url) as holder:
            holder.execute("SELECT 1 FROM api_key WHERE name = 'locked' FOR UPDATE")
            held.ask(20)
            passing.ask(30)
            wait_for(lambda: rows(database_url, free) == 30, "the other key's uses wait too")
            with pytest.raises(KeyctlError) as refused:
                assert_in_bounded_time(verifier.flush)
            assert refused.value.code is Code.DATABASE_BUSY
            assert rows(database_url, locked) == 0
        wait_for(lambda: rows(database_url, locked) == 20, "they are not written though nobody holds the key")
    assert_each_counted_once(database_url, held, passing)


@on_postgresql
def test_uses_that_wait_for_a_lock_are_no_part_of_a_commit_that_is_not_answered(
    keyctl: Keyctl, database_url: str, proxy: Proxy
) -> None:
    (locked, _), (free, _) = keyctl.create("locked"), keyctl.create("free")
    with KeyVerifier(proxy.url) as verifier:
        held, passing = Client(verifier, locked), Client(verifier, free)
        held.warm_up(database_url)
        with psycopg.connect(database_url) as holder:
            holder.execute("SELECT 1 FROM api_key WHERE name = 'locked' FOR UPDATE")
            proxy.at_commit = lose_the_answer
            held.ask(20)
            passing.ask(30)
            wait_for(lambda: proxy.at_commit is None, "nothing is committed")
        wait_for(lambda: is_written(verifier), "the uses are held for ever", RECOVERY)
    assert_each_counted_once(database_url, held, passing)


@on_postgresql
@pytest.mark.parametrize("table", ["usage_event", "api_key"])
def test_while_a_table_is_locked_every_answer_comes_in_bounded_time_and_no_use_is_lost(
    keyctl: Keyctl, database_url: str, table: str
) -> None:
    """Promises 8 and 9."""
    (known, _), (new, _) = keyctl.create("known"), keyctl.create("new")
    with KeyVerifier(database_url, timeout=BOUND, max_staleness=NEVER) as verifier:
        remembered, unseen = Client(verifier, known), Client(verifier, new)
        remembered.warm_up(database_url)
        with psycopg.connect(database_url) as holder:
            holder.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE".encode())
            for client in (remembered, unseen) * 3:
                assert_in_bounded_time(client.ask)
            with pytest.raises(KeyctlError) as refused:
                assert_in_bounded_time(verifier.flush)
            assert refused.value.code is Code.DATABASE_BUSY
        # A key whose record cannot be read is refused; the uses of one that is known wait.
        assert remembered.refused == []
        assert unseen.refused == ([Reason.UNAVAILABLE] * 3 if table == "api_key" else [])
        wait_for(unseen.ask, "it does not come back", RECOVERY)
        verifier.flush()
    assert_each_counted_once(database_url, remembered, unseen)


@pytest.mark.parametrize("usage", ["required", "best-effort"])
def test_while_the_server_is_away_uses_are_held_up_to_the_bound_and_written_when_it_is_back(
    own_keyctl: Keyctl, own_server: Server, own_url: str, usage: str, caplog: pytest.LogCaptureFixture
) -> None:
    """`required` then refuses and accepts again; `best-effort` goes on and says how much it dropped."""
    raw, _ = own_keyctl.create("ci")
    with KeyVerifier(own_url, usage=usage, max_pending=20, max_staleness=NEVER, timeout=BOUND) as verifier:
        client = Client(verifier, raw)
        client.warm_up(own_url)
        own_server.stop()
        try:
            client.ask(60)
        finally:
            own_server.start()
        wait_for(lambda: is_written(verifier), "the uses are held for ever", RECOVERY)
        if usage == "required":
            # Of 40 refused attempts as many are held as of uses.
            assert (len(client.accepted), verifier.dropped) == (22, 20)
            assert set(client.refused) == {Reason.UNAVAILABLE}
        else:
            assert (len(client.accepted), verifier.dropped) == (62, 40)
            assert "dropped" in caplog.text
            del client.accepted[22:]
        wait_for(client.ask, "it does not come back", RECOVERY)
    assert_each_counted_once(own_url, client)


@on_postgresql
def test_while_the_database_is_read_only_keys_are_refused_and_nothing_more_is_held(
    keyctl: Keyctl, database_url: str
) -> None:
    """Promise 8: what was taken before is written later; what could only be lost is not taken."""
    raw, _ = keyctl.create("ci")
    name = urlsplit(database_url).path[1:]
    with KeyVerifier(database_url, max_staleness=NEVER) as verifier:
        client = Client(verifier, raw)
        client.warm_up(database_url)
        by_hand(database_url, f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        end_sessions(database_url)
        wait_for(lambda: not client.ask(), "uses are held that nobody can write", RECOVERY)
        assert not verifier.ready()
        assert not client.ask(20)
        with psycopg.connect(database_url, autocommit=True) as session:
            session.execute("SET default_transaction_read_only = off")
            session.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only".encode())
        end_sessions(database_url)
        wait_for(verifier.ready, "it does not come back", RECOVERY)
        wait_for(client.ask, "it does not come back", RECOVERY)
    assert_each_counted_once(database_url, client)


@pytest.mark.parametrize("usage", ["required", "best-effort"])
@on_postgresql
def test_a_database_that_never_took_a_use_makes_required_refuse_from_the_start(
    keyctl: Keyctl, database_url: str, usage: str
) -> None:
    """Promise 8: without the right to record, uses would be held until the end and be lost then."""
    raw, _ = keyctl.create("ci")
    by_hand(database_url, "ALTER FUNCTION alphalens_keyctl_record_uses(jsonb, jsonb) RENAME TO gone")
    verifier = KeyVerifier(database_url, usage=usage)
    assert bool(verifier.verify(raw)) is (usage == "best-effort")
    assert verifier.ready() is (usage == "best-effort")
    by_hand(database_url, "ALTER FUNCTION gone(jsonb, jsonb) RENAME TO alphalens_keyctl_record_uses")
    wait_for(lambda: verifier.verify(raw), "it does not come back", RECOVERY)
    verifier.close()


def test_a_corrupt_row_makes_its_own_key_unavailable_and_no_other(
    keyctl: Keyctl, database: Database, database_url: str
) -> None:
    """Promise 9, on both databases."""
    good, _ = keyctl.create("good")
    corruptions: list[tuple[str, object]] = [
        ("labels", "[1]"),
        ("labels", '"text"'),
        ("digest", b"short"),
        ("digest_scheme", "md5"),
    ]
    if database_url.startswith("sqlite"):
        by_hand(database_url, "DROP TRIGGER api_key_labels_changed")  # it would not take them
        corruptions += [("labels", "no JSON"), ("created_at", "yesterday"), ("expires_at", 5), ("digest", "text")]
    else:
        corruptions += [("created_at", "infinity"), ("expires_at", "infinity"), ("retires_at", "-infinity")]
        for constraint in ("api_key_labels_object", "api_key_digest_is_sha256"):
            by_hand(database_url, f"ALTER TABLE api_key DROP CONSTRAINT {constraint}")
    unlike = {}
    with KeyVerifier(database_url, max_staleness=0) as verifier:
        for number, (column, value) in enumerate(corruptions):
            raw, ident = keyctl.create(f"bad-{number}")
            assert verifier.verify(raw)
            with unguarded.off(database):
                by_hand(database_url, f"UPDATE api_key SET {column} = %s WHERE id = %s", value, ident)
            answer = verifier.verify(raw)
            assert not answer, column
            if answer.reason is not Reason.UNAVAILABLE:
                unlike[column, value] = answer.reason
            assert verifier.verify(good), column
    assert unlike == {}
