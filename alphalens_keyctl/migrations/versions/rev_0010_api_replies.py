"""What the HTTP API has answered to requests with an `Idempotency-Key`, for a day; it never holds a raw key. The usage
log takes the outcome `forbidden`.

Written out rather than taken from the models: a migration says what was true when it was written.
"""

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    connection = op.get_bind()
    sqlite = connection.dialect.name == "sqlite"
    connection.exec_driver_sql(_SQLITE if sqlite else _POSTGRESQL)
    if not sqlite:
        connection.exec_driver_sql(_TAKE_FORBIDDEN)
    connection.exec_driver_sql("CREATE INDEX api_reply_at ON api_reply (at)")


_SQLITE = """CREATE TABLE api_reply (
    caller TEXT NOT NULL,
    idempotency_key TEXT NOT NULL,
    at DATETIME NOT NULL,
    request BLOB NOT NULL,
    status BIGINT,
    answer TEXT,
    CONSTRAINT api_reply_pkey PRIMARY KEY (caller, idempotency_key))"""
_POSTGRESQL = """CREATE TABLE api_reply (
    caller text NOT NULL,
    idempotency_key text NOT NULL,
    at timestamptz NOT NULL,
    request bytea NOT NULL,
    status bigint,
    answer text,
    CONSTRAINT api_reply_pkey PRIMARY KEY (caller, idempotency_key))"""
# The function of revision 0008 with one word more; its owner and who may call it stay.
_TAKE_FORBIDDEN = """DO $do$
BEGIN
    EXECUTE replace(
        pg_get_functiondef('alphalens_keyctl_record_uses(jsonb,jsonb)'::regprocedure),
        $$'scope', 'address'$$, $$'scope', 'address', 'forbidden'$$);
END $do$"""
