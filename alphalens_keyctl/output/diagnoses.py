"""What `doctor` found → a list for people, or the JSON document."""

from collections import Counter
from collections.abc import Sequence
from enum import StrEnum
from typing import Any, Final, NamedTuple

from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from alphalens_keyctl.output.inert import for_terminal
from alphalens_keyctl.output.screen import Screen, cell
from alphalens_keyctl.output.tables import NARROW
from alphalens_keyctl.output.words import counted


class State(StrEnum):
    """How a thing is. SKIPPED: nobody could look, because something before it is wrong."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"
    SKIPPED = "skipped"


class Diagnosis(NamedTuple):
    """What one look found, and what to do about it (may be empty)."""

    check: str
    state: State
    detail: str
    advice: str = ""


_STYLES: Final = {State.OK: "green", State.WARNING: "yellow", State.PROBLEM: "bold red", State.SKIPPED: "dim"}


def document(diagnoses: Sequence[Diagnosis]) -> dict[str, Any]:
    """Return `{"checks": [{"check", "state", "detail", "advice"}], "problems", "warnings"}`."""
    numbers = Counter(each.state for each in diagnoses)
    checks = [
        {"check": each.check, "state": each.state.value, "detail": each.detail, "advice": each.advice or None}
        for each in diagnoses
    ]
    return {"checks": checks, "problems": numbers[State.PROBLEM], "warnings": numbers[State.WARNING]}


def listed(diagnoses: Sequence[Diagnosis], screen: Screen) -> str:
    """Return a line for each look: its state in a word, what it looked at, what it found; the advice below."""
    numbers = Counter(each.state for each in diagnoses)
    total = "Nothing is wrong."
    if numbers[State.PROBLEM] or numbers[State.WARNING]:
        total = f"{counted(numbers[State.PROBLEM], 'problem')}, {counted(numbers[State.WARNING], 'warning')}."
    if not screen.terminal:
        lines = ["\t".join(map(for_terminal, each)) + "\n" for each in diagnoses]
        return "".join(lines) + total + "\n"
    rows = Table.grid(padding=(0, 2, 0, 0))
    narrow = screen.width < NARROW
    for _ in range(0 if narrow else 2):
        rows.add_column(no_wrap=True)
    rows.add_column(overflow="fold")
    for each in diagnoses:
        said = [cell(each.detail), *([cell(each.advice, "dim")] if each.advice else [])]
        state, check = Text(each.state.value, style=_STYLES[each.state]), Text(each.check)
        if narrow:
            rows.add_row(Text.assemble(state, " ", check))
            for line in said:
                rows.add_row(Padding(line, (0, 0, 0, 2)))
        else:
            rows.add_row(state, check, said[0])
            for line in said[1:]:
                rows.add_row("", "", line)
    return screen.draw(rows, Text(total, style="bold"))
