"""The closed lists of words that the tables hold, and what a key's status is, said to a database.

Standard library alone: TAB and `KeyVerifier` need these words and have no time for SQLModel.
"""

from enum import StrEnum
from typing import Final


class Status(StrEnum):
    """What a key is at an instant. The table stores every status but `expired` and `retired`, which the clock adds,
    and `damaged`, which is what a key is whose row holds a value that this program never writes (see `damage`)."""

    PENDING = "pending"
    DELIVERING = "delivering"
    ACTIVE = "active"
    SUSPENDED = "suspended"
    RETIRING = "retiring"
    RETIRED = "retired"
    EXPIRED = "expired"
    REVOKED = "revoked"
    DAMAGED = "damaged"


class Action(StrEnum):
    """What an audit event records. A word is added, never renamed: the audit log is kept for ever."""

    CREATE = "key.create"
    DELIVER = "key.deliver"
    ACTIVATE = "key.activate"
    DISCARD = "key.discard"
    ROTATE = "key.rotate"
    ABORT = "key.abort"
    REVOKE = "key.revoke"
    SUSPEND = "key.suspend"
    RESUME = "key.resume"
    UPDATE = "key.update"
    BIND = "key.bind"
    PRUNE_USAGE = "usage.prune"
    SET_POLICY = "policy.set"


class Reason(StrEnum):
    """Why a raw key opens or does not: a closed list, part of the JSON contract (a word is added, never renamed)."""

    OK = "ok"
    MALFORMED = "malformed"
    UNKNOWN = "unknown"
    PENDING = "pending"
    SUSPENDED = "suspended"
    RETIRED = "retired"
    EXPIRED = "expired"
    REVOKED = "revoked"
    UNAVAILABLE = "unavailable"
    SCOPE = "scope"
    ADDRESS = "address"
    FORBIDDEN = "forbidden"


# The statuses under which a key opens.
OPENING: Final = frozenset({Status.ACTIVE, Status.RETIRING, Status.DELIVERING})
# A key of a final status opens nothing, and nothing brings it back.
FINAL: Final = frozenset({Status.REVOKED, Status.RETIRED})

# What `values.Key` says in Python, said to the database.
CURRENT_SQL: Final = "revoked_at IS NULL AND retires_at IS NULL AND (activated_at IS NOT NULL OR replaces IS NULL)"
LIVE_SUCCESSOR_SQL: Final = "replaces IS NOT NULL AND revoked_at IS NULL"
# Derived inside the database, so that no code can leave a status that contradicts the times beside it.
STATUS_SQL: Final = (
    "CASE WHEN revoked_at IS NOT NULL THEN 'revoked'"
    " WHEN activated_at IS NULL AND delivering_to IS NULL THEN 'pending'"
    " WHEN suspended_at IS NOT NULL THEN 'suspended'"
    " WHEN activated_at IS NULL THEN 'delivering'"
    " WHEN retires_at IS NOT NULL THEN 'retiring'"
    " ELSE 'active' END"
)
# When a key that was rotated out stops opening. One that was rotated out "until used" keeps its last date until the
# first use of its successor is on record; the grace runs from that use. The end is derived, so that recording a use
# never writes to another key.
_FIRST_USE: Final = "(SELECT awaited.first_used_at FROM api_key AS awaited WHERE awaited.id = api_key.awaits_use_of)"
_LONGEST_GRACE: Final = 36525 * 86400  # seconds; a hundred years
RETIRES_SQL: Final = {
    "sqlite": (
        "CASE WHEN api_key.grace_after_use IS NULL THEN api_key.retires_at ELSE min(api_key.retires_at, coalesce("
        f"strftime('%Y-%m-%d %H:%M:%f000', {_FIRST_USE}, '+' || api_key.grace_after_use || ' seconds'),"
        " api_key.retires_at)) END"
    ),
    "postgresql": (
        "CASE WHEN api_key.grace_after_use IS NULL THEN api_key.retires_at ELSE least(api_key.retires_at,"
        # Within what PostgreSQL can reckon with: an overflow in one row would be the end of every list.
        f" least({_FIRST_USE}, TIMESTAMPTZ '9999-01-01 00:00:00+00')"
        f" + make_interval(secs => least(api_key.grace_after_use, {_LONGEST_GRACE}))) END"
    ),
}
# The status of a key at an instant, `:now`: the stored one, and what the clock makes of it, as `Key.status_at` has it.
# A key that was rotated out has given its name up: past its end the key is retired, whichever end came first.
STATUS_AT_SQL: Final = {
    dialect: (
        "CASE WHEN api_key.status IN ('pending', 'revoked') THEN api_key.status"
        f" WHEN api_key.retires_at IS NOT NULL AND (:now >= {retires} OR api_key.expires_at <= :now) THEN 'retired'"
        " WHEN api_key.expires_at <= :now THEN 'expired' ELSE api_key.status END"
    )
    for dialect, retires in RETIRES_SQL.items()
}

# The largest number that an event or a use can have: both databases keep 64 bits, one of them for the sign.
LARGEST_NUMBER: Final = 2**63 - 1

# Refused attempts share a row for each minute and each value of these; an upsert finds the row by them.
REFUSED_ONCE: Final = ("at", "outcome", "coalesce(key_id, '')", "coalesce(client_ip, '')")
REFUSED_SQL: Final = "outcome <> 'ok'"
