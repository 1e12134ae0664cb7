"""Promises 1, 2, 3, 9 and 11 when PostgreSQL stops, dies, freezes, refuses or never answers.

On a server of this module's own, so that it may be stopped.
"""

import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from alphalens_keyctl import migrations
from alphalens_keyctl.database import Database, Limits, parse_address
from tests.services.postgresql import Databases, Server, wait_until_up
from tests.support.commands import Before, Keyctl, Result
from tests.support.faults import at_once, go_on, paused
from tests.support.judge import judge
from tests.support.raw_keys import raw_key_in

POINTS = [
    ("before_commit", 1),
    ("after_commit", 1),
    ("before_write", 1),
    ("after_write", 1),
    ("before_commit", 2),
    ("after_commit", 2),
]
PASSWORD = "wr%40ng-s3cret"
SECRETS = (PASSWORD, "wr@ng-s3cret", "s3cret")


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


@pytest.fixture(scope="module")
def own_databases(server: Server) -> Iterator[Databases]:
    databases = Databases(server.url)
    yield databases
    databases.close()


@pytest.fixture(scope="module")
def own_template(own_databases: Databases) -> str:
    url = own_databases.create()
    database = Database.connect(parse_address(url), Limits())
    database.upgrade()
    database.close()
    return url.rpartition("/")[2]


@pytest.fixture
def empty_url(own_databases: Databases) -> str:
    """A database without a schema."""
    return own_databases.create()


@pytest.fixture
def database_url(own_databases: Databases, own_template: str) -> str:
    return own_databases.create(own_template)


@pytest.fixture
def impatient(keyctl: Keyctl, tmp_path: Path) -> tuple[str, ...]:
    """The options that make every wait short."""
    config = tmp_path / "config.toml"
    config.write_text("connect_timeout = 1\nlock_timeout = 0.3\nquery_timeout = 0.5\n")
    return ("--config", str(config))


def assert_refused(result: Result, code: str) -> None:
    assert (result.status, result.stdout) == (7, ""), result
    assert result.error["code"] == code, result
    assert result.error["hint"]


def assert_true_to_its_word(keyctl: Keyctl, result: Result, command: str, old: str | None) -> None:
    """Exit 0 if and only if the key was shown and opens; else the next command succeeds. The old key opens."""
    raw = raw_key_in(result)
    with judge(keyctl.database_url) as judging:
        judging.wait_until_alone()
        assert old is None or judging.opens(old)
        opens = raw is not None and judging.opens(raw)
        assert result.status == (0 if opens else 7), result
        assert "Traceback" not in result.stderr
        again = keyctl(command, "ci")
        assert again.status == (6 if opens and command == "create" else 0), again
        assert not [key for key in judging.every_key() if key.status == "pending"]


# --- the server goes away -----------------------------------------------------------------------------------------


def test_a_server_that_is_stopped_is_said_to_be_unreachable(keyctl: Keyctl, server: Server) -> None:
    raw, _ = keyctl.create("ci")
    server.stop("fast")
    try:
        for command in (("create", "other"), ("rotate", "ci"), ("list",), ("audit", "verify"), ("db", "upgrade")):
            assert_refused(keyctl(*command, "--json"), "database_unreachable")
        # Promise 9: closed when in doubt.
        verified = keyctl("verify", "--json", stdin=raw.encode())
        assert (verified.status, verified.json["reason"]) == (4, "unavailable")
        assert verified.error["code"] == "database_unreachable"
        assert "cannot be reached" in keyctl("verify", stdin=raw.encode()).stderr
    finally:
        server.start()
    assert keyctl.opens(raw)


@pytest.mark.parametrize(
    ("point", "nth", "command", "back"),
    [
        *((*point, *run) for point in POINTS for run in (("create", True), ("rotate", False))),
        # Where the raw key was shown already, and where nobody had it.
        *((*point, *run) for point in (POINTS[0], POINTS[-2]) for run in (("create", False), ("rotate", True))),
    ],
)
def test_a_server_that_dies_in_the_middle_leaves_what_the_exit_status_says(
    keyctl: Keyctl, server: Server, tmp_path: Path, point: str, nth: int, command: str, back: bool
) -> None:
    old = keyctl.create("ci")[0] if command == "rotate" else None
    process = paused(keyctl, tmp_path / "pause", point, nth, command, "ci")
    server.stop("immediate")
    try:
        if back:
            server.start()
        go_on(tmp_path / "pause")
        result = process.wait()
    finally:
        if not back:
            server.start()
    wait_until_up(server.url)
    assert_true_to_its_word(keyctl, result, command, old)


@pytest.mark.parametrize(
    ("point", "nth", "command"),
    [*((*point, "rotate") for point in POINTS), ("after_write", 1, "create"), ("before_commit", 2, "create")],
)
def test_sessions_that_are_terminated_leave_what_the_exit_status_says(
    keyctl: Keyctl, server: Server, tmp_path: Path, point: str, nth: int, command: str
) -> None:
    old = keyctl.create("ci")[0] if command == "rotate" else None
    process = paused(keyctl, tmp_path / "pause", point, nth, command, "ci")
    assert keyctl.database_url is not None
    with psycopg.connect(keyctl.database_url, autocommit=True) as connection:
        ended = connection.execute(
            "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        ).fetchall()
    assert ended
    go_on(tmp_path / "pause")
    assert_true_to_its_word(keyctl, process.wait(), command, old)


@pytest.mark.parametrize(("point", "nth"), [("before_begin", 2), ("before_commit", 1), ("after_write", 1)])
def test_a_server_that_freezes_ends_the_command_in_time(
    keyctl: Keyctl, server: Server, tmp_path: Path, impatient: tuple[str, ...], point: str, nth: int
) -> None:
    """Promise 11. A process that would wait for ever fails in `Process.wait`."""
    old, _ = keyctl.create("ci")
    process = paused(keyctl, tmp_path / "pause", point, nth, *impatient, "rotate", "ci")
    server.signal_all(signal.SIGSTOP)
    try:
        go_on(tmp_path / "pause")
        result = process.wait()
    finally:
        server.signal_all(signal.SIGCONT)
    assert "database" in result.stderr
    assert result.status == 7, result
    assert_true_to_its_word(keyctl, result, "rotate", old)


def test_a_commit_that_a_frozen_server_never_answered_is_not_called_a_failure_without_a_warning(
    keyctl: Keyctl, server: Server, tmp_path: Path, impatient: tuple[str, ...]
) -> None:
    """Whether it was committed nobody can know until the server answers; the key was shown, so one that turns out
    to open is in somebody's hands."""
    process = paused(keyctl, tmp_path / "pause", "before_commit", 2, *impatient, "create", "ci", "--json")
    server.signal_all(signal.SIGSTOP)
    try:
        go_on(tmp_path / "pause")
        result = process.wait()
    finally:
        server.signal_all(signal.SIGCONT)
    assert result.status == 7
    raw = result.json["raw_key"]
    assert result.json["key"]["id"] in result.error["hint"], result.error
    with judge(keyctl.database_url) as judging:
        judging.wait_until_alone()
        keyctl.ok("list")
        (key,) = judging.every_key()
        assert judging.opens(raw) == (key.status == "active")
        assert key.status in ("active", "revoked")


# --- the server does not answer, or refuses -------------------------------------------------------------------------


def test_a_port_that_accepts_and_never_answers_is_given_up(keyctl: Keyctl, impatient: tuple[str, ...]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"postgresql://keyctl@127.0.0.1:{silent.getsockname()[1]}/keys"
        for command in (("create", "ci"), ("list",)):
            result = keyctl(*impatient, "--database", url, *command, "--json")
            assert_refused(result, "database_unreachable")


def test_a_server_that_talks_rubbish_is_refused(keyctl: Keyctl, impatient: tuple[str, ...]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as wrong:

        def answer() -> None:
            connection, _ = wrong.accept()
            with connection:
                connection.recv(1024)
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        url = f"postgresql://keyctl@127.0.0.1:{wrong.getsockname()[1]}/keys"
        assert_refused(keyctl(*impatient, "--database", url, "list", "--json"), "database_unreachable")
        thread.join()


@pytest.fixture(scope="module")
def guarded(server: Server) -> None:
    """A user whose password the server asks for; all others are trusted."""
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute("CREATE ROLE guarded LOGIN PASSWORD 'the right one'")
        row = connection.execute("SHOW hba_file").fetchone()
        assert row is not None
        rules = Path(row[0])
        rules.write_text("host all guarded 127.0.0.1/32 scram-sha-256\n" + rules.read_text())
        connection.execute("SELECT pg_reload_conf()")


@pytest.mark.usefixtures("guarded")
@pytest.mark.parametrize(
    ("form", "code"),
    [
        ("postgresql://guarded:{secret}@127.0.0.1:{port}/postgres", "database_unreachable"),
        ("postgres://guarded@127.0.0.1:{port}/postgres?password={secret}", "database_unreachable"),
        ("postgresql://guarded:{secret}@127.0.0.1:{port}/absent", "database_unreachable"),
        ("postgresql://guarded:{secret}@host.invalid:{port}/postgres", "database_unreachable"),
        ("postgresql://guarded:{secret}@127.0.0.1:1/postgres", "database_unreachable"),
        ("postgresql://guarded:{secret}@127.0.0.1:x{port}/postgres", "configuration_invalid"),
        ("postgresql://guarded:{secret}@127.0.0.1:{port}/postgres?sslmode=bogus", None),
        ("postgresql://guarded:{secret}@127.0.0.1:{port}/postgres?bogus={secret}", "configuration_invalid"),
        ("postgresql://guarded:{secret}%zz@127.0.0.1:{port}/postgres", "configuration_invalid"),
        ("postgresql://guarded:a@{secret}@127.0.0.1:{port}/postgres", "configuration_invalid"),
        ("postgresql://guarded:a/{secret}@127.0.0.1:{port}/postgres", "configuration_invalid"),
        ("mysql://guarded:{secret}@127.0.0.1:{port}/postgres", "configuration_invalid"),
    ],
)
def test_a_password_is_never_shown(
    keyctl: Keyctl, server: Server, impatient: tuple[str, ...], form: str, code: str | None
) -> None:
    """Promise 1 for the other secret: in no message, not with --debug."""
    url = form.format(secret=PASSWORD, port=server.port)
    for command in (("list", "--json"), ("db", "status", "--json"), ("--debug", "create", "ci")):
        result = keyctl(*impatient, "--database", url, *command)
        assert result.status == 7, result
        if code is not None and command[0] != "--debug":
            assert result.error["code"] == code, result
        for secret in SECRETS:
            assert secret not in result.stdout + result.stderr, (command, result)


def test_a_missing_schema_names_the_command_that_makes_it(keyctl: Keyctl, empty_url: str) -> None:
    for command in (("create", "ci"), ("list",), ("audit",), ("rotate", "ci")):
        result = keyctl("--database", empty_url, *command, "--json")
        assert_refused(result, "schema_missing")
        assert "db upgrade" in result.error["hint"]


def test_upgrades_at_once_make_one_schema(keyctl: Keyctl, empty_url: str) -> None:
    results = at_once(keyctl, *[("--database", empty_url, "db", "upgrade", "--json")] * 4)
    assert [result.status for result in results] == [0] * 4, results
    assert {result.json["revision"] for result in results} == {migrations.LATEST}
    assert keyctl("--database", empty_url, "create", "ci").status == 0
    with judge(empty_url) as judging:
        assert len(judging.every_key()) == 1


def test_a_schema_from_a_newer_version_is_refused_and_left_alone(keyctl: Keyctl) -> None:
    with judge(keyctl.database_url) as judging:
        judging.execute("UPDATE alphalens_keyctl_version SET version_num = '9999'")
        for command in (("create", "ci"), ("list",), ("db", "upgrade")):
            assert_refused(keyctl(*command, "--json"), "schema_newer")
        assert judging.scalar("SELECT version_num FROM alphalens_keyctl_version") == "9999"
        assert not judging.every_key()


def test_a_writer_that_does_not_end_makes_the_database_busy(keyctl: Keyctl, impatient: tuple[str, ...]) -> None:
    assert keyctl.database_url is not None
    raw, _ = keyctl.create("ci")
    other = Database.open(parse_address(keyctl.database_url), Limits())
    with other.writing():
        for command in (("create", "other"), ("rotate", "ci"), ("revoke", "ci", "--yes")):
            assert_refused(keyctl(*impatient, *command, "--json"), "database_busy")
        assert keyctl("verify", stdin=raw.encode()).status == 0
        assert keyctl("list").status == 0
    assert keyctl("create", "other").status == 0
    other.close()


def test_a_table_that_is_locked_makes_the_database_busy(keyctl: Keyctl, impatient: tuple[str, ...]) -> None:
    assert keyctl.database_url is not None
    with psycopg.connect(keyctl.database_url) as connection:
        connection.execute("LOCK TABLE api_key IN ACCESS EXCLUSIVE MODE")
        for command in (("create", "other"), ("list",), ("audit", "--key", "ci")):
            assert_refused(keyctl(*impatient, *command, "--json"), "database_busy")


def test_a_database_that_may_only_be_read_refuses_changes_and_answers_questions(keyctl: Keyctl, server: Server) -> None:
    assert keyctl.database_url is not None
    raw, _ = keyctl.create("ci")
    name = keyctl.database_url.rpartition("/")[2]
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on'.encode())
    for command in (("create", "other"), ("rotate", "ci"), ("revoke", "ci", "--yes")):
        assert_refused(keyctl(*command, "--json"), "database_unusable")
    assert keyctl("verify", stdin=raw.encode()).status == 0
    assert len(keyctl("list", "--json").json) == 1


def test_a_streamed_answer_leaves_no_cursor_open_on_the_server(keyctl: Keyctl) -> None:
    """Behind a pooler an open cursor would hold the server's connection; psycopg warns of it."""
    keyctl.create("ci")
    warned: Before = [("warnings", "simplefilter", ("always",))]
    for command in (("audit", "--jsonl"), ("audit", "verify"), ("list", "--jsonl")):
        result = keyctl(*command, before=warned)
        assert result.status == 0
        assert "Cursor" not in result.stderr, result.stderr
