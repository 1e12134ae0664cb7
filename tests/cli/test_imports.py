"""Section 8 without a clock: a command loads what it needs, and nothing heavy beside."""

import re
import subprocess
import sys

import pytest

from tests.support.commands import Keyctl

# Not pydantic: Typer itself reads arguments with it.
HEAVY = {"sqlmodel", "sqlalchemy", "alembic", "psycopg", "keyring"}


def loaded(keyctl: Keyctl, *arguments: str, **environment: str) -> set[str]:
    """The top-level packages that an interpreter loads to run a command."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "alphalens_keyctl", *arguments],
        env=keyctl.environment | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return imported(done.stderr)


def imported(importtime: str) -> set[str]:
    """The top-level packages in what `-X importtime` wrote."""
    return set(re.findall(r"\|\s+([A-Za-z_]\w*)$", importtime, re.M))


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["create", "--help"], ["audit", "--help"]])
def test_help_and_version_load_no_database(fresh_keyctl: Keyctl, arguments: list[str]) -> None:
    assert not loaded(fresh_keyctl, *arguments) & HEAVY


def test_tab_on_a_command_or_an_option_loads_no_database(fresh_keyctl: Keyctl) -> None:
    for words, position in (("alphalens-keyctl ro", "1"), ("alphalens-keyctl list --js", "2")):
        variables = {"COMP_WORDS": words, "COMP_CWORD": position, "_ALPHALENS_KEYCTL_COMPLETE": "complete_bash"}
        assert not loaded(fresh_keyctl, **variables) & (HEAVY | {"pydantic"})


def test_a_command_on_sqlite_loads_neither_alembic_nor_psycopg_nor_rich_once_the_file_exists(
    fresh_keyctl: Keyctl,
) -> None:
    fresh_keyctl.create("first")
    for arguments in (["list", "--json"], ["create", "second"], ["rotate", "second"], ["revoke", "second"]):
        assert not loaded(fresh_keyctl, *arguments) & {"alembic", "psycopg", "rich", "keyring"}, arguments


def test_an_error_of_usage_is_told_to_a_machine_without_loading_the_database(fresh_keyctl: Keyctl) -> None:
    """Promise 10: a wrong option is told as fast as `--help`, and told also where the database's library is broken."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "alphalens_keyctl", "list", "--json", "--bogus"],
        env=fresh_keyctl.environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert '{"error": {"code": "usage"' in done.stderr
    assert not imported(done.stderr) & HEAVY
