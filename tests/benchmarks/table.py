"""Measurements → the table."""

from collections.abc import Sequence
from dataclasses import astuple, dataclass

from tests.benchmarks.processes import Cost

_HEADER = ("what", "ours", "against", "ratio", "goal", "reached")


@dataclass(frozen=True)
class Row:
    """One line, as it is printed."""

    what: str
    ours: str
    against: str
    ratio: str
    goal: str
    reached: str


def duration(what: str, ours: float, against: float, name: str, at_most: float) -> Row:
    """A time in seconds that shall be at most so many times another."""
    ratio = ours / against
    return Row(
        what, f"{ours * 1000:.0f} ms", f"{against * 1000:.0f} ms  {name}", f"{ratio:.2f}", f"<= {at_most:g}",
        _word(ratio <= at_most),
    )  # fmt: skip


def rate(what: str, ours: float, against: float | None, name: str, at_least: float | None) -> Row:
    """Rows a second that shall be at least a share of another's. Without a goal it is for information."""
    ratio = None if against is None else ours / against
    return Row(
        what,
        f"{ours:,.0f} /s",
        name if against is None else f"{against:,.0f} /s  {name}",
        "" if ratio is None else f"{ratio:.2f}",
        "" if at_least is None else f">= {at_least:g}",
        "" if at_least is None else "not measured" if ratio is None else _word(ratio >= at_least),
    )


def growth(what: str, seconds: float, peak: int, before: Cost | None, at_most: float | None) -> Row:
    """A time and a peak memory, and how much more that is than at a tenth of the size."""
    ratio = None if before is None else seconds / before.seconds
    return Row(
        what,
        f"{seconds * 1000:,.0f} ms  {peak / 1e6:.0f} MB",
        "" if before is None else f"{before.seconds * 1000:,.0f} ms  {before.peak / 1e6:.0f} MB",
        "" if ratio is None else f"{ratio:.2f}",
        "" if ratio is None or at_most is None else f"<= {at_most:g}",
        "" if ratio is None or at_most is None else _word(ratio <= at_most),
    )


def missing(what: str, why: str, at_least: float) -> Row:
    """What could not be measured here."""
    return Row(what, "", why, "", f">= {at_least:g}", "not measured")


def memory(what: str, peak: int, below: int | None) -> Row:
    """Peak memory in bytes that shall stay below a bound."""
    goal, reached = ("", "") if below is None else (f"< {below / 1e6:.0f} MB", _word(peak < below))
    return Row(what, f"{peak / 1e6:.0f} MB", "", "", goal, reached)


def drawn(rows: Sequence[Row]) -> str:
    """The table as plain text, each column as wide as it needs to be."""
    lines = [_HEADER, *map(astuple, rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(_HEADER))]
    drawn = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    return "\n".join([drawn[0], "  ".join("-" * width for width in widths), *drawn[1:]])


def _word(reached: bool) -> str:
    return "yes" if reached else "NO"
