"""The recipes by which a job rotates its own key: parsed, and their commands run against a server, with stand-ins for
what they call. Promises 2 and 3."""

import configparser
import os
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest
import yaml

from tests.support.commands import LIMIT, Keyctl
from tests.support.raw_keys import RAW_KEY, shows
from tests.support.readme import adapted, block
from tests.support.web import serving

# What the server does on which database tests/api shows.
pytestmark = pytest.mark.one_database

# As `gh` and `glab` do, it leaves newlines at the end out.
_STORE: Final = '#!/bin/sh\nprintf "%s\\n" "$*" > "$STORE.call"\nvalue=$(cat)\nprintf %s "$value" > "$STORE"\n'
# Every byte of the file goes into the manifest; `apply` puts it where the secret is mounted.
_KUBECTL: Final = """#!/bin/sh
case "$*" in
"create secret generic billing --from-file=key=/dev/stdin --dry-run=client -o yaml") cat ;;
"apply -f -") cat > "$STORE.new" && mv "$STORE.new" "$STORE" ;;
*) exit 64 ;;
esac
"""
_PROGRAMS: Final = {"gh": _STORE, "glab": _STORE, "kubectl": _KUBECTL}


class Job(NamedTuple):
    """A shell with nothing but a server's URL and a key."""

    environment: dict[str, str]
    store: Path
    server: str

    def run(self, command: str, **more: str) -> "subprocess.CompletedProcess[str]":
        done = subprocess.run(
            ["sh", "-ec", command.replace("https://keys.example", self.server)],
            env=self.environment | more, capture_output=True, text=True, check=False, timeout=LIMIT,
        )  # fmt: skip
        assert done.returncode == 0, done
        assert done.stdout == ""
        return done


@pytest.fixture
def job(keyctl: Keyctl, tmp_path: Path) -> Iterator[Job]:
    programs = tmp_path / "programs"
    programs.mkdir()
    keyctl.put_program(programs)
    for name, does in _PROGRAMS.items():
        (programs / name).write_text(does)
        (programs / name).chmod(0o755)
    with serving(keyctl, command="serve-api") as served:
        server = f"http://127.0.0.1:{served.address.port}"
        environment = {name: value for name, value in keyctl.environment.items() if "DATABASE" not in name}
        environment |= {"PATH": f"{programs}:{os.environ['PATH']}", "STORE": str(tmp_path / "store")}
        yield Job(environment, tmp_path / "store", server)


def assert_rotated(keyctl: Keyctl, before: str, after: str) -> None:
    """The successor opens, and ends the old key by its first use."""
    assert RAW_KEY.fullmatch(after)
    assert after != before
    assert keyctl.opens(before)
    assert keyctl("verify", "--record", stdin=after.encode()).status == 0
    assert not keyctl.opens(before)


def environment_of(job: Job, said: dict[str, Any]) -> dict[str, str]:
    return {name: str(value).replace("https://keys.example", job.server) for name, value in said.items()}


def test_the_job_of_github_replaces_its_own_secret(keyctl: Keyctl, job: Job) -> None:
    workflow = yaml.safe_load(block("self github", "yaml"))
    assert workflow[True]["schedule"]  # YAML 1.1 reads "on" as true
    install, rotate = workflow["jobs"]["rotate"]["steps"]
    assert install["run"].startswith("pip install")
    raw, _ = keyctl.create("ci", "--expires", "90d")
    said = environment_of(job, rotate["env"])
    assert said["ALPHALENS_KEYCTL_API_KEY"] == "${{ secrets.KEYCTL_API_KEY }}"
    done = job.run(rotate["run"], **said | {"ALPHALENS_KEYCTL_API_KEY": raw, "GITHUB_ACTIONS": "true"})
    assert (job.store.parent / "store.call").read_text() == "secret set KEYCTL_API_KEY --repo example/service\n"
    after = job.store.read_text()
    assert not shows(after, done.stderr)
    assert_rotated(keyctl, raw, after)


def test_the_job_of_gitlab_replaces_its_own_variable(keyctl: Keyctl, job: Job) -> None:
    rotation = yaml.safe_load(block("self gitlab", "yaml"))["rotate-own-key"]
    assert rotation["resource_group"]
    install, rotate = rotation["script"]
    assert install.startswith("pip install")
    raw, _ = keyctl.create("ci")
    job.run(
        rotate, **environment_of(job, rotation["variables"]) | {"ALPHALENS_KEYCTL_API_KEY": raw, "GITLAB_CI": "true"}
    )
    assert_rotated(keyctl, raw, job.store.read_text())


def test_the_line_of_cron_rotates_a_file_when_it_is_due(keyctl: Keyctl, job: Job, tmp_path: Path) -> None:
    (line,) = block("self crontab", "crontab").splitlines()
    command = adapted(line.split(maxsplit=5)[5], {"/etc/billing/key": str(tmp_path / "key")})
    assert "%" not in command
    raw, _ = keyctl.create("billing")
    (tmp_path / "key").write_text(raw + "\n")
    assert job.run(command).stderr == ""  # not due yet, and no mail
    assert (tmp_path / "key").read_text().strip() == raw
    assert job.run(adapted(command, {" --if-older-than 30d": ""})).stderr == ""
    assert_rotated(keyctl, raw, (tmp_path / "key").read_text().strip())


def test_the_unit_of_systemd_rotates_a_file_of_variables(keyctl: Keyctl, job: Job, tmp_path: Path) -> None:
    unit = configparser.ConfigParser(interpolation=None)
    unit.read_string(block("self systemd", "ini"))
    command = adapted(unit["Service"]["execstart"], {"/etc/billing/env": str(tmp_path / "env")})
    assert not set(command) & set("|<>&;$")  # systemd runs no shell
    raw, _ = keyctl.create("billing")
    (tmp_path / "env").write_text(f"A=b\nALPHALENS_API_KEY={raw}\n")
    job.run(shlex.join(shlex.split(command)))
    lines = (tmp_path / "env").read_text().splitlines()
    assert lines[0] == "A=b"
    assert_rotated(keyctl, raw, lines[1].removeprefix("ALPHALENS_API_KEY="))


def test_the_job_of_kubernetes_replaces_its_own_secret(keyctl: Keyctl, job: Job) -> None:
    cron_job = yaml.safe_load(block("self kubernetes", "yaml"))
    assert cron_job["spec"]["concurrencyPolicy"] == "Forbid"
    pod = cron_job["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    (mount,), (volume,) = container["volumeMounts"], pod["volumes"]
    assert (mount["name"], volume["secret"]["secretName"]) == (volume["name"], "billing")
    raw, _ = keyctl.create("billing")
    job.store.write_text(raw)
    (variable,) = container["env"]
    assert container["command"] == ["sh", "-ec"]
    (script,) = container["args"]
    job.run(
        adapted(script, {f"{mount['mountPath']}/key": str(job.store), " --grace 10m": ""}),
        **environment_of(job, {variable["name"]: variable["value"]}),
    )
    assert_rotated(keyctl, raw, job.store.read_text())
