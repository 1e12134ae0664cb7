"""WHEN: durations, dates and instants, in their one form each. All else is refused."""

import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.moments import (
    parse_expiry,
    parse_period,
    parse_since,
    parse_span,
    quarter_of,
    rfc3339,
    rfc3339_exact,
)

NOW = datetime(2026, 11, 23, 6, 34, 0, 123456, tzinfo=UTC)
CENTURY = timedelta(days=36525)
UNITS = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}
UNITS |= {"mo": timedelta(days=30), "y": timedelta(days=365)}
# Every instant, written at every offset that RFC 3339 has; the outermost days would leave the calendar in UTC.
OFFSETS = st.integers(-(24 * 60 - 1), 24 * 60 - 1).map(lambda minutes: timezone(timedelta(minutes=minutes)))
INSTANTS = st.datetimes(datetime(1, 1, 3), datetime(9999, 12, 29), timezones=OFFSETS)  # noqa: DTZ001  # OFFSETS adds it
FUTURE = st.datetimes(
    datetime(2026, 11, 25),  # noqa: DTZ001  # the same
    datetime(2126, 11, 20),  # noqa: DTZ001  # the same
    timezones=OFFSETS,
)


def refused(parse: Callable[[str], object], text: str) -> bool:
    """Whether `text` is refused as bad input. Anything else that is raised fails the test."""
    try:
        parse(text)
    except KeyctlError as error:
        if error.code is not Code.INVALID_INPUT:
            raise
        return True
    return False


def expiry(text: str) -> datetime | None:
    return parse_expiry(text, now=NOW)


def grace(text: str) -> timedelta:
    return parse_span(text, what="grace", zero=True)


def span(text: str) -> timedelta:
    return parse_span(text, what="span")


def since(text: str) -> datetime:
    return parse_since(text, what="since", now=NOW)


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("30m", timedelta(minutes=30)),
        ("24h", timedelta(hours=24)),
        ("7d", timedelta(days=7)),
        ("4w", timedelta(weeks=4)),
        ("1m", timedelta(minutes=1)),
        ("007d", timedelta(days=7)),
        ("36525d", CENTURY),
        ("876600h", CENTURY),
        ("52596000m", CENTURY),
        ("5217w", timedelta(weeks=5217)),
    ],
)
def test_a_duration_is_a_number_and_a_unit(text: str, length: timedelta) -> None:
    assert span(text) == grace(text) == length
    assert expiry(text) == NOW + length
    assert since(text) == NOW - length


@pytest.mark.parametrize("text", ["36526d", "876601h", "52596001m", "5218w", "999999999m", "999999999h"])
def test_a_duration_beyond_a_hundred_years_is_refused(text: str) -> None:
    assert all(refused(parse, text) for parse in (expiry, grace, since))


@pytest.mark.parametrize("text", ["999999999d", "999999999w", "153722868w"])
def test_a_duration_that_no_clock_can_count_is_refused(text: str) -> None:
    for parse in (expiry, grace, since):
        assert refused(parse, text)


NEITHER = [
    *[
        "",
        " ",
        "7",
        "d",
        "7D",
        "7 d",
        " 7d",
        "7d ",
        "7d\n",
        "\n7d",
        "+7d",
        "-7d",
        "--7d",
        "7.5d",
        "7,5d",
        "1e3d",
        "0x7d",
    ],
    *[
        "7s",
        "7Y",
        "7M",
        "7Mo",
        "7o",
        "7mon",
        "1d1h",
        "1d 1h",
        "7days",
        "P7D",
        "PT1H",
        "seven days",
        "1_000m",
        "\u0667d",
        "\uff17d",
    ],
    *[
        "\u00b2d",
        "\u0967d",
        "7\u0000d",
        "7d\0",
        "7\u200bd",
        "inf",
        "nand",
        "Never",
        "NEVER",
        " never",
        "never\n",
        "now",
    ],
    *["tomorrow", "today", "2027", "2027-01", "2027-1-31", "27-01-31", "20270131", "2027/01/31", "31.01.2027"],
    *["2027-W05", "2027-W05-1", "2027W051", "2027-031", "2027031", "2027-01-31\n", " 2027-01-31", "2027-01-31 "],
    *["\u0662\u0660\u0662\u0667-01-31", "+2027-01-31", "-2027-01-31", "12027-01-31", "2027\u201301\u201331"],
    *["2027-01-31T09:00:00", "2027-01-31T09:00Z", "2027-01-31T09Z", "2027-01-31TZ", "2027-01-31 09:00:00Z"],
    *["2027-01-31_09:00:00Z", "2027-01-31T09:00:00 Z", "2027-01-31T09:00:00Z\n", "2027-01-31T09:00:00.Z"],
    *["2027-01-31T09:00:00,5Z", "2027-01-31T090000Z", "20270131T090000Z", "2027-W05-1T09:00:00Z", "2027-01-31Z"],
    *["2027-01-31T09:00:00+01", "2027-01-31T09:00:00+0100", "2027-01-31T09:00:00+1:00", "2027-01-31T09:00:00UTC"],
    *["2027-01-31T09:00:00+01:00:00", "2027-01-31T09:00:00\u221201:00", "2027-01-31T09:00:00+01:00[Europe/Paris]"],
    *["2027-01-31T09:00:00Z+01:00", "2027-01-31T9:00:00Z", "2027-01-31T09:00:00 +01:00", "1800000000", "@1800000000"],
    *[
        "2027-01-31T\u0660\u0669:00:00Z",
        "2027-01-31T09:00:00+\u0660\u0661:00",
        "2027-01-31T09:00:00.\u0665Z",
        "9" * 5000,
    ],
]
NO_SUCH_MOMENT = [
    *["2027-02-30", "2027-02-29", "2100-02-29", "2027-13-01", "2027-00-10", "2027-01-00", "2027-01-32", "0000-01-01"],
    *["2027-02-30T00:00:00Z", "2027-01-31T24:00:00Z", "2027-01-31T25:00:00Z", "2027-01-31T09:60:00Z"],
    *["2027-01-31T09:00:61Z", "2027-06-30T23:59:60Z", "2027-01-31T09:00:00+24:00", "2027-01-31T09:00:00+99:99"],
    *["2027-01-31T09:00:00-23:60", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59"],
]
# RFC 3339, section 5.6: time-numoffset = ("+" / "-") time-hour ":" time-minute, and time-minute is 00-59.
MINUTES_BEYOND_59 = ["2027-01-31T09:00:00+00:60", "2027-01-31T09:00:00+05:99", "2027-01-31T09:00:00-01:75"]


@pytest.mark.parametrize("text", [*NEITHER, *NO_SUCH_MOMENT, *MINUTES_BEYOND_59])
def test_what_is_no_duration_date_or_instant_is_refused(text: str) -> None:
    assert refused(expiry, text)
    assert refused(since, text)
    assert refused(grace, text)


def test_a_zero_stands_alone_and_only_where_none_makes_sense() -> None:
    assert grace("0") == timedelta(0)
    for text in ("0", "0m", "0h", "00d", "000000000w"):
        assert refused(span, text)
        assert refused(expiry, text)
        assert refused(since, text)
    for text in ("00", "+0", "-0", "0.0", "\u0660", "0\n", " 0"):
        assert refused(grace, text)


@pytest.mark.parametrize("text", ["never", "2027-01-31", "2027-01-31T09:00:00Z"])
def test_a_grace_is_a_duration_and_nothing_else(text: str) -> None:
    assert refused(grace, text)


def test_never_is_an_expiry_and_no_point_to_look_back_to() -> None:
    assert expiry("never") is None
    assert refused(since, "never")


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2027-01-31", datetime(2027, 1, 31, tzinfo=UTC)),
        ("2028-02-29", datetime(2028, 2, 29, tzinfo=UTC)),
        ("2027-01-31T09:00:00Z", datetime(2027, 1, 31, 9, tzinfo=UTC)),
        ("2027-01-31t09:00:00z", datetime(2027, 1, 31, 9, tzinfo=UTC)),
        ("2027-01-31T09:00:00+01:00", datetime(2027, 1, 31, 8, tzinfo=UTC)),
        ("2027-01-31T09:00:00-11:30", datetime(2027, 1, 31, 20, 30, tzinfo=UTC)),
        ("2027-01-31T09:00:00-00:00", datetime(2027, 1, 31, 9, tzinfo=UTC)),
        ("2027-01-31T09:00:00.5Z", datetime(2027, 1, 31, 9, 0, 0, 500000, tzinfo=UTC)),
        ("2027-01-31T09:00:00.123456789Z", datetime(2027, 1, 31, 9, 0, 0, 123456, tzinfo=UTC)),
        ("2027-01-31T23:59:59+23:59", datetime(2027, 1, 31, 0, 0, 59, tzinfo=UTC)),
    ],
)
def test_a_date_is_midnight_utc_and_an_instant_carries_its_offset(text: str, moment: datetime) -> None:
    for parsed in (expiry(text), since(text)):
        assert parsed == moment
        assert parsed is not None
        assert parsed.utcoffset() == timedelta(0)


@pytest.mark.parametrize(
    "text",
    ["2026-11-23", "2026-11-22", "1999-12-31", "0001-01-01", "2026-11-23T06:34:00Z", "2026-11-23T07:34:00+01:00"],
)
def test_an_expiry_in_the_past_is_refused_and_may_be_looked_back_to(text: str) -> None:
    assert refused(expiry, text)
    assert since(text) < NOW


def test_an_expiry_begins_a_microsecond_from_now_and_ends_in_a_hundred_years() -> None:
    assert refused(expiry, rfc3339_exact(NOW))
    assert expiry(rfc3339_exact(NOW + timedelta(microseconds=1))) == NOW + timedelta(microseconds=1)
    assert expiry(rfc3339_exact(NOW + CENTURY)) == NOW + CENTURY
    assert refused(expiry, rfc3339_exact(NOW + CENTURY + timedelta(microseconds=1)))
    assert refused(expiry, "9999-12-31")


@given(st.integers(1, 999_999_999), st.sampled_from(list(UNITS)))
def test_every_duration_counts_its_units_or_is_too_long(number: int, unit: str) -> None:
    text = f"{number}{unit}"
    if number > CENTURY // UNITS[unit]:
        assert refused(grace, text)
    else:
        assert grace(text) == number * UNITS[unit]


@given(st.dates(date(2026, 11, 24), date(2126, 11, 23)))
def test_every_date_to_come_is_an_expiry(day: date) -> None:
    assert expiry(day.isoformat()) == datetime(day.year, day.month, day.day, tzinfo=UTC)


@given(FUTURE, st.sampled_from("Tt"))
def test_every_instant_to_come_is_an_expiry_at_whatever_offset_it_is_written(moment: datetime, separator: str) -> None:
    text = moment.isoformat(separator)
    assert expiry(text) == moment
    assert since(text) == moment


@given(INSTANTS, st.sampled_from("0123456789mohdwyTtZz:-+. \n\u0663\u00b2"), st.integers(0, 32), st.integers(0, 2))
def test_what_is_near_an_instant_is_that_instant_or_refused(moment: datetime, put: str, place: int, cut: int) -> None:
    written = moment.isoformat()
    text = written[:place] + put + written[place + cut :]
    if not refused(since, text):
        assert matches_grammar(text)


# The grammar of WHEN and of RFC 3339, section 5.6, written down a second time.
HOUR, SIXTY = r"([01][0-9]|2[0-3])", r"[0-5][0-9]"
GRAMMAR = re.compile(
    rf"[0-9]+(mo|[mhdwy])|[0-9]{{4}}-[01][0-9]-[0-3][0-9]"
    rf"([Tt]{HOUR}:{SIXTY}:{SIXTY}(\.[0-9]+)?([Zz]|[+-]{HOUR}:{SIXTY}))?"
)


def matches_grammar(text: str) -> bool:
    return GRAMMAR.fullmatch(text) is not None


@given(st.text() | st.text("0123456789mohdwyTtZz:-+. \nnever\u0663") | st.from_regex(GRAMMAR, fullmatch=True))
def test_any_text_is_of_the_grammar_or_refused_and_nothing_worse(text: str) -> None:
    for parse in (expiry, since, grace):
        if not refused(parse, text):
            assert matches_grammar(text) or (text, parse) in (("never", expiry), ("0", grace))


@given(st.text(min_size=9))
def test_a_refusal_does_not_repeat_the_text(text: str) -> None:
    """Promise 12: the text may hold what a terminal acts on."""
    with pytest.raises(KeyctlError) as caught:
        expiry(text + "\x1b")
    said = caught.value.message + caught.value.hint
    assert said.isascii()
    assert said.isprintable()


@given(INSTANTS)
def test_rfc3339_is_utc_with_z_and_cuts_fractions(moment: datetime) -> None:
    text = rfc3339(moment)
    assert re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z", text)
    assert datetime.fromisoformat(text) == moment.astimezone(UTC).replace(microsecond=0)


@given(INSTANTS)
def test_rfc3339_exact_always_has_six_digits_and_loses_nothing(moment: datetime) -> None:
    text = rfc3339_exact(moment)
    assert re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}Z", text)
    assert datetime.fromisoformat(text) == moment


def test_both_forms_of_one_instant() -> None:
    assert rfc3339(NOW) == "2026-11-23T06:34:00Z"
    assert rfc3339_exact(NOW) == "2026-11-23T06:34:00.123456Z"
    whole = datetime(2027, 1, 31, 1, tzinfo=timezone(timedelta(hours=2)))
    assert rfc3339(whole) == "2027-01-30T23:00:00Z"
    assert rfc3339_exact(whole) == "2027-01-30T23:00:00.000000Z"


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("2027-01-31T09:00", "Add Z or +01:00: 2027-01-31T09:00:00Z."),
        ("2027-01-31 09:00:05", "Add Z or +01:00: 2027-01-31T09:00:05Z."),
        ("90", "90d."),
        ("7D", ": 7d."),
        ("90 days", ": 90d."),
        ("3months", ": 3mo."),
        ("2Years", ": 2y."),
        ("5 Min", ": 5m."),
    ],
)
def test_a_refusal_says_what_would_be_right_and_repeats_the_text_to_who_typed_it(text: str, hint: str) -> None:
    with pytest.raises(KeyctlError) as caught:
        expiry(text)
    assert caught.value.hint.endswith(hint)
    assert f"the expiry '{text}' " in caught.value.told


@pytest.mark.parametrize(
    ("text", "since", "until"),
    [
        ("2025", date(2025, 1, 1), date(2026, 1, 1)),
        ("2026", date(2026, 1, 1), date(2027, 1, 1)),
        ("2026-Q1", date(2026, 1, 1), date(2026, 4, 1)),
        ("2026-q4", date(2026, 10, 1), date(2027, 1, 1)),
        ("2026-07", date(2026, 7, 1), date(2026, 8, 1)),
        ("2025-12", date(2025, 12, 1), date(2026, 1, 1)),
        ("2024-02-29", date(2024, 2, 29), date(2024, 3, 1)),
        ("2026-07-01..2026-09-30", date(2026, 7, 1), date(2026, 10, 1)),
        ("2026-11-23..2026-12-31", date(2026, 11, 23), date(2027, 1, 1)),
    ],
)
def test_a_period_is_whole_days_in_utc(text: str, since: date, until: date) -> None:
    found = parse_period(text, now=NOW)
    assert (found.name, found.since.date(), found.until.date()) == (text.upper(), since, until)
    assert {(each.time(), each.tzinfo) for each in found[1:]} == {(datetime.min.time(), UTC)}


@pytest.mark.parametrize(
    "text",
    ["", "26", "2026-Q0", "2026-Q5", "2026-00", "2026-13", "2026-02-30", "2026-1", "2026-07-01..", "..2026-07-01",
     "2026-07-02..2026-07-01", "2027", "2026-12", "2026-11-24", "0000", "9999-12-31..9999-12-31", "2026-Q1..2026-Q2",
     "\u0662\u0660\u0662\u0666", "2026 ", "2026-Q1\n"],
)  # fmt: skip
def test_what_is_no_period_or_lies_in_the_future_is_refused(text: str) -> None:
    assert refused(lambda text: parse_period(text, now=NOW), text)


def test_the_quarter_of_an_instant_is_a_period_that_holds_it() -> None:
    assert [quarter_of(NOW, before=before) for before in range(5)] == [
        "2026-Q4", "2026-Q3", "2026-Q2", "2026-Q1", "2025-Q4",
    ]  # fmt: skip
    for month in range(1, 13):
        instant = datetime(2026, month, 28, tzinfo=UTC)
        found = parse_period(quarter_of(instant), now=instant)
        assert found.since <= instant < found.until
