"""A key's record and an instant → whether the key opens. Asks nobody and records nothing."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

from alphalens_keyctl.keyformat import DIGEST_SCHEME
from alphalens_keyctl.models import Key, Reason, Status

_FOR_EVER: Final = float("inf")


class Verification(NamedTuple):
    """The answer, true when allowed. `key` is there when the raw key is one of ours, whether or not it opens."""

    allowed: bool
    reason: Reason
    key: Key | None

    def __bool__(self) -> bool:
        return self.allowed


class Record(NamedTuple):
    """A key as it is stored. `key.status` is the stored one, which the clock has not been asked about."""

    key: Key
    digest: bytes
    digest_scheme: str


class Judgement(NamedTuple):
    """An answer and until when it holds (seconds since the epoch), should nobody change the key."""

    answer: Verification
    until: float


def unavailable(key: Key | None = None) -> Verification:
    """The answer where none can be had: closed when in doubt (promise 9)."""
    return Verification(False, Reason.UNAVAILABLE, key)


def judge(record: Record, at: float) -> Judgement:
    """What a record means at an instant, in seconds since the epoch."""
    status, until = record.key.status_at(at)
    key = record.key._replace(status=status, labels=_fixed(record.key.labels))
    if record.digest_scheme != DIGEST_SCHEME or status is Status.DAMAGED:
        return Judgement(unavailable(key), _FOR_EVER)
    if key.opens:
        return Judgement(Verification(True, Reason.OK, key), until)
    return Judgement(Verification(False, Reason(status), key), until)


def _fixed(labels: Mapping[str, str]) -> Mapping[str, str]:
    # The answer is shared by all who ask: one who wrote into it would change what the others read.
    return labels if isinstance(labels, MappingProxyType) else MappingProxyType(labels)
