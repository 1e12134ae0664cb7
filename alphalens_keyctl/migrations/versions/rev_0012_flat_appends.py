"""PostgreSQL finds the end of the log by its index when it looks at the chain, however long the log is.

The function of revision 0005 asked whether an event EXISTS behind those that were added. PostgreSQL takes a third of a
table for behind, expects to meet one of them at once, and so read the whole log for every change.

Written out rather than taken from `database`: a migration says what was true when it was written.
"""

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    connection = op.get_bind()
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(_NEXT_LINK)


# max() of an indexed column is read from the end of the index, whatever PostgreSQL expects of the rows.
_NEXT_LINK = """CREATE OR REPLACE FUNCTION alphalens_keyctl_next_link() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    first bigint;
    last bigint;
    last_seq bigint;
    last_hash bytea;
BEGIN
    SELECT min(seq), max(seq) INTO first, last FROM added;
    SELECT seq, hash INTO last_seq, last_hash FROM audit_event WHERE seq < first ORDER BY seq DESC LIMIT 1;
    IF (SELECT max(seq) FROM audit_event) > last OR EXISTS (
        SELECT 1 FROM (
            SELECT seq, previous_hash, lag(seq, 1, coalesce(last_seq, 0)) OVER chain AS seq_before,
                lag(hash, 1, coalesce(last_hash, decode(repeat('00', 32), 'hex'))) OVER chain AS hash_before
            FROM added WINDOW chain AS (ORDER BY seq)
        ) AS link WHERE seq <> seq_before + 1 OR previous_hash <> hash_before
    ) THEN
        RAISE EXCEPTION 'an audit event follows the last one' USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NULL;
END $$"""
