"""Real processes of the program at the price of a fork.

A test suite that starts the interpreter a thousand times spends its time on imports. This process imports
once, alone and single-threaded; each command is a forked child with its own arguments, environment, folder
and standard descriptors, that ends as the interpreter ends. Run as `python -m tests.support.fork_server DESCRIPTOR`.
"""

import importlib
import json
import os
import select
import signal
import socket
import sys
from typing import Any, NoReturn

CLOSED = "closed"
# Everything heavy. Nothing of the program itself, and not what looks at the terminal while it is imported.
PRELOADED = """
    typer sqlmodel alembic.command alembic.autogenerate psycopg psycopg_binary platformdirs mako.template
    logging.config rich.console rich.table rich.rule
    sqlalchemy.dialects.postgresql.psycopg sqlalchemy.dialects.sqlite.pysqlite
"""


def main(descriptor: int) -> None:
    """Serve requests until the other end closes."""
    for module in PRELOADED.split():
        importlib.import_module(module)
    server = socket.socket(fileno=descriptor)
    children: dict[int, int] = {}
    while True:
        readable, _, _ = select.select([server], [], [], 0.004 if children else None)
        if readable:
            message, descriptors, _, _ = socket.recv_fds(server, 1 << 20, 8)
            if not message:
                return
            report = descriptors.pop()
            process = os.fork()
            if process == 0:
                server.close()
                os.close(report)
                _become(json.loads(message), descriptors)
            os.write(report, f"{process}\n".encode())
            children[process] = report
            for passed in descriptors:
                os.close(passed)
        for process in list(children):
            done, status = os.waitpid(process, os.WNOHANG)
            if done:
                report = children.pop(process)
                os.write(report, f"{os.waitstatus_to_exitcode(status)}\n".encode())
                os.close(report)


def _become(request: dict[str, Any], descriptors: list[int]) -> NoReturn:
    """Turn the forked child into the command."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.setpgid(0, 0)
    passed = iter([os.dup(descriptor) for descriptor in descriptors])
    for number, kind in enumerate(request["streams"]):
        if kind == CLOSED:
            os.close(number)
        else:
            os.dup2(next(passed), number)
    # As far from the low numbers as a fresh process has them: nothing but 0, 1 and 2 is open.
    os.closerange(3, 256)
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["folder"])
    if (user := request.get("user")) is not None:
        os.setgroups([])
        os.setgid(user)
        os.setuid(user)
    _open_streams()
    sys.argv = ["alphalens-keyctl", *request["arguments"]]
    for module, function, arguments in request["before"]:
        getattr(importlib.import_module(module), function)(*arguments)
    from alphalens_keyctl.cli.entry import main as command

    sys.exit(command())


def _open_streams() -> None:
    """Make sys.stdin, stdout and stderr as the interpreter makes them at its start."""
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        try:
            os.fstat(number)
        except OSError:
            stream = None
        else:
            errors = "backslashreplace" if name == "stderr" else "strict"
            buffering = 1 if name == "stderr" else -1
            stream = os.fdopen(number, mode, buffering, encoding="utf-8", errors=errors, closefd=False)
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


if __name__ == "__main__":
    main(int(sys.argv[1]))
