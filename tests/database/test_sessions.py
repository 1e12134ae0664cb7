"""Sessions of PostgreSQL that a server of ours keeps between transactions."""

import psycopg
import pytest
from sqlalchemy import text

from alphalens_keyctl.database import Database
from tests.support.databases import on_postgresql

_SAYS = text(
    "SELECT current_setting('lock_timeout'), current_setting('TimeZone'), current_setting('transaction_isolation')"
)
_SESSION = text("SELECT pg_backend_pid()")


@on_postgresql
@pytest.mark.parametrize("after", [0.0, 2.0], ids=["at once", "after a while"])
def test_a_session_that_the_server_ended_meets_no_transaction(
    database_url: str, database: Database, monkeypatch: pytest.MonkeyPatch, after: float
) -> None:
    """Promise 11. The server is asked only where a session was silent for a while; that it is over, is said at once."""
    with database.reading() as one, database.reading() as other:
        kept = {one.scalar(_SESSION), other.scalar(_SESSION)}
    with psycopg.connect(database_url, autocommit=True) as admin:
        for session in kept:
            admin.execute("SELECT pg_terminate_backend(%s, 10000)", (session,))
    monkeypatch.setattr("alphalens_keyctl.database.postgresql._FRESH", 1.0 - after)
    with database.reading() as one, database.reading() as other:
        assert kept.isdisjoint({one.scalar(_SESSION), other.scalar(_SESSION)})


@on_postgresql
def test_what_limits_a_transaction_ends_with_it(database: Database) -> None:
    """Promise 11; and behind a pooler the settings of a session would be another client's."""
    with database.reading() as connection:
        assert connection.execute(_SAYS).one()[1:] == ("UTC", "read committed")
        limited, session = connection.execute(_SAYS).one()[0], connection.scalar(_SESSION)
        connection.exec_driver_sql("COMMIT")
        assert connection.scalar(_SESSION) == session
        assert connection.execute(_SAYS).one()[0] != limited
