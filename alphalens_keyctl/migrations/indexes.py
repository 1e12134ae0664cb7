"""The indexes of the tables: importing this file puts them into the metadata, with which a database is compared.

They do not stand in `models`: a condition for PostgreSQL loads all that SQLAlchemy knows of PostgreSQL, and a command
on SQLite would wait for that.
"""

from typing import Any, Final

from sqlalchemy import Index, func, text

from alphalens_keyctl.models import (
    CURRENT_SQL,
    LIVE_SUCCESSOR_SQL,
    REFUSED_ONCE,
    REFUSED_SQL,
    event_table,
    key_table,
    usage_table,
)
from alphalens_keyctl.replies import reply_table

_key, _event, _usage = key_table.c, event_table.c, usage_table.c
_SUSPENDED: Final = "suspended_at IS NOT NULL"
_SCOPED: Final = "scopes IS NOT NULL"
# Letters whose folded form no database knows: of these names the database compares the spelling too.
_BEYOND_ASCII: Final = {
    "sqlite": "length(CAST(name AS BLOB)) > length(name)",
    "postgresql": "octet_length(name) > length(name)",
}


def _where(name: str, *columns: Any, unique: bool = False, sqlite: str, postgresql: str) -> Index:
    """Return an index of the rows for which a condition holds, worded for each database."""
    return Index(name, *columns, unique=unique, sqlite_where=text(sqlite), postgresql_where=text(postgresql))


def _unique_where(name: str, *columns: Any, condition: str) -> Index:
    return _where(name, *columns, unique=True, sqlite=condition, postgresql=condition)


INDEXES: Final = (
    Index("api_key_name", _key.name_folded),
    Index("api_key_created", _key.created_at, _key.id),
    Index("api_key_status", _key.status),
    Index("api_key_owner", _key.owner),
    Index("api_key_expires", _key.expires_at),
    Index("api_key_last_used", _key.last_used_at),
    Index("api_key_idle", func.coalesce(_key.last_used_at, _key.activated_at)),
    _where("api_key_suspended", _key.suspended_at, sqlite=_SUSPENDED, postgresql=_SUSPENDED),
    Index(
        "api_key_scopes",
        _key.scopes,
        sqlite_where=text(_SCOPED),
        postgresql_where=text(_SCOPED),
        postgresql_using="gin",
    ),
    _where(
        "api_key_current_spelling",
        _key.name,
        sqlite=f"{_BEYOND_ASCII['sqlite']} AND {CURRENT_SQL}",
        postgresql=f"{_BEYOND_ASCII['postgresql']} AND {CURRENT_SQL}",
    ),
    _unique_where("api_key_current_name", _key.name_folded, condition=CURRENT_SQL),
    _unique_where("api_key_live_successor", _key.replaces, condition=LIVE_SUCCESSOR_SQL),
    Index("audit_event_key", _event.key_id, _event.seq),
    Index("audit_event_actor", _event.actor, _event.seq),
    Index("audit_event_action", _event.action, _event.seq),
    Index("audit_event_at", _event.at),
    Index("api_reply_at", reply_table.c.at),
    Index("usage_event_at", _usage.at),
    Index("usage_event_key", _usage.key_id, _usage.at),
    _unique_where(
        "usage_event_refused_once",
        *(_usage[part] if part in _usage else text(part) for part in REFUSED_ONCE),
        condition=REFUSED_SQL,
    ),
)
