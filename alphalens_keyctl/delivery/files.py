"""Files as destinations: `--key-file` holds the raw key alone, `--env-file` holds it as one of its variables."""

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
_SECONDS: Final = 10.0  # seconds that a slow disk may take to sync a file
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
    """How a file holds a raw key."""

    def write(self, before: bytes | None, raw: RawKey) -> bytes:
        """Return the file's content with the raw key. `before` is its content now, or None.

        Raises ValueError for a file that cannot hold it.
        """

    def read(self, content: bytes) -> RawKey | None:
        """Return the raw key in the file, or None."""


class Alone:
    """The raw key and a newline, and nothing else."""

    def write(self, _before: bytes | None, raw: RawKey) -> bytes:
        """Return the raw key and a newline, whatever the file holds now."""
        return f"{raw.reveal()}\n".encode("ascii")

    def read(self, content: bytes) -> RawKey | None:
        """Return the raw key when the file holds nothing else, or None."""
        return raw_key_in(content)


class Variable:
    """The value of one variable in a file that a shell or a dotenv reader reads.

    All other lines stay as they are and where they are; a byte order mark in front is dropped. The value is written
    without quotes: a raw key consists of letters, digits and underscores, which `sh`, dotenv readers, Docker and
    systemd read the same.
    """

    def __init__(self, name: str) -> None:
        """Raises `KeyctlError` (usage) for what is no name of a variable."""
        if _VARIABLE.fullmatch(name) is None or not name.isascii():
            raise KeyctlError(Code.USAGE, f"'{name}' is no name of a variable", "Use A-Z, 0-9 and _, a letter first.")
        self._name = name

    def write(self, before: bytes | None, raw: RawKey) -> bytes:
        """Return the file's content with the variable set to the raw key.

        Every assignment of the variable gets the value, since readers differ in which of two assignments they take.
        Raises ValueError for a file in which the variable cannot be set.
        """
        text = _decoded(before or b"")
        if "\0" in text:
            raise ValueError("it holds a NUL character and is no file of variables")
        assignment = f"{self._name}={raw.reveal()}"
        changed = "".join(self._assigned(binding, assignment) for binding in _bindings(text))
        if assignment not in changed:
            changed += ("\n" if text and not text.endswith("\n") else "") + assignment + "\n"
        content = changed.encode("utf-8", "surrogateescape")
        seen = self.read(content)
        if seen is None or seen.id != raw.id or not _is_command(assignment, changed):
            raise ValueError(f"{self._name} cannot be set in it: before it a quote is never closed, or a line goes on")
        return content

    def read(self, content: bytes) -> RawKey | None:
        """Return the variable's value when that is a raw key, or None."""
        values = [binding.value for binding in _bindings(_decoded(content)) if binding.key == self._name]
        return raw_key_in(values[-1]) if values else None

    def _assigned(self, binding: "Binding", assignment: str) -> str:
        piece = binding.original.string
        match = _ASSIGNMENT.fullmatch(piece) if binding.key == self._name else None
        if match is None:
            return piece
        # To a shell a CR is no part of the end of a line, but of the value.
        behind = match["behind"].replace("\r\n", "\n")
        return f"{match['before']}{assignment}{behind}"


class KeyFile:
    """A file as a destination, for `--key-file` and `--env-file`."""

    limit = 2 * _SECONDS

    def __init__(self, path: Path, layout: Layout, *, option: str) -> None:
        self.path = path.absolute()
        self.name = f"{option} {spelled(str(self.path))}"
        self._layout = layout
        self._spot = Spot(self.path, self.name)
        self._before: Found | None = None
        self._content = b""
        self._staged = self._moved_in = False

    def current(self) -> RawKey | None:
        """Return the raw key that the file holds, or None. Raises `KeyctlError` (delivery_failed)."""
        found = self._spot.read()
        return None if found is None else self._layout.read(found.content)

    def stage(self, parcel: Parcel) -> None:
        """Write the new content to a temporary file beside the file, and sync it."""
        self._before = self._spot.read()
        try:
            self._content = self._layout.write(self._before.content if self._before else None, parcel.raw)
        except ValueError as error:
            raise failed(self.name, str(error)) from None
        self._staged = True
        self._spot.stage(self._content, self._before)

    def held(self) -> RawKey | None:
        """Return the raw key that the file held when the new one was staged, or None."""
        return self._layout.read(self._before.content) if self._before else None

    def hand_over(self) -> None:
        """Rename the temporary file over the file, and read it back."""
        self._moved_in = True
        self._spot.move_in()
        found = self._spot.read()
        if found is None or found.content != self._content:
            raise failed(self.name, "what was written is not what stands there")

    def put_back(self, _earlier: RawKey | None) -> bool:
        """Give the file its old content back, unless somebody else has written to it meanwhile."""
        if self._staged:
            # A temporary file that cannot be removed holds a key that opens nothing; the next attempt overwrites it.
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


def _decoded(content: bytes) -> str:
    """Return a file of variables as text, without the byte order mark in front that Windows' editors write: to a shell
    the mark would be a part of the first line, and to no reader is it of use."""
    return content.decode("utf-8", "surrogateescape").lstrip(_BOM)


def _bindings(text: str) -> "list[Binding]":
    """Return a file of variables in pieces: each with the name that it sets, if any, and its exact text.

    A quoted value may span lines that look like assignments.
    """
    # Not `dotenv_values`: it logs what it cannot parse, and a log without a handler goes to stderr.
    from dotenv.parser import parse_stream

    return list(parse_stream(StringIO(text, newline="")))


def _is_command(assignment: str, text: str) -> bool:
    """Return whether a shell, too, reads every `assignment` in `text` as an assignment.

    Where a quote is not closed, a dotenv reader ends it with the line; a shell ends it at the next quote, some lines
    and variables later.
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
