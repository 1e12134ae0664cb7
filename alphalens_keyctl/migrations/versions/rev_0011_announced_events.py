"""PostgreSQL announces every audit event, on a channel of its own: whoever follows the log hears of it.

Written out rather than taken from `database`: a migration says what was true when it was written.
"""

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    connection = op.get_bind()
    if connection.dialect.name == "postgresql":
        for statement in _POSTGRESQL:
            connection.exec_driver_sql(statement)


_POSTGRESQL = (
    """CREATE FUNCTION alphalens_keyctl_announce_events() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN PERFORM pg_notify('alphalens_keyctl_log', ''); RETURN NULL; END $$""",
    """CREATE TRIGGER audit_event_announce AFTER INSERT ON audit_event
    FOR EACH STATEMENT EXECUTE FUNCTION alphalens_keyctl_announce_events()""",
    # Fires for events that replication applies, too.
    "ALTER TABLE audit_event ENABLE ALWAYS TRIGGER audit_event_announce",
)
