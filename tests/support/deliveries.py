"""Destinations as the tests see them, a server of commands that can be struck in the middle of a delivery, and
one judge of what came of it.

A destination that is a process of its own (the stand-in command, the keyring's backend) is told what to do wrong
by a file `fault` in its folder, which it takes away as it obeys: the next run is unharmed. What happens inside the
program is done by `tests.support.strikes`, in the forked child.
"""

import ctypes
import gc
import importlib
import json
import os
import re
import select
import signal
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, Protocol

from sqlalchemy import func, text
from sqlalchemy import select as sql_select

from alphalens_keyctl import KeyVerifier
from alphalens_keyctl.logs import audit
from alphalens_keyctl.models import CURRENT_SQL, Key, Reason, key_table
from tests.support.commands import Before, Keyctl, Result
from tests.support.faults import RAW_KEY, WAIT, Judge

STAND_IN = """#!/bin/sh
here=${0%/*}
read -r key
fault=
if [ -f "$here/fault" ]; then read -r fault < "$here/fault"; rm "$here/fault"; fi
strike() {
    case $fault in
        "kill $1") kill -9 $PPID ;;
        "fail $1") echo "no room for $key"; exit 3 ;;
        "hang $1") exec sleep 30 ;;
        "linger $1") kill -9 $PPID; until [ -f "$here/go" ]; do sleep 0.05; done ;;
    esac
}
cat /proc/$$/cmdline /proc/$$/environ > "$here/seen"
strike before
printf '%s\\n' "$key" > "$here/key.new" && mv "$here/key.new" "$here/key" || exit 4
strike after
"""

BACKEND = """
import os, signal, time
from pathlib import Path
from keyring.backend import KeyringBackend

FOLDER = Path(os.environ["KEYCTL_TEST_KEYRING"])

class Stored(KeyringBackend):
    priority = 1

    def get_password(self, service, user):
        strike(user, "read")
        path = FOLDER / user / "key"
        return path.read_text() if path.exists() else None

    def set_password(self, service, user, secret):
        strike(user, "before")
        aside = FOLDER / user / "key.new"
        aside.write_text(secret)
        aside.rename(FOLDER / user / "key")
        strike(user, "after")

    def delete_password(self, service, user):
        (FOLDER / user / "key").unlink()

def strike(user, step):
    path = FOLDER / user / "fault"
    what, _, when = path.read_text().partition(" ") if path.exists() else ("", "", "")
    if when != step:
        return
    path.unlink()
    if what == "kill":
        os.kill(os.getppid(), signal.SIGKILL)
    elif what == "fail":
        raise OSError("the keyring is out of order")
    else:
        time.sleep(30)
"""
VARIABLE = "ALPHALENS_API_KEY"
OTHER_LINES = "# kept\nOTHER='one # two'\n"
ASIDE = ".*.alphalens-keyctl"
UNFINISHED = ("pending", "delivering")


class Destination(Protocol):
    """A destination of one key: the options that name it, and what it holds."""

    kind: str

    def options(self) -> list[str]: ...

    def held(self) -> str | None: ...


class File:
    """`--key-file` or `--env-file`, in a folder of its own."""

    def __init__(self, kind: str, folder: Path) -> None:
        folder.mkdir(parents=True)
        self.kind = kind
        self.folder = folder
        self.path = folder / "key"
        if kind == "env-file":
            self.path.write_text(OTHER_LINES)
            self.path.chmod(0o600)

    def options(self) -> list[str]:
        return [f"--{self.kind}", str(self.path)]

    def held(self) -> str | None:
        if not self.path.is_file():
            return None
        content = self.path.read_text()
        if self.kind == "env-file":
            assert content.startswith(OTHER_LINES), content
            content = content.removeprefix(OTHER_LINES).removeprefix(f"{VARIABLE}=")
        assert not content or RAW_KEY.fullmatch(content.removesuffix("\n")), "half a file"
        return content.strip() or None


class Stored:
    """What the stand-in command stores, or the keyring's backend: a file `key` in a folder of its own."""

    def __init__(self, kind: str, folder: Path) -> None:
        folder.mkdir(parents=True)
        self.kind = kind
        self.folder = folder
        if kind == "pipe-to":
            (folder / "store").write_text(STAND_IN)
            (folder / "store").chmod(0o700)

    def options(self) -> list[str]:
        return ["--keyring"] if self.kind == "keyring" else ["--pipe-to", str(self.folder / "store")]

    def held(self) -> str | None:
        with suppress(FileNotFoundError):
            seen = (self.folder / "seen").read_bytes()
            assert not re.search(RAW_KEY.pattern.encode(), seen), "a raw key on the command line or in its environment"
        with suppress(FileNotFoundError):
            return (self.folder / "key").read_text().strip()
        return None


def destination(kind: str, folder: Path, name: str, number: int) -> File | Stored:
    """The `number`-th destination of the key called `name`."""
    if kind == "keyring":
        return Stored(kind, folder / "keyring" / name)
    return (Stored if kind == "pipe-to" else File)(kind, folder / name / str(number))


def use_keyring(keyctl: Keyctl, folder: Path) -> None:
    """Give the program's home a keyring, kept in files."""
    (folder / "backend").mkdir()
    (folder / "backend" / "keyctl_test_backend.py").write_text(BACKEND)
    keyctl.environment |= {
        "PYTHON_KEYRING_BACKEND": "keyctl_test_backend.Stored",
        "KEYCTL_TEST_KEYRING": str(folder / "keyring"),
        "PYTHONPATH": os.pathsep.join([keyctl.environment["PYTHONPATH"], str(folder / "backend")]),
    }


# --- commands that can be struck --------------------------------------------------------------------------------------


class Ended(NamedTuple):
    """How a command ended, and the seconds it took."""

    result: Result
    seconds: float


class Command(NamedTuple):
    """A command to be run: `before` as in `tests.support.commands`; after `kill_after` seconds it gets SIGKILL."""

    arguments: Sequence[str]
    before: Before = ()
    kill_after: float | None = None


class Server:
    """Forks commands off a process that has the program loaded; with a command everything that it started ends,
    before it is said to have ended."""

    def __init__(self, keyctl: Keyctl) -> None:
        stdin, self._requests = os.pipe()
        answers, stdout = os.pipe()
        self._process = keyctl.start(stdin=stdin, stdout=stdout, before=[(__name__, "serve", ())])
        os.close(stdin)
        os.close(stdout)
        self._answers = os.fdopen(answers)

    def __call__(self, *commands: Command) -> list[Ended]:
        """Run commands at once, each to its end."""
        os.write(self._requests, (json.dumps(commands) + "\n").encode())
        if not select.select([self._answers], [], [], 2 * WAIT)[0]:
            os.killpg(self._process.pid, signal.SIGKILL)
            raise AssertionError(f"the commands did not end: {commands}")
        return [Ended(Result(*ended), seconds) for *ended, seconds in json.loads(self._answers.readline())]

    def close(self) -> None:
        os.close(self._requests)
        self._process.wait()
        self._answers.close()

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def serve() -> NoReturn:
    """Read batches of commands from stdin and run each in a fork of this process. Never returns."""
    from alphalens_keyctl.cli import app, rotate_keys
    from alphalens_keyctl.delivery import command, files, handover, keyring
    from alphalens_keyctl.keys import issuance
    from alphalens_keyctl.output import documents, words

    assert (app, rotate_keys, command, files, handover, keyring, documents, issuance, words) is not None
    importlib.import_module("dotenv.main")
    become_parent_of_orphans()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    gc.freeze()  # else the first collection in each fork copies the whole heap
    while line := sys.stdin.readline():
        os.write(1, (json.dumps(_run_batch(json.loads(line))) + "\n").encode())
    os._exit(0)


def become_parent_of_orphans() -> None:
    """What a killed child leaves running becomes a child of this process, which can wait for it (Linux)."""
    set_child_subreaper = 36
    assert ctypes.CDLL(None, use_errno=True).prctl(set_child_subreaper, 1, 0, 0, 0) == 0


def _run_batch(commands: list[Any]) -> list[tuple[int, str, str, float]]:
    running = {}
    for arguments, before, kill_after in commands:
        streams = [os.pipe(), os.pipe()]
        begun = time.monotonic()
        if (process := os.fork()) == 0:
            _become(arguments, before, [end for _, end in streams])
        for _, end in streams:
            os.close(end)
        if kill_after is not None:
            _kill_after(process, begun + kill_after - time.monotonic())
        running[process] = (begun, [reader for reader, _ in streams])
    results: dict[int, tuple[int, str, str, float]] = {}
    with suppress(ChildProcessError):
        while True:  # the orphans too
            process, status = os.wait()
            if process in running:
                begun, readers = running[process]
                took = time.monotonic() - begun
                stdout, stderr = [_read(reader) for reader in readers]
                results[process] = (os.waitstatus_to_exitcode(status), stdout, stderr, took)
    return [results[process] for process in running]


def _kill_after(process: int, seconds: float) -> None:
    descriptor = os.pidfd_open(process)
    if not select.select([descriptor], [], [], max(0.0, seconds))[0]:
        signal.pidfd_send_signal(descriptor, signal.SIGKILL)
    os.close(descriptor)


def _read(reader: int) -> str:
    """What the command said: less than a pipe holds. A fork that runs beside it may hold the other end."""
    os.set_blocking(reader, False)
    said = b""
    with suppress(BlockingIOError):
        while piece := os.read(reader, 1 << 16):
            said += piece
    os.close(reader)
    return said.decode()


def _become(arguments: Sequence[str], before: Before, streams: Sequence[int]) -> NoReturn:
    # A group of its own, as a shell gives it: Ctrl-C reaches the command alone.
    os.setpgid(0, 0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for number, (file, name, mode) in enumerate(
        zip((nothing, *streams), ("stdin", "stdout", "stderr"), "rww", strict=True)
    ):
        os.dup2(file, number)
        buffering = 1 if name == "stderr" else -1
        setattr(sys, name, os.fdopen(number, mode, buffering, encoding="utf-8", closefd=False))
    os.closerange(3, 256)
    sys.argv = ["alphalens-keyctl", *arguments]
    for module, function, given in before:
        getattr(importlib.import_module(module), function)(*given)
    from alphalens_keyctl.cli.entry import main

    status = main()
    sys.stdout.flush()
    os._exit(status)


# --- the judge --------------------------------------------------------------------------------------------------------


class Found(NamedTuple):
    """What stood in the destinations of a name, and which of it opened; which key was current, and which were on their
    way, before a command. `aside` is what a killed one left beside the destinations."""

    held: list[str | None]
    working: list[bool]
    current: str | None
    unfinished: frozenset[str]
    aside: frozenset[Path]


class DeliveryJudge(Judge):
    """Judges a name, its destinations and the command that was to deliver a key to them (promises 1, 2, 3, 6, 7)."""

    def look(self, name: str, destinations: Sequence[Destination]) -> Found:
        key = self._active(name)
        unfinished = frozenset(key.id for key in self.every_key(name) if key.status in UNFINISHED)
        held = [one.held() for one in destinations]
        opens = self._which_open({raw for raw in held if raw})
        working = [bool(raw) and opens[str(raw)] for raw in held]
        return Found(held, working, key.id if key else None, unfinished, asides(destinations))

    def assert_unharmed(
        self, name: str, destinations: Sequence[Destination], before: Found, result: Result, *, printed: bool,
        faithless: Destination | None = None,
    ) -> str:  # fmt: skip
        """What holds after every fault; returns what came of it. `faithless` is a command that stored the key and
        then said that it had not: of that destination nothing is asked."""
        found = self.every_key(name)
        by_status = Counter(key.status for key in found)
        context = (name, result, [(key.id, key.status, key.delivering_to, key.revoke_reason) for key in found])
        after = [destination.held() for destination in destinations]
        opens = self._which_open({raw for raw in after if raw})
        # Exactly one is current; a name that never had a key may have none.
        assert by_status["active"] == 1 or (before.current is None and by_status["active"] == 0), context
        # What worked works.
        for destination, worked, now in zip(destinations, before.working, after, strict=True):
            if worked and destination is not faithless:
                assert now is not None, (destination.kind, context)
                assert opens.get(now), (destination.kind, context)
        # What opens is known: it is current, on its way out, or on its way to destinations that are named.
        for key in found:
            assert key.status in ("active", "retiring", "delivering", "pending", "revoked"), context
            assert key.status != "delivering" or key.delivering_to, context
        killed = result.status < 0
        if not killed:
            unfinished = {key.id for key in found if key.status in UNFINISHED} - before.unfinished
            assert all(key_id in result.stderr for key_id in unfinished), context
            assert not asides(destinations) - before.aside, context
        # 0 if and only if all was done.
        current = self._active(name)
        done = current is not None and current.id != before.current
        everywhere = current is not None and all(raw is not None and _id(raw) == current.id for raw in after)
        assert not done or everywhere, context
        assert killed or (result.status == 0) == done, context
        assert killed or result.status in (0, 7, 130), context
        self._assert_secret(result, printed=printed, current=current if done else None, context=context)
        assert "Traceback" not in result.stderr, context
        self.assert_sound()
        return "done" if done else "delivering" if by_status["delivering"] else "nothing"

    def assert_finished(self, name: str, destinations: Sequence[Destination], result: Result, *, printed: bool) -> None:
        """What holds after the same command was run again, unharmed: one key, and every destination has it."""
        context = (name, result)
        assert result.status == 0, context
        found = self.every_key(name)
        current = self._active(name)
        assert current is not None, context
        held = [destination.held() for destination in destinations]
        assert [_id(raw) if raw else None for raw in held] == [current.id] * len(destinations), context
        assert all(self._which_open({raw for raw in held if raw}).values()), context
        assert not [key for key in found if key.status in UNFINISHED], context
        assert [key.status for key in found].count("active") == 1, context
        assert not asides(destinations), context
        self._assert_secret(result, printed=printed, current=current, context=context)
        self.assert_sound()

    def assert_sound(self) -> None:
        """The file is whole, the chain holds, one current key to a name, one live successor to a key."""
        with self.database.reading() as connection:
            if connection.dialect.name == "sqlite":
                assert connection.exec_driver_sql("PRAGMA quick_check").scalars().all() == ["ok"]
            verdict = audit.verify(connection)
            assert verdict.broken is None, verdict
            current = sql_select(key_table.c.name_folded).where(text(CURRENT_SQL)).group_by(key_table.c.name_folded)
            assert not connection.execute(current.having(func.count() > 1)).all()
            successors = sql_select(key_table.c.replaces).where(
                key_table.c.replaces.is_not(None), key_table.c.revoked_at.is_(None)
            )
            assert not connection.execute(successors.group_by(key_table.c.replaces).having(func.count() > 1)).all()

    def _active(self, name: str) -> Key | None:
        return next((key for key in self.every_key(name) if key.status == "active"), None)

    def _which_open(self, raws: set[str]) -> dict[str, bool]:
        """Whether each opens, as a service sees it that has not seen it before."""
        with KeyVerifier(self._url, usage="off") as verifier:
            answers = {raw: verifier.verify(raw) for raw in raws}
        assert not [one for one in answers.values() if one.reason is Reason.UNAVAILABLE], verifier.trouble
        return {raw: answer.allowed for raw, answer in answers.items()}

    @staticmethod
    def _assert_secret(result: Result, *, printed: bool, current: Key | None, context: object) -> None:
        assert not RAW_KEY.search(result.stderr), context
        shown: list[str] = RAW_KEY.findall(result.stdout)
        assert result.stdout == "".join(f"{raw}\n" for raw in shown), context
        assert len(shown) <= printed, context
        if result.status == 0 and shown:
            assert current is not None, context
            assert _id(shown[0]) == current.id, context


def asides(destinations: Sequence[Destination]) -> frozenset[Path]:
    """What was staged beside the files and is still there."""
    return frozenset(
        path for destination in destinations if isinstance(destination, File) for path in destination.folder.glob(ASIDE)
    )


def _id(raw: str) -> str:
    return raw.split("_")[1]
