"""Revocation: revoke, suspend and resume; one key or a million, each with its audit event.

As in `lifecycle`, every function works inside the writing transaction of the caller and never commits.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, NamedTuple, TypeVar

from sqlalchemy import ColumnElement, Select, and_, literal_column, select

from alphalens_keyctl.damage import legible
from alphalens_keyctl.database import Writing
from alphalens_keyctl.keys import lifecycle
from alphalens_keyctl.keys.conditions import one_of, status_at
from alphalens_keyctl.keys.lifecycle import Changed
from alphalens_keyctl.logs import audit, bound_rows
from alphalens_keyctl.models import Action, Status, key_table
from alphalens_keyctl.provenance import Act

_AT_ONCE: Final = 5000
_Item = TypeVar("_Item")


class Revocation(StrEnum):
    """What a command does to keys. Each value is the name of the command."""

    REVOKE = "revoke"
    SUSPEND = "suspend"
    RESUME = "resume"


class _Rule(NamedTuple):
    action: Action
    applies: Callable[[datetime], ColumnElement[bool]]
    values: Callable[[Act, str | None], dict[str, Any]]


_RULES: Final = {
    Revocation.REVOKE: _Rule(
        Action.REVOKE,
        lambda _now: key_table.c.revoked_at.is_(None),
        lambda act, reason: {
            "revoked_at": act.at, "revoked_by": act.actor, "revoke_reason": reason, "lease_until": None
        },
    ),
    # A pending key opens nothing yet, a retired or revoked one nothing any more.
    Revocation.SUSPEND: _Rule(
        Action.SUSPEND,
        lambda now: and_(
            key_table.c.suspended_at.is_(None),
            status_at(now).not_in([Status.PENDING, Status.RETIRED, Status.REVOKED]),
        ),
        lambda act, _reason: {"suspended_at": act.at},
    ),
    Revocation.RESUME: _Rule(
        Action.RESUME,
        lambda _now: and_(key_table.c.suspended_at.is_not(None), key_table.c.revoked_at.is_(None)),
        lambda _act, _reason: {"suspended_at": None},
    ),
}  # fmt: skip


def applies_to(revocation: Revocation, *, now: datetime) -> ColumnElement[bool]:
    """The condition for a key that the revocation would change at `now`."""
    return _RULES[revocation].applies(now)


def apply(
    tx: Writing,
    revocation: Revocation,
    key_ids: Iterable[str],
    act: Act,
    *,
    reason: str | None,
    tell: Callable[[int], None] = lambda _done: None,
) -> Changed:
    """Revoke, suspend or resume the keys with these ids, all of which exist. A key to which that does not apply is left
    as it is: a revoked key keeps the time and the reason of its first revocation.

    `tell` is called with the number of keys that are done: each key is passed twice, and counts half after the first
    time. Raises `KeyctlError` (database_unusable) when the database does not take the change.
    """
    rule = _RULES[revocation]
    values = rule.values(act, reason)
    after = {name: value for name, value in values.items() if name in bound_rows.BOUND}
    # In the order in which a recorder of uses locks keys: two that wait for each other would both be stopped.
    wanted = sorted(set(key_ids))
    done = Changed([], [])
    row_keys: list[int | str] = []
    details: dict[str, dict[str, object]] = {}
    for some in _some_at_once(wanted):
        rows = bound_rows.with_digests(tx, _locked(tx, rule, some, act.at), after)
        digests = {key_id: digest for key_id, *_, digest in rows}
        done.changed.extend(key_id for key_id in some if key_id in digests)
        done.unchanged.extend(key_id for key_id in some if key_id not in digests)
        events = []
        for key_id, name, status, row_key, _digest in rows:
            detail = details.setdefault(status, {"reason": reason, "was": status})
            events.append((key_id, legible(name), detail))
            row_keys.append(row_key)
        audit.append_each(tx, act, rule.action, events, bound=digests)
        tell(len(done.changed) // 2 + len(done.unchanged))
    written = len(wanted) - len(row_keys) // 2
    # A second time, now in the order in which the rows stand in the table: in the order of ids SQLite would read and
    # write every page of a large table again for each few rows.
    for some_rows in _some_at_once(sorted(row_keys)):
        these = one_of(tx, _row_key(tx), some_rows)
        lifecycle.change_where(tx, these, len(some_rows), **values)
        tell(written := written + len(some_rows) // 2)
    return done


def _some_at_once(of: Sequence[_Item]) -> Iterator[Sequence[_Item]]:
    return (of[start : start + _AT_ONCE] for start in range(0, len(of), _AT_ONCE))


def _locked(tx: Writing, rule: _Rule, key_ids: Sequence[str], now: datetime) -> Select[Any]:
    """A query for the keys to which the rule applies: what the audit log says of each, and where its row stands. No
    other transaction can change these keys from then on until this one ends."""
    return (
        select(key_table.c.id, key_table.c.name, status_at(now).label("status"), _row_key(tx).label("row_key"))
        .where(one_of(tx, key_table.c.id, key_ids), rule.applies(now))
        .order_by(key_table.c.id)
        .with_for_update(key_share=True)
    )


def _row_key(tx: Writing) -> ColumnElement[Any]:
    """What finds a row soonest while the transaction lasts."""
    return literal_column("api_key.rowid") if tx.dialect.name == "sqlite" else key_table.c.id
