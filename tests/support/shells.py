"""The real shells on a pseudo-terminal, typed into by a person's keys, and a program that notes its runs."""

import os
import select
import shlex
import subprocess
import sys
import termios
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from tests.support.commands import LIMIT, ROOT
from tests.support.tools import require_tool

SCRIPTS: Final = ROOT / "completions"
SHELLS: Final = ("bash", "zsh", "fish")
_READY: Final = "ready>"
_TAKE_TERMINAL: Final = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execvp(sys.argv[1], sys.argv[1:])"
)
# Answers TAB with the line of a file whose number is the word before the one at the cursor, and notes every other run:
# its arguments, each ended by a NUL, and a newline.
_NOTING: Final = """#!/bin/sh
if [ "$1" = __complete ]; then
    number=$(tr '\\0' '\\n' | tail -n 2 | head -n 1)
    exec sed -n "${number}p" "$FOLDER/answers"
fi
{ printf '%s\\0' "$@"; echo; } >> "$FOLDER/runs"
echo noted
"""
# Answers TAB as the program does, and notes every other run.
_REAL: Final = """#!/bin/sh
if [ "$1" = __complete ]; then exec PYTHON -m alphalens_keyctl "$@"; fi
{ printf '%s\\0' "$@"; echo; } >> "$FOLDER/runs"
echo noted
"""


class Program(NamedTuple):
    """What stands on the PATH as `alphalens-keyctl`, and the folder where its runs are noted."""

    folder: Path

    @classmethod
    def noting(cls, folder: Path, answers: Sequence[str], *, all_at_once: bool = False) -> "Program":
        """A program that answers TAB behind the number N with the Nth of these lines, from 1, or always with all."""
        (folder / "answers").write_text("".join(f"{line}\n" for line in answers))
        return cls(folder)._install(_NOTING.replace('sed -n "${number}p"', "cat") if all_at_once else _NOTING)

    @classmethod
    def real(cls, folder: Path) -> "Program":
        """The program itself, as far as TAB goes; all other runs are noted."""
        return cls(folder)._install(_REAL.replace("PYTHON", shlex.quote(sys.executable)))

    @property
    def runs(self) -> list[list[str]]:
        """The arguments of each run so far."""
        noted = self.folder / "runs"
        lines = noted.read_text("utf-8", "surrogateescape").splitlines() if noted.exists() else []
        return [line.split("\0")[:-1] for line in lines]

    def _install(self, text: str) -> "Program":
        script = self.folder / "bin" / "alphalens-keyctl"
        script.parent.mkdir()
        script.write_text(text)
        script.chmod(0o755)
        return self


class Shell:
    """A shell in which completion is set up as its script wants. `start` is what its start-up file says instead."""

    def __init__(
        self, name: str, program: Program, environment: Mapping[str, str] | None = None, start: str | None = None
    ) -> None:
        home = program.folder / "home"
        home.mkdir(exist_ok=True)
        self._seen = b""
        self._master, slave = os.openpty()
        termios.tcsetwinsize(slave, (50, 120))
        arguments = _ARGUMENTS[name](home, _START[name] if start is None else start)
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _TAKE_TERMINAL, require_tool(name), *arguments],
            env={
                "HOME": str(home), "TERM": "xterm-256color", "LANG": "C.UTF-8", "FOLDER": str(program.folder),
                "PATH": f"{program.folder / 'bin'}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT),
                **(environment or {}),
            },
            cwd=home, start_new_session=True, stdin=slave, stdout=slave, stderr=slave,
        )  # fmt: skip
        os.close(slave)
        self.wait_for(_READY)

    def type(self, keys: str) -> None:
        """Type these keys. Behind them nothing is waited for."""
        self._seen = b""
        os.write(self._master, keys.encode())

    def wait_for(self, text: str) -> str:
        """Read until the terminal shows `text`; returns what it showed since the last `type`."""
        deadline = time.monotonic() + LIMIT
        while text not in (shown := self._seen.decode("utf-8", "replace")):
            ready, _, _ = select.select([self._master], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, f"the shell never shows {text!r}: {shown!r}"
            self._seen += os.read(self._master, 1 << 16)
        return shown

    def __enter__(self) -> "Shell":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait(LIMIT)
        os.close(self._master)


def _bash(home: Path, start: str) -> list[str]:
    (home / ".bashrc").write_text(f"{start}\nPS1='{_READY} '\n")
    return ["--noprofile", "-i"]


def _zsh(home: Path, start: str) -> list[str]:
    (home / ".zshrc").write_text(f"{start}\nPS1='{_READY} '\n")
    return ["-d", "-i"]


def _fish(home: Path, start: str) -> list[str]:
    configuration = home / ".config" / "fish" / "config.fish"
    configuration.parent.mkdir(parents=True, exist_ok=True)
    configuration.write_text(f"set -g fish_greeting\nfunction fish_prompt; echo -n '{_READY} '; end\n{start}\n")
    return ["-i"]


_ARGUMENTS: Final = {"bash": _bash, "zsh": _zsh, "fish": _fish}
_START: Final = {
    "bash": f"source {shlex.quote(str(SCRIPTS / 'alphalens-keyctl.bash'))}",
    "zsh": f"fpath=({shlex.quote(str(SCRIPTS))} $fpath); autoload -Uz compinit; compinit -u -D",
    "fish": f"source {shlex.quote(str(SCRIPTS / 'alphalens-keyctl.fish'))}",
}
