"""How one key follows another: which key may be rotated, the handover of the name to its successor, and the way back.

As in `lifecycle`, every function works inside the writing transaction of the caller and never commits.
"""

from collections.abc import Collection, Iterable
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from sqlalchemy import Connection, select

from alphalens_keyctl.damage import key_of
from alphalens_keyctl.database import Attempts, Writing
from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.keyformat import RawKey
from alphalens_keyctl.keys import lifecycle, lookup, selection
from alphalens_keyctl.keys.conditions import one_of
from alphalens_keyctl.keys.lifecycle import Draft, Pending
from alphalens_keyctl.models import Action, Key, Status, key_table
from alphalens_keyctl.moments import rfc3339
from alphalens_keyctl.provenance import Act
from alphalens_keyctl.text import fold

# A delivery that takes less than this does not move the instants that were promised when the key was shown.
_PROMPT: Final = timedelta(seconds=1)
# Why a successor was taken back: the reason in the audit event and the revoke_reason of its row.
ABORTED: Final = "aborted"
TRIAL_FAILED: Final = "check_failed"


class Retirement(NamedTuple):
    """How a key that was rotated out ends: `grace` after the handover of the name. With `deadline`: `grace` after the
    first use of its successor, and `deadline` after the handover whatever happens."""

    grace: timedelta
    deadline: timedelta | None = None

    def ends(self, since: datetime) -> datetime:
        """The instant at which the key retires at the latest, counted from the handover of the name."""
        return since + (self.grace if self.deadline is None else self.deadline)

    @property
    def grace_after_use(self) -> timedelta | None:
        """How long after the first use of its successor the key retires; None where no use is waited for."""
        return None if self.deadline is None else self.grace


class Predecessors(NamedTuple):
    """A key that can be rotated, and its `unfinished` successors, oldest first: their delivery died half-way, and
    destinations may hold them."""

    key: Key
    unfinished: list[Key]

    @property
    def end(self) -> Key:
        """The key that the next successor replaces."""
        return self.unfinished[-1] if self.unfinished else self.key

    @property
    def ids(self) -> frozenset[str]:
        """The ids of the key and of its unfinished successors."""
        return frozenset(key.id for key in (self.key, *self.unfinished))


class Aborted(NamedTuple):
    """What taking a rotation back did: the key that is current again, and the successors that were given up."""

    key: Key
    successors: list[Key]


def rotatable(tx: Writing, attempts: Attempts, key_id: str, act: Act) -> Predecessors:
    """The key and its unfinished successors, where the key can be rotated now: it is active or expired, and no other
    process is rotating it.

    Raises `KeyctlError`: lost_race when another rotation won or is running, wrong_state for everything else.
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
    if key.status not in (Status.ACTIVE, Status.EXPIRED) or key.is_unfinished:
        raise KeyctlError(
            Code.WRONG_STATE,
            f"key {key.id} is {key.status} and cannot be rotated",
            "Create a new key." if key.status == Status.REVOKED else "Only an active or expired key is rotated.",
        )
    return Predecessors(key, unfinished_after(tx, attempts, key, act))


def left_behind(tx: Writing, attempts: Attempts, holder: Key, act: Act) -> list[Key]:
    """The key that has a name and its successors, oldest first, where the delivery of every one of them died
    half-way: the next key of the name replaces the last of them. Empty where `holder` is any other key.

    Raises `KeyctlError` as `unfinished_after` does.
    """
    if not lifecycle.has_died(tx, attempts, holder):
        return []
    return [holder, *unfinished_after(tx, attempts, holder, act)]


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
        if not lifecycle.has_died(tx, attempts, rival):
            raise KeyctlError(
                Code.LOST_RACE,
                f"key {key.id} is being rotated by another process",
                f"Look at its successor with 'alphalens-keyctl show {rival.id}'.",
            )
        found.append(rival)
    return found


def succeed_pending(
    tx: Writing,
    predecessors: Predecessors,
    raw: RawKey,
    expires_at: datetime | None,
    act: Act,
    *,
    override: str | None = None,
    lease: float | None,
) -> Key:
    """Write the successor of a key: same name, owner, purpose, labels, scopes and networks. The successor opens nothing
    yet.

    `predecessors` is what `rotatable` returned in this same transaction. `lease` is as in `lifecycle.create_pending`,
    `override` as in `Draft`. Raises `KeyctlError` as `lifecycle.write_pending` does.
    """
    key = predecessors.key
    draft = Draft(
        key.name, key.owner, key.purpose, key.labels, expires_at, override, scopes=key.scopes, allow_from=key.allow_from
    )
    return lifecycle.write_pending(tx, Pending(draft, raw, predecessors.end.id), act, lease=lease)


def hand_over_name(
    tx: Writing, key_id: str, act: Act, *, at: datetime, retirement: Retirement, delivered_to: list[str]
) -> Key:
    """Make a delivered successor the current key, and let its predecessor retire, with every key between the two
    whose delivery died half-way, since destinations may hold such a key.

    `at` is the activation that was promised when the key was shown. The grace counts from `at`, or from `act.at` where
    the delivery took its time, so that waiting does not use the grace up. Raises `KeyctlError` (conflict) when any of
    the keys was changed meanwhile: a predecessor that was revoked gets no successor.
    """
    new = lifecycle.require_unfinished(tx, key_id, at)
    rival = _live_successor(tx, new, at)
    if rival is not None:
        raise KeyctlError(Code.CONFLICT, f"key {key_id} was taken over by {rival.id} while it was being delivered")
    since = at if act.at - at < _PROMPT else act.at
    retires_at, after_use = retirement.ends(since), retirement.grace_after_use
    grace_after_use = None if after_use is None else round(after_use.total_seconds())
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
            awaits_use_of=None if grace_after_use is None else key_id,
            grace_after_use=grace_after_use,
            lease_until=None,
        )
        lifecycle.record(
            tx,
            act,
            Action.ROTATE,
            retiring,
            successor=key_id,
            retires_at=rfc3339(retires_at),
            grace_after_use=grace_after_use,
        )
        follower = old.id
    retire_strays(tx, [new], act, at=at, retires_at=since + retirement.grace)
    return lifecycle.activate(tx, key_id, act, at=at, delivered_to=delivered_to)


def strays(tx: Writing, names: Iterable[str], known: Collection[str], now: datetime) -> list[Key]:
    """The keys of these names that are delivering, or were when they were suspended, and are none of `known`: no
    rotation and no `create` would come back to such a key, whose predecessor was revoked by its id."""
    found: list[Key] = []
    for some_names in selection.few_at_once([fold(name) for name in names]):
        query = selection.select_keys(now).where(
            one_of(tx, key_table.c.name_folded, some_names),
            key_table.c.activated_at.is_(None),
            key_table.c.revoked_at.is_(None),
            key_table.c.delivering_to.is_not(None),
        )
        found += [key_of(row) for row in tx.execute(query).all() if row.id not in known]
    return found


def dead_strays(tx: Writing, attempts: Attempts, name: str, known: Collection[str], act: Act) -> list[Key]:
    """The `strays` of a name, all of which were left by processes that are no more.

    Raises `KeyctlError` (name_taken) while one of them is being delivered.
    """
    found = strays(tx, [name], known, act.at)
    for key in found:
        if not lifecycle.has_died(tx, attempts, key):
            raise lifecycle.name_taken(key)
    return found


def retire_strays(tx: Writing, new: Iterable[Key], act: Act, *, at: datetime, retires_at: datetime) -> None:
    """Let the `strays` of the names of `new` retire: destinations may hold them, and nobody would end them else
    (promise 2). `at` is the instant at which the new keys become current."""
    followers = {fold(key.name): key.id for key in new}
    for key in strays(tx, followers, frozenset(followers.values()), at):
        follower = followers[fold(key.name)]
        retiring = lifecycle.change(
            tx, key.id, at, activated_at=at, retires_at=retires_at, replaced_by=follower, lease_until=None
        )
        lifecycle.record(tx, act, Action.ROTATE, retiring, successor=follower, retires_at=rfc3339(retires_at))


def take_back(tx: Writing, new: Key, act: Act, *, destinations: str | None, reason: str) -> Key:
    """Undo the handover of the name to `new`: its predecessor is the current key again, `new` is unfinished again.

    With `destinations`, `new` goes on opening while they may hold it. The caller gives the old key back to them, and
    then discards `new`. Returns the key that is current again. Raises `KeyctlError` (wrong_state) where the predecessor
    was revoked or `new` is not current.
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
    # It is handed back under the name that it has by now: a key that had retired was not renamed with the others.
    renamed = [old for old in retired if old.name != new.name and old.revoked_at is None]
    lifecycle.rename_each(tx, [old.id for old in renamed], new.name)
    nothing = {"retires_at": None, "replaced_by": None, "awaits_use_of": None, "grace_after_use": None}
    for old in retired[:-1]:
        if old.revoked_at is None:
            lifecycle.change(tx, old.id, act.at, activated_at=None, **nothing)
    current = lifecycle.change(tx, retired[-1].id, act.at, **nothing)
    called = retired[-1].name if retired[-1].name != new.name else None
    for given_up in (new, *(old for old in retired[:-1] if old.revoked_at is None)):
        key = lifecycle.require(tx, given_up.id, act.at)
        lifecycle.record(tx, act, Action.ABORT, key, predecessor=current.id, reason=reason)
    lifecycle.record(tx, act, Action.ABORT, current, successor=new.id, reason=reason, name_before=called)
    return current


def abort(tx: Writing, attempts: Attempts, key_id: str, act: Act) -> Aborted:
    """Take back a rotation whose new key nobody has used: a finished one, or successors whose delivery died half-way.

    The keys between the old key and the new one, which never were current, are discarded with the new key, unless
    they are in use. Raises `KeyctlError` (wrong_state) where there is no rotation to take back, where `key_id` has no
    part in it, or where the new key is in use.
    """
    key = lifecycle.require(tx, key_id, act.at)
    if key.replaced_by is not None or (key.is_unfinished and key.replaces is not None):
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


def is_overtaken(connection: Connection, key: Key, now: datetime) -> bool:
    """Whether another attempt, which took the one that delivers `key` for dead, replaces the key or let it retire."""
    retires = not key.is_unfinished and not key.is_current and key.revoked_at is None
    return retires or _live_successor(connection, key, now) is not None


def _live_successor(tx: Connection, key: Key, now: datetime) -> Key | None:
    successor = tx.scalar(
        select(key_table.c.id).where(key_table.c.replaces == key.id, key_table.c.revoked_at.is_(None))
    )
    return None if successor is None else selection.get(tx, successor, now=now)


def _to_retire_before(tx: Writing, new: Key, now: datetime) -> list[Key]:
    """The keys that retire when `new` becomes current, newest first: those whose delivery died, then the current
    one."""
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
    """The keys that retired when `new` became current, newest first. A key that never was current still has its
    delivering_to; the one that was current has none, and is the last."""
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
    """The keys that retired when `new` became current and that never were current, revoked or used, oldest first:
    once `new` is discarded nobody would look after them."""
    return [key for key in _retired_by(tx, new, now)[-2::-1] if not key.use_count and key.revoked_at is None]


def _current_of(tx: Writing, key: Key, now: datetime) -> Key:
    """The key that is current in the lineage of `key`; `key` itself where there is none."""
    for member in lookup.lineage(tx, key, now=now):
        if member.is_current and not member.is_unfinished:
            return member
    return key
