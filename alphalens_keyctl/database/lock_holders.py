"""Who holds the locks that a writer on PostgreSQL waits for."""

from datetime import datetime
from typing import Final, NamedTuple

from sqlalchemy import Connection, text


class Holder(NamedTuple):
    """A session that a writer may be waiting for. `since` is None where the server does not show it to this role."""

    pid: int
    role: str
    since: datetime | None


def holders(connection: Connection) -> list[Holder]:
    """The sessions that hold locks on what a change writes to, those that have held them longest first."""
    return [Holder(*row) for row in connection.execute(_HOLDERS)]


_HOLDERS: Final = text(
    "SELECT pid, usename, xact_start FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND pid IN ("
    " SELECT pid FROM pg_locks WHERE granted AND locktype = 'relation' AND mode NOT IN ('AccessShareLock')"
    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    " AND relation IN (to_regclass('api_key'), to_regclass('audit_event'), to_regclass('alphalens_keyctl_writer')))"
    " ORDER BY xact_start NULLS LAST, pid"
)
