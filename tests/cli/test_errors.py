"""Errors: the exit code, a message that says what is wrong, a hint, and never a secret. Promises 1, 10 and 11."""

import contextlib
import json
import re
import shlex
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import psycopg
import pytest

from alphalens_keyctl import __version__
from alphalens_keyctl.keyformat import checksum
from tests.services.postgresql import Databases
from tests.support.command_tree import COMMANDS
from tests.support.commands import Keyctl, Result
from tests.support.raw_keys import RAW_KEY
from tests.support.terminal import on_terminal

ERROR_FIELDS: Final = ["code", "message", "hint"]


def refused(result: Result, status: int, code: str) -> dict[str, str]:
    """The error document, which is all that was written (promise 10)."""
    assert (result.status, result.stdout) == (status, ""), result
    assert result.stderr.isascii()
    assert result.stderr.count("\n") == 1
    document = json.loads(result.stderr)
    assert list(document) == ["error"]
    error: dict[str, str] = document["error"]
    assert list(error) == ERROR_FIELDS
    assert error["code"] == code
    assert error["message"]
    return error


@pytest.mark.parametrize(
    "arguments",
    [
        ("nonsense",), ("create",), ("create", "a", "b"), ("create", "ci", "--bogus"),
        ("list", "--columns", "name,bogus"), ("list", "--limit", "x"), ("list", "--limit", "-1"),
        ("list", "--status", "alive"),
        ("list", "--sort", "colour"), ("list", "--jsonl", "--csv"), ("show",),
        ("revoke",), ("suspend",), ("resume",), ("rotate",),
        ("audit", "nonsense"), ("audit", "--action", "x"), ("db",), ("db", "nonsense"), ("--bogus", "list"),
        ("verify", "--json=1"), ("create", "ci", "--if-missing=1"),
    ],
    ids=" ".join,
)  # fmt: skip
def test_a_usage_error_is_one_document_too(fresh_keyctl: Keyctl, arguments: Sequence[str]) -> None:
    """Promise 10."""
    error = refused(fresh_keyctl(*arguments, "--json"), 2, "usage")
    assert error["hint"]
    told = fresh_keyctl(*arguments)
    assert (told.status, told.stdout) == (2, "")
    assert "Traceback" not in told.stderr
    assert list(fresh_keyctl.home.iterdir()) == []


def test_no_command_at_all_shows_the_help_and_exits_2(fresh_keyctl: Keyctl) -> None:
    shown = fresh_keyctl()
    assert (shown.status, shown.stdout) == (2, "")
    assert "Usage: alphalens-keyctl" in shown.stderr


def test_each_conflict_and_each_missing_key_has_its_code(keyctl: Keyctl) -> None:
    keyctl.create("ci")
    _, gone = keyctl.create("gone")
    keyctl.ok("revoke", "gone")
    old = keyctl.ok("rotate", "ci", "--json").json["previous"]["id"]
    for arguments, status, code in (
        (("create", "CI"), 6, "name_taken"),
        (("rotate", old), 6, "lost_race"),
        (("rotate", gone), 6, "wrong_state"),
        (("show", "nothing"), 3, "key_not_found"),
        (("rotate", "nothing"), 3, "key_not_found"),
        (("revoke", "nothing"), 3, "key_not_found"),
        (("audit", "--key", "nothing"), 3, "key_not_found"),
        (("create", ""), 2, "invalid_input"),
    ):
        error = refused(keyctl(*arguments, "--json"), status, code)
        assert error["hint"]
        told = keyctl(*arguments)
        assert (told.status, told.stdout) == (status, "")
        assert told.stderr == f"error: {error['message']}\nhint: {error['hint']}\n"


@pytest.mark.one_database
@pytest.mark.parametrize(
    "arguments",
    [("list",), ("show", "ci"), ("audit",), ("audit", "head"), ("audit", "verify"), ("revoke", "ci", "--dry-run"),
     ("list", "--json"), ("--help",)],
    ids=" ".join,
)  # fmt: skip
def test_a_full_stdout_is_an_error(keyctl: Keyctl, arguments: Sequence[str]) -> None:
    keyctl.create("ci")
    with open("/dev/full", "wb") as full:
        result = keyctl(*arguments, stdout=full.fileno())
    assert result.status == 7
    assert "stdout cannot be written" in result.stderr or "No space left" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.one_database
def test_a_full_stdout_fails_the_delivery_and_frees_the_name(keyctl: Keyctl) -> None:
    """Promise 2."""
    with open("/dev/full", "wb") as full:
        refused(keyctl("create", "ci", "--json", stdout=full.fileno()), 7, "delivery_failed")
    assert keyctl.ok("list", "--json").json == []
    keyctl.create("ci")


@contextlib.contextmanager
def write_lock(url: str) -> Iterator[None]:
    """Hold what a writer waits for, as another process would."""
    if url.startswith("sqlite"):
        connection = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.close()
        return
    with psycopg.connect(url) as server:
        server.execute("LOCK TABLE audit_event IN ACCESS EXCLUSIVE MODE")
        yield


def test_a_database_that_another_process_holds_is_busy_after_the_limit(keyctl: Keyctl) -> None:
    """Promise 11."""
    config = keyctl.home / "limits.toml"
    config.write_text("lock_timeout = 0.3\n")
    with write_lock(str(keyctl.database_url)):
        error = refused(keyctl("--config", str(config), "create", "ci", "--json"), 7, "database_busy")
    assert error["hint"]
    keyctl.create("ci")


def test_a_schema_from_a_newer_version_is_refused_and_left_alone(keyctl: Keyctl) -> None:
    url = str(keyctl.database_url)
    keyctl.create("ci")
    statement = "UPDATE {} SET version_num = '9999'"
    from alphalens_keyctl.migrations import VERSION_TABLE

    if url.startswith("sqlite"):
        with sqlite3.connect(url.removeprefix("sqlite:///")) as connection:
            connection.execute(statement.format(VERSION_TABLE))
        connection.close()
    else:
        with psycopg.connect(url) as server:
            server.execute(statement.format(VERSION_TABLE))
    for arguments in (("list",), ("create", "x"), ("db", "upgrade"), ("audit", "verify")):
        refused(keyctl(*arguments, "--json"), 7, "schema_newer")
    assert keyctl.ok("db", "status", "--json").json["state"] == "newer"


def test_a_postgresql_database_without_tables_names_the_command_that_makes_them(
    fresh_keyctl: Keyctl, databases: Databases
) -> None:
    url = databases.create()
    for arguments in (("list",), ("create", "ci")):
        error = refused(fresh_keyctl("--database", url, *arguments, "--json"), 7, "schema_missing")
        assert "db upgrade" in error["hint"]


def test_what_is_no_database_is_refused_and_left_alone(fresh_keyctl: Keyctl, tmp_path: Path) -> None:
    text, empty, other = tmp_path / "text", tmp_path / "empty", tmp_path / "other"
    text.write_text("my notes")
    empty.touch()
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE mine (x)")
    connection.close()
    for path in (text, empty, other, tmp_path):
        before = path.read_bytes() if path.is_file() else sorted(path.iterdir())
        for command in ("list", "create"):
            name = ["ci"] if command == "create" else []
            refused(fresh_keyctl("--database", str(path), command, *name, "--json"), 7, "database_unusable")
        assert (path.read_bytes() if path.is_file() else sorted(path.iterdir())) == before


PASSWORD: Final = "hunter2%2Fsecret"


@pytest.mark.parametrize("debug", [(), ("--debug",)], ids=["", "debug"])
@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://jo:{PASSWORD}@127.0.0.1:1/x",
        f"postgres://jo@127.0.0.1:1/x?password={PASSWORD}",
        f"postgresql://jo:{PASSWORD}@127.0.0.1:port/x",
        f"postgresql://jo:{PASSWORD}@127.0.0.1:1/x?bogus=1",
        "postgresql://jo:hunter2/secret@127.0.0.1:1/x",
        "postgresql://jo:hunter2@secret@127.0.0.1:1/x",
        "postgresql://jo:hunter2:secret@127.0.0.1:1/x",
        f"mysql://jo:{PASSWORD}@127.0.0.1/x",
        f"postgresql:jo:{PASSWORD}@127.0.0.1/x",
        f"sqlite://jo:{PASSWORD}@127.0.0.1/x",
    ],
)
def test_a_password_in_a_database_url_is_never_shown(fresh_keyctl: Keyctl, url: str, debug: tuple[str, ...]) -> None:
    for command in (("list",), ("db", "status"), ("create", "ci")):
        results = [
            fresh_keyctl(*debug, "--database", url, *command),
            fresh_keyctl(*debug, *command, "--json", environment={"ALPHALENS_KEYCTL_DATABASE_URL": url}),
        ]
        for result in results:
            assert result.status == 7, result
            for part in ("hunter2", "secret"):
                assert part not in result.stdout + result.stderr
        if not debug:
            assert results[1].error["code"] in ("configuration_invalid", "database_unreachable")


def test_a_wrong_setting_names_the_file_and_the_key(fresh_keyctl: Keyctl) -> None:
    config = fresh_keyctl.home / "config.toml"
    for content, named in (
        ("bogus = 1", "bogus"), ("lock_timeout = 'long'", "lock_timeout"), ("key_prefix = 'A'", "key_prefix"),
        ("actor = ''", "actor"), ("database_url = ''", "database_url"), ("not toml", "TOML"),
    ):  # fmt: skip
        config.write_text(content)
        error = refused(fresh_keyctl("--config", str(config), "list", "--json"), 7, "configuration_invalid")
        assert str(config) in error["message"]
        assert named in error["message"]
    refused(fresh_keyctl("--config", "nothing here", "list", "--json"), 7, "configuration_invalid")
    empty = {"ALPHALENS_KEYCTL_DATABASE_URL": ""}
    refused(fresh_keyctl("list", "--json", environment=empty), 7, "configuration_invalid")
    refused(fresh_keyctl("list", "--json", environment={"ALPHALENS_KEYCTL_ACTOR": ""}), 2, "invalid_input")
    refused(fresh_keyctl("--database", "~nobody-of-that-name/keys.db", "list", "--json"), 7, "configuration_invalid")


# The same in every process: a test's name is made of it.
_BODY: Final = f"alk_A1b2C3d4E5f6_{'s3CrEt' * 7}7"
RAW: Final = _BODY + checksum(_BODY)


@pytest.mark.parametrize(
    "arguments",
    [
        ("show", RAW), ("revoke", "ci", RAW), ("rotate", RAW), ("verify", RAW), ("create", RAW), (RAW,),
        ("create", "ci", "--owner", RAW), ("create", "ci", f"--purpose=key {RAW}."), ("create", "ci", "--label", RAW),
        ("create", "ci", "--label", f"key={RAW}"), ("revoke", "ci", "--reason", f"leaked: {RAW}"),
        ("audit", "--key", RAW), ("list", "--owner", RAW), ("list", "--limit", RAW), ("list", "--status", RAW),
        ("create", "ci", "--expires", RAW), ("--database", RAW, "list"), ("--actor", RAW, "list"),
        ("--config", RAW, "list"), (f"--{RAW}",), ("audit", "verify", "--head", RAW), ("list", f"--bogus={RAW}"),
        ("--debug", "show", RAW), ("--", "show", RAW), ("show", RAW[:-1]), ("show", RAW[:40]), ("show", RAW + "x"),
    ],
    ids=lambda arguments: " ".join(arguments).replace(RAW[17:], "SECRET"),
)  # fmt: skip
def test_a_raw_key_as_an_argument_is_refused_and_not_echoed(fresh_keyctl: Keyctl, arguments: Sequence[str]) -> None:
    """Promise 1."""
    for options in ((), ("--json",)):
        result = fresh_keyctl(*arguments, *options)
        assert (result.status, result.stdout) == (2, "")
        assert RAW[17:33] not in result.stderr
        if options and not {"--", "--debug"} & set(arguments):
            error = refused(result, 2, "raw_key_in_argument")
            assert "standard input" in error["hint"]
    assert list(fresh_keyctl.home.iterdir()) == []


def test_debug_prints_a_traceback_and_no_secret(keyctl: Keyctl) -> None:
    """Promise 1."""
    with open("/dev/full", "wb") as full:
        result = keyctl("--debug", "create", "ci", stdout=full.fileno())
    assert result.status == 7
    assert "Traceback (most recent call last)" in result.stderr
    assert result.stderr.startswith("error: ")
    assert not RAW_KEY.search(result.stderr)
    raw, _ = keyctl.create("ci2")
    for presented in (raw, raw[:-1]):
        shown = keyctl("--debug", "show", "-", "--bogus", stdin=presented.encode())
        assert (shown.status, shown.stdout) == (2, "")
        assert "Traceback" in shown.stderr
        gone = keyctl("--debug", "rotate", "-", "--grace", "0", stdin=presented[:-1].encode())
        assert gone.status == 2
        assert raw[17:40] not in shown.stderr + gone.stderr
    assert "Traceback" not in keyctl("show", "nothing").stderr


def test_what_was_typed_cannot_act_on_the_terminal_through_an_error(fresh_keyctl: Keyctl) -> None:
    """Promise 12."""
    for arguments in (("\x1b[31mred",), ("list", "--\x1b]0;x\x07"), ("list", "--status", "\x1b[2J"), ("list", "\u202e"),
                      ("list", "--limit", "\x9b2J"), ("list", "--sort", "a\nerror: b")):  # fmt: skip
        result = fresh_keyctl(*arguments)
        assert (result.status, result.stdout) == (2, "")
        assert not set(result.stderr) & set("\x1b\x07\x9b\u202e")
        assert "\nerror: b" not in result.stderr


def test_these_are_the_commands_and_no_others() -> None:
    assert set(COMMANDS) == {
        (), ("create",), ("list",), ("show",), ("revoke",), ("suspend",), ("resume",), ("rotate",), ("verify",),
        ("update",), ("policy",), ("policy", "set"), ("policy", "show"), ("completion",),
        ("audit",),
        ("audit", "verify"), ("audit", "head"), ("audit", "usage"), ("audit", "check"), ("audit", "prune"),
        ("audit", "show"), ("audit", "prove"), ("audit", "witness"), ("audit", "report"),
        ("serve",), ("serve-api",), ("login",), ("logout",),
        ("db",), ("db", "upgrade"), ("db", "status"), ("db", "grant"), ("config",), ("doctor",),
        ("help",), ("version",),
    }  # fmt: skip


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_help_names_every_option_within_80_columns(fresh_keyctl: Keyctl, path: tuple[str, ...]) -> None:
    shown = fresh_keyctl(*path, "--help", environment={"FORCE_COLOR": "1"})
    assert (shown.status, shown.stderr) == (0, "")
    assert "\x1b" not in shown.stdout
    assert max(map(len, shown.stdout.splitlines())) <= 80
    on_screen = on_terminal(fresh_keyctl, *path, "--help", width=80)
    assert on_screen.status == 0
    assert max(map(len, on_screen.lines)) <= 80
    for parameter in COMMANDS[path].params:
        for name in parameter.opts if parameter.param_type_name == "option" else []:
            for text in (shown.stdout, on_screen.text):
                assert re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", text), name
    for name in getattr(COMMANDS[path], "commands", {}):
        assert re.search(rf"^ +{name} ", shown.stdout, re.MULTILINE)
        assert name in on_screen.text
    assert fresh_keyctl(*path, "-h").stdout == shown.stdout
    assert list(fresh_keyctl.home.iterdir()) == []


def test_version_is_one_line_and_needs_no_database(fresh_keyctl: Keyctl) -> None:
    shown = fresh_keyctl("--database", "/", "--version")
    assert shown == (0, f"alphalens-keyctl {__version__}\n", "")
    module = subprocess.run(
        [sys.executable, "-m", "alphalens_keyctl", "--version"], capture_output=True, text=True, check=True, timeout=60
    )
    assert module.stdout == shown.stdout
    assert list(fresh_keyctl.home.iterdir()) == []


NEEDS_A_DATABASE: Final = (
    ("list",), ("show", "ci"), ("revoke", "ci", "--yes"), ("suspend", "--owner", "x", "--yes"), ("rotate", "ci"),
    ("audit",), ("audit", "verify"), ("audit", "check"), ("audit", "usage"), ("audit", "head"),
    ("audit", "prune", "--usage", "--older-than", "1d", "--yes"),
)  # fmt: skip


@pytest.mark.parametrize("way", ["option", "environment", "config.toml"])
def test_only_create_makes_a_database_at_a_path_that_was_given(fresh_keyctl: Keyctl, tmp_path: Path, way: str) -> None:
    """Of a mistyped path a check would say that all is well."""
    path = tmp_path / "mistyped.db"
    config = tmp_path / "config.toml"
    config.write_text(f'database_url = "{path}"\n')
    before = {"option": ("--database", str(path)), "environment": (), "config.toml": ("--config", str(config))}[way]
    environment = {"ALPHALENS_KEYCTL_DATABASE_URL": str(path)} if way == "environment" else {}
    for arguments in NEEDS_A_DATABASE:
        refused = fresh_keyctl(*before, *arguments, environment=environment)
        assert (refused.status, refused.stdout) == (7, ""), arguments
        assert f"there is no database at {path}" in refused.stderr, arguments
        assert not path.exists(), arguments
    fresh_keyctl.ok(*before, "create", "ci", environment=environment)
    assert path.exists()


def test_to_look_or_to_change_before_the_first_key_makes_no_file_at_the_default_path_either(
    fresh_keyctl: Keyctl,
) -> None:
    for arguments, status in (
        (("list",), 0), (("audit",), 0), (("audit", "verify"), 0), (("audit", "check"), 0), (("policy",), 0),
        (("revoke", "--owner", "x", "--yes"), 0), (("show", "ci"), 3), (("rotate", "ci"), 3),
    ):  # fmt: skip
        done = fresh_keyctl(*arguments)
        assert done.status == status, (arguments, done)
        assert "database" not in done.stderr
    assert fresh_keyctl.ok("list", "--json").json == []
    assert not (fresh_keyctl.home / ".local").exists()
    fresh_keyctl.ok("policy", "set", "--require", "owner")
    assert fresh_keyctl.ok("policy", "--json").json["require"] == ["owner"]


def test_the_hint_about_a_missing_database_is_a_command_that_makes_it(fresh_keyctl: Keyctl, tmp_path: Path) -> None:
    path = tmp_path / "my keys.db"
    hint = fresh_keyctl("--database", str(path), "list", "--json").error["hint"]
    program, *words = shlex.split(hint.removeprefix("A first key makes it: "))
    assert program == "alphalens-keyctl"
    fresh_keyctl.ok(*words)
    assert path.exists()


def test_a_profile_without_a_file_is_answered_with_the_path_of_the_file_that_was_looked_for(
    fresh_keyctl: Keyctl,
) -> None:
    looked_for = fresh_keyctl.home / ".config" / "alphalens-keyctl" / "config.toml"
    assert f"in {looked_for} makes one" in fresh_keyctl("--profile", "prod", "list", "--json").error["hint"]


def test_a_raw_key_that_lost_its_prefix_or_was_wrapped_is_not_echoed_either(fresh_keyctl: Keyctl) -> None:
    """Promise 1: errors repeat the value that was wrong, and no secret."""
    raw, _ = fresh_keyctl.create("ci")
    for text in (raw.partition("_")[2], f"{raw[:20]} {raw[20:]}", f"{raw[:40]}\n{raw[40:]}"):
        for arguments in (("show", text), ("create", text), ("list", "--columns", text), ("help", text), (text,)):
            result = fresh_keyctl(*arguments, "--json")
            assert result.error["code"] == "raw_key_in_argument", arguments
            assert raw[-20:] not in result.stderr
