"""Instants and spans: what people write → values, and values → RFC 3339. Every instant is aware, in UTC."""

import re
from datetime import UTC, date, datetime, timedelta
from typing import Final

from alphalens_keyctl.errors import Code, KeyctlError

# What stands for a stored time that is none, or that Python cannot hold.
UNREADABLE: Final = datetime.min.replace(tzinfo=UTC)
LONGEST_SPAN: Final = timedelta(days=36525)  # a hundred years; more is taken for a slip of the pen
_UNITS: Final = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_SPAN = re.compile(r"([0-9]{1,9})([mhdw])")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
# RFC 3339, 5.6: an offset is required, T and Z may be lower case.
_INSTANT = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?([Zz]|[+-][0-9]{2}:[0-5][0-9])"
)
_WHEN_HINT: Final = "Write a duration (30m 24h 7d 4w), a date (2027-01-31) or an instant (2027-01-31T09:00:00Z)"


def utc_now() -> datetime:
    """The present instant, UTC, to the microsecond."""
    return datetime.now(UTC)


def parse_span(text: str, *, what: str, zero: bool = False) -> timedelta:
    """`30m`, `24h`, `7d`, `4w` → a span. `zero` allows a span of nothing, also written as a bare `0`.

    `what` names the span in the message ("age"). Raises `KeyctlError` (invalid_input) for anything else, and for more
    than a hundred years.
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


def shortest_span(span: timedelta) -> str:
    """A span as `parse_span` takes it, in days, hours or minutes, whichever divides it: `365d`."""
    minutes = round(span / timedelta(minutes=1))
    for unit, length in (("d", 24 * 60), ("h", 60)):
        if minutes % length == 0:
            return f"{minutes // length}{unit}"
    return f"{minutes}m"


def parse_expiry(text: str, *, now: datetime) -> datetime | None:
    """The instant at which a key is to expire: a span from `now`, a date (00:00 UTC) or an RFC 3339 instant; None for
    `never`. Raises `KeyctlError` (invalid_input) for anything else, a past instant, or more than a hundred years."""
    if text == "never":
        return None
    if _SPAN.fullmatch(text) is not None:
        return now + parse_span(text, what="expiry")
    expiry = _parse_instant(text, what="expiry", also=", or 'never'.")
    if expiry <= now:
        raise _refusal("expiry", "lies in the past", "Choose an instant to come; revoke a key to end it now.")
    if expiry - now > LONGEST_SPAN:
        raise _refusal("expiry", "is more than a hundred years away", "Choose a nearer one, or 'never'.")
    return expiry


def parse_since(text: str, *, what: str, now: datetime) -> datetime:
    """An instant to look back to: a span before `now`, a date (00:00 UTC) or an RFC 3339 instant. Raises `KeyctlError`
    (invalid_input) for anything else."""
    if _SPAN.fullmatch(text) is not None:
        return now - parse_span(text, what=what)
    return _parse_instant(text, what=what, also=".")


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
            day = date.fromisoformat(text)
            return datetime(day.year, day.month, day.day, tzinfo=UTC)
        if _INSTANT.fullmatch(text) is not None:
            return datetime.fromisoformat(text.upper()).astimezone(UTC)
    except (ValueError, OverflowError):
        raise _refusal(what, "names a day or time that does not exist", _WHEN_HINT + also) from None
    raise _refusal(what, "is neither a duration, a date nor an instant", _WHEN_HINT + also)


def _refusal(what: str, problem: str, hint: str) -> KeyctlError:
    return KeyctlError(Code.INVALID_INPUT, f"the {what} {problem}", hint)
