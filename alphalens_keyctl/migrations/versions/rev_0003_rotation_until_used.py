"""`rotate --until-used`: the first use of a key, and the key whose first use starts the grace of its predecessor.

Written out instead of taken from the models: a migration says what was true when it was written.
"""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_UTC = (
    "GLOB '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9] [0-2][0-9]:[0-5][0-9]:[0-5][0-9].[0-9][0-9][0-9][0-9][0-9][0-9]'"
)


def upgrade() -> None:
    connection = op.get_bind()
    for statement in _SQLITE if connection.dialect.name == "sqlite" else _POSTGRESQL:
        connection.exec_driver_sql(statement)


# For keys that were used before this migration: the first row of the usage log, or last_used_at where it was pruned.
_KNOWN_USES = """UPDATE api_key SET first_used_at = coalesce(
    (SELECT min(at) FROM usage_event WHERE key_id = api_key.id AND outcome = 'ok'), last_used_at)
    WHERE last_used_at IS NOT NULL"""
_SQLITE = (
    f"""ALTER TABLE api_key ADD COLUMN first_used_at DATETIME
    CONSTRAINT api_key_first_used_at_is_utc CHECK (first_used_at IS NULL OR first_used_at {_UTC})""",
    "ALTER TABLE api_key ADD COLUMN awaits_use_of TEXT CONSTRAINT api_key_awaits_use_of_fkey REFERENCES api_key (id)",
    """ALTER TABLE api_key ADD COLUMN grace_after_use BIGINT
    CONSTRAINT api_key_grace_after_use_of_a_key CHECK ((grace_after_use IS NULL) = (awaits_use_of IS NULL))
    CONSTRAINT api_key_grace_after_use_number CHECK (
        grace_after_use IS NULL OR typeof(grace_after_use) = 'integer' AND grace_after_use >= 0)""",
    _KNOWN_USES,
)
_POSTGRESQL = (
    """ALTER TABLE api_key
    ADD COLUMN first_used_at timestamptz,
    ADD COLUMN awaits_use_of text COLLATE "C" CONSTRAINT api_key_awaits_use_of_fkey REFERENCES api_key (id),
    ADD COLUMN grace_after_use bigint,
    ADD CONSTRAINT api_key_grace_after_use_of_a_key CHECK ((grace_after_use IS NULL) = (awaits_use_of IS NULL)),
    ADD CONSTRAINT api_key_grace_after_use_number CHECK (grace_after_use IS NULL OR grace_after_use >= 0)""",
    _KNOWN_USES,
    # A first use may set the end of another key, so verifiers have to hear of it; of later uses they need not.
    "DROP TRIGGER api_key_announce ON api_key",
    """CREATE TRIGGER api_key_announce AFTER DELETE OR UPDATE OF
        id, name, name_folded, owner, purpose, labels, created_at, created_by, activated_at, expires_at, retires_at,
        suspended_at, revoked_at, revoked_by, revoke_reason, replaces, replaced_by, delivering_to, lease_until,
        first_used_at, awaits_use_of, grace_after_use, digest, digest_scheme
    ON api_key FOR EACH STATEMENT EXECUTE FUNCTION alphalens_keyctl_announce()""",
    "ALTER TABLE api_key ENABLE ALWAYS TRIGGER api_key_announce",
)
