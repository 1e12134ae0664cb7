"""Issuing a key: written pending, delivered, and only then usable (promises 2, 3 and 4).

The one path that `create` and `rotate` take. It owns its transactions, since the delivery stands between
two of them.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import NamedTuple

from alphalens_keyctl import keyformat, lifecycle, selection
from alphalens_keyctl.database import Database
from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.keyformat import RawKey
from alphalens_keyctl.models import Key, Status
from alphalens_keyctl.moments import utc_now
from alphalens_keyctl.provenance import Act


class Created(NamedTuple):
    """A key as it is once it is active; `raw` is None where a key of that name was there already."""

    key: Key
    raw: RawKey | None


class Rotated(NamedTuple):
    """The current key and its predecessor; the last two are None where there was nothing to do."""

    key: Key
    previous: Key | None
    raw: RawKey | None


class RotationPlan(NamedTuple):
    """How to rotate.

    `expires_at` is what the successor gets, unless `same_lifetime`: then it lives as long as the old key was
    meant to. `due` says whether a key needs rotating at all. `asked_at` is when the caller began: a key that
    became current after that is the work of another rotation.
    """

    asked_at: datetime
    grace: timedelta
    expires_at: datetime | None = None
    same_lifetime: bool = True
    due: Callable[[Key], bool] = lambda _key: True


# Given what will be true once the key is active, and the raw key; returns where it went, or raises.
Deliver = Callable[[Created, RawKey], Sequence[str]]
DeliverSuccessor = Callable[[Rotated, RawKey], Sequence[str]]


def create(
    database: Database, draft: lifecycle.Draft, act: Act, deliver: Deliver, *, prefix: str, if_missing: bool
) -> Created:
    """Create a key and hand it to `deliver`, which returns where it went or raises.

    What `deliver` gets is the key as it will be, `active`; that comes true only when this function returns.
    With `if_missing` an existing key of the name is returned and nothing is delivered. Raises `KeyctlError`.
    """
    raw = keyformat.generate(prefix)
    with database.attempts.hold(raw.id) as lease, _discarded_on_failure(database, raw.id, act):
        with database.writing() as tx:
            act = act.now()
            lifecycle.discard_abandoned(tx, database.attempts, act)
            if if_missing and (existing := selection.current(tx, draft.name, now=act.at)) is not None:
                _refuse_unfinished(existing)
                return Created(existing, None)
            pending = lifecycle.create_pending(tx, draft, raw, act, lease=lease)
        at = utc_now()
        promised = Created(pending._replace(status=Status.ACTIVE, activated_at=at), raw)
        delivered_to = deliver(promised, raw)
        with database.writing() as tx:
            lifecycle.activate(tx, raw.id, act.now(), at=at, delivered_to=delivered_to)
    return promised


def rotate(
    database: Database, key_id: str, plan: RotationPlan, act: Act, deliver: DeliverSuccessor, *, prefix: str
) -> Rotated:
    """Give a key a successor, hand it to `deliver`, and only then let the old key retire.

    Whatever fails before the end leaves the old key as it was. Raises `KeyctlError` (lost_race) when another
    rotation of the same key was first.
    """
    raw = keyformat.generate(prefix)
    with database.attempts.hold(raw.id) as lease, _discarded_on_failure(database, raw.id, act):
        with database.writing() as tx:
            act = act.now()
            lifecycle.discard_abandoned(tx, database.attempts, act)
            old = lifecycle.rotatable(tx, key_id, act)
            _refuse_if_just_rotated(old, plan.asked_at)
            if not plan.due(old):
                return Rotated(old, None, None)
            expires_at = _expiry(old, plan, act.at)
            pending = lifecycle.succeed_pending(tx, old, raw, expires_at, act, lease=lease)
        at = utc_now()
        new = pending._replace(status=Status.ACTIVE, activated_at=at)
        promised = Rotated(new, _retiring(old, raw.id, at, plan.grace), raw)
        delivered_to = deliver(promised, raw)
        with database.writing() as tx:
            now = act.now()
            lifecycle.switch(tx, raw.id, now, at=at, grace=plan.grace, delivered_to=delivered_to)
    return promised


@contextmanager
def _discarded_on_failure(database: Database, key_id: str, act: Act) -> Iterator[None]:
    """Discard the pending key when the block fails, and never say "failed" of a key that became usable.

    A connection can break, or Ctrl-C arrive, after the server has committed and before we hear of it. The
    database is asked what is true: a key that is active was delivered and is on record, so the job is done.
    """
    try:
        yield
    except BaseException as failure:
        try:
            usable = _settle(database, key_id, act)
        except (KeyctlError, KeyboardInterrupt):
            # It stays pending and opens nothing; or it was activated and nobody here can know. Say so.
            failure.add_note(f"key {key_id} could not be discarded; the next command looks after it")
            raise failure from None
        if not usable:
            if isinstance(failure, KeyboardInterrupt):
                failure.add_note("The new key was not activated and opens nothing; all else is as it was.")
            raise


def _settle(database: Database, key_id: str, act: Act) -> bool:
    """Discard the key if it is still pending; whether it is usable."""
    now = utc_now()
    with database.reading() as connection:
        key = selection.get(connection, key_id, now=now)
    if key is not None and key.status == Status.PENDING:
        with database.writing() as tx:
            lifecycle.discard(tx, key_id, act._replace(at=now), reason=lifecycle.DELIVERY_FAILED)
            key = selection.get(tx, key_id, now=now)
    return key is not None and key.activated_at is not None and key.revoked_at is None


def _expiry(old: Key, plan: RotationPlan, now: datetime) -> datetime | None:
    if not plan.same_lifetime:
        return plan.expires_at
    if old.expires_at is None:
        return None
    return now + (old.expires_at - (old.activated_at or old.created_at))


def _retiring(old: Key, successor: str, at: datetime, grace: timedelta) -> Key:
    retires_at = at + grace
    over = retires_at <= at or old.status == Status.EXPIRED
    status = Status.RETIRED if over else Status.RETIRING
    return old._replace(status=status, retires_at=retires_at, replaced_by=successor)


def _refuse_if_just_rotated(key: Key, asked_at: datetime) -> None:
    """Of rotations at once only one may win, also when a name already means the winner's new key."""
    if key.replaces is not None and key.activated_at is not None and key.activated_at > asked_at:
        raise KeyctlError(
            Code.LOST_RACE,
            f"another rotation finished first; the current key is {key.id}",
            "Run the command again if another rotation is what you want.",
        )


def _refuse_unfinished(key: Key) -> None:
    if key.status == Status.PENDING:
        raise lifecycle.name_taken(key)
