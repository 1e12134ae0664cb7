"""Run the program as a person does: on a terminal of a given width, seeing what the terminal was sent.

`Session` forks the command from the fork server. With `real` the terminal is the command's controlling one, which
Ctrl-C and a hidden prompt (`/dev/tty`) need.
"""

import fcntl
import os
import re
import select
import struct
import termios
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from tests.support.commands import LIMIT, Keyctl

CTRL_C: Final = b"\x03"
CTRL_D: Final = b"\x04"
_ESCAPES: Final = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")


class Shown(NamedTuple):
    """How a command on a terminal ended. `raw` is all that the terminal was sent, echo included; `stdout` and
    `stderr` are what went elsewhere, where a stream was not on the terminal."""

    status: int
    raw: bytes
    stdout: str
    stderr: str

    @property
    def lines(self) -> list[str]:
        """The lines that were sent, without colour; not wrapped as the terminal would."""
        return plain(self.raw.decode()).replace("\r\n", "\n").split("\n")

    @property
    def text(self) -> str:
        return "\n".join(self.lines)


class Session:
    """A command on a pseudo-terminal. Streams named in `elsewhere` are not on it."""

    def __init__(
        self,
        keyctl: Keyctl,
        *arguments: str,
        width: int = 80,
        environment: Mapping[str, str] | None = None,
        elsewhere: tuple[str, ...] = (),
        real: bool = False,
        **options: Any,
    ) -> None:
        self._master, slave = os.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 50, width, 0, 0))
        # An empty COLUMNS: the width is asked of the terminal, as in a shell that does not export it.
        environment = {"COLUMNS": "", **(environment or {})}
        self._seen = b""
        streams = {name: slave for name in ("stdin", "stdout", "stderr") if name not in elsewhere}
        self._process = keyctl.start(*arguments, environment=environment, takes_terminal=real, **streams, **options)
        os.close(slave)

    def wait_for(self, text: str) -> None:
        """Read until the terminal shows `text`."""
        deadline = time.monotonic() + LIMIT
        while text not in plain(self._seen.decode(errors="replace")):
            assert self._read(deadline), f"ended without showing {text!r}: {self._seen!r}"

    def type(self, keys: bytes) -> None:
        if CTRL_C in keys:
            self._wait_until_it_waits()
        os.write(self._master, keys)

    def end(self) -> Shown:
        """Read until every process has left the terminal, and take the exit status."""
        deadline = time.monotonic() + LIMIT
        while self._read(deadline):
            pass
        os.close(self._master)
        done = self._process.wait()
        return Shown(done.status, self._seen, done.stdout, done.stderr)

    def _wait_until_it_waits(self) -> None:
        """CPython looks for a signal before it starts to read. One that comes between the two, a microsecond
        after the prompt, stays unseen until the next key: no person is so fast, and on a busy machine a test is."""
        deadline = time.monotonic() + LIMIT
        while Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()[0] != "S":
            assert time.monotonic() < deadline, "the program does not wait for anything"
            time.sleep(0.001)

    def _read(self, deadline: float) -> bool:
        ready, _, _ = select.select([self._master], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            self._process.kill()
            raise AssertionError(f"the command hangs; the terminal shows {self._seen!r}")
        try:
            piece = os.read(self._master, 1 << 16)
        except OSError:  # EIO: nobody has the other end any more
            return False
        self._seen += piece
        return bool(piece)


def on_terminal(keyctl: Keyctl, *arguments: str, **options: Any) -> Shown:
    """Run a command to its end on a terminal. Options as in `Session`."""
    return Session(keyctl, *arguments, **options).end()


def plain(text: str) -> str:
    """`text` without escape sequences."""
    return _ESCAPES.sub("", text)
