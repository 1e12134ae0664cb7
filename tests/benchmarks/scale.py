"""How much is measured."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Scale:
    """`rows` keys and events; `starts` runs of a command that ends at once, `rounds` of one that takes seconds."""

    rows: int
    starts: int
    rounds: int

    def goal(self, at_least: float) -> float | None:
        """A goal for a million rows says nothing of fewer: the start of the program would be most of the time."""
        return at_least if self.rows >= 1_000_000 else None

    @property
    def described(self) -> str:
        return f"medians of {self.starts} short and {self.rounds} long runs in turn; {self.rows:,} keys and events"


FULL = Scale(rows=1_000_000, starts=21, rounds=3)
QUICK = Scale(rows=100_000, starts=5, rounds=1)
