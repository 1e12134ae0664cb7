"""Thousands of keys revoked, suspended or resumed at once: killed, interrupted, raced, on a full disk, unheard.

Promises 5, 6 and 7: all or nothing, and an event for each key that changed.
"""

import os
import signal
import threading
import time
from collections import Counter
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pytest
from sqlalchemy import Connection, event, insert, select, text
from sqlalchemy.engine import Engine

from alphalens_keyctl import KeyVerifier
from alphalens_keyctl.database import Database
from alphalens_keyctl.database.sqlite import WRITES
from alphalens_keyctl.keyformat import RawKey, generate
from alphalens_keyctl.logs import audit, bound_rows
from alphalens_keyctl.logs.audit import LogFilter
from alphalens_keyctl.models import Action, Reason, event_table, key_table
from tests.support.commands import Before, Keyctl, Result
from tests.support.databases import by_hand, dialect, on_sqlite, one_database
from tests.support.faults import at_once, fault, go_on, limit_file_size, pause, paused
from tests.support.fork_server import CLOSED
from tests.support.freshness import TOLD, until
from tests.support.judge import Judge
from tests.support.key_rows import key_row, put
from tests.support.streams import into_closed_pipe
from tests.support.waiting import wait_for

CROWD: Final = 1100  # a command with so many takes long enough to be killed on the way
MORE_THAN_A_CHUNK: Final = 5200
REVOKE: Final = ("revoke", "--owner", "ops", "--max", "9999", "--yes")


def stop_at(statement: str, when: str, number: int) -> None:
    """In the process of a command: send itself a signal `before` or `after` the first statement that does so."""
    sent = False

    def come(*details: Any) -> None:
        nonlocal sent
        if not sent and (statement == "COMMIT" or statement in details[2]):
            sent = True
            os.kill(os.getpid(), number)

    event.listen(Engine, "commit" if statement == "COMMIT" else f"{when}_cursor_execute", come)


def stopping(statement: str, when: str, number: signal.Signals) -> Before:
    return [(__name__, stop_at.__name__, (statement, when, int(number)))]


def pause_before_writing(folder: str) -> None:
    """In the process of a command: wait where it has read and is about to write."""

    def come(connection: Connection) -> None:
        if connection.get_execution_options().get(WRITES):
            pause(folder)

    event.listen(Engine, "begin", come)


def crowd(database: Database, number: int, **values: Any) -> list[str]:
    """Active keys of one owner, and one of nobody's; returns the ids of the first, in order."""
    rows = [key_row(f"ci-{each}", owner="ops", **values) for each in range(number)]
    with database.writing() as tx:
        tx.execute(insert(key_table), [*rows, key_row("other", owner=None, **values)])
    return sorted(each["id"] for each in rows)


def revoked(database: Database) -> list[str]:
    """The keys that are revoked, in order; each of them, and no other, has one event, which binds its row, and the
    chain is sound."""
    assert audit.verify(database, log_only=True).broken is None  # the keys of a crowd have no other event
    with database.reading() as connection:
        found = list(
            connection.scalars(
                select(key_table.c.id).where(key_table.c.revoked_at.is_not(None)).order_by(key_table.c.id)
            )
        )
        said = connection.scalars(select(event_table.c.key_id).where(event_table.c.action == "key.revoke")).all()
        assert Counter(said) == Counter(found)
        bound = {each.key_id: each.detail["row"] for each in audit.read(connection, LogFilter(action=Action.REVOKE))}
        assert bound == bound_rows.digests(connection, found)
        if connection.dialect.name == "sqlite":
            assert connection.exec_driver_sql("PRAGMA integrity_check").scalars().all() == ["ok"]
    return found


def let_go(database: Database, judging: Judge) -> None:
    """Wait until a killed command's session has gone, which `database`'s own is not to be taken for."""
    database.close()
    judging.wait_until_alone()


STOPS: Final = (("UPDATE api_key", "before"), ("UPDATE api_key", "after"), ("INSERT INTO audit_event", "before"),
                ("INSERT INTO audit_event", "after"), ("COMMIT", "before"))  # fmt: skip


@pytest.mark.parametrize(
    ("number", "many"),
    [
        pytest.param(signal.SIGKILL, 320, id="SIGKILL"),
        pytest.param(signal.SIGINT, 120, id="SIGINT"),
        pytest.param(signal.SIGTERM, 120, id="SIGTERM", marks=pytest.mark.one_database),
    ],
)
def test_a_revocation_of_hundreds_that_is_stopped_before_its_end_changes_nothing(
    keyctl: Keyctl, database: Database, number: signal.Signals, many: int
) -> None:
    selected = crowd(database, many)
    judging = Judge(str(keyctl.database_url))
    for statement, when in STOPS:
        stopped = keyctl(*REVOKE, "--json", before=stopping(statement, when, number))
        assert stopped.status == (130 if number is signal.SIGINT else -number), (statement, when, stopped)
        assert stopped.stdout == ""
        let_go(database, judging)
        assert revoked(database) == [], (statement, when)
    judging.close()
    assert keyctl(*REVOKE).stdout.splitlines()[-1] == f"Revoked {many:,} keys in all."
    assert revoked(database) == selected


def test_a_revocation_that_is_killed_at_any_moment_is_whole_or_nothing(
    keyctl: Keyctl, database: Database, tmp_path: Path
) -> None:
    """Killed from outside where it stands, not at a place of its own choosing."""
    selected = crowd(database, CROWD)
    judging = Judge(str(keyctl.database_url))
    waiting = paused(keyctl, tmp_path / "gate", "before_commit", 1, *REVOKE)
    assert revoked(database) == []  # nobody sees what is not committed
    waiting.kill()
    assert waiting.wait().status == -signal.SIGKILL
    let_go(database, judging)
    for number in range(4):
        running = keyctl.start(*REVOKE)
        # As long as it takes to come to the next of its milestones: a part of a second, and no more is asked of it.
        time.sleep(0.08 * (number + 1))
        with suppress(ProcessLookupError):  # it was faster
            running.kill()
        assert running.wait().status in (0, -signal.SIGKILL)
        let_go(database, judging)
        assert revoked(database) in ([], selected)
    judging.close()
    assert keyctl(*REVOKE).status == 0
    assert revoked(database) == selected


def test_one_that_is_killed_after_its_commit_has_revoked_them_all(keyctl: Keyctl, database: Database) -> None:
    selected = crowd(database, 200)
    killed = keyctl(*REVOKE, "--json", before=[("tests.support.faults", "at", ("after_commit", 1, "kill"))])
    assert (killed.status, killed.stdout) == (-signal.SIGKILL, "")
    assert revoked(database) == selected
    assert keyctl.ok(*REVOKE, "--json").json["changed"] == []


def test_more_keys_than_are_written_at_once_are_one_change(keyctl: Keyctl, database: Database) -> None:
    selected = crowd(database, MORE_THAN_A_CHUNK)
    dry = keyctl.ok("revoke", "--owner", "ops", "--max", "9999", "--dry-run", "--json").json
    done = keyctl.ok(*REVOKE, "--json", "--reason", "tidying").json
    assert [key["id"] for key in done["changed"]] == [key["id"] for key in dry["changed"]] == selected
    assert {key["revoke_reason"] for key in done["changed"]} == {"tidying"}
    assert len({key["revoked_at"] for key in done["changed"]}) == 1
    assert revoked(database) == selected
    with database.reading() as connection:
        assert connection.scalar(text("SELECT count(DISTINCT at) FROM audit_event")) == 1


SWALLOW: Final = {
    "sqlite": ["CREATE TRIGGER swallow BEFORE UPDATE ON api_key WHEN OLD.id = '{}' BEGIN SELECT RAISE(IGNORE); END"],
    "postgresql": [
        "CREATE FUNCTION swallow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
        "CREATE TRIGGER a BEFORE UPDATE ON api_key FOR EACH ROW WHEN (OLD.id = '{}') EXECUTE FUNCTION swallow()",
    ],
}
UNDO: Final = {
    "sqlite": [
        """CREATE TRIGGER undo AFTER UPDATE OF suspended_at ON api_key WHEN OLD.id = '{}'
        BEGIN UPDATE api_key SET suspended_at = NULL WHERE id = OLD.id; END"""
    ],
    "postgresql": [
        "CREATE FUNCTION undo() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.suspended_at = NULL; RETURN NEW; END'",
        "CREATE TRIGGER undo BEFORE UPDATE ON api_key FOR EACH ROW WHEN (OLD.id = '{}') EXECUTE FUNCTION undo()",
    ],
}


@pytest.mark.parametrize(
    ("how", "verb", "many"), [(SWALLOW, "revoke", MORE_THAN_A_CHUNK), (SWALLOW, "suspend", 60), (UNDO, "suspend", 60)]
)
def test_one_key_of_thousands_that_the_database_does_not_change_undoes_all(
    keyctl: Keyctl, database: Database, how: dict[str, list[str]], verb: str, many: int
) -> None:
    selected = crowd(database, many)
    for statement in how[dialect(database)]:
        by_hand(str(keyctl.database_url), statement.format(selected[-1]))
    done = keyctl(verb, *REVOKE[1:], "--json")
    assert (done.status, done.stdout, done.error["code"]) == (7, "", "database_unusable")
    with database.reading() as connection:
        assert connection.scalar(text("SELECT count(*) FROM api_key WHERE status <> 'active'")) == 0
        assert connection.scalar(text("SELECT count(*) FROM audit_event")) == 0


def test_two_that_overlap_both_succeed_and_each_key_is_revoked_once(keyctl: Keyctl, database: Database) -> None:
    billing: dict[str, Any] = {"labels": {"team": "billing"}}
    with database.writing() as tx:
        tx.execute(
            insert(key_table), [key_row(f"a-{n}", owner="ops", **({} if n % 2 else billing)) for n in range(120)]
        )
        tx.execute(insert(key_table), [key_row(f"b-{n}", owner="dev", **billing) for n in range(60)])
        tx.execute(insert(key_table), [key_row("other")])
    wide = ("--max", "500", "--yes", "--json")
    results = at_once(
keyctl,        ("revoke", "--owner", "ops", *wide), ("revoke", "--label", "team=billing", *wide),
        ("revoke", "--name", "a-1*", *wide),
    )  # fmt: skip
    assert [result.status for result in results] == [0, 0, 0], results
    changed = [key["id"] for result in results for key in result.json["changed"]]
    assert len(changed) == len(set(changed)) == 180
    assert revoked(database) == sorted(changed)


def test_commands_that_name_the_same_keys_in_different_orders_do_not_stop_each_other(
    keyctl: Keyctl, database: Database
) -> None:
    selected = crowd(database, 60)
    orders = (selected, selected[::-1], selected[30:] + selected[:30])
    for verb in ("suspend", "resume", "revoke"):
        results = at_once(keyctl, *((verb, *order, "--json", "--yes") for order in orders))
        assert [result.status for result in results] == [0, 0, 0], results
        assert sum(len(result.json["changed"]) for result in results) == 60
        for result, order in zip(results, orders, strict=True):
            ids = [key["id"] for part in ("changed", "unchanged") for key in result.json[part]]
            assert set(ids) == set(order)
    assert revoked(database) == selected


class Users:
    """Threads that use keys through a verifier for as long as the block lasts."""

    def __init__(self, verifier: KeyVerifier, raw_keys: list[str]) -> None:
        self.accepted: Counter[str] = Counter()
        self.reasons: set[Reason] = set()
        self._verifier = verifier
        self._raw_keys = raw_keys
        self._end = threading.Event()
        self._threads = [threading.Thread(target=self._use, args=(start,)) for start in (0, 1)]
        self._lock = threading.Lock()

    def __enter__(self) -> "Users":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join()

    def _use(self, start: int) -> None:
        # In opposite orders, so that their batches and the revocation would lock the keys in different ones.
        order = self._raw_keys[:: -1 if start else 1]
        while not self._end.is_set():
            for raw in order:
                answer = self._verifier.verify(raw, client_ip="192.0.2.1")
                with self._lock:
                    self.reasons.add(answer.reason)
                    self.accepted[raw] += answer.allowed
            self._end.wait(0.01)


def test_uses_that_are_recorded_meanwhile_neither_stop_the_change_nor_undo_it_nor_are_they_lost(
    keyctl: Keyctl, database: Database, database_url: str
) -> None:
    """Promises 5 and 8."""
    made: list[RawKey] = [generate() for _ in range(150)]
    with database.writing() as tx:
        tx.execute(insert(key_table), [
            key_row(f"ci-{n}", owner="ops") | {"id": raw.id, "digest": raw.digest()} for n, raw in enumerate(made)
        ])  # fmt: skip
        tx.execute(insert(key_table), [key_row("other")])
    raw_keys = [raw.reveal() for raw in made]
    wide = ("--owner", "ops", "--max", "500", "--yes", "--json")
    with KeyVerifier(database_url) as verifier:
        with Users(verifier, raw_keys) as users:
            for _ in range(2):
                for verb in ("suspend", "resume"):
                    more = ("--in-use",) if verb == "suspend" else ()
                    assert len(keyctl.ok(verb, *wide, *more).json["changed"]) == len(made)
            assert len(keyctl.ok("revoke", *wide, "--in-use").json["changed"]) == len(made)
        for raw in raw_keys[:3]:
            until(verifier, raw, Reason.REVOKED, within=TOLD)
    assert users.reasons <= {Reason.OK, Reason.SUSPENDED, Reason.REVOKED}
    assert revoked(database) == sorted(raw.id for raw in made)
    with database.reading() as connection:
        counted = {row.id: row.use_count for row in connection.execute(select(key_table.c.id, key_table.c.use_count))}
    assert {raw.id: counted[raw.id] for raw in made} == {raw.id: users.accepted[raw.reveal()] for raw in made}


@on_sqlite
def test_a_disk_that_is_full_half_way_changes_nothing(keyctl: Keyctl, database: Database) -> None:
    selected = crowd(database, 3 * CROWD)
    file = Path(str(keyctl.database_url).removeprefix("sqlite:///"))
    with database.reading() as connection:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    for room in (40_000, 200_000, 1_000_000):
        refused = keyctl(*REVOKE, "--json", before=fault(limit_file_size, room))
        assert (refused.status, refused.stdout, refused.error["code"]) == (7, "", "database_unusable"), room
        assert revoked(database) == []
    assert keyctl(*REVOKE, before=fault(limit_file_size, 20 * file.stat().st_size)).status == 0
    assert revoked(database) == selected


@pytest.mark.one_database
@pytest.mark.parametrize("form", [(), ("--json",)], ids=["text", "json"])
def test_a_report_that_stdout_does_not_take_leaves_the_change_and_says_so(
    keyctl: Keyctl, database: Database, form: tuple[str, ...]
) -> None:
    selected = crowd(database, 200)

    def after(verb: str, unheard: Result, status: str) -> None:
        assert unheard.status == 7, unheard
        assert "The change was made; only the report failed." in unheard.stderr, verb
        listed = keyctl.ok("list", "--all", "--owner", "ops", "--json").json
        assert {key["status"] for key in listed} == {status}

    after("suspend", keyctl("suspend", *REVOKE[1:], *form, stdout=CLOSED), "suspended")
    with Path("/dev/full").open("wb") as full:
        after("resume", keyctl("resume", *REVOKE[1:], *form, stdout=full.fileno()), "active")
        after("revoke", keyctl(*REVOKE, *form, stdout=full.fileno()), "revoked")
    assert revoked(database) == selected


def test_a_reader_that_leaves_early_gets_what_it_wanted_and_the_change_stands(
    keyctl: Keyctl, database: Database
) -> None:
    """`revoke … --json | head`: that nobody reads on is no failure."""
    selected = crowd(database, 200)
    gone = into_closed_pipe(keyctl, *REVOKE, "--json")
    assert (gone.status, gone.stderr) == (0, "")
    assert revoked(database) == selected


def test_a_writer_that_keeps_the_database_for_itself_is_waited_for_and_nothing_is_half_done(
    keyctl: Keyctl, database: Database, tmp_path: Path
) -> None:
    """Promise 11: of two at once the second waits, within its limit."""
    selected = crowd(database, 300)
    for name, seconds in (("short", 0.5), ("long", 30)):
        (tmp_path / name).write_text(f"lock_timeout = {seconds}\n")
    first = paused(keyctl, tmp_path / "gate", "before_commit", 1, "suspend", *REVOKE[1:])
    busy = keyctl("--config", str(tmp_path / "short"), *REVOKE, "--json")
    assert (busy.status, busy.stdout, busy.error["code"]) == (7, "", "database_busy")
    waiting = keyctl.start("--config", str(tmp_path / "long"), *REVOKE, "--json")
    go_on(tmp_path / "gate")
    assert first.wait().status == 0
    done = waiting.wait()
    assert done.status == 0, done
    assert {event["detail"]["was"] for event in keyctl.ok("audit", "--action", "key.revoke", "--json").json} == {
        "suspended"
    }
    assert revoked(database) == selected


@pytest.mark.parametrize("verb", ["revoke", one_database("suspend"), one_database("resume")])
def test_keys_that_come_to_be_selected_after_a_look_that_found_none_are_left_alone(
    keyctl: Keyctl, database: Database, tmp_path: Path, verb: str
) -> None:
    """Nobody was asked, and nobody said --yes: there was nothing to ask about a moment ago."""
    put(database, "other")
    gate = tmp_path / "gate"
    gate.mkdir()
    pausing: Before = [(__name__, pause_before_writing.__name__, (str(gate),))]
    held = keyctl.start(verb, "--owner", "ops", before=pausing)
    wait_for((gate / "reached").exists, "the command never came to the point")
    put(database, "late", owner="ops", suspended_at=datetime.now(UTC) if verb == "resume" else None)
    go_on(gate)
    done = held.wait()
    assert done.status == 6, done
    assert "nothing was changed" in done.stderr
    with database.reading() as connection:
        assert connection.scalar(text("SELECT count(*) FROM audit_event")) == 0


def test_an_instant_lies_between_asking_and_doing(keyctl: Keyctl, database: Database, tmp_path: Path) -> None:
    """A key that came to be used before the change was written is judged by what is true then."""
    crowd(database, 3)
    held = paused(keyctl, tmp_path / "gate", "before_begin", 1, *REVOKE)
    with database.writing() as tx:
        tx.execute(
            key_table.update().where(key_table.c.name == "ci-1").values(last_used_at=datetime.now(UTC), use_count=1)
        )
    go_on(tmp_path / "gate")
    assert held.wait().status == 6
    assert revoked(database) == []
