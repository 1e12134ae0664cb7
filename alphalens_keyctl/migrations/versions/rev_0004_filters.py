"""Indexes for the filters: the time for which a key was not used, the time of its suspension, its labels.

Written out instead of taken from the models: a migration says what was true when it was written.
"""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    connection = op.get_bind()
    for statement in (*_INDEXES, *(_SQLITE if connection.dialect.name == "sqlite" else _POSTGRESQL)):
        connection.exec_driver_sql(statement)


_INDEXES = (
    # A key that was never used counts from its activation.
    "CREATE INDEX api_key_idle ON api_key (coalesce(last_used_at, activated_at))",
    "CREATE INDEX api_key_suspended ON api_key (suspended_at) WHERE suspended_at IS NOT NULL",
)
# SQLite cannot index the members of a JSON object: a table takes the place of the index, and triggers fill it.
_SQLITE = (
    """CREATE TABLE api_key_label (
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    key_id TEXT NOT NULL REFERENCES api_key (id),
    PRIMARY KEY (name, value, key_id)) WITHOUT ROWID""",
    """INSERT INTO api_key_label (name, value, key_id)
    SELECT label.key, label.value, api_key.id FROM api_key, json_each(api_key.labels) AS label""",
    """CREATE TRIGGER api_key_labels_added AFTER INSERT ON api_key BEGIN
    INSERT INTO api_key_label (name, value, key_id)
    SELECT label.key, label.value, NEW.id FROM json_each(NEW.labels) AS label; END""",
    """CREATE TRIGGER api_key_labels_changed AFTER UPDATE OF labels ON api_key BEGIN
    DELETE FROM api_key_label WHERE key_id = OLD.id
        AND (name, value) IN (SELECT label.key, label.value FROM json_each(OLD.labels) AS label);
    INSERT INTO api_key_label (name, value, key_id)
    SELECT label.key, label.value, NEW.id FROM json_each(NEW.labels) AS label; END""",
)
_POSTGRESQL = ("CREATE INDEX api_key_labels ON api_key USING gin (labels jsonb_path_ops)",)
