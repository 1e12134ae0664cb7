"""Who still uses the old key after a rotation."""

from datetime import datetime, timedelta
from typing import NamedTuple

from sqlalchemy import Connection, select

from alphalens_keyctl.logs import usage
from alphalens_keyctl.logs.usage import AddressUse
from alphalens_keyctl.logs.usage_rows import UsageFilter
from alphalens_keyctl.models import Key, Status, key_table


class OldKey(NamedTuple):
    """A key in its grace, how often it was used since the handover of the name, and from which addresses.

    While the first use of its successor is still to come, `awaits` is how long after that use the key retires.
    """

    key: Key
    uses: int
    addresses: list[AddressUse]
    awaits: timedelta | None


class OldKeyUse(NamedTuple):
    """A rotation whose `old` keys still open: the current key, and the instant since which it is current."""

    key: Key
    since: datetime
    old: list[OldKey]


def read(connection: Connection, lineage: list[Key]) -> OldKeyUse | None:
    """The rotation whose old keys still open in a lineage (oldest key first), or None."""
    current = next((key for key in reversed(lineage) if key.is_current), None)
    retiring = [key for key in lineage if key.status == Status.RETIRING]
    if current is None or not retiring:
        return None
    since = current.activated_at or current.created_at  # always the first: a key that others retired for is active
    return OldKeyUse(current, since, [_old_key(connection, key, since) for key in retiring])


def _old_key(connection: Connection, key: Key, since: datetime) -> OldKey:
    wanted = UsageFilter(key_ids=(key.id,), since=since)
    return OldKey(
        key,
        usage.accepted(connection, wanted),
        usage.addresses(connection, wanted)[0],
        _awaits(connection, key),
    )


def _awaits(connection: Connection, key: Key) -> timedelta | None:
    successor = key_table.alias()
    seconds = connection.scalar(
        select(key_table.c.grace_after_use)
        .join(successor, successor.c.id == key_table.c.awaits_use_of)
        .where(key_table.c.id == key.id, successor.c.first_used_at.is_(None))
    )
    return None if seconds is None else timedelta(seconds=seconds)
