"""What mutation testing of promises 5, 8 and 9 found unguarded: the small windows and the bounds.

Each test fails when the one line that it is about is broken.
"""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from linecache import getline
from types import FrameType
from typing import Any

import psycopg
import pytest
from sqlalchemy import event, text

from alphalens_keyctl import KeyVerifier, retention
from alphalens_keyctl.database import Database, Limits, parse_address
from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.models import Key, Reason, Status
from alphalens_keyctl.provenance import Act, Origin
from alphalens_keyctl.verification import recorder as recording
from alphalens_keyctl.verification.check import Record, judge
from alphalens_keyctl.verification.recorder import Recorder, Usage
from tests.commands import Keyctl, Zygote
from tests.test_cli_audit_usage import record
from tests.test_cli_list import put
from tests.test_cli_prune import make_partition
from tests.test_recording import rows, use_count
from tests.test_usage import row
from tests.test_verifier_freshness import (
    BOUND,
    NEVER,
    SLACK,
    by_hand,
    listeners,
    on_postgresql,
    on_sqlite,
    path_of,
    revoke_by_hand,
    suspend_by_hand,
    until,
    wait_for,
    wait_until_told,
)

LOOKING_UP = ("sqlite_source.py", "postgresql_source.py", "verifier.py")


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


class Halting(threading.Thread):
    """Asks a verifier, and halts before the n-th line (of those with `before` in them) that it runs of the look-up,
    until told to go on."""

    def __init__(self, ask: Callable[[str], object], raw: str, line: int, *, before: str = "") -> None:
        super().__init__()
        self._ask, self._raw, self._left, self._before = ask, raw, line, before
        self.halted, self.over, self._go_on = threading.Event(), threading.Event(), threading.Event()

    def run(self) -> None:
        sys.settrace(self._trace)
        try:
            self._ask(self._raw)
        finally:
            sys.settrace(None)
            self.over.set()
            self.halted.set()

    def go_on(self) -> None:
        self._go_on.set()
        self.join(30)

    def _trace(self, frame: FrameType, what: str, _argument: object) -> Any:
        if not frame.f_code.co_filename.endswith(LOOKING_UP):
            return None
        if what == "line" and self._before in getline(frame.f_code.co_filename, frame.f_lineno):
            self._left -= 1
            if self._left == 0:
                self.halted.set()
                self._go_on.wait(30)
        return self._trace


def test_wherever_in_a_look_up_a_change_comes_the_key_is_not_remembered_as_it_was(
    keyctl: Keyctl, database_url: str
) -> None:
    """Promise 5: what was read before a change never passes for what was read after it."""
    (raw, ident), (other, _) = keyctl.create("ci"), keyctl.create("other")
    lines = 0
    with KeyVerifier(database_url, max_staleness=NEVER, usage="off") as verifier:
        assert verifier.verify(raw)
        wait_until_told(verifier, database_url, raw)
        while True:
            looking = Halting(verifier.verify, raw, lines + 1)
            by_hand(database_url, "UPDATE api_key SET suspended_at = NULL WHERE id = %s", ident)
            wait_for(lambda: verifier.ready() and verifier.verify_cached(raw) is None, "the change is not seen")
            assert verifier.verify(other)
            looking.start()
            assert looking.halted.wait(30)
            if looking.over.is_set():
                break
            suspend_by_hand(database_url, ident)
            # Somebody has to look, on SQLite; on PostgreSQL the word comes by itself.
            wait_for(lambda: verifier.ready() and verifier.verify_cached(other) is None, "the change is not seen")
            looking.go_on()
            # Two at once: the connection that has just read is busy, and another one has to know.
            busy = Halting(verifier.verify, other, 1, before="self._notice(reader)")
            busy.start()
            assert busy.halted.wait(30)
            assert verifier.verify(raw).reason is Reason.SUSPENDED, f"before line {lines + 1}"
            busy.go_on()
            lines += 1
        looking.join(30)
    assert lines > 10


@on_sqlite
def test_a_second_after_a_file_was_put_in_its_place_the_very_next_call_asks_that_one(
    keyctl: Keyctl, zygote: Zygote, database_url: str
) -> None:
    """Promise 5."""
    path = path_of(database_url)
    other = path.with_name("other.db")
    raw, _ = keyctl.create("old")
    Keyctl(zygote, keyctl.home, f"sqlite:///{other}").create("new")
    with KeyVerifier(database_url, usage="off") as verifier:
        assert verifier.verify(raw)
        other.replace(path)
        for ending in ("-wal", "-shm"):
            path.with_name(path.name + ending).unlink(missing_ok=True)
        time.sleep(1.05)
        assert verifier.verify(raw).reason is Reason.UNKNOWN


@on_sqlite
def test_a_look_that_began_in_the_file_that_was_replaced_vouches_for_nothing_in_the_new_one(
    keyctl: Keyctl, zygote: Zygote, database_url: str
) -> None:
    """Promise 5."""
    path = path_of(database_url)
    other = path.with_name("other.db")
    old, _ = keyctl.create("old")
    new, ident = Keyctl(zygote, keyctl.home, f"sqlite:///{other}").create("new")
    with KeyVerifier(database_url, usage="off") as verifier:
        assert verifier.verify(old)
        by_hand(database_url, "UPDATE api_key SET purpose = 'other'")
        early = Halting(verifier.verify, old, 1, before="= self._generation, ")
        early.start()
        assert early.halted.wait(30)
        assert verifier.verify(old)  # with a connection of its own: now there are two
        early.go_on()
        by_hand(database_url, "UPDATE api_key SET purpose = 'another'")
        late = (
            Halting(verifier.verify, old, 1, before="= self._generation, "),
            Halting(verifier.verify_cached, old, 1, before="self._give_back(reader)"),
        )
        for looking in late:
            looking.start()
            assert looking.halted.wait(30)
            assert not looking.over.is_set()
        other.replace(path)
        for ending in ("-wal", "-shm"):
            path.with_name(path.name + ending).unlink(missing_ok=True)
        time.sleep(1.05)
        assert verifier.verify(new)
        late[0].go_on()
        assert verifier.verify(old).reason is Reason.UNKNOWN
        late[1].go_on()
        suspend_by_hand(database_url, ident)
        assert verifier.verify(new).reason is Reason.SUSPENDED


@on_postgresql
def test_while_it_is_told_of_changes_a_key_is_remembered_beyond_the_bound(keyctl: Keyctl, database_url: str) -> None:
    """Issue 3: the bound is for the time when nobody can tell."""
    raw, _ = keyctl.create("ci")
    with KeyVerifier(database_url, max_staleness=0.3, usage="off") as verifier:
        assert verifier.verify(raw)
        wait_until_told(verifier, database_url, raw)
        time.sleep(0.6)
        wait_for(lambda: verifier.verify_cached(raw) is not None, "every look is at the database")


@on_postgresql
def test_where_the_trigger_has_been_off_for_long_the_bound_holds(keyctl: Keyctl, database_url: str) -> None:
    """Promise 5: silence means nothing while nobody would speak."""
    raw, _ = keyctl.create("ci")
    with KeyVerifier(database_url, max_staleness=BOUND, usage="off") as verifier:
        assert verifier.verify(raw)
        wait_until_told(verifier, database_url, raw)
        by_hand(database_url, "ALTER TABLE api_key DISABLE TRIGGER api_key_announce")
        time.sleep(2 * BOUND)
        assert verifier.verify(raw)
        revoke_by_hand(database_url, raw)
        until(verifier, raw, Reason.REVOKED, within=BOUND + SLACK)


FORKED = """
import json, os, sys
from alphalens_keyctl import KeyVerifier
raw = sys.stdin.readline().strip()
verifier = KeyVerifier(max_staleness=300)
assert verifier.verify(raw)
verifier.flush()
assert verifier.verify(raw)
def says(word):
    print(json.dumps(word), flush=True)
    sys.stdin.readline()
says("parent")
child = os.fork()
if child == 0:
    says([os.readlink(f"/proc/self/fd/{number}") for number in os.listdir("/proc/self/fd")
          if os.path.islink(f"/proc/self/fd/{number}")])
    assert verifier.verify(raw)
    says("child")
    verifier.close()
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
says("alone")
"""


def test_a_child_reads_and_listens_through_connections_of_its_own(keyctl: Keyctl, database_url: str) -> None:
    """Promise 5: it would share what SQLite believes of locks, and end or mix up the parent's sessions."""
    raw, _ = keyctl.create("ci")
    process = subprocess.Popen(
        [sys.executable, "-c", FORKED], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=keyctl.environment, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None

    def next_word(said: str) -> Any:
        process.stdin.write(f"{said}\n")  # type: ignore[union-attr]  # it is a pipe
        process.stdin.flush()  # type: ignore[union-attr]  # it is a pipe
        return json.loads(process.stdout.readline())  # type: ignore[union-attr]  # it is a pipe

    assert next_word(raw) == "parent"
    before: set[int] = set()
    if database_url.startswith("postgresql"):
        wait_for(lambda: listeners(database_url), "the parent does not listen")
        before = sessions(database_url)
    inherited = next_word("")
    assert not [name for name in inherited if "keys.db" in name]
    assert next_word("") == "child"
    if before:
        wait_for(lambda: listeners(database_url) - before, "the child does not listen")
    assert next_word("") == "alone"
    if before:
        assert before <= sessions(database_url)
    process.communicate("\n", timeout=30)
    assert process.returncode == 0


def sessions(url: str) -> set[int]:
    with psycopg.connect(url) as session:
        query = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        return {found[0] for found in session.execute(query)}


@on_postgresql
def test_a_connection_that_died_while_nobody_used_it_costs_no_answer(keyctl: Keyctl, database_url: str) -> None:
    """Promise 9: closed when in doubt, and a new connection leaves none."""
    (raw, _), (later, _) = keyctl.create("ci"), keyctl.create("later")
    with KeyVerifier(database_url, usage="off") as verifier:
        assert verifier.verify(raw)
        for process in sessions(database_url):
            by_hand(database_url, "SELECT pg_terminate_backend(%s)", process)
        assert verifier.verify(later).reason is Reason.OK


def test_a_key_on_its_way_to_its_destination_opens() -> None:
    """Promise 2: a place that outlives the process may already hold it."""
    unset: dict[str, Any] = dict.fromkeys(Key._fields)
    for status in Status:
        key = Key(**unset | {"status": status, "labels": {}})
        opens = judge(Record(key, b"", "sha256"), 0.0).answer.allowed
        assert opens is (status in {"active", "retiring", "delivering"}), status


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is written for want of time: only because there is much of it, or because somebody asks."""
    monkeypatch.setattr(recording, "_INTERVAL", 60.0)


def test_a_use_is_in_the_log_a_second_later(keyctl: Keyctl, database: Database) -> None:
    """Promise 8; issue 3: at most a second behind, with nobody asking for it."""
    raw, _ = keyctl.create("ci")
    with KeyVerifier(keyctl.database_url) as verifier:
        assert verifier.verify(raw)
        wait_for(lambda: rows(database), "it is not written", within=1.0 + SLACK)


@pytest.mark.usefixtures("slow")
def test_no_more_than_a_thousand_uses_wait(keyctl: Keyctl, database: Database) -> None:
    """Promise 8; issue 3: at most a thousand behind, however little time has passed."""
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
    assert sum(one.count for one in rows(database) if one.outcome == "malformed") == 10


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
        assert rows(database) == []
        with database.writing() as tx:
            tx.execute(text("DROP TRIGGER to_nothing" + (" ON api_key" if len(nothing) > 1 else "")))
    assert use_count(database) == len(rows(database)) == 1


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
    assert sum(one.count for one in rows(database)) == 50


def test_kinds_of_refused_attempts_that_wait_are_bounded_over_the_minutes_too(
    database: Database, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 8: each minute brings kinds of its own; beyond the bound the attempts themselves still count."""
    monkeypatch.setattr(recording, "_MOST_KINDS", 1000)
    limits = Limits(lock_timeout=0.2, query_timeout=0.5)
    now = int(time.time() // 60)
    recorder = Recorder(
        lambda: Database.open(parse_address(database_url), limits, create=False), Usage.REQUIRED, most=100_000
    )
    with held(database_url):
        for minute in range(10):
            for number in range(300):
                address = f"192.0.{minute}.{number}"
                recorder.refuse(((now - minute) * 60.0, Reason.UNKNOWN, None, address, None, None, None))
        with pytest.raises(KeyctlError):
            recorder.flush()
    recorder.flush(last=True)
    found = rows(database)
    assert sum(one.count for one in found) == 3000
    assert 1000 <= len(found) <= 1010


@on_postgresql
def test_a_month_that_has_no_partition_yet_gets_one(keyctl: Keyctl, database: Database, database_url: str) -> None:
    """Issue 3: nobody has to make them."""
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
import os, sys, threading
from alphalens_keyctl import KeyVerifier
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
for _ in range(20):
    child = os.fork()
    if child == 0:
        assert verifier.verify(raw)
        verifier.close()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
over.set()
thread.join()
verifier.close()
print(accepted[0] + 20)
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


@pytest.fixture
def one_month(database: Database) -> tuple[Database, datetime]:
    """A log in which January 2020 has a row at its start and one a second later; on PostgreSQL it is a partition."""
    start = datetime(2020, 1, 1, tzinfo=UTC)
    if database.address.display.startswith("postgresql"):
        make_partition(database, "usage_event_2020_01", "2020-01-01 00:00+00", "2020-02-01 00:00+00")
    key = put(database, "ci")
    record(database, [row(start, key), row(start + timedelta(seconds=1), key)])
    return database, start


ACT = Act(datetime(2026, 1, 1, tzinfo=UTC), "tester", Origin(None, None, None, None))


def test_a_row_at_the_very_limit_is_not_older_than_it(one_month: tuple[Database, datetime]) -> None:
    database, start = one_month
    for limit, removed in ((start, 0), (start + timedelta(seconds=1), 1)):
        with database.writing() as tx:
            assert retention.older(tx, limit) == removed
            assert retention.prune(tx, limit, ACT) == removed
    assert len(rows(database)) == 1


@on_postgresql
def test_no_row_comes_between_the_counting_and_the_dropping_of_a_month(
    one_month: tuple[Database, datetime], database_url: str
) -> None:
    """Promise 8: nothing is dropped in silence."""
    database, start = one_month
    late = 0

    def one_more(_tx: object, _cursor: object, statement: str, *_more: object) -> None:
        nonlocal late
        if statement.startswith("DROP TABLE"):
            with psycopg.connect(database_url) as session, suppress(psycopg.errors.LockNotAvailable):
                session.execute("SET lock_timeout = '200ms'")
                session.execute("INSERT INTO usage_event (at, key_id, outcome) VALUES (%s, 'x', 'ok')", (start,))
                late += 1

    with database.writing() as tx:
        event.listen(tx, "before_cursor_execute", one_more)
        pruned = retention.prune(tx, start + timedelta(days=60), ACT)
    assert pruned + len(rows(database)) == 2 + late
