"""The one SELECT that is asked without psycopg's cursor keeps what the cursor kept: promises 1, 9 and 11."""

import signal
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest

from alphalens_keyctl.address import PostgreSQLAddress, parse_address
from alphalens_keyctl.database.postgresql import dialer
from alphalens_keyctl.moments import UNREADABLE
from alphalens_keyctl.verification.prepared_lookup import PreparedLookup

LIMIT = 0.3  # seconds
LONG = b"SELECT pg_sleep(20) WHERE $1 <> ''"

Prepare = Callable[[bytes], PreparedLookup]


@pytest.fixture
def connection(postgresql_url: str) -> Iterator["psycopg.Connection[Any]"]:
    address = parse_address(postgresql_url)
    assert isinstance(address, PostgreSQLAddress)
    with closing(dialer(address, connect_timeout=5, answer_limit=LIMIT)()) as connection:
        connection.autocommit = True
        yield connection


@pytest.fixture
def prepare(connection: "psycopg.Connection[Any]") -> Prepare:
    return lambda statement: PreparedLookup(connection, statement, answer_limit=LIMIT)


def test_an_answer_that_takes_longer_ends_the_connection(
    prepare: Prepare, connection: "psycopg.Connection[Any]"
) -> None:
    """Promise 11. What that server says later is no answer to the next question."""
    with pytest.raises(psycopg.OperationalError, match="the server stopped answering"):
        prepare(LONG).row("abc")
    assert connection.closed


def test_ctrl_c_while_the_server_is_asked_ends_the_connection(
    prepare: Prepare, connection: "psycopg.Connection[Any]"
) -> None:
    """Promise 9: the answer of one key must not come to the question about another."""
    lookup = prepare(LONG)
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, LIMIT / 3)
        with pytest.raises(KeyboardInterrupt):
            lookup.row("abc")
    finally:
        signal.signal(signal.SIGALRM, before)
    assert connection.closed


def test_what_the_server_refuses_is_its_error_without_the_value(
    prepare: Prepare, connection: "psycopg.Connection[Any]"
) -> None:
    """Promise 1."""
    lookup = prepare(b"SELECT CAST(CAST($1 AS text) AS integer)")
    with pytest.raises(psycopg.DataError) as caught:
        lookup.row("secret")
    assert caught.value.sqlstate == "22P02"
    assert "secret" not in str(caught.value)
    assert connection.closed


def test_a_statement_that_cannot_be_prepared_is_the_servers_error(prepare: Prepare) -> None:
    with pytest.raises(psycopg.errors.UndefinedTable, match="no_such_table"):
        prepare(b"SELECT 1 FROM no_such_table WHERE id = $1")


def test_values_are_read_as_psycopg_reads_them_question_after_question(prepare: Prepare) -> None:
    """Each type that a column of a key has, one that psycopg cannot read, and a time that Python cannot hold."""
    lookup = prepare(
        b"SELECT $1, NULL::text, 7::bigint, '\\x00ff'::bytea, '{\"a\": \"\xc3\xa9\"}'::jsonb,"
        b" '2026-11-25T12:00:00.000001+05:45'::timestamptz, 'infinity'::timestamptz, '(1,2)'::point"
        b" WHERE $1 <> 'none'"
    )
    for key_id in ("abc", "d\u00e9f"):
        *values, point = lookup.row(key_id) or ()
        at = datetime(2026, 11, 25, 6, 15, 0, 1, tzinfo=UTC)
        assert values == [key_id, None, 7, b"\x00\xff", {"a": "\u00e9"}, at, UNREADABLE]
        assert isinstance(point, bytes)
        assert lookup.row("none") is None
