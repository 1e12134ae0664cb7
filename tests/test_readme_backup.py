"""README's commands that back a database up and put it back, run by a shell, under a running verifier."""

import os
import stat
import subprocess
from pathlib import Path
from typing import Final

import pytest

from alphalens_keyctl import KeyVerifier
from alphalens_keyctl.models import Reason
from tests.services.postgresql import URL_VARIABLE, programs
from tests.support.commands import LIMIT, Keyctl
from tests.support.freshness import BOUND, SLACK, until
from tests.support.readme import block
from tests.support.tools import lack, require_tool

BACKUPS: Final = {"sqlite": "keys-backup.db", "postgresql": "keys.dump"}


@pytest.fixture
def kind(database_url: str) -> str:
    if database_url.startswith("sqlite"):
        require_tool("sqlite3")
        return "sqlite"
    if URL_VARIABLE in os.environ:
        lack("needs pg_dump of the server's version, which comes with the tests' own server alone")
    return "postgresql"


class Shell:
    """Runs what README says, beside the database."""

    def __init__(self, keyctl: Keyctl, folder: Path) -> None:
        self._folder = folder
        self._environment = keyctl.environment | {"PATH": f"{programs()}:{os.environ['PATH']}"}

    def run(self, marker: str) -> None:
        done = subprocess.run(
            ["/bin/sh", "-e", "-c", block(marker, "sh")], cwd=self._folder, env=self._environment, capture_output=True,
            text=True, timeout=LIMIT, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, "")


@pytest.fixture
def shell(keyctl: Keyctl, tmp_path: Path) -> Shell:
    return Shell(keyctl, tmp_path)


def test_the_backup_put_back_is_what_verifiers_ask_and_every_promise_of_the_database_still_holds(
    keyctl: Keyctl, database_url: str, kind: str, shell: Shell, tmp_path: Path
) -> None:
    """Promises 5 and 7."""
    old, ident = keyctl.create("old")
    shell.run(f"backup {kind}")
    assert stat.S_IMODE((tmp_path / BACKUPS[kind]).stat().st_mode) == 0o600
    new, _ = keyctl.create("new")
    keyctl.ok("revoke", ident, "--yes")
    head = keyctl.ok("audit", "head", "--json").stdout.encode()
    with KeyVerifier(database_url, max_staleness=BOUND, usage="off") as verifier:
        assert verifier.verify(new)
        assert verifier.verify(old).reason is Reason.REVOKED
        shell.run(f"restore {kind}")
        until(verifier, new, Reason.UNKNOWN, within=BOUND + SLACK)
        until(verifier, old, Reason.OK, within=BOUND + SLACK)
        # Triggers, indexes and what verifiers are told by are as before.
        keyctl.ok("revoke", ident, "--yes")
        until(verifier, old, Reason.REVOKED, within=BOUND + SLACK)
    assert keyctl("audit", "verify").status == 0
    assert keyctl("audit", "verify", "--head", "-", stdin=head).status == 5


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.usefixtures("kind")
def test_a_damaged_file_is_replaced_by_the_backup(
    keyctl: Keyctl, database_url: str, shell: Shell, tmp_path: Path
) -> None:
    _, ident = keyctl.create("old")
    shell.run("backup sqlite")
    keyctl.create("new")
    (tmp_path / "keys.db").write_bytes(b"damaged")
    assert keyctl("list").status == 7
    shell.run("replace sqlite")
    assert [key["id"] for key in keyctl.keys()] == [ident]
    assert keyctl("audit", "verify").status == 0
    assert (tmp_path / "keys.db").stat().st_mode & 0o077 == 0
