"""Keys and the audit log.

Written out instead of taken from the models: a migration says what was true when it was written.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_STATUS = (
    "CASE WHEN revoked_at IS NOT NULL THEN 'revoked'"
    " WHEN activated_at IS NULL AND delivering_to IS NULL THEN 'pending'"
    " WHEN suspended_at IS NOT NULL THEN 'suspended'"
    " WHEN activated_at IS NULL THEN 'delivering'"
    " WHEN retires_at IS NOT NULL THEN 'retiring'"
    " ELSE 'active' END"
)
_CURRENT = "revoked_at IS NULL AND retires_at IS NULL AND (activated_at IS NOT NULL OR replaces IS NULL)"
_KEY_TIMES = (
    "created_at", "activated_at", "expires_at", "retires_at", "suspended_at", "last_used_at", "revoked_at",
    "lease_until",
)  # fmt: skip
# SQLite has no type for time. This is the one spelling that it takes: it sorts and compares as text, and means UTC.
_UTC = (
    "GLOB '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9] [0-2][0-9]:[0-5][0-9]:[0-5][0-9].[0-9][0-9][0-9][0-9][0-9][0-9]'"
)


def upgrade() -> None:
    sqlite = op.get_bind().dialect.name == "sqlite"
    ordered = sa.Text() if sqlite else sa.Text(collation="C")
    moment = sa.DateTime() if sqlite else sa.DateTime(timezone=True)
    json = sa.JSON() if sqlite else JSONB()
    _create_keys(sqlite, ordered, moment, json)
    _create_audit_log(sqlite, moment)
    for statement in _SQLITE_GUARDS if sqlite else _POSTGRESQL_GUARDS:
        op.execute(statement)


def _create_keys(sqlite: bool, ordered: sa.Text, moment: sa.DateTime, json: sa.JSON) -> None:
    op.create_table(
        "api_key",
        sa.Column("id", ordered, primary_key=True),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("name_folded", ordered, nullable=False),
        sa.Column("status", sa.Text(), sa.Computed(_STATUS, persisted=True), nullable=False),
        sa.Column("owner", sa.Text()),
        sa.Column("purpose", sa.Text()),
        sa.Column("labels", json, nullable=False),
        sa.Column("created_at", moment, nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("activated_at", moment),
        sa.Column("expires_at", moment),
        sa.Column("retires_at", moment),
        sa.Column("suspended_at", moment),
        sa.Column("last_used_at", moment),
        sa.Column("use_count", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("revoked_at", moment),
        sa.Column("revoked_by", sa.Text()),
        sa.Column("revoke_reason", sa.Text()),
        sa.Column("replaces", ordered, sa.ForeignKey("api_key.id", name="api_key_replaces_fkey")),
        sa.Column("replaced_by", ordered, sa.ForeignKey("api_key.id", name="api_key_replaced_by_fkey")),
        sa.Column("delivering_to", sa.Text()),
        sa.Column("lease_until", moment),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("digest_scheme", sa.Text(), nullable=False),
        sa.CheckConstraint("length(digest) = 32", name="api_key_digest_is_sha256"),
        sa.CheckConstraint("length(id) = 12", name="api_key_id_has_12_characters"),
        sa.CheckConstraint("use_count >= 0", name="api_key_use_count_not_negative"),
        sa.CheckConstraint("replaced_by IS NULL OR retires_at IS NOT NULL", name="api_key_replaced_means_retiring"),
        sa.CheckConstraint("retires_at IS NULL OR activated_at IS NOT NULL", name="api_key_retiring_was_active"),
        sa.CheckConstraint("(revoked_at IS NULL) = (revoked_by IS NULL)", name="api_key_revoked_by_somebody"),
        sa.CheckConstraint(
            "json_type(labels) = 'object'" if sqlite else "jsonb_typeof(labels) = 'object'",
            name="api_key_labels_object",
        ),
        *([sa.CheckConstraint("typeof(use_count) = 'integer'", name="api_key_use_count_number")] if sqlite else []),
        *_utc_checks("api_key", _KEY_TIMES, sqlite),
    )
    _create_unique_index("api_key_current_name", "name_folded", _CURRENT)
    _create_unique_index("api_key_live_successor", "replaces", "replaces IS NOT NULL AND revoked_at IS NULL")
    op.create_index("api_key_name", "api_key", ["name_folded"])
    op.create_index("api_key_created", "api_key", ["created_at", "id"])
    op.create_index("api_key_status", "api_key", ["status"])
    op.create_index("api_key_owner", "api_key", ["owner"])
    op.create_index("api_key_expires", "api_key", ["expires_at"])
    op.create_index("api_key_last_used", "api_key", ["last_used_at"])


def _create_audit_log(sqlite: bool, moment: sa.DateTime) -> None:
    op.create_table(
        "audit_event",
        sa.Column("seq", sa.Integer() if sqlite else sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("at", moment, nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("key_id", sa.Text()),
        sa.Column("key_name", sa.Text()),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("previous_hash", sa.LargeBinary(), nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.CheckConstraint("seq >= 1", name="audit_event_seq_from_1"),
        sa.CheckConstraint("length(hash) = 32", name="audit_event_hash_is_sha256"),
        # Two events on one predecessor would be a fork of the chain.
        sa.UniqueConstraint("previous_hash", name="audit_event_one_follower"),
        *_utc_checks("audit_event", ("at",), sqlite),
    )
    op.create_index("audit_event_key", "audit_event", ["key_id", "seq"])
    op.create_index("audit_event_actor", "audit_event", ["actor", "seq"])
    op.create_index("audit_event_action", "audit_event", ["action", "seq"])
    op.create_index("audit_event_at", "audit_event", ["at"])


def _create_unique_index(name: str, column: str, condition: str) -> None:
    where = sa.text(condition)
    op.create_index(name, "api_key", [column], unique=True, sqlite_where=where, postgresql_where=where)


def _utc_checks(table: str, columns: tuple[str, ...], sqlite: bool) -> list[sa.CheckConstraint]:
    if not sqlite:
        return []
    return [
        sa.CheckConstraint(f'"{column}" IS NULL OR "{column}" {_UTC}', name=f"{table}_{column}_is_utc")
        for column in columns
    ]


_SQLITE_GUARDS = (
    (
        "CREATE TRIGGER audit_event_no_update BEFORE UPDATE ON audit_event"
        " BEGIN SELECT RAISE(ABORT, 'an audit event is never changed'); END"
    ),
    (
        "CREATE TRIGGER audit_event_no_delete BEFORE DELETE ON audit_event"
        " BEGIN SELECT RAISE(ABORT, 'an audit event is never deleted'); END"
    ),
    # INSERT OR REPLACE deletes the old row without firing a delete trigger (recursive_triggers is off).
    (
        "CREATE TRIGGER audit_event_no_replace BEFORE INSERT ON audit_event"
        " WHEN EXISTS (SELECT 1 FROM audit_event WHERE seq = NEW.seq OR previous_hash = NEW.previous_hash)"
        " BEGIN SELECT RAISE(ABORT, 'an audit event is never replaced'); END"
    ),
    (
        "CREATE TRIGGER api_key_revoked_is_final BEFORE UPDATE ON api_key"
        " WHEN OLD.revoked_at IS NOT NULL AND NEW.revoked_at IS NOT OLD.revoked_at"
        " BEGIN SELECT RAISE(ABORT, 'a revoked key stays revoked'); END"
    ),
    (
        "CREATE TRIGGER api_key_no_delete BEFORE DELETE ON api_key"
        " BEGIN SELECT RAISE(ABORT, 'a key is revoked, never deleted'); END"
    ),
)
_POSTGRESQL_GUARDS = (
    (
        "CREATE FUNCTION alphalens_keyctl_refuse() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE EXCEPTION '%', TG_ARGV[0] USING ERRCODE = 'restrict_violation'; END $$"
    ),
    (
        "CREATE TRIGGER audit_event_no_update BEFORE UPDATE OR DELETE ON audit_event"
        " FOR EACH ROW EXECUTE FUNCTION alphalens_keyctl_refuse('an audit event is never changed or deleted')"
    ),
    (
        "CREATE TRIGGER audit_event_no_truncate BEFORE TRUNCATE ON audit_event"
        " FOR EACH STATEMENT EXECUTE FUNCTION alphalens_keyctl_refuse('an audit event is never deleted')"
    ),
    (
        "CREATE TRIGGER api_key_revoked_is_final BEFORE UPDATE ON api_key FOR EACH ROW"
        " WHEN (OLD.revoked_at IS NOT NULL AND NEW.revoked_at IS DISTINCT FROM OLD.revoked_at)"
        " EXECUTE FUNCTION alphalens_keyctl_refuse('a revoked key stays revoked')"
    ),
    (
        "CREATE TRIGGER api_key_no_delete BEFORE DELETE ON api_key"
        " FOR EACH ROW EXECUTE FUNCTION alphalens_keyctl_refuse('a key is revoked, never deleted')"
    ),
    (
        "CREATE TRIGGER api_key_no_truncate BEFORE TRUNCATE ON api_key"
        " FOR EACH STATEMENT EXECUTE FUNCTION alphalens_keyctl_refuse('a key is revoked, never deleted')"
    ),
)
