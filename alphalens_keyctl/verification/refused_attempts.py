"""Refused attempts that wait to be written, coalesced so that an attacker cannot fill the disk (promise 8)."""

from collections import deque
from collections.abc import Mapping
from typing import Final, NamedTuple

from alphalens_keyctl.verification import usage_log
from alphalens_keyctl.verification.usage_log import Kind, Refusals
from alphalens_keyctl.vocabulary import Reason

# Kinds of refused attempts in a minute, and kinds that wait, beyond which attempts of a new kind are counted by their
# reason alone: an attacker may choose addresses, not how many rows are written.
_MOST_KINDS_A_MINUTE: Final = 1000
_MOST_KINDS: Final = 10_000


class Refusal(NamedTuple):
    """A refused attempt, as the client sent it. `at` is in seconds since the epoch."""

    at: float
    reason: Reason
    key_id: str | None
    client_ip: str | None
    method: str | None
    path: str | None
    user_agent: str | None


class RefusedAttempts:
    """Attempts that any thread takes, and kinds of attempts, which the recorder's thread alone counts."""

    def __init__(self) -> None:
        self._attempted: deque[Refusal] = deque()
        self._refused: dict[Kind, Refusals] = {}
        self._minute, self._kinds_of_minute = 0, 0

    def __bool__(self) -> bool:
        return bool(self._attempted or self._refused)

    @property
    def waiting(self) -> int:
        """The number of attempts that were not coalesced yet."""
        return len(self._attempted)

    @property
    def kinds(self) -> int:
        """The number of kinds that were put back."""
        return len(self._refused)

    def take(self, refusal: Refusal) -> None:
        """Take an attempt, from any thread."""
        self._attempted.append(refusal)

    def coalesced(self) -> dict[Kind, Refusals]:
        """Take out what waits now, counted by kind."""
        for _ in range(len(self._attempted)):
            attempt = self._attempted.popleft()
            kind = self._kind_of(attempt)
            known = self._refused.get(kind)
            count = 1 if known is None else known.count + 1
            first = attempt if known is None else known
            self._refused[kind] = Refusals(count, first.method, first.path, first.user_agent)
        refused, self._refused = self._refused, {}
        return refused

    def put_back(self, refused: Mapping[Kind, Refusals]) -> None:
        """Keep what was not written for the next time."""
        for kind, attempts in refused.items():
            known = self._refused.get(kind)
            self._refused[kind] = attempts._replace(count=attempts.count + (known.count if known else 0))

    def _kind_of(self, attempt: Refusal) -> Kind:
        minute = int(attempt.at // 60)
        if minute != self._minute:
            self._minute, self._kinds_of_minute = minute, 0
        # As the row will have it: two attempts that share a row must be of one kind.
        client_ip = usage_log.tamed(attempt.client_ip, usage_log.LONGEST_OTHER)
        kind = Kind(minute, attempt.reason, attempt.key_id, client_ip)
        if kind in self._refused:
            return kind
        self._kinds_of_minute += 1
        if self._kinds_of_minute > _MOST_KINDS_A_MINUTE or len(self._refused) >= _MOST_KINDS:
            return Kind(minute, attempt.reason, None, None)
        return kind
