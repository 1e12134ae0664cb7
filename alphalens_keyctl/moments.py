"""Instants and spans: what people write → values, and values → RFC 3339. Every instant is aware, in UTC."""

import re
from datetime import UTC, date, datetime, timedelta
from typing import Final, NamedTuple

from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.text import counted, quoted

# What stands for a stored time that is none, or that Python cannot hold.
UNREADABLE: Final = datetime.min.replace(tzinfo=UTC)
LONGEST_SPAN: Final = timedelta(days=36525)  # a hundred years; more is taken for a slip of the pen
# A month is 30 days and a year 365, whenever it begins: a span in config.toml begins nowhere.
_UNITS: Final = {
    "m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1),
    "mo": timedelta(days=30), "y": timedelta(days=365),
}  # fmt: skip
_SPAN = re.compile(r"([0-9]{1,9})(mo|[mhdwy])")
# What people write for a span that has no other meaning: "90 days", "7D", "3 months".
_NEAR_SPAN: Final = r"(?i:([0-9]{1,9}) ?(m|mo|h|d|w|y|mins?|minutes?|hours?|days?|weeks?|months?|years?))"
_SHORT: Final = {"mi": "m", "mo": "mo"}
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
# RFC 3339, 5.6: an offset is required, T and Z may be lower case.
_INSTANT = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?([Zz]|[+-][0-9]{2}:[0-5][0-9])"
)
_LOCAL_INSTANT: Final = r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,9})?)?"
# Years, quarters, months, days, and days with all between them.
_PERIOD: Final = re.compile(
    r"(?P<year>[0-9]{4})(-[Qq](?P<quarter>[1-4])|-(?P<month>[0-9]{2}))?"
    r"|(?P<first>[0-9]{4}-[0-9]{2}-[0-9]{2})(\.\.(?P<last>[0-9]{4}-[0-9]{2}-[0-9]{2}))?"
)
_PERIODS: Final = "Write a year (2026), a quarter (2026-Q3), a month (2026-07) or days (2026-07-01..2026-09-30)."
_SPANS: Final = "30m 24h 7d 4w 3mo 1y"
_WHEN_HINT: Final = f"Write a duration ({_SPANS}), a date (2027-01-31) or an instant (2027-01-31T09:00:00Z)"


class Period(NamedTuple):
    """Whole days in UTC: `since` is in the period, `until` is not. `name` is what people call it."""

    name: str
    since: datetime
    until: datetime


def utc_now() -> datetime:
    """The present instant, UTC, to the microsecond."""
    return datetime.now(UTC)


def parse_span(text: str, *, what: str, zero: bool = False) -> timedelta:
    """`30m`, `24h`, `7d`, `4w`, `3mo` (90 days), `1y` (365 days) → a span. `zero` allows a span of nothing, also
    written as a bare `0`.

    `what` names the span in the message ("age"). Raises `KeyctlError` (invalid_input) for anything else, and for more
    than a hundred years.
    """
    if zero and text == "0":
        return timedelta(0)
    match = _SPAN.fullmatch(text)
    if match is None:
        raise _refusal(what, text, "is not a duration", f"Write a number and a unit: {_meant_span(text) or _SPANS}.")
    try:
        span = int(match[1]) * _UNITS[match[2]]
    except OverflowError:
        span = timedelta.max
    if not span and not zero:
        raise _refusal(what, text, "is a duration of nothing", "Write at least 1m.")
    if span > LONGEST_SPAN:
        raise _refusal(what, text, "is more than a hundred years", "Choose a shorter duration.")
    return span


def shortest_span(span: timedelta) -> str:
    """A span as `parse_span` takes it, in days, hours or minutes, whichever divides it: `365d`."""
    minutes = round(span / timedelta(minutes=1))
    for unit, length in (("d", 24 * 60), ("h", 60)):
        if minutes % length == 0:
            return f"{minutes // length}{unit}"
    return f"{minutes}m"


def exactly(span: timedelta) -> str:
    """A span that is a limit, in words: days, hours or minutes, whichever divides it: "70 days"."""
    for unit, name in ((24 * 60, "day"), (60, "hour")):
        number, rest = divmod(span, timedelta(minutes=unit))
        if number and not rest:
            return counted(number, name)
    return counted(span // timedelta(minutes=1), "minute")


def parse_expiry(text: str, *, now: datetime) -> datetime | None:
    """The instant at which a key is to expire: a span from `now`, a date (00:00 UTC) or an RFC 3339 instant; None for
    `never`. Raises `KeyctlError` (invalid_input) for anything else, a past instant, or more than a hundred years."""
    if text == "never":
        return None
    if _SPAN.fullmatch(text) is not None:
        return now + parse_span(text, what="expiry")
    expiry = _parse_instant(text, what="expiry", also=", or 'never'.")
    if expiry <= now:
        raise _refusal("expiry", text, "lies in the past", "Choose an instant to come; revoke a key to end it now.")
    if expiry - now > LONGEST_SPAN:
        raise _refusal("expiry", text, "is more than a hundred years away", "Choose a nearer one, or 'never'.")
    return expiry


def parse_since(text: str, *, what: str, now: datetime) -> datetime:
    """An instant to look back to: a span before `now`, a date (00:00 UTC) or an RFC 3339 instant. Raises `KeyctlError`
    (invalid_input) for anything else."""
    if _SPAN.fullmatch(text) is not None:
        return now - parse_span(text, what=what)
    return _parse_instant(text, what=what, also=".")


def parse_period(text: str, *, now: datetime) -> Period:
    """`2026`, `2026-Q3`, `2026-07`, `2026-07-01` or `2026-07-01..2026-09-30`, which ends with its last day, in UTC.

    A period may go on at `now`. Raises `KeyctlError` (invalid_input) for anything else, and for one to come.
    """
    found = _PERIOD.fullmatch(text)
    if found is None:
        raise _refusal("period", text, "is none", _PERIODS)
    try:
        since, until = _whole_days(found)
    except (ValueError, OverflowError):
        raise _refusal("period", text, "names a day or month that does not exist", _PERIODS) from None
    if until <= since:
        raise _refusal("period", text, "ends before it begins", _PERIODS)
    if since > now:
        raise _refusal("period", text, "lies in the future", _PERIODS)
    return Period(text.upper(), since, until)


def quarter_of(moment: datetime, *, before: int = 0) -> str:
    """The quarter of an instant, or one so many quarters before it, as `parse_period` takes it: `2026-Q3`."""
    year, quarter = divmod(moment.year * 4 + (moment.month - 1) // 3 - before, 4)
    return f"{year:04}-Q{quarter + 1}"


def _whole_days(found: re.Match[str]) -> tuple[datetime, datetime]:
    if found["first"]:
        first, last = date.fromisoformat(found["first"]), date.fromisoformat(found["last"] or found["first"])
        return _midnight(first), _midnight(last + timedelta(days=1))
    year, months, month = int(found["year"]), 12, 1
    if found["quarter"]:
        months, month = 3, 3 * int(found["quarter"]) - 2
    elif found["month"]:
        months, month = 1, int(found["month"])
    years, behind = divmod(month - 1 + months, 12)
    return _midnight(date(year, month, 1)), _midnight(date(year + years, behind + 1, 1))


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def rfc3339(moment: datetime) -> str:
    """An aware datetime as RFC 3339 in UTC with `Z`, in whole seconds (a fraction is cut off, not rounded)."""
    if moment.tzinfo is not UTC:
        moment = moment.astimezone(UTC)
    return moment.isoformat(timespec="seconds")[:-6] + "Z"


def rfc3339_exact(moment: datetime) -> str:
    """An aware datetime as RFC 3339 in UTC with `Z` and six digits of a second, the form that the audit log hashes."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds")[:-6] + "Z"


def _parse_instant(text: str, *, what: str, also: str) -> datetime:
    try:
        if _DATE.fullmatch(text) is not None:
            return _midnight(date.fromisoformat(text))
        if _INSTANT.fullmatch(text) is not None:
            return datetime.fromisoformat(text.upper()).astimezone(UTC)
    except (ValueError, OverflowError):
        raise _refusal(what, text, "names a day or time that does not exist", _WHEN_HINT + also) from None
    if re.fullmatch(_LOCAL_INSTANT, text) is not None:
        seconds = "" if text.count(":") == 2 else ":00"
        hint = f"Add Z or +01:00: {text[:10]}T{text[11:]}{seconds}Z."
        raise _refusal(what, text, "says nothing of its time zone", hint)
    meant = _meant_span(text)
    if meant is not None:
        raise _refusal(what, text, "is not a duration", f"Write a number and a unit: {meant}.")
    raise _refusal(what, text, "is neither a duration, a date nor an instant", _WHEN_HINT + also)


def _meant_span(text: str) -> str | None:
    """Return how a span is written that `text` almost is, or None."""
    if re.fullmatch(r"[1-9][0-9]{0,8}", text) is not None:
        return f"{text}d"
    match = re.fullmatch(_NEAR_SPAN, text)
    if match is None or text != text.strip():
        return None
    unit = match[2].lower()
    return match[1] + _SHORT.get(unit[:2], unit[0])


def _refusal(what: str, text: str, problem: str, hint: str) -> KeyctlError:
    told = f"the {what} {quoted(text)} {problem}" if text else None
    return KeyctlError(Code.INVALID_INPUT, f"the {what} {problem}", hint, told=told)
