"""The usage log, and on PostgreSQL the notification that a key has changed.

Written out instead of taken from the models: a migration says what was true when it was written.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_UTC = (
    "GLOB '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9] [0-2][0-9]:[0-5][0-9]:[0-5][0-9].[0-9][0-9][0-9][0-9][0-9][0-9]'"
)


def upgrade() -> None:
    connection = op.get_bind()
    if connection.dialect.name == "sqlite":
        statements: tuple[str, ...] = _SQLITE
    else:
        schema = connection.scalar(sa.text("SELECT quote_ident(current_schema())"))
        statements = (*_POSTGRESQL, _MAKE_PARTITIONS.format(schema=schema), "SELECT alphalens_keyctl_make_partitions()")
    for statement in (*statements, *_INDEXES):
        connection.exec_driver_sql(statement)


_COLUMNS = """
    key_id TEXT {ordered},
    outcome TEXT NOT NULL,
    client_ip TEXT,
    method TEXT,
    path TEXT,
    user_agent TEXT,
    count BIGINT NOT NULL DEFAULT 1,
    CONSTRAINT usage_event_count_positive CHECK (count >= 1),
    CONSTRAINT usage_event_use_has_a_key CHECK (outcome <> 'ok' OR key_id IS NOT NULL)"""
_SQLITE = (
    # AUTOINCREMENT: the id of a row that was pruned never becomes the id of another row.
    f"""CREATE TABLE usage_event (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    at DATETIME NOT NULL,{_COLUMNS.format(ordered="")},
    CONSTRAINT usage_event_at_is_utc CHECK ("at" {_UTC}),
    CONSTRAINT usage_event_count_number CHECK (typeof(count) = 'integer'))""",
)
_POSTGRESQL = (
    "CREATE SEQUENCE usage_event_id_seq AS bigint",
    f"""CREATE TABLE usage_event (
    id bigint NOT NULL DEFAULT nextval('usage_event_id_seq'),
    at timestamptz NOT NULL,{_COLUMNS.format(ordered='COLLATE "C"')},
    PRIMARY KEY (id, at)) PARTITION BY RANGE (at)""",
    "ALTER SEQUENCE usage_event_id_seq OWNED BY usage_event.id",
    # The partition for rows of which no month was made: a use is never lost because its partition was not made in time.
    "CREATE TABLE usage_event_default PARTITION OF usage_event DEFAULT",
    # The database itself notifies, so that a change made by hand counts too. A statement that names none of these
    # columns only records use, which a verifier need not know.
    """CREATE FUNCTION alphalens_keyctl_announce() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN PERFORM pg_notify('alphalens_keyctl', ''); RETURN NULL; END $$""",
    """CREATE TRIGGER api_key_announce AFTER DELETE OR UPDATE OF
        id, name, name_folded, owner, purpose, labels, created_at, created_by, activated_at, expires_at, retires_at,
        suspended_at, revoked_at, revoked_by, revoke_reason, replaces, replaced_by, delivering_to, lease_until,
        digest, digest_scheme
    ON api_key FOR EACH STATEMENT EXECUTE FUNCTION alphalens_keyctl_announce()""",
    # Fires for changes that replication applies, too.
    "ALTER TABLE api_key ENABLE ALWAYS TRIGGER api_key_announce",
)
# The function runs with the rights of its owner, so that a service whose database user may only insert gets its
# partitions too. It takes no argument: its caller can make the partitions of this month and the next, and nothing else.
_MAKE_PARTITIONS = """CREATE FUNCTION alphalens_keyctl_make_partitions() RETURNS void LANGUAGE plpgsql
    SECURITY DEFINER SET search_path = {schema}, pg_temp AS $$
DECLARE
    month timestamp;
    name text;
BEGIN
    FOR ahead IN 0..1 LOOP
        month := date_trunc('month', now() AT TIME ZONE 'UTC') + make_interval(months => ahead);
        name := 'usage_event_' || to_char(month, 'YYYY_MM');
        IF to_regclass('{schema}.' || name) IS NULL THEN
            PERFORM pg_advisory_xact_lock(hashtext('alphalens_keyctl_make_partitions'));
            BEGIN
                EXECUTE format('CREATE TABLE IF NOT EXISTS {schema}.%%I PARTITION OF {schema}.usage_event'
                    ' FOR VALUES FROM (%%L) TO (%%L)', name, month || '+00', month + interval '1 month' || '+00');
            EXCEPTION WHEN check_violation THEN
                NULL; -- the default partition has rows of that month already and keeps them
            END;
        END IF;
    END LOOP;
END $$"""
_INDEXES = (
    "CREATE INDEX usage_event_at ON usage_event (at)",
    "CREATE INDEX usage_event_key ON usage_event (key_id, at)",
    # Refused attempts are counted rather than repeated: an attacker cannot fill the disk.
    """CREATE UNIQUE INDEX usage_event_refused_once ON usage_event
    (at, outcome, coalesce(key_id, ''), coalesce(client_ip, '')) WHERE outcome <> 'ok'""",
)
