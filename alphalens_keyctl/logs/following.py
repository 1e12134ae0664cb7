"""The log as somebody follows it: what was written behind a place.

One transaction at a time writes events, and each takes the next number before it commits, so whoever has read up to a
number has missed nothing before it.
"""

from collections.abc import Sequence
from typing import Final

from sqlalchemy import Connection, select

from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.logs import audit
from alphalens_keyctl.logs.audit import GENESIS, Head, LogFilter
from alphalens_keyctl.models import Event, event_table

EVENTS_AT_ONCE: Final = 1000


def last(connection: Connection, seen: LogFilter) -> Head:
    """The last event that matches, or `Head(0, GENESIS, None)`: the place behind which new events come."""
    found = _read(connection, seen, limit=1)
    return Head(found[0].seq, found[0].hash, found[0].at) if found else Head(0, GENESIS, None)


def read_on(connection: Connection, place: Head, wanted: LogFilter, seen: LogFilter) -> tuple[Sequence[Event], Head]:
    """The next events behind a place that match `wanted`, oldest first, at most `EVENTS_AT_ONCE`, and the place up to
    which the log was read. `seen` matches whatever the reader may see.

    Raises `KeyctlError` (log_replaced) where the event at the place is gone or is another.
    """
    if not _holds(connection, place):
        raise KeyctlError(
            Code.LOG_REPLACED,
            f"event {place.seq} of the log is gone or is another: the log is no longer the one that was read",
            "A backup was put back, or somebody rewrote the log: 'audit verify --head' tells, with a head of before.",
        )
    end = last(connection, seen)
    if end.seq <= place.seq:
        return (), place
    before = min(end.seq + 1, wanted.before_seq or end.seq + 1)
    behind = wanted._replace(after_seq=max(place.seq, wanted.after_seq or 0), before_seq=before)
    found = _read(connection, behind, limit=EVENTS_AT_ONCE)
    if len(found) < EVENTS_AT_ONCE:
        return found, end
    return found, Head(found[-1].seq, found[-1].hash, found[-1].at)


def _read(connection: Connection, wanted: LogFilter, *, limit: int) -> list[Event]:
    return [audit.event_of(row) for row in connection.execute(audit.chosen(wanted, limit=limit))]


def _holds(connection: Connection, place: Head) -> bool:
    if place.seq == 0:
        return True
    stored = connection.scalar(select(event_table.c.hash).where(event_table.c.seq == place.seq))
    return stored is not None and audit.stored_bytes(stored) == place.hash
