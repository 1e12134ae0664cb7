"""Issuing a key: written pending, delivered, and only then usable (promises 2, 3 and 4).

`create` and `rotate` own their transactions, because the delivery stands between two of them. At whatever instant the
process dies, every destination holds a key that opens: a destination that outlives the process gets the new key only
once the new key opens beside the old one, and the old key stays current until every destination has the new one.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Final, NamedTuple, Protocol

from sqlalchemy import Connection

from alphalens_keyctl import interrupts, keyformat
from alphalens_keyctl.database import Attempt, Database
from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.keyformat import RawKey
from alphalens_keyctl.keys import lifecycle, rotation, selection, stored_policy
from alphalens_keyctl.keys.rotation import Retirement
from alphalens_keyctl.models import Key, Status
from alphalens_keyctl.moments import rfc3339, utc_now
from alphalens_keyctl.provenance import Act

# How long an unfinished key keeps opening after `create` has replaced it: a day, which is the default of `rotate` too.
GRACE: Final = timedelta(hours=24)
_UNDONE: Final = {
    lifecycle.DELIVERY_FAILED: "The new key was not activated and opens nothing; all else is as it was.",
    rotation.TRIAL_FAILED: "The rotation was taken back: the old key is current again, the new one opens nothing.",
}


class Created(NamedTuple):
    """The key that was created, active; `raw` is None where a key of that name was there already."""

    key: Key
    raw: RawKey | None
    delivered_to: tuple[str, ...] = ()


class Rotated(NamedTuple):
    """The current key and its predecessor; `previous` and `raw` are None where the key needed no rotation.

    With `grace_after_use` the predecessor retires that long after the first use of the current key, at its
    `retires_at` at the latest.
    """

    key: Key
    previous: Key | None
    raw: RawKey | None
    delivered_to: tuple[str, ...] = ()
    grace_after_use: timedelta | None = None


class RotationPlan(NamedTuple):
    """How to rotate a key.

    The successor expires at `expires_at`; with `same_lifetime`, as long after now as the old key was meant to live.
    `due` says whether a key needs rotating. `asked_at` is the instant at which the caller began: another rotation made
    a key current that became so later. `trial` is called with the successor once the successor is current; when it
    raises, the rotation is taken back. `override` says why the successor may break the stored policy.
    """

    asked_at: datetime
    retirement: Retirement
    expires_at: datetime | None = None
    same_lifetime: bool = True
    due: Callable[[Key], bool] = lambda _key: True
    trial: Callable[[Key, RawKey], None] | None = None
    override: str | None = None


class Destinations(Protocol):
    """The destinations that outlive this process. No method takes longer than `limit`."""

    @property
    def names(self) -> Sequence[str]:
        """The name of each destination, for the audit log and `delivered_to`; empty where there is none."""

    @property
    def limit(self) -> float:
        """The most seconds that a delivery to all destinations takes."""

    def stage(self, key: Key, raw: RawKey, replaced: frozenset[str], attempt: Attempt) -> None:
        """Prepare the delivery as far as that goes without a destination holding the new key. `replaced` are the ids of
        the keys that destinations may hold now; `attempt` lasts until the delivery is over. Raises `KeyctlError`."""

    def hand_over(self) -> None:
        """Give the raw key to each destination. Raises `KeyctlError` unless every destination has it for certain."""

    def put_back(self) -> bool:
        """Give each destination what it held before. Returns False where one may still hold the new key."""


# Shows the raw key beside what will be true once the key is active. Returns the names of where it was shown, or raises.
Show = Callable[[Created, RawKey], Sequence[str]]
ShowSuccessor = Callable[[Rotated, RawKey], Sequence[str]]


@interrupts.held()
def create(
    database: Database,
    draft: lifecycle.Draft,
    act: Act,
    destinations: Destinations,
    show: Show,
    *,
    prefix: str,
    if_missing: bool,
) -> Created:
    """Create a key, hand it to `destinations` and `show` it.

    `show` gets the key as it will be, active; that comes true only when this function returns. With `if_missing` an
    existing key of the name is returned and nothing is delivered. A key of the name whose delivery died half-way is
    replaced, and retires. Raises `KeyctlError`; the new key then opens nothing.
    """
    raw = keyformat.generate(prefix)
    with database.attempts.hold(raw.id) as attempt, _undone_on_failure(database, raw.id, act, destinations):
        with database.writing() as tx:
            act = act.now()
            lifecycle.discard_abandoned(tx, database.attempts, act)
            holder = selection.current(tx, draft.name, now=act.at)
            left = [] if holder is None else rotation.left_behind(tx, database.attempts, holder, act)
            if if_missing and holder is not None and not left:
                _refuse_unfinished(holder)
                return Created(holder, None)
            replaces = left[-1].id if left else None
            replaced = frozenset(key.id for key in left)
            replaced |= {key.id for key in rotation.dead_strays(tx, database.attempts, draft.name, replaced, act)}
            pending = lifecycle.create_pending(tx, draft, raw, act, replaces=replaces, lease=attempt.lease)
        _hand_over(database, pending, raw, act, destinations, replaced, attempt)
        at = utc_now()
        delivered_to = list(destinations.names)
        promised = Created(pending._replace(status=Status.ACTIVE, activated_at=at), raw, tuple(delivered_to))
        with interrupts.let_in():
            delivered_to += show(promised, raw)
        attempt.prove()
        with database.writing() as tx:
            end = Retirement(GRACE)
            rotation.hand_over_name(tx, raw.id, act.now(), at=at, retirement=end, delivered_to=delivered_to)
    return promised._replace(delivered_to=tuple(delivered_to))


@interrupts.held()
def rotate(
    database: Database,
    key_id: str,
    plan: RotationPlan,
    act: Act,
    destinations: Destinations,
    show: ShowSuccessor,
    *,
    prefix: str,
) -> Rotated:
    """Give a key a successor, hand the successor to `destinations`, `show` it, and only then let the old key retire.

    Whatever fails before the end leaves the old key as it was. Raises `KeyctlError`: lost_race when another rotation
    of the same key was first, wrong_state for a key that cannot be rotated, and whatever a destination raises.
    """
    raw = keyformat.generate(prefix)
    with database.attempts.hold(raw.id) as attempt:
        with _undone_on_failure(database, raw.id, act, destinations):
            with database.writing() as tx:
                act = act.now()
                lifecycle.discard_abandoned(tx, database.attempts, act)
                predecessors = rotation.rotatable(tx, database.attempts, key_id, act)
                _refuse_if_just_rotated(predecessors.key, plan.asked_at)
                # A successor that destinations may hold and that is not current is a job half done, so it is due.
                if not plan.due(predecessors.key) and not predecessors.unfinished:
                    return Rotated(predecessors.key, None, None)
                name, replaced = predecessors.key.name, predecessors.ids
                replaced |= {key.id for key in rotation.dead_strays(tx, database.attempts, name, replaced, act)}
                expires_at = _expiry(predecessors.key, plan, act.at)
                pending = rotation.succeed_pending(
                    tx, predecessors, raw, expires_at, act, override=plan.override, lease=attempt.lease
                )
            _hand_over(database, pending, raw, act, destinations, replaced, attempt)
            at = utc_now()
            delivered_to = list(destinations.names)
            new = pending._replace(status=Status.ACTIVE, activated_at=at)
            old = _retiring(predecessors, raw.id, at, plan.retirement)
            promised = Rotated(new, old, raw, tuple(delivered_to), plan.retirement.grace_after_use)
            with interrupts.let_in():
                delivered_to += show(promised, raw)
            attempt.prove()
            with database.writing() as tx:
                now = act.now()
                rotation.hand_over_name(tx, raw.id, now, at=at, retirement=plan.retirement, delivered_to=delivered_to)
        if plan.trial is not None:
            with _taken_back_on_failure(database, raw.id, act, destinations):
                plan.trial(new, raw)
    return promised._replace(delivered_to=tuple(delivered_to))


def refuse_forbidden(connection: Connection, keys: Sequence[Key], plan: RotationPlan, *, now: datetime) -> None:
    """Raise `KeyctlError` (policy_violation) with every key whose rotation at `now` the stored policy forbids."""
    policy = stored_policy.read(connection)
    if plan.override is None:
        broken = (
            (
                f"key '{key.name}' ({key.id})",
                stored_policy.breaches(policy, key._asdict() | {"expires_at": _expiry(key, plan, now)}, created_at=now),
            )
            for key in keys
        )
        stored_policy.refuse(broken, expiry="--expires", now=now)


def _hand_over(
    database: Database,
    pending: Key,
    raw: RawKey,
    act: Act,
    destinations: Destinations,
    replaced: frozenset[str],
    attempt: Attempt,
) -> None:
    if not destinations.names:
        return
    destinations.stage(pending, raw, replaced, attempt)
    # From here on the delivery takes as long as the destinations allow; a lease that ended earlier would let another
    # attempt take this one for dead.
    lease = None if attempt.lease is None else attempt.lease + destinations.limit
    with database.writing() as tx:
        lifecycle.begin_delivering(tx, raw.id, act.now(), destinations=destinations.names, lease=lease)
    # A destination that was handed the key after another attempt had taken over would hold the older key in the end.
    attempt.prove()
    destinations.hand_over()


@contextmanager
def _undone_on_failure(database: Database, key_id: str, act: Act, destinations: Destinations) -> Iterator[None]:
    """When the block fails, give the destinations back what they held and discard the key, unless the key became
    current: then the failure is swallowed.

    A connection can break, or Ctrl-C arrive, after the server has committed and before this process hears of it. So
    the database is asked what is true: a key that is current was delivered and is on record, and the job is done.
    """
    try:
        yield
    except BaseException as failure:
        try:
            done = _settle(database, key_id, act, destinations, failure)
        except (KeyctlError, KeyboardInterrupt):
            # The key is pending and opens nothing, or it is active: this process cannot know which.
            failure.add_note(f"Key {key_id} could not be discarded; the next command looks after it.")
            raise failure from None
        if not done:
            raise


def _settle(database: Database, key_id: str, act: Act, destinations: Destinations, failure: BaseException) -> bool:
    """Undo what was done for the key, and return False; return True, and undo nothing, where the key is current."""
    now = utc_now()
    with database.reading() as connection:
        key = selection.get(connection, key_id, now=now)
        overtaken = key is not None and rotation.is_overtaken(connection, key, now)
    if key is not None and key.is_current and not key.is_unfinished:
        return True
    if key is not None and overtaken:
        # That run has filled the destinations, or is filling them: what this one gave back would undo it.
        failure.add_note(f"Another run took over and fills the destinations. {_how_it_ends(key)}")
        return False
    # Not before the look: had the key become current, the destinations would have to keep it.
    _give_up(database, key, act, destinations, failure, reason=lifecycle.DELIVERY_FAILED)
    return False


def _how_it_ends(key: Key) -> str:
    if key.is_unfinished:
        return f"Key {key.id}, which a destination may hold, opens until that run is done and its grace is over."
    if key.opens and key.ends_at is not None:
        return f"Key {key.id}, which a destination may hold, opens until {rfc3339(key.ends_at)}."
    return f"Key {key.id} opens nothing any more."


def _give_up(
    database: Database,
    key: Key | None,
    act: Act,
    destinations: Destinations,
    failure: BaseException,
    *,
    reason: str,
) -> None:
    """Give the destinations back what they held, and only then discard the key: at no instant may a destination hold a
    key that opens nothing."""
    restored = destinations.put_back()
    if key is None or not key.is_unfinished:
        return
    if key.replaces is not None and not restored:
        # A destination that worked before would hold a dead key. No destination held anything before a first key.
        failure.add_note(
            f"This run did not touch the old key. A destination may hold the new key {key.id}, so it still opens and is"
            f" listed as delivering: run the command again, or revoke the key by its id."
        )
        return
    with database.writing() as tx:
        now = act._replace(at=utc_now())
        if lifecycle.discard(tx, key.id, now, reason=reason):
            failure.add_note(_UNDONE[reason])


@contextmanager
def _taken_back_on_failure(database: Database, key_id: str, act: Act, destinations: Destinations) -> Iterator[None]:
    """When the block fails, undo the handover of the name to the key, then the delivery, then discard the key.

    In this order the new key goes on opening until each destination has the old key back, which opens again.
    """
    try:
        yield
    except BaseException as failure:
        try:
            with database.writing() as tx:
                now = act._replace(at=utc_now())
                new = lifecycle.require(tx, key_id, now.at)
                held = ", ".join(destinations.names) or None
                rotation.take_back(tx, new, now, destinations=held, reason=rotation.TRIAL_FAILED)
                key = lifecycle.require(tx, key_id, now.at)
            _give_up(database, key, act, destinations, failure, reason=rotation.TRIAL_FAILED)
        except (KeyctlError, KeyboardInterrupt) as trouble:
            why = f": {trouble.message}" if isinstance(trouble, KeyctlError) else ""
            failure.add_note(f"The rotation could not be taken back{why}; look at key {key_id}.")
        raise


def _expiry(old: Key, plan: RotationPlan, now: datetime) -> datetime | None:
    if not plan.same_lifetime:
        return plan.expires_at
    if old.expires_at is None:
        return None
    return now + (old.expires_at - (old.activated_at or old.created_at))


def _retiring(predecessors: rotation.Predecessors, successor: str, at: datetime, retirement: Retirement) -> Key:
    """The old key as it will be once the handover of the name at `at` is done."""
    old = predecessors.key
    follower = predecessors.unfinished[0].id if predecessors.unfinished else successor
    retiring = old._replace(status=Status.RETIRING, retires_at=retirement.ends(at), replaced_by=follower)
    status, _until = retiring.status_at(at.timestamp())
    return retiring._replace(status=status)


def _refuse_if_just_rotated(key: Key, asked_at: datetime) -> None:
    """Of rotations at once only one may win (promise 4), also where a name already means the new key of the winner."""
    if key.replaces is not None and key.activated_at is not None and key.activated_at > asked_at:
        raise KeyctlError(
            Code.LOST_RACE,
            f"another rotation finished first; the current key is {key.id}",
            "Run the command again if another rotation is what you want.",
        )


def _refuse_unfinished(key: Key) -> None:
    if key.is_unfinished:
        raise lifecycle.name_taken(key)
