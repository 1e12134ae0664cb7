"""Sessions of PostgreSQL that a server of ours keeps between transactions."""

from urllib.parse import urlsplit

import psycopg
import pytest
from sqlalchemy import text

from alphalens_keyctl.database import Database
from tests.support.commands import Keyctl
from tests.support.databases import by_hand, on_postgresql

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


@on_postgresql
def test_what_the_database_sets_for_its_sessions_decides_no_change(keyctl: Keyctl, database_url: str) -> None:
    """Promises 4 and 6: a stricter level would show a writer the head of the log as it was before the turn, and
    psycopg reads times in ISO style alone."""
    name = urlsplit(database_url).path[1:]
    settings = {
        "DateStyle": "German, DMY", "TimeZone": "Asia/Kathmandu", "default_transaction_isolation": "repeatable read",
    }  # fmt: skip
    for setting, value in settings.items():
        by_hand(database_url, f"ALTER DATABASE {name} SET {setting} = '{value}'")
    keyctl.create("ci")
    racing = [keyctl.start("create", f"at-once-{number}") for number in range(6)]
    assert [process.wait().status for process in racing] == [0] * 6
    assert [key["created_at"][-1] for key in keyctl.keys()] == ["Z"] * 7
    assert keyctl.ok("audit", "verify").stdout.startswith("Sound: 14 events")
