"""One look at one raw key. Records nothing: a look is not a use."""

from datetime import datetime
from enum import StrEnum
from typing import Final, NamedTuple

from sqlalchemy import Connection, select

from alphalens_keyctl import selection
from alphalens_keyctl.keyformat import DIGEST_SCHEME, MalformedKeyError, parse, same_digest
from alphalens_keyctl.models import Key, Status, keys


class Reason(StrEnum):
    """Why a key opens or does not: a closed list, part of the JSON contract."""

    OK = "ok"
    MALFORMED = "malformed"
    UNKNOWN = "unknown"
    PENDING = "pending"
    SUSPENDED = "suspended"
    RETIRED = "retired"
    EXPIRED = "expired"
    REVOKED = "revoked"
    UNAVAILABLE = "unavailable"


class Verification(NamedTuple):
    """The answer. `key` is there when the raw key is one of ours, whether or not it opens."""

    allowed: bool
    reason: Reason
    key: Key | None


_OPENS: Final = frozenset({Status.ACTIVE, Status.RETIRING, Status.DELIVERING})


def check(connection: Connection, presented: bytes, *, now: datetime) -> Verification:
    """Whether `presented`, a header's value as it came, opens at `now`. Never raises on what it is given."""
    try:
        raw = parse(presented)
    except MalformedKeyError:
        return Verification(False, Reason.MALFORMED, None)
    stored = connection.execute(select(keys.c.digest, keys.c.digest_scheme).where(keys.c.id == raw.id)).first()
    key = selection.get(connection, raw.id, now=now)
    # A real id with a wrong secret is as unknown as a made-up one: the answer must not tell which ids exist.
    if stored is None or key is None or not same_digest(bytes(stored.digest), raw.digest()):
        return Verification(False, Reason.UNKNOWN, None)
    if stored.digest_scheme != DIGEST_SCHEME:
        return Verification(False, Reason.UNAVAILABLE, key)
    status = Status(key.status)
    return Verification(True, Reason.OK, key) if status in _OPENS else Verification(False, Reason(status), key)
