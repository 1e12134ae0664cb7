"""The usage log's sums: what the database adds up is what the rows say. Promise 8."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, insert

from alphalens_keyctl.database import Database
from alphalens_keyctl.logs import usage, usage_rows
from alphalens_keyctl.logs.usage_rows import UsageFilter
from alphalens_keyctl.models import Reason, usage_table
from alphalens_keyctl.output.screen import Screen
from alphalens_keyctl.output.usage import sparkline
from tests.support.key_rows import put
from tests.support.usage_rows import Row, usage_row

NOW: Final = datetime(2026, 11, 23, 6, 34, 56, 789012, tzinfo=UTC)
SCREEN: Final = Screen(width=80, terminal=True, color=False, unicode=True)
IDS: Final = ("AAAAAAAAAAAA", "BBBBBBBBBBBB", "CCCCCCCCCCCC")


class _UndoneError(Exception):
    pass


def with_rows(database: Database, rows: Sequence[Row], look: Callable[[Connection], None]) -> None:
    """Look at a log that has exactly `rows`, and leave it as it was."""
    with suppress(_UndoneError), database.writing() as tx:
        if rows:
            tx.execute(insert(usage_table), list(rows))
        look(tx)
        raise _UndoneError


def _refused(values: tuple[Any, ...]) -> Row:
    minute, key_id, outcome, address, count = values
    at = NOW.replace(second=0, microsecond=0) - timedelta(minutes=minute)
    return usage_row(at, key_id, outcome, client_ip=address, count=count)


ADDRESSES = st.sampled_from([None, "192.0.2.1", "2001:db8::1", *(f"10.0.0.{number}" for number in range(12))])
ACCEPTED = st.builds(
    lambda ago, key_id, address: usage_row(NOW - ago, key_id, client_ip=address),
    st.timedeltas(timedelta(seconds=-2), timedelta(days=32)) | st.sampled_from([timedelta(0), timedelta(days=7)]),
    st.sampled_from(IDS),
    ADDRESSES,
)
# The database has one row a minute for each kind of refused attempt.
REFUSED = st.lists(
    st.tuples(
        st.integers(0, 32 * 1440), st.none() | st.sampled_from(IDS),
        st.sampled_from([reason.value for reason in Reason if reason is not Reason.OK]), ADDRESSES,
        st.integers(1, 10**6),
    ),
    max_size=15, unique_by=lambda values: values[:4],
).map(lambda attempts: list(map(_refused, attempts)))  # fmt: skip
ROWS = st.tuples(st.lists(ACCEPTED, max_size=25), REFUSED).map(lambda parts: parts[0] + parts[1])
INSTANTS = st.timedeltas(timedelta(0), timedelta(days=33)).map(lambda ago: NOW - ago)


def total(rows: Sequence[Row]) -> int:
    return sum(row["count"] for row in rows)


def latest(rows: Sequence[Row]) -> datetime | None:
    return max((row["at"] for row in rows), default=None)


@settings(max_examples=40)
@given(
    rows=ROWS, since=INSTANTS, until=INSTANTS | st.just(NOW), most=st.integers(0, 4),
    outcome=st.none() | st.sampled_from([Reason.OK, Reason.REVOKED, Reason.UNKNOWN]),
    key_ids=st.none() | st.lists(st.sampled_from(IDS), unique=True).map(tuple),
)  # fmt: skip
def test_the_summary_is_what_the_rows_add_up_to(
    database: Database, rows: list[Row], since: datetime, until: datetime, most: int, outcome: Reason | None,
    key_ids: tuple[str, ...] | None,
) -> None:  # fmt: skip
    """Promise 8."""
    buckets = usage.divide(since, until)
    assert 1 <= buckets.number <= usage.MOST_BUCKETS
    wanted = UsageFilter(key_ids=key_ids, outcome=outcome)
    inside = [
        row for row in rows
        if buckets.since <= row["at"] < until and (key_ids is None or row["key_id"] in key_ids)
        and (outcome is None or row["outcome"] == outcome)
    ]  # fmt: skip
    accepted = [row for row in inside if row["outcome"] == "ok"]
    refused = [row for row in inside if row["outcome"] != "ok"]

    def look(connection: Connection) -> None:
        found = usage.summary(connection, wanted, buckets, most_keys=most)
        assert (found.uses, found.refused) == (total(accepted), total(refused))
        keys = {row["key_id"] for row in inside} - {None}
        assert found.keys_total == len(keys)
        assert len(found.keys) == min(most, len(keys))
        assert [(-key.uses, -key.refused, key.key_id) for key in found.keys] == sorted(
            (-total([row for row in accepted if row["key_id"] == key]),
             -total([row for row in refused if row["key_id"] == key]), key)
            for key in keys
        )[:most]  # fmt: skip
        for key in found.keys:
            mine = [row for row in accepted if row["key_id"] == key.key_id]
            assert key.last_at == latest(mine)
            counted = mine if outcome in (None, Reason.OK) else [row for row in refused if row["key_id"] == key.key_id]
            line = [0] * buckets.number
            for one in counted:
                line[min((one["at"] - buckets.since) // buckets.step, buckets.number - 1)] += one["count"]
            assert list(key.over_time) == line
        addresses = {row["client_ip"] for row in accepted} - {None}
        assert found.addresses_total == len(addresses)
        expected = [[row for row in accepted if row["client_ip"] == address] for address in addresses]
        ranked = sorted((-total(group), group[0]["client_ip"], latest(group)) for group in expected)
        assert [(-one.uses, one.client_ip, one.last_at) for one in found.addresses] == ranked[:10]
        kinds = {(row["outcome"], row["key_id"], row["client_ip"]) for row in refused}
        assert found.refusals_total == len(kinds)
        assert len(found.refusals) == min(10, len(kinds))
        for refusal in found.refusals:
            kind = (refusal.outcome, refusal.key_id, refusal.client_ip)
            group = [row for row in refused if (row["outcome"], row["key_id"], row["client_ip"]) == kind]
            assert (refusal.times, refusal.last_at) == (total(group), latest(group))
        times = [refusal.times for refusal in found.refusals]
        assert times == sorted(times, reverse=True)

    with_rows(database, rows, look)


@settings(max_examples=40)
@given(rows=ROWS)
def test_a_keys_profile_is_what_its_rows_add_up_to(database: Database, rows: list[Row]) -> None:
    """Promise 8."""
    midnight = NOW.replace(hour=0, minute=0, second=0, microsecond=0)
    since, until = midnight - timedelta(days=29), midnight + timedelta(days=1)
    mine = [row for row in rows if row["key_id"] == IDS[0] and since <= row["at"] < until]

    def look(connection: Connection) -> None:
        found = usage.profile(connection, IDS[0], now=NOW)
        assert (found.since, found.until) == (since, until)
        assert [day.at for day in found.over_time] == [since + timedelta(days=number) for number in range(30)]
        for day in found.over_time:
            rows_of_day = [row for row in mine if row["at"].date() == day.at.date()]
            assert day.uses == total([row for row in rows_of_day if row["outcome"] == "ok"])
            assert day.refused == total([row for row in rows_of_day if row["outcome"] != "ok"])
        assert found.uses == total([row for row in mine if row["outcome"] == "ok"])
        assert found.refused == total([row for row in mine if row["outcome"] != "ok"])
        known = {row["client_ip"] for row in mine if row["outcome"] == "ok"} - {None}
        assert len(found.addresses) == min(len(known), usage.LONGEST_RANKING)
        for address in found.addresses:
            group = [row for row in mine if row["outcome"] == "ok" and row["client_ip"] == address.client_ip]
            assert (address.uses, address.last_at) == (total(group), latest(group))
        assert {refusal.outcome for refusal in found.refusals} == {row["outcome"] for row in mine} - {"ok"}
        for refusal in found.refusals:
            group = [row for row in mine if row["outcome"] == refusal.outcome]
            assert (refusal.times, refusal.last_at) == (total(group), latest(group))

    with_rows(database, rows, look)


def test_a_use_at_the_very_edge_of_a_bucket_falls_on_the_right_side(database: Database) -> None:
    """SQLite would round half a millisecond before the hour up to it."""
    since = datetime(2026, 11, 22, 0, 0, tzinfo=UTC)
    buckets = usage.divide(since, since + timedelta(hours=24))
    assert buckets.step == timedelta(hours=1)
    microsecond = timedelta(microseconds=1)
    hour = since + timedelta(hours=5)
    rows = [usage_row(at) for at in (since - microsecond, since, hour - microsecond, hour, buckets.until - microsecond,
                               buckets.until)]  # fmt: skip

    def look(connection: Connection) -> None:
        (key,) = usage.summary(connection, UsageFilter(), buckets, most_keys=9).keys
        assert {place: number for place, number in enumerate(key.over_time) if number} == {0: 1, 4: 1, 5: 1, 23: 1}

    with_rows(database, rows, look)


@pytest.mark.parametrize(
    ("length", "step", "number"),
    [
        (timedelta(0), timedelta(minutes=1), 1),
        (timedelta(days=-5), timedelta(minutes=1), 1),
        (timedelta(minutes=24), timedelta(minutes=1), 24),
        (timedelta(hours=1), timedelta(minutes=3), 20),
        (timedelta(hours=24), timedelta(hours=1), 24),
        (timedelta(days=7), timedelta(hours=8), 21),
        (timedelta(days=30), timedelta(days=2), 15),
        (timedelta(days=365), timedelta(days=28), 14),
        (timedelta(days=36525), timedelta(days=1522), 24),
    ],
)
def test_a_span_is_divided_into_steps_of_the_clock(length: timedelta, step: timedelta, number: int) -> None:
    buckets = usage.divide(NOW, NOW + length)
    assert (buckets.step, buckets.number) == (step, number)
    assert buckets.since + step * number >= NOW.replace(microsecond=0) + length


def test_a_line_shows_the_highest_as_high_as_it_gets_and_one_use_among_a_million() -> None:
    assert sparkline([0, 1, 10**6, 5 * 10**5], SCREEN, most=9) == "·▁█▄"
    assert sparkline([0, 0], SCREEN, most=9) == "··"
    assert sparkline([], SCREEN, most=9) == ""
    assert sparkline([3, 3], SCREEN, most=9) == "██"


def test_a_line_that_does_not_fit_adds_neighbours_up_and_loses_nothing() -> None:
    assert sparkline([1, 0, 0, 8, 0, 0, 0], SCREEN, most=4) == "▁█··"
    assert sparkline(list(range(30)), SCREEN, most=1) == "█"
    assert sparkline([0, 5], SCREEN, most=0) == "█"


@given(st.lists(st.integers(0, 2**63), max_size=60), st.integers(-3, 70))
def test_a_line_fits_and_tells_none_from_some(numbers: list[int], most: int) -> None:
    for screen in (SCREEN, Screen(width=80, terminal=True, color=False, unicode=False)):
        line = sparkline(numbers, screen, most=most)
        assert len(line) <= max(1, most)
        assert bool(line.strip("·.")) == any(numbers)
        assert screen.unicode or line.isascii()


def test_where_the_screen_has_no_unicode_the_line_is_ascii() -> None:
    ascii_screen = Screen(width=80, terminal=True, color=False, unicode=False)
    assert sparkline(list(range(9)), ascii_screen, most=9) == "._-:=+*%#"


def test_rows_come_oldest_first_by_instant_and_then_by_id(database: Database) -> None:
    key_id = put(database, "ci")
    minute = NOW.replace(second=0, microsecond=0)
    rows = [
        usage_row(NOW, key_id),
        usage_row(minute, None, "unknown"),
        usage_row(NOW, "gone-gone-go"),
        usage_row(minute, key_id),
    ]

    def look(connection: Connection) -> None:
        found = list(usage_rows.documents(connection, UsageFilter()))
        assert [(use[1], use[2], use[3]) for use in found] == [
            ("2026-11-23T06:34:00.000000Z", None, None),
            ("2026-11-23T06:34:00.000000Z", key_id, "ci"),
            ("2026-11-23T06:34:56.789012Z", key_id, "ci"),
            ("2026-11-23T06:34:56.789012Z", "gone-gone-go", None),
        ]
        assert list(usage_rows.documents(connection, UsageFilter(), limit=3)) == found[1:]
        assert list(usage_rows.documents(connection, UsageFilter(), limit=0)) == []

    with_rows(database, rows, look)
