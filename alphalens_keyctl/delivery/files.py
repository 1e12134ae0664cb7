"""Files as destinations: one that holds the raw key alone, and one of variables in which it is one of many."""

import re
from io import StringIO
from pathlib import Path
from typing import Final, Protocol

from alphalens_keyctl.delivery.destination import Parcel, failed, raw_key_in
from alphalens_keyctl.delivery.folder import Found, Spot
from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.keyformat import RawKey

_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SECONDS: Final = 10.0  # for a disk that is slow to sync
# An assignment as far as its value; the value; and what a shell and dotenv readers take for a comment behind it.
_ASSIGNMENT: Final = re.compile(
    r"""(?P<before>\s*(?:export[^\S\r\n]+)?)['"]?\w+['"]?[^\S\r\n]*(?:=[^\S\r\n]*"""
    r"""(?:'(?:\\'|[^'])*'|"(?:\\"|[^"])*"|(?:(?!\s\#)[^\r\n])*?))?"""
    r"""(?P<behind>(?:[^\S\r\n]+\#[^\r\n]*|[^\S\r\n]*)(?:\r\n|\n|\r)?)""",
    re.VERBOSE,
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
        end = "\r\n" if "\r\n" in text else "\n"
        pieces, found = [], False
        for name, piece in _bindings(text):
            match = _ASSIGNMENT.fullmatch(piece) if name == self._name else None
            if match is None:
                pieces.append(piece)
                continue
            found = True
            pieces.append(f"{match['before']}{self._name}={raw.reveal()}{match['behind']}")
        text = "".join(pieces)
        if not found:
            text += (end if text and not text.endswith(("\n", "\r")) else "") + f"{self._name}={raw.reveal()}{end}"
        if self.read(text.encode("utf-8", "surrogateescape")) is None:
            raise ValueError(f"{self._name} cannot be set in it: a quote before it is never closed")
        return text.encode("utf-8", "surrogateescape")

    def read(self, content: bytes) -> RawKey | None:
        """The variable's value, if that is a raw key."""
        from dotenv import dotenv_values

        text = content.decode("utf-8", "surrogateescape")
        return raw_key_in(dotenv_values(stream=StringIO(text), interpolate=False).get(self._name))


class KeyFile:
    """`--key-file` and `--env-file`."""

    limit = 2 * _SECONDS

    def __init__(self, path: Path, layout: Layout, *, option: str) -> None:
        self.path = path.absolute()
        self.name = f"{option} {self.path}"
        self._layout = layout
        self._spot = Spot(self.path, self.name)
        self._before: Found | None = None
        self._content = b""
        self._staged = False

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
        self._spot.switch()
        found = self._spot.read()
        if found is None or found.content != self._content:
            raise failed(self.name, "what was written is not what stands there")

    def put_back(self, _earlier: RawKey | None) -> bool:
        """Write the old content again, unless somebody else has written meanwhile."""
        if not self._staged:
            return True
        try:
            self._spot.clear()
            found = self._spot.read()
            if found is None or found.content != self._content:
                return True
            if self._before is None:
                self._spot.remove()
            else:
                self._spot.stage(self._before.content, self._before)
                self._spot.switch()
        except KeyctlError:
            return False
        return True


def _bindings(text: str) -> "list[tuple[str | None, str]]":
    """A file of variables in pieces: each the name it sets, if any, and its text to the letter. A quoted value
    may run over lines that look like assignments."""
    from dotenv.parser import parse_stream

    return [(binding.key, binding.original.string) for binding in parse_stream(StringIO(text, newline=""))]
