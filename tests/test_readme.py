"""What the README and the topics say is what the program does."""

import re
import shlex
import subprocess
import sys
import tomllib
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from alphalens_keyctl import KeyVerifier, settings
from alphalens_keyctl.config_file import CHECK_NAMES, NAMES
from alphalens_keyctl.errors import Code
from alphalens_keyctl.keys import policy
from alphalens_keyctl.models import Event, Key, Reason, Status, Use
from alphalens_keyctl.moments import parse_span
from tests.support.commands import Keyctl
from tests.support.readme import DOCUMENTS, block, section


def test_the_readme_lists_every_exit_code_and_every_error_code() -> None:
    codes = {int(code) for code in re.findall(r"^\| (\d+) \|", section("Exit codes"), re.M)}
    # 4 and 5 are results rather than errors.
    assert codes == {code.exit_status for code in Code} | {0, 4, 5}
    listed = re.findall(r"`([a-z_]+)`", section("Exit codes").partition("Error codes:")[2])
    assert listed == [code.value for code in Code]


def test_the_readme_lists_the_fields_of_keys_events_and_uses_and_every_reason() -> None:
    said = DOCUMENTS["json"]
    assert f"K: `{' '.join(Key._fields)}`" in said
    assert f"E: `{' '.join(Event._fields)}`" in said
    assert f"U: `{' '.join(Use._fields)}`" in said
    assert f"a reason: `{'` `'.join(Reason)}`" in " ".join(said.split())


def test_the_readme_lists_every_setting_and_every_status() -> None:
    assert re.findall(r"^\| `([a-z_]+)` \|", section("Settings"), re.M) == list(NAMES)
    marks = dict(re.findall(r"^\| (.) \| `([a-z]+)`", section("What a list shows"), re.M))
    from alphalens_keyctl.output.tables import DOTS

    assert marks == {dot[0]: status.value for status, dot in DOTS.items()}
    assert set(marks.values()) == {status.value for status in Status}


@pytest.mark.one_database
def test_the_readme_script_proves_an_exported_log_and_finds_a_change(keyctl: Keyctl) -> None:
    """Promise 7."""
    keyctl.create("é <b>[red]", "--owner", '"quoted"', "--label", "a=ü", "--purpose", "😀")
    keyctl.ok("rotate", "é <b>[red]")
    log = keyctl.ok("audit", "--jsonl").stdout
    script = block("chain", "python")

    def prove(text: str) -> int:
        done = subprocess.run([sys.executable, "-c", script], input=text.encode(), capture_output=True, check=False)
        return done.returncode

    assert prove(log) == 0
    assert prove(log.replace("quoted", "forged")) != 0
    assert prove("".join(log.splitlines(keepends=True)[1:])) != 0


def test_the_readme_lists_every_rule_of_the_policy_with_its_severity_and_threshold() -> None:
    rows = re.findall(
        r"^\| `([a-z-]+)`[^|]* \| (\w+) \| (?:`(\w+)`[^|]*)? ?\| (?:`(.*?)`)? ?\|$", section("Policy"), re.M
    )
    assert [(rule, severity) for rule, severity, _, _ in rows] == [(rule.id, rule.severity) for rule in policy.RULES]
    defaults = {name: value for _, _, name, value in rows if name}
    # Which rules to leave out is no rule's threshold; the text below the table tells of it.
    assert {*defaults, "ignore"} == set(CHECK_NAMES)
    assert '`ignore = ["no-purpose"]`' in section("Policy")
    table = "".join(f"{name} = {value}\n" for name, value in defaults.items())
    read = {
        name: tuple(value) if isinstance(value, list) else parse_span(value, what=name)
        for name, value in tomllib.loads(table).items()
    }
    assert read == {name: value for name, value in asdict(settings.Thresholds()).items() if name != "ignore"}


@pytest.mark.one_database
def test_the_readmes_questions_about_scopes_are_answered_as_it_says(keyctl: Keyctl, database_url: str) -> None:
    raw, _ = keyctl.create("ci", "--scope", "prices:read", "--allow-from", "203.0.113.0/24")
    first, second = [line for line in block("scopes", "python").splitlines() if line]
    with KeyVerifier(database_url, usage="off") as verifier:

        def answer(line: str) -> str:
            said: dict[str, Any] = {"verifier": verifier, "header_value": raw}
            exec(line, said)
            reason: str = said["answer"].reason
            return reason

        assert (answer(first), answer(second)) == ("ok", "address")
        keyctl.ok("update", "ci", "--unset", "allow-from")
        assert answer(second) == "scope"
        keyctl.ok("update", "ci", "--set-scope", "reports:*")
        assert answer(second) == "ok"


@pytest.mark.one_database
def test_the_readme_names_the_document_of_a_check(keyctl: Keyctl) -> None:
    keyctl.create("test")
    row = re.search(r"^\| `audit check` \| `(.*)` \|$", DOCUMENTS["json"], re.M)
    assert row is not None
    document = keyctl("audit", "check", "--json").json
    assert re.findall(r'"(\w+)":', row[1]) == [*list(document)[:1], *document["findings"][0], *list(document)[1:]]


def test_the_commands_about_policy_in_the_readme_run(keyctl: Keyctl) -> None:
    commands = re.findall(r"^alphalens-keyctl (audit check [^>\n]*)", section("Policy"), re.M)
    assert len(commands) == 3
    for command in commands:
        keyctl.ok(*shlex.split(command, comments=True))
    keyctl.create("ending", "--expires", "3d")
    for command in commands:
        assert keyctl(*shlex.split(command, comments=True)).status == 5


def test_the_commands_that_move_a_fleet_in_run_with_every_column_the_readme_names(
    keyctl: Keyctl, tmp_path: Path
) -> None:
    said = section("Moving a fleet in")
    commands = re.findall(r"^alphalens-keyctl (create --from [^>\n]*)", said, re.M)
    assert len(commands) == 3
    listed = re.search(r"JSON Lines, of (.*?); only", said.replace("\n", " "))
    assert listed is not None
    assert re.findall(r"`(\w+)`", listed[1]) == [
        "name",
        "owner",
        "purpose",
        "labels",
        "expires",
        "scopes",
        "allow_from",
    ]
    store = keyctl.home / "store-key"
    store.write_text(f"#!/bin/sh\ncat >> {tmp_path}/stored\n")
    store.chmod(0o700)
    for number, command in enumerate(commands):
        (keyctl.home / "keys.csv").write_text(
            "name,owner,purpose,labels,expires,scopes,allow_from\n"
            f"k{number},ops,x,env=prod team=billing,30d,prices:read reports:*,10.0.0.0/8\nl{number},,,,,,\n"
        )
        keyctl.ok(*shlex.split(command, comments=True))
    every = keyctl.keys()
    assert {key["name"] for key in every} == {"k1", "l1", "k2", "l2"}
    assert {key["name"]: (key["scopes"], key["allow_from"]) for key in every}["k1"] == (
        ["prices:read", "reports:*"],
        ["10.0.0.0/8"],
    )
    assert all(
        keyctl("verify", "--address", "10.0.0.1", stdin=raw.encode()).status == 0
        for raw in (tmp_path / "stored").read_text().split()
    )


@pytest.mark.one_database
def test_every_filter_that_the_readme_lists_is_an_option_of_each_command_that_filters(keyctl: Keyctl) -> None:
    rows = re.findall(r"^\| (`--.*?) \|", section("Fleet work"), re.M)
    options = {option for row in rows for option in re.findall(r"`(--[a-z-]+)", row)}
    assert len(options) == 13
    for command in ("list", "revoke", "suspend", "resume", "update", "rotate"):
        said = keyctl.ok(command, "--help").stdout
        assert {option for option in options if option in said} == options, command


@pytest.mark.one_database
def test_the_commands_that_find_keys_in_the_readme_run(keyctl: Keyctl) -> None:
    keyctl.create("billing-prod")
    keyctl.create("search")
    found, chosen = (
        keyctl.ok(*shlex.split(line.removeprefix("alphalens-keyctl "), comments=True))
        for line in block("finding", "sh").splitlines()
    )
    assert [line.split("\t")[0] for line in found.stdout.splitlines()] == ["billing-prod"]
    assert chosen.stdout.splitlines()[0] == "name,owner,expires_at"
