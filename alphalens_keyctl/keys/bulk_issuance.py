"""Taking a fleet in: many keys created in one piece, all or none.

As in `issuance`, the delivery stands between two transactions, which this owns. What cannot be held for each of
thousands of keys is a lock that dies with the process; a lease stands in for it, renewed while commands run.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Final, NamedTuple

from sqlalchemy import insert, select, text

from alphalens_keyctl import keyformat
from alphalens_keyctl.database import Database, Writing
from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.keyformat import RawKey
from alphalens_keyctl.keys import lifecycle, lookup, rotation, selection
from alphalens_keyctl.keys.bulk_file import Line
from alphalens_keyctl.keys.issuance import GRACE, Created
from alphalens_keyctl.logs import audit
from alphalens_keyctl.models import CURRENT_SQL, Action, Key, Status, key_table
from alphalens_keyctl.moments import rfc3339, utc_now
from alphalens_keyctl.provenance import Act
from alphalens_keyctl.text import fold

_AT_ONCE: Final = 1000
# Seconds until an attempt that is not finished counts as dead: a minute, and what each key may take on its way.
_LEASE: Final = 60.0
_LEASE_PER_KEY: Final = 0.01
# Seconds after which a lease is renewed. To lend it for all commands at once would, when this process is killed,
# keep the names for a day.
_RENEWAL: Final = 20.0


class Handout(NamedTuple):
    """How the raw keys leave. `show` is given all of them at once; `pipe` each by itself, which takes `limit`
    seconds at most and leaves it where `destinations` says. One of the two is None."""

    show: Callable[[Sequence[Created]], Sequence[str]] | None = None
    pipe: Callable[[Key, RawKey], None] | None = None
    destinations: tuple[str, ...] = ()
    limit: float = 0.0


def take_in(
    database: Database,
    lines: Sequence[Line],
    act: Act,
    handout: Handout,
    *,
    prefix: str,
    tell: Callable[[int], None] = lambda _done: None,
) -> list[Created]:
    """Create a key for each line and hand them out; when one fails, none of them opens anything.

    A key of one of the names whose delivery died is replaced, and retires. Raises `KeyctlError`: name_taken,
    with the line, before anything is written.
    """
    raws = [keyformat.generate(prefix) for _ in lines]
    lease = _LEASE + len(lines) * _LEASE_PER_KEY + handout.limit
    try:
        with database.writing() as tx:
            act = act.now()
            lifecycle.discard_abandoned(tx, database.attempts, act)
            left_behind = _refuse_taken(tx, database, lines, act)
            _write_pending(
                tx, lines, raws, act, lease=lease, destinations=handout.destinations, left_behind=left_behind
            )
        pending = _read(database, raws)
        at = utc_now()
        promised = [
            Created(key._replace(status=Status.ACTIVE, activated_at=at, delivering_to=None), raw, handout.destinations)
            for key, raw in zip(pending, raws, strict=True)
        ]
        delivered_to = _hand_out(database, promised, handout, tell, lease=lease)
        with database.writing() as tx:
            _activate(tx, pending, act.now(), at=at, delivered_to=delivered_to)
    except BaseException as failure:
        if not _settle(database, raws, act, failure):
            raise
    return [created._replace(delivered_to=tuple(delivered_to)) for created in promised]


def refuse_taken(database: Database, lines: Sequence[Line], act: Act) -> None:
    """Look whether the names are free, as `take_in` does. Raises `KeyctlError` (name_taken)."""
    with database.reading() as connection:
        _refuse_taken(Writing(connection), database, lines, act)


def _refuse_taken(tx: Writing, database: Database, lines: Sequence[Line], act: Act) -> Mapping[str, str]:
    """Refuse names that are held. Returns those that a delivery that died holds, folded, with the id of its key."""
    left_behind: dict[str, str] = {}
    numbers = {fold(line.draft.name): line.number for line in lines}
    folded = list(numbers)
    for start in range(0, len(folded), _AT_ONCE):
        some = key_table.c.name_folded.in_(folded[start : start + _AT_ONCE])
        taken = tx.execute(select(key_table.c.name_folded, key_table.c.id).where(some, text(CURRENT_SQL))).all()
        for folded_name, key_id in sorted(taken, key=lambda row: numbers[row[0]]):
            holder = lifecycle.require(tx, key_id, act.at)
            end = _left_behind(tx, database, holder, act)
            if end is None:
                error = lifecycle.name_taken(holder)
                said = f"{error.hint} Nothing was written."
                raise KeyctlError(error.code, f"line {numbers[folded_name]}: {error.message}", said)
            left_behind[folded_name] = end
    for line in lines:
        if (other := lookup.begins_id(tx, line.draft.name)) is not None:
            raise KeyctlError(
                Code.NAME_TAKEN,
                f"line {line.number}: '{line.draft.name}' means key {other}, whose id begins so",
                "Choose another name. Nothing was written.",
            )
    return left_behind


def _left_behind(tx: Writing, database: Database, holder: Key, act: Act) -> str | None:
    """The id of the key that the next one of the name replaces, where the holder's delivery died; as in `create`."""
    if not lifecycle.is_unfinished(holder) or holder.suspended_at is not None or holder.status == Status.PENDING:
        return None
    if not lifecycle.has_died(tx, database.attempts, holder):
        return None
    return [holder, *rotation.unfinished_after(tx, database.attempts, holder, act)][-1].id


def _write_pending(
    tx: Writing,
    lines: Sequence[Line],
    raws: Sequence[RawKey],
    act: Act,
    *,
    lease: float,
    destinations: Sequence[str],
    left_behind: Mapping[str, str],
) -> None:
    rows = [
        {
            "id": raw.id, "name": draft.name, "name_folded": fold(draft.name), "owner": draft.owner,
            "purpose": draft.purpose, "labels": dict(draft.labels), "created_at": act.at, "created_by": act.actor,
            "expires_at": draft.expires_at, "use_count": 0, "digest": raw.digest(),
            "digest_scheme": keyformat.DIGEST_SCHEME, "replaces": left_behind.get(fold(draft.name)),
        }
        for (_, draft), raw in zip(lines, raws, strict=True)
    ]  # fmt: skip
    created = [
        (
            raw.id,
            draft.name,
            {
                "owner": draft.owner,
                "purpose": draft.purpose,
                "labels": dict(draft.labels) or None,
                "expires_at": rfc3339(draft.expires_at) if draft.expires_at else None,
                "replaces": left_behind.get(fold(draft.name)),
            },
        )
        for (_, draft), raw in zip(lines, raws, strict=True)
    ]
    for start in range(0, len(rows), _AT_ONCE):
        tx.execute(insert(key_table), rows[start : start + _AT_ONCE])
    # What a destination may hold before all of it is done has to open.
    marks = {"lease_until": lifecycle.lease_end(tx, lease), "delivering_to": ", ".join(destinations) or None}
    lifecycle.change_each(tx, [raw.id for raw in raws], **marks)
    audit.append_each(tx, act, Action.CREATE, created)
    if destinations:
        audit.append_each(tx, act, Action.DELIVER, [(row[0], row[1], {"to": list(destinations)}) for row in created])


def _hand_out(
    database: Database, promised: Sequence[Created], handout: Handout, tell: Callable[[int], None], *, lease: float
) -> list[str]:
    renewed = time.monotonic()
    if handout.show is not None:
        return list(handout.show(promised))
    for number, created in enumerate(promised, 1):
        if handout.pipe is not None and created.raw is not None:
            handout.pipe(created.key, created.raw)
        tell(number)
        if time.monotonic() - renewed > _RENEWAL:
            # Where the writer is busy, after the next command.
            with suppress(KeyctlError), database.writing() as tx:
                ids = [each.key.id for each in promised]
                lifecycle.change_each(tx, ids, lease_until=lifecycle.lease_end(tx, lease))
                renewed = time.monotonic()
    return list(handout.destinations)


def _activate(tx: Writing, pending: Sequence[Key], act: Act, *, at: datetime, delivered_to: Sequence[str]) -> None:
    for key in selection.some(tx, [key.id for key in pending], now=act.at):
        if not lifecycle.is_unfinished(key) or key.suspended_at is not None:
            lifecycle.require_unfinished(tx, key.id, act.at)
        if key.replaces is not None:
            end = rotation.Retirement(GRACE)
            rotation.hand_over_name(tx, key.id, act, at=at, retirement=end, delivered_to=list(delivered_to))
    new = [key for key in pending if key.replaces is None]
    lifecycle.change_each(tx, [key.id for key in new], activated_at=at, delivering_to=None, lease_until=None)
    detail = {"delivered_to": list(delivered_to)}
    audit.append_each(tx, act, Action.ACTIVATE, [(key.id, key.name, detail) for key in new])


def _settle(database: Database, raws: Sequence[RawKey], act: Act, failure: BaseException) -> bool:
    """Discard what was written, unless all of it is done: then True."""
    now = act._replace(at=utc_now())
    try:
        with database.writing() as tx:
            found = selection.some(tx, [raw.id for raw in raws], now=now.at)
            unfinished = [key for key in found if lifecycle.is_unfinished(key)]
            # One that was replaced was taken for dead, and another run has the names.
            if found and not unfinished and all(key.revoked_at is None and not key.replaced_by for key in found):
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
