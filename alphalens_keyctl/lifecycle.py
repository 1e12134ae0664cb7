"""A key's life: created, activated, rotated out, revoked, discarded. Each step with its audit event.

Every function here works inside the caller's writing transaction, never commits, and takes the decision on
what it reads in that transaction: nothing can change between the look and the step.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from sqlalchemy import Connection, func, insert, or_, select, update

from alphalens_keyctl import audit, selection
from alphalens_keyctl.database import Attempts, Writing
from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.keyformat import DIGEST_SCHEME, RawKey
from alphalens_keyctl.models import Action, Key, Status, keys
from alphalens_keyctl.moments import rfc3339
from alphalens_keyctl.provenance import Act
from alphalens_keyctl.text import fold


class Draft(NamedTuple):
    """What a new key shall be. All text is validated, `expires_at` aware and to come, or None."""

    name: str
    owner: str | None = None
    purpose: str | None = None
    labels: Mapping[str, str] = {}
    expires_at: datetime | None = None


class Changed(NamedTuple):
    """What a change did: the keys it changed, and those that were so already."""

    changed: list[Key]
    unchanged: list[Key]


# How long a delivery may take without moving the instants that were promised when the key was shown.
_PROMPT: Final = timedelta(seconds=1)
# Why a pending key was discarded.
DELIVERY_FAILED = "delivery_failed"
ABANDONED = "abandoned"


def create_pending(tx: Writing, draft: Draft, raw: RawKey, act: Act, *, lease: float | None) -> Key:
    """Write a new key that opens nothing yet and holds its name.

    `lease` is in seconds: after it the attempt counts as dead; None where a lock tells. Raises `KeyctlError`
    (name_taken) while another key has the name, however it is written.
    """
    if (holder := selection.current(tx, draft.name, now=act.at)) is not None:
        raise name_taken(holder)
    if (other := selection.begins_id(tx, draft.name)) is not None:
        raise KeyctlError(
            Code.NAME_TAKEN, f"'{draft.name}' means key {other}, whose id begins so", "Choose another name."
        )
    return _write_pending(tx, draft, raw, act, replaces=None, lease=lease)


def name_taken(holder: Key) -> KeyctlError:
    """The error for a name that `holder` has."""
    if holder.status == Status.PENDING:
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


def succeed_pending(
    tx: Writing, key: Key, raw: RawKey, expires_at: datetime | None, act: Act, *, lease: float | None
) -> Key:
    """Write the successor of `key`: same name, owner, purpose and labels. It opens nothing yet.

    Call it with `key` as `rotatable` returned it in this same transaction.
    """
    draft = Draft(key.name, key.owner, key.purpose, key.labels, expires_at)
    return _write_pending(tx, draft, raw, act, replaces=key.id, lease=lease)


def rotatable(tx: Writing, key_id: str, act: Act) -> Key:
    """The key, if it can be rotated now: it is active or expired, and nobody else is rotating it.

    Raises `KeyctlError`: lost_race when another rotation won, wrong_state for all else.
    """
    key = _require(tx, key_id, act.at)
    if key.status in (Status.RETIRING, Status.RETIRED):
        successor = selection.get(tx, str(key.replaced_by), now=act.at)
        gone = successor is None or successor.status == Status.REVOKED
        raise KeyctlError(
            Code.LOST_RACE,
            f"key {key.id} has been rotated already; its successor is {key.replaced_by}",
            f"The successor is revoked: create a new key '{key.name}'."
            if gone
            else "Rotate the successor if another rotation is what you want.",
        )
    if key.status not in (Status.ACTIVE, Status.EXPIRED):
        raise KeyctlError(
            Code.WRONG_STATE,
            f"key {key.id} is {key.status} and cannot be rotated",
            "Create a new key." if key.status == Status.REVOKED else "Only an active or expired key is rotated.",
        )
    rival = tx.scalar(select(keys.c.id).where(keys.c.replaces == key.id, keys.c.revoked_at.is_(None)))
    if rival is not None:
        raise KeyctlError(
            Code.LOST_RACE,
            f"key {key.id} is being rotated by another process",
            f"Look at its successor with 'alphalens-keyctl show {rival}'.",
        )
    return key


def activate(tx: Writing, key_id: str, act: Act, *, at: datetime, delivered_to: Sequence[str]) -> Key:
    """Make a delivered key usable. `at` is the instant that was promised when it was shown.

    Raises `KeyctlError` (conflict) when the key is not pending any more: it was revoked or discarded while it
    was being delivered, and stays unusable.
    """
    _require_pending(tx, key_id, at)
    key = _change(tx, key_id, at, activated_at=at, lease_until=None)
    _record(tx, act, Action.ACTIVATE, key, delivered_to=list(delivered_to))
    return key


def switch(
    tx: Writing, key_id: str, act: Act, *, at: datetime, grace: timedelta, delivered_to: Sequence[str]
) -> tuple[Key, Key]:
    """Make a delivered successor the current key and let its predecessor retire after `grace` from `at`, or
    from now where the delivery took its time: waiting does not eat the grace.

    Returns the successor and the predecessor. Raises `KeyctlError` (conflict) when either is no longer what
    it was: a predecessor that was revoked meanwhile gets no successor.
    """
    pending = _require_pending(tx, key_id, at)
    old = _require(tx, str(pending.replaces), at)
    if old.status not in (Status.ACTIVE, Status.EXPIRED):
        raise KeyctlError(
            Code.CONFLICT,
            f"key {old.id} became {old.status} while its successor was being delivered",
            "The successor was discarded.",
        )
    # The old key gives its name up first: the database allows one current key to a name at every statement.
    retires_at = (at if act.at - at < _PROMPT else act.at) + grace
    retiring = _change(tx, old.id, at, retires_at=retires_at, replaced_by=key_id)
    new = activate(tx, key_id, act, at=at, delivered_to=delivered_to)
    _record(tx, act, Action.ROTATE, retiring, successor=key_id, retires_at=rfc3339(retires_at))
    return new, retiring


def discard(tx: Writing, key_id: str, act: Act, *, reason: str) -> bool:
    """Give a pending key up: it never opened anything and never will, and its name is free again.

    Returns whether it was still pending; a key in any other state is left as it is.
    """
    key = selection.get(tx, key_id, now=act.at)
    if key is None or key.status != Status.PENDING:
        return False
    _change(tx, key_id, act.at, revoked_at=act.at, revoked_by=act.actor, revoke_reason=reason, lease_until=None)
    _record(tx, act, Action.DISCARD, key, reason=reason)
    return True


def abandoned(connection: Connection, attempts: Attempts) -> list[str]:
    """The pending keys whose delivering process has died, or whose lease is over.

    A lease is measured with the database's clock, which wrote its end.
    """
    overdue = or_(keys.c.lease_until.is_(None), keys.c.lease_until < func.now())
    query = select(keys.c.id, keys.c.lease_until).where(keys.c.status == Status.PENDING, overdue)
    return [
        key_id
        for key_id, lease_until in connection.execute(query).all()
        if lease_until is not None or not attempts.runs(connection, key_id)
    ]


def discard_abandoned(tx: Writing, attempts: Attempts, act: Act) -> None:
    """Clean up after processes that were killed: their keys were never usable and free their names."""
    for key_id in abandoned(tx, attempts):
        discard(tx, key_id, act, reason=ABANDONED)


def revoke(tx: Writing, key_ids: Sequence[str], act: Act, *, reason: str | None) -> Changed:
    """Revoke keys for good. One that was revoked before keeps its first revocation."""
    changed, unchanged = [], []
    for key_id in dict.fromkeys(key_ids):
        key = _require(tx, key_id, act.at)
        if key.status == Status.REVOKED:
            unchanged.append(key)
            continue
        values = {"revoked_at": act.at, "revoked_by": act.actor, "revoke_reason": reason, "lease_until": None}
        changed.append(_change(tx, key_id, act.at, **values))
        _record(tx, act, Action.REVOKE, key, reason=reason, was=str(key.status))
    return Changed(changed, unchanged)


def _write_pending(
    tx: Writing, draft: Draft, raw: RawKey, act: Act, *, replaces: str | None, lease: float | None
) -> Key:
    lease_until = None if lease is None else func.now() + timedelta(seconds=lease)
    tx.execute(
        insert(keys).values(
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
            lease_until=lease_until,
            digest=raw.digest(),
            digest_scheme=DIGEST_SCHEME,
        )
    )
    key = _require(tx, raw.id, act.at)
    _record(
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


def _change(tx: Writing, key_id: str, now: datetime, **values: object) -> Key:
    """Write values to a key and return it as the database then has it.

    Row security or a trigger can turn an update into nothing without an error; to report such a revocation
    as done would leave a live key that everybody believes dead.
    """
    tx.execute(update(keys).where(keys.c.id == key_id).values(**values))
    key = _require(tx, key_id, now)
    if any(getattr(key, name) != value for name, value in values.items() if name in Key._fields):
        raise KeyctlError(
            Code.DATABASE_UNUSABLE,
            f"the database did not take the change to key {key_id}",
            "Check the database for row security and for triggers that are not ours.",
        )
    return key


def _require(tx: Connection, key_id: str, now: datetime) -> Key:
    key = selection.get(tx, key_id, now=now)
    if key is None:
        raise KeyctlError(Code.KEY_NOT_FOUND, f"there is no key {key_id}")
    return key


def _require_pending(tx: Writing, key_id: str, now: datetime) -> Key:
    key = _require(tx, key_id, now)
    if key.status != Status.PENDING:
        raise KeyctlError(
            Code.CONFLICT,
            f"key {key.id} was {key.status} by somebody else while it was being delivered",
            "It opens nothing. Run the command again for a new key.",
        )
    return key


def _record(tx: Writing, act: Act, action: Action, key: Key, **detail: object) -> None:
    audit.append(tx, act, action, key_id=key.id, key_name=key.name, **detail)
