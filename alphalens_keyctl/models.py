"""The tables, and the values that leave them.

What must never break is held by the database and made by the migrations; here stand the columns. Nothing
outside this package's domain code sees a row: it sees `Key`, `Event` and `Use`.
"""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, NamedTuple

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Computed,
    Dialect,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.types import TypeDecorator, TypeEngine
from sqlmodel import Field, SQLModel


class Status(StrEnum):
    """What a key is at an instant. The table knows all but `expired` and `retired`, which the clock adds."""

    PENDING = "pending"
    DELIVERING = "delivering"
    ACTIVE = "active"
    SUSPENDED = "suspended"
    RETIRING = "retiring"
    RETIRED = "retired"
    EXPIRED = "expired"
    REVOKED = "revoked"


class Action(StrEnum):
    """What an audit event records. A word is added, never renamed: the log is for ever."""

    CREATE = "key.create"
    DELIVER = "key.deliver"
    ACTIVATE = "key.activate"
    DISCARD = "key.discard"
    ROTATE = "key.rotate"
    ABORT = "key.abort"
    REVOKE = "key.revoke"
    SUSPEND = "key.suspend"
    RESUME = "key.resume"
    PRUNE_USAGE = "usage.prune"


class Reason(StrEnum):
    """Why a raw key opens or does not: a closed list, part of the JSON contract."""

    OK = "ok"
    MALFORMED = "malformed"
    UNKNOWN = "unknown"
    PENDING = "pending"
    SUSPENDED = "suspended"
    RETIRED = "retired"
    EXPIRED = "expired"
    REVOKED = "revoked"
    UNAVAILABLE = "unavailable"


# Derived inside the database, so that no code can leave a status that contradicts the times beside it.
STATUS_SQL: Final = (
    "CASE WHEN revoked_at IS NOT NULL THEN 'revoked'"
    " WHEN activated_at IS NULL AND delivering_to IS NULL THEN 'pending'"
    " WHEN suspended_at IS NOT NULL THEN 'suspended'"
    " WHEN activated_at IS NULL THEN 'delivering'"
    " WHEN retires_at IS NOT NULL THEN 'retiring'"
    " ELSE 'active' END"
)
# The key that its name means: a successor on its way is not it yet, a key rotated out no longer.
CURRENT_SQL: Final = "revoked_at IS NULL AND retires_at IS NULL AND (activated_at IS NOT NULL OR replaces IS NULL)"
LIVE_SUCCESSOR_SQL: Final = "replaces IS NOT NULL AND revoked_at IS NULL"
# When a key stops to open. One that was rotated out "until used" keeps its last date until its successor's
# first use is on record; from then the grace runs. Derived, so that recording a use never writes to another key.
_FIRST_USE: Final = "(SELECT awaited.first_used_at FROM api_key AS awaited WHERE awaited.id = api_key.awaits_use_of)"
RETIRES_SQL: Final = {
    "sqlite": (
        "CASE WHEN api_key.grace_after_use IS NULL THEN api_key.retires_at ELSE min(api_key.retires_at, coalesce("
        f"strftime('%Y-%m-%d %H:%M:%f000', {_FIRST_USE}, '+' || api_key.grace_after_use || ' seconds'),"
        " api_key.retires_at)) END"
    ),
    "postgresql": (
        "CASE WHEN api_key.grace_after_use IS NULL THEN api_key.retires_at ELSE least(api_key.retires_at,"
        f" {_FIRST_USE} + make_interval(secs => api_key.grace_after_use)) END"
    ),
}

# Byte order, whatever the database's locale: a prefix of a name or an id is then a range of the index.
ByteOrderText = Text().with_variant(Text(collation="C"), "postgresql")
# INTEGER PRIMARY KEY is SQLite's row number itself: the log is read in its order without an index between.
Sequence = BigInteger().with_variant(Integer(), "sqlite")


class JsonObject(TypeDecorator[Mapping[str, str]]):
    """JSON, on PostgreSQL JSONB. A variant would load PostgreSQL's drivers into every command on SQLite."""

    impl = JSON
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name != "postgresql":
            return dialect.type_descriptor(JSON())
        from sqlalchemy.dialects.postgresql import JSONB

        return dialect.type_descriptor(JSONB())

    def coerce_compared_value(self, op: Any, value: Any) -> TypeEngine[Any]:
        # A type decorator would bind the key in labels[key] as JSON; it is the key of an index.
        return self.impl_instance.coerce_compared_value(op, value)


def _unique_where(name: str, column: str, condition: str) -> Index:
    return Index(name, column, unique=True, sqlite_where=text(condition), postgresql_where=text(condition))


class ApiKey(SQLModel, table=True):
    """A key's record. The raw key is not in it, only its digest."""

    __tablename__ = "api_key"
    __table_args__ = (
        Index("api_key_name", "name_folded"),
        Index("api_key_created", "created_at", "id"),
        Index("api_key_status", "status"),
        Index("api_key_owner", "owner"),
        Index("api_key_expires", "expires_at"),
        Index("api_key_last_used", "last_used_at"),
        Index("api_key_idle", text("coalesce(last_used_at, activated_at)")),
        Index(
            "api_key_suspended",
            "suspended_at",
            sqlite_where=text("suspended_at IS NOT NULL"),
            postgresql_where=text("suspended_at IS NOT NULL"),
        ),
        _unique_where("api_key_current_name", "name_folded", CURRENT_SQL),
        _unique_where("api_key_live_successor", "replaces", LIVE_SUCCESSOR_SQL),
    )

    id: str = Field(sa_column=Column(ByteOrderText, primary_key=True))
    name: str = Field(sa_type=Text)
    name_folded: str = Field(sa_column=Column(ByteOrderText, nullable=False))
    status: str | None = Field(
        default=None, sa_column=Column(Text, Computed(STATUS_SQL, persisted=True), nullable=False)
    )
    owner: str | None = Field(default=None, sa_type=Text)
    purpose: str | None = Field(default=None, sa_type=Text)
    labels: dict[str, str] = Field(sa_column=Column(JsonObject(), nullable=False))
    created_at: datetime
    created_by: str = Field(sa_type=Text)
    activated_at: datetime | None = None
    expires_at: datetime | None = None
    retires_at: datetime | None = None
    suspended_at: datetime | None = None
    last_used_at: datetime | None = None
    use_count: int = Field(default=0, sa_type=BigInteger)
    revoked_at: datetime | None = None
    revoked_by: str | None = Field(default=None, sa_type=Text)
    revoke_reason: str | None = Field(default=None, sa_type=Text)
    replaces: str | None = Field(default=None, sa_column=Column(ByteOrderText, ForeignKey("api_key.id")))
    replaced_by: str | None = Field(default=None, sa_column=Column(ByteOrderText, ForeignKey("api_key.id")))
    delivering_to: str | None = Field(default=None, sa_type=Text)
    lease_until: datetime | None = None
    first_used_at: datetime | None = None
    awaits_use_of: str | None = Field(default=None, sa_column=Column(ByteOrderText, ForeignKey("api_key.id")))
    grace_after_use: int | None = Field(default=None, sa_type=BigInteger)
    digest: bytes = Field(sa_type=LargeBinary)
    digest_scheme: str = Field(sa_type=Text)


class AuditEvent(SQLModel, table=True):
    """A link of the hash chain. `detail` is JSON text, kept to the letter because the hash covers it."""

    __tablename__ = "audit_event"
    __table_args__ = (
        Index("audit_event_key", "key_id", "seq"),
        Index("audit_event_actor", "actor", "seq"),
        Index("audit_event_action", "action", "seq"),
        Index("audit_event_at", "at"),
        UniqueConstraint("previous_hash", name="audit_event_one_follower"),
    )

    seq: int = Field(sa_column=Column(Sequence, primary_key=True, autoincrement=False))
    at: datetime
    actor: str = Field(sa_type=Text)
    action: str = Field(sa_type=Text)
    key_id: str | None = Field(default=None, sa_type=Text)
    key_name: str | None = Field(default=None, sa_type=Text)
    detail: str = Field(sa_type=Text)
    previous_hash: bytes = Field(sa_type=LargeBinary)
    hash: bytes = Field(sa_type=LargeBinary)


# Of refused attempts there is one row a minute for each of these; an upsert finds it by them.
REFUSED_ONCE: Final = ("at", "outcome", "coalesce(key_id, '')", "coalesce(client_ip, '')")
REFUSED_SQL: Final = "outcome <> 'ok'"


class UsageEvent(SQLModel, table=True):
    """A use of a key, or how often in a minute one kind of attempt was refused.

    `at` is the instant of the use; of refused attempts the start of their minute. On PostgreSQL the table is
    partitioned by month, which this class does not show.
    """

    __tablename__ = "usage_event"
    __table_args__ = (
        Index("usage_event_at", "at"),
        Index("usage_event_key", "key_id", "at"),
        Index(
            "usage_event_refused_once",
            *map(text, REFUSED_ONCE),
            unique=True,
            sqlite_where=text(REFUSED_SQL),
            postgresql_where=text(REFUSED_SQL),
        ),
    )

    id: int = Field(sa_column=Column(Sequence, primary_key=True))
    at: datetime
    key_id: str | None = Field(default=None, sa_column=Column(ByteOrderText))
    outcome: str = Field(sa_type=Text)
    client_ip: str | None = Field(default=None, sa_type=Text)
    method: str | None = Field(default=None, sa_type=Text)
    path: str | None = Field(default=None, sa_type=Text)
    user_agent: str | None = Field(default=None, sa_type=Text)
    count: int = Field(default=1, sa_type=BigInteger)


class Key(NamedTuple):
    """A key as the rest of the program sees it: K of the design, in K's order. Times are aware, in UTC;
    `status` is what it was at the instant of the query."""

    id: str
    name: str
    status: str
    owner: str | None
    purpose: str | None
    labels: Mapping[str, str]
    created_at: datetime
    created_by: str
    activated_at: datetime | None
    expires_at: datetime | None
    retires_at: datetime | None
    suspended_at: datetime | None
    last_used_at: datetime | None
    use_count: int
    revoked_at: datetime | None
    revoked_by: str | None
    revoke_reason: str | None
    replaces: str | None
    replaced_by: str | None
    delivering_to: str | None


class Event(NamedTuple):
    """An audit event as the rest of the program sees it: E of the design, in E's order."""

    seq: int
    at: datetime
    actor: str
    action: str
    key_id: str | None
    key_name: str | None
    detail: Mapping[str, Any]
    hash: bytes


class Use(NamedTuple):
    """A row of the usage log as the rest of the program sees it: U of the design, in U's order."""

    id: int
    at: datetime
    key_id: str | None
    key_name: str | None
    outcome: str
    client_ip: str | None
    method: str | None
    path: str | None
    user_agent: str | None
    count: int  # type: ignore[assignment]  # U's word for it, over a method of tuples that nobody needs here


key_table: Final = ApiKey.__table__  # type: ignore[attr-defined]  # SQLModel sets it and does not declare it
event_table: Final = AuditEvent.__table__  # type: ignore[attr-defined]  # the same
usage_table: Final = UsageEvent.__table__  # type: ignore[attr-defined]  # the same
