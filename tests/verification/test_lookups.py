"""The small windows of a look-up: whatever changes between any two of its lines, nothing outdated is remembered.

Promises 5 and 9. Each test fails when the one line that it is about is broken.
"""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from linecache import getline
from types import FrameType
from typing import Any

import psycopg

from alphalens_keyctl import KeyVerifier
from alphalens_keyctl.models import Reason
from tests.support.commands import ForkServer, Keyctl
from tests.support.databases import (
    by_hand,
    listeners,
    on_postgresql,
    on_sqlite,
    path_of,
    revoke_by_hand,
    suspend_by_hand,
)
from tests.support.freshness import BOUND, NEVER, SLACK, until, wait_until_told
from tests.support.waiting import wait_for

LOOKING_UP = ("sqlite_source.py", "postgresql_source.py", "verifier.py")


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
def test_soon_after_a_file_was_put_in_its_place_the_very_next_call_asks_that_one(
    keyctl: Keyctl, fork_server: ForkServer, database_url: str
) -> None:
    """Promise 5."""
    path = path_of(database_url)
    other = path.with_name("other.db")
    raw, _ = keyctl.create("old")
    Keyctl(fork_server, keyctl.home, f"sqlite:///{other}").create("new")
    with KeyVerifier(database_url, usage="off") as verifier:
        assert verifier.verify(raw)
        other.replace(path)
        for ending in ("-wal", "-shm"):
            path.with_name(path.name + ending).unlink(missing_ok=True)
        time.sleep(0.05)
        assert verifier.verify(raw).reason is Reason.UNKNOWN


@on_sqlite
def test_a_look_that_began_in_the_file_that_was_replaced_vouches_for_nothing_in_the_new_one(
    keyctl: Keyctl, fork_server: ForkServer, database_url: str
) -> None:
    """Promise 5."""
    path = path_of(database_url)
    other = path.with_name("other.db")
    old, _ = keyctl.create("old")
    new, ident = Keyctl(fork_server, keyctl.home, f"sqlite:///{other}").create("new")
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
        time.sleep(0.05)
        assert verifier.verify(new)
        late[0].go_on()
        assert verifier.verify(old).reason is Reason.UNKNOWN
        late[1].go_on()
        suspend_by_hand(database_url, ident)
        assert verifier.verify(new).reason is Reason.SUSPENDED


@on_postgresql
def test_while_it_is_told_of_changes_a_key_is_remembered_beyond_the_bound(keyctl: Keyctl, database_url: str) -> None:
    """Promise 5: the bound is for the time when nobody can tell."""
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
    with subprocess.Popen(
        [sys.executable, "-c", FORKED], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=keyctl.environment, text=True
    ) as process:
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
    """The program's own: a test's look at the database may be ending still."""
    with psycopg.connect(url) as session:
        query = (
            "SELECT pid FROM pg_stat_activity"
            " WHERE datname = current_database() AND application_name = 'alphalens-keyctl'"
        )
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
