"""What `doctor` found → a list for people, or the JSON document."""

from collections import Counter
from collections.abc import Sequence
from enum import StrEnum
from typing import Any, Final, NamedTuple

from alphalens_keyctl.output.inert import for_terminal
from alphalens_keyctl.output.pages import wrapped
from alphalens_keyctl.output.screen import Screen
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


_GAP: Final = 2  # columns between columns
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
    states, checks = (max(map(len, (each[number] for each in diagnoses))) + _GAP for number in (1, 0))
    drawn: list[str] = []
    for each in diagnoses:
        narrow = screen.width < NARROW
        state = each.state.value
        begun = f"{state} {each.check}" if narrow else state.ljust(states) + each.check.ljust(checks)
        beside = " " * (_GAP if narrow else states + checks)
        detail, advice = (screen.spelled(for_terminal(said)) for said in (each.detail, each.advice))
        found = wrapped(detail, screen.width, beside, first=beside if narrow else begun)
        found = [begun, *found] if narrow else found
        drawn.append(screen.paint(state, _STYLES[each.state]) + found[0][len(state) :])
        drawn += found[1:]
        drawn += [screen.paint(line, "dim") for line in wrapped(advice, screen.width, beside)] if advice else []
    return "".join(f"{line}\n" for line in [*drawn, screen.paint(total, "bold")])
