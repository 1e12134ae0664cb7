"""The recipes for heads that somebody else keeps, run as they stand in the topic. Promise 7."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from alphalens_keyctl.database import Database
from tests.support import unguarded
from tests.support.commands import Keyctl
from tests.support.readme import block
from tests.support.shell import Shell
from tests.support.ssh_signers import Signer
from tests.support.tools import require_tool

# In place of the cloud's command and of the way to another machine: both keep what they are given.
_KEEPS = '#!/bin/sh\necho "$@" >> "$HOME/calls"\ncat >> "$HOME/heads.jsonl"\n'


@pytest.fixture
def shell(keyctl: Keyctl) -> Shell:
    """A shell at home, with an ssh key there."""
    require_tool("ssh-keygen", "openssh-client")
    (keyctl.home / ".ssh").mkdir(mode=0o700)
    Signer(keyctl.home / ".ssh", "id_ed25519")
    return Shell(keyctl, keyctl.home, {"aws": _KEEPS, "ssh": _KEEPS})


@pytest.mark.one_database
def test_a_signed_head_is_verified_with_us_and_without(keyctl: Keyctl, shell: Shell) -> None:
    require_tool("jq")
    keyctl.create("billing")
    done = shell.run(block("signed head", "sh"))
    assert done.status == 0, done
    assert "it extends the saved head that ann@example.com signed." in done.stdout
    assert 'Good "audit-head@alphalens-keyctl" signature for ann@example.com' in done.stdout


@pytest.mark.one_database
def test_heads_in_a_git_repository_are_pushed_while_the_log_grows(
    keyctl: Keyctl, shell: Shell, database: Database
) -> None:
    """Promise 7."""
    require_tool("git")

    def git(*words: str) -> str:
        who = ["-c", "user.name=w", "-c", "user.email=w@example.com", "-c", "init.defaultBranch=main"]
        done = subprocess.run(
            ["git", *who, *words], cwd=keyctl.home, env=shell.environment, capture_output=True, text=True, check=True
        )
        return done.stdout

    git("init", "--quiet", "--bare", "kept.git")
    git("clone", "--quiet", "kept.git", "witness")
    for name, value in (("name", "w"), ("email", "w@example.com")):
        git("-C", "witness", "config", f"user.{name}", value)
    shutil.copy(keyctl.home / ".ssh" / "id_ed25519.pub", keyctl.home / "key")
    public = (keyctl.home / "key").read_text().split()
    (keyctl.home / "witness" / "allowed_signers").write_text(f"ann@example.com {public[0]} {public[1]}\n")
    git("-C", "witness", "add", "allowed_signers")
    git("-C", "witness", "commit", "--quiet", "--message", "Who signs")
    git("-C", "witness", "push", "--quiet", "origin", "HEAD")
    recipe = block("witness git", "sh")
    for name in ("one", "", "two"):
        if name:
            keyctl.create(name)
        done = shell.run(recipe)
        assert done.status == 0, done
    heads = [json.loads(git("-C", "kept.git", "show", f"HEAD{back}:head.json"))["seq"] for back in ("~1", "")]
    assert heads == [2, 4]  # the run without news commits nothing
    unguarded.write(database, "DELETE FROM audit_event WHERE seq = 4", table="audit_event")
    assert shell.run(recipe).status == 5
    assert json.loads(git("-C", "kept.git", "show", "HEAD:head.json"))["seq"] == 4


@pytest.mark.one_database
@pytest.mark.parametrize(
    ("marker", "called"), [("witness bucket", "s3 cp - s3://audit-heads/"), ("witness ssh", "-o BatchMode")]
)
def test_heads_leave_for_a_bucket_or_another_machine_while_the_log_grows(
    keyctl: Keyctl, shell: Shell, database: Database, marker: str, called: str
) -> None:
    """Promise 7."""
    recipe = block(marker, "sh")
    for name in ("one", "two"):
        keyctl.create(name)
        done = shell.run(recipe)
        assert done.status == 0, done
    heads = [json.loads(line)["seq"] for line in (keyctl.home / "heads.jsonl").read_text().splitlines()]
    assert heads == [2, 4]
    assert all(line.startswith(called) for line in (keyctl.home / "calls").read_text().splitlines())
    unguarded.write(database, "DELETE FROM audit_event WHERE seq = 4", table="audit_event")
    assert shell.run(recipe).status == 5
    assert len((keyctl.home / "heads.jsonl").read_text().splitlines()) == 2


def test_another_machine_reads_the_log_itself(keyctl: Keyctl, shell: Shell, database: Database) -> None:
    """Promise 7. That a reader's role may do it, `tests/database/test_least_rights.py` shows."""
    keyctl.create("one")
    shell.environment["READER_URL"] = keyctl.database_url or ""
    recipe = block("witness reader", "sh")
    assert shell.run(recipe).status == 0
    assert json.loads(Path(keyctl.home, "head.json").read_text())["seq"] == 2
    unguarded.write(database, "DELETE FROM audit_event WHERE seq = 2", table="audit_event")
    assert shell.run(recipe).status == 5
