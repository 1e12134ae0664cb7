"""Run the program as its users do: a process, its exit status, its two streams."""

import json
import os
import select
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

from tests.support.fork_server import CLOSED, STAND
from tests.support.standing import is_plain

LIMIT = 60.0  # seconds after which a command counts as hanging

Before = Sequence[tuple[str, str, Sequence[Any]]]
ROOT = Path(__file__).parents[2]


class Result(NamedTuple):
    """How a command ended. `status` is negative for a signal."""

    status: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        return json.loads(self.stdout)

    @property
    def error(self) -> dict[str, str]:
        """The error document, which must be all that stands on stderr."""
        document: dict[str, dict[str, str]] = json.loads(self.stderr)
        return document["error"]


class Process:
    """A running command, perhaps in a `standing` child that is `given_back` at its end."""

    def __init__(
        self, report: int, stdout: IO[bytes], stderr: IO[bytes], standing: socket.socket | None = None,
        given_back: Callable[[socket.socket], None] = socket.socket.close,
    ) -> None:  # fmt: skip
        self._standing = standing
        self._given_back = given_back
        self._report = os.fdopen(report, "r")
        self._stdout = stdout
        self._stderr = stderr
        self.pid = int(self._report.readline())

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        os.kill(self.pid, number)

    def ended(self) -> bool:
        """Whether the command has ended."""
        return bool(select.select([self._report], [], [], 0)[0])

    def kill_after(self, seconds: float) -> None:
        """SIGKILL the command unless it ends within so many seconds."""
        if not select.select([self._report], [], [], max(0.0, seconds))[0]:
            self.kill()

    def wait(self) -> Result:
        """Wait for its end. A command that does not end is killed and fails the test."""
        ready, _, _ = select.select([self._report], [], [], LIMIT)
        if not ready:
            self.kill()
            raise AssertionError(f"the command did not end within {LIMIT} s; stderr: {self._read(self._stderr)}")
        ended = self._report.read()  # to the end: a standing child that ends with its command closes last
        self._report.close()
        if self._standing is not None:
            if ended:
                self._given_back(self._standing)
            else:  # the child was killed: the fork server says by what
                with self._standing:
                    ended = self._standing.recv(64).decode()
        assert ended, f"the process of the command went without a word; stderr: {self._read(self._stderr)}"
        status = int(ended)
        result = Result(status, self._read(self._stdout), self._read(self._stderr))
        self._stdout.close()
        self._stderr.close()
        return result

    @staticmethod
    def _read(stream: IO[bytes]) -> str:
        stream.seek(0)
        return stream.read().decode("utf-8", "surrogateescape")


class ForkServer:
    """The process that forks commands: see `tests.support.fork_server`, which it runs.

    With `libraries_alone` each command loads the program's own modules itself, as in an interpreter of its own.
    """

    def __init__(self, *, libraries_alone: bool = False) -> None:
        self._socket, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._folder = tempfile.TemporaryDirectory(prefix="keyctl-fork-server-")
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
            listener.bind(self._address)
            listener.listen(16)
            passed = [other.fileno()] if libraries_alone else [other.fileno(), listener.fileno()]
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.support.fork_server", *map(str, passed)], pass_fds=passed, cwd=ROOT
            )
        other.close()
        self._idle: list[socket.socket] = []

    @property
    def _address(self) -> str:
        return f"{self._folder.name}/socket"

    def put_program(self, folder: Path) -> None:
        """Make a script `alphalens-keyctl` in a folder, for a PATH: each call of it is a fork."""
        asks = [sys.executable, "-IS", str(Path(__file__).with_name("forked_program.py")), self._address]
        script = folder / "alphalens-keyctl"
        script.write_text(f'#!/bin/sh\nexec {shlex.join(asks)} "$@"\n')
        script.chmod(0o755)

    def start(
        self,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        folder: Path,
        *,
        stdin: bytes | int | str = b"",
        stdout: int | str | None = None,
        stderr: int | str | None = None,
        before: Before = (),
        user: int | None = None,
        to_the_last: bool = False,
        takes_terminal: bool = False,
        standing: socket.socket | None = None,
    ) -> Process:
        """Start a command. A stream is a descriptor, CLOSED, or by default a file that the result is read from.

        `before` names what the forked child does before it becomes the command: module, function, arguments. A
        command that is waited for `to_the_last` ends when the processes that it left behind have ended too. One
        that `takes_terminal` leads a session whose controlling terminal is its stdin. A `standing` child runs the
        command instead of a fork of its own.
        """
        files = [tempfile.TemporaryFile() for _ in range(3)]  # noqa: SIM115  # two of them are read by the Process
        if isinstance(stdin, bytes):
            files[0].write(stdin)
            files[0].seek(0)
            stdin = files[0].fileno()
        streams = [
            stdin,
            *(
                file.fileno() if given is None else given
                for file, given in zip(files[1:], (stdout, stderr), strict=True)
            ),
        ]
        request = {
            "arguments": list(arguments), "environment": dict(environment), "folder": str(folder),
            "streams": [CLOSED if stream == CLOSED else "open" for stream in streams], "before": list(before),
            "user": user, "to_the_last": to_the_last, "group": 0, "takes_terminal": takes_terminal,
        }  # fmt: skip
        report, report_end = os.pipe()
        passed = [stream for stream in streams if isinstance(stream, int)]
        socket.send_fds(standing or self._socket, [json.dumps(request).encode()], [*passed, report_end])
        os.close(report_end)
        files[0].close()
        return Process(report, files[1], files[2], standing, self._take_back)

    def start_plain(
        self, arguments: Sequence[str], environment: Mapping[str, str], folder: Path, usual: Mapping[str, str],
        **options: Any,
    ) -> Process:  # fmt: skip
        """Start a command that nobody stops: in a standing child, where one can run it. Options as in `start`."""
        if not is_plain(arguments, environment, usual):
            return self.start(arguments, environment, folder, **options)
        standing = self._idle.pop() if self._idle else self._stand()
        return self.start(arguments, environment, folder, standing=standing, **options)

    def run(
        self, arguments: Sequence[str], environment: Mapping[str, str], folder: Path, usual: Mapping[str, str],
        **options: Any,
    ) -> Result:  # fmt: skip
        """Run a command to its end. Options as in `start`."""
        if options.keys() - {"stdin"} or not isinstance(options.get("stdin", b""), bytes):
            return self.start(arguments, environment, folder, **options).wait()
        return self.start_plain(arguments, environment, folder, usual, **options).wait()

    def _take_back(self, standing: socket.socket) -> None:
        if select.select([standing], [], [], 0)[0]:  # the child ended with the command
            standing.close()
        else:
            self._idle.append(standing)

    def _stand(self) -> socket.socket:
        here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        socket.send_fds(self._socket, [STAND.encode()], [there.fileno()])
        there.close()
        return here

    def close(self) -> None:
        for standing in self._idle:
            standing.close()
        self._socket.close()
        self._process.wait(10)
        self._folder.cleanup()


class Keyctl:
    """The program in a home of its own, on one database."""

    def __init__(self, fork_server: ForkServer, home: Path, database_url: str | None) -> None:
        self._fork_server = fork_server
        self.home = home
        self.database_url = database_url
        self.environment = {
            "HOME": str(home), "PATH": os.environ["PATH"], "LANG": "C.UTF-8", "TERM": "xterm-256color",
            "COLUMNS": "80", "PYTHONPATH": str(ROOT),
        }  # fmt: skip
        if database_url is not None:
            self.environment["ALPHALENS_KEYCTL_DATABASE_URL"] = database_url

    def put_program(self, folder: Path) -> None:
        """Make a script `alphalens-keyctl` in a folder, for a PATH: each call of it is a fork."""
        self._fork_server.put_program(folder)

    def start(self, *arguments: str, environment: Mapping[str, str] | None = None, **options: Any) -> Process:
        """Start a command and do not wait for it. Options as in `ForkServer.start`."""
        return self._fork_server.start(arguments, self.environment | dict(environment or {}), self.home, **options)

    def start_plain(self, *arguments: str, **options: Any) -> Process:
        """Start a command that nobody stops. Options as in `ForkServer.start`."""
        return self._fork_server.start_plain(arguments, self.environment, self.home, self.environment, **options)

    def __call__(self, *arguments: str, **options: Any) -> Result:
        """Run a command to its end. Options as in `ForkServer.start`."""
        environment = self.environment | dict(options.pop("environment", None) or {})
        return self._fork_server.run(arguments, environment, self.home, usual=self.environment, **options)

    def spawn(self, *arguments: str, environment: Mapping[str, str] | None = None, stdin: bytes = b"") -> Result:
        """The same in an interpreter of its own, for what happens at its start: imports, locale, streams."""
        done = subprocess.run(
            [sys.executable, "-m", "alphalens_keyctl", *arguments],
            env=self.environment | dict(environment or {}), input=stdin, capture_output=True, timeout=LIMIT,
            cwd=self.home, check=False,
        )  # fmt: skip
        return Result(done.returncode, done.stdout.decode(), done.stderr.decode())

    def ok(self, *arguments: str, **options: Any) -> Result:
        """Run a command that must succeed."""
        result = self(*arguments, **options)
        assert result.status == 0, result
        return result

    def create(self, name: str, *options: str) -> tuple[str, str]:
        """Create a key; returns its raw key and its id."""
        document = self.ok("create", name, "--json", *options).json
        return document["raw_key"], document["key"]["id"]

    def keys(self) -> list[dict[str, Any]]:
        """Every key there is."""
        keys: list[dict[str, Any]] = self.ok("list", "--all", "--json").json
        return keys

    def opens(self, raw_key: str) -> bool:
        """Whether a raw key opens."""
        result = self("verify", "--json", stdin=raw_key.encode())
        assert result.status in (0, 4), result
        allowed: bool = result.json["allowed"]
        return allowed
