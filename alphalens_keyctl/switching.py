"""Switching keys off and on: revoke, suspend, resume; one key or a million, each with its audit event.

Works inside the caller's writing transaction and never commits, as `lifecycle` does.
"""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from enum import StrEnum
from itertools import islice
from typing import Any, Final, NamedTuple

from sqlalchemy import ColumnElement, and_, func, select, text, update

from alphalens_keyctl import audit
from alphalens_keyctl.database import Writing
from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.models import Action, Status, keys
from alphalens_keyctl.provenance import Act
from alphalens_keyctl.selection import status_at

_AT_ONCE: Final = 5000


class Switch(StrEnum):
    """What is done to keys. A word of the command line."""

    REVOKE = "revoke"
    SUSPEND = "suspend"
    RESUME = "resume"


class Switched(NamedTuple):
    """The ids of the keys that were changed, and of those that were so already or cannot be."""

    changed: list[str]
    unchanged: list[str]


class _Rule(NamedTuple):
    action: Action
    applies: Callable[[datetime], ColumnElement[bool]]
    values: Callable[[Act, str | None], dict[str, Any]]


_RULES: Final = {
    Switch.REVOKE: _Rule(
        Action.REVOKE,
        lambda _now: keys.c.revoked_at.is_(None),
        lambda act, reason: {
            "revoked_at": act.at, "revoked_by": act.actor, "revoke_reason": reason, "lease_until": None
        },
    ),
    # A pending key opens nothing yet, and one that is over nothing more.
    Switch.SUSPEND: _Rule(
        Action.SUSPEND,
        lambda now: and_(
            keys.c.suspended_at.is_(None),
            status_at(now).not_in([Status.PENDING, Status.RETIRED, Status.REVOKED]),
        ),
        lambda act, _reason: {"suspended_at": act.at},
    ),
    Switch.RESUME: _Rule(
        Action.RESUME,
        lambda _now: and_(keys.c.suspended_at.is_not(None), keys.c.revoked_at.is_(None)),
        lambda _act, _reason: {"suspended_at": None},
    ),
}  # fmt: skip


def applies_to(switch: Switch, *, now: datetime) -> ColumnElement[bool]:
    """Which keys it changes."""
    return _RULES[switch].applies(now)


def apply(
    tx: Writing,
    switch: Switch,
    key_ids: Iterable[str],
    act: Act,
    *,
    reason: str | None,
    tell: Callable[[int], None] = lambda _done: None,
) -> Switched:
    """Do it to keys that exist. One that was switched so before keeps its first time and reason.

    `tell` is called with how many are done. Raises `KeyctlError` (database_unusable) when the database does
    not take it.
    """
    # In one order, as those who record use lock them: two who wait for each other would both be stopped.
    waiting = iter(sorted(set(key_ids)))
    done = Switched([], [])
    while chunk := list(islice(waiting, _AT_ONCE)):
        changed = _apply_to_some(tx, switch, chunk, act, reason)
        done.changed.extend(changed)
        done.unchanged.extend(sorted(set(chunk) - set(changed)))
        tell(len(done.changed) + len(done.unchanged))
    return done


def _apply_to_some(tx: Writing, switch: Switch, key_ids: Sequence[str], act: Act, reason: str | None) -> list[str]:
    rule = _RULES[switch]
    some = keys.c.id.in_(_unfolded(tx, key_ids))
    query = (
        select(keys.c.id, keys.c.name, status_at(act.at).label("status"))
        .where(some, rule.applies(act.at))
        .order_by(keys.c.id)
        .with_for_update(key_share=True)
    )
    rows = tx.execute(query).all()
    changed = [row.id for row in rows]
    if not changed:
        return []
    these = keys.c.id.in_(_unfolded(tx, changed))
    count = tx.execute(update(keys).where(these).values(**rule.values(act, reason))).rowcount
    if count != len(changed) or tx.scalar(select(func.count()).where(these, rule.applies(act.at))):
        # Row security or a trigger can turn an update into nothing without an error; to report such a
        # revocation as done would leave live keys that everybody believes dead.
        raise KeyctlError(
            Code.DATABASE_UNUSABLE,
            f"the database did not take the change to {len(changed)} keys",
            "Check the database for row security and for triggers that are not ours.",
        )
    audit.append_each(tx, act, rule.action, ((row.id, row.name, {"reason": reason, "was": row.status}) for row in rows))
    return changed


def _unfolded(tx: Writing, key_ids: Sequence[str]) -> Any:
    """Ids as one parameter: a statement with one for each would be made anew each time."""
    if tx.dialect.name == "postgresql":
        return text("SELECT unnest(CAST(:ids AS text[]))").bindparams(ids=list(key_ids))
    import json

    return text("SELECT value FROM json_each(:ids)").bindparams(ids=json.dumps(list(key_ids)))
