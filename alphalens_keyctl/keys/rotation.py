"""How one key follows another: who may be rotated, the handover of the name to its successor, and the way back.

As in `lifecycle`, every function works inside the caller's writing transaction and never commits.
"""

from datetime import datetime, timedelta
from typing import Final, NamedTuple

from sqlalchemy import select

from alphalens_keyctl.database import Attempts, Writing
from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.keyformat import RawKey
from alphalens_keyctl.keys import lifecycle, lookup, selection
from alphalens_keyctl.keys.lifecycle import Draft
from alphalens_keyctl.models import Action, Key, Status, key_table
from alphalens_keyctl.moments import rfc3339
from alphalens_keyctl.provenance import Act

# How long a delivery may take without moving the instants that were promised when the key was shown.
_PROMPT: Final = timedelta(seconds=1)
# Why a successor was taken back.
ABORTED: Final = "aborted"
TRIAL_FAILED: Final = "check_failed"


class Retirement(NamedTuple):
    """How a key that was rotated out ends: `grace` after the handover of the name; with `deadline`, `grace` after its
    successor's first use, and `deadline` after the handover whatever happens."""

    grace: timedelta
    deadline: timedelta | None = None


class Predecessors(NamedTuple):
    """A key that can be rotated, and what comes after it: successors whose delivery died, oldest first. Destinations
    may hold those."""

    key: Key
    unfinished: list[Key]

    @property
    def end(self) -> Key:
        """The key that the next successor replaces."""
        return self.unfinished[-1] if self.unfinished else self.key

    @property
    def ids(self) -> frozenset[str]:
        """All of them, by id."""
        return frozenset(key.id for key in (self.key, *self.unfinished))


class Aborted(NamedTuple):
    """What taking a rotation back did: the key that is current again, and the successors that were given up."""

    key: Key
    successors: list[Key]


def rotatable(tx: Writing, attempts: Attempts, key_id: str, act: Act) -> Predecessors:
    """The key, if it can be rotated now: it is active or expired, and nobody else is rotating it.

    Raises `KeyctlError`: lost_race when another rotation won, wrong_state for all else.
    """
    key = lifecycle.require(tx, key_id, act.at)
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
    if key.status not in (Status.ACTIVE, Status.EXPIRED) or lifecycle.is_unfinished(key):
        raise KeyctlError(
            Code.WRONG_STATE,
            f"key {key.id} is {key.status} and cannot be rotated",
            "Create a new key." if key.status == Status.REVOKED else "Only an active or expired key is rotated.",
        )
    return Predecessors(key, unfinished_after(tx, attempts, key, act))


def unfinished_after(tx: Writing, attempts: Attempts, key: Key, act: Act) -> list[Key]:
    """The successors of `key` whose delivery died half-way, oldest first.

    Raises `KeyctlError`: lost_race while one is being delivered, wrong_state where one was suspended.
    """
    found: list[Key] = []
    while (rival := _live_successor(tx, found[-1] if found else key, act.at)) is not None:
        if rival.suspended_at is not None:
            raise KeyctlError(
                Code.WRONG_STATE,
                f"key {rival.id}, a successor of {key.id} that was not delivered to its end, is suspended",
                "Resume or revoke it first.",
            )
        if rival.status == Status.PENDING or not lifecycle.has_died(tx, attempts, rival):
            raise KeyctlError(
                Code.LOST_RACE,
                f"key {key.id} is being rotated by another process",
                f"Look at its successor with 'alphalens-keyctl show {rival.id}'.",
            )
        found.append(rival)
    return found


def succeed_pending(
    tx: Writing, predecessors: Predecessors, raw: RawKey, expires_at: datetime | None, act: Act, *, lease: float | None
) -> Key:
    """Write the successor of a key: same name, owner, purpose and labels. It opens nothing yet.

    Call it with `predecessors` as `rotatable` returned it in this same transaction.
    """
    key = predecessors.key
    draft = Draft(key.name, key.owner, key.purpose, key.labels, expires_at)
    return lifecycle.write_pending(tx, draft, raw, act, replaces=predecessors.end.id, lease=lease)


def hand_over_name(
    tx: Writing, key_id: str, act: Act, *, at: datetime, retirement: Retirement, delivered_to: list[str]
) -> Key:
    """Make a delivered successor the current key, and let its predecessor retire, with every key between them
    whose delivery died: destinations may hold those.

    The grace counts from `at`, or from now where the delivery took its time: waiting does not eat it. Raises
    `KeyctlError` (conflict) when one is no longer what it was: a predecessor that was revoked meanwhile gets
    no successor.
    """
    new = lifecycle.require_unfinished(tx, key_id, at)
    rival = _live_successor(tx, new, at)
    if rival is not None:
        raise KeyctlError(Code.CONFLICT, f"key {key_id} was taken over by {rival.id} while it was being delivered")
    since = at if act.at - at < _PROMPT else act.at
    retires_at = since + (retirement.grace if retirement.deadline is None else retirement.deadline)
    until_used = retirement.deadline is not None
    follower = key_id
    # The old key gives its name up first: the database allows one current key to a name at every statement.
    for old in _to_retire_before(tx, new, at):
        if old.activated_at is not None and old.status not in (Status.ACTIVE, Status.EXPIRED):
            raise KeyctlError(
                Code.CONFLICT, f"key {old.id} became {old.status} while its successor was being delivered"
            )
        retiring = lifecycle.change(
            tx,
            old.id,
            at,
            activated_at=old.activated_at or at,
            retires_at=retires_at,
            replaced_by=follower,
            awaits_use_of=key_id if until_used else None,
            grace_after_use=round(retirement.grace.total_seconds()) if until_used else None,
            lease_until=None,
        )
        lifecycle.record(
            tx,
            act,
            Action.ROTATE,
            retiring,
            successor=key_id,
            retires_at=rfc3339(retires_at),
            grace_after_use=round(retirement.grace.total_seconds()) if until_used else None,
        )
        follower = old.id
    return lifecycle.activate(tx, key_id, act, at=at, delivered_to=delivered_to)


def take_back(tx: Writing, new: Key, act: Act, *, destinations: str | None, reason: str) -> Key:
    """Undo the handover of the name to `new`: its predecessor is the current key again, `new` is on its way once more.

    With `destinations` it keeps opening, as long as those have not been given the old key back; the caller discards
    it. Returns the key that is current again. Raises `KeyctlError` (wrong_state) where there is no way back.
    """
    retired = _retired_by(tx, new, act.at)
    if retired and retired[-1].revoked_at is not None:
        raise KeyctlError(Code.WRONG_STATE, f"key {retired[-1].id} was revoked and cannot be current again")
    if not retired or new.retires_at is not None or new.revoked_at is not None:
        raise KeyctlError(
            Code.WRONG_STATE,
            f"key {new.id} is {new.status}; there is no rotation to take back",
            "Only a rotation whose new key is current can be taken back.",
        )
    lifecycle.change(tx, new.id, act.at, activated_at=None, delivering_to=destinations)
    nothing = {"retires_at": None, "replaced_by": None, "awaits_use_of": None, "grace_after_use": None}
    for old in retired[:-1]:
        if old.revoked_at is None:
            lifecycle.change(tx, old.id, act.at, activated_at=None, **nothing)
    current = lifecycle.change(tx, retired[-1].id, act.at, **nothing)
    lifecycle.record(tx, act, Action.ABORT, current, successor=new.id, reason=reason)
    return current


def abort(tx: Writing, attempts: Attempts, key_id: str, act: Act) -> Aborted:
    """Take back a rotation whose new key nobody has used: one that is done, or successors whose delivery died.

    With the new key go those that it replaced and that never were current, unless they are in use. Raises
    `KeyctlError` (wrong_state) where there is none, or where the new key is in use.
    """
    key = lifecycle.require(tx, key_id, act.at)
    if key.replaced_by is not None or (lifecycle.is_unfinished(key) and key.replaces is not None):
        key = _current_of(tx, key, act.at)
    successors = unfinished_after(tx, attempts, key, act) or [*_unused_between(tx, key, act.at), key]
    for successor in successors:
        if successor.use_count:
            raise KeyctlError(
                Code.WRONG_STATE,
                f"key {successor.id} is in use: {successor.use_count:,} so far, so it is not taken back",
                "'alphalens-keyctl audit usage --key' says by whom. To cut it off all the same, revoke it.",
            )
    current = take_back(tx, key, act, destinations=None, reason=ABORTED) if successors[-1] == key else key
    if key_id not in {current.id, *(successor.id for successor in successors)}:
        raise KeyctlError(
            Code.WRONG_STATE,
            f"key {key_id} has no part in the latest rotation of its lineage",
            f"To take that one back, name '{key.name}' or its id, {key.id}.",
        )
    for successor in reversed(successors):
        lifecycle.discard(tx, successor.id, act, reason=ABORTED)
    return Aborted(
        lifecycle.require(tx, current.id, act.at),
        [lifecycle.require(tx, successor.id, act.at) for successor in successors],
    )


def _live_successor(tx: Writing, key: Key, now: datetime) -> Key | None:
    successor = tx.scalar(
        select(key_table.c.id).where(key_table.c.replaces == key.id, key_table.c.revoked_at.is_(None))
    )
    return None if successor is None else selection.get(tx, successor, now=now)


def _to_retire_before(tx: Writing, new: Key, now: datetime) -> list[Key]:
    """What retires when `new` becomes current, newest first: keys whose delivery died, then the current one."""
    retired: list[Key] = []
    key: Key | None = new
    while key is not None and key.replaces is not None:
        key = selection.get(tx, key.replaces, now=now)
        if key is not None and (key.revoked_at is None or key.activated_at is not None):
            retired.append(key)
        if key is not None and key.activated_at is not None:
            break
    return retired


def _retired_by(tx: Writing, new: Key, now: datetime) -> list[Key]:
    """What retired when `new` became current, newest first. Those that never were current are still marked
    with where they were going."""
    retired: list[Key] = []
    key: Key | None = new
    while key is not None and key.replaces is not None:
        key = selection.get(tx, key.replaces, now=now)
        if key is not None and key.activated_at is not None:
            retired.append(key)
            if key.delivering_to is None:
                return retired
    return []


def _unused_between(tx: Writing, new: Key, now: datetime) -> list[Key]:
    """Of what retired when `new` became current, those that never were current and were not used, oldest first:
    once `new` is given up nobody would look after them."""
    return [key for key in _retired_by(tx, new, now)[-2::-1] if not key.use_count and key.revoked_at is None]


def _current_of(tx: Writing, key: Key, now: datetime) -> Key:
    """The key that is current in the lineage of `key`; `key` itself where there is none."""
    for member in lookup.lineage(tx, key, now=now):
        if member.activated_at is not None and member.retires_at is None and member.revoked_at is None:
            return member
    return key
