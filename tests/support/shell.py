"""A shell in which the program stands under its name, for the command lines of help and README."""

import os
import shlex
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from tests.support.commands import LIMIT, ROOT, Keyctl, Result

PROGRAM: Final = "alphalens-keyctl"
# What makes a line more than one command with its arguments.
_SHELL: Final = frozenset("|<>&;$`~")


class Shell:
    """Runs command lines in one folder, one after another, on one database.

    `programs` are further programs on the PATH: their names and their text.
    """

    def __init__(self, keyctl: Keyctl, folder: Path, programs: Mapping[str, str] | None = None) -> None:
        self._keyctl = keyctl
        self.folder = folder
        path = folder / ".programs"
        path.mkdir()
        keyctl.put_program(path)
        for name, text in (programs or {}).items():
            (path / name).write_text(text)
            (path / name).chmod(0o755)
        self.environment = keyctl.environment | {"PATH": f"{path}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}

    def run(self, line: str) -> Result:
        """Run a line: by the fork server where it is a command of ours alone, else by `sh`."""
        words = [] if _SHELL & set(_unquoted(line)) else shlex.split(line, comments=True)
        if words[:1] == [PROGRAM] and self.folder == self._keyctl.home:
            return self._keyctl(*words[1:], environment={"PATH": self.environment["PATH"]})
        done = subprocess.run(
            ["/bin/sh", "-ec", line], cwd=self.folder, env=self.environment, capture_output=True, text=True,
            stdin=subprocess.DEVNULL, timeout=LIMIT, check=False,
        )  # fmt: skip
        return Result(done.returncode, done.stdout, done.stderr)


def lines_of(script: str) -> Iterator[str]:
    """Yield the command lines of a script, a continued one as one line, without remarks and empty lines."""
    for line in script.replace("\\\n", " ").splitlines():
        if line.strip() and not line.startswith("#"):
            yield line


def _unquoted(line: str) -> str:
    """Return what stands outside quotes, and in double quotes what the shell still acts on there."""
    single = line.split("'")
    outside = "".join(single[::2])
    double = outside.split('"')
    return "".join(double[::2]) + "".join(c for c in "".join(double[1::2]) if c in "$`")
