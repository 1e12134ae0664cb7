"""A database that others have had their hands in, readers that leave, settings that slipped. Found by attack."""

import os
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from alphalens_keyctl import keyformat
from alphalens_keyctl.address import PostgreSQLAddress
from alphalens_keyctl.database import Database, Limits, parse_address
from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.keys import lifecycle, revocation, rotation
from alphalens_keyctl.keys.revocation import Revocation
from alphalens_keyctl.provenance import Act, Origin
from tests.services.postgresql import Databases
from tests.support import unguarded
from tests.support.commands import Keyctl
from tests.support.key_rows import change, put
from tests.support.raw_keys import with_id
from tests.support.streams import into_closed_pipe
from tests.support.terminal import Session, on_terminal

By = Callable[[str, str], None]


@pytest.fixture
def by_hand(database: Database, database_url: str) -> By:
    """Run one of two scripts as somebody with full rights would: the first on SQLite, the second on PostgreSQL."""

    def run(on_sqlite: str, on_postgresql: str) -> None:
        if isinstance(database.address, PostgreSQLAddress):
            with psycopg.connect(database_url, autocommit=True) as connection:
                connection.execute(on_postgresql.encode())
        else:
            with closing(sqlite3.connect(database.address.path)) as connection:
                connection.executescript(on_sqlite)

    return run


SWALLOW = (
    "CREATE TRIGGER swallow BEFORE UPDATE ON api_key BEGIN SELECT RAISE(IGNORE); END;",
    """CREATE FUNCTION swallow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
    CREATE TRIGGER a_swallow BEFORE UPDATE ON api_key FOR EACH ROW EXECUTE FUNCTION swallow()""",
)


def test_a_change_that_the_database_swallows_is_never_reported_as_done(keyctl: Keyctl, by_hand: By) -> None:
    """Promises 2, 5 and 6."""
    raw, _ = keyctl.create("one")
    log = keyctl.ok("audit", "--jsonl").stdout
    by_hand(*SWALLOW)
    revoked = keyctl("revoke", "one", "--yes", "--json")
    assert (revoked.status, revoked.stdout, revoked.error["code"]) == (7, "", "database_unusable")
    assert keyctl.ok("audit", "--jsonl").stdout == log
    assert keyctl.opens(raw)
    created = keyctl("create", "two")
    assert created.status == 7
    assert not keyctl.opens(created.stdout)


def test_an_audit_event_that_the_database_swallows_undoes_the_change(keyctl: Keyctl, by_hand: By) -> None:
    """Promise 6."""
    raw, _ = keyctl.create("one")
    by_hand(
        "CREATE TRIGGER swallow BEFORE INSERT ON audit_event BEGIN SELECT RAISE(IGNORE); END;",
        "CREATE RULE swallow AS ON INSERT TO audit_event DO INSTEAD NOTHING",
    )
    assert keyctl("revoke", "one", "--yes").status == 7
    assert keyctl.opens(raw)


def test_a_new_database_does_not_wake_what_a_removed_one_left_in_its_log(fresh_keyctl: Keyctl) -> None:
    """Promise 5: a key of the old database must not open again."""
    old, _ = fresh_keyctl.create("old")
    (path,) = fresh_keyctl.home.rglob("keys.db")
    with closing(sqlite3.connect(path)) as reader:
        reader.execute("SELECT * FROM api_key").fetchall()
        fresh_keyctl.create("two")
        left = {Path(f"{path}{ending}"): Path(f"{path}{ending}").read_bytes() for ending in ("-wal", "-shm")}
    path.unlink()
    for file, content in left.items():
        file.write_bytes(content)
    fresh_keyctl.create("fresh")
    assert [key["name"] for key in fresh_keyctl.ok("list", "--all", "--json").json] == ["fresh"]
    assert not fresh_keyctl.opens(old)


@pytest.mark.one_database
def test_a_verdict_keeps_its_exit_status_when_nobody_reads_it(keyctl: Keyctl, by_hand: By) -> None:
    """Promises 7 and 9: `audit verify | head` must not pass for sound."""
    raw, _ = keyctl.create("one")
    keyctl.ok("revoke", "one")
    assert into_closed_pipe(keyctl, "verify", stdin=raw.encode()).status == 4
    assert into_closed_pipe(keyctl, "audit", "verify").status == 0
    by_hand(
        "DROP TRIGGER audit_event_no_update; UPDATE audit_event SET actor = 'x' WHERE seq = 1;",
        "ALTER TABLE audit_event DISABLE TRIGGER USER; UPDATE audit_event SET actor = 'x' WHERE seq = 1",
    )
    assert into_closed_pipe(keyctl, "audit", "verify").status == 5


@pytest.mark.one_database
def test_text_written_into_the_database_by_hand_cannot_act_on_a_terminal(keyctl: Keyctl, database: Database) -> None:
    """Promise 12."""
    name = "evil\x1b]0;owned\x07\x1b[2J\u202e"
    with unguarded.off(database):
        key_id = put(database, name, owner=name, raw=with_id("\x1b[31mZZZZZZZ"))
    put(database, "plain", owner=name)
    named = put(database, name + "2")
    for width in (40, 80, 200):
        for command in (("list",), ("audit", "check"), ("list", "--columns", "owner,name,id")):
            shown = on_terminal(keyctl, "--no-color", *command, width=width)
            assert not set("\x1b\x07\u202e") & set(shown.raw.decode()), (command, width)
    for arguments in (
        ["list"], ["list", "--csv"], ["list", "--json"], ["show", named], ["audit"], ["rotate", named],
        ["revoke", named],
        ["revoke", "--dry-run", "plain"], ["rotate", "plain"], ["revoke", "plain"], ["audit", "--csv"],
        ["--debug", "create", "plain", "--label", "x"],
    ):  # fmt: skip
        said = keyctl(*arguments)
        assert not set("\x1b\x07\u202e") & set(said.stdout + said.stderr), arguments
    with database.writing() as tx:
        act = Act(datetime.now(UTC), "tester", Origin(None, None, None, None))
        revocation.apply(tx, Revocation.REVOKE, [key_id], act, reason=None)
    for arguments in (["audit"], ["list", "--all"]):
        assert "\x1b" not in keyctl.ok(*arguments).stdout


def test_a_key_is_judged_at_the_instant_it_arrives_and_not_when_the_command_began(
    keyctl: Keyctl, database: Database
) -> None:
    """Promise 9."""
    raw, key_id = keyctl.create("soon")
    expires_at = datetime.now(UTC) + timedelta(seconds=1.5)
    change(database, key_id, expires_at=expires_at)
    reader, writer = os.pipe()
    running = keyctl.start("verify", "--json", stdin=reader)
    os.close(reader)
    time.sleep(max(0.0, (expires_at - datetime.now(UTC)).total_seconds()) + 0.1)
    os.write(writer, raw.encode() + b"\n")
    os.close(writer)
    result = running.wait()
    assert (result.status, result.json["reason"]) == (4, "expired")


def test_a_slow_delivery_does_not_eat_the_grace_of_the_old_key(keyctl: Keyctl, database: Database) -> None:
    """Promise 3."""
    _, old_id = keyctl.create("ci")
    shown_at = datetime.now(UTC)
    done_at = shown_at + timedelta(minutes=5)
    act = Act(shown_at, "tester", Origin(None, None, None, None))
    raw = keyformat.generate()
    with database.writing() as tx:
        line = rotation.rotatable(tx, database.attempts, old_id, act)
        rotation.succeed_pending(tx, line, raw, None, act, lease=None)
    with database.writing() as tx:
        later = act._replace(at=done_at)
        end = rotation.Retirement(timedelta(minutes=1))
        rotation.hand_over_name(tx, raw.id, later, at=shown_at, retirement=end, delivered_to=["test"])
        old = lifecycle.require(tx, old_id, done_at)
    assert old.retires_at == done_at + timedelta(minutes=1)


def test_a_time_in_the_log_cannot_be_respelled_unnoticed(keyctl: Keyctl, by_hand: By) -> None:
    """Promise 7."""
    keyctl.create("one")
    by_hand(
        "PRAGMA ignore_check_constraints = ON; DROP TRIGGER audit_event_no_update;"
        " UPDATE audit_event SET at = replace(at, ' ', 'T') WHERE seq = 2;",
        "ALTER TABLE audit_event DISABLE TRIGGER USER;"
        " UPDATE audit_event SET at = (to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US')"
        " || '+00 BC')::timestamptz WHERE seq = 2",
    )
    result = keyctl("audit", "verify", "--json")
    assert (result.status, result.json["break"]) == (5, {"seq": 2, "kind": "altered", "about": None})


def test_a_use_count_that_is_no_number_cannot_be_written(keyctl: Keyctl, by_hand: By) -> None:
    """Promise 10: it would stand in the JSON as it is."""
    keyctl.create("one")
    with pytest.raises((sqlite3.IntegrityError, psycopg.Error)):
        by_hand(*["""UPDATE api_key SET use_count = '1, "status": "revoked"'"""] * 2)


def test_a_server_whose_encoding_lacks_characters_is_refused(databases: Databases, keyctl: Keyctl) -> None:
    url = databases.create()
    name = url.rpartition("/")[2]
    with psycopg.connect(url.rpartition("/")[0] + "/postgres", autocommit=True) as admin:
        admin.execute(sql.SQL("DROP DATABASE {}").format(sql.Identifier(name)))
        admin.execute(
            sql.SQL("CREATE DATABASE {} ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0").format(
                sql.Identifier(name)
            )
        )
    result = keyctl("--database", url, "db", "upgrade", "--json")
    assert (result.status, result.error["code"]) == (7, "database_unusable")
    assert "LATIN1" in result.error["message"]


def test_a_name_that_moved_to_another_key_while_the_question_stood_is_not_revoked(keyctl: Keyctl) -> None:
    """Promise 5: the answer was about another key."""
    keyctl.create("ci")
    session = Session(keyctl, "revoke", "ci")
    session.wait_for("Revoke this key for good? [y/N]:")
    successor = keyctl.ok("rotate", "ci").stdout.strip()
    session.type(b"y\n")
    shown = session.end()
    assert shown.status == 6
    assert "nothing was changed" in shown.text
    assert keyctl.opens(successor)


def test_a_name_means_the_key_that_was_used_rather_than_an_attempt_that_failed(keyctl: Keyctl) -> None:
    _, key_id = keyctl.create("ci")
    assert into_closed_pipe(keyctl, "rotate", "ci").status == 7
    keyctl.ok("revoke", "ci")
    assert keyctl.ok("show", "ci", "--json").json["id"] == key_id


@pytest.mark.one_database
def test_an_option_that_a_subcommand_would_not_hear_is_refused(keyctl: Keyctl) -> None:
    """Promise 10."""
    for before in (["--json"], ["--limit", "3"], ["--key", "x"]):
        assert keyctl("audit", *before, "verify").status == 2


@pytest.mark.one_database
def test_a_variable_that_says_false_is_no_ci(keyctl: Keyctl) -> None:
    """Promise 1: the mask would put the key on stderr."""
    for variable in ("GITHUB_ACTIONS", "GITLAB_CI", "TF_BUILD"):
        created = keyctl.ok("create", variable, environment={variable: "false"})
        assert "add-mask" not in created.stderr
    assert not {event["actor"] for event in keyctl.ok("audit", "--json").json} & {"github-actions", "gitlab-ci"}


@pytest.mark.parametrize(
    "text",
    [
        " postgresql://u:hunter2@h/d", '"postgresql://u:hunter2@h/d"', "app_user:hunter2@db.internal:5432/keys",
        "host=localhost password=hunter2 dbname=x", "//u:hunter2@127.0.0.1/keys", "u:hunter2@h/d",
        "postgresql://u@h/d?password=abc&hunter2", "postgresql://u@h/d?password:hunter2", "my_scheme://u:hunter2@h/d",
    ],
)  # fmt: skip
def test_a_url_that_is_not_quite_one_is_neither_taken_for_a_path_nor_repeated(text: str) -> None:
    """Promise 1."""
    with pytest.raises(KeyctlError) as caught:
        parse_address(text)
    assert caught.value.code is Code.CONFIGURATION
    assert "hunter2" not in caught.value.message + caught.value.hint


@pytest.mark.one_database
def test_a_raw_key_in_the_place_of_the_database_is_refused_unseen(keyctl: Keyctl) -> None:
    """Promise 1."""
    raw, _ = keyctl.create("ci")
    result = keyctl("db", "status", environment={"ALPHALENS_KEYCTL_DATABASE_URL": raw})
    assert result.status == 7
    assert raw[20:] not in result.stdout + result.stderr


def test_two_processes_that_look_at_a_dead_attempt_at_once_both_see_it_dead(database: Database) -> None:
    """Promise 2: a dead attempt taken for a running one would keep its name."""
    other = Database.open(database.address, Limits())
    key_id = keyformat.generate().id
    try:
        with database.reading() as one, other.reading() as two:
            assert not database.attempts.runs(one, key_id)
            assert not other.attempts.runs(two, key_id)
    finally:
        other.close()
