"""Points in time and spans: what people write, and how they are written back. Always UTC inside."""

import re
from datetime import UTC, date, datetime, timedelta
from typing import Final

from alphalens_keyctl.errors import Code, KeyctlError

LONGEST_SPAN: Final = timedelta(days=36525)  # a hundred years: design, section 5
_UNITS: Final = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_SPAN = re.compile(r"([0-9]{1,9})([mhdw])")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
# RFC 3339, section 5.6: an offset is required, T and Z may be lower case.
_INSTANT = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?([Zz]|[+-][0-9]{2}:[0-5][0-9])"
)
_WHEN_HINT: Final = "Write a duration (30m 24h 7d 4w), a date (2027-01-31) or an instant (2027-01-31T09:00:00Z)"


def utc_now() -> datetime:
    """The present instant, UTC, to the microsecond."""
    return datetime.now(UTC)


def parse_span(text: str, *, what: str, zero: bool = False) -> timedelta:
    """`30m 24h 7d 4w` → a span. A bare `0` is a span where `zero` says that none makes sense.

    Raises `KeyctlError` (invalid_input) for anything else, and beyond a hundred years.
    """
    if zero and text == "0":
        return timedelta(0)
    match = _SPAN.fullmatch(text)
    if match is None:
        raise _refusal(what, "is not a duration", "Write a number and a unit: 30m 24h 7d 4w.")
    try:
        span = timedelta(**{_UNITS[match[2]]: int(match[1])})
    except OverflowError:
        span = timedelta.max
    if not span and not zero:
        raise _refusal(what, "is a duration of nothing", "Write at least 1m.")
    if span > LONGEST_SPAN:
        raise _refusal(what, "is more than a hundred years", "Choose a shorter duration.")
    return span


def parse_expiry(text: str, *, now: datetime) -> datetime | None:
    """When a key shall expire: a span from `now`, a date (00:00 UTC), an RFC 3339 instant, or `never` → None."""
    if text == "never":
        return None
    if _SPAN.fullmatch(text) is not None:
        return now + parse_span(text, what="expiry")
    expiry = _parse_point(text, what="expiry", also=", or 'never'.")
    if expiry <= now:
        raise _refusal("expiry", "lies in the past", "Choose an instant to come; revoke a key to end it now.")
    if expiry - now > LONGEST_SPAN:
        raise _refusal("expiry", "is more than a hundred years away", "Choose a nearer one, or 'never'.")
    return expiry


def parse_since(text: str, *, what: str, now: datetime) -> datetime:
    """A point to look back to: a span before `now`, a date (00:00 UTC) or an RFC 3339 instant."""
    if _SPAN.fullmatch(text) is not None:
        return now - parse_span(text, what=what)
    return _parse_point(text, what=what, also=".")


def rfc3339(moment: datetime) -> str:
    """An aware datetime as RFC 3339 in UTC with `Z`, whole seconds (fractions are cut, not rounded)."""
    if moment.tzinfo is not UTC:
        moment = moment.astimezone(UTC)
    return moment.isoformat(timespec="seconds")[:-6] + "Z"


def rfc3339_exact(moment: datetime) -> str:
    """The same to the microsecond, always with six digits: the form the audit chain hashes."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds")[:-6] + "Z"


def _parse_point(text: str, *, what: str, also: str) -> datetime:
    try:
        if _DATE.fullmatch(text) is not None:
            day = date.fromisoformat(text)
            return datetime(day.year, day.month, day.day, tzinfo=UTC)
        if _INSTANT.fullmatch(text) is not None:
            return datetime.fromisoformat(text.upper()).astimezone(UTC)
    except (ValueError, OverflowError):
        raise _refusal(what, "names a day or time that does not exist", _WHEN_HINT + also) from None
    raise _refusal(what, "is neither a duration, a date nor an instant", _WHEN_HINT + also)


def _refusal(what: str, problem: str, hint: str) -> KeyctlError:
    return KeyctlError(Code.INVALID_INPUT, f"the {what} {problem}", hint)
