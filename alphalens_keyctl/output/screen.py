"""The screen that tables and panels are drawn for: its width, colours and characters."""

import io
import sys
from dataclasses import dataclass
from functools import cache
from shutil import get_terminal_size
from typing import TextIO

from rich.console import Console, RenderableType
from rich.text import Text

from alphalens_keyctl.output.channel import is_terminal
from alphalens_keyctl.output.inert import for_terminal

# Columns of a pipe: a row stays on one line there, so that grep finds all of it.
_PIPE_WIDTH = 2000


@dataclass(frozen=True)
class Screen:
    """The width of a stream in columns, and what the stream can show."""

    width: int
    terminal: bool
    color: bool
    unicode: bool
    encoding: str = "utf-8"

    @classmethod
    def of_stdout(cls, *, color: bool) -> "Screen":
        """Return the screen behind stdout. A pipe is never coloured, whatever the environment says (promise 10)."""
        return cls._of(sys.stdout, color=color)

    @classmethod
    def of_stderr(cls, *, color: bool) -> "Screen":
        """Return the screen behind stderr, as `of_stdout` does."""
        return cls._of(sys.stderr, color=color)

    @classmethod
    def _of(cls, stream: TextIO | None, *, color: bool) -> "Screen":
        terminal = is_terminal(stream)
        encoding = getattr(stream, "encoding", None) or "ascii"
        return cls(
            width=max(20, get_terminal_size().columns) if terminal else _PIPE_WIDTH,
            terminal=terminal,
            color=color and terminal,
            unicode=encoding.lower().replace("-", "").startswith("utf"),
            encoding=encoding,
        )

    def draw(self, *parts: RenderableType) -> str:
        """Return what Rich draws of the parts, as the text to write. Plain strings are not taken for markup."""
        buffer = io.StringIO()
        console = Console(
            file=buffer,
            width=self.width,
            force_terminal=self.terminal,
            no_color=not self.color,
            color_system="auto" if self.color else None,
            markup=False,
            emoji=False,
            highlight=False,
            legacy_windows=False,
        )
        for part in parts:
            console.print(part)
        return "\n".join(line.rstrip(" ") for line in buffer.getvalue().split("\n"))

    def spelled(self, text: str) -> str:
        """Return `text` with every character spelled out that stdout cannot write: it takes the width that it shows."""
        return text if self.unicode else text.encode(self.encoding, "backslashreplace").decode(self.encoding)

    def paint(self, text: str, style: str) -> str:
        """Return `text` in a style, "" for none: with the codes that Rich writes for this screen, on a line of any
        length. Thousands of cells are painted in the time in which Rich draws a few."""
        before, after = _codes(self, style)
        return f"{before}{text}{after}"


@cache
def _codes(screen: Screen, style: str) -> tuple[str, str]:
    before, _, after = screen.draw(Text("x", style=style)).rstrip("\n").partition("x")
    return before, after


def cell(text: str | None, style: str = "", *, missing: str = "-") -> Text:
    """Return text from the database as a cell: inert (promise 12), and folded where it is too long.

    `missing` stands for None.
    """
    return Text(for_terminal(text) if text is not None else missing, style=style, overflow="fold")
