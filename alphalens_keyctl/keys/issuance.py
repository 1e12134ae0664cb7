"""Issuing a key: written pending, delivered, and only then usable (promises 2, 3 and 4).

The delivery stands between two steps, and each of the `Steps` is a transaction of its own, here or on a server. At
whatever instant the process dies, every destination holds a key that opens: a destination that outlives the process
gets the new key only once the new key opens beside the old one, and the old key stays current until every destination
has the new one.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime, timedelta
from typing import Final, NamedTuple, Protocol

from sqlalchemy import Connection

from alphalens_keyctl import interrupts
from alphalens_keyctl.database import Attempt
from alphalens_keyctl.errors import KeyctlError
from alphalens_keyctl.keyformat import RawKey
from alphalens_keyctl.keys import lifecycle, rotation, stored_policy
from alphalens_keyctl.keys.last_copy import Held
from alphalens_keyctl.keys.lifecycle import Draft
from alphalens_keyctl.keys.rotation import Retirement
from alphalens_keyctl.models import Key, Status
from alphalens_keyctl.moments import rfc3339, utc_now

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


class Due(NamedTuple):
    """When a key is to be rotated: it is current for `older_than` or longer, or expires within `expiring_within`. With
    neither, a key is always due."""

    older_than: timedelta | None = None
    expiring_within: timedelta | None = None

    def applies(self, key: Key, now: datetime) -> bool:
        """Whether the key is due at `now`."""
        if self.older_than is None and self.expiring_within is None:
            return True
        old = self.older_than is not None and (key.activated_at or key.created_at) <= now - self.older_than
        end = key.expires_at
        return old or (self.expiring_within is not None and end is not None and end <= now + self.expiring_within)


class RotationPlan(NamedTuple):
    """How to rotate a key.

    The successor expires at `expires_at`; with `same_lifetime`, as long after now as the old key was meant to live.
    A key that is not `due` is left alone. `asked_at` is the instant at which the caller began: another rotation made
    a key current that became so later. `override` says why the successor may break the stored policy.
    """

    asked_at: datetime
    retirement: Retirement
    expires_at: datetime | None = None
    same_lifetime: bool = True
    due: Due = Due()
    override: str | None = None

    def expiry(self, old: Key, now: datetime) -> datetime | None:
        """When the successor of `old` expires, where `old` is rotated at `now`."""
        if not self.same_lifetime:
            return self.expires_at
        if old.expires_at is None:
            return None
        return now + (old.expires_at - (old.activated_at or old.created_at))


class Begun(NamedTuple):
    """A key that was begun: `key` is pending and `raw` its raw key. `raw` is None where there was nothing to begin;
    then `key` is the key that stands.

    `previous` is the key that is being rotated, with the `replaced_by` that the handover of the name will give it.
    `replaced` are the ids of the keys that destinations may hold now. While `attempt` runs, no other takes the key.
    """

    key: Key
    raw: RawKey | None
    previous: Key | None = None
    replaced: frozenset[str] = frozenset()
    attempt: Attempt = Attempt()


class Standing(NamedTuple):
    """How a begun key stands: None where it is no more; `overtaken` as `rotation.is_overtaken` says."""

    key: Key | None
    overtaken: bool


class Steps(Protocol):
    """The steps of an issuance. Each is one transaction; each raises `KeyctlError`."""

    def begin_create(self, draft: Draft, *, if_missing: bool) -> AbstractContextManager[Begun]:
        """Write a new key that opens nothing yet; the attempt lasts as long as the block. With `if_missing`, begin
        nothing where a key has the name. A key that could not be begun for certain is discarded."""

    def begin_rotation(self, key_id: str, plan: RotationPlan) -> AbstractContextManager[Begun]:
        """Write a successor that opens nothing yet; else as `begin_create`. Begins nothing where the key is not due."""

    def begin_delivering(
        self, begun: Begun, destinations: Sequence[str], *, limit: float, held: Sequence[Held] = ()
    ) -> None:
        """Let the key open, since `destinations` are about to hold it. The delivery takes `limit` seconds at most.
        Raises as `last_copy.refuse` does for what they hold now."""

    def hand_over_name(
        self, begun: Begun, *, at: datetime, retirement: Retirement, delivered_to: Sequence[str]
    ) -> None:
        """Make the key current, as `rotation.hand_over_name` does."""

    def standing(self, key_id: str) -> Standing:
        """How the key stands now."""

    def discard(self, key_id: str, *, reason: str) -> bool:
        """Give the key up, as `lifecycle.discard` does."""

    def take_back(self, key_id: str, *, destinations: str | None, reason: str) -> Key:
        """Undo the handover of the name, as `rotation.take_back` does. Returns the new key as it then is."""


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

    def held(self) -> Sequence[Held]:
        """The raw key that each destination held when the delivery was prepared, of those that can tell."""

    def hand_over(self) -> None:
        """Give the raw key to each destination. Raises `KeyctlError` unless every destination has it for certain."""

    def put_back(self) -> bool:
        """Give each destination what it held before. Returns False where one may still hold the new key."""


# Shows the raw key beside what will be true once the key is active. Returns the names of where it was shown, or raises.
Show = Callable[[Created, RawKey], Sequence[str]]
ShowSuccessor = Callable[[Rotated, RawKey], Sequence[str]]
# Tries the successor out; raises `KeyctlError` when it does not do.
Trial = Callable[[Key, RawKey], None]


@interrupts.held()
def create(steps: Steps, draft: Draft, destinations: Destinations, show: Show, *, if_missing: bool) -> Created:
    """Create a key, hand it to `destinations` and `show` it.

    `show` gets the key as it will be, active; that comes true only when this function returns. With `if_missing` an
    existing key of the name is returned and nothing is delivered. A key of the name whose delivery died half-way is
    replaced, and retires. Raises `KeyctlError`; the new key then opens nothing.
    """
    shown: list[str] = []
    with creating(steps, draft, destinations, shown, if_missing=if_missing) as created:
        if created.raw is not None:
            with interrupts.let_in():
                shown += show(created, created.raw)
    return created._replace(delivered_to=(*created.delivered_to, *shown))


@contextmanager
def creating(
    steps: Steps, draft: Draft, destinations: Destinations, shown: Sequence[str], *, if_missing: bool
) -> Iterator[Created]:
    """The same around a block, which gets the key as it will be once the block has ended well.

    What the block has added to `shown` by then, the names of where it left the raw key, goes on record. Where the block
    raises, the key is discarded.
    """
    with steps.begin_create(draft, if_missing=if_missing) as begun:
        if begun.raw is None:
            yield Created(begun.key, None)
            return
        with _undone_on_failure(steps, begun, destinations):
            _hand_over(steps, begun, begun.raw, destinations)
            at = utc_now()
            yield Created(_promised(begun.key, at), begun.raw, tuple(destinations.names))
            begun.attempt.prove()
            delivered_to = [*destinations.names, *shown]
            steps.hand_over_name(begun, at=at, retirement=Retirement(GRACE), delivered_to=delivered_to)


@interrupts.held()
def rotate(
    steps: Steps,
    key_id: str,
    plan: RotationPlan,
    destinations: Destinations,
    show: ShowSuccessor,
    *,
    trial: Trial | None = None,
) -> Rotated:
    """Give a key a successor, hand the successor to `destinations`, `show` it, and only then let the old key retire.

    `trial` is called with the successor once the successor is current; when it raises, the rotation is taken back.
    Whatever fails before the end leaves the old key as it was. Raises `KeyctlError`: lost_race when another rotation
    of the same key was first, wrong_state for a key that cannot be rotated, and whatever a destination raises.
    """
    shown: list[str] = []
    with rotating(steps, key_id, plan, destinations, shown, trial=trial) as rotated:
        if rotated.raw is not None:
            with interrupts.let_in():
                shown += show(rotated, rotated.raw)
    return rotated._replace(delivered_to=(*rotated.delivered_to, *shown))


@contextmanager
def rotating(
    steps: Steps,
    key_id: str,
    plan: RotationPlan,
    destinations: Destinations,
    shown: Sequence[str],
    *,
    trial: Trial | None = None,
) -> Iterator[Rotated]:
    """The same around a block, which gets both keys as they will be once the block has ended well. `shown` is as in
    `creating`."""
    with steps.begin_rotation(key_id, plan) as begun:
        if begun.raw is None or begun.previous is None:
            yield Rotated(begun.key, None, None)
            return
        with _undone_on_failure(steps, begun, destinations):
            _hand_over(steps, begun, begun.raw, destinations)
            at = utc_now()
            new, old = _promised(begun.key, at), _retiring(begun.previous, at, plan.retirement)
            yield Rotated(new, old, begun.raw, tuple(destinations.names), plan.retirement.grace_after_use)
            begun.attempt.prove()
            delivered_to = [*destinations.names, *shown]
            steps.hand_over_name(begun, at=at, retirement=plan.retirement, delivered_to=delivered_to)
        if trial is not None:
            with _taken_back_on_failure(steps, begun.key.id, destinations):
                trial(new, begun.raw)


def refuse_forbidden(connection: Connection, keys: Sequence[Key], plan: RotationPlan, *, now: datetime) -> None:
    """Raise `KeyctlError` (policy_violation) with every key whose rotation at `now` the stored policy forbids."""
    policy = stored_policy.read(connection)
    if plan.override is None:
        broken = (
            (
                f"key '{key.name}' ({key.id})",
                stored_policy.breaches(policy, key._asdict() | {"expires_at": plan.expiry(key, now)}, created_at=now),
            )
            for key in keys
        )
        stored_policy.refuse(broken, expiry="--expires", now=now)


def _promised(pending: Key, at: datetime) -> Key:
    """The new key as it will be once it is current since `at`."""
    return pending._replace(status=Status.ACTIVE, activated_at=at)


def _retiring(old: Key, at: datetime, retirement: Retirement) -> Key:
    """The old key as it will be once the handover of the name at `at` is done."""
    retiring = old._replace(status=Status.RETIRING, retires_at=retirement.ends(at))
    status, _until = retiring.status_at(at.timestamp())
    return retiring._replace(status=status)


def _hand_over(steps: Steps, begun: Begun, raw: RawKey, destinations: Destinations) -> None:
    if not destinations.names:
        return
    destinations.stage(begun.key, raw, begun.replaced, begun.attempt)
    steps.begin_delivering(begun, destinations.names, limit=destinations.limit, held=destinations.held())
    # A destination that was handed the key after another attempt had taken over would hold the older key in the end.
    begun.attempt.prove()
    destinations.hand_over()


@contextmanager
def _undone_on_failure(steps: Steps, begun: Begun, destinations: Destinations) -> Iterator[None]:
    """When the block fails, give the destinations back what they held and discard the key, unless the key became
    current: then the failure is swallowed.

    A connection can break, or Ctrl-C arrive, after the server has committed and before this process hears of it. So
    the database is asked what is true: a key that is current was delivered and is on record, and the job is done.
    """
    try:
        yield
    except BaseException as failure:
        try:
            done = _settle(steps, begun.key.id, destinations, failure)
        except (KeyctlError, KeyboardInterrupt):
            # The key is pending and opens nothing, or it is active: this process cannot know which.
            failure.add_note(f"Key {begun.key.id} could not be discarded; the next command looks after it.")
            raise failure from None
        if not done:
            raise


def _settle(steps: Steps, key_id: str, destinations: Destinations, failure: BaseException) -> bool:
    """Undo what was done for the key, and return False; return True, and undo nothing, where the key is current."""
    key, overtaken = steps.standing(key_id)
    if key is not None and key.is_current and not key.is_unfinished:
        return True
    if key is not None and overtaken:
        # That run has filled the destinations, or is filling them: what this one gave back would undo it.
        failure.add_note(f"Another run took over and fills the destinations. {_how_it_ends(key)}")
        return False
    # Not before the look: had the key become current, the destinations would have to keep it.
    _give_up(steps, key, destinations, failure, reason=lifecycle.DELIVERY_FAILED)
    return False


def _how_it_ends(key: Key) -> str:
    if key.is_unfinished:
        return f"Key {key.id}, which a destination may hold, opens until that run is done and its grace is over."
    if key.opens and key.ends_at is not None:
        return f"Key {key.id}, which a destination may hold, opens until {rfc3339(key.ends_at)}."
    return f"Key {key.id} opens nothing any more."


def _give_up(steps: Steps, key: Key | None, destinations: Destinations, failure: BaseException, *, reason: str) -> None:
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
    if steps.discard(key.id, reason=reason):
        failure.add_note(_UNDONE[reason])


@contextmanager
def _taken_back_on_failure(steps: Steps, key_id: str, destinations: Destinations) -> Iterator[None]:
    """When the block fails, undo the handover of the name to the key, then the delivery, then discard the key.

    In this order the new key goes on opening until each destination has the old key back, which opens again.
    """
    try:
        yield
    except BaseException as failure:
        try:
            held = ", ".join(destinations.names) or None
            key = steps.take_back(key_id, destinations=held, reason=rotation.TRIAL_FAILED)
            _give_up(steps, key, destinations, failure, reason=rotation.TRIAL_FAILED)
        except (KeyctlError, KeyboardInterrupt) as trouble:
            why = f": {trouble.message}" if isinstance(trouble, KeyctlError) else ""
            failure.add_note(f"The rotation could not be taken back{why}; look at key {key_id}.")
        raise
