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
    return set(re.findall(r"\|\s+([A-Za-z_]\w*)$", done.stderr, re.M))


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
