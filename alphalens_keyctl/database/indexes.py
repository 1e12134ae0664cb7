"""Whether the indexes, by which rows are found, are the ones that the migrations make and hold every row.

A log that is sound row by row still hides an event whose entry is missing from an index: no look by key finds it.
"""

import json
import re
import sqlite3
from collections.abc import Callable
from typing import Final

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from alphalens_keyctl.database import sqlite

_CURRENT: Final = "revoked_at IS NULL AND retires_at IS NULL AND (activated_at IS NOT NULL OR replaces IS NULL)"
_CURRENT_PG: Final = (
    "(revoked_at IS NULL) AND (retires_at IS NULL) AND ((activated_at IS NOT NULL) OR (replaces IS NULL))"
)
# What stands in the database's own catalogue, without the schema's name. A test compares it with what the migrations
# make.
_BOTH: Final = {
    "api_key_created": "INDEX ON api_key (created_at, id)",
    "api_key_expires": "INDEX ON api_key (expires_at)",
    "api_key_last_used": "INDEX ON api_key (last_used_at)",
    "api_key_name": "INDEX ON api_key (name_folded)",
    "api_key_owner": "INDEX ON api_key (owner)",
    "api_key_status": "INDEX ON api_key (status)",
    "api_reply_at": "INDEX ON api_reply (at)",
    "audit_event_action": "INDEX ON audit_event (action, seq)",
    "audit_event_actor": "INDEX ON audit_event (actor, seq)",
    "audit_event_at": "INDEX ON audit_event (at)",
    "audit_event_key": "INDEX ON audit_event (key_id, seq)",
    "usage_event_at": "INDEX ON usage_event (at)",
    "usage_event_key": "INDEX ON usage_event (key_id, at)",
}
EXPECTED: Final = {
    "sqlite": _BOTH
    | {
        "api_key_current_name": f"UNIQUE INDEX ON api_key (name_folded) WHERE {_CURRENT}",
        "api_key_current_spelling": (
            f"INDEX ON api_key (name) WHERE length(CAST(name AS BLOB)) > length(name) AND {_CURRENT}"
        ),
        "api_key_idle": "INDEX ON api_key (coalesce(last_used_at, activated_at))",
        "api_key_live_successor": (
            "UNIQUE INDEX ON api_key (replaces) WHERE replaces IS NOT NULL AND revoked_at IS NULL"
        ),
        "api_key_scopes": "INDEX ON api_key (scopes) WHERE scopes IS NOT NULL",
        "api_key_suspended": "INDEX ON api_key (suspended_at) WHERE suspended_at IS NOT NULL",
        "usage_event_refused_once": (
            "UNIQUE INDEX ON usage_event (at, outcome, coalesce(key_id, ''), coalesce(client_ip, ''))"
            " WHERE outcome <> 'ok'"
        ),
    },
    "postgresql": _BOTH
    | {
        "alphalens_keyctl_version_pkc": "UNIQUE INDEX ON alphalens_keyctl_version (version_num)",
        "api_key_current_name": f"UNIQUE INDEX ON api_key (name_folded) WHERE ({_CURRENT_PG})",
        "api_key_current_spelling": (
            f"INDEX ON api_key (name) WHERE ((octet_length(name) > length(name)) AND {_CURRENT_PG})"
        ),
        "api_key_idle": "INDEX ON api_key (COALESCE(last_used_at, activated_at))",
        "api_key_labels": "INDEX ON api_key USING gin (labels jsonb_path_ops)",
        "api_key_live_successor": (
            "UNIQUE INDEX ON api_key (replaces) WHERE ((replaces IS NOT NULL) AND (revoked_at IS NULL))"
        ),
        "api_key_pkey": "UNIQUE INDEX ON api_key (id)",
        "api_key_scopes": "INDEX ON api_key USING gin (scopes) WHERE (scopes IS NOT NULL)",
        "api_key_suspended": "INDEX ON api_key (suspended_at) WHERE (suspended_at IS NOT NULL)",
        "api_reply_pkey": "UNIQUE INDEX ON api_reply (caller, idempotency_key)",
        "audit_event_one_follower": "UNIQUE INDEX ON audit_event (previous_hash)",
        "audit_event_pkey": "UNIQUE INDEX ON audit_event (seq)",
        "usage_event_pkey": "UNIQUE INDEX ON usage_event (id, at)",
        "usage_event_refused_once": (
            "UNIQUE INDEX ON usage_event (at, outcome, COALESCE(key_id, ''::text), COALESCE(client_ip, ''::text))"
            " WHERE (outcome <> 'ok'::text)"
        ),
    },
}
_TABLES: Final = ("api_key", "audit_event", "usage_event", "api_reply", "alphalens_keyctl_version")
_ON_SQLITE: Final = "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL"
_OURS: Final = f"""pg_index JOIN pg_class AS index ON index.oid = indexrelid
    LEFT JOIN pg_inherits ON inhrelid = indrelid
    WHERE coalesce(inhparent, indrelid) IN ({", ".join(f"to_regclass('{table}')" for table in _TABLES)})"""
# An index that is not valid is not read. One with settings of its own, `fillfactor` say, is the same index.
_ON_POSTGRESQL: Final = f"""SELECT index.relname,
        regexp_replace(pg_get_indexdef(indexrelid), ' WITH \\([^)]*\\)', ''),
        quote_ident(index.relnamespace::regnamespace::text)
    FROM {_OURS} AND indisvalid AND indisready AND indislive"""  # noqa: S608  # our own constants
_BTREES: Final = f"""SELECT indexrelid::regclass::text FROM {_OURS} AND index.relkind = 'i'
    AND index.relam = (SELECT oid FROM pg_am WHERE amname = 'btree') ORDER BY 1"""  # noqa: S608  # our own constants
_AMCHECK: Final = """SELECT p.oid::regproc::text FROM pg_proc AS p
    JOIN pg_depend ON classid = 'pg_proc'::regclass AND objid = p.oid AND deptype = 'e'
    JOIN pg_extension AS e ON refclassid = 'pg_extension'::regclass AND refobjid = e.oid AND extname = 'amcheck'
    WHERE proname = 'bt_index_check' AND pronargs = 2 AND has_function_privilege(p.oid, 'EXECUTE')"""
# On SQLite a table stands for the index of the labels; triggers fill it.
_EACH_LABEL: Final = """api_key, json_each(CASE WHEN typeof(labels) = 'text' AND json_valid(labels)
    THEN labels ELSE '{}' END) AS label"""
_IS_UNFOUND: Final = """NOT EXISTS (SELECT 1 FROM api_key_label AS found
    WHERE found.name = label.key AND found.value = label.value AND found.key_id = api_key.id)"""
_UNFOUND: Final = f"SELECT api_key.id, CAST(labels AS BLOB) FROM {_EACH_LABEL} WHERE {_IS_UNFOUND}"  # noqa: S608  # our own constants
_LABELS: Final = f"""SELECT count(*), coalesce(sum({_IS_UNFOUND}), 0), (SELECT count(*) FROM api_key_label)
    FROM {_EACH_LABEL}"""  # noqa: S608  # the same
_UNFOUNDED: Final = f"""SELECT found.key_id, CAST(key.labels AS BLOB) FROM api_key_label AS found
    JOIN api_key AS key ON key.id = found.key_id WHERE NOT EXISTS (SELECT 1 FROM {_EACH_LABEL}
    WHERE api_key.id = found.key_id AND label.key = found.name AND label.value = found.value)"""  # noqa: S608  # the same
# Steps of SQLite between two questions whether to stop: a second of work at most.
_STEPS: Final = 5_000_000
_CORRUPTED: Final = ("XX001", "XX002")  # data_corrupted, index_corrupted (PostgreSQL, "Error Codes")


def altered(connection: Connection) -> str | None:
    """Say which index is not the one that the migrations make: missing, or defined otherwise. None: they all are."""
    found = _found(connection)
    for name, expected in EXPECTED[connection.dialect.name].items():
        if name not in found:
            return f"index {name} is missing"
        if found[name] != expected:
            return f"index {name} is defined otherwise: {found[name]}"
    return None


def unsound(connection: Connection, *, stop: Callable[[], bool]) -> str | None:
    """Say what the database's own check of our tables and their indexes finds first; None when it finds nothing.

    On PostgreSQL the check is the extension `amcheck`, where that is installed and the user may run it. `stop` is
    asked now and then, and ends the check on SQLite with an error.
    """
    return _unsound_btree(connection, stop) if connection.dialect.name == "postgresql" else _unsound(connection, stop)


def mislabelled(connection: Connection) -> str | None:
    """Say of which key the labels are not those by which the key is found, on SQLite; None: of none. A key whose labels
    this program never wrote is shown as damaged by itself."""
    if connection.dialect.name != "sqlite":
        return None
    labels, unfound, entries = connection.exec_driver_sql(_LABELS).one()
    if not unfound and labels == entries:
        return None
    for query in (_UNFOUND, _UNFOUNDED):
        for key_id, labels in connection.exec_driver_sql(query):
            if _are_labels(labels):
                return f"key {key_id} is not found by its labels, or is by others"
    return None


def _are_labels(stored: bytes) -> bool:
    try:
        labels = json.loads(stored.decode())
    except (ValueError, RecursionError):
        return False
    return isinstance(labels, dict) and all(isinstance(value, str) for value in labels.values())


def _found(connection: Connection) -> dict[str, str]:
    """Every index of our tables and its definition, spelled as in `EXPECTED`."""
    if connection.dialect.name == "sqlite":
        rows = [(name, str(definition)) for name, definition in connection.exec_driver_sql(_ON_SQLITE)]
    else:
        rows = [
            (name, definition.replace(f" ON {schema}.", " ON ").replace(f" ON ONLY {schema}.", " ON "))
            for name, definition, schema in connection.execute(text(_ON_POSTGRESQL))
        ]
    return {
        name: re.sub(rf'INDEX "?{re.escape(name)}"? ON', "INDEX ON", " ".join(definition.split()), count=1)
        .removeprefix("CREATE ")
        .replace(" USING btree", "", 1)
        for name, definition in rows
    }


def _unsound(connection: Connection, stop: Callable[[], bool]) -> str | None:
    sqlite.make_room(connection)  # each entry of an index is looked up
    driver: sqlite3.Connection = connection.connection.driver_connection  # type: ignore[assignment]  # our own
    driver.set_progress_handler(stop, _STEPS)
    # A row that holds what was never written is shown as damaged by itself; a hundred of them would end the check.
    connection.exec_driver_sql("PRAGMA ignore_check_constraints = ON")
    try:
        for table in (*_TABLES, "api_key_label"):
            said = connection.exec_driver_sql(f"PRAGMA integrity_check({table})").scalars().all()
            if said != ["ok"]:
                return str(said[0])
    finally:
        driver.set_progress_handler(None, 0)
        connection.exec_driver_sql("PRAGMA ignore_check_constraints = OFF")
    return None


def _unsound_btree(connection: Connection, stop: Callable[[], bool]) -> str | None:
    check = connection.scalar(text(_AMCHECK))
    if check is None:
        return None
    for index in connection.scalars(text(_BTREES)).all():
        if stop():
            return None
        try:
            with connection.begin_nested():
                # `check` is PostgreSQL's own spelling of the function's name.
                connection.execute(text(f"SELECT {check}(CAST(:index AS regclass), true)"), {"index": index})
        except DBAPIError as error:
            if getattr(error.orig, "sqlstate", None) not in _CORRUPTED:
                raise
            return " ".join(str(error.orig).split())
    return None
