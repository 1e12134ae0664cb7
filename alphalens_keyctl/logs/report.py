"""What happened to the keys in a period, as auditors ask for it: figures, ages at rotation, exceptions, who did what.

Everything is counted by the database or read as a stream. What a report lists is bounded, and says how much there is;
`entries` has all of it.
"""

from array import array
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from sqlalchemy import ColumnElement, Connection, Select, and_, func, or_, select

from alphalens_keyctl.database.sums import saturating_sum
from alphalens_keyctl.logs import audit
from alphalens_keyctl.logs.audit import Head
from alphalens_keyctl.models import Action, Reason, event_table, key_table, usage_table
from alphalens_keyctl.moments import UNREADABLE, Period

# Entries and keys that a list of the report names, and actors.
MOST_LISTED: Final = 200
_MOST_ACTORS: Final = 50
_ROWS_AT_ONCE: Final = 2000
_DAY: Final = timedelta(days=1)
# Why a key that once opened is refused.
_ENDED: Final = (Reason.REVOKED, Reason.SUSPENDED, Reason.EXPIRED, Reason.RETIRED)
# What sets the rules, or takes rows of a log away.
_OF_RULES: Final = (Action.SET_POLICY, Action.PRUNE_USAGE)


class Entry(NamedTuple):
    """An event of the period. `age_days` is how old the key was when its name was handed over to a successor, None of
    every other event; `override` why somebody did what the stored policy forbids, `breaches` which parts of it."""

    seq: int
    at: datetime
    action: str
    actor: str
    key_id: str | None
    key_name: str | None
    reason: str | None
    override: str | None
    breaches: tuple[str, ...]
    age_days: float | None
    hash: bytes


class Listed(NamedTuple):
    """The first entries of a kind, and how many there are."""

    total: int
    entries: list[Entry]


class Ages(NamedTuple):
    """How old keys were, in days, when their names were handed over: of all that were, the shortest, middle and longest
    age, None where there is none; and how many were older than `limit`, the age by which keys are to be rotated."""

    rotated: int
    shortest: float | None
    median: float | None
    longest: float | None
    limit: float
    beyond: int


class Doings(NamedTuple):
    """What an actor did: how many events, and of which actions."""

    actor: str
    events: int
    actions: Mapping[str, int]


class RefusedUse(NamedTuple):
    """Attempts with keys that had ended, by the reason of the refusal."""

    outcome: str
    attempts: int
    keys: int
    last_at: datetime


class KeyNamed(NamedTuple):
    """A key that a report names."""

    id: str
    name: str
    owner: str | None
    status: str


class Breach(NamedTuple):
    """A rule of the policy check, how many keys break it, and the first of them."""

    rule: str
    severity: str
    problem: str
    keys: int
    named: list[KeyNamed]


class Activity(NamedTuple):
    """What the logs say of a period. `successors` of the keys that were made replace another."""

    actions: Mapping[str, int]
    successors: int
    ages: Ages
    revocations: Listed
    exceptions: Listed
    actors: list[Doings]
    actors_total: int
    refused_uses: list[RefusedUse]


class Report(NamedTuple):
    """The evidence for a period. `head` is the last event of the log at `made_at`. `keys` are the keys by status, and
    `breaches` who breaks the policy, both at `made_at`: neither can be told of an earlier instant."""

    period: Period
    made_at: datetime
    head: Head
    keys: Mapping[str, int]
    activity: Activity
    breaches: list[Breach]

    @property
    def ended(self) -> bool:
        """Whether the period was over when the report was made."""
        return self.period.until <= self.made_at


def activity(connection: Connection, period: Period, rotation_age: timedelta) -> Activity:
    """What the logs say of a period; keys are to be rotated at `rotation_age`."""
    c = event_table.c
    rows = connection.execute(select(c.action, func.count()).where(_during(period)).group_by(c.action))
    actions = {str(action): number for action, number in rows}
    ages, exceptions = _ages_and_exceptions(connection, period, rotation_age)
    actors, actors_total = _actors(connection, period)
    return Activity(
        {action.value: actions.get(action.value, 0) for action in Action},
        _successors(connection, period),
        ages,
        _revocations(connection, period, actions.get(Action.REVOKE.value, 0)),
        exceptions,
        actors,
        actors_total,
        _refused_uses(connection, period),
    )


def entries(connection: Connection, period: Period) -> Iterator[Entry]:
    """Every event of a period, oldest first, streamed."""
    return map(_entry, _rows(connection, _events(period)))


def _during(period: Period) -> ColumnElement[bool]:
    return and_(event_table.c.at >= period.since, event_table.c.at < period.until)


def _events(period: Period) -> Select[Any]:
    """The events of a period, each with the birth of its key."""
    of_key = event_table.outerjoin(key_table, key_table.c.id == event_table.c.key_id)
    query = select(*audit.COLUMNS_OF_E, key_table.c.created_at.label("born")).select_from(of_key)
    return query.where(_during(period)).order_by(event_table.c.seq)


def _rows(connection: Connection, query: Select[Any]) -> Iterator[Sequence[Any]]:
    with connection.execution_options(yield_per=_ROWS_AT_ONCE).execute(query) as rows:
        yield from rows


def _entry(row: Sequence[Any]) -> Entry:
    event = audit.event_of(row[:-1])
    detail, breaches = event.detail, event.detail.get("breaches")
    return Entry(
        event.seq, event.at, event.action, event.actor, event.key_id, event.key_name,
        _text(detail.get("reason")), _text(detail.get("override")),
        tuple(map(str, breaches)) if isinstance(breaches, list) else (), _age(row), event.hash,
    )  # fmt: skip


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _age(row: Sequence[Any]) -> float | None:
    """How old the key of a handover was, in days, to two places."""
    at, born = row[1], row[-1]
    if row[3] != Action.ROTATE.value or born is None or UNREADABLE in (at, born):
        return None
    age: float = round((at - born) / _DAY, 2)
    return age


def _ages_and_exceptions(connection: Connection, period: Period, rotation_age: timedelta) -> tuple[Ages, Listed]:
    """The ages at the handovers; and what was done against the policy or to it: changes that somebody let through with
    a reason, handovers that came late, and changes of the rules."""
    c = event_table.c
    limit = round(rotation_age / _DAY, 2)
    found: list[Entry] = []
    total = beyond = 0
    ages = array("d")
    noted = or_(
        c.action.in_([Action.ROTATE.value, *(action.value for action in _OF_RULES)]),
        c.detail.contains('"override":', autoescape=True),
    )
    for row in _rows(connection, _events(period).where(noted)):
        age = _age(row)
        if age is not None:
            ages.append(age)
        late = age is not None and age > limit
        beyond += late
        if row[3] == Action.ROTATE.value and not late:
            continue
        entry = _entry(row)
        # What looked like an override may be the name of a label.
        if late or entry.override is not None or entry.action in _OF_RULES:
            total += 1
            if len(found) < MOST_LISTED:
                found.append(entry)
    in_order = sorted(ages)
    shortest, median, longest = (
        (in_order[0], in_order[(len(in_order) - 1) // 2], in_order[-1]) if in_order else (None, None, None)
    )
    return Ages(len(ages), shortest, median, longest, limit, beyond), Listed(total, found)


def _revocations(connection: Connection, period: Period, total: int) -> Listed:
    query = _events(period).where(event_table.c.action == Action.REVOKE.value).limit(MOST_LISTED)
    return Listed(total, list(map(_entry, _rows(connection, query))))


def _successors(connection: Connection, period: Period) -> int:
    made = select(func.count()).select_from(event_table.join(key_table, key_table.c.id == event_table.c.key_id))
    these = (_during(period), event_table.c.action == Action.CREATE.value, key_table.c.replaces.is_not(None))
    return connection.scalar(made.where(*these)) or 0


def _actors(connection: Connection, period: Period) -> tuple[list[Doings], int]:
    """The actors with the most events, and how many actors there are."""
    c = event_table.c
    total = connection.scalar(select(func.count(func.distinct(c.actor))).where(_during(period))) or 0
    number = func.count()
    busiest = select(c.actor).where(_during(period)).group_by(c.actor).order_by(number.desc(), c.actor)
    query = (
        select(c.actor, c.action, number)
        .where(_during(period), c.actor.in_(busiest.limit(_MOST_ACTORS)))
        .group_by(c.actor, c.action)
        .order_by(c.actor, c.action)
    )
    did: dict[str, dict[str, int]] = {}
    for actor, action, events in connection.execute(query):
        did.setdefault(str(actor), {})[str(action)] = events
    doings = [Doings(actor, sum(actions.values()), actions) for actor, actions in did.items()]
    return sorted(doings, key=lambda each: (-each.events, each.actor)), total


def _refused_uses(connection: Connection, period: Period) -> list[RefusedUse]:
    c = usage_table.c
    query = (
        select(c.outcome, saturating_sum(c["count"]), func.count(func.distinct(c.key_id)), func.max(c.at))
        .where(c.at >= period.since, c.at < period.until, c.outcome.in_([reason.value for reason in _ENDED]))
        .group_by(c.outcome)
        .order_by(c.outcome)
    )
    return [RefusedUse._make(row) for row in connection.execute(query)]
