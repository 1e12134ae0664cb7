"""The tables, and the values that leave them.

The migrations put what must never break into the database itself, and the indexes; this file names the columns. Only
the domain code of this package sees a row: everything else gets a `Key`, an `Event` or a `Use`.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, Generic, NamedTuple, TypeVar

from sqlalchemy import BigInteger, Column, Computed, ForeignKey, LargeBinary, Text, UniqueConstraint
from sqlmodel import Field, SQLModel

from alphalens_keyctl.columns import ByteOrderText, Instant, JsonObject, JsonTexts, Sequence
from alphalens_keyctl.vocabulary import CURRENT_SQL as CURRENT_SQL
from alphalens_keyctl.vocabulary import FINAL as FINAL
from alphalens_keyctl.vocabulary import LIVE_SUCCESSOR_SQL as LIVE_SUCCESSOR_SQL
from alphalens_keyctl.vocabulary import OPENING as OPENING
from alphalens_keyctl.vocabulary import RETIRES_SQL as RETIRES_SQL
from alphalens_keyctl.vocabulary import STATUS_SQL as STATUS_SQL
from alphalens_keyctl.vocabulary import Action as Action
from alphalens_keyctl.vocabulary import Reason as Reason
from alphalens_keyctl.vocabulary import Status as Status

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


class ApiKey(SQLModel, table=True):
    """The row of a key. It holds the digest of the raw key, and never the raw key."""

    __tablename__ = "api_key"

    id: str = Field(sa_column=Column(ByteOrderText, primary_key=True))
    name: str = Field(sa_type=Text)
    name_folded: str = Field(sa_column=Column(ByteOrderText, nullable=False))
    status: str | None = Field(
        default=None, sa_column=Column(Text, Computed(STATUS_SQL, persisted=True), nullable=False)
    )
    owner: str | None = Field(default=None, sa_type=Text)
    purpose: str | None = Field(default=None, sa_type=Text)
    labels: dict[str, str] = Field(sa_column=Column(JsonObject(), nullable=False))
    created_at: datetime = Field(sa_type=Instant)
    created_by: str = Field(sa_type=Text)
    activated_at: datetime | None = Field(default=None, sa_type=Instant)
    expires_at: datetime | None = Field(default=None, sa_type=Instant)
    retires_at: datetime | None = Field(default=None, sa_type=Instant)
    suspended_at: datetime | None = Field(default=None, sa_type=Instant)
    last_used_at: datetime | None = Field(default=None, sa_type=Instant)
    use_count: int = Field(default=0, sa_type=BigInteger)
    revoked_at: datetime | None = Field(default=None, sa_type=Instant)
    revoked_by: str | None = Field(default=None, sa_type=Text)
    revoke_reason: str | None = Field(default=None, sa_type=Text)
    replaces: str | None = Field(default=None, sa_column=Column(ByteOrderText, ForeignKey("api_key.id")))
    replaced_by: str | None = Field(default=None, sa_column=Column(ByteOrderText, ForeignKey("api_key.id")))
    delivering_to: str | None = Field(default=None, sa_type=Text)
    scopes: tuple[str, ...] | None = Field(default=None, sa_column=Column(JsonTexts()))
    allow_from: tuple[str, ...] | None = Field(default=None, sa_column=Column(JsonTexts()))
    lease_until: datetime | None = Field(default=None, sa_type=Instant)
    first_used_at: datetime | None = Field(default=None, sa_type=Instant)
    awaits_use_of: str | None = Field(default=None, sa_column=Column(ByteOrderText, ForeignKey("api_key.id")))
    grace_after_use: int | None = Field(default=None, sa_type=BigInteger)
    digest: bytes = Field(sa_type=LargeBinary)
    digest_scheme: str = Field(sa_type=Text)


class AuditEvent(SQLModel, table=True):
    """The row of an audit event, a link of the hash chain. `detail` is JSON text, kept to the letter because the hash
    covers it."""

    __tablename__ = "audit_event"
    __table_args__ = (UniqueConstraint("previous_hash", name="audit_event_one_follower"),)

    seq: int = Field(sa_column=Column(Sequence, primary_key=True, autoincrement=False))
    at: datetime = Field(sa_type=Instant)
    actor: str = Field(sa_type=Text)
    action: str = Field(sa_type=Text)
    key_id: str | None = Field(default=None, sa_type=Text)
    key_name: str | None = Field(default=None, sa_type=Text)
    detail: str = Field(sa_type=Text)
    previous_hash: bytes = Field(sa_type=LargeBinary)
    hash: bytes = Field(sa_type=LargeBinary)


# Refused attempts share a row for each minute and each value of these; an upsert finds the row by them.
REFUSED_ONCE: Final = ("at", "outcome", "coalesce(key_id, '')", "coalesce(client_ip, '')")
REFUSED_SQL: Final = "outcome <> 'ok'"


class UsageEvent(SQLModel, table=True):
    """The row of a use of a key, or of the attempts of one kind that were refused within a minute.

    `at` is the instant of the use, or the start of the minute of the refused attempts. PostgreSQL partitions the
    table by month, which this class does not show.
    """

    __tablename__ = "usage_event"

    id: int = Field(sa_column=Column(Sequence, primary_key=True))
    at: datetime = Field(sa_type=Instant)
    key_id: str | None = Field(default=None, sa_column=Column(ByteOrderText))
    outcome: str = Field(sa_type=Text)
    client_ip: str | None = Field(default=None, sa_type=Text)
    method: str | None = Field(default=None, sa_type=Text)
    path: str | None = Field(default=None, sa_type=Text)
    user_agent: str | None = Field(default=None, sa_type=Text)
    count: int = Field(default=1, sa_type=BigInteger)


class KeyPolicy(SQLModel, table=True):
    """The stored policy: one row, or none. `max_lifetime` is in seconds, `required` has words joined by commas."""

    __tablename__ = "key_policy"

    one: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    max_lifetime: int | None = Field(default=None, sa_type=BigInteger)
    required: str = Field(sa_type=Text)
    name_pattern: str | None = Field(default=None, sa_type=Text)


class ApiReply(SQLModel, table=True):
    """What the HTTP API answered to a request with an `Idempotency-Key`, without the raw key. `request` is the digest
    of the request; without `status` the request is under way."""

    __tablename__ = "api_reply"

    caller: str = Field(sa_column=Column(Text, primary_key=True))
    idempotency_key: str = Field(sa_column=Column(Text, primary_key=True))
    at: datetime = Field(sa_type=Instant)
    request: bytes = Field(sa_type=LargeBinary)
    status: int | None = Field(default=None, sa_type=BigInteger)
    answer: str | None = Field(default=None, sa_type=Text)


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


key_table: Final = ApiKey.__table__  # type: ignore[attr-defined]  # SQLModel sets it and does not declare it
reply_table: Final = ApiReply.__table__  # type: ignore[attr-defined]  # as above
event_table: Final = AuditEvent.__table__  # type: ignore[attr-defined]  # as above
policy_table: Final = KeyPolicy.__table__  # type: ignore[attr-defined]  # as above
usage_table: Final = UsageEvent.__table__  # type: ignore[attr-defined]  # as above
