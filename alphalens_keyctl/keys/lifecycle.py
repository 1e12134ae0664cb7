"""A key's life: created, delivered, activated, discarded. Each step with its audit event. How one key
follows another stands in `rotation`, how keys are revoked, suspended and resumed in `revocation`.

Every function here works inside the caller's writing transaction, never commits, and takes the decision on
what it reads in that transaction: nothing can change between the look and the step.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from sqlalchemy import ColumnElement, Connection, and_, func, insert, or_, select, update

from alphalens_keyctl.database import Attempts, Writing
from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.keyformat import DIGEST_SCHEME, RawKey
from alphalens_keyctl.keys import lookup, selection
from alphalens_keyctl.logs import audit
from alphalens_keyctl.models import Action, Key, Status, key_table
from alphalens_keyctl.moments import rfc3339, utc_now
from alphalens_keyctl.provenance import Act
from alphalens_keyctl.text import fold

_AT_ONCE: Final = 1000


class Draft(NamedTuple):
    """What a new key shall be. All text is validated, `expires_at` aware and to come, or None."""

    name: str
    owner: str | None = None
    purpose: str | None = None
    labels: Mapping[str, str] = {}
    expires_at: datetime | None = None


# Why a key that never became current was discarded.
DELIVERY_FAILED: Final = "delivery_failed"
ABANDONED: Final = "abandoned"


def create_pending(
    tx: Writing, draft: Draft, raw: RawKey, act: Act, *, replaces: str | None = None, lease: float | None
) -> Key:
    """Write a new key that opens nothing yet and holds its name.

    `lease` is in seconds: after it the attempt counts as dead; None where a lock tells. `replaces` is a key
    of that name whose delivery died. Raises `KeyctlError` (name_taken) while another key has the name,
    however it is written.
    """
    if replaces is None and (holder := selection.current(tx, draft.name, now=act.at)) is not None:
        raise name_taken(holder)
    if (other := lookup.begins_id(tx, draft.name)) is not None:
        raise KeyctlError(
            Code.NAME_TAKEN, f"'{draft.name}' means key {other}, whose id begins so", "Choose another name."
        )
    return write_pending(tx, draft, raw, act, replaces=replaces, lease=lease)


def name_taken(holder: Key) -> KeyctlError:
    """The error for a name that `holder` has."""
    if is_unfinished(holder):
        return KeyctlError(
            Code.NAME_TAKEN,
            f"the name '{holder.name}' belongs to key {holder.id}, which another process is delivering",
            "Run the command again when that is done.",
        )
    return KeyctlError(
        Code.NAME_TAKEN,
        f"the name '{holder.name}' belongs to key {holder.id}, which is {holder.status}",
        "Rotate that key, revoke it first, or choose another name.",
    )


def is_unfinished(key: Key) -> bool:
    """Whether the key is still on its way to becoming current: pending, or delivering whatever the clock or an
    admin made of it."""
    return key.activated_at is None and key.revoked_at is None


def begin_delivering(tx: Writing, key_id: str, act: Act, *, destinations: Sequence[str], lease: float | None) -> Key:
    """From here on the key opens: destinations that outlive this process are about to hold it.

    `lease` as in `create_pending`, counted anew. Raises `KeyctlError` (conflict) when the key is not pending
    any more.
    """
    key = require_unfinished(tx, key_id, act.at)
    key = change(tx, key_id, act.at, delivering_to=", ".join(destinations), lease_until=lease_end(tx, lease))
    record(tx, act, Action.DELIVER, key, to=list(destinations))
    return key


def activate(tx: Writing, key_id: str, act: Act, *, at: datetime, delivered_to: Sequence[str]) -> Key:
    """Make a delivered key current. `at` is the instant that was promised when it was shown.

    Raises `KeyctlError` (conflict) when the key is not on its way any more: it was revoked or discarded while
    it was being delivered, and stays unusable.
    """
    require_unfinished(tx, key_id, at)
    key = change(tx, key_id, at, activated_at=at, delivering_to=None, lease_until=None)
    record(tx, act, Action.ACTIVATE, key, delivered_to=list(delivered_to))
    return key


def discard(tx: Writing, key_id: str, act: Act, *, reason: str) -> bool:
    """Give up a key that never became current: it opens nothing from here on, and its name is free again.

    Returns whether it was still on its way; a key in any other state is left as it is.
    """
    key = selection.get(tx, key_id, now=act.at)
    if key is None or not is_unfinished(key):
        return False
    discard_each(tx, [key], act, reason=reason)
    return True


def discard_each(tx: Writing, unfinished: Sequence[Key], act: Act, *, reason: str) -> None:
    """The same for many keys, all of which are still on their way."""
    gone = {"revoked_at": act.at, "revoked_by": act.actor, "revoke_reason": reason, "lease_until": None}
    change_each(tx, [key.id for key in unfinished], **gone)
    audit.append_each(tx, act, Action.DISCARD, [(key.id, key.name, {"reason": reason}) for key in unfinished])


def abandoned(connection: Connection, attempts: Attempts) -> list[str]:
    """The pending keys whose delivering process has died, or whose lease is over."""
    return _left_behind(connection, attempts, key_table.c.status == Status.PENDING)


def has_died(connection: Connection, attempts: Attempts, key: Key) -> bool:
    """Whether the process that was delivering this unfinished key is no more."""
    return bool(_left_behind(connection, attempts, key_table.c.id == key.id))


def _left_behind(connection: Connection, attempts: Attempts, which: ColumnElement[bool]) -> list[str]:
    # A lease is measured with the database's clock, which wrote its end.
    overdue = or_(key_table.c.lease_until.is_(None), key_table.c.lease_until < func.now())
    query = select(key_table.c.id, key_table.c.lease_until).where(which, overdue)
    return [
        key_id
        for key_id, lease_until in connection.execute(query).all()
        if lease_until is not None or not attempts.runs(connection, key_id)
    ]


def discard_abandoned(tx: Writing, attempts: Attempts, act: Act) -> None:
    """Clean up after processes that were killed: their keys were never usable and free their names."""
    if left := abandoned(tx, attempts):
        discard_each(tx, selection.some(tx, left, now=act.at), act, reason=ABANDONED)


def write_pending(
    tx: Writing, draft: Draft, raw: RawKey, act: Act, *, replaces: str | None, lease: float | None
) -> Key:
    """Write a key that opens nothing yet. Whether it may have its name is the caller's to know."""
    tx.execute(
        insert(key_table).values(
            id=raw.id,
            name=draft.name,
            name_folded=fold(draft.name),
            owner=draft.owner,
            purpose=draft.purpose,
            labels=dict(draft.labels),
            created_at=act.at,
            created_by=act.actor,
            expires_at=draft.expires_at,
            use_count=0,
            replaces=replaces,
            lease_until=lease_end(tx, lease),
            digest=raw.digest(),
            digest_scheme=DIGEST_SCHEME,
        )
    )
    key = require(tx, raw.id, act.at)
    record(
        tx,
        act,
        Action.CREATE,
        key,
        owner=draft.owner,
        purpose=draft.purpose,
        labels=dict(draft.labels) or None,
        expires_at=rfc3339(draft.expires_at) if draft.expires_at else None,
        replaces=replaces,
    )
    return key


def lease_end(tx: Writing, lease: float | None) -> ColumnElement[datetime] | datetime | None:
    """When an attempt counts as dead, so many seconds from now by the database's clock, which on SQLite is that
    of this machine."""
    if lease is None:
        return None
    length = timedelta(seconds=lease)
    return utc_now() + length if tx.dialect.name == "sqlite" else func.now() + length


def change(tx: Writing, key_id: str, now: datetime, **values: object) -> Key:
    """Write values to a key and return it as the database then has it. Raises as `change_each`."""
    change_each(tx, [key_id], **values)
    return require(tx, key_id, now)


def change_each(tx: Writing, key_ids: Sequence[str], **values: object) -> None:
    """Write the same values to many keys. Raises as `change_where`."""
    for start in range(0, len(key_ids), _AT_ONCE):
        some = key_ids[start : start + _AT_ONCE]
        change_where(tx, key_table.c.id.in_(some), len(some), **values)


def change_where(tx: Writing, these: ColumnElement[bool], number: int, **values: object) -> None:
    """Write values to the keys that a condition means, whose number is known and none of whose columns are written.

    Row security or a trigger can turn an update into nothing without an error; to report such a revocation
    as done would leave a live key that everybody believes dead. Raises `KeyctlError` (database_unusable).
    """
    # An expression is the database's to work out; what comes of it is not known here.
    said = {name: value for name, value in values.items() if not isinstance(value, ColumnElement)}
    written = and_(True, *(key_table.c[name].is_not_distinct_from(value) for name, value in said.items()))
    tx.execute(update(key_table).where(these).values(**values))
    if tx.scalar(select(func.count()).where(these, written)) != number:
        raise KeyctlError(
            Code.DATABASE_UNUSABLE,
            f"the database did not take the change to {number} {'key' if number == 1 else 'keys'}",
            "Check the database for row security and for triggers that are not ours.",
        )


def require(tx: Connection, key_id: str, now: datetime) -> Key:
    """The key with exactly this id. Raises `KeyctlError` (key_not_found)."""
    key = selection.get(tx, key_id, now=now)
    if key is None:
        raise KeyctlError(Code.KEY_NOT_FOUND, f"there is no key {key_id}")
    return key


def require_unfinished(tx: Writing, key_id: str, now: datetime) -> Key:
    """The key, still on its way. Raises `KeyctlError` (conflict) when it is not."""
    key = require(tx, key_id, now)
    if not is_unfinished(key) or key.suspended_at is not None:
        raise KeyctlError(
            Code.CONFLICT,
            f"key {key.id} was {key.status} by somebody else while it was being delivered",
            "It opens nothing. Run the command again for a new key.",
        )
    return key


def record(tx: Writing, act: Act, action: Action, key: Key, **detail: object) -> None:
    """Append what was done to a key to the log; a detail of None is left out."""
    audit.append(tx, act, action, key_id=key.id, key_name=key.name, **detail)
