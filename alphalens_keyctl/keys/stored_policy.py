"""The stored policy: what the database says every key must be. It forbids: a change that breaks it is refused. Which
keys stand outside it already, `policy` tells.

Every function works inside the transaction of the caller and never commits: a change is judged by the policy that
stands when the change is made.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from sqlalchemy import ColumnElement, Connection, false, insert, or_, select, update

from alphalens_keyctl.database import Writing
from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.keys.conditions import matches, outlives
from alphalens_keyctl.logs import audit
from alphalens_keyctl.models import Action, key_table, policy_table
from alphalens_keyctl.moments import rfc3339, shortest_span
from alphalens_keyctl.provenance import Act
from alphalens_keyctl.text import fold

# What a policy can require of a key, by the words of `--require`, and the column that must then have a value.
REQUIRABLE: Final[Mapping[str, str]] = {"owner": "owner", "purpose": "purpose", "expires": "expires_at"}
_MOST_NAMED: Final = 10


class StoredPolicy(NamedTuple):
    """What every key must be; None and () ask nothing.

    A key may live `max_lifetime` from its creation. `require` has words of `REQUIRABLE`, in the order of the words
    there. `name_pattern` is a glob with `*` and `?`, which a name fits without regard to case.
    """

    max_lifetime: timedelta | None = None
    require: tuple[str, ...] = ()
    name_pattern: str | None = None

    @property
    def wants_expiry(self) -> bool:
        """Whether a key that never expires breaks the policy."""
        return self.max_lifetime is not None or "expires" in self.require


class Breach(NamedTuple):
    """A part of the policy that a key breaks, in a word for the audit log, and how the key breaks it. `latest` is the
    latest expiry that the policy leaves to the key, where that is what the key breaks."""

    rule: str
    problem: str
    latest: datetime | None = None


def read(connection: Connection) -> StoredPolicy:
    """The policy as it stands. Raises `KeyctlError` (database_unusable) for a row that no program of ours wrote."""
    row = connection.execute(select(policy_table.c.max_lifetime, policy_table.c.required, policy_table.c.name_pattern))
    found = row.first()
    if found is None:
        return StoredPolicy()
    try:
        seconds, required, pattern = found
        return StoredPolicy(
            None if seconds is None else timedelta(seconds=seconds),
            tuple(word for word in REQUIRABLE if word in required.split(",")),
            None if pattern is None else str(pattern),
        )
    except (TypeError, ValueError, AttributeError, OverflowError):
        raise KeyctlError(
            Code.DATABASE_UNUSABLE,
            "the stored policy holds a value that cannot be read",
            "Set it anew: alphalens-keyctl policy set.",
        ) from None


def before(connection: Connection, changes: Mapping[str, object]) -> StoredPolicy | None:
    """The policy that `changes` are made to; None for one that cannot be read, where everything of it is set anew."""
    try:
        return read(connection)
    except KeyctlError:
        if set(changes) != set(StoredPolicy._fields):
            raise
        return None


def write(tx: Writing, before: StoredPolicy | None, new: StoredPolicy, act: Act, *, reason: str | None) -> None:
    """Let `new` stand from now on, with its audit event. `before` is what stood, None where that cannot be read.

    Raises `KeyctlError` (database_unusable) when the database does not take it.
    """
    values = {
        "max_lifetime": None if new.max_lifetime is None else round(new.max_lifetime.total_seconds()),
        "required": ",".join(new.require),
        "name_pattern": new.name_pattern,
    }
    there = tx.scalar(select(policy_table.c.one)) is not None
    tx.execute(update(policy_table).values(values) if there else insert(policy_table).values(one=1, **values))
    if read(tx) != new:
        # Row security or a trigger can turn a write into nothing without an error.
        raise KeyctlError(
            Code.DATABASE_UNUSABLE,
            "the database did not take the policy",
            "Check the database for row security and for triggers that are not ours.",
        )
    said = None if before is None else _said(before)
    audit.append(tx, act, Action.SET_POLICY, key_id=None, key_name=None, before=said, after=_said(new), reason=reason)


def parse_required(given: Sequence[str]) -> tuple[str, ...]:
    """What a policy requires, from words with commas between. Raises `KeyctlError` (usage)."""
    words = [word.strip().lower() for each in given for word in each.split(",")]
    for word in words:
        if word not in REQUIRABLE:
            raise KeyctlError(Code.USAGE, f"there is no '{word}' to require", f"There are: {', '.join(REQUIRABLE)}.")
    return tuple(word for word in REQUIRABLE if word in words)


def breaches(policy: StoredPolicy, facts: Mapping[str, Any], *, created_at: datetime) -> list[Breach]:
    """How a key that was or is created at `created_at` would break the policy.

    Judges those of name, owner, purpose and expires_at that `facts` has, and passes over all else that it has.
    """
    found = [
        Breach(word, f"has no {word}")
        for word in ("owner", "purpose")
        if word in policy.require and word in facts and facts[word] is None
    ]
    if "expires_at" in facts:
        found += _of_lifetime(policy, facts["expires_at"], created_at)
    if "name" in facts and policy.name_pattern is not None and not _fits(facts["name"], policy.name_pattern):
        found.append(Breach("name-pattern", f"has a name that is not like '{policy.name_pattern}'"))
    return found


def _of_lifetime(policy: StoredPolicy, expires_at: datetime | None, created_at: datetime) -> list[Breach]:
    longest = policy.max_lifetime
    if expires_at is None and policy.wants_expiry:
        most = "" if longest is None else f" ({shortest_span(longest)} at most)"
        latest = None if longest is None else created_at + longest
        return [Breach("expires" if longest is None else "max-lifetime", f"never expires{most}", latest)]
    if expires_at is None or longest is None or expires_at <= created_at + longest:
        return []
    most = f"{shortest_span(longest)} from its creation at most, {rfc3339(created_at + longest)}"
    return [Breach("max-lifetime", f"expires {rfc3339(expires_at)} ({most})", created_at + longest)]


def refuse(broken: Iterable[tuple[str, Sequence[Breach]]], *, expiry: str, now: datetime) -> None:
    """Raise `KeyctlError` (policy_violation) with every breach, where there is one. `broken` has the breaches of each
    key, behind the words that say which key. `expiry` is what the caller sets the expiry by: the hint says with which
    value that would pass."""
    breaking = [(which, found) for which, found in broken if found]
    said = [f"{which} {', '.join(each.problem for each in found)}" for which, found in breaking]
    latest = [each.latest for _, found in breaking for each in found if each.latest is not None]
    passes = f"{expiry} {rfc3339(min(latest))} would pass. " if latest and min(latest) > now else ""
    if said:
        more = f"; and {len(said) - _MOST_NAMED:,} more" if len(said) > _MOST_NAMED else ""
        raise KeyctlError(
            Code.POLICY_VIOLATION,
            f"the policy forbids this: {'; '.join(said[:_MOST_NAMED])}{more}",
            f"{passes}'alphalens-keyctl policy show' says what keys must be;"
            " --override REASON does it all the same, on record.",
        )


def lacks(policy: StoredPolicy, word: str) -> ColumnElement[bool]:
    """The condition for a key without the owner or the purpose that the policy requires."""
    return key_table.c[REQUIRABLE[word]].is_(None) if word in policy.require else false()


def lives_too_long(policy: StoredPolicy) -> ColumnElement[bool]:
    """The condition for a key that expires later than the policy allows, or never."""
    conditions = [key_table.c.expires_at.is_(None)] if policy.wants_expiry else []
    if policy.max_lifetime is not None:
        conditions.append(outlives(policy.max_lifetime))
    return or_(false(), *conditions)


def is_misnamed(policy: StoredPolicy) -> ColumnElement[bool]:
    """The condition for a key whose name does not fit the policy's pattern."""
    if policy.name_pattern is None:
        return false()
    return ~matches(key_table.c.name_folded, fold(policy.name_pattern))


def _fits(name: str, pattern: str) -> bool:
    wanted = "".join({"*": ".*", "?": "."}.get(each, re.escape(each)) for each in fold(pattern))
    return re.fullmatch(wanted, fold(name), re.DOTALL) is not None


def _said(policy: StoredPolicy) -> Mapping[str, object]:
    """What the audit event says of a policy."""
    return {
        "max_lifetime": None if policy.max_lifetime is None else shortest_span(policy.max_lifetime),
        "require": list(policy.require),
        "name_pattern": policy.name_pattern,
    }
