"""How much is measured."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Scale:
    """`rows` keys and events; `starts` runs of a command that ends at once, `rounds` of one that takes seconds;
    `burst` calls of what takes microseconds; `seconds` of what is loaded for a while."""

    rows: int
    starts: int
    rounds: int
    burst: int
    seconds: int

    def goal(self, at_least: float) -> float | None:
        """A goal for a million rows says nothing of fewer: the start of the program would be most of the time."""
        return at_least if self.rows >= 1_000_000 else None

    @property
    def described(self) -> str:
        return (
            f"medians of {self.starts} short and {self.rounds} long runs in turn; {self.rows:,} keys and events;"
            f" bursts of {self.burst:,}, loads of {self.seconds} s"
        )


FULL = Scale(rows=1_000_000, starts=21, rounds=3, burst=20_000, seconds=10)
QUICK = Scale(rows=100_000, starts=5, rounds=1, burst=20_000, seconds=3)
