"""Files as destinations: one that holds the raw key alone, and one of variables in which it is one of many."""

import re
from contextlib import suppress
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from alphalens_keyctl.delivery.destination import Parcel, failed, raw_key_in, spelled
from alphalens_keyctl.delivery.folder import Found, Spot
from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.keyformat import RawKey

if TYPE_CHECKING:
    from dotenv.parser import Binding

_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SECONDS: Final = 10.0  # for a disk that is slow to sync
_BOM: Final = "\ufeff"
# An assignment as far as its value; the value; and what a shell and dotenv readers take for a comment behind it.
# Of what else is white to dotenv readers (a lone CR, a no-break space), a shell takes none for white.
_ASSIGNMENT: Final = re.compile(
    r"""(?P<before>(?:\s*\n)?[ \t]*(?:export[ \t]+)?)['"]?\w+['"]?[^\S\r\n]*(?:=(?:[^\S\r\n]*"""
    r"""(?:'(?:\\'|[^'])*'|"(?:\\"|[^"])*")|(?:(?![ \t]\#)[^\r\n])*?))?"""
    r"""(?P<behind>(?:[ \t]+\#[^\r\n]*|[ \t]*)(?:\r\n|\n)?)"""
)
# What a shell takes in as one: a quoted string, an escaped character, a comment, the end of a line, other text.
_SHELL_TOKEN: Final = re.compile(
    r"""'[^']*'|"(?:\\.|[^"\\])*"|\\.|(?<![^ \t\n;&|()])\#[^\n]*|\n|[^'"\\\n\#]+|.""", re.DOTALL
)


class Layout(Protocol):
    """How a raw key stands in a file."""

    def write(self, before: bytes | None, raw: RawKey) -> bytes:
        """The file's new content. Raises ValueError for a file that cannot be worked on."""

    def read(self, content: bytes) -> RawKey | None:
        """The raw key in the file, if there is one."""


class Alone:
    """The raw key and a newline, nothing else."""

    def write(self, _before: bytes | None, raw: RawKey) -> bytes:
        """The file's new content."""
        return f"{raw.reveal()}\n".encode("ascii")

    def read(self, content: bytes) -> RawKey | None:
        """The raw key in the file, if there is nothing else."""
        return raw_key_in(content)


class Variable:
    """The value of one variable among the lines of a file that a shell or a dotenv reader takes in.

    Every other line, its order and its comments stay. The value is written bare: a raw key consists of
    letters, digits and underscores, which `sh`, dotenv readers, Docker and systemd all read the same.
    """

    def __init__(self, name: str) -> None:
        """Raises `KeyctlError` (usage) for what is no name of a variable."""
        if _VARIABLE.fullmatch(name) is None or not name.isascii():
            raise KeyctlError(Code.USAGE, f"'{name}' is no name of a variable", "Use A-Z, 0-9 and _, a letter first.")
        self._name = name

    def write(self, before: bytes | None, raw: RawKey) -> bytes:
        """The file's new content. Every assignment of the variable gets the value: readers differ in which of
        two they take."""
        text = (before or b"").decode("utf-8", "surrogateescape")
        if "\0" in text:
            raise ValueError("it holds a NUL character and is no file of variables")
        bom, text = (_BOM, text[1:]) if text.startswith(_BOM) else ("", text)
        assignment = f"{self._name}={raw.reveal()}"
        changed = "".join(self._assigned(binding, assignment) for binding in _bindings(text))
        if assignment not in changed:
            end = "\r\n" if 0 < text.count("\n") == text.count("\r\n") else "\n"
            changed += (end if text and not text.endswith("\n") else "") + assignment + end
        content = (bom + changed).encode("utf-8", "surrogateescape")
        seen = self.read(content)
        if seen is None or seen.id != raw.id or not _is_command(assignment, changed):
            raise ValueError(f"{self._name} cannot be set in it: before it a quote is never closed, or a line goes on")
        return content

    def read(self, content: bytes) -> RawKey | None:
        """The variable's value, if that is a raw key."""
        text = content.decode("utf-8", "surrogateescape").removeprefix(_BOM)
        values = [binding.value for binding in _bindings(text) if binding.key == self._name]
        return raw_key_in(values[-1]) if values else None

    def _assigned(self, binding: "Binding", assignment: str) -> str:
        piece = binding.original.string
        match = _ASSIGNMENT.fullmatch(piece) if binding.key == self._name else None
        return f"{match['before']}{assignment}{match['behind']}" if match is not None else piece


class KeyFile:
    """`--key-file` and `--env-file`."""

    limit = 2 * _SECONDS

    def __init__(self, path: Path, layout: Layout, *, option: str) -> None:
        self.path = path.absolute()
        self.name = f"{option} {spelled(str(self.path))}"
        self._layout = layout
        self._spot = Spot(self.path, self.name)
        self._before: Found | None = None
        self._content = b""
        self._staged = self._moved_in = False

    def stage(self, parcel: Parcel) -> None:
        """Write the new content beside the file, synced."""
        self._before = self._spot.read()
        try:
            self._content = self._layout.write(self._before.content if self._before else None, parcel.raw)
        except ValueError as error:
            raise failed(self.name, str(error)) from None
        self._staged = True
        self._spot.stage(self._content, self._before)

    def held(self) -> RawKey | None:
        """The raw key that stood there when the new one was staged."""
        return self._layout.read(self._before.content) if self._before else None

    def hand_over(self) -> None:
        """Move the new content into its place, and read it back."""
        self._moved_in = True
        self._spot.move_in()
        found = self._spot.read()
        if found is None or found.content != self._content:
            raise failed(self.name, "what was written is not what stands there")

    def put_back(self, _earlier: RawKey | None) -> bool:
        """Write the old content again, unless somebody else has written meanwhile."""
        if self._staged:
            # What cannot be removed will hold a dead key, and the next attempt overwrites it.
            with suppress(KeyctlError):
                self._spot.clear()
        if not self._moved_in:
            return True
        try:
            found = self._spot.read()
            if found is None or found.content != self._content:
                return True
            if self._before is None:
                self._spot.remove()
            else:
                self._spot.stage(self._before.content, self._before, exactly=True)
                self._spot.move_in()
        except KeyctlError:
            with suppress(KeyctlError):
                self._spot.clear()
            return False
        return True


def _bindings(text: str) -> "list[Binding]":
    """A file of variables in pieces: each the name it sets, if any, and its text to the letter. A quoted value
    may run over lines that look like assignments."""
    # Not `dotenv_values`: what that cannot parse it logs, and a log without a handler goes to stderr.
    from dotenv.parser import parse_stream

    return list(parse_stream(StringIO(text, newline="")))


def _is_command(assignment: str, text: str) -> bool:
    """Whether a shell, too, takes every `assignment` in `text` for one, and not for a part of what stands before.

    Dotenv readers end an open quote with its line; a shell ends it at the next quote, lines and variables later.
    """
    begun = {0}
    for token in _SHELL_TOKEN.finditer(text):
        if token[0] in ("'", '"'):
            break  # never closed
        if token[0] == "\n":
            begun.add(token.end())
    for found in re.finditer(re.escape(assignment), text):
        line = text.rfind("\n", 0, found.start()) + 1
        if line not in begun or text[line : found.start()].strip(" \t") not in ("", "export"):
            return False
    return True
