"""How a service's own database role records uses: through one function, which writes nothing else.

PostgreSQL alone; SQLite knows no roles. Written out rather than taken from the models: a migration says what was true
when it was written.
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    connection = op.get_bind()
    if connection.dialect.name == "sqlite":
        return
    schema = connection.scalar(sa.text("SELECT quote_ident(current_schema())"))
    for statement in (_RECORD_USES.replace("{schema}", schema), *_RIGHTS):
        connection.exec_driver_sql(statement.replace("%", "%%"))


# Runs with its owner's rights, and trusts nothing that it is told: a time is neither in the future nor more than a
# month ago, a count is what was counted here or 1 to a billion, texts are cut, sums stay at the most a column holds.
# A successor's first use is now, once: it may set the end of another key, so that nobody can put it into the past. Keys
# that another transaction holds are left out and returned: to wait for them could stop both.
_RECORD_USES = """CREATE FUNCTION alphalens_keyctl_record_uses(accepted jsonb, refused jsonb) RETURNS text[]
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
                left(entry ->> 3, 64), min(left(entry ->> 4, 64)), min(left(entry ->> 5, 512)),
                min(left(entry ->> 6, 256)), sum(greatest(1, least(1000000000, CAST(entry ->> 7 AS numeric))))
            FROM jsonb_array_elements(refused) AS entry
            WHERE entry ->> 2 IN ('malformed', 'unknown', 'pending', 'suspended', 'retired', 'expired', 'revoked',
                'unavailable')
            GROUP BY 1, 2, 3, 4 ORDER BY 1, 3, 2, 4
        ON CONFLICT (at, outcome, coalesce(key_id, ''), coalesce(client_ip, '')) WHERE outcome <> 'ok'
        DO UPDATE SET count = CASE WHEN usage_event.count > most - excluded.count THEN most
            ELSE usage_event.count + excluded.count END;
    END IF;
    RETURN coalesce(busy, '{}');
END $$"""
_RIGHTS = (
    "REVOKE ALL ON FUNCTION alphalens_keyctl_record_uses(jsonb, jsonb) FROM PUBLIC",
    # Who records already goes on with it; `db grant` takes away what such a role needs no more.
    """DO $$
DECLARE
    who name;
BEGIN
    FOR who IN SELECT rolname FROM pg_roles WHERE NOT pg_has_role(oid, current_user, 'USAGE') AND NOT rolsuper
        AND has_column_privilege(oid, 'api_key', 'use_count', 'UPDATE')
    LOOP
        EXECUTE format('GRANT EXECUTE ON FUNCTION alphalens_keyctl_record_uses(jsonb, jsonb) TO %I', who);
    END LOOP;
END $$""",
)
