"""Any URL that libpq takes is taken, and what a role or a database has set decides no verification.

PostgreSQL alone: a SQLite URL takes no parameters.
"""

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest

from alphalens_keyctl import KeyVerifier
from alphalens_keyctl.address import PostgreSQLAddress
from alphalens_keyctl.database import Database, Limits, parse_address
from alphalens_keyctl.database.postgresql import dialer
from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.models import Reason
from alphalens_keyctl.verification.judgement import Verification
from tests.services.pgbouncer import pooling
from tests.services.postgresql import Databases
from tests.support.commands import ForkServer, Keyctl
from tests.support.databases import by_hand, end_sessions, listeners
from tests.support.freshness import NEVER, TOLD, until
from tests.support.waiting import wait_for


@pytest.fixture
def database_url(databases: Databases, postgresql_template: str) -> str:
    """PostgreSQL alone."""
    return databases.create(postgresql_template)


def address_of(url: str) -> PostgreSQLAddress:
    address = parse_address(url)
    assert isinstance(address, PostgreSQLAddress)
    return address


def told_to_the_server(url: str) -> dict[str, str]:
    """The settings of a session that the program begins by a URL."""
    with dialer(address_of(url), connect_timeout=5, answer_limit=5)() as session:
        rows = session.execute("SELECT name, setting FROM pg_settings").fetchall()
    return dict(rows)


@pytest.mark.parametrize(
    "parameters",
    [
        *["client_encoding=utf8", "client_encoding=LATIN1", "client_encoding=auto", "connect_timeout=3"],
        *["connect_timeout=0", "application_name=mine", "options=-cstatement_timeout%3D5min", "sslmode=prefer"],
        *["target_session_attrs=read-write", "load_balance_hosts=random", "keepalives_idle=5", "gssencmode=disable"],
        "service=keys&connect_timeout=3",
    ],
)
def test_a_parameter_of_libpq_may_stand_in_the_url(
    keyctl: Keyctl, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parameters: str
) -> None:
    (tmp_path / "services").write_text("[keys]\napplication_name=from-the-service\n")
    monkeypatch.setenv("PGSERVICEFILE", str(tmp_path / "services"))
    raw, _ = keyctl.create("ключ")
    url = f"{database_url}?{parameters}"
    with KeyVerifier(url, usage="off") as verifier:
        assert verifier.verify(raw), verifier.trouble
    database = Database.open(parse_address(url), Limits())
    with database.reading() as connection:
        assert connection.exec_driver_sql("SELECT name FROM api_key").scalar() == "ключ"
    database.close()


def test_the_encoding_is_ours_and_everything_else_is_the_urls(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = "client_encoding=LATIN1&application_name=mine&options=-cstatement_timeout%3D5min"
    told = told_to_the_server(f"{database_url}?{given}")
    assert told["client_encoding"] == "UTF8"
    assert told["application_name"] == "mine"
    assert told["statement_timeout"] == "300000"
    assert told_to_the_server(database_url)["application_name"] == "alphalens-keyctl"
    monkeypatch.setenv("PGAPPNAME", "around")
    assert told_to_the_server(database_url)["application_name"] == "around"


@pytest.mark.parametrize(
    "parameters", ["connect_timeout=soon", "no_such_parameter=1", "application_name=%ff", "password=%zz"]
)
def test_a_parameter_that_libpq_does_not_take_is_a_fault_of_the_configuration(
    database_url: str, parameters: str
) -> None:
    with pytest.raises(KeyctlError) as refused:
        Database.open(parse_address(f"{database_url}?{parameters}"), Limits())
    assert refused.value.code is Code.CONFIGURATION


@pytest.mark.parametrize("url", ["sqlite", "postgresql"])
def test_a_fault_of_the_program_is_not_said_to_be_damage(
    request: pytest.FixtureRequest, sqlite_template: Path, url: str
) -> None:
    """A backup would be restored for nothing."""
    where = str(sqlite_template) if url == "sqlite" else request.getfixturevalue("database_url")
    database = Database.open(parse_address(where), Limits())
    for error in (TypeError("doubled"), ValueError("wrong"), OverflowError("large")):
        with pytest.raises(type(error)), database.reading():
            raise error
    database.close()


@pytest.fixture(params=["direct", "pooled"])
def way(request: pytest.FixtureRequest, database_url: str) -> Iterator[str]:
    """The URL that leads to the database, directly or through a pooler in transaction mode."""
    if request.param == "direct":
        yield database_url
        return
    with pooling(database_url) as pooler:
        yield pooler.url(database_url)


def test_what_the_database_sets_for_its_sessions_decides_no_verification(
    keyctl: Keyctl, database_url: str, way: str
) -> None:
    """Promise 9: a limit shorter than ours would refuse good keys. A lock holds the verifier up beyond all of them."""
    raw, _ = keyctl.create("ci")
    name = urlsplit(database_url).path[1:]
    short = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout", "idle_session_timeout")
    settings = {
        **dict.fromkeys((*short, "transaction_timeout"), "400ms"),
        "DateStyle": "German, DMY",
        "TimeZone": "Asia/Kathmandu",
        "bytea_output": "escape",
        **dict.fromkeys(("default_transaction_read_only", "default_transaction_deferrable"), "on"),
        "default_transaction_isolation": "serializable",
    }
    with psycopg.connect(database_url) as session:
        for setting, value in settings.items():
            session.execute(f"ALTER DATABASE {name} SET {setting} = '{value}'".encode())
    end_sessions(database_url)  # the pooler's
    answers: list[Verification] = []
    with KeyVerifier(way, usage="off", timeout=10) as verifier:
        assert verifier.verify("alk_made_up").reason is Reason.MALFORMED
        assert verifier.ready(), verifier.trouble
        with psycopg.connect(database_url) as holder:
            holder.execute("SET transaction_timeout = 0")
            holder.execute("SET idle_in_transaction_session_timeout = 0")
            holder.execute("SET TRANSACTION READ WRITE")
            holder.execute("LOCK TABLE api_key IN ACCESS EXCLUSIVE MODE")
            waiting = threading.Thread(target=lambda: answers.append(verifier.verify(raw)))
            waiting.start()
            time.sleep(1.2)  # longer than two of any of the limits
            holder.rollback()
        waiting.join(20)
        assert [answer.reason for answer in answers] == [Reason.OK], verifier.trouble


def test_a_session_that_the_role_ends_when_idle_goes_on_listening(keyctl: Keyctl, database_url: str) -> None:
    """Promise 5."""
    raw, ident = keyctl.create("ci")
    by_hand(database_url, f"ALTER DATABASE {urlsplit(database_url).path[1:]} SET idle_session_timeout = '100ms'")
    with KeyVerifier(database_url, usage="off", max_staleness=NEVER) as verifier:
        assert verifier.verify(raw)
        wait_for(lambda: listeners(database_url), "nobody listens")
        heard = listeners(database_url)
        time.sleep(0.5)
        assert listeners(database_url) == heard
        assert verifier.verify(raw)
        keyctl.ok("revoke", ident, "--yes")
        until(verifier, raw, Reason.REVOKED, within=TOLD)


def test_read_only_transactions_are_named_as_what_stops_a_change(keyctl: Keyctl, database_url: str) -> None:
    by_hand(database_url, f"ALTER DATABASE {urlsplit(database_url).path[1:]} SET default_transaction_read_only = on")
    refused = keyctl("create", "ci", "--json")
    assert (refused.status, refused.error["code"]) == (7, "database_unusable")
    assert "read-only" in refused.error["message"]
    assert "default_transaction_read_only" in refused.error["hint"]


def test_a_pooler_in_statement_mode_is_named(fork_server: ForkServer, tmp_path: Path, database_url: str) -> None:
    with pooling(database_url, mode="statement") as pooler:
        refused = Keyctl(fork_server, tmp_path, pooler.url(database_url))("list", "--json")
        assert (refused.status, refused.error["code"]) == (7, "database_unusable")
        assert "pool_mode" in refused.error["hint"]
        with KeyVerifier(pooler.url(database_url), usage="off") as verifier:
            assert not verifier.ready()
            assert verifier.trouble is not None
            assert "pool_mode" in verifier.trouble.hint


def test_another_programs_table_of_our_name_is_named(
    fork_server: ForkServer, tmp_path: Path, databases: Databases, keyctl: Keyctl, database_url: str
) -> None:
    empty = databases.create()
    by_hand(empty, "CREATE TABLE api_key (id integer PRIMARY KEY, token text)")
    upgrade = Keyctl(fork_server, tmp_path, empty)("db", "upgrade", "--json")
    keyctl.create("ci")
    by_hand(database_url, "CREATE SCHEMA theirs")
    by_hand(database_url, "CREATE TABLE theirs.api_key (id integer PRIMARY KEY, token text)")
    hidden = keyctl("--database", f"{database_url}?options=-csearch_path%3Dtheirs,public", "list", "--json")
    for refused in (upgrade, hidden):
        assert (refused.status, refused.error["code"]) == (7, "database_unusable")
        assert "another program's" in refused.error["message"]
        assert "search_path" in refused.error["hint"]
    with psycopg.connect(empty) as session:
        assert session.execute("SELECT count(*) FROM pg_class WHERE relname = 'audit_event'").fetchone() == (0,)
