"""A forked child of the fork server that runs one plain command after another.

A fork costs each command thousands of page faults, more than most commands themselves. What a command leaves behind in
the process ends the child: the next command gets another one, so that no command meets what an earlier one left.
"""

import atexit
import json
import os
import signal
import socket
import sys
import threading
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

# Garbage stays until a process ends, as in a process of the program: see `cli.entry.main`.
MOST = 100
# What becomes a process that is stopped, or looks at the process that it is.
_LASTING = ("serve", "doctor")


def is_plain(arguments: Sequence[str], environment: Mapping[str, str], usual: Mapping[str, str]) -> bool:
    """Whether a standing child can run the command: the interpreter is told nothing else than in the `usual`
    environment, and the command ends by itself."""
    if any(argument.startswith(_LASTING) for argument in arguments):
        return False
    names = {name for name in environment.keys() | usual.keys() if name.startswith(("PYTHON", "TZ", "LC_", "LANG"))}
    return all(environment.get(name) == usual.get(name) for name in names)


def stand(
    channel: socket.socket, command: Callable[[], int], open_streams: Callable[[], None], end: Callable[[int], int]
) -> NoReturn:
    """Run what `channel` asks for until the other end closes, or until a command leaves something behind.

    `end` does what an interpreter does at its end, and returns the exit status.
    """
    path = list(sys.path)
    for left in reversed(range(MOST)):
        message, descriptors, _, _ = socket.recv_fds(channel, 1 << 20, 4)
        if not message:
            break
        request: dict[str, Any] = json.loads(message)
        *streams, report = descriptors
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        os.environ.clear()
        os.environ.update(request["environment"])
        sys.path[:] = path
        find_packages()
        os.chdir(request["folder"])
        open_streams()
        sys.argv = ["alphalens-keyctl", *request["arguments"]]
        before = _state()
        os.write(report, f"{os.getpid()}\n".encode())
        status = command()
        is_clean = _flushed() and _state() == before and _leaves_nothing_open({channel.fileno(), report})
        if not is_clean or left == 0:
            channel.shutdown(socket.SHUT_RDWR)  # first, so that who reads the status asks another child
            os.write(report, f"{end(status)}\n".encode())
            os._exit(0)  # which closes `report`: the command is over only now
        nowhere = os.open(os.devnull, os.O_RDWR)
        for number in range(3):  # so that who reads the other end sees that the command is over
            os.dup2(nowhere, number)
        os.close(nowhere)
        os.write(report, f"{status}\n".encode())
        os.close(report)
    os._exit(0)  # nobody asks any more


def find_packages() -> None:
    """Look where `PYTHONPATH` says, as an interpreter that starts."""
    sys.path[1:1] = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))


def _state() -> tuple[object, ...]:
    handlers = [signal.getsignal(number) for number in sorted(signal.valid_signals())]
    return (
        threading.active_count(), atexit._ncallbacks(), handlers, [*warnings.filters], _children(), _umask(),
        os.getpriority(os.PRIO_PROCESS, 0), os.getpgid(0),
    )  # fmt: skip


def _children() -> str:
    return Path(f"/proc/self/task/{os.getpid()}/children").read_text()


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _flushed() -> bool:
    try:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
    except (OSError, ValueError):
        return False
    return True


def _leaves_nothing_open(known: set[int]) -> bool:
    """Close the locks on the file beside a database, which a process keeps to its end; whether nothing else is open."""
    open_now = {int(name) for name in os.listdir("/proc/self/fd")} - known - {0, 1, 2}
    for descriptor in open_now:
        try:
            path = os.readlink(f"/proc/self/fd/{descriptor}")
        except FileNotFoundError:  # what just listed them
            continue
        if not path.endswith("-lock"):
            return False
        os.close(descriptor)
    return True
