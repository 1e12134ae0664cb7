"""The stored policy: what every key must be.

One row at most; no row means that nothing is asked. Written out rather than taken from the models: a migration says
what was true when it was written.
"""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    connection = op.get_bind()
    sqlite = connection.dialect.name == "sqlite"
    for statement in (_SQLITE,) if sqlite else _POSTGRESQL:
        connection.exec_driver_sql(statement.replace("%", "%%"))


# SQLite stores a value of any type in any column.
_SQLITE = """CREATE TABLE key_policy (
    one BIGINT NOT NULL PRIMARY KEY CONSTRAINT key_policy_is_one CHECK (one = 1),
    max_lifetime BIGINT CONSTRAINT key_policy_max_lifetime_positive
        CHECK (max_lifetime IS NULL OR typeof(max_lifetime) = 'integer' AND max_lifetime > 0),
    required TEXT NOT NULL CONSTRAINT key_policy_required_text CHECK (typeof(required) = 'text'),
    name_pattern TEXT CONSTRAINT key_policy_name_pattern_text
        CHECK (name_pattern IS NULL OR typeof(name_pattern) = 'text'))"""
_POSTGRESQL = (
    """CREATE TABLE key_policy (
    one bigint NOT NULL PRIMARY KEY CONSTRAINT key_policy_is_one CHECK (one = 1),
    max_lifetime bigint CONSTRAINT key_policy_max_lifetime_positive CHECK (max_lifetime > 0),
    required text NOT NULL,
    name_pattern text)""",
    # Who reads the log, an auditor or an administrator with a role of their own, goes on with every command.
    """DO $$
DECLARE
    who name;
BEGIN
    FOR who IN SELECT rolname FROM pg_roles WHERE NOT pg_has_role(oid, current_user, 'USAGE') AND NOT rolsuper
        AND has_table_privilege(oid, 'audit_event', 'SELECT')
    LOOP
        EXECUTE format('GRANT SELECT ON key_policy TO %I', who);
    END LOOP;
END $$""",
)
