"""Faults, injected into a real process of the program.

The first half runs inside the forked child before the command (`before=` of `tests.support.commands`): it kills the
process, makes it wait or limits it at a chosen point. The second half runs in the test.
"""

import atexit
import fcntl
import io
import itertools
import json
import os
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import Engine
from sqlalchemy.engine.default import DefaultDialect

from tests.support.commands import Before, Keyctl, Process, Result
from tests.support.waiting import WAIT, wait_for

PROGRAM_FILES = os.sep + "alphalens_keyctl" + os.sep


def uninstall(module: str) -> None:
    """Let every import of the module fail as that of one that is not installed."""
    sys.modules[module] = None  # type: ignore[assignment]  # what Python documents for it


def kill_at_line(number: int, trace: str) -> None:
    """SIGKILL the process before the `number`-th line of the program's own code that it executes.

    With number 0 it lives, and writes to the file `trace` which lines it executed, in order.
    """
    executed: list[str] = []
    left = number
    ours: dict[CodeType, bool] = {}

    def note(frame: FrameType, what: str, _argument: object) -> Any:
        if what == "line":
            executed.append(f"{frame.f_code.co_filename.rpartition(PROGRAM_FILES)[2]}:{frame.f_lineno}")
        return note

    def count(_frame: FrameType, what: str, _argument: object) -> Any:
        nonlocal left
        if what == "line":
            left -= 1
            if left == 0:
                die()
        return count

    def begin(frame: FrameType, _what: str, _argument: object) -> Any:
        code = frame.f_code
        if code not in ours:
            ours[code] = PROGRAM_FILES in code.co_filename
        return local if ours[code] else None

    local = count if number else note
    atexit.register(lambda: Path(trace).write_text(json.dumps(executed)) if number == 0 else None)
    sys.settrace(begin)


def at(point: str, number: int, action: str, *arguments: Any) -> None:
    """Do something when the process comes to `point` for the `number`-th time.

    Points: before_begin, before_commit, after_commit, before_write, during_write, after_write (of stdout).
    Actions: kill (see `die`), pause and meet (see there).
    """
    actions: dict[str, Callable[..., None]] = {"kill": die, "pause": pause, "meet": meet}
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


def meet(folder: str) -> None:
    """Say that the barrier is reached, and wait until the test opens it for all that stand there."""
    Path(folder, f"here-{os.getpid()}").touch()
    with open(Path(folder, "barrier")) as barrier:
        fcntl.flock(barrier, fcntl.LOCK_SH)


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
    wait_for((folder / "reached").exists, "the command never came to the point")
    return process


def go_on(folder: Path) -> None:
    (folder / "go").touch()


def at_once(keyctl: Keyctl, *commands: Sequence[str], before: Sequence[Before] = ()) -> list[Result]:
    """Run commands that all begin their first transaction at the same moment, each having noted before when it was
    asked. `before` holds the faults of the first of them."""
    with tempfile.TemporaryDirectory() as folder, open(Path(folder, "barrier"), "w") as barrier:
        fcntl.flock(barrier, fcntl.LOCK_EX)
        gate = fault(at, "before_begin", 1, "meet", folder)
        running = [
            keyctl.start(*command, before=[*gate, *faults])
            for command, faults in itertools.zip_longest(commands, before, fillvalue=())
        ]
        wait_for(
            lambda: len(list(Path(folder).glob("here-*"))) + sum(each.ended() for each in running) >= len(running),
            "not every command came to its first transaction",
        )
        fcntl.flock(barrier, fcntl.LOCK_UN)
        return [each.wait() for each in running]
