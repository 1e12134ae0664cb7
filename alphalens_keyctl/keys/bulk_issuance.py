"""Taking a fleet in: many keys created in one piece, all or none.

As in `issuance`, the delivery stands between two transactions, which `take_in` owns. A lock that dies with the process
cannot be held for each of thousands of keys; a lease takes the place of the locks and is renewed while commands run.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Final, NamedTuple, Protocol

from sqlalchemy import Connection, select, text

from alphalens_keyctl import interrupts, keyformat
from alphalens_keyctl.database import Database, Writing
from alphalens_keyctl.errors import KeyctlError
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


class _Everything:
    def drafted(self, draft: Draft) -> Draft:
        return draft

    def require_replacing(self, keys: Sequence[Key]) -> None:
        return None

    def told(self, error: KeyctlError, name: str) -> KeyctlError:
        return error


# A transaction and its instant → what its caller may do in it.
Permits = Callable[[Connection, datetime], Permit]


def everything(_connection: Connection, _now: datetime) -> Permit:
    """The `Permits` of a caller who may do everything."""
    return _Everything()


class Handout(NamedTuple):
    """How the raw keys leave: `show` gets all of them at once and returns where it wrote them; `pipe` gets one at a
    time, takes `limit` seconds at most and leaves it at `destinations`. One of the two is None."""

    show: Callable[[Sequence[Created]], Sequence[str]] | None = None
    pipe: Callable[[Key, RawKey], None] | None = None
    destinations: tuple[str, ...] = ()
    limit: float = 0.0


@interrupts.held()
def take_in(
    database: Database,
    lines: Sequence[Line],
    act: Act,
    handout: Handout,
    *,
    prefix: str,
    permits: Permits = everything,
    tell: Callable[[int], None] = lambda _done: None,
) -> list[Created]:
    """Create a key for each line and hand the raw keys out; when one delivery fails, no new key opens anything.

    An older key of one of the names whose delivery died half-way is replaced, and retires. `tell` is called with the
    number of raw keys that have left. Raises `KeyctlError`: forbidden, policy_violation and name_taken, with the line,
    before anything is written; forbidden where the caller lost the right meanwhile; and whatever `handout` raises.
    """
    raws = [keyformat.generate(prefix) for _ in lines]
    lease = _LEASE + len(lines) * _LEASE_PER_KEY + handout.limit
    try:
        with database.writing() as tx:
            act = act.now()
            permit = permits(tx, act.at)
            lines = _permitted(permit, lines)
            lifecycle.discard_abandoned(tx, database.attempts, act)
            broken = _refuse_forbidden(tx, lines, act)
            replaced = _refuse_taken(tx, database, permit, lines, act)
            new = [
                Pending(line.draft, raw, replaced.get(fold(line.draft.name)), tuple(found))
                for line, raw, found in zip(lines, raws, broken, strict=True)
            ]
            _write_pending(tx, new, act, lease=lease, destinations=handout.destinations)
        pending = _read(database, raws)
        at = utc_now()
        promised = [
            Created(key._replace(status=Status.ACTIVE, activated_at=at, delivering_to=None), raw, handout.destinations)
            for key, raw in zip(pending, raws, strict=True)
        ]
        delivered_to = _hand_out(database, promised, handout, tell, lease=lease)
        with database.writing() as tx:
            act = act.now()
            # Asked again: the caller's own key may have been revoked while commands ran.
            _activate(tx, permits(tx, act.at), pending, act, at=at, delivered_to=delivered_to)
    except BaseException as failure:
        if not _settle(database, raws, act, failure):
            raise
    return [created._replace(delivered_to=tuple(delivered_to)) for created in promised]


def refuse(database: Database, lines: Sequence[Line], act: Act, *, permits: Permits = everything) -> None:
    """Raise `KeyctlError` where `take_in` would before it writes anything: forbidden for the first line that the caller
    may not create, policy_violation with every line that breaks the stored policy, name_taken for the first line whose
    name is not free."""
    with database.reading() as connection:
        permit = permits(connection, act.at)
        lines = _permitted(permit, lines)
        _refuse_forbidden(connection, lines, act)
        _refuse_taken(Writing(connection), database, permit, lines, act)


def _permitted(permit: Permit, lines: Sequence[Line]) -> list[Line]:
    """The lines as the caller may create them. Raises `KeyctlError` (forbidden), with the line."""
    found = []
    for line in lines:
        try:
            found.append(line._replace(draft=permit.drafted(line.draft)))
        except KeyctlError as error:
            raise _in_line(line.number, error) from None
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
    tx: Writing, database: Database, permit: Permit, lines: Sequence[Line], act: Act
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
                left = rotation.left_behind(tx, database.attempts, holder, act)
                if not left:
                    raise lifecycle.name_taken(holder)
            except KeyctlError as error:
                raise _in_line(numbers[folded_name], permit.told(error, holder.name)) from None
            replaced[folded_name] = left[-1].id
    # The new keys let these retire, those that they replace among them.
    permit.require_replacing(rotation.strays(tx, folded, (), act.at))
    for line in lines:
        try:
            lifecycle.require_no_id_start(tx, line.draft.name)
        except KeyctlError as error:
            raise _in_line(line.number, permit.told(error, line.draft.name)) from None
    return replaced


def _in_line(number: int, error: KeyctlError) -> KeyctlError:
    return KeyctlError(error.code, f"line {number}: {error.message}", f"{error.hint} Nothing was written.")


def _write_pending(tx: Writing, new: Sequence[Pending], act: Act, *, lease: float, destinations: Sequence[str]) -> None:
    lifecycle.write_pending_each(tx, new, act)
    # What a destination may hold before the last delivery is done has to open.
    marks = {"lease_until": lifecycle.lease_end(tx, lease), "delivering_to": ", ".join(destinations) or None}
    lifecycle.change_each(tx, [each.raw.id for each in new], **marks)
    if destinations:
        said = {"to": list(destinations)}
        audit.append_each(tx, act, Action.DELIVER, [(each.raw.id, each.draft.name, said) for each in new])


def _hand_out(
    database: Database, promised: Sequence[Created], handout: Handout, tell: Callable[[int], None], *, lease: float
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
            with suppress(KeyctlError), database.writing() as tx:
                ids = [each.key.id for each in promised]
                lifecycle.change_each(tx, ids, lease_until=lifecycle.lease_end(tx, lease))
                renewed = time.monotonic()
    return list(handout.destinations)


def _activate(
    tx: Writing, permit: Permit, pending: Sequence[Key], act: Act, *, at: datetime, delivered_to: Sequence[str]
) -> None:
    found = selection.some(tx, [key.id for key in pending], now=act.at)
    permit.require_replacing(found)
    for key in found:
        lifecycle.refuse_changed(key)
        if key.replaces is not None:
            end = rotation.Retirement(GRACE)
            rotation.hand_over_name(tx, key.id, act, at=at, retirement=end, delivered_to=list(delivered_to))
    new = [key for key in pending if key.replaces is None]
    rotation.retire_strays(tx, new, act, at=at, retires_at=rotation.Retirement(GRACE).ends(at))
    lifecycle.change_each(tx, [key.id for key in new], activated_at=at, delivering_to=None, lease_until=None)
    detail = {"delivered_to": list(delivered_to)}
    audit.append_each(tx, act, Action.ACTIVATE, [(key.id, key.name, detail) for key in new])


def _settle(database: Database, raws: Sequence[RawKey], act: Act, failure: BaseException) -> bool:
    """Discard the new keys, and return False; return True, and discard nothing, where all of them are current."""
    now = act._replace(at=utc_now())
    try:
        with database.writing() as tx:
            found = selection.some(tx, [raw.id for raw in raws], now=now.at)
            unfinished = [key for key in found if key.is_unfinished]
            # Another run that took this one for dead may have replaced the keys, and has the names.
            if found and not unfinished and all(key.is_current for key in found):
                return True
            lifecycle.discard_each(tx, unfinished, now, reason=lifecycle.DELIVERY_FAILED)
        if unfinished:
            failure.add_note("None of the new keys was activated; they open nothing, and their names are free.")
    except (KeyctlError, KeyboardInterrupt):
        failure.add_note("The new keys could not be discarded; the next command looks after them.")
    return False


def _read(database: Database, raws: Sequence[RawKey]) -> list[Key]:
    with database.reading() as connection:
        return selection.some(connection, [raw.id for raw in raws], now=utc_now())
