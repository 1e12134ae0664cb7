"""Issuing a key: written pending, delivered, and only then usable (promises 2, 3 and 4).

The one path that `create` and `rotate` take. It owns its transactions, since the delivery stands between
them. At whatever instant the process dies, every destination holds a key that opens: one that outlives the process
gets the new key only once that opens beside the old one, which is current until all have it.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Final, NamedTuple, Protocol

from alphalens_keyctl import keyformat
from alphalens_keyctl.database import Database, Writing
from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.keyformat import RawKey
from alphalens_keyctl.keys import lifecycle, rotation, selection
from alphalens_keyctl.keys.rotation import Retirement
from alphalens_keyctl.models import Key, Status
from alphalens_keyctl.moments import utc_now
from alphalens_keyctl.provenance import Act

# What an unfinished key of the same name keeps working for, when `create` starts over: a day, as `rotate` has it.
GRACE: Final = timedelta(hours=24)
_UNDONE: Final = {
    lifecycle.DELIVERY_FAILED: "The new key was not activated and opens nothing; all else is as it was.",
    rotation.TRIAL_FAILED: "The rotation was taken back: the old key is current again, the new one opens nothing.",
}


class Created(NamedTuple):
    """A key as it is once it is active; `raw` is None where a key of that name was there already."""

    key: Key
    raw: RawKey | None
    delivered_to: tuple[str, ...] = ()


class Rotated(NamedTuple):
    """The current key and its predecessor; `previous` and `raw` are None where there was nothing to do.

    With `grace_after_use` the predecessor ends so long after the current key's first use, at its `retires_at`
    at the latest.
    """

    key: Key
    previous: Key | None
    raw: RawKey | None
    delivered_to: tuple[str, ...] = ()
    grace_after_use: timedelta | None = None


class RotationPlan(NamedTuple):
    """How to rotate.

    `expires_at` is what the successor gets, unless `same_lifetime`: then it lives as long as the old key was
    meant to. `due` says whether a key needs rotating at all. `asked_at` is when the caller began: a key that
    became current after that is the work of another rotation. `trial` is handed the successor once it is
    current; when it raises, the rotation is taken back.
    """

    asked_at: datetime
    retirement: Retirement
    expires_at: datetime | None = None
    same_lifetime: bool = True
    due: Callable[[Key], bool] = lambda _key: True
    trial: Callable[[Key, RawKey], None] | None = None


class Destinations(Protocol):
    """The destinations that outlive this process. None of its methods takes longer than `limit` in all."""

    @property
    def names(self) -> Sequence[str]:
        """What each is called, in the log and in `delivered_to`; empty where there is none."""

    @property
    def limit(self) -> float:
        """How long a delivery to all of them may take, in seconds."""

    def stage(self, key: Key, raw: RawKey, replaced: frozenset[str]) -> None:
        """Prepare everything that can be without any destination holding the new key. `replaced` are the ids of the
        keys that destinations may hold now. Raises `KeyctlError`."""

    def hand_over(self) -> None:
        """Give the raw key to each destination. Raises `KeyctlError` when one does not have it for certain."""

    def put_back(self) -> bool:
        """Give each destination what it held before. False where one may still hold the new key."""


# Shows the raw key, given what will be true once the key is active; returns where, or raises.
Show = Callable[[Created, RawKey], Sequence[str]]
ShowSuccessor = Callable[[Rotated, RawKey], Sequence[str]]


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

    What `show` gets is the key as it will be, `active`; that comes true only when this function returns. With
    `if_missing` an existing key of the name is returned and nothing is delivered. A key of the name whose
    delivery died is replaced, and retires. Raises `KeyctlError`.
    """
    raw = keyformat.generate(prefix)
    with database.attempts.hold(raw.id) as lease, _undone_on_failure(database, raw.id, act, destinations):
        with database.writing() as tx:
            act = act.now()
            lifecycle.discard_abandoned(tx, database.attempts, act)
            holder = selection.current(tx, draft.name, now=act.at)
            left = [] if holder is None else _left_behind(tx, database, holder, act)
            if if_missing and holder is not None and not left:
                _refuse_unfinished(holder)
                return Created(holder, None)
            replaces = left[-1].id if left else None
            pending = lifecycle.create_pending(tx, draft, raw, act, replaces=replaces, lease=lease)
        _hand_over(database, pending, raw, act, destinations, frozenset(key.id for key in left), lease)
        at = utc_now()
        delivered_to = list(destinations.names)
        promised = Created(pending._replace(status=Status.ACTIVE, activated_at=at), raw, tuple(delivered_to))
        delivered_to += show(promised, raw)
        with database.writing() as tx:
            end = Retirement(GRACE)
            rotation.hand_over_name(tx, raw.id, act.now(), at=at, retirement=end, delivered_to=delivered_to)
    return promised._replace(delivered_to=tuple(delivered_to))


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
    """Give a key a successor, hand it to `destinations`, `show` it, and only then let the old key retire.

    Whatever fails before the end leaves the old key as it was. Raises `KeyctlError` (lost_race) when another
    rotation of the same key was first.
    """
    raw = keyformat.generate(prefix)
    with database.attempts.hold(raw.id) as lease:
        with _undone_on_failure(database, raw.id, act, destinations):
            with database.writing() as tx:
                act = act.now()
                lifecycle.discard_abandoned(tx, database.attempts, act)
                predecessors = rotation.rotatable(tx, database.attempts, key_id, act)
                _refuse_if_just_rotated(predecessors.key, plan.asked_at)
                # A successor that destinations may hold and that is not current is a job half done: it is due.
                if not plan.due(predecessors.key) and not predecessors.unfinished:
                    return Rotated(predecessors.key, None, None)
                expires_at = _expiry(predecessors.key, plan, act.at)
                pending = rotation.succeed_pending(tx, predecessors, raw, expires_at, act, lease=lease)
            _hand_over(database, pending, raw, act, destinations, predecessors.ids, lease)
            at = utc_now()
            delivered_to = list(destinations.names)
            new = pending._replace(status=Status.ACTIVE, activated_at=at)
            old = _retiring(predecessors, raw.id, at, plan.retirement)
            after_use = None if plan.retirement.deadline is None else plan.retirement.grace
            promised = Rotated(new, old, raw, tuple(delivered_to), after_use)
            delivered_to += show(promised, raw)
            with database.writing() as tx:
                now = act.now()
                rotation.hand_over_name(tx, raw.id, now, at=at, retirement=plan.retirement, delivered_to=delivered_to)
        if plan.trial is not None:
            with _taken_back_on_failure(database, raw.id, act, destinations):
                plan.trial(new, raw)
    return promised._replace(delivered_to=tuple(delivered_to))


def _hand_over(
    database: Database,
    pending: Key,
    raw: RawKey,
    act: Act,
    destinations: Destinations,
    replaced: frozenset[str],
    lease: float | None,
) -> None:
    if not destinations.names:
        return
    destinations.stage(pending, raw, replaced)
    # From here until the end the destinations' own limits count; a lease that ended earlier would let another
    # attempt take this one for dead.
    lease = None if lease is None else lease + destinations.limit
    with database.writing() as tx:
        lifecycle.begin_delivering(tx, raw.id, act.now(), destinations=destinations.names, lease=lease)
    destinations.hand_over()


@contextmanager
def _undone_on_failure(database: Database, key_id: str, act: Act, destinations: Destinations) -> Iterator[None]:
    """When the block fails give the destinations back what they held and discard the key, and never say "failed" of
    a key that became current.

    A connection can break, or Ctrl-C arrive, after the server has committed and before we hear of it. The
    database is asked what is true: a key that is active was delivered and is on record, so the job is done.
    """
    try:
        yield
    except BaseException as failure:
        try:
            done = _settle(database, key_id, act, destinations, failure)
        except (KeyctlError, KeyboardInterrupt):
            # It stays pending and opens nothing; or it was activated and nobody here can know. Say so.
            failure.add_note(f"Key {key_id} could not be discarded; the next command looks after it.")
            raise failure from None
        if not done:
            raise


def _settle(database: Database, key_id: str, act: Act, destinations: Destinations, failure: BaseException) -> bool:
    """Undo what was done for the key, unless it is current: then True."""
    with database.reading() as connection:
        key = selection.get(connection, key_id, now=utc_now())
    # One that was replaced was taken for dead, and another run has the name.
    if key is not None and key.activated_at is not None and key.revoked_at is None and key.replaced_by is None:
        return True
    # Only now: had the key become current, the destinations would have to keep it.
    _give_up(database, key, act, destinations, failure, reason=lifecycle.DELIVERY_FAILED)
    return False


def _give_up(
    database: Database,
    key: Key | None,
    act: Act,
    destinations: Destinations,
    failure: BaseException,
    *,
    reason: str,
) -> None:
    """Give the destinations back what they held, and only then discard the key: at no instant may one hold a key
    that opens nothing."""
    restored = destinations.put_back()
    if key is None or not lifecycle.is_unfinished(key):
        return
    if key.replaces is not None and not restored:
        # A destination that worked before would hold a dead key; of a first key there is no such destination.
        failure.add_note(
            f"The old key is untouched. A destination may hold the new key {key.id}, so it still opens and is listed as"
            f" delivering: run the command again, or revoke the key by its id."
        )
        return
    with database.writing() as tx:
        now = act._replace(at=utc_now())
        if lifecycle.discard(tx, key.id, now, reason=reason):
            failure.add_note(_UNDONE[reason])


@contextmanager
def _taken_back_on_failure(database: Database, key_id: str, act: Act, destinations: Destinations) -> Iterator[None]:
    """When the block fails, undo the handover of the name to the key, and then all the rest.

    In that order: the new key goes on opening until each destination has the old one back, which opens again.
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


def _left_behind(tx: Writing, database: Database, holder: Key, act: Act) -> list[Key]:
    """The key that has the name and those after it, when all of them are deliveries that died."""
    if not lifecycle.is_unfinished(holder) or holder.suspended_at is not None:
        return []
    if holder.status == Status.PENDING or not lifecycle.has_died(tx, database.attempts, holder):
        return []
    return [holder, *rotation.unfinished_after(tx, database.attempts, holder, act)]


def _expiry(old: Key, plan: RotationPlan, now: datetime) -> datetime | None:
    if not plan.same_lifetime:
        return plan.expires_at
    if old.expires_at is None:
        return None
    return now + (old.expires_at - (old.activated_at or old.created_at))


def _retiring(predecessors: rotation.Predecessors, successor: str, at: datetime, retirement: Retirement) -> Key:
    old = predecessors.key
    retires_at = at + (retirement.grace if retirement.deadline is None else retirement.deadline)
    over = retires_at <= at or old.status == Status.EXPIRED
    status = Status.RETIRED if over else Status.RETIRING
    follower = predecessors.unfinished[0].id if predecessors.unfinished else successor
    return old._replace(status=status, retires_at=retires_at, replaced_by=follower)


def _refuse_if_just_rotated(key: Key, asked_at: datetime) -> None:
    """Of rotations at once only one may win, also when a name already means the winner's new key."""
    if key.replaces is not None and key.activated_at is not None and key.activated_at > asked_at:
        raise KeyctlError(
            Code.LOST_RACE,
            f"another rotation finished first; the current key is {key.id}",
            "Run the command again if another rotation is what you want.",
        )


def _refuse_unfinished(key: Key) -> None:
    if lifecycle.is_unfinished(key):
        raise lifecycle.name_taken(key)
