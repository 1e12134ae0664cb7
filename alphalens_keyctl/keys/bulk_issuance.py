"""Taking a fleet in: many keys created in one piece, all or none.

As in `issuance`, the delivery stands between two steps, and each of the `BulkSteps` is a transaction of its own, here
or on a server. A lock that dies with the process cannot be held for each of thousands of keys; a lease takes the place
of the locks and is renewed while commands run.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from enum import StrEnum
from typing import Final, NamedTuple, Protocol

from sqlalchemy import Connection, select, text

from alphalens_keyctl import interrupts
from alphalens_keyctl.database import Attempts, Writing
from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.keyformat import RawKey
from alphalens_keyctl.keys import lifecycle, rotation, selection, stored_policy
from alphalens_keyctl.keys.bulk_file import Line
from alphalens_keyctl.keys.issuance import GRACE, Created
from alphalens_keyctl.keys.lifecycle import Draft, Pending
from alphalens_keyctl.keys.stored_policy import Breach
from alphalens_keyctl.logs import audit
from alphalens_keyctl.models import CURRENT_SQL, Action, Key, Status, key_table
from alphalens_keyctl.moments import utc_now
from alphalens_keyctl.provenance import Act
from alphalens_keyctl.text import fold

_AT_ONCE: Final = 1000
# Seconds after which an unfinished attempt counts as dead: a minute, and the time that writing out each key may take.
_LEASE: Final = 60.0
_LEASE_PER_KEY: Final = 0.01
# Seconds after which a lease is renewed. One lease long enough for all commands would, when this process is killed,
# keep the names taken for a day.
_RENEWAL: Final = 20.0


class Permit(Protocol):
    """What whoever takes keys in may do in one transaction."""

    def drafted(self, draft: Draft) -> Draft:
        """The draft as this caller may create it. Raises `KeyctlError` (forbidden)."""

    def require_replacing(self, keys: Sequence[Key]) -> None:
        """Raise `KeyctlError` (forbidden) unless the caller may let other keys follow these."""

    def told(self, error: KeyctlError, name: str) -> KeyctlError:
        """The error for a line with this name, as the caller may hear it."""


class Handout(NamedTuple):
    """How the raw keys leave: `show` gets all of them at once and returns where it wrote them; `pipe` gets one at a
    time, takes `limit` seconds at most and leaves it at `destinations`. One of the two is None."""

    show: Callable[[Sequence[Created]], Sequence[str]] | None = None
    pipe: Callable[[Key, RawKey], None] | None = None
    destinations: tuple[str, ...] = ()
    limit: float = 0.0


# A key that was begun, pending or delivering, and its raw key.
Begun = tuple[Key, RawKey]


class Settled(StrEnum):
    """What became of keys that were begun and may have become current."""

    CURRENT = "current"
    DISCARDED = "discarded"
    NOTHING = "nothing"


class BulkSteps(Protocol):
    """The steps of taking a fleet in. Each raises `KeyctlError`."""

    def begin(self, lines: Sequence[Line], destinations: Sequence[str], *, lease: float) -> Iterator[Sequence[Begun]]:
        """Write a key for each line, some at a time, with a lease of so many seconds; they open nothing yet, unless
        `destinations` are about to hold them. Keys that could not be begun for certain are discarded."""

    def renew(self, key_ids: Sequence[str], *, lease: float) -> None:
        """Let the lease end in so many seconds from now."""

    def activate(self, key_ids: Sequence[str], *, at: datetime, delivered_to: Sequence[str]) -> None:
        """Make all of the keys current, or none."""

    def settle(self, key_ids: Sequence[str]) -> Settled:
        """Discard the keys, but for the case that all of them are current."""


@interrupts.held()
def take_in(
    steps: BulkSteps, lines: Sequence[Line], handout: Handout, *, tell: Callable[[int], None] = lambda _done: None
) -> list[Created]:
    """Create a key for each line and hand the raw keys out; when one delivery fails, no new key opens anything.

    An older key of one of the names whose delivery died half-way is replaced, and retires. `tell` is called with the
    number of raw keys that have left. Raises `KeyctlError`: as `begin` does, before any raw key leaves; forbidden where
    the caller lost the right meanwhile; and whatever `handout` raises.
    """
    lease = _LEASE + len(lines) * _LEASE_PER_KEY + handout.limit
    begun: list[Begun] = []
    promised: list[Created] = []
    delivered_to: list[str] = []
    try:
        for some in steps.begin(lines, handout.destinations, lease=lease):
            begun += some
        at = utc_now()
        promised = [
            Created(key._replace(status=Status.ACTIVE, activated_at=at, delivering_to=None), raw, handout.destinations)
            for key, raw in begun
        ]
        delivered_to = _hand_out(steps, promised, handout, tell, lease=lease)
        steps.activate([key.id for key, _ in begun], at=at, delivered_to=delivered_to)
    except BaseException as failure:
        if not settled(steps, [key.id for key, _ in begun], failure):
            raise
    return [created._replace(delivered_to=tuple(delivered_to)) for created in promised]


def settled(steps: BulkSteps, key_ids: Sequence[str], failure: BaseException) -> bool:
    """Return True where all of the keys are current all the same; else discard them, tell the failure what became of
    them, and return False."""
    try:
        found = steps.settle(key_ids) if key_ids else Settled.NOTHING
    except (KeyctlError, KeyboardInterrupt):
        failure.add_note("The new keys could not be discarded; the next command looks after them.")
        return False
    if found is Settled.DISCARDED:
        failure.add_note("None of the new keys was activated; they open nothing, and their names are free.")
    return found is Settled.CURRENT


def begin(
    tx: Writing,
    attempts: Attempts,
    permit: Permit,
    lines: Sequence[Line],
    raws: Sequence[RawKey],
    act: Act,
    *,
    destinations: Sequence[str],
    lease: float,
) -> list[Key]:
    """Write a key for each line, with these raw keys. Raises as `refuse` does, before anything is written."""
    lines = _permitted(permit, lines)
    lifecycle.discard_abandoned(tx, attempts, act)
    broken = _refuse_forbidden(tx, lines, act)
    replaced = _refuse_taken(tx, attempts, permit, lines, act)
    new = [
        Pending(line.draft, raw, replaced.get(fold(line.draft.name)), tuple(found))
        for line, raw, found in zip(lines, raws, broken, strict=True)
    ]
    _write_pending(tx, new, act, lease=lease, destinations=destinations)
    return selection.some(tx, [raw.id for raw in raws], now=act.at)


def refuse(connection: Connection, attempts: Attempts, permit: Permit, lines: Sequence[Line], act: Act) -> None:
    """Raise `KeyctlError` where `begin` would: forbidden for the first line that the caller may not create,
    policy_violation with every line that breaks the stored policy, name_taken for the first line whose name is not
    free."""
    lines = _permitted(permit, lines)
    _refuse_forbidden(connection, lines, act)
    _refuse_taken(Writing(connection), attempts, permit, lines, act)


def renew(tx: Writing, permit: Permit, key_ids: Sequence[str], act: Act, *, lease: float) -> None:
    """Let the lease of keys that were begun end in so many seconds. Raises `KeyctlError` (conflict) where one of them
    is unfinished no more, forbidden where the caller may not finish them."""
    _unfinished(tx, permit, key_ids, act)
    lifecycle.change_each(tx, key_ids, lease_until=lifecycle.lease_end(tx, lease))


def activate(
    tx: Writing, permit: Permit, key_ids: Sequence[str], act: Act, *, at: datetime, delivered_to: Sequence[str]
) -> None:
    """Make the keys current. Raises as `renew` does."""
    found = _unfinished(tx, permit, key_ids, act)
    for key in found:
        if key.replaces is not None:
            end = rotation.Retirement(GRACE)
            rotation.hand_over_name(tx, key.id, act, at=at, retirement=end, delivered_to=list(delivered_to))
    new = [key for key in found if key.replaces is None]
    rotation.retire_strays(tx, new, act, at=at, retires_at=rotation.Retirement(GRACE).ends(at))
    lifecycle.change_each(tx, [key.id for key in new], activated_at=at, delivering_to=None, lease_until=None)
    detail = {"delivered_to": list(delivered_to)}
    audit.append_each(tx, act, Action.ACTIVATE, [(key.id, key.name, detail) for key in new])


def settle(tx: Writing, permit: Permit | None, key_ids: Sequence[str], act: Act) -> Settled:
    """Discard the keys that are unfinished; where all of the keys are current, leave them. Raises `KeyctlError`
    (forbidden) where the caller may not finish them; `permit` is None for who began them."""
    found = selection.some(tx, key_ids, now=act.at)
    if permit is not None:
        permit.require_replacing(found)
    unfinished = [key for key in found if key.is_unfinished]
    # Another run that took this one for dead may have replaced the keys, and has the names.
    if found and not unfinished and all(key.is_current for key in found):
        return Settled.CURRENT
    lifecycle.discard_each(tx, unfinished, act, reason=lifecycle.DELIVERY_FAILED)
    return Settled.DISCARDED if unfinished else Settled.NOTHING


def in_line(number: int, error: KeyctlError) -> KeyctlError:
    """The error of a line, with its number."""
    return KeyctlError(error.code, f"line {number}: {error.message}", f"{error.hint} Nothing was written.")


def _unfinished(tx: Writing, permit: Permit, key_ids: Sequence[str], act: Act) -> list[Key]:
    found = selection.some(tx, key_ids, now=act.at)
    if len(found) != len(key_ids):
        raise KeyctlError(Code.KEY_NOT_FOUND, "one of the keys is none", "Begin anew.")
    permit.require_replacing(found)
    for key in found:
        lifecycle.refuse_changed(key)
    return found


def _permitted(permit: Permit, lines: Sequence[Line]) -> list[Line]:
    """The lines as the caller may create them. Raises `KeyctlError` (forbidden), with the line."""
    found = []
    for line in lines:
        try:
            found.append(line._replace(draft=permit.drafted(line.draft)))
        except KeyctlError as error:
            raise in_line(line.number, error) from None
    return found


def _refuse_forbidden(connection: Connection, lines: Sequence[Line], act: Act) -> list[list[Breach]]:
    """How each line breaks the stored policy. Raises `KeyctlError` (policy_violation) where one does, and does not
    override it."""
    policy = stored_policy.read(connection)
    broken = [stored_policy.breaches(policy, line.draft._asdict(), created_at=act.at) for line in lines]
    judged = [
        (f"line {line.number}: '{line.draft.name}'", found)
        for line, found in zip(lines, broken, strict=True)
        if line.draft.override is None
    ]
    stored_policy.refuse(judged, expiry="expires", now=act.at)
    return broken


def _refuse_taken(
    tx: Writing, attempts: Attempts, permit: Permit, lines: Sequence[Line], act: Act
) -> Mapping[str, str]:
    """Raise `KeyctlError` for the first line whose name is not free: name_taken, or forbidden where a delivery died
    that the caller may not replace.

    Returns, by folded name, the id of the key that the new one replaces, where deliveries that died hold the name.
    """
    replaced: dict[str, str] = {}
    numbers = {fold(line.draft.name): line.number for line in lines}
    folded = list(numbers)
    for start in range(0, len(folded), _AT_ONCE):
        some = key_table.c.name_folded.in_(folded[start : start + _AT_ONCE])
        taken = tx.execute(select(key_table.c.name_folded, key_table.c.id).where(some, text(CURRENT_SQL))).all()
        for folded_name, key_id in sorted(taken, key=lambda row: numbers[row[0]]):
            holder = lifecycle.require(tx, key_id, act.at)
            try:
                left = rotation.left_behind(tx, attempts, holder, act)
                if not left:
                    raise lifecycle.name_taken(holder)
            except KeyctlError as error:
                raise in_line(numbers[folded_name], permit.told(error, holder.name)) from None
            replaced[folded_name] = left[-1].id
    # The new keys let these retire, those that they replace among them.
    permit.require_replacing(rotation.strays(tx, folded, (), act.at))
    for line in lines:
        try:
            lifecycle.require_no_id_start(tx, line.draft.name)
        except KeyctlError as error:
            raise in_line(line.number, permit.told(error, line.draft.name)) from None
    return replaced


def _write_pending(tx: Writing, new: Sequence[Pending], act: Act, *, lease: float, destinations: Sequence[str]) -> None:
    lifecycle.write_pending_each(tx, new, act)
    # What a destination may hold before the last delivery is done has to open.
    marks = {"lease_until": lifecycle.lease_end(tx, lease), "delivering_to": ", ".join(destinations) or None}
    lifecycle.change_each(tx, [each.raw.id for each in new], **marks)
    if destinations:
        said = {"to": list(destinations)}
        audit.append_each(tx, act, Action.DELIVER, [(each.raw.id, each.draft.name, said) for each in new])


def _hand_out(
    steps: BulkSteps, promised: Sequence[Created], handout: Handout, tell: Callable[[int], None], *, lease: float
) -> list[str]:
    renewed = time.monotonic()
    if handout.show is not None:
        with interrupts.let_in():
            return list(handout.show(promised))
    for number, created in enumerate(promised, 1):
        if handout.pipe is not None and created.raw is not None:
            handout.pipe(created.key, created.raw)
        tell(number)
        if time.monotonic() - renewed > _RENEWAL:
            # Where another writer is busy, the lease is renewed after the next command.
            with suppress(KeyctlError):
                steps.renew([each.key.id for each in promised], lease=lease)
                renewed = time.monotonic()
    return list(handout.destinations)
