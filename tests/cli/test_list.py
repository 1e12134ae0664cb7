"""`list`: which keys there are, for people on any screen and for programs in three formats. Promises 10 and 12."""

import csv
import io
import json
from datetime import UTC, datetime, timedelta
from typing import Final

import pytest
from rich.cells import cell_len
from sqlalchemy import insert

from alphalens_keyctl.database import Database
from alphalens_keyctl.keyformat import DIGEST_SCHEME, generate
from alphalens_keyctl.models import key_table
from tests.support.answers import K
from tests.support.commands import Keyctl
from tests.support.key_rows import put
from tests.support.terminal import on_terminal

DAY: Final = timedelta(days=1)


def fleet(database: Database) -> None:
    """A key of every status and age, each found by some filters and not by others."""
    now = datetime.now(UTC)
    put(database, "billing-prod", owner="ops", labels={"team": "billing", "tier": "gold"}, expires_at=now + 3 * DAY)
    put(database, "Billing-test", owner="dev", labels={"team": "billing"}, created_at=now - DAY)
    put(database, "zeta_1", labels={"team": "x"}, created_at=now - 2 * DAY, last_used_at=now - DAY, use_count=7)
    put(database, "zeta%2", owner="Ops", created_at=now - 100 * DAY, activated_at=now - 50 * DAY)
    put(database, "old", created_at=now - 99 * DAY, activated_at=now - 99 * DAY, last_used_at=now - 40 * DAY,
        use_count=1234567)  # fmt: skip
    put(database, "past", created_at=now - 3 * DAY, expires_at=now - DAY)
    put(database, "off", created_at=now - 4 * DAY, suspended_at=now)
    put(database, "going", created_at=now - 5 * DAY, retires_at=now + DAY)
    put(database, "left", created_at=now - 6 * DAY, retires_at=now - DAY)
    put(database, "gone", created_at=now - 7 * DAY, revoked_at=now, revoked_by="sql")


NEWEST_FIRST: Final = (
    "billing-prod", "Billing-test", "zeta_1", "past", "off", "going", "left", "gone", "old", "zeta%2",
)  # fmt: skip
LIVE: Final = tuple(name for name in NEWEST_FIRST if name not in ("left", "gone"))


def names(keyctl: Keyctl, *options: str) -> list[str]:
    listed = keyctl.ok("list", "--json", *options)
    assert listed.stderr == ""
    return [key["name"] for key in listed.json]


def test_every_filter_finds_what_it_says(keyctl: Keyctl, database: Database) -> None:
    fleet(database)
    assert names(keyctl) == list(LIVE)
    assert names(keyctl, "--all") == list(NEWEST_FIRST)
    for options, expected in {
        ("--status", "active"): ["billing-prod", "Billing-test", "zeta_1", "old", "zeta%2"],
        ("--status", "suspended", "--status", "retiring"): ["off", "going"],
        ("--status", "revoked", "--status", "retired", "--status", "expired"): ["past", "left", "gone"],
        ("--name", "BILLING*"): ["billing-prod", "Billing-test"],
        ("--name", "zeta_?"): ["zeta_1"],
        ("--name", "*%*"): ["zeta%2"],
        ("--name", "o?d"): ["old"],
        ("--name", "g*"): ["going"],
        ("--name", "g*", "--all"): ["going", "gone"],
        ("--owner", "ops"): ["billing-prod"],
        ("--label", "team=billing"): ["billing-prod", "Billing-test"],
        ("--label", "team=billing", "--label", "tier=gold"): ["billing-prod"],
        ("--label", "team=gold"): [],
        ("--never-used", "--older-than", "10d"): ["zeta%2"],
        ("--unused-for", "30d"): ["old", "zeta%2"],
        ("--unused-for", "60d"): [],
        ("--expires-within", "4d"): ["billing-prod"],
        ("--expires-within", "2d"): [],
        ("--older-than", "50h", "--status", "active"): ["old", "zeta%2"],
    }.items():
        assert names(keyctl, *options) == expected, options


def test_every_order_is_the_one_a_reader_expects(keyctl: Keyctl, database: Database) -> None:
    fleet(database)
    assert names(keyctl, "--sort", "created") == list(LIVE)
    by_name = names(keyctl, "--sort", "name")
    assert by_name == sorted(LIVE, key=str.casefold)
    assert names(keyctl, "--sort", "owner")[:3] == ["zeta%2", "Billing-test", "billing-prod"]
    assert names(keyctl, "--sort", "last-used")[:2] == ["zeta_1", "old"]
    assert names(keyctl, "--sort", "expires")[:2] == ["past", "billing-prod"]
    assert names(keyctl, "--sort", "uses")[:2] == ["old", "zeta_1"]
    assert names(keyctl, "--sort", "name", "--limit", "2") == by_name[:2]
    assert names(keyctl, "--limit", "0") == []


@pytest.mark.one_database
def test_json_json_lines_and_csv_say_the_same(keyctl: Keyctl, database: Database) -> None:
    """Promise 10."""
    fleet(database)
    put(database, "naïve, \"quoted\" 'n' 🔑", owner="=1+1", purpose="a;b", labels={"z": "é", "a": "{}"},
        last_used_at=datetime.now(UTC), revoke_reason=None)  # fmt: skip
    outputs = {form: keyctl.ok("list", "--all", form).stdout for form in ("--json", "--jsonl", "--csv")}
    listed = json.loads(outputs["--json"])
    assert len(listed) == 11
    assert all(list(key) == K for key in listed)
    assert outputs["--json"].isascii()
    assert outputs["--jsonl"].isascii()
    assert [json.loads(line) for line in outputs["--jsonl"].splitlines()] == listed
    header, *rows = csv.reader(io.StringIO(outputs["--csv"]))
    assert header == K
    for row, key in zip(rows, listed, strict=True):
        cells = dict(zip(header, row, strict=True))
        assert json.loads(cells.pop("labels")) == key.pop("labels")
        if key["owner"] == "=1+1":
            key["owner"] = "'=1+1"  # no formula (promise 12)
        assert cells == {name: "" if value is None else str(value) for name, value in key.items()}


@pytest.mark.one_database
def test_an_empty_list_is_a_success_in_every_format(keyctl: Keyctl) -> None:
    assert keyctl.ok("list").stdout == "0 keys\n"
    assert keyctl.ok("list", "--json").json == []
    assert keyctl.ok("list", "--jsonl").stdout == ""
    assert keyctl.ok("list", "--csv").stdout == ",".join(K) + "\r\n"
    assert "0 keys" in on_terminal(keyctl, "list", width=40).text


@pytest.mark.one_database
def test_two_formats_at_once_are_a_usage_error(keyctl: Keyctl) -> None:
    refused = keyctl("list", "--json", "--csv")
    assert (refused.status, refused.stdout, refused.error["code"]) == (2, "", "usage")


def test_a_list_for_people_stops_at_100_and_says_so_and_one_for_programs_does_not(
    keyctl: Keyctl, database: Database
) -> None:
    now = datetime.now(UTC)
    rows = []
    for number in range(103):
        raw = generate()
        rows.append(
            {"id": raw.id, "name": f"key-{number}", "name_folded": f"key-{number}", "labels": {}, "use_count": 0,
             "created_at": now, "created_by": "sql", "activated_at": now, "digest": raw.digest(),
             "digest_scheme": DIGEST_SCHEME}
        )  # fmt: skip
    with database.writing() as tx:
        tx.execute(insert(key_table), rows)
    put(database, "gone", revoked_at=now, revoked_by="sql")
    shown = on_terminal(keyctl, "list").text
    assert shown.count("key-") == 100
    footer = " ".join(shown.split())
    assert "100 of 103 keys: --limit 103 shows all, and 1 key revoked or retired: --all shows them" in footer
    assert keyctl.ok("list").stdout.count("key-") == 100
    assert keyctl.ok("list", "--limit", "102").stdout.count("key-") == 102
    whole = keyctl.ok("list", "--limit", "500").stdout
    assert whole.count("key-") == 103
    assert "--limit" not in whole
    assert len(keyctl.ok("list", "--jsonl").stdout.splitlines()) == 103


def test_a_limit_that_no_database_can_count_to_is_no_fault_of_the_program(keyctl: Keyctl) -> None:
    keyctl.create("ci")
    for form in ("--json", "--jsonl"):
        result = keyctl("list", form, "--limit", "99999999999999999999")
        assert result.status in (0, 2), result


@pytest.mark.one_database
@pytest.mark.parametrize("width", [40, 60, 80, 200])
def test_a_table_keeps_within_the_terminal_and_loses_nothing(keyctl: Keyctl, database: Database, width: int) -> None:
    """At any width a name, an owner and a time stand whole."""
    now = datetime.now(UTC)
    expected = {
        put(database, "billing", owner="ops", created_at=now - 100 * DAY, last_used_at=now - 3 * DAY - timedelta(1e-3),
            expires_at=now + 14 * DAY): ("billing", "ops", "3 months ago", "3 days ago", "in 2 weeks"),
        put(database, "n" * 100, owner="o" * 100, purpose="p" * 200, created_at=now - 2 * DAY):
            ("2 days ago", "never"),
        put(database, "日本語の鍵" * 10, owner="é" * 30): ("just now", "never"),
        put(database, "gone", revoked_at=now, revoked_by="sql"): ("gone",),
    }  # fmt: skip
    shown = on_terminal(keyctl, "list", "--all", width=width)
    assert shown.status == 0
    assert max(cell_len(line) for line in shown.lines) <= width
    for key_id, words in expected.items():
        assert key_id in shown.text
        # A cell may be folded between words, not inside one.
        assert set(" ".join(words).split()) <= set(shown.text.split()), words
    # Every character of the longest texts is on the screen, however it was folded.
    assert shown.text.count("n") >= 100
    assert shown.text.count("o") >= 100
    assert shown.text.count("鍵") == 10
    assert shown.text.count("é") == 30
    dots = "".join(line[0] for line in shown.lines if line and line[0] in "●✕")
    assert dots.count("●") == 3
    assert dots.count("✕") == 1
    if width >= 80:
        header = " ".join(shown.lines[:2]).split()
        assert {"Name", "Id", "Owner", "Created", "Last", "used", "Expires"} <= set(header)
        row = next(line for line in shown.lines if "billing" in line)
        assert "ops" in row
    if width == 200:
        row = next(line for line in shown.lines if "billing" in line)
        assert all(word in row for word in ("active", "ops", "3 months ago", "3 days ago", "in 2 weeks"))
        assert shown.text.count("p") >= 200
        assert {"Uses", "Labels", "Purpose"} <= set(shown.lines[0].split())


@pytest.mark.one_database
def test_colour_is_for_terminals_and_can_be_turned_off(keyctl: Keyctl) -> None:
    keyctl.create("ci")
    assert b"\x1b[32m" in on_terminal(keyctl, "list").raw
    for plain in (
        on_terminal(keyctl, "--no-color", "list"),
        on_terminal(keyctl, "list", environment={"NO_COLOR": "1"}),
    ):
        assert b"\x1b[3" not in plain.raw
        assert "● " in plain.text


@pytest.mark.one_database
def test_into_a_pipe_a_row_stays_on_its_line_with_every_value_whole(keyctl: Keyctl, database: Database) -> None:
    key_id = put(database, "n" * 100, owner="o" * 100, purpose="p" * 200)
    (row,) = [line for line in keyctl.ok("list").stdout.splitlines() if key_id in line]
    assert all(letter * 100 in row for letter in "nop")
    assert "\x1b" not in row
