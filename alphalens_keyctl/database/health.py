"""How a database is, for whoever looks after it: its server's clock, what this role may do, whether it is sound."""

import os
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final, NamedTuple

from sqlalchemy import Connection, text

from alphalens_keyctl.address import Address, PostgreSQLAddress
from alphalens_keyctl.database import indexes, postgresql
from alphalens_keyctl.errors import KeyctlError
from alphalens_keyctl.moments import utc_now

# By number: a name that is not there would be an error.
_RIGHTS: Final = """SELECT
    has_table_privilege(key, 'INSERT') AND has_table_privilege(key, 'UPDATE') AND has_table_privilege(event, 'INSERT')
        AND has_table_privilege(writer, 'UPDATE'),
    has_column_privilege(key, 'digest', 'SELECT') AND has_function_privilege(record, 'EXECUTE'),
    has_column_privilege(key, 'id', 'SELECT') AND has_table_privilege(event, 'SELECT')
    FROM (SELECT to_regclass('api_key') AS key, to_regclass('audit_event') AS event,
        to_regclass('alphalens_keyctl_writer') AS writer,
        to_regprocedure('alphalens_keyctl_record_uses(jsonb, jsonb)') AS record) AS ours"""


class Rights(NamedTuple):
    """What the role, or the user of the system, may do: change keys, check keys and record their use, read keys and
    logs. `read_only` says why nothing can be changed whatever the role may do, and what to do; None where it can."""

    change: bool
    check: bool
    read: bool
    read_only: KeyctlError | None = None


def rights(connection: Connection, address: Address) -> Rights:
    """Return what may be done. Where a table is missing, nothing may be done with it."""
    if not isinstance(address, PostgreSQLAddress):
        return _rights_on_file(address.path)
    change, check, read = map(bool, connection.execute(text(_RIGHTS)).one())
    try:
        postgresql.require_writable(connection)
    except KeyctlError as error:
        return Rights(change, check, read, error)
    return Rights(change, check, read)


def clock_difference(connection: Connection) -> timedelta | None:
    """Return how far the server's clock is ahead of this machine's (negative: behind), to within the time that the
    answer took; None for a file, which has no clock of its own."""
    if connection.dialect.name != "postgresql":
        return None
    before = utc_now()
    server: datetime = connection.execute(text("SELECT clock_timestamp()")).scalar_one()
    after = utc_now()
    if before <= server <= after:
        return timedelta(0)
    return server - after if server > after else server - before


def damage(connection: Connection, *, within: float) -> str | None:
    """Say what the database's own check of our tables and indexes finds first; None when it finds nothing.

    Raises TimeoutError where the check is not done `within` so many seconds.
    """
    deadline = time.monotonic() + within
    stopped = False

    def stop() -> bool:
        nonlocal stopped
        stopped = time.monotonic() > deadline
        return stopped

    try:
        found = indexes.altered(connection) or indexes.unsound(connection, stop=stop)
    except Exception as error:
        if stopped:
            raise TimeoutError from error
        raise
    if found is None and stopped:
        raise TimeoutError
    return found


def _rights_on_file(path: Path) -> Rights:
    may = os.access(path, os.R_OK | os.W_OK) and os.access(path.parent, os.W_OK | os.X_OK)
    return Rights(may, may, may)
