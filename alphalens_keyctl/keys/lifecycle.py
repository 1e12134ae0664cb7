"""The life of a key: written pending, delivered, activated, discarded, each step with its audit event. How one key
follows another stands in `rotation`; how keys are revoked, suspended and resumed in `revocation`.

Every function works inside the writing transaction of the caller and never commits. A function decides on what it
reads in that transaction, so that nothing can change between the look and the step.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from sqlalchemy import ColumnElement, Connection, and_, func, insert, or_, select, update

from alphalens_keyctl.database import Attempts, Writing
from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.keyformat import DIGEST_SCHEME, RawKey
from alphalens_keyctl.keys import lookup, selection, stored_policy
from alphalens_keyctl.keys.conditions import one_of
from alphalens_keyctl.keys.stored_policy import Breach
from alphalens_keyctl.logs import audit
from alphalens_keyctl.models import Action, Key, Status, key_table
from alphalens_keyctl.moments import rfc3339, utc_now
from alphalens_keyctl.provenance import Act
from alphalens_keyctl.text import fold

_AT_ONCE: Final = 5000


class Draft(NamedTuple):
    """What a new key is to be. Every text is validated; `expires_at` is aware and to come, or None. `override` says why
    the key may break the stored policy; None: it may not. `scopes` and `allow_from` are in their normal form; None: the
    key is not restricted."""

    name: str
    owner: str | None = None
    purpose: str | None = None
    labels: Mapping[str, str] = {}
    expires_at: datetime | None = None
    override: str | None = None
    scopes: tuple[str, ...] | None = None
    allow_from: tuple[str, ...] | None = None


class Pending(NamedTuple):
    """A new key before it is written. `replaces` is the id of the key that it is to follow, if any; `breaches` is how
    the key breaks the stored policy."""

    draft: Draft
    raw: RawKey
    replaces: str | None = None
    breaches: tuple[Breach, ...] = ()


class Changed(NamedTuple):
    """The ids of the keys that were changed, and of those to which the change did not apply."""

    changed: list[str]
    unchanged: list[str]


# Why a key that never became current was discarded: the revoke_reason of its row.
DELIVERY_FAILED: Final = "delivery_failed"
ABANDONED: Final = "abandoned"


def create_pending(
    tx: Writing, draft: Draft, raw: RawKey, act: Act, *, replaces: str | None = None, lease: float | None
) -> Key:
    """Write a new key that opens nothing yet and holds its name.

    `lease` is the time in seconds after which the attempt counts as dead, or None where a lock tells. `replaces` is
    the id of a key of that name whose delivery died. Raises `KeyctlError`: name_taken while another key has the name,
    in whatever case, or an id begins like the name; policy_violation as `write_pending` does.
    """
    if replaces is None and (holder := selection.current(tx, draft.name, now=act.at)) is not None:
        raise name_taken(holder)
    require_no_id_start(tx, draft.name)
    return write_pending(tx, Pending(draft, raw, replaces), act, lease=lease)


def require_no_id_start(connection: Connection, name: str) -> None:
    """Raise `KeyctlError` (name_taken) where KEY, given as `name`, could mean a key whose id begins like that."""
    if (other := lookup.begins_id(connection, name)) is not None:
        raise KeyctlError(Code.NAME_TAKEN, f"'{name}' means key {other}, whose id begins so", "Choose another name.")


def name_taken(holder: Key) -> KeyctlError:
    """The error for a name that `holder` has."""
    if holder.is_unfinished:
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


def begin_delivering(tx: Writing, key_id: str, act: Act, *, destinations: Sequence[str], lease: float | None) -> Key:
    """Let a pending key open, because `destinations`, which outlive this process, are about to hold it.

    `lease` is as in `create_pending`, counted from now. Raises `KeyctlError` (conflict) when the key is not pending
    any more.
    """
    key = require_unfinished(tx, key_id, act.at)
    key = change(tx, key_id, act.at, delivering_to=", ".join(destinations), lease_until=lease_end(tx, lease))
    record(tx, act, Action.DELIVER, key, to=list(destinations))
    return key


def activate(tx: Writing, key_id: str, act: Act, *, at: datetime, delivered_to: Sequence[str]) -> Key:
    """Make a delivered key current. `at` is the activation that was promised when the key was shown.

    Raises `KeyctlError` (conflict) when the key was revoked, suspended or discarded while it was being delivered;
    such a key stays as it is.
    """
    require_unfinished(tx, key_id, at)
    key = change(tx, key_id, at, activated_at=at, delivering_to=None, lease_until=None)
    record(tx, act, Action.ACTIVATE, key, delivered_to=list(delivered_to))
    return key


def discard(tx: Writing, key_id: str, act: Act, *, reason: str) -> bool:
    """Give up a key that never became current: the key opens nothing any more, and its name is free again.

    Returns whether the key was unfinished. A key in any other state is left as it is.
    """
    key = selection.get(tx, key_id, now=act.at)
    if key is None or not key.is_unfinished:
        return False
    discard_each(tx, [key], act, reason=reason)
    return True


def discard_each(tx: Writing, unfinished: Sequence[Key], act: Act, *, reason: str) -> None:
    """Give up `unfinished` keys, as `discard` does one. The caller has read them in this transaction."""
    gone = {"revoked_at": act.at, "revoked_by": act.actor, "revoke_reason": reason, "lease_until": None}
    change_each(tx, [key.id for key in unfinished], **gone)
    audit.append_each(tx, act, Action.DISCARD, [(key.id, key.name, {"reason": reason}) for key in unfinished])


def abandoned(connection: Connection, attempts: Attempts) -> list[str]:
    """The ids of the pending keys whose delivering process has died, or whose lease is over."""
    return _of_dead_attempts(connection, attempts, key_table.c.status == Status.PENDING)


def has_died(connection: Connection, attempts: Attempts, key: Key) -> bool:
    """Whether the delivery of `key` died half-way: destinations may hold the key, nobody suspended it since, and the
    process that was delivering it is no more."""
    if not key.is_unfinished or key.status == Status.PENDING or key.suspended_at is not None:
        return False
    return bool(_of_dead_attempts(connection, attempts, key_table.c.id == key.id))


def _of_dead_attempts(connection: Connection, attempts: Attempts, these: ColumnElement[bool]) -> list[str]:
    # The clock of the database measures a lease, because the same clock wrote its end.
    overdue = or_(key_table.c.lease_until.is_(None), key_table.c.lease_until < func.now())
    query = select(key_table.c.id, key_table.c.lease_until).where(these, overdue)
    return [
        key_id
        for key_id, lease_until in connection.execute(query).all()
        if lease_until is not None or not attempts.runs(connection, key_id)
    ]


def discard_abandoned(tx: Writing, attempts: Attempts, act: Act) -> None:
    """Discard the keys that `abandoned` finds and free their names. No destination can hold such a key."""
    if left := abandoned(tx, attempts):
        discard_each(tx, selection.some(tx, left, now=act.at), act, reason=ABANDONED)


def write_pending(tx: Writing, new: Pending, act: Act, *, lease: float | None) -> Key:
    """Write a key that opens nothing yet. The caller has made sure that the key may have its name.

    Raises `KeyctlError` (policy_violation) for a key that breaks the stored policy, unless its draft overrides it.
    """
    broken = stored_policy.breaches(stored_policy.read(tx), new.draft._asdict(), created_at=act.at)
    if new.draft.override is None:
        stored_policy.refuse([(f"key '{new.draft.name}'", broken)], expiry="--expires", now=act.at)
    new = new._replace(breaches=tuple(broken))
    tx.execute(insert(key_table).values(**_row(new, act), lease_until=lease_end(tx, lease)))
    key = require(tx, new.raw.id, act.at)
    record(tx, act, Action.CREATE, key, **_said(new))
    return key


def write_pending_each(tx: Writing, new: Sequence[Pending], act: Act) -> None:
    """Write many keys that open nothing yet, without a lease. The caller has made sure that they may have their names
    and are within the stored policy."""
    rows = [_row(each, act) for each in new]
    for start in range(0, len(rows), _AT_ONCE):
        tx.execute(insert(key_table), rows[start : start + _AT_ONCE])
    audit.append_each(tx, act, Action.CREATE, [(each.raw.id, each.draft.name, _said(each)) for each in new])


def _row(new: Pending, act: Act) -> dict[str, object]:
    """The row of a new key."""
    draft, raw, replaces, _breaches = new
    return {
        "id": raw.id, "name": draft.name, "name_folded": fold(draft.name), "owner": draft.owner,
        "purpose": draft.purpose, "labels": dict(draft.labels), "created_at": act.at, "created_by": act.actor,
        "expires_at": draft.expires_at, "use_count": 0, "replaces": replaces, "digest": raw.digest(),
        "digest_scheme": DIGEST_SCHEME, "scopes": draft.scopes, "allow_from": draft.allow_from,
    }  # fmt: skip


def _said(new: Pending) -> dict[str, object]:
    """What the audit event of a new key says."""
    return {
        "owner": new.draft.owner,
        "purpose": new.draft.purpose,
        "labels": dict(new.draft.labels) or None,
        "expires_at": rfc3339(new.draft.expires_at) if new.draft.expires_at else None,
        "scopes": new.draft.scopes,
        "allow_from": new.draft.allow_from,
        "replaces": new.replaces,
        "override": new.draft.override,
        "breaches": [breach.rule for breach in new.breaches] or None,
    }


def lease_end(tx: Writing, lease: float | None) -> ColumnElement[datetime] | datetime | None:
    """The end of a lease of so many seconds from now, by the clock of the database (on SQLite, of this machine)."""
    if lease is None:
        return None
    length = timedelta(seconds=lease)
    return utc_now() + length if tx.dialect.name == "sqlite" else func.now() + length


def change(tx: Writing, key_id: str, now: datetime, **values: object) -> Key:
    """Update a key and return it as the database then has it. Raises as `change_where` does."""
    change_each(tx, [key_id], **values)
    return require(tx, key_id, now)


def change_each(tx: Writing, key_ids: Sequence[str], **values: object) -> None:
    """Update many keys with the same values. Raises as `change_where` does."""
    for start in range(0, len(key_ids), _AT_ONCE):
        some = key_ids[start : start + _AT_ONCE]
        change_where(tx, one_of(tx, key_table.c.id, some), len(some), **values)


def rename_each(tx: Writing, key_ids: Sequence[str], name: str) -> None:
    """Give keys another name. The caller has made sure that they may have it. Raises as `change_where` does."""
    folded = fold(name)
    if not name.isascii():
        # No database folds letters beyond ASCII, so it takes a new spelling only with a new folded form. Another
        # spelling of the same name goes by way of a name that no other key can have: the key's own id.
        respelled = key_table.c.name_folded == folded
        same = tx.scalars(select(key_table.c.id).where(one_of(tx, key_table.c.id, key_ids), respelled)).all()
        change_each(tx, same, name=key_table.c.id, name_folded=func.lower(key_table.c.id))
    change_each(tx, key_ids, name=name, name_folded=folded)


def change_where(tx: Writing, these: ColumnElement[bool], number: int, **values: object) -> None:
    """Update the `number` keys that `these` selects; the condition must not use a column being written.

    Raises `KeyctlError` (database_unusable) unless every one of them has the values afterwards. Row security or a
    trigger can turn an update into nothing without an error; to report such a revocation as done would leave a live
    key that everybody believes dead.
    """
    # The database works an SQL expression out, so the value that it writes is not known here.
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
    """The key with exactly this id, which is still being delivered. Raises `KeyctlError`: key_not_found, or as
    `refuse_changed` does."""
    key = require(tx, key_id, now)
    refuse_changed(key)
    return key


def refuse_changed(key: Key) -> None:
    """Raise `KeyctlError` (conflict) where somebody revoked or suspended the key while it was being delivered, or
    another attempt replaced it."""
    if not key.is_unfinished or key.suspended_at is not None:
        until = f"until {rfc3339(key.ends_at)}" if key.ends_at is not None else "still"
        raise KeyctlError(
            Code.CONFLICT,
            f"key {key.id} became {key.status} while it was being delivered",
            f"It opens {until if key.opens else 'nothing'}. Run the command again for a new key.",
        )


def record(tx: Writing, act: Act, action: Action, key: Key, **detail: object) -> None:
    """Append what was done to a key to the audit log. A detail of None is left out."""
    audit.append(tx, act, action, key_id=key.id, key_name=key.name, **detail)
