"""What a key may do, and from where it may be used. NULL, which every key gets, restricts nothing.

Written out rather than taken from the models: a migration says what was true when it was written.
"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    connection = op.get_bind()
    if connection.dialect.name == "sqlite":
        statements: tuple[str, ...] = _SQLITE
    else:
        schema = connection.scalar(sa.text("SELECT quote_ident(current_schema())"))
        statements = (*_POSTGRESQL, _RECORD_USES.replace("{schema}", schema))
    for statement in statements:
        connection.exec_driver_sql(statement.replace("%", "%%"))


_SQLITE = (
    """ALTER TABLE api_key ADD COLUMN scopes JSON
    CONSTRAINT api_key_scopes_list CHECK (scopes IS NULL OR json_type(scopes) = 'array')""",
    """ALTER TABLE api_key ADD COLUMN allow_from JSON
    CONSTRAINT api_key_allow_from_list CHECK (allow_from IS NULL OR json_type(allow_from) = 'array')""",
    "CREATE INDEX api_key_scopes ON api_key (scopes) WHERE scopes IS NOT NULL",
)
_POSTGRESQL = (
    """ALTER TABLE api_key
    ADD COLUMN scopes jsonb,
    ADD COLUMN allow_from jsonb,
    ADD CONSTRAINT api_key_scopes_list CHECK (jsonb_typeof(scopes) = 'array'),
    ADD CONSTRAINT api_key_allow_from_list CHECK (jsonb_typeof(allow_from) = 'array')""",
    "CREATE INDEX api_key_scopes ON api_key USING gin (scopes) WHERE scopes IS NOT NULL",
    # A restriction counts as fast as a revocation.
    "DROP TRIGGER api_key_announce ON api_key",
    """CREATE TRIGGER api_key_announce AFTER DELETE OR UPDATE OF
        id, name, name_folded, owner, purpose, labels, created_at, created_by, activated_at, expires_at, retires_at,
        suspended_at, revoked_at, revoked_by, revoke_reason, replaces, replaced_by, delivering_to, lease_until,
        first_used_at, awaits_use_of, grace_after_use, digest, digest_scheme, scopes, allow_from
    ON api_key FOR EACH STATEMENT EXECUTE FUNCTION alphalens_keyctl_announce()""",
    "ALTER TABLE api_key ENABLE ALWAYS TRIGGER api_key_announce",
    # Who reads all other columns but the digest, an auditor, goes on with every command.
    """DO $$
DECLARE
    who name;
BEGIN
    FOR who IN SELECT rolname FROM pg_roles WHERE NOT pg_has_role(oid, current_user, 'USAGE') AND NOT rolsuper
        AND has_column_privilege(oid, 'api_key', 'labels', 'SELECT')
        AND NOT has_table_privilege(oid, 'api_key', 'SELECT')
    LOOP
        EXECUTE format('GRANT SELECT (scopes, allow_from) ON api_key TO %I', who);
    END LOOP;
END $$""",
)
# As before, and with two more reasons to refuse a key. An address that is empty is none: two rows of which one had an
# empty address and one had none were one to the index, and a batch with both was refused whole.
_RECORD_USES = """CREATE OR REPLACE FUNCTION alphalens_keyctl_record_uses(accepted jsonb, refused jsonb) RETURNS text[]
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = {schema}, pg_temp AS $$
DECLARE
    most CONSTANT bigint := 9223372036854775807;
    latest CONSTANT timestamptz := now();
    earliest CONSTANT timestamptz := now() - interval '31 days';
    used text[];
    free text[];
    busy text[];
    written bigint;
BEGIN
    -- A recorder that hangs in its transaction would hold its keys: the server ends it.
    PERFORM set_config('idle_in_transaction_session_timeout', '10s', true);
    IF jsonb_array_length(accepted) > 0 THEN
        SELECT array_agg(id) INTO used FROM (
            SELECT entry ->> 1 AS id FROM jsonb_array_elements(accepted) AS entry GROUP BY 1) AS said;
        SELECT coalesce(array_agg(id), '{}') INTO free FROM (
            SELECT id FROM api_key WHERE id = ANY(used) ORDER BY id FOR NO KEY UPDATE SKIP LOCKED) AS locked;
        SELECT coalesce(array_agg(id), '{}') INTO busy FROM api_key WHERE id = ANY(used) AND id <> ALL(free);
        INSERT INTO usage_event (at, key_id, outcome, client_ip, method, path, user_agent)
            SELECT greatest(earliest, least(latest, CAST((entry ->> 0) || '+00' AS timestamptz))),
                left(entry ->> 1, 64), 'ok', left(entry ->> 2, 64), left(entry ->> 3, 64),
                left(entry ->> 4, 512), left(entry ->> 5, 256)
            FROM jsonb_array_elements(accepted) AS entry WHERE (entry ->> 1) <> ALL(busy);
        -- Of a successor alone, in a statement of its own: every verifier is told of it and looks its keys up.
        IF EXISTS (SELECT 1 FROM api_key WHERE id = ANY(free) AND first_used_at IS NULL AND replaces IS NOT NULL) THEN
            UPDATE api_key SET first_used_at = latest
                WHERE id = ANY(free) AND first_used_at IS NULL AND replaces IS NOT NULL;
        END IF;
        UPDATE api_key SET
            use_count = CASE WHEN use_count > most - said.times THEN most ELSE use_count + said.times END,
            last_used_at = greatest(last_used_at, earliest, said.last)
        FROM (SELECT entry ->> 1 AS id, count(*) AS times,
                least(latest, max(CAST((entry ->> 0) || '+00' AS timestamptz))) AS last
            FROM jsonb_array_elements(accepted) AS entry GROUP BY 1) AS said
        WHERE api_key.id = said.id AND api_key.id = ANY(free);
        GET DIAGNOSTICS written = ROW_COUNT;
        IF written <> cardinality(free) THEN
            -- Row security or a trigger can turn an update into nothing without an error.
            RAISE EXCEPTION 'the database did not take when keys were used';
        END IF;
    END IF;
    IF jsonb_array_length(refused) > 0 THEN
        -- In one order everywhere, so that two who count the same do not wait for each other. Cut to the same minute
        -- two may have become one.
        INSERT INTO usage_event (at, key_id, outcome, client_ip, method, path, user_agent, count)
            SELECT greatest(date_trunc('minute', earliest), least(date_trunc('minute', latest),
                    CAST((entry ->> 0) || '+00' AS timestamptz))), left(entry ->> 1, 64), entry ->> 2,
                nullif(left(entry ->> 3, 64), ''), min(left(entry ->> 4, 64)), min(left(entry ->> 5, 512)),
                min(left(entry ->> 6, 256)), sum(greatest(1, least(1000000000, CAST(entry ->> 7 AS numeric))))
            FROM jsonb_array_elements(refused) AS entry
            WHERE entry ->> 2 IN ('malformed', 'unknown', 'pending', 'suspended', 'retired', 'expired', 'revoked',
                'unavailable', 'scope', 'address')
            GROUP BY 1, 2, 3, 4 ORDER BY 1, 3, 2, 4
        ON CONFLICT (at, outcome, coalesce(key_id, ''), coalesce(client_ip, '')) WHERE outcome <> 'ok'
        DO UPDATE SET count = CASE WHEN usage_event.count > most - excluded.count THEN most
            ELSE usage_event.count + excluded.count END;
    END IF;
    RETURN coalesce(busy, '{}');
END $$"""
