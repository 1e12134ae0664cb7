"""Pages of help, drawn for a terminal of any width or for a pipe. Drawn without Rich, which takes as long to load as
all of `--help` may take."""

import os
import re
from collections.abc import Iterator, Sequence
from shutil import get_terminal_size
from typing import Final, NamedTuple, TextIO
from unicodedata import combining, east_asian_width

from alphalens_keyctl.output.channel import is_terminal

# Columns of a pipe, and the most that a line of prose is comfortably read at.
PIPE_WIDTH: Final = 80
WIDEST: Final = 100
# Below this width a text stands under its term, and not beside it.
_NARROW: Final = 60
_WIDEST_TERM: Final = 26
_BOLD, _PLAIN = "\x1b[1m", "\x1b[0m"
# A word of a command line: what the shell takes for one, quotes and all.
_WORD: Final = re.compile(r"""(?:[^\s"']|"[^"]*"|'[^']*')+""")


class Paper(NamedTuple):
    """What a page is drawn for. `width` is in columns; `bold` says that headings are set in bold."""

    width: int
    bold: bool

    @classmethod
    def of(cls, stream: TextIO | None) -> "Paper":
        """Return the paper of a standard stream. A pipe gets no escape sequence, whatever the environment says (promise
        10)."""
        if not is_terminal(stream):
            return cls(PIPE_WIDTH, bold=False)
        plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
        return cls(max(20, min(get_terminal_size().columns, WIDEST)), bold=not plain)


class Section(NamedTuple):
    """A heading, and below it terms with what each means."""

    title: str
    rows: Sequence[tuple[str, str]]


class Page(NamedTuple):
    """The help of a command. `examples` are command lines, and lines that begin with `#` about the next one."""

    usage: str
    paragraphs: Sequence[str]
    sections: Sequence[Section]
    examples: Sequence[str]
    closing: Sequence[str]


def drawn(page: Page, paper: Paper) -> str:
    """Return the page as lines of at most the paper's width, where no single word is wider."""
    lines = _hanging("Usage: ", page.usage.split(), paper.width)
    for paragraph in page.paragraphs:
        lines += ["", *wrapped(paragraph, paper.width)]
    for section in page.sections:
        lines += ["", drawn_section(section, paper)]
    if page.examples:
        lines += ["", heading("Examples", paper)]
        for example in page.examples:
            lines += _example(example, paper.width)
    for paragraph in page.closing:
        lines += ["", *wrapped(paragraph, paper.width)]
    return "\n".join(lines)


def drawn_section(section: Section, paper: Paper) -> str:
    """Return a heading and its rows as lines."""
    return "\n".join([heading(section.title, paper), *_rows(section.rows, paper.width)])


def heading(title: str, paper: Paper) -> str:
    """Return a heading's line."""
    return f"{_BOLD}{title}{_PLAIN}" if paper.bold else title


def wrapped(text: str, width: int, indent: str = "", first: str | None = None) -> list[str]:
    """Return `text` as lines of at most `width` columns, broken between words alone.

    Each line begins with `indent`, the first one with `first` where that is given. A word that is too long for what the
    indent leaves, a path say, gets a line of its own, further to the left.
    """
    words = text.replace("\n", " ").split(" ")  # two spaces in a name stay two
    return _hanging(indent if first is None else first, words, width, indent)


def columns(text: str) -> int:
    """Return how many columns of a terminal a text takes."""
    if text.isascii():
        return len(text)
    return sum(0 if combining(each) else 2 if east_asian_width(each) in "WF" else 1 for each in text)


def _hanging(first: str, words: Sequence[str], width: int, indent: str | None = None) -> list[str]:
    indent = " " * columns(first) if indent is None else indent
    lines: list[str] = []
    line, empty = first, True
    for word in words:
        starts_a_line = empty and (bool(lines) or not line.strip())
        if columns(line) + (not empty) + columns(word) > width and not starts_a_line:
            lines.append(line.rstrip())
            line, empty = indent, True
        if empty and columns(line) + columns(word) > width and not line.strip():
            line = line[: max(0, min(len(line), width - columns(word)))]
        line += word if empty else f" {word}"
        empty = False
    return [*lines, line]


def _rows(rows: Sequence[tuple[str, str]], width: int) -> Iterator[str]:
    """Return each term with its text beside it, in a column, or below it where the term or the paper leaves no room."""
    column = 2 + max((len(term) for term, _ in rows if len(term) <= _WIDEST_TERM), default=0) + 2
    for term, text in rows:
        if width < _NARROW:
            yield from (f"  {term}", *wrapped(text, width, " " * 6))
        elif len(term) > _WIDEST_TERM:
            yield from (f"  {term}", *wrapped(text, width, " " * column))
        else:
            yield from wrapped(text, width, " " * column, first=f"  {term}".ljust(column))


def _example(line: str, width: int) -> Iterator[str]:
    """Return a command line, continued as the shell continues a line, or a remark about the next one."""
    if line.startswith("#"):
        yield from wrapped(line[1:].strip(), width, "  # ")
        return
    words = _WORD.findall(line)
    lines = _hanging("  ", words, width - 2, "      ")
    yield from (f"{each} \\" for each in lines[:-1])
    yield lines[-1]
