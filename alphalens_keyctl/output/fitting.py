"""Texts → lines of a given width: how wide each column of a page is, and how a text is cut or folded."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import Enum, auto
from typing import Final, NamedTuple

from rich.cells import cell_len

GAP: Final = 2  # cells between two columns
# A text this wide is no outlier beside shorter ones.
_ORDINARY: Final = 32
_SHORTEST: Final = 6  # cells to which a column may shrink where nothing else makes the page fit
# A part of a long name behind which a line may end.
_BREAKABLE: Final = re.compile(r"[^-_/:@=]*[-_/:@=]+|[^-_/:@=]+")


class Cut(Enum):
    """How a text that is too wide for its column is cut."""

    NEVER = auto()  # the widest text of the page sets the column
    END = auto()
    MIDDLE = auto()  # the start and the end stay: names differ in both


class Column(NamedTuple):
    """A column of a table. Widths are in cells of a terminal.

    `least` is the width that a column keeps whose texts may be cut, while other columns can be left out instead.
    `shortened` says a text of the column in fewer words: where the page is narrow, all texts of the column are said
    so. `longest` is the width of the widest text that a later page can hold, and of the widest one in fewer words.
    Where a page is too narrow, the columns with `dropped` are left out, the one with the lowest number first.
    """

    title: str
    cut: Cut = Cut.NEVER
    least: int = 0
    shortened: Callable[[str], str] | None = None
    longest: tuple[int, int] | None = None
    right: bool = False
    dropped: int | None = None


class Fit(NamedTuple):
    """The width that a column got, and whether its texts are said in fewer words."""

    width: int
    short: bool


def fits(
    columns: Sequence[Column], page: Sequence[Sequence[str]], *, room: int, more: bool = False
) -> Mapping[int, Fit] | None:
    """Return the columns that the page has room for, by their positions; None where there is no room for a table.

    A page is rows of texts, one for each column. `more` says that rows follow which are not on the page.
    """
    texts = [[row[place] for row in page] for place in range(len(columns))]
    wanted = [_wanted(column, some, more=more) for column, some in zip(columns, texts, strict=True)]
    kept = {place: _least(column, texts[place], wanted[place], more=more) for place, column in enumerate(columns)}
    for _, place in sorted((each.dropped, place) for place, each in enumerate(columns) if each.dropped is not None):
        if _taken(kept) <= room:
            break
        del kept[place]
    shrinking = [place for place in kept if columns[place].cut is not Cut.NEVER]
    while _taken(kept) > room:
        widest = max(shrinking, key=kept.__getitem__, default=None)
        if widest is None or kept[widest] <= _SHORTEST:
            return None
        kept[widest] -= 1
    last = max(kept)
    if columns[last].cut is Cut.END:
        # Nothing stands behind the last column that an outlier could push away.
        wanted[last] = max(map(cell_len, texts[last]), default=0)
    for place, width in kept.items():
        spare = room - _taken(kept)
        if columns[place].cut is not Cut.NEVER:
            kept[place] = width + max(0, min(wanted[place] - width, spare))
        elif wanted[place] - width <= spare:
            kept[place] = wanted[place]
    return {place: Fit(width, short=width < wanted[place]) for place, width in kept.items()}


def fitted(text: str, width: int, how: Cut, *, mark: str) -> tuple[str, str]:
    """Return `text`, cut where it is wider than `width` cells, and the spaces that it lacks to that width.

    `mark` stands where text was cut off.
    """
    taken = len(text) if text.isascii() else cell_len(text)
    if taken > width:
        text = _cut(text, width, how, mark)
        taken = cell_len(text)
    return text, " " * (width - taken)


def folded(text: str, width: int) -> Iterator[str]:
    """Yield `text` as lines of at most `width` cells, broken between words; a word that is wider is broken behind a
    hyphen or the like, and where it has none, anywhere."""
    line: str | None = None
    for before, part in _parts(text, width):
        joined = part if line is None else line + before + part
        if cell_len(joined) <= width:
            line = joined
            continue
        if line is not None:
            yield line
        while cell_len(part) > width:
            piece = _start(part, width) or part[0]
            yield piece
            part = part[len(piece) :]
        line = part
    yield line or ""


def _parts(text: str, width: int) -> Iterator[tuple[str, str]]:
    """The parts of a text between which it may be broken, each with what stands before it: a space, or nothing."""
    for word in text.split(" "):
        before = " "
        for part in _BREAKABLE.findall(word) if cell_len(word) > width else [word]:
            yield before, part
            before = ""


def _cut(text: str, width: int, how: Cut, mark: str) -> str:
    room = max(0, width - len(mark))
    if how is not Cut.MIDDLE:
        return _start(text, room).rstrip(" ") + mark
    end = _start(text[::-1], room // 2)[::-1]
    # A sign that combines with the letter before it was parted from that letter.
    while end and cell_len(end[0]) == 0:
        end = end[1:]
    return _start(text, room - room // 2).rstrip(" ") + mark + end.lstrip(" ")


def _wanted(column: Column, texts: Sequence[str], *, more: bool) -> int:
    """The width that shows the texts of a column whole, but outliers: at most one of ten, much wider than the rest."""
    title = cell_len(column.title)
    if more and column.longest is not None:
        return max(title, column.longest[0])
    measured = list(map(cell_len, texts))
    if column.cut is Cut.NEVER:
        return max(title, *measured, 0)
    ordinary = sorted(measured)[(len(measured) - 1) * 9 // 10] if measured else 0
    limit = max(_ORDINARY, ordinary * 3 // 2)
    shown = [width if width <= limit else min(width, column.least) for width in measured]
    return max(title, column.least if more else 0, *shown)


def _least(column: Column, texts: Sequence[str], wanted: int, *, more: bool) -> int:
    title = cell_len(column.title)
    if column.cut is not Cut.NEVER:
        return min(wanted, max(column.least, title))
    if column.shortened is None:
        return wanted
    if more and column.longest is not None:
        return max(title, column.longest[1])
    return max(title, *map(cell_len, map(column.shortened, texts)), 0)


def _taken(kept: Mapping[int, int]) -> int:
    return sum(kept.values()) + GAP * (len(kept) - 1)


def _start(text: str, width: int) -> str:
    """The longest start of `text` of at most `width` cells, with the signs that combine with its last letter."""
    if text.isascii():
        return text[:width]
    taken = 0
    for place, character in enumerate(text):
        taken += cell_len(character)
        if taken > width:
            return text[:place]
    return text
