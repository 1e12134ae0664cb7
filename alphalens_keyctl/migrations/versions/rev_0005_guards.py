"""What a write by SQL may do to a key and to the log, whatever form the statement has.

SQLite's REPLACE deletes the row that it collides with and fires no delete trigger (recursive_triggers is off), so the
triggers below refuse each collision before it is resolved. A guard judges what a statement changes: a row that was
unsound before can still be revoked.

Written out rather than taken from the models: a migration says what was true when it was written.
"""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_TIMES = (
    "created_at", "activated_at", "expires_at", "retires_at", "suspended_at", "last_used_at", "revoked_at",
    "lease_until", "first_used_at",
)  # fmt: skip
_CURRENT = "{0}revoked_at IS NULL AND {0}retires_at IS NULL AND ({0}activated_at IS NOT NULL OR {0}replaces IS NULL)"
_LIVE_SUCCESSOR = "{0}replaces IS NOT NULL AND {0}revoked_at IS NULL"
# No log of ours comes so far: an event with such a number was written to leave no room for another.
_NO_ROOM = 2**62


def upgrade() -> None:
    connection = op.get_bind()
    sqlite = connection.dialect.name == "sqlite"
    for statement in (
        *(_MAKE_ROOM_IN_SQLITE if sqlite else _MAKE_ROOM_IN_POSTGRESQL),
        *(_SQLITE if sqlite else _POSTGRESQL),
    ):
        # Alembic's own execute would take a colon for a parameter.
        connection.exec_driver_sql(statement)


def _no_time_in_sqlite(column: str) -> str:
    """Whether a new value is no time. A day that no calendar has becomes another day once SQLite reckons with it."""
    second = f"substr({column}, 1, 19)"
    return (
        f"({column} IS NOT NULL AND (typeof({column}) <> 'text' OR datetime({second}, '+0 days') IS NOT {second}"
        f" OR {column} < '0001-01-02'))"
    )


def _no_time_in_postgresql(column: str) -> str:
    """The same: neither an infinity nor a year that other programs cannot hold."""
    return f"({column} < TIMESTAMPTZ '0001-01-02 00:00:00+00' OR {column} >= TIMESTAMPTZ '9999-12-31 00:00:00+00')"


def _sqlite_guard(name: str, event: str, condition: str, said: str) -> str:
    return f"CREATE TRIGGER {name} {event} WHEN {condition} BEGIN SELECT RAISE(ABORT, '{said}'); END"


def _postgresql_guard(name: str, event: str, condition: str, said: str) -> tuple[str, str]:
    table = event.rpartition(" ")[2]
    return (
        (
            f"CREATE TRIGGER {name} {event} FOR EACH ROW WHEN ({condition})"
            f" EXECUTE FUNCTION alphalens_keyctl_refuse('{said}')"
        ),
        # Also for what replication applies, and under session_replication_role.
        f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER {name}",
    )


_NEW_CURRENT = _CURRENT.format("NEW.")
_NEW_SUCCESSOR = _LIVE_SUCCESSOR.format("NEW.")
_STANDS = "a key is never replaced by another row"
_ITSELF = "a key keeps its id and its digest"
_NAMED = "a key has one name: name_folded is the folded form of name"
_A_TIME = "a time is an instant of the calendar, in UTC"
_LINK = "an audit event follows the last one"
_PLAIN_IN_SQLITE = "length(CAST(NEW.name AS BLOB)) = length(NEW.name)"
_PLAIN_IN_POSTGRESQL = "octet_length(NEW.name) = length(NEW.name)"
# Of letters beyond ASCII neither database knows the folded form: there both change, or neither does.
_ONE_NAME_CHANGED = {
    "sqlite": "(NEW.name IS OLD.name) <> (NEW.name_folded IS OLD.name_folded)",
    "postgresql": "(NEW.name = OLD.name) <> (NEW.name_folded = OLD.name_folded)",
}
_MISNAMED_IN_SQLITE = (
    "typeof(NEW.name) <> 'text' OR typeof(NEW.name_folded) <> 'text' OR instr(NEW.name, char(0)) > 0"
    f" OR {_PLAIN_IN_SQLITE} AND NEW.name_folded IS NOT lower(NEW.name)"
    # The same letters under another folded form.
    f" OR NOT ({_PLAIN_IN_SQLITE}) AND {_NEW_CURRENT} AND EXISTS (SELECT 1 FROM api_key AS other"
    " WHERE other.name = NEW.name AND length(CAST(other.name AS BLOB)) > length(other.name)"
    f" AND other.id IS NOT NEW.id AND {_CURRENT.format('other.')})"
)
_MISNAMED_IN_POSTGRESQL = f'{_PLAIN_IN_POSTGRESQL} AND NEW.name_folded <> lower(NEW.name COLLATE "C")'
_COLLIDES = (
    f"{_NEW_CURRENT} AND EXISTS (SELECT 1 FROM api_key AS other WHERE other.name_folded = NEW.name_folded"
    f" AND other.id IS NOT {{0}} AND {_CURRENT.format('other.')})"
    f" OR {_NEW_SUCCESSOR} AND EXISTS (SELECT 1 FROM api_key AS other WHERE other.replaces = NEW.replaces"
    f" AND other.id IS NOT {{0}} AND {_LIVE_SUCCESSOR.format('other.')})"
)
_REIDENTIFIED = "NEW.id {0} OLD.id OR NEW.digest {0} OLD.digest OR NEW.digest_scheme {0} OLD.digest_scheme"

# Moved up behind the last event that leaves room: the log can go on, and `audit verify` finds the event altered, since
# its hash says another number.
_MAKE_ROOM = f"""UPDATE audit_event SET seq = (SELECT coalesce(max(seq), 0) FROM audit_event WHERE seq < {_NO_ROOM})
    + (SELECT count(*) FROM audit_event AS stray WHERE stray.seq >= {_NO_ROOM} AND stray.seq <= audit_event.seq)
    WHERE seq >= {_NO_ROOM}"""
_NO_UPDATE = (
    "CREATE TRIGGER audit_event_no_update BEFORE UPDATE ON audit_event"
    " BEGIN SELECT RAISE(ABORT, 'an audit event is never changed'); END"
)
_MAKE_ROOM_IN_SQLITE = ("DROP TRIGGER audit_event_no_update", _MAKE_ROOM, _NO_UPDATE)
_MAKE_ROOM_IN_POSTGRESQL = (
    "ALTER TABLE audit_event DISABLE TRIGGER audit_event_no_update",
    _MAKE_ROOM,
    "ALTER TABLE audit_event ENABLE TRIGGER audit_event_no_update",
)
_SQLITE = (
    _sqlite_guard(
        "api_key_no_replace", "BEFORE INSERT ON api_key",
        "EXISTS (SELECT 1 FROM api_key WHERE id = NEW.id)"
        # SQLite's own number of a row, when it is written out, collides like a key.
        " OR NEW.rowid > 0 AND EXISTS (SELECT 1 FROM api_key WHERE rowid = NEW.rowid)"
        f" OR {_COLLIDES.format('NULL')}", _STANDS,
    ),
    # Before an insert SQLite gives -1 for a number that it has yet to choose.
    _sqlite_guard("api_key_row_number", "AFTER INSERT ON api_key", "NEW.rowid < 1", _STANDS),
    _sqlite_guard(
        "api_key_no_replace_by_update",
        "BEFORE UPDATE OF name_folded, activated_at, retires_at, revoked_at, replaces ON api_key",
        _COLLIDES.format("OLD.id"), _STANDS,
    ),
    _sqlite_guard(
        "api_key_stays_itself", "BEFORE UPDATE ON api_key",
        f"{_REIDENTIFIED.format('IS NOT')} OR NEW.rowid IS NOT OLD.rowid", _ITSELF,
    ),
    _sqlite_guard(
        "api_key_has_an_id", "BEFORE INSERT ON api_key",
        "typeof(NEW.id) <> 'text' OR length(CAST(NEW.id AS BLOB)) <> 12 OR NEW.id GLOB '*[^0-9A-Za-z]*'"
        " OR typeof(NEW.digest) <> 'blob'",
        "an id is 12 letters and digits, a digest 32 bytes",
    ),
    _sqlite_guard("api_key_has_one_name", "BEFORE INSERT ON api_key", _MISNAMED_IN_SQLITE, _NAMED),
    _sqlite_guard(
        "api_key_keeps_one_name", "BEFORE UPDATE OF name, name_folded ON api_key",
        f"{_MISNAMED_IN_SQLITE} OR NOT ({_PLAIN_IN_SQLITE}) AND {_ONE_NAME_CHANGED['sqlite']}", _NAMED,
    ),
    _sqlite_guard(
        "api_key_times", "BEFORE INSERT ON api_key",
        " OR ".join(_no_time_in_sqlite(f"NEW.{column}") for column in _TIMES), _A_TIME,
    ),
    _sqlite_guard(
        "api_key_times_changed", f"BEFORE UPDATE OF {', '.join(_TIMES)} ON api_key",
        " OR ".join(f"NEW.{column} IS NOT OLD.{column} AND {_no_time_in_sqlite(f'NEW.{column}')}" for column in _TIMES),
        _A_TIME,
    ),
    # What its place in the chain allows is no replacement either.
    "DROP TRIGGER audit_event_no_replace",
    # One look at the last event, since this runs for each of a million.
    _sqlite_guard(
        "audit_event_next_link", "BEFORE INSERT ON audit_event",
        "(NEW.seq - 1, NEW.previous_hash) IS NOT (SELECT seq, hash FROM audit_event ORDER BY seq DESC LIMIT 1)"
        " AND NOT (NEW.seq = 1 AND NEW.previous_hash = zeroblob(32) AND NOT EXISTS (SELECT 1 FROM audit_event))"
        " OR typeof(NEW.hash) <> 'blob'", _LINK,
    ),
    _sqlite_guard("audit_event_time", "BEFORE INSERT ON audit_event", _no_time_in_sqlite("NEW.at"), _A_TIME),
    ("CREATE INDEX api_key_current_spelling ON api_key (name)"
    f" WHERE length(CAST(name AS BLOB)) > length(name) AND {_CURRENT.format('')}"),
)  # fmt: skip
_POSTGRESQL = (
    *_postgresql_guard(
        "api_key_stays_itself", "BEFORE UPDATE ON api_key", _REIDENTIFIED.format("IS DISTINCT FROM"), _ITSELF
    ),
    *_postgresql_guard(
        "api_key_has_an_id", "BEFORE INSERT ON api_key",
        "NEW.id !~ '^[0-9A-Za-z]{12}$'", "an id is 12 letters and digits",
    ),
    *_postgresql_guard("api_key_has_one_name", "BEFORE INSERT ON api_key", _MISNAMED_IN_POSTGRESQL, _NAMED),
    *_postgresql_guard(
        "api_key_keeps_one_name", "BEFORE UPDATE OF name, name_folded ON api_key",
        f"{_MISNAMED_IN_POSTGRESQL} OR NOT ({_PLAIN_IN_POSTGRESQL}) AND {_ONE_NAME_CHANGED['postgresql']}", _NAMED,
    ),
    *_postgresql_guard(
        "api_key_times", "BEFORE INSERT ON api_key",
        " OR ".join(_no_time_in_postgresql(f"NEW.{column}") for column in _TIMES), _A_TIME,
    ),
    *_postgresql_guard(
        "api_key_times_changed", f"BEFORE UPDATE OF {', '.join(_TIMES)} ON api_key",
        " OR ".join(
            f"NEW.{column} IS DISTINCT FROM OLD.{column} AND {_no_time_in_postgresql(f'NEW.{column}')}"
            for column in _TIMES
        ),
        _A_TIME,
    ),
    *_postgresql_guard(
        "audit_event_time", "BEFORE INSERT ON audit_event", _no_time_in_postgresql("NEW.at"), _A_TIME
    ),
    # Also where rows from before break it: those stay.
    f"""DO $$ BEGIN
    ALTER TABLE usage_event ADD CONSTRAINT usage_event_at_is_a_time CHECK (NOT {_no_time_in_postgresql("at")});
EXCEPTION WHEN check_violation THEN
    ALTER TABLE usage_event ADD CONSTRAINT usage_event_at_is_a_time
        CHECK (NOT {_no_time_in_postgresql("at")}) NOT VALID;
END $$""",
    # A name beyond ASCII, and no second current key of the same letters under another folded form.
    ("CREATE INDEX api_key_current_spelling ON api_key (name)"
    f" WHERE octet_length(name) > length(name) AND {_CURRENT.format('')}"),
    f"""CREATE FUNCTION alphalens_keyctl_one_spelling() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT 1 FROM api_key AS other WHERE other.name = NEW.name
        AND octet_length(other.name) > length(other.name) AND other.id <> NEW.id AND {_CURRENT.format("other.")}) THEN
        RAISE EXCEPTION '{_NAMED}' USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NULL;
END $$""",
    f"""CREATE TRIGGER api_key_one_spelling AFTER INSERT OR UPDATE OF name, name_folded ON api_key FOR EACH ROW
    WHEN (NOT ({_PLAIN_IN_POSTGRESQL}) AND {_NEW_CURRENT})
    EXECUTE FUNCTION alphalens_keyctl_one_spelling()""",
    "ALTER TABLE api_key ENABLE ALWAYS TRIGGER api_key_one_spelling",
    # Once for a statement, since a log that is written a million events at a time is. Two transactions at once cannot
    # both have the next number: it is the primary key, on which the second waits for the first.
    """CREATE FUNCTION alphalens_keyctl_next_link() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    first bigint;
    last_seq bigint;
    last_hash bytea;
BEGIN
    SELECT min(seq) INTO first FROM added;
    SELECT seq, hash INTO last_seq, last_hash FROM audit_event WHERE seq < first ORDER BY seq DESC LIMIT 1;
    IF EXISTS (
        SELECT 1 FROM (
            SELECT seq, previous_hash, lag(seq, 1, coalesce(last_seq, 0)) OVER chain AS seq_before,
                lag(hash, 1, coalesce(last_hash, decode(repeat('00', 32), 'hex'))) OVER chain AS hash_before
            FROM added WINDOW chain AS (ORDER BY seq)
        ) AS link WHERE seq <> seq_before + 1 OR previous_hash <> hash_before
    ) OR EXISTS (
        SELECT 1 FROM audit_event WHERE seq > (SELECT max(seq) FROM added)
    ) THEN
        RAISE EXCEPTION 'an audit event follows the last one' USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NULL;
END $$""",
    """CREATE TRIGGER audit_event_next_link AFTER INSERT ON audit_event REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION alphalens_keyctl_next_link()""",
    # Who holds it is the only writer. An advisory lock's number anybody can take; a table's lock needs a right on it.
    "CREATE TABLE alphalens_keyctl_writer ()",
    *(
        f"ALTER TABLE {name.partition('.')[0]} ENABLE ALWAYS TRIGGER {name.partition('.')[2]}"
        for name in (
            "audit_event.audit_event_next_link", "audit_event.audit_event_no_update",
            "audit_event.audit_event_no_truncate", "api_key.api_key_revoked_is_final", "api_key.api_key_no_delete",
            "api_key.api_key_no_truncate",
        )
    ),
)  # fmt: skip
