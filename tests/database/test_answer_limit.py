"""Promise 11: the client bounds each answer of PostgreSQL, and takes silence between notifications for what it is."""

import psycopg
import pytest

from alphalens_keyctl.address import PostgreSQLAddress, parse_address
from alphalens_keyctl.database.postgresql import dialer

LIMIT = 0.3  # seconds


@pytest.fixture
def connection(postgresql_url: str) -> "psycopg.Connection[object]":
    address = parse_address(postgresql_url)
    assert isinstance(address, PostgreSQLAddress)
    connection = dialer(address, connect_timeout=5, answer_limit=LIMIT)()
    connection.autocommit = True
    connection.execute("SELECT 1")  # the first answer is part of connecting
    return connection


def test_an_answer_that_takes_longer_ends_the_connection(connection: "psycopg.Connection[object]") -> None:
    with pytest.raises(psycopg.OperationalError, match="the server stopped answering"):
        connection.execute("SELECT pg_sleep(20)")
    assert connection.closed


def test_a_wait_for_notifications_may_be_longer_than_an_answer(connection: "psycopg.Connection[object]") -> None:
    with connection:
        connection.execute("LISTEN changes")
        assert list(connection.notifies(timeout=3 * LIMIT)) == []
        connection.execute("NOTIFY changes, 'one'")
        assert [each.payload for each in connection.notifies(timeout=10, stop_after=1)] == ["one"]
