"""Promise 8: how far recording may be behind, how much may wait, and what becomes of it.

Each test fails when the one line that it is about is broken.
"""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager

import psycopg
import pytest
from sqlalchemy import text

from alphalens_keyctl import KeyVerifier
from alphalens_keyctl.database import Database, Limits, parse_address
from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.models import Reason
from alphalens_keyctl.verification import recorder as recording
from alphalens_keyctl.verification import refused_attempts
from alphalens_keyctl.verification.recorder import Recorder
from alphalens_keyctl.verification.recording_policy import RecordingPolicy
from tests.support.commands import Keyctl
from tests.support.databases import by_hand, on_postgresql
from tests.support.freshness import BOUND, NEVER, SLACK, wait_until_told
from tests.support.usage_rows import usage_rows, use_count
from tests.support.waiting import wait_for


@contextmanager
def held(url: str) -> Iterator[None]:
    """Nobody can write a use until the block ends."""
    if url.startswith("sqlite"):
        with closing(Database.open(parse_address(url), Limits())) as database, database.writing():
            yield
    else:
        with psycopg.connect(url) as session:
            session.execute("LOCK TABLE usage_event IN ACCESS EXCLUSIVE MODE")
            yield
            session.rollback()


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is written for want of time: only because there is much of it, or because somebody asks."""
    monkeypatch.setattr(recording, "_INTERVAL", 60.0)


def test_a_use_is_in_the_log_a_second_later(keyctl: Keyctl, database: Database) -> None:
    """Promise 8: at most a second behind, with nobody asking for it."""
    raw, _ = keyctl.create("ci")
    with KeyVerifier(keyctl.database_url) as verifier:
        assert verifier.verify(raw)
        wait_for(lambda: usage_rows(database), "it is not written", within=1.0 + SLACK)


@pytest.mark.usefixtures("slow")
def test_no_more_than_a_thousand_uses_wait(keyctl: Keyctl, database: Database) -> None:
    """Promise 8: at most a thousand behind, however little time has passed."""
    raw, _ = keyctl.create("ci")
    with KeyVerifier(keyctl.database_url) as verifier:
        assert all(verifier.verify(raw) for _ in range(1500))
        wait_for(lambda: use_count(database) >= 500, "they wait for the clock")


def test_a_batch_that_could_not_be_written_is_written_later(
    keyctl: Keyctl, database: Database, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Promise 8: uses and refused attempts alike."""
    raw, _ = keyctl.create("ci")
    with KeyVerifier(database_url, timeout=BOUND) as verifier:
        assert verifier.verify(raw)
        verifier.flush()
        with held(database_url):
            for number in range(10):
                assert verifier.verify(raw)
                assert not verifier.verify("x", client_ip=f"192.0.2.{number}")
            wait_for(lambda: "uses are held" in caplog.text, "it does not try", within=30)
            assert verifier.verify(raw)
    assert use_count(database) == 12
    assert sum(one.count for one in usage_rows(database) if one.outcome == "malformed") == 10


def test_uses_that_are_being_written_count_among_those_that_wait(
    keyctl: Keyctl, database: Database, database_url: str
) -> None:
    """Promise 8: the bound is one on what can be lost."""
    raw, _ = keyctl.create("ci")
    with KeyVerifier(database_url, max_pending=50) as verifier:
        assert verifier.verify(raw)
        verifier.flush()
        with held(database_url):
            allowed = sum(map(bool, (verifier.verify(raw) for _ in range(30))))
            recorder = verifier._recorder
            assert recorder is not None
            wait_for(lambda: not recorder._accepted, "they are not taken")
            allowed += sum(map(bool, (verifier.verify(raw) for _ in range(40))))
            assert allowed == 50
    assert use_count(database) == 51


def test_a_use_that_comes_while_the_verifier_closes_is_refused_rather_than_lost(
    keyctl: Keyctl, database: Database, database_url: str
) -> None:
    """Promise 8."""
    raw, _ = keyctl.create("ci")
    verifier = KeyVerifier(database_url, max_staleness=NEVER)
    assert verifier.verify(raw)
    wait_until_told(verifier, database_url, raw)
    closing_it = threading.Thread(target=verifier.close)
    with held(database_url):
        allowed = 2 + sum(map(bool, [verifier.verify(raw)]))
        closing_it.start()
        wait_for(lambda: verifier._closed, "it does not close")
        time.sleep(0.1)
        assert verifier.verify(raw).reason is Reason.UNAVAILABLE
    closing_it.join(30)
    # The one that was refused may have been taken in.
    assert allowed <= use_count(database) <= allowed + 1


def test_a_database_that_turns_recording_into_nothing_is_noticed(keyctl: Keyctl, database: Database) -> None:
    """Promise 8: row security and triggers can do it without an error."""
    raw, _ = keyctl.create("ci")
    nothing = (
        "CREATE TRIGGER to_nothing BEFORE UPDATE ON api_key BEGIN SELECT RAISE(IGNORE); END",
    ) if database.address.display.startswith("/") else (
        "CREATE FUNCTION to_nothing() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$",
        "CREATE TRIGGER to_nothing BEFORE UPDATE ON api_key FOR EACH ROW EXECUTE FUNCTION to_nothing()",
    )  # fmt: skip
    with KeyVerifier(keyctl.database_url) as verifier:
        with database.writing() as tx:
            for statement in nothing:
                tx.execute(text(statement))
        assert verifier.verify(raw)
        with pytest.raises(KeyctlError) as refused:
            verifier.flush()
        assert refused.value.code is Code.DATABASE_UNUSABLE
        assert usage_rows(database) == []
        with database.writing() as tx:
            tx.execute(text("DROP TRIGGER to_nothing" + (" ON api_key" if len(nothing) > 1 else "")))
    assert use_count(database) == len(usage_rows(database)) == 1


@pytest.mark.usefixtures("slow")
def test_refused_attempts_that_wait_are_bounded_and_what_is_dropped_is_counted(
    keyctl: Keyctl, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    """Promise 8: whoever sends rubbish while the database is away cannot fill the memory."""
    with KeyVerifier(keyctl.database_url, max_pending=50) as verifier:
        for _ in range(80):
            assert not verifier.verify("x")
        assert verifier.dropped == 30
        assert "dropped" in caplog.text
    assert sum(one.count for one in usage_rows(database)) == 50


def test_kinds_of_refused_attempts_that_wait_are_bounded_over_the_minutes_too(
    database: Database, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 8: each minute brings kinds of its own; beyond the bound the attempts themselves still count."""
    monkeypatch.setattr(refused_attempts, "_MOST_KINDS", 1000)
    limits = Limits(lock_timeout=0.2, query_timeout=0.5)
    now = int(time.time() // 60)
    recorder = Recorder(
        lambda: Database.open(parse_address(database_url), limits, create=False), RecordingPolicy.REQUIRED, most=100_000
    )
    with held(database_url):
        for minute in range(10):
            for number in range(300):
                address = f"192.0.{minute}.{number}"
                recorder.refuse(((now - minute) * 60.0, Reason.UNKNOWN, None, address, None, None, None))
        with pytest.raises(KeyctlError):
            recorder.flush()
    recorder.flush(last=True)
    found = usage_rows(database)
    assert sum(one.count for one in found) == 3000
    assert 1000 <= len(found) <= 1010


@on_postgresql
def test_a_month_that_has_no_partition_yet_gets_one(keyctl: Keyctl, database: Database, database_url: str) -> None:
    """Promise 8: nobody has to make partitions for the log to go on."""
    raw, _ = keyctl.create("ci")
    month = f"usage_event_{time.strftime('%Y_%m', time.gmtime())}"
    by_hand(database_url, f"DROP TABLE {month}")
    with KeyVerifier(database_url) as verifier:
        assert verifier.verify(raw)
    with database.reading() as connection:
        assert connection.scalar(text("SELECT tableoid::regclass::text FROM usage_event")) == month


def test_the_last_use_of_a_batch_is_the_one_that_the_key_remembers(keyctl: Keyctl, database: Database) -> None:
    """Promise 8."""
    raw, _ = keyctl.create("ci")
    with KeyVerifier(keyctl.database_url) as verifier:
        for _ in range(3):
            assert verifier.verify(raw)
            time.sleep(0.01)
    with database.reading() as connection:
        query = "SELECT (SELECT last_used_at FROM api_key) = (SELECT max(at) FROM usage_event)"
        assert connection.scalar(text(query))


FORKING = """
import os, sys, threading, warnings
from alphalens_keyctl import KeyVerifier
warnings.simplefilter("ignore", DeprecationWarning)  # that a process with threads forks, Python 3.12 and later
raw = sys.stdin.readline().strip()
verifier = KeyVerifier()
accepted, over = [0], threading.Event()
def use():
    while not over.wait(0.0005):
        accepted[0] += bool(verifier.verify(raw))
thread = threading.Thread(target=use)
thread.start()
while accepted[0] < 200:  # from here on there is always something being written
    over.wait(0.01)
for _ in range(10):
    child = os.fork()
    if child == 0:
        assert verifier.verify(raw)
        verifier.close()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
over.set()
thread.join()
verifier.close()
print(accepted[0] + 10)
"""


def test_a_process_that_forks_while_it_records_loses_nothing_and_writes_nothing_twice(
    keyctl: Keyctl, database: Database
) -> None:
    """Promise 8."""
    raw, _ = keyctl.create("ci")
    done = subprocess.run(
        [sys.executable, "-c", FORKING], input=raw, env=keyctl.environment, text=True, capture_output=True, timeout=60,
        check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert use_count(database) == int(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a thread has no priority of its own")
def test_the_thread_that_writes_stands_back_behind_those_that_verify(keyctl: Keyctl) -> None:
    raw, _ = keyctl.create("ci")
    others = threading.enumerate()  # an application of another test may still have its own
    with KeyVerifier(keyctl.database_url) as verifier:
        assert verifier.verify(raw)
        ours = set(threading.enumerate()) - set(others)
        (writer,) = (each.native_id for each in ours if each.name == "alphalens-keyctl usage")
        assert writer is not None
        here = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
        wait_for(lambda: os.getpriority(os.PRIO_PROCESS, writer) == min(here + 5, 19), "it asks for as much as we do")
