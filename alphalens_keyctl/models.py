"""The tables. The migrations put what must never break into the database itself, and the indexes; this file names the
columns. Only the domain code of this package sees a row: everything else gets a `Key`, an `Event` or a `Use`, which
stand in `values`, and which this file names too. The table that the HTTP API alone asks stands in `replies`.
"""

from datetime import datetime
from typing import Final

from sqlalchemy import BigInteger, Column, Computed, ForeignKey, LargeBinary, Text, UniqueConstraint
from sqlmodel import Field, SQLModel

from alphalens_keyctl.columns import ByteOrderText, Instant, JsonObject, JsonTexts, Sequence
from alphalens_keyctl.values import Event as Event
from alphalens_keyctl.values import Key as Key
from alphalens_keyctl.values import KeyFields as KeyFields
from alphalens_keyctl.values import Use as Use
from alphalens_keyctl.vocabulary import CURRENT_SQL as CURRENT_SQL
from alphalens_keyctl.vocabulary import FINAL as FINAL
from alphalens_keyctl.vocabulary import LIVE_SUCCESSOR_SQL as LIVE_SUCCESSOR_SQL
from alphalens_keyctl.vocabulary import OPENING as OPENING
from alphalens_keyctl.vocabulary import REFUSED_ONCE as REFUSED_ONCE
from alphalens_keyctl.vocabulary import REFUSED_SQL as REFUSED_SQL
from alphalens_keyctl.vocabulary import RETIRES_SQL as RETIRES_SQL
from alphalens_keyctl.vocabulary import STATUS_AT_SQL as STATUS_AT_SQL
from alphalens_keyctl.vocabulary import STATUS_SQL as STATUS_SQL
from alphalens_keyctl.vocabulary import Action as Action
from alphalens_keyctl.vocabulary import Reason as Reason
from alphalens_keyctl.vocabulary import Status as Status


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


key_table: Final = ApiKey.__table__  # type: ignore[attr-defined]  # SQLModel sets it and does not declare it
event_table: Final = AuditEvent.__table__  # type: ignore[attr-defined]  # as above
policy_table: Final = KeyPolicy.__table__  # type: ignore[attr-defined]  # as above
usage_table: Final = UsageEvent.__table__  # type: ignore[attr-defined]  # as above
