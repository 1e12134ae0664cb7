"""The README's jobs for CI: parsed, and their commands run, with stand-ins for what they call.

Promises 2 and 3: a job that was killed anywhere is run again and ends where one run would have.
"""

import base64
import os
import re
import shlex
import subprocess
from pathlib import Path
from typing import Final

import pytest
import yaml

from tests.support.commands import Keyctl
from tests.support.raw_keys import RAW_KEY
from tests.support.readme import block, section
from tests.support.waiting import wait_for

# Stores what it is given, whole or not at all, and can be told to hang before and after. As `gh` and `glab` do, it
# leaves newlines at the end out.
CI_STORE = """#!/bin/sh
printf '%s\n' "$0 $*" >> "$STORE.calls"
if [ -e "$STORE.hang-before" ]; then touch "$STORE.hangs"; sleep 60; fi
value=$(cat)
printf %s "$value" > "$STORE.new" && mv "$STORE.new" "$STORE"
if [ -e "$STORE.hang-after" ]; then touch "$STORE.hangs"; sleep 60; fi
"""
# Every byte of the file goes into the manifest, and what the manifest says into the store.
KUBECTL = """#!/bin/sh
case "$*" in
"create secret generic alphalens --from-file=key=/dev/stdin --dry-run=client -o yaml")
    printf 'apiVersion: v1\nkind: Secret\nmetadata:\n  name: %s\ndata:\n  key: %s\n' "$4" "$(base64 -w 0 /dev/stdin)" ;;
"apply -f -") cat > "$STORE" ;;
*) exit 64 ;;
esac
"""
# The value `-` is every byte of stdin.
VAULT = """#!/bin/sh
[ "$*" = "kv put secret/billing key=-" ] && cat > "$STORE"
"""
PROGRAMS = {"gh": CI_STORE, "glab": CI_STORE, "kubectl": KUBECTL, "vault": VAULT}


def github_command() -> str:
    workflow = yaml.safe_load(block("github-actions", "yaml"))
    assert workflow[True]["schedule"]  # YAML 1.1 reads "on" as true
    install, rotate = workflow["jobs"]["rotate"]["steps"]
    assert install["run"].startswith("pip install")
    assert set(rotate["env"]) == {"ALPHALENS_KEYCTL_DATABASE_URL", "GH_TOKEN"}
    return str(rotate["run"])


def gitlab_command() -> str:
    job = yaml.safe_load(block("gitlab-ci", "yaml"))["rotate-api-key"]
    assert job["resource_group"]
    install, rotate = job["script"]
    assert install.startswith("pip install")
    return str(rotate)


class Job:
    """A job in CI: a shell, the database by environment, a store that outlives it."""

    def __init__(self, keyctl: Keyctl, folder: Path) -> None:
        self._keyctl = keyctl
        self.store = folder / "store"
        programs = folder / "programs"
        programs.mkdir()
        for name, does in PROGRAMS.items():
            (programs / name).write_text(does)
            (programs / name).chmod(0o755)
        keyctl.put_program(programs)
        path = f"{programs}:{os.environ['PATH']}"
        self.environment = keyctl.environment | {"PATH": path, "STORE": str(self.store)}

    def run(self, command: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            ["sh", "-ec", command], env=self.environment, capture_output=True, text=True, check=False, timeout=60
        )

    def kill_where(self, command: str, hang: str) -> None:
        """Run until the store hangs, and kill the program, as a runner that goes away does."""
        (self.store.parent / f"{self.store.name}.{hang}").touch()
        program, *arguments = shlex.split(command)
        assert program == "alphalens-keyctl"
        process = self._keyctl.start(*arguments, environment=self.environment)
        hangs = self.store.parent / f"{self.store.name}.hangs"
        wait_for(lambda: hangs.exists() or process.ended(), "the store never hung")
        assert not process.ended()
        process.kill()
        process.wait()
        for left in self.store.parent.glob(f"{self.store.name}.hang*"):
            left.unlink()


ON_SQLITE: Final = pytest.mark.one_database
JOBS: Final = {"github": github_command(), "gitlab": gitlab_command()}


@pytest.fixture
def job(keyctl: Keyctl, tmp_path: Path) -> Job:
    return Job(keyctl, tmp_path)


@ON_SQLITE
@pytest.mark.parametrize("example", JOBS)
def test_the_examples_for_ci_store_a_key_that_opens_and_do_nothing_the_next_time(
    keyctl: Keyctl, job: Job, example: str
) -> None:
    keyctl.create("ci")
    command = JOBS[example].replace("--if-older-than 30d", "--if-older-than 1m")
    assert job.run(command).returncode == 0
    assert not job.store.exists()  # not due yet
    due = command.replace("--if-older-than 1m", "")
    done = job.run(due)
    assert (done.returncode, done.stdout) == (0, "")
    before = job.store.read_text()
    assert RAW_KEY.fullmatch(before)
    assert keyctl.opens(before)
    assert job.run(command).returncode == 0
    assert job.store.read_text() == before


@pytest.mark.parametrize(
    ("example", "hang"),
    [
        pytest.param("github", "hang-before", marks=ON_SQLITE),
        ("github", "hang-after"),
        # The two examples differ in the shell around the command alone.
        pytest.param("gitlab", "hang-after", marks=ON_SQLITE),
    ],
)
def test_a_job_that_was_killed_and_run_again_ends_as_one_run_does(
    keyctl: Keyctl, job: Job, example: str, hang: str
) -> None:
    command = JOBS[example]
    old, _ = keyctl.create("ci")
    job.store.write_text(old)
    job.kill_where(command.replace("--if-older-than 30d", ""), hang)
    assert keyctl.opens(job.store.read_text().strip())
    # Not due by its age, but unfinished.
    assert job.run(command).returncode == 0
    raw = job.store.read_text().strip()
    assert raw != old
    assert keyctl.opens(raw)
    assert keyctl.opens(old)
    listed = keyctl.keys()
    assert sorted(key["status"] for key in listed) == ["active", "retiring", "retiring"]


@ON_SQLITE
def test_each_example_of_delivery_stores_the_bytes_of_the_key_and_no_more(
    keyctl: Keyctl, job: Job, tmp_path: Path
) -> None:
    """A newline behind the key would be sent along in the header, and be no key."""
    keyctl.create("billing")
    commands = re.findall(r"^alphalens-keyctl rotate .*$", section("Delivery"), re.M)
    stored = {}
    for command in commands:
        where = next(name for name in ("key-file", "env-file", "gh ", "vault ", "kubectl ") if name in command)
        done = job.run(command.replace("/etc/billing", str(tmp_path)).replace(" .env", f" {tmp_path}/.env"))
        assert done.returncode == 0, done.stderr
        stored[where] = job.store.read_bytes() if where.endswith(" ") else b""
    assert len(stored) == len(commands) == 5
    stored["key-file"] = (tmp_path / "api-key").read_bytes().removesuffix(b"\n")
    sourced = ["sh", "-c", f'. {tmp_path}/.env; printf %s "$BILLING_KEY"']
    stored["env-file"] = subprocess.run(sourced, capture_output=True, check=True).stdout
    stored["kubectl "] = base64.b64decode(yaml.safe_load(stored["kubectl "])["data"]["key"])
    assert len(set(stored.values())) == len(commands)
    for where, value in stored.items():
        assert RAW_KEY.fullmatch(value.decode()), where
        assert keyctl.opens(value.decode()), where
