"""`audit check`: policy as a gate. Its exit codes, its four formats, and what becomes of them when nobody reads.

Promises 10 (clean output) and 12 (text is inert).
"""

import json
import os
import re
import shlex
import xml.etree.ElementTree as ET
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest
from sqlalchemy import insert

from alphalens_keyctl import keyformat
from alphalens_keyctl.database import Database
from alphalens_keyctl.keys import policy
from alphalens_keyctl.models import key_table
from alphalens_keyctl.text import fold
from tests.support.commands import Keyctl, Result
from tests.support.databases import mostly_on_sqlite
from tests.support.fork_server import CLOSED
from tests.support.held_delivery import HeldDelivery
from tests.support.key_rows import change, put
from tests.support.terminal import on_terminal

DAY: Final = timedelta(days=1)
IN_ORDER: Final = ("--owner", "ops", "--purpose", "nightly export", "--expires", "60d")
FINDING: Final = ["rule", "severity", "key_id", "key_name", "owner", "status", "problem", "advice", "value", "limit",
                  "command"]  # fmt: skip
FORMATS: Final = [(), ("--json",), ("--sarif",), ("--junit",)]
# What only a row that was written by hand can hold.
HOSTILE: Final = "a<b>&\"c' ]]> \x1b[2J\x07\u202e\x9b é😀 \ufffe"


def configure(keyctl: Keyctl, table: str) -> None:
    folder = keyctl.home / ".config" / "alphalens-keyctl"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.toml").write_text(f"[check]\n{table}\n")


def one_of_each(keyctl: Keyctl) -> str:
    """A key in order, one that breaks warnings, one that breaks an error. Returns the id of the last."""
    keyctl.create("in-order", *IN_ORDER)
    keyctl.create("nobodys", "--purpose", "reports", "--expires", "60d")
    return keyctl.create("ending", *IN_ORDER[:4], "--expires", "3d")[1]


def put_many(database: Database, number: int, **columns: Any) -> None:
    """Keys written past the program."""
    now = datetime.now(UTC)
    rows = []
    for each in range(number):
        raw = keyformat.generate()
        row = {
            "id": raw.id, "name": f"service {each:05}", "labels": {}, "created_by": "jo", "created_at": now,
            "activated_at": now, "use_count": 0, "owner": "ops", "purpose": "reports",
            "expires_at": now + timedelta(days=60), "digest": raw.digest(),
            "digest_scheme": keyformat.DIGEST_SCHEME, **columns,
        }  # fmt: skip
        rows.append(row | {"name_folded": fold(str(row["name"]))})
    with database.writing() as tx:
        tx.execute(insert(key_table), rows)


def test_without_findings_it_says_so_and_exits_0(keyctl: Keyctl) -> None:
    assert keyctl.ok("audit", "check").stdout == "Nothing found by 15 rules.\n"
    keyctl.create("in-order", *IN_ORDER)
    done = keyctl.ok("audit", "check")
    assert (done.stdout, done.stderr) == ("Nothing found by 15 rules.\n", "")
    assert keyctl.ok("audit", "check", "--json").json == {"findings": [], "errors": 0, "warnings": 0}


@pytest.mark.one_database
def test_errors_and_warnings_are_a_5_and_fail_on_error_lets_warnings_pass(keyctl: Keyctl) -> None:
    keyctl.create("nobodys", "--purpose", "reports", "--expires", "60d")
    for fail_on, status in ((), 5), (("--fail-on", "warning"), 5), (("--fail-on", "error"), 0):
        for form in FORMATS:
            assert keyctl("audit", "check", *fail_on, *form).status == status
    keyctl.create("ending", *IN_ORDER[:4], "--expires", "3d")
    assert keyctl("audit", "check", "--fail-on", "error").status == 5
    assert keyctl("audit", "check", "--fail-on", "error", "--rule", "owner-unknown").status == 0


@pytest.mark.one_database
def test_only_the_rules_that_were_asked_for_are_looked_at(keyctl: Keyctl) -> None:
    ending = one_of_each(keyctl)
    found = keyctl("audit", "check", "--rule", "expiring", "--json")
    assert (found.status, [(each["rule"], each["key_id"]) for each in found.json["findings"]]) == (
        5, [("expiring", ending)],
    )  # fmt: skip
    assert (
        keyctl.ok("audit", "check", "--rule", "unused", "--rule", "no-expiry").stdout == "Nothing found by 2 rules.\n"
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--rule", "expire"), "there is no rule 'expire'"),
        (("--rule", "expiring", "--rule", ""), "there is no rule ''"),
        (("--rule", "EXPIRING"), "there is no rule 'EXPIRING'"),
        (("--fail-on", "note"), "note"),
        (("--json", "--sarif"), "exclude each other"),
        (("--sarif", "--junit"), "exclude each other"),
    ],
)
def test_what_there_is_not_is_a_2_with_a_hint(fresh_keyctl: Keyctl, arguments: tuple[str, ...], said: str) -> None:
    done = fresh_keyctl("audit", "check", *arguments)
    assert (done.status, done.stdout) == (2, "")
    assert said in done.stderr
    assert done.error["hint"] if "--json" in arguments else "\nhint: " in done.stderr
    assert not (fresh_keyctl.home / ".local").exists()


@pytest.mark.parametrize(
    ("table", "named"),
    [
        ("unused = 90", "unused"),
        ('unused = "90"', "unused"),
        ('rotation_age = "0d"', "rotation_age"),
        ('never_used = "-1d"', "never_used"),
        ('expiring = ["1d"]', "expiring"),
        ('suspended = "200000w"', "suspended"),
        ('owners = "ops"', "owners"),
        ("owners = [1]", "owners"),
        ('owners = [""]', "owners"),
        ('ignore = ["no-purose"]', "ignore"),
        ('rotation-age = "9d"', "rotation-age"),
    ],
)
def test_a_wrong_threshold_is_a_7_that_names_it(fresh_keyctl: Keyctl, table: str, named: str) -> None:
    configure(fresh_keyctl, table)
    done = fresh_keyctl("audit", "check", "--json")
    assert (done.status, done.stdout, done.error["code"]) == (7, "", "configuration_invalid")
    assert f"'{named}'" in done.error["message"]
    assert "config.toml" in done.error["message"]


@pytest.mark.one_database
def test_thresholds_owners_and_ignored_rules_come_from_the_configuration(keyctl: Keyctl) -> None:
    one_of_each(keyctl)
    configure(keyctl, 'expiring = "2d"\nowners = ["team-b"]\nignore = ["never-used"]')
    found = keyctl("audit", "check", "--json").json
    assert Counter(each["rule"] for each in found["findings"]) == {"owner-unknown": 3}
    configure(keyctl, 'expiring = "100d"\nignore = ["owner-unknown"]')
    found = keyctl("audit", "check", "--json").json
    assert Counter(each["rule"] for each in found["findings"]) == {"expiring": 3}
    # Asked for by name it is looked at all the same.
    assert keyctl("audit", "check", "--rule", "owner-unknown").status == 5


def test_looking_changes_nothing(keyctl: Keyctl) -> None:
    """Promise 6."""
    one_of_each(keyctl)
    before = keyctl.keys(), keyctl.ok("audit", "--jsonl").stdout
    assert keyctl("audit", "check").status == 5
    assert (keyctl.keys(), keyctl.ok("audit", "--jsonl").stdout) == before


@pytest.mark.one_database
def test_people_read_key_by_key_what_is_wrong_in_numbers_and_one_command_to_paste(
    keyctl: Keyctl, database: Database
) -> None:
    now = datetime.now(UTC)
    end = now + 6 * DAY + timedelta(minutes=1)
    put_many(database, 1, name="in order")
    put_many(database, 1, name="ending soon", expires_at=end, purpose=None)
    put_many(
        database, 1, name="test", owner=None, purpose=None, expires_at=None, created_at=now - 208 * DAY,
        activated_at=now - 208 * DAY,
    )  # fmt: skip
    ids = {key["name"]: key["id"] for key in keyctl.keys()}
    done = keyctl("audit", "check")
    assert done.stdout.splitlines() == [
        f"test ({ids['test']}, active)",
        "  error    208 days old, limit 90  rotation-overdue",
        "  warning  never expires  no-expiry",
        "  warning  never used in 208 days, limit 30  never-used",
        "  warning  nobody answers for it  owner-unknown",
        "  warning  nobody wrote down what it is for  no-purpose",
        "  warning  its name says nothing  meaningless-name",
        f"  alphalens-keyctl revoke {ids['test']} --reason 'never used in 208 days'",
        "",
        f"ending soon ({ids['ending soon']}, active, owner ops)",
        f"  error    expires in 6 days ({end:%Y-%m-%d})  expiring",
        "  warning  nobody wrote down what it is for  no-purpose",
        "  alphalens-keyctl rotate 'ending soon' --expires 90d",
        "",
        "2 errors, 6 warnings by 15 rules",
    ]
    assert done.stderr == ""
    only = keyctl("audit", "check", "--rule", "no-purpose", "--rule", "owner-unknown").stdout.splitlines()
    assert "  alphalens-keyctl update test --set-owner '<owner>' --set-purpose '<purpose>'" in only
    assert only[-2:] == ["Put your own words for <owner>, <purpose>.", "0 errors, 3 warnings by 2 rules"]


@pytest.mark.one_database
@pytest.mark.parametrize("width", [40, 80])
def test_the_list_fits_the_terminal_and_a_command_line_is_never_broken(keyctl: Keyctl, width: int) -> None:
    name = "the-longest-name-" + "x" * 80 + "end"
    raw_id = keyctl.create(name, "--expires", "60d", "--purpose", "reports")[1]
    shown = on_terminal(keyctl, "audit", "check", width=width)
    assert shown.status == 5
    to_paste = f"  alphalens-keyctl update {name} --set-owner '<owner>'"
    assert shown.lines.count(to_paste) == 1
    assert max(len(line) for line in shown.lines if line != to_paste) <= width
    whole = "".join(line.strip() for line in shown.lines)
    assert name in whole
    assert raw_id in whole.replace(" ", "")
    piped = keyctl("audit", "check").stdout
    assert f"{name} ({raw_id}, active)\n" in piped, "in a pipe a key stays on its line"
    assert "\x1b" not in piped


@pytest.mark.one_database
def test_people_see_the_first_hundred_keys_and_how_much_more_there_is(keyctl: Keyctl, database: Database) -> None:
    put_many(database, 1021, purpose=None)
    done = keyctl("audit", "check")
    assert done.status == 5
    lines = done.stdout.splitlines()
    assert len([line for line in lines if line.startswith("service ")]) == 100
    assert lines[-3:] == [
        "and 921 findings about other keys: --json lists all",
        "Put your own words for <purpose>.",
        "0 errors, 1,021 warnings by 15 rules",
    ]


def command_of(keyctl: Keyctl, rule: str) -> str:
    """The command line that the only finding of this rule names."""
    (found,) = keyctl("audit", "check", "--rule", rule, "--json").json["findings"]
    command: str = found["command"]
    return command


def run_line(keyctl: Keyctl, line: str) -> None:
    """Run a command line as a shell would that it is pasted into, with a person's own words in it."""
    program, *words = shlex.split(line)
    assert program == "alphalens-keyctl"
    own = {"<owner>": "ops", "<purpose>": "nightly export", "<new name>": "billing export"}
    if not own.keys().isdisjoint(words):
        refused = keyctl(*words, "--yes", "--json")
        assert (refused.status, refused.error["hint"]) == (2, "Put your own words in its place."), line
    keyctl.ok(*(own.get(word, word) for word in words))


NOW: Final = datetime.now(UTC)
# Rules, each with a key that breaks it and the command line that the finding names. No key breaks two of these rules.
COMMANDS: Final[list[tuple[str, dict[str, Any], str]]] = [
    ("rotation-overdue", {"name": "it's $(me)", "activated_at": NOW - 208 * DAY}, "rotate 'it'\"'\"'s $(me)'"),
    ("expiring", {"name": "a", "expires_at": NOW + 6 * DAY, "activated_at": NOW - 50 * DAY}, "rotate a"),
    ("expiring", {"name": "-b", "expires_at": NOW + 6 * DAY, "activated_at": NOW - 7 * DAY}, "rotate ID --expires 90d"),
    ("no-expiry", {"name": "c", "expires_at": None}, "update c --set-expires 90d"),
    ("unused", {"name": "d", "last_used_at": NOW - 91 * DAY}, "suspend ID --reason 'unused for 91 days'"),
    ("never-used", {"name": "e", "activated_at": NOW - 31 * DAY, "last_used_at": None},
     "revoke ID --reason 'never used in 31 days'"),
    ("suspended-long", {"name": "f", "suspended_at": NOW - 45 * DAY}, "revoke ID --reason 'suspended for 45 days'"),
    ("owner-unknown", {"name": "g", "owner": None}, "update g --set-owner '<owner>'"),
    ("owner-unknown", {"name": "h", "owner": None, "suspended_at": NOW}, "update ID --set-owner '<owner>'"),
    ("owner-unknown", {"name": "i", "owner": None, "suspended_at": NOW, "retires_at": NOW + DAY},
     "revoke ID --reason 'rotated out and suspended'"),
    ("no-purpose", {"name": "j\x1b[2J", "purpose": None}, "update ID --set-purpose '<purpose>'"),
    ("meaningless-name", {"name": "test"}, "update test --set-name '<new name>'"),
]  # fmt: skip


@pytest.mark.one_database
def test_the_command_line_of_a_finding_makes_it_go_away(keyctl: Keyctl, database: Database) -> None:
    in_order: dict[str, Any] = {
        "owner": "ops",
        "purpose": "reports",
        "expires_at": NOW + 60 * DAY,
        "last_used_at": NOW - DAY,
    }
    expected: dict[tuple[str, str], str] = {}
    for rule, columns, line in COMMANDS:
        key_id = put(database, **(in_order | columns))
        expected[rule, key_id] = f"alphalens-keyctl {line.replace('ID', key_id)}"
    found = keyctl("audit", "check", "--json").json["findings"]
    assert {(each["rule"], each["key_id"]): each["command"] for each in found} == expected
    for line in expected.values():
        run_line(keyctl, line)
    assert keyctl.ok("audit", "check", "--json").json["findings"] == []


@pytest.mark.one_database
def test_the_command_line_of_a_key_outside_the_stored_policy_brings_it_inside(
    keyctl: Keyctl, database: Database
) -> None:
    def row(**columns: Any) -> str:
        in_order: dict[str, Any] = {
            "owner": "ops",
            "purpose": "reports",
            "created_at": NOW,
            "expires_at": NOW + 60 * DAY,
        }
        return put(database, **(in_order | {"last_used_at": NOW - DAY} | columns))

    keyctl.ok("policy", "set", "--max-lifetime", "365d", "--require", "owner,purpose", "--name-pattern", "*-*")
    latest = (NOW + 365 * DAY).strftime("%Y-%m-%dT%H:%M:%SZ")
    old = {"created_at": NOW - 400 * DAY}
    row(name="too-long", expires_at=NOW + 900 * DAY)
    row(name="for-ever", expires_at=None)
    row(name="too-old", **old)
    off = row(name="off-now", suspended_at=NOW - DAY, **old)
    row(name="nobodys", owner=None, activated_at=NOW - 100 * DAY)
    row(name="no-purpose", purpose=None, **old)
    expected = {
        "too-long": f"update too-long --set-expires {latest}",
        "for-ever": f"update for-ever --set-expires {latest}",
        "too-old": "rotate too-old --expires 365d",
        "off-now": f"revoke {off} --reason 'lives longer than the policy allows'",
        # A rotation would be refused before that is written down.
        "nobodys": "update nobodys --set-name '<new name>' --set-owner '<owner>'",
        "no-purpose": "update no-purpose --set-purpose '<purpose>'",
    }
    listed = [line.strip() for line in keyctl("audit", "check").stdout.splitlines()]
    assert {line for line in listed if line.startswith("alphalens-keyctl")} == {
        f"alphalens-keyctl {line}" for line in expected.values()
    }
    assert "lives longer than the stored policy allows, 365 days from its creation" in " ".join(listed)
    for line in expected.values():
        # A new name that fits the pattern, as a person would know.
        run_line(keyctl, f"alphalens-keyctl {line}".replace("'<new name>'", "new-name"))
    rest = {each["rule"]: each["command"] for each in keyctl("audit", "check", "--json").json["findings"]}
    assert rest == {
        "policy-lifetime": "alphalens-keyctl rotate no-purpose --expires 365d",
        "rotation-overdue": "alphalens-keyctl rotate new-name",
    }
    for line in rest.values():
        run_line(keyctl, line)
    assert keyctl.ok("audit", "check", "--json").json["findings"] == []


@pytest.mark.one_database
def test_the_command_line_for_a_rotation_that_was_cut_off_ends_it(
    keyctl: Keyctl, database: Database, tmp_path: Path
) -> None:
    """A successor that opens is taken over by the next rotation; a key without a predecessor is revoked."""
    keyctl.create("billing")
    cut_off = HeldDelivery(keyctl, tmp_path / "rotation", "rotate", "billing").die()
    first = HeldDelivery(keyctl, tmp_path / "creation", "create", "search").die()
    for left, expected in {
        cut_off.id: "rotate billing",
        first.id: f"revoke {first.id} --reason 'on its way to its destinations for 3 hours'",
    }.items():
        change(database, left, created_at=datetime.now(UTC) - timedelta(hours=3))
        assert command_of(keyctl, "delivering-long") == f"alphalens-keyctl {expected}"
        run_line(keyctl, f"alphalens-keyctl {expected}")
        assert keyctl.ok("audit", "check", "--rule", "delivering-long").status == 0


@pytest.mark.one_database
def test_a_key_that_was_rotated_out_and_is_still_used_names_the_command_that_shows_by_whom(
    keyctl: Keyctl, database: Database
) -> None:
    """No command makes this go away but those that stop somebody."""
    _, old = keyctl.create("billing")
    keyctl.ok("rotate", "billing")
    change(database, old, last_used_at=datetime.now(UTC), use_count=1)
    assert command_of(keyctl, "retiring-in-use") == f"alphalens-keyctl show {old}"
    said = keyctl("audit", "check", "--rule", "retiring-in-use").stdout
    assert "rotated out and still used, stops in 23 hours (" in said
    run_line(keyctl, f"alphalens-keyctl show {old}")


@pytest.mark.one_database
def test_a_single_owner_of_the_configuration_stands_in_the_command_line(keyctl: Keyctl) -> None:
    keyctl.create("billing", "--owner", "gone", *IN_ORDER[2:])
    configure(keyctl, 'owners = ["the team"]\nrotation_age = "36h"\nexpiring = "12h"')
    assert command_of(keyctl, "owner-unknown") == "alphalens-keyctl update billing --set-owner 'the team'"
    assert "owner 'gone' is none of those in config.toml  owner-unknown" in keyctl("audit", "check").stdout
    keyctl.create("for ever")
    assert command_of(keyctl, "no-expiry") == "alphalens-keyctl update 'for ever' --set-expires 36h"


@pytest.mark.one_database
def test_json_is_one_ascii_document_of_the_documented_fields(keyctl: Keyctl) -> None:
    """Promise 10."""
    ending = one_of_each(keyctl)
    done = keyctl("audit", "check", "--json")
    assert done.stdout.isascii()
    assert done.stdout.count("\n") == 1
    assert done.stderr == ""
    assert list(done.json) == ["findings", "errors", "warnings"]
    assert (done.json["errors"], done.json["warnings"]) == (1, 1)
    assert all(list(each) == FINDING for each in done.json["findings"])
    assert done.json["findings"][0] == {
        "rule": "expiring", "severity": "error", "key_id": ending, "key_name": "ending", "owner": "ops",
        "status": "active", "problem": "expires soon, and there is no successor",
        "advice": "Rotate it before it ends, or let it end if nobody uses it.", "value": 3, "limit": 14,
        "command": "alphalens-keyctl rotate ending --expires 90d",
    }  # fmt: skip


def assert_is_sarif(document: Any, rules: list[str]) -> list[dict[str, Any]]:
    """SARIF 2.1.0, sections 3.13 to 3.28, and what GitHub's code scanning wants beyond it. Returns the results."""
    assert document["version"] == "2.1.0"
    assert document["$schema"].endswith("sarif-2.1.0.json")
    (run,) = document["runs"]
    driver = run["tool"]["driver"]
    assert driver["name"] == "alphalens-keyctl"
    assert driver["version"]
    assert [rule["id"] for rule in driver["rules"]] == rules
    for rule in driver["rules"]:
        assert all(rule[part]["text"] for part in ("shortDescription", "fullDescription", "help"))
        assert rule["defaultConfiguration"]["level"] in ("warning", "error")
    levels = {rule["id"]: rule["defaultConfiguration"]["level"] for rule in driver["rules"]}
    for result in run["results"]:
        assert result["level"] == levels[result["ruleId"]]
        assert result["message"]["text"]
        (location,) = result["locations"]
        place = location["physicalLocation"]
        assert place["artifactLocation"]["uri"].startswith("api-keys/")
        assert place["region"]["startLine"] >= 1
        assert all(each["name"] for each in location["logicalLocations"])
        assert all(isinstance(value, str) and value for value in result["partialFingerprints"].values())
    prints = [json.dumps(result["partialFingerprints"]) for result in run["results"]]
    assert len(set(prints)) == len(prints)
    results: list[dict[str, Any]] = run["results"]
    return results


@pytest.mark.one_database
def test_sarif_holds_a_result_for_each_finding_and_the_rules_that_were_checked(keyctl: Keyctl) -> None:
    every = [rule.id for rule in policy.RULES]
    assert assert_is_sarif(keyctl.ok("audit", "check", "--sarif").json, every) == []
    ending = one_of_each(keyctl)
    done = keyctl("audit", "check", "--sarif")
    results = assert_is_sarif(done.json, every)
    assert [result["ruleId"] for result in results] == ["expiring", "owner-unknown"]
    assert results[0]["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == f"api-keys/{ending}"
    rotate = "alphalens-keyctl rotate ending --expires 90d"
    assert results[0]["properties"] == {"value": 3, "limit": 14, "command": rotate}
    assert re.search(rf": expires in 3 days \(....-..-..\)\. {rotate}$", results[0]["message"]["text"])
    assert done.stdout.isascii()
    # The same finding is the same alert in the next run.
    again = assert_is_sarif(keyctl("audit", "check", "--sarif").json, every)
    assert [result["partialFingerprints"] for result in again] == [result["partialFingerprints"] for result in results]
    only = keyctl("audit", "check", "--sarif", "--rule", "expiring").json
    assert len(assert_is_sarif(only, ["expiring"])) == 1


def junit(result: Result) -> ET.Element:
    suite = ET.fromstring(result.stdout.encode())
    assert suite.tag == "testsuite"
    cases = suite.findall("testcase")
    failures = [case for case in cases if case.find("failure") is not None]
    assert (suite.get("tests"), suite.get("failures")) == (str(len(cases)), str(len(failures)))
    assert all(case.get("name") and case.get("classname") in ("warning", "error") for case in cases)
    return suite


@pytest.mark.one_database
def test_junit_is_a_case_for_each_rule_failed_where_a_key_breaks_it(keyctl: Keyctl) -> None:
    assert junit(keyctl.ok("audit", "check", "--junit")).get("failures") == "0"
    ending = one_of_each(keyctl)
    suite = junit(keyctl("audit", "check", "--junit"))
    assert (suite.get("tests"), suite.get("failures")) == ("15", "2")
    failed = {case.get("name"): case.find("failure") for case in suite if case.find("failure") is not None}
    assert set(failed) == {"expiring", "owner-unknown"}
    failure = failed["expiring"]
    assert failure is not None
    assert (failure.get("type"), ending in str(failure.text)) == ("error", True)
    assert "): expires in 3 days (" in str(failure.text)
    assert str(failure.text).endswith(" alphalens-keyctl rotate ending --expires 90d\n")
    assert str(failure.get("message")).startswith("1 key, ")


@pytest.mark.one_database
@pytest.mark.parametrize("form", FORMATS, ids=lambda form: "".join(form) or "list")
def test_a_hostile_name_stays_a_name_in_every_format(keyctl: Keyctl, database: Database, form: tuple[str, ...]) -> None:
    """Promise 12: the row was written past the program."""
    put_many(database, 1, name=HOSTILE, owner="<![CDATA[ \x1b]8;;", purpose=None)
    done = keyctl("audit", "check", *form)
    assert done.status == 5
    assert not any(mark in done.stdout for mark in "\x1b\x07\u202e\x9b\ufffe")
    if form == ("--json",):
        assert done.json["findings"][0]["key_name"] == HOSTILE
    elif form == ("--sarif",):
        (result,) = assert_is_sarif(done.json, [rule.id for rule in policy.RULES])
        assert 'a<b>&"c' in result["message"]["text"]
    elif form == ("--junit",):
        failure = junit(done).find(".//failure")
        assert failure is not None
        assert "a<b>&\"c' ]]> \\x1b[2J" in str(failure.text)
        assert "é😀" in str(failure.text)
    else:
        assert 'a<b>&"c' in done.stdout


@pytest.mark.one_database
def test_junit_is_utf_8_whatever_the_locale(keyctl: Keyctl) -> None:
    keyctl.create("schlüssel", "--owner", "ops", "--expires", "60d")
    done = keyctl.spawn("audit", "check", "--junit", environment={"LANG": "C", "LC_ALL": "POSIX", "PYTHONUTF8": "0"})
    assert done.status == 5
    assert "schlüssel" in str(junit(done).findtext(".//failure"))


@pytest.mark.one_database
@pytest.mark.parametrize("form", FORMATS, ids=lambda form: "".join(form) or "list")
def test_a_reader_that_went_away_does_not_change_the_verdict(
    keyctl: Keyctl, database: Database, form: tuple[str, ...]
) -> None:
    """Errors come first and warnings after them: the verdict needs all, read or not."""
    for columns, status in (({}, 0), ({"name": "late", "purpose": None}, 5)):
        put_many(database, 1, **columns)
        reading, writing = os.pipe()
        os.close(reading)
        done = keyctl("audit", "check", *form, stdout=writing)
        os.close(writing)
        assert (done.status, done.stderr) == (status, "")


@pytest.mark.one_database
def test_a_reader_that_leaves_in_the_middle_of_thousands_does_not_change_the_verdict(
    keyctl: Keyctl, database: Database
) -> None:
    """The one error is the last finding."""
    put_many(database, 3000, purpose=None)
    put_many(database, 1, name="ending", expires_at=datetime.now(UTC) + timedelta(days=3))
    reading, writing = os.pipe()
    rules = ("--rule", "no-purpose", "--rule", "expiring")
    process = keyctl.start("audit", "check", "--json", "--fail-on", "error", *rules, stdout=writing)
    os.close(writing)
    assert os.read(reading, 100).startswith(b'{"findings": [{"rule": "no-purpose"')
    os.close(reading)
    done = process.wait()
    assert (done.status, done.stderr) == (5, "")


@pytest.mark.one_database
@pytest.mark.parametrize("form", FORMATS, ids=lambda form: "".join(form) or "list")
def test_a_closed_or_full_stdout_is_a_7_and_no_verdict(keyctl: Keyctl, form: tuple[str, ...]) -> None:
    keyctl.create("nobodys", "--purpose", "reports")
    assert keyctl("audit", "check", *form, stdout=CLOSED).status == 7
    full = os.open("/dev/full", os.O_WRONLY)
    done = keyctl("audit", "check", *form, stdout=full)
    os.close(full)
    assert done.status == 7
    assert "stdout" in done.stderr


@pytest.mark.parametrize(
    "form", mostly_on_sqlite(FORMATS, on_both=[("--json",)]), ids=lambda form: "".join(form) or "list"
)
def test_thousands_of_findings_are_all_reported(
    keyctl: Keyctl, database: Database, form: tuple[str, ...], tmp_path: Path
) -> None:
    put_many(database, 2100, purpose=None, owner=None)
    done = keyctl("audit", "check", *form)
    assert done.status == 5
    if form == ("--json",):
        assert (done.json["warnings"], len(done.json["findings"])) == (4_200, 4_200)
        assert len({(each["rule"], each["key_id"]) for each in done.json["findings"]}) == 4_200
    elif form == ("--sarif",):
        assert len(assert_is_sarif(done.json, [rule.id for rule in policy.RULES])) == 4_200
    elif form == ("--junit",):
        assert done.stdout.count("key 'service 0") == 4_200
        assert junit(done).get("failures") == "2"
    else:
        assert done.stdout.endswith("0 errors, 4,200 warnings by 15 rules\n")


def test_a_database_that_is_away_is_a_7_and_no_all_clear(keyctl: Keyctl, tmp_path: Path) -> None:
    """Promise 9."""
    (tmp_path / "text").write_text("no database")
    done = keyctl("--database", str(tmp_path / "text"), "audit", "check", "--json")
    assert (done.status, done.stdout) == (7, "")


@pytest.mark.one_database
def test_the_command_to_paste_keeps_to_a_stored_policy_that_is_shorter_than_the_thresholds(keyctl: Keyctl) -> None:
    keyctl.ok("policy", "set", "--max-lifetime", "20d")
    keyctl.create("ending", *IN_ORDER[:4], "--expires", "3d")
    [finding] = keyctl("audit", "check", "--json").json["findings"]
    assert finding["command"] == "alphalens-keyctl rotate ending --expires 20d"
    keyctl.ok(*shlex.split(finding["command"])[1:])


@pytest.mark.one_database
def test_a_key_that_is_named_is_checked_alone(keyctl: Keyctl) -> None:
    keyctl.create("billing")
    key_id = keyctl.create("search")[1]
    keyctl.create("well kept", "--owner", "ops", "--purpose", "reports", "--expires", "60d")
    for named in (("search",), (key_id,), (key_id[:8], "well kept")):
        done = keyctl("audit", "check", *named, "--json")
        assert done.status == 5
        assert {finding["key_name"] for finding in done.json["findings"]} == {"search"}
    assert keyctl("audit", "check", "well kept").status == 0
    assert keyctl("audit", "check", "nobody").status == 3
