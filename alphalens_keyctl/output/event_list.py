"""Audit events → a story for people, an event after the other: when, who, what to which key, why, from where.

Nothing falls away on a narrow screen, and no word is broken: from where an event came then stands below it, where that
is another place than for the event above."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Final, NamedTuple

from rich.cells import cell_len
from rich.text import Text

from alphalens_keyctl.logs.recorded import origins
from alphalens_keyctl.models import Event
from alphalens_keyctl.output.event_story import Story, from_where, story
from alphalens_keyctl.output.fitting import GAP, folded
from alphalens_keyctl.output.screen import Screen
from alphalens_keyctl.output.words import counted, moment

# Columns of a screen from which on events stand in a table, and from which on the table says from where each came.
_TABLE: Final = 72
_WIDE: Final = 120
_WHEN: Final = len("2026-11-26 09:00:00Z")
_SEQ: Final = (3, 12)  # the widths that a column may have, in cells
_FROM: Final = 12  # the least; the most is a quarter of the screen


class _Row(NamedTuple):
    seq: str
    when: str
    what: Story
    origin: str


class EventList:
    """Events on their way to a screen. The widths of the columns come from the first events; words are broken
    nowhere."""

    def __init__(self, page: Sequence[Event], *, screen: Screen) -> None:
        self.shown = 0
        self._screen = screen
        self._claims = False
        self._origin = ""  # of the event that was drawn last, where origins are said as they change
        rows = [self._row(event) for event in page]
        self._seq = _width([row.seq for row in rows], "Seq", _SEQ)
        self._from = _width([row.origin for row in rows], "From", (_FROM, screen.width // 4))
        self._what = screen.width - self._seq - _WHEN - 2 * GAP - (self._from + GAP if screen.width >= _WIDE else 0)

    def head(self) -> str:
        """Return the line of titles; nothing on a narrow screen."""
        screen = self._screen
        if screen.terminal and screen.width < _TABLE:
            return ""
        titles = f"{'Seq':>{self._seq}}  {'When':{_WHEN}}  What happened"
        if not screen.terminal:
            return f"{titles}\n"
        wide = screen.width >= _WIDE
        if wide:
            titles = f"{titles:{screen.width - self._from}}From"
        rule = ("─" if screen.unicode else "-") * (screen.width if wide else len(titles))
        return f"{screen.paint(titles, 'bold')}\n{rule}\n"

    def lines(self, events: Iterable[Event]) -> Iterator[str]:
        """Yield the lines of each event."""
        screen = self._screen
        draw = self._in_a_line if not screen.terminal else self._card if screen.width < _TABLE else self._in_columns
        for event in events:
            self.shown += 1
            yield from draw(self._row(event))

    def footer(self, total: int, *, behind: bool = False) -> str:
        """Return the line below the events. `total` is how many were selected; `behind` says that the first of them
        are shown, not the latest."""
        found = counted(total, "event")
        if self.shown < total:
            found = f"the {'first' if behind else 'latest'} {self.shown:,} of {found}: --limit {total} shows all"
        said = [f"{found}; 'audit show SEQ' tells all of one" if total and self._screen.terminal else found]
        if self._claims and self._screen.terminal:
            said.append("In quotes: a claim, which anybody can make. All else is fact.")
        return self._screen.draw(*(Text("\n".join(folded(each, self._screen.width)), style="dim") for each in said))

    def _row(self, event: Event) -> _Row:
        spelled = self._screen.spelled
        told = story(event, arrow="→" if self._screen.unicode else "->")
        row = _Row(
            str(event.seq),
            moment(event.at),
            told._replace(text=spelled(told.text)),
            spelled(from_where(event)),
        )
        self._claims |= bool(origins(event).claims)
        return row

    def _in_a_line(self, row: _Row) -> Iterator[str]:
        origin = f"  [from {row.origin}]" if row.origin else ""
        yield f"{row.seq:>{self._seq}}  {row.when:{_WHEN}}  {row.what.text}{origin}\n"

    def _in_columns(self, row: _Row) -> Iterator[str]:
        wide = self._screen.width >= _WIDE
        lines = list(self._lines_of(row, self._what, origin=not wide))
        beside = list(folded(row.origin, self._from)) if wide else []
        lines += [("", "")] * (len(beside) - len(lines))
        seq, when = row.seq, row.when
        for place, (text, painted) in enumerate(lines):
            line = f"{seq:>{self._seq}}  {when:{_WHEN}}  {painted}"
            if place < len(beside):
                line += " " * (self._what - cell_len(text) + GAP) + beside[place]
            yield f"{line.rstrip(' ')}\n"
            seq = when = ""

    def _card(self, row: _Row) -> Iterator[str]:
        yield f"{row.seq}  {row.when}\n"
        for _, painted in self._lines_of(row, self._screen.width - GAP, origin=True):
            yield f"{' ' * GAP}{painted}\n"

    def _lines_of(self, row: _Row, room: int, *, origin: bool) -> Iterator[tuple[str, str]]:
        """The lines that tell an event, each plain and painted; with `origin` also from where the event came, unless it
        came from where the one above did."""
        paint = self._screen.paint
        for place, line in enumerate(folded(row.what.text, room)):
            yield line, self._painted(line, row.what) if place == 0 else line
        if origin and row.origin != self._origin:
            self._origin = row.origin
            yield from (
                (line, paint(line, "dim")) for line in folded(f"from {row.origin or 'nobody knows where'}", room)
            )

    def _painted(self, line: str, what: Story) -> str:
        """The first line of a sentence, the verb in colour and the name of the key bold."""
        before, verb, behind = line.partition(what.verb)
        gap, name, rest = behind.partition(what.name)
        if verb and gap == " ":
            behind = gap + self._screen.paint(name, "bold") + rest
        return before + (self._screen.paint(verb, what.style) if verb and what.style else verb) + behind


def event_list(events: Sequence[Event], total: int, *, screen: Screen, behind: bool = False) -> Iterator[str]:
    """Yield the pieces of a list of audit events; the arguments are as in `EventList.footer`."""
    drawn = EventList(events, screen=screen)
    yield from chain([drawn.head()] if events else [], drawn.lines(events))
    yield drawn.footer(total, behind=behind)


def _width(texts: Sequence[str], title: str, bounds: tuple[int, int]) -> int:
    least, most = bounds
    return min(most, max(least, len(title), *map(cell_len, texts), 0))
