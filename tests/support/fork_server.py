"""The fork server: real processes of the program at the price of a fork.

A test suite that starts the interpreter a thousand times spends its time on imports. This process imports the
program and what it needs once, alone and single-threaded; each command is a forked child with its own arguments,
environment, folder and standard descriptors, that ends as the interpreter ends. What only a fresh interpreter shows
(imports, locale, streams) is tested with `Keyctl.spawn`.

The other side is `tests.support.commands.ForkServer`. Run as
`python -m tests.support.fork_server DESCRIPTOR [LISTENER]`: with a LISTENER, scripts ask too, by
`tests/support/forked_program.py`; without one, only libraries are loaded.
"""

import atexit
import ctypes
import fcntl
import gc
import importlib
import json
import os
import pkgutil
import select
import signal
import socket
import sys
import tempfile
import termios
import threading
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from tests.support import compiled_statements
from tests.support.standing import find_packages, stand

CLOSED = "closed"
# One after another on a database of their own.
WARMING = (
    "create warm", "create other --json", "list", "list --json", "show warm", "rotate warm", "revoke other --yes",
    "audit", "audit check --fail-on error",
)  # fmt: skip
# Everything heavy, but not what looks at the terminal or at the environment while it is imported.
PRELOADED = """
    typer sqlmodel alembic.command alembic.autogenerate psycopg psycopg_binary platformdirs mako.template
    logging.config rich.console rich.table rich.rule dotenv.main
    uvicorn.config uvicorn.server httptools uvloop
    sqlalchemy.dialects.postgresql.psycopg sqlalchemy.dialects.sqlite.pysqlite
"""
# Loaded where a command shall find its own modules, and the parts of libraries, by itself.
LIBRARIES = "typer sqlmodel"
# What Alembic alone may import, and what starts the program.
NOT_PRELOADED = ("alphalens_keyctl.migrations.env", "alphalens_keyctl.__main__")


STAND = "stand"  # asks for a standing child: see `tests.support.standing`


class Command(NamedTuple):
    """A running command: where its end is reported, and, if the command ends only with all that it started, the
    orphans that were there before."""

    report: int
    older: frozenset[int] | None


def main(descriptor: int, listening: int | None = None) -> None:
    """Serve requests until the other end closes."""
    if listening is None:
        for module in LIBRARIES.split():
            importlib.import_module(module)
    else:
        _load()
    _become_parent_of_orphans()
    ended, wake_up = os.pipe()
    os.set_blocking(ended, False)
    os.set_blocking(wake_up, False)
    signal.set_wakeup_fd(wake_up, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    gc.freeze()  # else the first collection in each fork copies the whole heap
    _make_pages_huge()
    server = socket.socket(fileno=descriptor)
    listener = None if listening is None else socket.socket(fileno=listening)
    running: dict[int, Command] = {}
    standing: dict[int, socket.socket] = {}
    over: list[tuple[Command, int]] = []
    while True:
        asked = [server.fileno(), ended] if listener is None else [server.fileno(), ended, listener.fileno()]
        readable, _, _ = select.select(asked, [], [])
        if server.fileno() in readable:
            message, descriptors, _, _ = socket.recv_fds(server, 1 << 20, 8)
            if not message:
                return
            if message == STAND.encode():
                _stand(descriptors, standing)
            else:
                _start(json.loads(message), descriptors, running, standing)
        if listener is not None and listener.fileno() in readable:
            _start_for_a_script(listener, running, standing)
        if ended in readable:
            os.read(ended, 1 << 16)
            over = _report(over + _reap(running, standing), _known(running, standing))


def _load() -> None:
    for module in PRELOADED.split():
        importlib.import_module(module)
    import alphalens_keyctl

    for found in pkgutil.walk_packages(alphalens_keyctl.__path__, "alphalens_keyctl."):
        if found.name not in NOT_PRELOADED:
            importlib.import_module(found.name)
    _build_the_command_once()
    compiled_statements.share()
    _run_each_once()


def _build_the_command_once() -> None:
    """Typer makes the same command tree of the same options in every process, for a third of a command's time."""
    from alphalens_keyctl.cli import app

    built = app.command()
    app.command = lambda: built
    _adapt(built)


def _adapt(command: Any) -> None:
    for parameter in command.params:
        if hasattr(parameter, "get_runtime_param"):  # what newer versions of Typer parse by, made at the first value
            parameter.get_runtime_param()
    for each in getattr(command, "commands", {}).values():
        _adapt(each)


def _run_each_once() -> None:
    """At its first use SQLAlchemy configures its mappers, and Typer and Rich fill their tables: a fifth of a
    command's time. Raises RuntimeError where such a command would leave more in this process than it found."""
    from alphalens_keyctl.cli.entry import main as command

    environment, arguments, streams = os.environ.copy(), sys.argv, (sys.stdin, sys.stdout, sys.stderr)
    with tempfile.TemporaryDirectory() as home, open(os.devnull, "r+") as nowhere:
        before, open_before = _inherited(), _descriptors()  # the folder has something done at exit, too
        os.environ.clear()
        os.environ.update(HOME=home, ALPHALENS_KEYCTL_DATABASE_URL=f"sqlite:///{home}/keys.db")
        sys.stdin = sys.stdout = sys.stderr = nowhere
        ended = []
        for line in WARMING:
            sys.argv = ["alphalens-keyctl", *line.split()]
            ended.append(command())
        os.environ.clear()
        os.environ.update(environment)
        sys.argv, (sys.stdin, sys.stdout, sys.stderr) = arguments, streams
        gc.enable()
        gc.unfreeze()
        gc.collect()
        for lock in _descriptors() - open_before:  # on the file beside the database, which a process keeps to its end
            os.close(lock)
    if any(ended) or _inherited() != before:
        raise RuntimeError(f"exit {ended}; before {before}, now {_inherited()}")


def _inherited() -> tuple[object, ...]:
    """What a child has of this process, beside modules."""
    handlers = [signal.getsignal(number) for number in sorted(signal.valid_signals())]
    return threading.active_count(), atexit._ncallbacks(), handlers, os.getcwd(), [*warnings.filters], dict(os.environ)


def _descriptors() -> set[int]:
    named = [(int(name), Path("/proc/self/fd", name)) for name in os.listdir("/proc/self/fd")]
    return {number for number, path in named if path.exists()}  # not what just listed them


def _become_parent_of_orphans() -> None:
    """What a killed command leaves running becomes a child of this process, which can wait for it (Linux)."""
    set_child_subreaper = 36
    assert ctypes.CDLL(None, use_errno=True).prctl(set_child_subreaper, 1, 0, 0, 0) == 0


def _make_pages_huge() -> None:
    """Let a fork copy one entry of a table where it would copy 512 (Linux 6.1; elsewhere nothing happens)."""
    collapse, huge = 25, 1 << 21
    libc = ctypes.CDLL(None)
    for line in Path("/proc/self/maps").read_text().splitlines():
        addresses, rights, _, _, inode, *_ = line.split()
        start, end = (int(address, 16) for address in addresses.split("-"))
        first, size = -(-start // huge) * huge, end // huge * huge - -(-start // huge) * huge
        if rights.startswith("rw") and inode == "0" and size > 0:
            libc.madvise(ctypes.c_void_p(first), ctypes.c_size_t(size), collapse)


def _start(
    request: dict[str, Any],
    descriptors: list[int],
    running: dict[int, Command],
    standing: dict[int, socket.socket],
) -> None:
    report = descriptors.pop()
    older = _orphans(_known(running, standing)) if request["to_the_last"] else None
    process = os.fork()
    if process == 0:
        _become(request, descriptors)
    os.write(report, f"{process}\n".encode())
    running[process] = Command(report, older)
    for passed in descriptors:
        os.close(passed)


def _start_for_a_script(
    listener: socket.socket, running: dict[int, Command], standing: dict[int, socket.socket]
) -> None:
    """Start what a script asks for, which says all of it as soon as it is connected."""
    script, _ = listener.accept()
    with script:
        message, descriptors, _, _ = socket.recv_fds(script, 1 << 20, 8)
        if message:
            _start(json.loads(message), descriptors, running, standing)


def _reap(running: dict[int, Command], standing: dict[int, socket.socket]) -> list[tuple[Command, int]]:
    """Take leave of every child that has ended; returns the commands among them and their exit codes. How a standing
    child ended is said on its connection, for a command that was killed in it."""
    ended = []
    with suppress(ChildProcessError):
        while (child := os.waitpid(-1, os.WNOHANG))[0]:
            process, status = child
            if process in running:
                ended.append((running.pop(process), os.waitstatus_to_exitcode(status)))
            elif process in standing:
                with standing.pop(process) as channel, suppress(OSError):  # unless nobody asks any more
                    channel.send(str(os.waitstatus_to_exitcode(status)).encode())
    return ended


def _report(over: list[tuple[Command, int]], known: frozenset[int]) -> list[tuple[Command, int]]:
    """Report the commands that are over; returns those that wait for what they started."""
    waiting = []
    for command, status in over:
        if command.older is not None and _orphans(known) - command.older:
            waiting.append((command, status))
            continue
        os.write(command.report, f"{status}\n".encode())
        os.close(command.report)
    return waiting


def _known(running: dict[int, Command], standing: dict[int, socket.socket]) -> frozenset[int]:
    return frozenset(running.keys() | standing.keys())


def _orphans(known: frozenset[int]) -> frozenset[int]:
    """The children that this process has not forked."""
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return frozenset(map(int, children)) - known


def _stand(descriptors: list[int], standing: dict[int, socket.socket]) -> None:
    """Fork a standing child at the other end of a connection."""
    process = os.fork()
    if process == 0:
        _forget_the_server()
        channel = socket.socket(fileno=os.dup2(descriptors[0], 255))
        os.closerange(3, 255)
        stand(channel, _command(), _open_streams, _finish)
    standing[process] = socket.socket(fileno=descriptors[0])


def _forget_the_server(group: int | None = 0) -> None:
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if group is None:
        os.setsid()
        return
    try:
        os.setpgid(0, group)
    except PermissionError:  # a group of another session
        os.setpgid(0, 0)


def _become(request: dict[str, Any], descriptors: list[int]) -> NoReturn:
    """Turn the forked child into the command."""
    _forget_the_server(None if request["takes_terminal"] else request["group"])
    passed = iter([os.dup(descriptor) for descriptor in descriptors])
    for number, kind in enumerate(request["streams"]):
        if kind == CLOSED:
            os.close(number)
        else:
            os.dup2(next(passed), number)
    if request["takes_terminal"]:
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    # As far from the low numbers as a fresh process has them: nothing but 0, 1 and 2 is open.
    os.closerange(3, 256)
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["folder"])
    if (user := request["user"]) is not None:
        os.setgroups([])
        os.setgid(user)
        os.setuid(user)
    find_packages()
    _open_streams()
    sys.argv = ["alphalens-keyctl", *request["arguments"]]
    for module, function, arguments in request["before"]:
        getattr(importlib.import_module(module), function)(*arguments)
    # The heap is not freed, page by page: that costs more than most commands.
    os._exit(_finish(_command()()))


def _command() -> Callable[[], int]:
    from alphalens_keyctl.cli.entry import main

    return main


def _finish(status: int) -> int:
    """Do what the interpreter does at its end (`Py_FinalizeEx`): wait for threads, run what waits for the exit, write
    what is left in the streams. Returns the exit status."""
    threading._shutdown()  # type: ignore[attr-defined]  # what the interpreter calls
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None and not stream.closed:
                stream.flush()
        except Exception as error:  # noqa: BLE001  # whatever a stream raises
            if stream is sys.stdout:
                sys.__excepthook__(type(error), error, error.__traceback__)
            status = 120
    return status


def _open_streams() -> None:
    """Make sys.stdin, stdout and stderr as the interpreter makes them at its start."""
    encoding, _, wished = os.environ.get("PYTHONIOENCODING", "utf-8").partition(":")
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        try:
            os.fstat(number)
        except OSError:
            stream = None
        else:
            errors = "backslashreplace" if name == "stderr" else wished or "strict"
            buffering = 1 if name == "stderr" else -1
            stream = os.fdopen(number, mode, buffering, encoding=encoding, errors=errors, closefd=False)
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
