"""How many keys there are, for monitoring."""

from collections.abc import Mapping
from datetime import datetime

from sqlalchemy import Connection, func, select

from alphalens_keyctl.keys.conditions import status_at
from alphalens_keyctl.models import Status, key_table


def by_status(connection: Connection, now: datetime) -> Mapping[Status, int]:
    """Return the number of keys of each status at an instant, 0 where there is none."""
    status = status_at(now).label("status")
    rows = connection.execute(select(status, func.count()).select_from(key_table).group_by(status))
    found = dict.fromkeys(Status, 0)
    for word, number in rows:
        # A row whose status is none of ours was written by no program of ours.
        found[Status(word) if word in found else Status.DAMAGED] += number
    return found
