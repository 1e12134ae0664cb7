"""Faults, injected into a real process of the program, and what must hold after each of them.

The first half runs inside the forked child before the command (`before=` of `tests.support.commands`): it kills the
process, makes it wait or limits it at a chosen point. `serve` turns the child into a server that forks commands
off a process that has the program loaded already, so that a sweep can afford a kill at every line.
The second half runs in the test: `Warm` talks to that server, `Judge` looks at the database from outside.
"""

import atexit
import gc
import io
import itertools
import json
import os
import re
import resource
import select
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from sqlalchemy import Connection, event, func, text
from sqlalchemy import select as sql_select
from sqlalchemy.engine import Engine
from sqlalchemy.engine.default import DefaultDialect

from alphalens_keyctl import KeyVerifier
from alphalens_keyctl.database import Database, Limits, parse_address
from alphalens_keyctl.database.address import SQLiteAddress
from alphalens_keyctl.keys import selection
from alphalens_keyctl.logs import audit
from alphalens_keyctl.models import CURRENT_SQL, Key, Reason, key_table
from tests.support.commands import Before, Keyctl, Process, Result

RAW_KEY = re.compile(r"alk_[0-9A-Za-z]{12}_[0-9A-Za-z]{49}")
PROGRAM_FILES = os.sep + "alphalens_keyctl" + os.sep
WAIT = 30.0  # seconds after which a process that waits for the test gives up, so that none is left behind


def kill_at_line(number: int, trace: str) -> None:
    """SIGKILL the process before the `number`-th line of the program's own code that it executes.

    With number 0 it lives, and writes to the file `trace` which lines it executed, in order.
    """
    executed: list[str] = []

    def local(frame: FrameType, what: str, _argument: object) -> Any:
        if what == "line":
            executed.append(f"{frame.f_code.co_filename.rpartition(PROGRAM_FILES)[2]}:{frame.f_lineno}")
            if len(executed) == number:
                die()
        return local

    def begin(frame: FrameType, _what: str, _argument: object) -> Any:
        return local if PROGRAM_FILES in frame.f_code.co_filename else None

    atexit.register(lambda: Path(trace).write_text(json.dumps(executed)) if number == 0 else None)
    sys.settrace(begin)


def at(point: str, number: int, action: str, *arguments: Any) -> None:
    """Do something when the process comes to `point` for the `number`-th time.

    Points: before_begin, before_commit, after_commit, before_write, during_write, after_write (of stdout).
    Actions: kill, pause (see `pause`), barrier (see `_run_batch`).
    """
    actions: dict[str, Callable[..., None]] = {"kill": die, "pause": pause, "barrier": _meet}
    passed = 0

    def come(*_: Any) -> None:
        nonlocal passed
        passed += 1
        if passed == number:
            actions[action](*arguments)

    if point == "before_begin":
        event.listen(Engine, "begin", come)
    elif point == "before_commit":
        event.listen(Engine, "commit", come)
    elif point == "after_commit":
        _after_commit(come)
    else:
        _around_write(point, come)


def limit_file_size(size: int) -> None:
    """No file of this process may grow beyond `size` bytes. Python ignores SIGXFSZ, so a write fails with EFBIG."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def become(user: int) -> None:
    """Give up root's rights, which no file's mode holds back."""
    os.setgroups([])
    os.setgid(user)
    os.setuid(user)


def die() -> None:
    """Nothing runs after this: no handler, no `finally`, no flush."""
    os.kill(os.getpid(), signal.SIGKILL)


def pause(folder: str) -> None:
    """Say that the point is reached, by a file, and wait until the test puts another beside it."""
    Path(folder, "reached").touch()
    deadline = time.monotonic() + WAIT
    while not Path(folder, "go").exists() and time.monotonic() < deadline:
        time.sleep(0.01)


def serve() -> NoReturn:
    """Read batches of commands from stdin and run each in a fork of this process. Never returns.

    A request is a JSON list of commands; the answer, on stdout, the list of how they ended.
    """
    from alphalens_keyctl import delivery
    from alphalens_keyctl.cli import app
    from alphalens_keyctl.cli.entry import main
    from alphalens_keyctl.keys import issuance
    from alphalens_keyctl.output import documents, words

    assert (app, delivery, documents, issuance, words) is not None  # imported once, for all the forks
    signal.signal(signal.SIGINT, signal.default_int_handler)
    gc.freeze()  # else the first collection in each fork copies the whole heap
    while line := sys.stdin.readline():
        results = _run_batch(json.loads(line), main)
        os.write(1, (json.dumps(results) + "\n").encode())
    os._exit(0)


# The barrier's pipe ends in a fork: say "here" on the first, wait for the end of the second.
_barrier: list[int] = []


def _run_batch(commands: list[dict[str, Any]], main: Callable[[], int]) -> list[tuple[int, str, str]]:
    """Fork the commands. Those that come to a barrier wait there until all that have one did."""
    ready, ready_end = os.pipe()
    go, go_end = os.pipe()
    running = []
    for command in commands:
        files = [os.memfd_create(name) for name in ("stdin", "stdout", "stderr")]
        os.write(files[0], command["stdin"].encode())
        os.lseek(files[0], 0, os.SEEK_SET)
        if (process := os.fork()) == 0:
            os.close(go_end)
            _barrier[:] = [ready_end, go]
            _become_command(command, files, main)
        running.append((process, files))
    os.close(ready_end)
    for _ in range(sum(command["barrier"] for command in commands)):
        # An empty read means that the rest ended before the barrier: their status tells.
        if not select.select([ready], [], [], WAIT)[0] or not os.read(ready, 1):
            break
    os.close(go_end)
    results = []
    for process, files in running:
        status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        said = [os.pread(file, 1 << 20, 0).decode() for file in files[1:]]
        results.append((status, said[0], said[1]))
        for file in files:
            os.close(file)
    os.close(ready)
    os.close(go)
    return results


def _become_command(command: dict[str, Any], files: Sequence[int], main: Callable[[], int]) -> NoReturn:
    for number, (file, name, mode) in enumerate(zip(files, ("stdin", "stdout", "stderr"), "rww", strict=True)):
        os.dup2(file, number)
        os.close(file)
        setattr(sys, name, os.fdopen(number, mode, encoding="utf-8", closefd=False))
    sys.argv = ["alphalens-keyctl", *command["arguments"]]
    if command["barrier"]:
        at("before_begin", 1, "barrier")
    for _, function, arguments in command["before"]:
        globals()[function](*arguments)
    status = main()
    sys.settrace(None)
    atexit._run_exitfuncs()
    sys.stdout.flush()
    # The interpreter's end would free the whole heap, page by page, and cost more than the command.
    os._exit(status)


def _meet() -> None:
    ready, go = _barrier
    os.write(ready, b"!")
    os.read(go, 1)


def _after_commit(come: Callable[[], None]) -> None:
    original = DefaultDialect.do_commit

    def do_commit(self: DefaultDialect, connection: Any) -> None:
        original(self, connection)  # type: ignore[no-untyped-call]  # SQLAlchemy declares none of it
        come()

    DefaultDialect.do_commit = do_commit  # type: ignore[method-assign]


def _around_write(point: str, come: Callable[[], None]) -> None:
    class Descriptor(io.FileIO):
        """stdout's descriptor, which takes the text in two halves, as a pipe that is nearly full does."""

        begun = False

        def write(self, data: Any, /) -> int:
            if point == "before_write" or (point == "during_write" and self.begun):
                come()
            self.begun = not self.begun
            content = bytes(data)
            return super().write(content[: len(content) // 2 + 1] if self.begun else content) or 0

    class Stream(io.TextIOWrapper):
        holds = False

        def write(self, said: str, /) -> int:
            self.holds = True
            return super().write(said)

        def flush(self) -> None:
            super().flush()
            if point == "after_write" and self.holds:
                self.holds = False
                come()

    sys.stdout = Stream(io.BufferedWriter(Descriptor(1, "w", closefd=False)), encoding="utf-8")


def fault(function: Callable[..., None], *arguments: Any) -> Before:
    """What `before=` takes."""
    return [(__name__, function.__name__, arguments)]


def paused(keyctl: Keyctl, folder: Path, point: str, nth: int, *arguments: str) -> Process:
    """A command that has come to a point and waits there until `go_on`."""
    folder.mkdir()
    process = keyctl.start(*arguments, before=fault(at, point, nth, "pause", str(folder)))
    deadline = time.monotonic() + WAIT
    while not (folder / "reached").exists():
        assert time.monotonic() < deadline, "the command never came to the point"
        time.sleep(0.01)
    return process


def go_on(folder: Path) -> None:
    (folder / "go").touch()


class Warm:
    """Commands at the price of a fork of the loaded program, one after another or at once."""

    def __init__(self, keyctl: Keyctl) -> None:
        stdin, self.requests = os.pipe()
        answers, stdout = os.pipe()
        self.process = keyctl.start(stdin=stdin, stdout=stdout, before=fault(serve))
        os.close(stdin)
        os.close(stdout)
        self.answers = os.fdopen(answers)

    def __call__(self, *arguments: str, stdin: str = "", before: Before = ()) -> Result:
        """Run one command to its end."""
        return self._run([{"arguments": arguments, "stdin": stdin, "before": before, "barrier": False}])[0]

    def at_once(self, *commands: Sequence[str], before: Sequence[Before] = ()) -> list[Result]:
        """Run commands that all begin their first transaction at the same moment, each having noted before
        when it was asked. `before` holds the faults of the first of them."""
        faults = itertools.zip_longest(commands, before, fillvalue=())
        return self._run([{"arguments": one, "stdin": "", "before": f, "barrier": True} for one, f in faults])

    def _run(self, commands: list[dict[str, Any]]) -> list[Result]:
        os.write(self.requests, (json.dumps(commands) + "\n").encode())
        if not select.select([self.answers], [], [], 2 * WAIT)[0]:
            os.killpg(self.process.pid, signal.SIGKILL)  # its forks too
            raise AssertionError(f"the commands did not end: {commands}")
        return [Result(*ended) for ended in json.loads(self.answers.readline())]


@contextmanager
def warm(keyctl: Keyctl) -> Iterator[Warm]:
    server = Warm(keyctl)
    try:
        yield server
    finally:
        os.close(server.requests)
        server.process.wait()
        server.answers.close()


class Judge:
    """Looks at a database from outside, with the program's own reading functions and without a process."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.database = Database.connect(parse_address(url), Limits())
        self.kind = "sqlite" if isinstance(self.database.address, SQLiteAddress) else "postgresql"

    def opens(self, raw: str) -> bool:
        """Whether a raw key opens, without cleaning up after anybody."""
        with KeyVerifier(self._url, usage="off") as verifier:
            answer = verifier.verify(raw)
        assert answer.reason is not Reason.UNAVAILABLE, verifier.trouble
        return answer.allowed

    def every_key(self, name: str | None = None) -> list[Key]:
        """The keys there are, or those that had a name, oldest first."""
        with self.database.reading() as connection:
            return self._keys(connection, name)

    def current(self, name: str) -> Key | None:
        """The key a name means; a pending first key holds its name too."""
        with self.database.reading() as connection:
            return selection.current(connection, name, now=datetime.now(UTC))

    def execute(self, statement: str) -> None:
        with self.database.writing() as tx:
            tx.execute(text(statement))

    def scalar(self, query: str) -> Any:
        with self.database.reading() as connection:
            return connection.scalar(text(query))

    def wait_until_alone(self) -> None:
        """Wait until PostgreSQL has seen that killed clients are gone: it learns it from the closed socket,
        at once, but not before the next process of this machine may ask. SQLite's locks go with the kernel."""
        query = text(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
            " AND backend_type = 'client backend' AND pid <> pg_backend_pid()"
        )
        deadline = time.monotonic() + WAIT
        with self.database.reading() as connection:
            if connection.dialect.name == "sqlite":
                return
            while connection.scalar(query):
                assert time.monotonic() < deadline, "a killed command's session is still there"
                connection.execute(text("SELECT pg_stat_clear_snapshot()"))
                time.sleep(0.005)

    def assert_sound(self) -> None:
        """Promises 4, 6 and 7: the file is whole, the chain holds, and keys and events say the same."""
        with self.database.reading() as connection:
            if connection.dialect.name == "sqlite":
                assert connection.exec_driver_sql("PRAGMA integrity_check").scalars().all() == ["ok"]
                assert not connection.exec_driver_sql("PRAGMA foreign_key_check").all()
            found = self._keys(connection)
            assert audit.verify(connection).broken is None
            said: dict[str | None, list[str]] = {}
            for one in audit.read(connection, audit.LogFilter()):
                said.setdefault(one.key_id, []).append(one.action)
            assert set(said) == {key.id for key in found}
            for key in found:
                assert Counter(said[key.id]) == Counter(_expected(key)), (key, said[key.id])
            current = sql_select(key_table.c.name_folded).where(text(CURRENT_SQL)).group_by(key_table.c.name_folded)
            assert not connection.execute(current.having(func.count() > 1)).all()
            successors = Counter(key.replaces for key in found if key.replaces and key.revoked_at is None)
            assert all(number == 1 for number in successors.values()), successors

    @staticmethod
    def _keys(connection: Connection, name: str | None = None) -> list[Key]:
        wanted = selection.Selection(final=True, name_glob=name)
        found = selection.read(connection, wanted, sort=selection.Sort.CREATED, limit=None, now=datetime.now(UTC))
        return found[::-1]


@contextmanager
def judge(url: str | None) -> Iterator[Judge]:
    """A `Judge` for the length of a block; sound at its end."""
    assert url is not None
    one = Judge(url)
    try:
        yield one
        one.assert_sound()
    finally:
        one.database.close()


def _expected(key: Key) -> list[str]:
    """The events that a key in this state must have, one each."""
    was_discarded = key.activated_at is None and key.revoke_reason in ("abandoned", "delivery_failed")
    there = {
        "key.create": True,
        "key.activate": key.activated_at is not None,
        "key.rotate": key.replaced_by is not None,
        "key.discard": was_discarded,
        "key.revoke": key.revoked_at is not None and not was_discarded,
    }
    return [action for action, expected in there.items() if expected]


def key_id(raw: str) -> str:
    return raw.split("_")[1]


def raw_key_in(result: Result) -> str | None:
    """The raw key on stdout if it stands there whole, on a line of its own."""
    return result.stdout[:-1] if RAW_KEY.fullmatch(result.stdout.removesuffix("\n")) else None
