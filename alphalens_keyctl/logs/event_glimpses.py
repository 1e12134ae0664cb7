"""What TAB offers of the audit log: the latest events whose numbers begin as one was begun.

Through a `Glance` alone, without SQLAlchemy, as `keys.glimpses`. The index of the numbers serves each question.
"""

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from alphalens_keyctl.glance import Glance

MOST: Final = 50
_DIGITS: Final = 19  # of the largest number that a database holds
_WHEN: Final = {"sqlite": "substr(at, 1, 16)", "postgresql": "to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI')"}
_EVENTS: Final = (
    "SELECT seq, {when}, action, key_name FROM audit_event WHERE seq BETWEEN :low AND :high ORDER BY seq DESC"
    " LIMIT :most"
)


class SeenEvent(NamedTuple):
    """An event as TAB tells of it, `when` to the minute in UTC. Each field is what the database holds, which in a
    foreign one may be anything."""

    seq: Any
    when: Any
    action: Any
    key_name: Any


def latest(glance: Glance, start: str) -> Iterator[SeenEvent]:
    """The latest `MOST` events whose numbers begin with `start`, the latest first; of any number where `start` is
    empty. None where no number begins so."""
    left = MOST
    for low, high in _ranges(start):
        query = _EVENTS.format(when=_WHEN[glance.dialect])
        found = glance.rows(query, {"low": low, "high": high, "most": left})
        yield from map(SeenEvent._make, found)
        left -= len(found)
        if not left:
            return


def _ranges(start: str) -> Iterator[tuple[int, int]]:
    """The ranges of the numbers that begin with `start`, the largest first."""
    if not start:
        yield 1, 10**_DIGITS // 10 - 1
    elif start.isascii() and start.isdigit() and start[0] != "0":
        for more in range(_DIGITS - 1 - len(start), -1, -1):
            yield int(start) * 10**more, (int(start) + 1) * 10**more - 1
