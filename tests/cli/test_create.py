"""`create`: shown once, whole, and nothing but the key where a program reads it. Promises 1, 2 and 10."""

import json
import re
import unicodedata
from datetime import UTC, datetime, timedelta
from typing import Final

import pytest
from sqlalchemy import text

from alphalens_keyctl.database import Database
from tests.support.answers import K
from tests.support.commands import Keyctl
from tests.support.databases import one_database
from tests.support.key_rows import put
from tests.support.raw_keys import RAW_KEY
from tests.support.terminal import on_terminal

INSTANT: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")
ACTIONS: Final = {
    "GITHUB_ACTIONS": "true", "GITHUB_REPOSITORY": "a/b", "GITHUB_RUN_ID": "7",
    "GITHUB_SERVER_URL": "https://github.example",
}  # fmt: skip


@pytest.mark.one_database
def test_a_pipe_gets_the_bare_key_and_a_newline(keyctl: Keyctl) -> None:
    """Promise 10."""
    created = keyctl.ok("create", "ci")
    assert RAW_KEY.fullmatch(created.stdout.removesuffix("\n"))
    assert created.stdout.endswith("\n")
    key_id = created.stdout.split("_")[1]
    assert created.stderr == f"Created key 'ci' with id {key_id}.\n"


@pytest.mark.one_database
def test_quiet_leaves_nothing_but_the_key(keyctl: Keyctl) -> None:
    created = keyctl.ok("--quiet", "create", "ci")
    assert RAW_KEY.fullmatch(created.stdout.strip())
    assert created.stderr == ""


def test_json_is_one_document_with_exactly_the_documented_fields(keyctl: Keyctl) -> None:
    """Promise 10."""
    created = keyctl.ok(
        "--actor", "jo", "create", "ci", "--json", "--owner", "ops", "--purpose", "deploys",
        "--label", "team=billing", "--label", "app/tier=gold", "--expires", "7d",
    )  # fmt: skip
    assert created.stdout.isascii()
    assert created.stdout.count("\n") == 1
    assert created.stderr == ""
    document = created.json
    assert list(document) == ["key", "raw_key", "delivered_to"]
    assert document["delivered_to"] == ["stdout"]
    assert RAW_KEY.fullmatch(document["raw_key"])
    key = document["key"]
    assert list(key) == K
    assert key["id"] == document["raw_key"].split("_")[1]
    assert (key["name"], key["status"], key["owner"], key["purpose"]) == ("ci", "active", "ops", "deploys")
    assert key["labels"] == {"team": "billing", "app/tier": "gold"}
    assert (key["created_by"], key["use_count"]) == ("jo", 0)
    assert all(INSTANT.fullmatch(key[name]) for name in ("created_at", "activated_at", "expires_at"))
    unset = ("retires_at", "suspended_at", "last_used_at", "revoked_at", "revoked_by", "revoke_reason")
    assert [key[name] for name in (*unset, "replaces", "replaced_by", "delivering_to")] == [None] * 9
    assert keyctl.keys() == [key]


def test_if_missing_makes_the_key_once_and_then_does_nothing(keyctl: Keyctl) -> None:
    first = keyctl.ok("create", "CI", "--if-missing", "--json").json
    log = keyctl.ok("audit", "--jsonl").stdout
    bare = keyctl.ok("create", "ci", "--if-missing")
    assert bare.stdout == ""
    assert bare.stderr == f"Nothing to do: there is a key 'CI' with id {first['key']['id']}.\n"
    again = keyctl.ok("create", "ci", "--if-missing", "--owner", "other", "--json").json
    assert again == {"key": first["key"], "raw_key": None, "delivered_to": []}
    assert keyctl.ok("audit", "--jsonl").stdout == log
    assert keyctl.opens(first["raw_key"])


@pytest.mark.parametrize(
    ("name", "other"),
    [
        one_database("ci-prod", "CI-Prod"),
        one_database("Été", unicodedata.normalize("NFD", "été")),
        (unicodedata.normalize("NFD", "Été"), "ÉTÉ"),
        one_database("straße", "STRASSE"),
    ],
)
def test_case_and_normal_form_make_one_name(keyctl: Keyctl, name: str, other: str) -> None:
    raw, key_id = keyctl.create(name)
    (stored,) = keyctl.keys()
    assert stored["name"] == unicodedata.normalize("NFC", name)
    refused = keyctl("create", other, "--json")
    assert (refused.status, refused.stdout, refused.error["code"]) == (6, "", "name_taken")
    assert key_id in refused.error["message"]
    assert len(keyctl.keys()) == 1
    assert keyctl.opens(raw)
    assert keyctl.ok("show", other, "--json").json["id"] == key_id


def test_a_key_named_in_wide_letters_stays_and_no_new_one_comes_to_be(keyctl: Keyctl, database: Database) -> None:
    """A key of an older version keeps its name: every command finds it by it, and a rotation gives the name on."""
    wide = "ｂｉｌｌｉｎｇ"
    _, plain_id = keyctl.create("billing")
    old_id = put(database, wide)
    for command in (("create", wide), ("update", "billing", "--set-name", wide)):
        refused = keyctl(*command)
        assert (refused.status, refused.stdout) == (2, "")
        assert refused.stderr.startswith(f"error: the name '{wide}' must be written 'billing'\n")
    assert keyctl.ok("show", "billing", "--json").json["id"] == plain_id
    assert keyctl.ok("show", wide, "--json").json["id"] == old_id
    rotated = keyctl.ok("rotate", wide, "--json").json
    assert (rotated["key"]["name"], rotated["previous"]["id"]) == (wide, old_id)
    keyctl.ok("update", wide, "--set-name", "billing-2")
    unknown = keyctl("show", wide.replace("ｇ", "ｓ"))
    assert unknown.status == 3
    assert "In plain letters it is 'billins'." in unknown.stderr


def test_the_name_of_a_revoked_key_is_free_and_the_id_of_a_key_is_not(keyctl: Keyctl) -> None:
    _, first = keyctl.create("ci")
    keyctl.ok("revoke", "ci")
    _, second = keyctl.create("ci")
    assert keyctl.ok("show", "ci", "--json").json["id"] == second != first
    for key_id in (first, second):
        refused = keyctl("create", key_id, "--json")
        assert (refused.status, refused.error["code"]) == (6, "name_taken")


@pytest.mark.one_database
@pytest.mark.parametrize(
    ("when", "span"), [("30m", timedelta(minutes=30)), ("24h", timedelta(hours=24)), ("7d", timedelta(days=7)),
                       ("4w", timedelta(weeks=4)), ("36525d", timedelta(days=36525))],
)  # fmt: skip
def test_a_duration_counts_from_now(keyctl: Keyctl, when: str, span: timedelta) -> None:
    before = datetime.now(UTC).replace(microsecond=0)
    expires_at = keyctl.ok("create", "ci", "--expires", when, "--json").json["key"]["expires_at"]
    assert before + span <= datetime.fromisoformat(expires_at) <= datetime.now(UTC) + span


def test_a_date_and_an_instant_are_kept_in_utc(keyctl: Keyctl) -> None:
    cases = {
        "2097-01-31": "2097-01-31T00:00:00Z",
        "2097-01-31T09:30:00Z": "2097-01-31T09:30:00Z",
        "2097-01-31t09:30:00z": "2097-01-31T09:30:00Z",
        "2097-01-31T01:00:00.75+02:00": "2097-01-30T23:00:00Z",
        "2096-02-29T23:00:00-05:30": "2096-03-01T04:30:00Z",
        "never": None,
    }
    for number, (when, expected) in enumerate(cases.items()):
        key = keyctl.ok("create", f"key {number}", "--expires", when, "--json").json["key"]
        assert key["expires_at"] == expected, when


@pytest.mark.one_database
@pytest.mark.parametrize("width", [40, 60, 80, 200])
def test_on_a_terminal_the_raw_key_stands_whole_on_a_line_of_its_own(keyctl: Keyctl, width: int) -> None:
    """Promise 1. No border, no colour and no break inside the line: a double click or a
    drag across it copies the key and nothing else."""
    shown = on_terminal(
        keyctl, "create", "billing production", "--owner", "platform team", "--expires", "7d", width=width
    )
    assert shown.status == 0
    raw_line = next(line for line in shown.raw.split(b"\r\n") if line.startswith(b"alk_"))
    assert RAW_KEY.fullmatch(raw_line.decode())
    assert len(RAW_KEY.findall(shown.text)) == 1
    others = [line for line in shown.lines if line != raw_line.decode()]
    assert all(len(line) <= width for line in others)
    assert "Key created" in shown.text
    assert "billing production" in shown.text
    assert "platform team" in shown.text
    assert "│" not in shown.text
    assert keyctl.opens(raw_line.decode())


def test_nothing_the_database_holds_gives_the_secret_away(keyctl: Keyctl, database: Database) -> None:
    """Promise 1."""
    raw, _ = keyctl.create("ci")
    secret = raw.split("_")[2]
    with database.reading() as connection:
        for table in ("api_key", "audit_event"):
            rows = connection.execute(text(f"SELECT * FROM {table}")).all()
            assert rows
            assert secret not in repr(rows)
    for command in (("list", "--json"), ("show", "ci"), ("audit", "--json"), ("list",)):
        assert secret not in keyctl.ok(*command).stdout


@pytest.mark.one_database
def test_github_actions_is_told_to_mask_the_key_before_it_is_shown(keyctl: Keyctl) -> None:
    """Promise 1: the log of the CI run is no destination."""
    created = keyctl.ok("create", "ci", environment=ACTIONS)
    raw = created.stdout.strip()
    assert RAW_KEY.fullmatch(raw)
    assert created.stderr.startswith(f"::add-mask::{raw}\n")
    document = keyctl.ok("create", "ci2", "--json", environment=ACTIONS)
    assert document.stderr == f"::add-mask::{document.json['raw_key']}\n"
    # Both streams on one terminal: the order in which they reach the log.
    lines = on_terminal(keyctl, "create", "ci3", environment=ACTIONS).lines
    raw = next(line for line in lines if line.startswith("alk_"))
    assert lines.index(f"::add-mask::{raw}") < lines.index(raw)


@pytest.mark.one_database
def test_a_key_that_cannot_be_masked_is_not_shown(keyctl: Keyctl) -> None:
    """Promises 1 and 2."""
    with open("/dev/full", "wb") as full:
        refused = keyctl("create", "ci", environment=ACTIONS, stderr=full.fileno())
    assert (refused.status, refused.stdout) == (7, "")
    assert keyctl.ok("list", "--json").json == []
    keyctl.ok("create", "ci")


SURROUNDINGS: Final = {
    "in GitHub Actions, where colour is forced, in an unknown locale": {
        **ACTIONS,
        "FORCE_COLOR": "1",
        "CLICOLOR_FORCE": "1",
        "PY_COLORS": "1",
        "COLORTERM": "truecolor",
        "LANG": "tr_XX.ISO-8859-9",
        "LC_ALL": "xx_XX.nonsense",
    },
    "in an ASCII world": {"LC_ALL": "C", "LANG": "C", "PYTHONIOENCODING": "ascii", "TERM": "dumb"},
}


@pytest.mark.one_database
@pytest.mark.parametrize("surroundings", SURROUNDINGS.values(), ids=SURROUNDINGS.keys())
def test_the_surroundings_cannot_colour_or_break_what_a_program_reads(
    keyctl: Keyctl, surroundings: dict[str, str]
) -> None:
    """Promise 10."""
    created = keyctl.spawn("create", "clé 🔑", "--owner", "é", "--json", environment=surroundings)
    assert created.status == 0, created
    assert created.stdout.isascii()
    assert json.loads(created.stdout)["key"]["name"] == "clé 🔑"
    bare = keyctl.spawn("create", "zweiter", environment=surroundings)
    assert RAW_KEY.fullmatch(bare.stdout.removesuffix("\n"))
    listed = keyctl.spawn("list", environment=surroundings)
    assert listed.status == 0
    assert "zweiter" in listed.stdout
    refused = keyctl.spawn("create", "ZWEITER", "--json", environment=surroundings)
    assert (refused.status, refused.stdout, refused.error["code"]) == (6, "", "name_taken")
    assert refused.stderr.isascii()
    for result in (created, bare, listed, refused):
        assert "\x1b" not in result.stdout + result.stderr
