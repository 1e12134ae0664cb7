"""Times and numbers, in words for people."""

from datetime import datetime, timedelta
from typing import Final

from alphalens_keyctl.moments import UNREADABLE
from alphalens_keyctl.moments import exactly as exactly
from alphalens_keyctl.text import counted as counted

# Each unit, and the length up to which it is used: "35 hours", then "2 days". Rounded, no longer time is said as a
# shorter one: 8 weeks is the most in weeks, since 9 weeks are more than 2 months.
_UNITS: Final = (
    (timedelta(minutes=60), timedelta(minutes=1), "minute"),
    (timedelta(hours=36), timedelta(hours=1), "hour"),
    (timedelta(days=14), timedelta(days=1), "day"),
    (timedelta(days=59.5), timedelta(days=7), "week"),
    (timedelta(days=730), timedelta(days=365.25 / 12), "month"),
    (timedelta.max, timedelta(days=365.25), "year"),
)


def span(length: timedelta) -> str:
    """Return a length of time: "2 hours", "3 days". Seconds, minutes and hours are rounded down, longer units to the
    nearest."""
    if length < timedelta(minutes=1):
        return counted(max(0, int(length.total_seconds())), "second")
    for limit, unit, name in _UNITS:
        if length < limit:
            return counted(round(length / unit) if unit >= timedelta(days=1) else length // unit, name)
    raise AssertionError("unreachable: the last unit has no limit")


def ago(moment: datetime | None, now: datetime, *, never: str = "never") -> str:
    """Return how long ago or in how long: "3 days ago", "in 2 weeks", "just now"; `never` where `moment` is None."""
    if moment is None:
        return never
    if moment == UNREADABLE:
        return "unreadable"
    distance = moment - now
    if abs(distance) < timedelta(minutes=1):
        return "just now" if distance <= timedelta(0) else "in a moment"
    # A moment ahead was often set some seconds ago: "in 7 days", not "in 6 days".
    return f"in {span(distance + timedelta(seconds=59))}" if distance > timedelta(0) else f"{span(-distance)} ago"


def moment(at: datetime) -> str:
    """An instant to the second, in a column."""
    return "unreadable" if at == UNREADABLE else f"{at:%Y-%m-%d %H:%M:%SZ}"
