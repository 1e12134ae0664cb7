"""The README's sessions at a prompt: run on a terminal, and compared with what stands there. It is Jo who types.

`python -m tests.support.console` writes the answers anew, after what commands print has changed.
"""

import os
import pwd
import re
import shlex
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from tests.support.commands import ROOT, ForkServer, Keyctl
from tests.support.terminal import on_terminal

WIDTH: Final = 100
_CONSOLE: Final = re.compile(r"```console\n(.*?)```\n", re.DOTALL)
_RAW_KEY: Final = re.compile(r"\balk_[0-9A-Za-z]{12}_[0-9A-Za-z]{49}\b")
# What is another each time: an id, and a part of one; a time; an age, and which of two was in the same second.
_VARYING: Final = (
    (re.compile(r"\b(?=[0-9A-Za-z]*([0-9]|[a-z][0-9A-Za-z]*[A-Z]))[0-9A-Za-z]{12}\b"), "ID"),
    (re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}([ T][0-9:]{5,8}Z?( UTC)?)?"), "TIME"),
    (re.compile(r"\b(just now|[0-9]+ ?s(econds?)?( ago)?)\b"), "AGE"),
    (_RAW_KEY, "alk_…"),
    (re.compile(r"[─━]+"), "─"),
    (re.compile(r"\s+"), " "),
)


class Exchange(NamedTuple):
    """A command behind a prompt, and the lines that answer it."""

    command: str
    answer: str


class Prompt:
    """A terminal at which a document's commands are typed, one after another."""

    def __init__(self, keyctl: Keyctl) -> None:
        self._keyctl = keyctl
        self._environment = {"ALPHALENS_KEYCTL_ACTOR": "jo"}

    def type(self, line: str) -> str:
        """Run a command as the shell would; returns what the terminal shows, a raw key as `alk_…`."""
        words = shlex.split(line)
        if words[0] == "export":
            name, _, value = words[1].partition("=")
            self._environment[name] = value
            return ""
        given = b""
        if "<" in words:
            given = (self._keyctl.home / words[-1]).read_bytes()
            words = words[:-2]
        options = {"elsewhere": ("stdin",), "stdin": given} if given else {}
        shown = on_terminal(self._keyctl, *words[1:], width=WIDTH, environment=self._environment, **options)
        lines = [line.rstrip() for line in self._settled(shown.text).split("\n")]
        return "\n".join(lines).strip("\n").replace("\n\n", "\n") + "\n"

    def _settled(self, text: str) -> str:
        from_here = f"{pwd.getpwuid(os.getuid()).pw_name}@{os.uname().nodename}"
        text = text.replace(str(self._keyctl.home), "/home/jo").replace(from_here, "jo@laptop")
        return _RAW_KEY.sub("alk_…", text)


def exchanges(text: str) -> Iterator[Exchange]:
    """The exchanges of a document, in order."""
    for session in _CONSOLE.findall(text):
        for part in re.split(r"^\$ ", session, flags=re.MULTILINE)[1:]:
            command, _, answer = part.partition("\n")
            yield Exchange(command, answer)


def same(one: str, other: str) -> bool:
    """Whether two answers are the same but for ids, times and the width of columns."""
    return _settled(one) == _settled(other)


def _settled(text: str) -> str:
    for pattern, name in _VARYING:
        text = pattern.sub(name, text)
    return text.strip()


def _renew(path: Path) -> None:
    server = ForkServer()
    with tempfile.TemporaryDirectory() as home:
        prompt = Prompt(Keyctl(server, Path(home), None))

        def answered(session: "re.Match[str]") -> str:
            commands = [line for line in session[1].splitlines() if line.startswith("$ ")]
            return "```console\n" + "".join(f"{line}\n{prompt.type(line[2:])}" for line in commands) + "```\n"

        path.write_text(_CONSOLE.sub(answered, path.read_text()))
    server.close()


if __name__ == "__main__":
    _renew(ROOT / "README.md")
