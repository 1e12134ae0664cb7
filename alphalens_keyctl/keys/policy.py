"""The rules of `audit check`: what every key must be. Each rule is a query for the keys that break it. What the stored
policy forbids, `stored_policy` says; here rules tell which keys stand outside it already."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final, NamedTuple

from sqlalchemy import ColumnElement, Connection, and_, exists, false, func, null, or_, select, true

from alphalens_keyctl.damage import legible
from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.keyformat import redact
from alphalens_keyctl.keys import stored_policy
from alphalens_keyctl.keys.conditions import RETIRES, starts_with, status_at, unindexed
from alphalens_keyctl.keys.stored_policy import StoredPolicy
from alphalens_keyctl.keys.within import Within
from alphalens_keyctl.models import Status, key_table
from alphalens_keyctl.moments import UNREADABLE
from alphalens_keyctl.settings import Thresholds
from alphalens_keyctl.text import fold

_AT_ONCE: Final = 2000
_LIVE: Final = (Status.ACTIVE, Status.SUSPENDED)


class Severity(StrEnum):
    """How bad it is that a key breaks a rule."""

    WARNING = "warning"
    ERROR = "error"


class Rule(NamedTuple):
    """A rule: its name in `--rule`, what is wrong with a key that breaks it, and the advice to give."""

    id: str
    severity: Severity
    problem: str
    advice: str


class Finding(NamedTuple):
    """A key that breaks a rule, with what a report says of the key.

    `at` is the instant that the rule looks at (UTC), `value` how far it is from the instant of the check, `limit` the
    threshold that `value` breaks; each is None where the rule has none or the row cannot be read. `lifetime` is how
    long the key was meant to live, None where `at` is not its expiry. `replaces` says that the key is the successor of
    another, `rotated_out` that it has a successor of its own, which its name means.
    """

    rule: Rule
    key_id: str
    key_name: str
    owner: str | None
    status: str
    at: datetime | None = None
    value: timedelta | None = None
    limit: timedelta | None = None
    lifetime: timedelta | None = None
    replaces: bool = False
    rotated_out: bool = False


class _Query(NamedTuple):
    where: Callable[[Thresholds, datetime], ColumnElement[bool]]
    # Whether the name of a key that the query found breaks the rule, where SQL can only narrow the keys down.
    fits: Callable[[str], bool] = lambda _name: True
    # The instant that the rule looks at.
    at: ColumnElement[datetime] | None = None
    limit: Callable[[Thresholds], timedelta | None] = lambda _limits: None
    # Of a rule of the stored policy, in the place of `where` and `limit`.
    stored: Callable[[StoredPolicy], ColumnElement[bool]] | None = None
    stored_limit: Callable[[StoredPolicy], timedelta | None] = lambda _stored: None


# Names that tell nobody what a key is for, alone or with a number behind them.
_SAYS_NOTHING: Final = (
    "test", "key", "api", "apikey", "api-key", "api_key", "api key", "token", "secret", "new",
    "my", "mykey", "my-key", "my_key", "my key",
    "foo", "bar", "baz", "tmp", "temp", "temporary", "default", "demo", "example", "asdf", "xxx", "untitled", "unnamed",
    "none", "null", "todo", "misc", "other", "testing",
)  # fmt: skip
_MEANINGLESS: Final = re.compile(rf"(?:{'|'.join(map(re.escape, _SAYS_NOTHING))})(?:[\s._-]?[0-9]+)?")


def _is_meaningless(name: str) -> bool:
    return _MEANINGLESS.fullmatch(fold(name)) is not None


def _live(now: datetime) -> ColumnElement[bool]:
    # Both: the index finds by the stored status, and the clock tells which of those keys will never open again.
    return and_(key_table.c.status.in_(_LIVE), status_at(now).in_([status.value for status in _LIVE]))


def _active(now: datetime) -> ColumnElement[bool]:
    return and_(unindexed(key_table.c.status) == Status.ACTIVE, status_at(now) == Status.ACTIVE.value)


def _has_no_successor() -> ColumnElement[bool]:
    successor = key_table.alias()
    return ~exists(
        select(successor.c.id).where(successor.c.replaces == key_table.c.id, successor.c.revoked_at.is_(None))
    )


def _used_since_rotation() -> ColumnElement[bool]:
    successor = key_table.alias()
    later = and_(successor.c.id == key_table.c.replaced_by, successor.c.activated_at < key_table.c.last_used_at)
    return exists(select(successor.c.id).where(later))


def _never(_limits: Thresholds, _now: datetime) -> ColumnElement[bool]:
    return false()


def _owner_unknown(limits: Thresholds, now: datetime) -> ColumnElement[bool]:
    unknown = key_table.c.owner.is_(None)
    if limits.owners:
        unknown = or_(unknown, key_table.c.owner.not_in(limits.owners))
    return and_(_live(now), unknown)


_RULES: Final[Mapping[Rule, _Query]] = {
    Rule(
        "rotation-overdue", Severity.ERROR, "older than the rotation age",
        "Rotate it: alphalens-keyctl rotate.",
    ): _Query(
        lambda limits, now: and_(_active(now), key_table.c.activated_at <= now - limits.rotation_age),
        at=key_table.c.activated_at,
        limit=lambda limits: limits.rotation_age,
    ),
    Rule(
        "expiring", Severity.ERROR, "expires soon, and there is no successor",
        "Rotate it before it ends, or let it end if nobody uses it.",
    ): _Query(
        lambda limits, now: and_(
            unindexed(key_table.c.status) == Status.ACTIVE,
            key_table.c.expires_at > now,
            key_table.c.expires_at <= now + limits.expiring,
            _has_no_successor(),
        ),
        at=key_table.c.expires_at,
        limit=lambda limits: limits.expiring,
    ),
    Rule(
        "retiring-in-use", Severity.ERROR, "rotated out, still used since then, and about to stop",
        "See who uses it with 'alphalens-keyctl show', and give them the new key.",
    ): _Query(
        lambda _limits, now: and_(
            status_at(now) == Status.RETIRING.value, key_table.c.status == Status.RETIRING, _used_since_rotation()
        ),
        at=RETIRES,
    ),
    Rule(
        "delivering-long", Severity.ERROR, "opens, and was never delivered to its end",
        "Rotate or create the name again, which retires it, or revoke it by its id.",
    ): _Query(
        lambda limits, now: and_(
            key_table.c.status == Status.DELIVERING,
            key_table.c.created_at <= now - limits.delivering,
            status_at(now) == Status.DELIVERING.value,
        ),
        at=key_table.c.created_at,
        limit=lambda limits: limits.delivering,
    ),
    Rule(
        "no-expiry", Severity.WARNING, "never expires",
        "Give it an expiry with 'alphalens-keyctl update --set-expires', or rotate it with --expires.",
    ): _Query(lambda _limits, now: and_(_active(now), key_table.c.expires_at.is_(None))),
    Rule(
        "unused", Severity.WARNING, "not used for long",
        "Suspend it, and revoke it a month later: alphalens-keyctl suspend --unused-for.",
    ): _Query(
        lambda limits, now: and_(_active(now), key_table.c.last_used_at <= now - limits.unused),
        at=key_table.c.last_used_at,
        limit=lambda limits: limits.unused,
    ),
    Rule(
        "never-used", Severity.WARNING, "never used, though it is not new",
        "Revoke it if nobody knows what it is for.",
    ): _Query(
        lambda limits, now: and_(
            _active(now), key_table.c.last_used_at.is_(None), key_table.c.activated_at <= now - limits.never_used
        ),
        at=key_table.c.activated_at,
        limit=lambda limits: limits.never_used,
    ),
    Rule(
        "suspended-long", Severity.WARNING, "suspended for long",
        "Resume or revoke it.",
    ): _Query(
        lambda limits, now: and_(
            key_table.c.suspended_at <= now - limits.suspended, status_at(now) == Status.SUSPENDED.value
        ),
        at=key_table.c.suspended_at,
        limit=lambda limits: limits.suspended,
    ),
    Rule(
        "owner-unknown", Severity.WARNING, "nobody answers for it",
        "Find out who uses it, and write them down with 'alphalens-keyctl update --set-owner'.",
    ): _Query(_owner_unknown),
    Rule(
        "no-purpose", Severity.WARNING, "nobody wrote down what it is for",
        "Write it down with 'alphalens-keyctl update --set-purpose'.",
    ): _Query(lambda _limits, now: and_(_live(now), key_table.c.purpose.is_(None))),
    Rule(
        "meaningless-name", Severity.WARNING, "its name says nothing",
        "Give it one that says who uses it for what: 'alphalens-keyctl update --set-name'.",
    ): _Query(
        lambda _limits, now: and_(
            _live(now), or_(*(starts_with(key_table.c.name_folded, word) for word in _SAYS_NOTHING))
        ),
        fits=_is_meaningless,
    ),
    Rule(
        "policy-lifetime", Severity.ERROR, "lives longer than the stored policy allows",
        "Shorten it with 'alphalens-keyctl update --set-expires', or rotate it with --expires.",
    ): _Query(
        _never,
        at=key_table.c.created_at,
        stored=stored_policy.lives_too_long,
        stored_limit=lambda policy: policy.max_lifetime,
    ),
    Rule(
        "policy-owner", Severity.ERROR, "has no owner, which the stored policy requires",
        "Write one down: alphalens-keyctl update --set-owner.",
    ): _Query(_never, stored=lambda policy: stored_policy.lacks(policy, "owner")),
    Rule(
        "policy-purpose", Severity.ERROR, "has no purpose, which the stored policy requires",
        "Write one down: alphalens-keyctl update --set-purpose.",
    ): _Query(_never, stored=lambda policy: stored_policy.lacks(policy, "purpose")),
    Rule(
        "policy-name", Severity.ERROR, "is not called as the stored policy asks",
        "Rename it: alphalens-keyctl update --set-name.",
    ): _Query(_never, stored=stored_policy.is_misnamed),
}  # fmt: skip
RULES: Final = tuple(_RULES)


def chosen(ids: Sequence[str], *, ignored: Sequence[str]) -> list[Rule]:
    """The rules with these ids, in that order; without ids, every rule that is not `ignored`.

    Raises `KeyctlError` for an id that no rule has: usage for one of `ids`, configuration_invalid for one of `ignored`.
    """
    known = {rule.id: rule for rule in RULES}
    for each in ignored:
        if each not in known:
            said = f"config.toml, 'check': 'ignore' names '{redact(each)}', which is no rule"
            raise KeyctlError(Code.CONFIGURATION, said, f"There are: {', '.join(known)}.")
    for each in ids:
        if each not in known:
            raise KeyctlError(Code.USAGE, f"there is no rule '{each}'", f"There are: {', '.join(known)}.")
    return [known[each] for each in dict.fromkeys(ids)] or [rule for rule in RULES if rule.id not in ignored]


def check(
    connection: Connection,
    rules: Sequence[Rule],
    limits: Thresholds,
    *,
    among: Sequence[str] | None = None,
    now: datetime,
    within: Within | None = None,
) -> Iterator[Finding]:
    """The keys, of those within, that break the rules: rule by rule, the oldest key first, streamed in constant memory.
    With `among`, the ids of a few keys, those keys alone."""
    c = key_table.c
    stored = stored_policy.read(connection) if any(_RULES[rule].stored for rule in rules) else StoredPolicy()
    for rule in rules:
        query = _RULES[rule]
        limit = query.limit(limits) if query.stored is None else query.stored_limit(stored)
        at = null() if query.at is None else query.at
        since = null() if query.at is not c.expires_at else func.coalesce(c.activated_at, c.created_at)
        found = (
            select(c.id, c.name, c.owner, status_at(now), at, since, c.replaces.is_not(None), c.retires_at.is_not(None))
            .where(query.where(limits, now) if query.stored is None else and_(_live(now), query.stored(stored)))
            .where(true() if within is None else within.condition())
            .order_by(unindexed(c.created_at), c.id)
        )
        if among is not None:
            found = found.where(c.id.in_(among))
        for rows in connection.execution_options(yield_per=_AT_ONCE).execute(found).partitions():
            for row in rows:
                finding = _finding(rule, row, limit, now)
                if query.fits(finding.key_name):
                    yield finding


def _finding(rule: Rule, row: Sequence[Any], limit: timedelta | None, now: datetime) -> Finding:
    key_id, name, owner, status, at, since, replaces, rotated_out = row
    at = None if at == UNREADABLE else at
    return Finding(
        rule,
        key_id,
        legible(name),
        None if owner is None else legible(owner),
        status,
        at=at,
        value=None if at is None else abs(at - now),
        limit=limit,
        lifetime=None if at is None or since is None or since == UNREADABLE else at - since,
        replaces=bool(replaces),
        rotated_out=bool(rotated_out),
    )


def outside(connection: Connection, *, now: datetime) -> int:
    """How many keys stand outside the stored policy."""
    stored = stored_policy.read(connection)
    broken = or_(false(), *(query.stored(stored) for query in _RULES.values() if query.stored is not None))
    return connection.scalar(select(func.count()).select_from(key_table).where(_live(now), broken)) or 0
