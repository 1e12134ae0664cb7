"""Keys → a table of one line a key, or cards on a narrow screen; streamed."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import chain, islice
from typing import Final

from rich.text import Text

from alphalens_keyctl.models import Key, Status
from alphalens_keyctl.output.fitting import GAP, Fit, fits, fitted, folded
from alphalens_keyctl.output.inert import for_terminal
from alphalens_keyctl.output.key_columns import USUAL, Cell, chosen, end
from alphalens_keyctl.output.screen import Screen, cell
from alphalens_keyctl.output.sentences import unfinished
from alphalens_keyctl.output.tables import DOTS
from alphalens_keyctl.output.words import ago, counted

# Below this many columns of a screen a table would show too little of each key.
NARROWEST_TABLE: Final = 60
# The first rows, on which the widths of the columns are based: what a screen shows, and some more.
_PAGE: Final = 100
# Keys whose destination is named below a table.
_MOST_UNFINISHED: Final = 20
_UNBROKEN: Final = "\ue000"  # stands for a space at which Rich must not break a line; no text of ours holds it
_MARK: Final = 2  # cells: the mark of a status and a space


class KeyList:
    """Keys on their way to a screen.

    Iterating yields lines, and reads the keys as it goes, once. After that `shown` is how many there were, and
    `footer` sums up.
    """

    def __init__(self, keys: Iterator[Key], columns: Sequence[str] | None, *, now: datetime, screen: Screen) -> None:
        """`columns` are names of fields of a key; None stands for the usual columns, as many as the screen has room
        for."""
        self.shown = 0
        self._keys = keys
        self._columns = USUAL if columns is None else chosen(columns)
        self._usual = columns is None
        self._now = now
        self._screen = screen
        self._statuses: dict[str, None] = {}
        self._statuses_in_words = not self._usual
        self._delivering = 0
        self._unfinished: list[str] = []

    def __iter__(self) -> Iterator[str]:
        page = list(islice(self._keys, _PAGE))
        if not page:
            return
        following = next(self._keys, None)
        keys = self._counted(chain(page, () if following is None else (following,), self._keys))
        room = self._screen.width - (_MARK if self._usual else 0)
        spelled = self._screen.spelled
        texts = [[spelled(column.cell(key, self._now)[0]) for column in self._columns] for key in page]
        shape = [each.column for each in self._columns]
        fitting = fits(shape, texts, room=room, more=following is not None)
        if fitting is None or (self._usual and self._screen.width < NARROWEST_TABLE):
            yield from self._cards(keys)
        else:
            yield from self._table(keys, fitting)
        if self._unfinished:
            others = self._delivering - len(self._unfinished)
            more = [f"and {others:,} more: --status delivering lists them"] if others else []
            yield self._screen.draw(*map(cell, self._unfinished + more))

    def footer(self, total: int, hidden: int) -> str:
        """Return the line below the keys. `total` is how many were selected, `hidden` how many revoked or retired keys
        are left out."""
        found = counted(total, "key")
        if self.shown < total:
            found = f"{self.shown:,} of {found}: --limit {total} shows all"
        left_out = f", and {counted(hidden, 'key')} revoked or retired: --all shows them" if hidden else ""
        legend = "  ".join(f"{self._mark(status)[0]}{_UNBROKEN}{status}" for status in self._statuses)
        explained = f"   {legend}" if legend and not self._statuses_in_words else ""
        return self._screen.draw(Text(f"{found}{left_out}{explained}", style="dim")).replace(_UNBROKEN, " ")

    def _counted(self, keys: Iterable[Key]) -> Iterator[Key]:
        for key in keys:
            self.shown += 1
            self._statuses.setdefault(key.status)
            if key.status == Status.DELIVERING:
                self._delivering += 1
                if self._delivering <= _MOST_UNFINISHED:
                    self._unfinished.append(unfinished(key.id, key.name, key.delivering_to))
            yield key

    def _table(self, keys: Iterator[Key], fitting: Mapping[int, Fit]) -> Iterator[str]:
        shown = [(*self._columns[place], *fit) for place, fit in fitting.items()]
        self._statuses_in_words |= any(column.title == "Status" for column, *_ in shown)
        paint, spelled = self._screen.paint, self._screen.spelled
        gap, dots = " " * GAP, "…" if self._screen.unicode else "..."
        before = " " * _MARK if self._usual else ""
        titles = [
            f"{column.title:>{width}}" if column.right else f"{column.title:{width}}" for column, _, width, _ in shown
        ]
        yield before + paint(gap.join(titles).rstrip(" "), "bold") + "\n"
        yield ("─" if self._screen.unicode else "-") * (len(before) + len(gap.join(titles))) + "\n"
        now = self._now
        for key in keys:
            line = []
            for column, draw, width, short in shown:
                text, style = draw(key, now)
                if short and column.shortened is not None:
                    text = column.shortened(text)
                text, blank = fitted(spelled(text), width, column.cut, mark=dots)
                text = paint(text, style) if style else text
                line.append(blank + text if column.right else text + blank)
            yield (paint(*self._mark(key.status)) + " " if before else "") + gap.join(line).rstrip(" ") + "\n"

    def _cards(self, keys: Iterator[Key]) -> Iterator[str]:
        self._statuses_in_words = True
        paint = self._screen.paint
        room = self._screen.width - _MARK
        for key in keys:
            mark = paint(*self._mark(key.status))
            for place, (text, style) in enumerate(self._lines_of_card(key)):
                for line in folded(self._screen.spelled(text), room):
                    yield f"{mark if place == 0 else ' '} {paint(line, style)}\n"
                    mark = " "

    def _lines_of_card(self, key: Key) -> Iterator[Cell]:
        now = self._now
        if not self._usual:
            for column, draw in self._columns:
                text, style = draw(key, now)
                yield (text if column.title == "Name" else f"{column.title.lower()} {text}"), style
            return
        yield for_terminal(key.name), "bold"
        yield for_terminal(f"{key.id} {key.status}"), ""
        if key.owner is not None:
            yield for_terminal(f"owner {key.owner}"), ""
        yield f"created {ago(key.created_at, now)}", ""
        yield f"last used {ago(key.last_used_at, now)}", ""
        words, style = end(key, now)
        yield words if key.revoked_at is not None else f"expires {words}", style

    def _mark(self, status: str) -> Cell:
        unicode, ascii_, style = DOTS[Status(status)]
        return unicode if self._screen.unicode else ascii_, style
