"""The last event of the audit log, behind which the next one is linked.

Everybody who changes something asks for it while all others wait, so PostgreSQL hands it over with the lock of the
writer, without an exchange of its own.
"""

from typing import Any, Final

from sqlalchemy import Connection

LAST_LINK: Final = "SELECT seq, hash FROM audit_event ORDER BY seq DESC LIMIT 1"
_KEPT: Final = "alphalens_keyctl_last_link"


def keep(connection: Connection, link: tuple[int, Any] | None) -> None:
    """Keep what `LAST_LINK` answered when this transaction had become the only one that writes."""
    connection.info[_KEPT] = link


def last_link(connection: Connection) -> tuple[int, Any] | None:
    """The number and the stored hash of the last event, or None where the log is empty.

    The first who asks in a transaction gets what was kept. Whoever asked may have written behind it, so everybody
    later gets what the database says by then.
    """
    if _KEPT in connection.info:
        kept: tuple[int, Any] | None = connection.info.pop(_KEPT)
        return kept
    # As text, so that SQLAlchemy puts no query together while others wait.
    row = connection.exec_driver_sql(LAST_LINK).first()
    return None if row is None else (row[0], row[1])
