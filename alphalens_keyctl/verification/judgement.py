"""A key's record and an instant → whether the key opens. Reads no database, no clock, and records nothing."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Final, NamedTuple

from alphalens_keyctl import networks, scopes
from alphalens_keyctl.keyformat import DIGEST_SCHEME
from alphalens_keyctl.values import Key
from alphalens_keyctl.vocabulary import Reason, Status

_FOR_EVER: Final = float("inf")


class _Answer(NamedTuple):
    allowed: bool
    reason: Reason
    key: Key | None


class Verification(_Answer):
    """The answer to a raw key; its truth value is `allowed`.

    `key` is the key's record, also where the key does not open; None where the raw key is no key of this database.
    `retiring_since`, which is no field of the tuple, is when the successor of a retiring key took over; None for any
    other key, and where nobody can tell.
    """

    retiring_since: datetime | None = None

    def __bool__(self) -> bool:
        return self.allowed


class Record(NamedTuple):
    """A key as it is stored. `key.status` is the stored status: a key that has expired since may still be active."""

    key: Key
    digest: bytes
    digest_scheme: str


class Judgement(NamedTuple):
    """An answer, and the instant (seconds since the epoch) up to which it holds unless the key is changed."""

    answer: Verification
    until: float


def unavailable(key: Key | None = None) -> Verification:
    """The refusal where the database cannot tell whether the key opens: closed when in doubt (promise 9)."""
    return Verification(False, Reason.UNAVAILABLE, key)


def judge(record: Record, at: float) -> Judgement:
    """Decide whether a key opens at an instant, in seconds since the epoch."""
    status, until = record.key.status_at(at)
    key = record.key._replace(status=status, labels=_fixed(record.key.labels))
    if record.digest_scheme != DIGEST_SCHEME or status is Status.DAMAGED:
        return Judgement(unavailable(key), _FOR_EVER)
    if key.opens:
        return Judgement(Verification(True, Reason.OK, key), until)
    return Judgement(Verification(False, Reason(status), key), until)


def from_address(answer: Verification, address: str | None) -> Verification:
    """The answer to a client at `address` (None: not known for certain) with a key that has this answer from
    anywhere."""
    key = answer.key
    if not answer.allowed or key is None or networks.allows(key.allow_from, address):
        return answer
    return Verification(False, Reason.ADDRESS, key)


def for_scope(answer: Verification, wanted: str | Iterable[str]) -> Verification:
    """The answer to a request that needs the scope `wanted`, or every one of several, with a key that has this answer
    to a request that needs none. What is no scope no key covers."""
    key = answer.key
    if not answer.allowed or key is None or scopes.covers_all(key.scopes, wanted):
        return answer
    return Verification(False, Reason.SCOPE, key)


def _fixed(labels: Mapping[str, str]) -> Mapping[str, str]:
    # Every caller gets the same answer: a caller that wrote into the labels would change what the others read.
    return labels if isinstance(labels, MappingProxyType) else MappingProxyType(labels)
