"""Headers that tell a client early that its key is about to end: `Deprecation` (RFC 9745) and `Sunset` (RFC 8594).

Both RFCs speak of a resource: here of what answers to this key. A client library that heeds them already knows what to
do, and a proxy or a log keeps them; a header of our own would have to be taught to each. `Deprecation` says since when
the key has a successor, `Sunset` from when on it will be refused.
"""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from functools import lru_cache
from time import time
from typing import TYPE_CHECKING, Final

from alphalens_keyctl.verification.judgement import Verification
from alphalens_keyctl.vocabulary import Status

if TYPE_CHECKING:
    from alphalens_keyctl import KeyVerifier

NAMES: Final = ("Deprecation", "Sunset")
Headers = tuple[tuple[str, str], ...]
_FOLDED: Final = frozenset(name.lower() for name in NAMES)


class EarlyWarning:
    """Which accepted requests are answered with a warning: those with a key that is retiring, or that expires within
    `within`; None takes the verifier's `warn_within`. Raises ValueError for a negative time."""

    def __init__(self, verifier: "KeyVerifier", within: timedelta | None = None) -> None:
        within = verifier.warn_within if within is None else within
        if within < timedelta(0):
            raise ValueError("warn_within is a time from now on: not negative")
        self._within = within.total_seconds()

    def headers(self, answer: Verification) -> Headers:
        """Return the headers for an accepted request, none for most and for a refused one."""
        key = answer.key
        if key is None or not answer.allowed or (key.expires_at is None and key.retires_at is None):
            return ()
        is_retiring = key.status == Status.RETIRING
        if not is_retiring and (key.expires_at is None or _seconds(key.expires_at) - time() > self._within):
            return ()
        return _headers(answer.retiring_since if is_retiring else None, key.ends_at)


def names_either(names: Iterable[str | bytes]) -> bool:
    """Whether an application's own headers name Deprecation or Sunset. What an application says of its resource stands
    alone: a Sunset of ours beside its Deprecation would be read as the resource's."""
    return any((name.decode("latin-1") if isinstance(name, bytes) else name).lower() in _FOLDED for name in names)


@lru_cache(maxsize=4096)
def _headers(since: datetime | None, end: datetime | None) -> Headers:
    found = []
    if since is not None:
        found.append(("Deprecation", f"@{int(since.timestamp())}"))
    if end is not None:
        found.append(("Sunset", format_datetime(end.astimezone(UTC), usegmt=True)))
    return tuple(found)


_seconds = lru_cache(maxsize=4096)(datetime.timestamp)
