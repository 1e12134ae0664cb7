"""The values that leave the tables: a key, an audit event, a row of the usage log.

Standard library alone: `KeyVerifier` hands keys out, and a service has no use for SQLModel. The tables are in `models`.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, Generic, NamedTuple, TypeVar

from alphalens_keyctl.vocabulary import OPENING, Status

_Time = TypeVar("_Time")
_Labels = TypeVar("_Labels")
_Texts = TypeVar("_Texts")
_FOR_EVER: Final = float("inf")


class KeyFields(NamedTuple, Generic[_Time, _Labels, _Texts]):
    """The fields of K, the JSON contract's word for a key, in their order. Everything that lists the fields of a key
    takes them from here."""

    id: str
    name: str
    status: str
    owner: str | None
    purpose: str | None
    labels: _Labels
    created_at: _Time
    created_by: str
    activated_at: _Time | None
    expires_at: _Time | None
    retires_at: _Time | None
    suspended_at: _Time | None
    last_used_at: _Time | None
    use_count: int
    revoked_at: _Time | None
    revoked_by: str | None
    revoke_reason: str | None
    replaces: str | None
    replaced_by: str | None
    delivering_to: str | None
    scopes: _Texts | None
    allow_from: _Texts | None


class Key(KeyFields[datetime, Mapping[str, str], tuple[str, ...]]):
    """A key as the rest of the program sees it. Times are aware, in UTC. `status` is the status at the instant of the
    query, unless a docstring says that it is the stored one. `scopes` None: the key may do everything but administer
    keys; `allow_from` None: it may be used from anywhere."""

    __slots__ = ()

    @property
    def is_current(self) -> bool:
        """Whether the name of the key means this key. `CURRENT_SQL` says the same to the database."""
        in_place = self.activated_at is not None or self.replaces is None
        return in_place and self.retires_at is None and self.revoked_at is None

    @property
    def is_unfinished(self) -> bool:
        """Whether the delivery of the key has not ended: the key is pending, or is delivering whatever the clock or
        an admin made of it since."""
        return self.activated_at is None and self.revoked_at is None

    @property
    def opens(self) -> bool:
        """Whether a key of this status opens."""
        return self.status in OPENING

    @property
    def ends_at(self) -> datetime | None:
        """The instant at which the clock ends the key, at its expiry or its retirement; None where neither is set."""
        if self.expires_at is None or self.retires_at is None:
            return self.expires_at or self.retires_at
        return min(self.expires_at, self.retires_at)

    def status_at(self, at: float) -> tuple[Status, float]:
        """What the clock makes of the stored status at an instant, and until when that holds should nobody change
        the key. Both instants are in seconds since the epoch. `conditions.status_at` says the same to the database."""
        status = Status(self.status)
        if status in (Status.PENDING, Status.REVOKED):
            return status, _FOR_EVER
        ends_at = self.ends_at
        end = _FOR_EVER if ends_at is None else ends_at.timestamp()
        if at < end:
            return status, end
        # A key rotated out has given its name up: past its end the key is retired, whichever end came first.
        return (Status.EXPIRED if self.retires_at is None else Status.RETIRED), _FOR_EVER


class Event(NamedTuple):
    """An audit event as the rest of the program sees it: E of the JSON contract, in its order. `at` is aware, in
    UTC."""

    seq: int
    at: datetime
    actor: str
    action: str
    key_id: str | None
    key_name: str | None
    detail: Mapping[str, Any]
    hash: bytes


class Use(NamedTuple):
    """A row of the usage log on its way to a machine format: U of the JSON contract, in its order. `at` is text in the
    form of `moments.rfc3339_exact`, or None where somebody wrote what is no time."""

    id: int
    at: str | None
    key_id: str | None
    key_name: str | None
    outcome: str
    client_ip: str | None
    method: str | None
    path: str | None
    user_agent: str | None
    count: int  # type: ignore[assignment]  # the contract's word, over a method of tuples that nobody needs here
