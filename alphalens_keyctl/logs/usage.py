"""The usage log: uses and refused attempts, summed up for people. `usage_rows` has them row by row.

The database makes the sums, so that a summary of a million rows reads a few hundred.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import cache, lru_cache
from typing import Any, Final, NamedTuple

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Select,
    and_,
    bindparam,
    case,
    func,
    select,
    text,
)

from alphalens_keyctl.database.instants import epoch_second
from alphalens_keyctl.database.sums import saturating_sum, saturating_total
from alphalens_keyctl.logs.usage_rows import AS_TEXT, KEY_NAME, UsageFilter, where
from alphalens_keyctl.models import REFUSED_SQL, Reason, key_table, usage_table

MOST_BUCKETS: Final = 24
PROFILE_DAYS: Final = 30
LONGEST_RANKING: Final = 10
_DAY: Final = timedelta(days=1)
# The steps in which a reader of a clock or a calendar thinks.
_STEPS: Final = (
    *(timedelta(minutes=minutes) for minutes in (1, 2, 3, 5, 10, 15, 30, 60, 120, 180, 240, 360, 480, 720)),
    *(timedelta(days=days) for days in (1, 2, 7, 14, 28, 91, 182, 365)),
)


class Seen(NamedTuple):
    """Accepted uses from one address; None where the address is not known."""

    client_ip: str | None
    uses: int


class Buckets(NamedTuple):
    """A span in equal steps, of which `until` cuts the last one off. Instants are aware. `since` and `step` are whole
    seconds; a fraction of a second before `until` belongs to the last step."""

    since: datetime
    until: datetime
    step: timedelta

    @property
    def number(self) -> int:
        """The number of steps, at least 1."""
        return max(1, -((self.since - self.until.replace(microsecond=0)) // self.step))

    def starts(self) -> list[datetime]:
        """The instant at which each step begins."""
        return [self.since + self.step * position for position in range(self.number)]


class KeyUse(NamedTuple):
    """The use of one key in a span. `over_time` has a number for each bucket: accepted uses, or the attempts of the
    outcome that was asked for. `last_at` is the last accepted use in the span."""

    key_id: str
    key_name: str | None
    uses: int
    refused: int
    last_at: datetime | None
    over_time: tuple[int, ...]


class AddressUse(NamedTuple):
    """The accepted uses from one address."""

    client_ip: str
    uses: int
    last_at: datetime


class Refusal(NamedTuple):
    """The attempts that were refused for one reason. `key_id` is None where no key was meant, `client_ip` where the
    address is not known, and both in a `Profile`, which counts by reason alone."""

    outcome: str
    key_id: str | None
    key_name: str | None
    client_ip: str | None
    times: int
    last_at: datetime


class Summary(NamedTuple):
    """The usage log over a span. Each list begins with the most and may be cut off; its total counts all of it."""

    buckets: Buckets
    uses: int
    refused: int
    keys: list[KeyUse]
    keys_total: int
    addresses: list[AddressUse]
    addresses_total: int
    refusals: list[Refusal]
    refusals_total: int


class Day(NamedTuple):
    """The use of a key on one day, from midnight UTC."""

    at: datetime
    uses: int
    refused: int


class Profile(NamedTuple):
    """The use of one key over the last `PROFILE_DAYS` days, today included. `refusals` are by reason alone."""

    since: datetime
    until: datetime
    over_time: list[Day]
    addresses: list[AddressUse]
    refusals: list[Refusal]

    @property
    def uses(self) -> int:
        return sum(day.uses for day in self.over_time)

    @property
    def refused(self) -> int:
        return sum(day.refused for day in self.over_time)


class _Totals(NamedTuple):
    uses: int
    refused: int
    keys: int


_ACCEPTED: Final = usage_table.c.outcome == Reason.OK.value
# To the letter the condition of the index that holds refused attempts alone; otherwise neither database uses the index.
_WAS_REFUSED: Final = text(REFUSED_SQL)
_ATTEMPTS: Final = saturating_sum(usage_table.c.count)
_USES: Final = saturating_sum(case((_ACCEPTED, usage_table.c.count), else_=0))
_REFUSED: Final = saturating_sum(case((_ACCEPTED, 0), else_=usage_table.c.count))


def divide(since: datetime, until: datetime) -> Buckets:
    """A span in at most `MOST_BUCKETS` steps, each a step in which a reader thinks. A span that ends before it begins
    is one empty step."""
    since = since.replace(microsecond=0)
    length = until.replace(microsecond=0) - since
    enough = (step for step in _STEPS if step * MOST_BUCKETS >= length)
    return Buckets(since, until, next(enough, _DAY * (length // _DAY // MOST_BUCKETS + 1)))


def summary(connection: Connection, wanted: UsageFilter, buckets: Buckets, *, most_keys: int) -> Summary:
    """The log over the span of `buckets`, which replaces the span of `wanted`; `most_keys` keys at most."""
    wanted = wanted._replace(since=buckets.since, until=buckets.until)
    totals, busiest = _busiest_keys(connection, wanted, buckets, most_keys)
    from_where, addresses_total = addresses(connection, wanted)
    refusals, refusals_total = _refusals(connection, wanted)
    return Summary(
        buckets,
        uses=totals.uses,
        refused=totals.refused,
        keys=busiest,
        keys_total=totals.keys,
        addresses=from_where,
        addresses_total=addresses_total,
        refusals=refusals,
        refusals_total=refusals_total,
    )


def profile(connection: Connection, key_id: str, *, now: datetime) -> Profile:
    """The use of the key with exactly this id, over the `PROFILE_DAYS` days that end with today (UTC)."""
    until = now.replace(hour=0, minute=0, second=0, microsecond=0) + _DAY
    since = until - PROFILE_DAYS * _DAY
    wanted = {"key_id": key_id, "since": since, "until": until}
    by_day = connection.execute(_by_day(), wanted | {"since_second": int(since.timestamp())})
    found = {row[0]: row[1:] for row in by_day}
    days = [Day(at, *found.get(position, _NO_USE)) for position, at in enumerate(_days_from(since))]
    # Of a key without any, nothing more is asked.
    from_where = connection.execute(_addresses_of_one_key(), wanted) if any(day.uses for day in days) else ()
    refusals = connection.execute(_by_reason(), wanted) if any(day.refused for day in days) else ()
    return Profile(
        since,
        until,
        days,
        [AddressUse._make(row[:3]) for row in from_where],
        [Refusal(outcome, key_id, None, None, count, at) for outcome, count, at in refusals],
    )


_NO_USE: Final = (0, 0)


@lru_cache(maxsize=2)
def _days_from(since: datetime) -> tuple[datetime, ...]:
    return tuple(since + _DAY * position for position in range(PROFILE_DAYS))


# The statements of `profile` are made once: SQLAlchemy takes several times as long to make one as to execute it.
_OF_ONE_KEY: Final = and_(
    usage_table.c.key_id == bindparam("key_id"),
    usage_table.c.at >= bindparam("since"),
    usage_table.c.at < bindparam("until"),
)


@cache
def _by_day() -> Select[Any]:
    since = bindparam("since_second", type_=BigInteger)
    position = ((epoch_second(usage_table.c.at) - since) // int(_DAY.total_seconds())).label("position")
    columns: list[ColumnElement[Any]] = [position, _USES, _REFUSED]
    return select(*columns).where(_OF_ONE_KEY).group_by(position)


@cache
def _addresses_of_one_key() -> Select[Any]:
    return _by_address(_OF_ONE_KEY)


@cache
def _by_reason() -> Select[Any]:
    outcome = AS_TEXT["outcome"]
    query = select(outcome, _ATTEMPTS, func.max(usage_table.c.at)).where(_OF_ONE_KEY, _WAS_REFUSED)
    return query.group_by(outcome).order_by(_ATTEMPTS.desc(), outcome)


def _busiest_keys(
    connection: Connection, wanted: UsageFilter, buckets: Buckets, most: int
) -> tuple[_Totals, list[KeyUse]]:
    """The totals, and the keys with the most uses, in one walk through the rows."""
    key_id = AS_TEXT["key_id"]
    last = func.max(case((_ACCEPTED, usage_table.c.at)))
    ranking = (
        select(key_id.label("key_id"), _USES.label("used"), _REFUSED.label("refused"), last.label("last"),
               saturating_total(_USES).label("all_used"),
               saturating_total(_REFUSED).label("all_refused"),
               func.count(key_id).over().label("all_keys"))
        .where(where(wanted))
        .group_by(key_id)
        # Attempts that meant no key are in the totals; their own row comes last and is dropped below.
        .order_by(key_id.is_(None), _USES.desc(), _REFUSED.desc(), key_id)
        .limit(max(1, most))
        .subquery()
    )  # fmt: skip
    c = ranking.c
    query = (
        select(ranking, KEY_NAME)
        .select_from(ranking.outerjoin(key_table, key_table.c.id == c.key_id))
        .order_by(c.used.desc(), c.refused.desc(), c.key_id)
    )
    rows = connection.execute(query).all()
    totals = _Totals(rows[0].all_used, rows[0].all_refused, rows[0].all_keys) if rows else _Totals(0, 0, 0)
    shown = [row for row in rows if row.key_id is not None][:most]
    over_time = _over_time(connection, wanted, buckets, [row.key_id for row in shown])
    return totals, [
        KeyUse(row.key_id, row.name, row.used, row.refused, row.last, over_time[row.key_id]) for row in shown
    ]


def _over_time(
    connection: Connection, wanted: UsageFilter, buckets: Buckets, key_ids: Sequence[str]
) -> dict[str, tuple[int, ...]]:
    """For each key the number of its attempts in each bucket."""
    counted = wanted._replace(key_ids=tuple(key_ids), outcome=wanted.outcome or Reason.OK)
    position = _bucket(buckets).label("position")
    query = select(AS_TEXT["key_id"], position, _ATTEMPTS).where(where(counted)).group_by(AS_TEXT["key_id"], position)
    counts = {key_id: [0] * buckets.number for key_id in key_ids}
    for key_id, at, attempts in connection.execute(query):
        counts[key_id][min(at, buckets.number - 1)] += attempts
    return {key_id: tuple(numbers) for key_id, numbers in counts.items()}


def seen(connection: Connection, key_ids: Sequence[str], *, since: datetime) -> list[Seen]:
    """The addresses from which these keys were used since an instant, those with the most uses first."""
    c = usage_table.c
    uses = func.count().label("uses")
    query = select(c.client_ip, uses).where(c.key_id.in_(key_ids), c.at >= since, c.outcome == Reason.OK.value)
    return [
        Seen._make(row) for row in connection.execute(query.group_by(c.client_ip).order_by(uses.desc(), c.client_ip))
    ]


def lately(connection: Connection, key_ids: Sequence[str], *, since: datetime) -> dict[str, tuple[int, int]]:
    """How often each key was used since `since` (aware), and from how many addresses; by id, without unused keys."""
    wanted = UsageFilter(key_ids=tuple(key_ids), since=since, outcome=Reason.OK)
    key_id = AS_TEXT["key_id"]
    query = (
        select(key_id, _ATTEMPTS, func.count(func.distinct(AS_TEXT["client_ip"]))).where(where(wanted)).group_by(key_id)
    )
    return {row[0]: (row[1], row[2]) for row in connection.execute(query)}


def accepted(connection: Connection, wanted: UsageFilter) -> int:
    """The number of accepted uses."""
    return connection.scalar(select(_USES).where(where(wanted), _ACCEPTED)) or 0


def addresses(connection: Connection, wanted: UsageFilter) -> tuple[list[AddressUse], int]:
    """The addresses with the most accepted uses, and the number of all addresses. Uses whose address the service did
    not tell are left out."""
    rows = connection.execute(_by_address(where(wanted))).all()
    return [AddressUse._make(row[:3]) for row in rows], rows[0][3] if rows else 0


def _by_address(condition: ColumnElement[bool]) -> Select[Any]:
    address = AS_TEXT["client_ip"]
    return (
        select(address, _USES, func.max(usage_table.c.at), func.count().over())
        .where(condition, _ACCEPTED, usage_table.c.client_ip.is_not(None))
        .group_by(address)
        .order_by(_USES.desc(), address)
        .limit(LONGEST_RANKING)
    )


def _refusals(connection: Connection, wanted: UsageFilter) -> tuple[list[Refusal], int]:
    """The refused attempts that were made most, and the number of all kinds of refused attempts."""
    kind = [AS_TEXT[name] for name in ("outcome", "key_id", "client_ip")]
    ranking = (
        select(*(column.label(name) for column, name in zip(kind, ("outcome", "key_id", "client_ip"), strict=True)),
               _ATTEMPTS.label("attempts"), func.max(usage_table.c.at).label("last"),
               func.count().over().label("total"))
        .where(where(wanted), _WAS_REFUSED)
        .group_by(*kind)
        .order_by(_ATTEMPTS.desc(), *kind)
        .limit(LONGEST_RANKING)
        .subquery()
    )  # fmt: skip
    c = ranking.c
    query = (
        select(c.outcome, c.key_id, KEY_NAME, c.client_ip, c.attempts, c.last, c.total)
        .select_from(ranking.outerjoin(key_table, key_table.c.id == c.key_id))
        .order_by(c.attempts.desc(), c.outcome, c.key_id, c.client_ip)
    )
    rows = connection.execute(query).all()
    return [Refusal._make(row[:6]) for row in rows], rows[0].total if rows else 0


def _bucket(buckets: Buckets) -> ColumnElement[int]:
    """The position of the bucket to which a row inside the span belongs."""
    return (epoch_second(usage_table.c.at) - int(buckets.since.timestamp())) // int(buckets.step.total_seconds())
