"""`audit usage`: who used which key, when and from where, for people and for programs. Promises 8, 10 and 12."""

import csv
import io
import json
from datetime import UTC, datetime, timedelta
from typing import Final

import pytest
from rich.cells import cell_len
from sqlalchemy import text

from alphalens_keyctl.database import Database
from alphalens_keyctl.models import Reason
from alphalens_keyctl.moments import rfc3339_exact
from tests.support.commands import Keyctl
from tests.support.hostile import HOSTILE_TEXT
from tests.support.key_rows import put
from tests.support.moments import DAY, start_of_minute
from tests.support.terminal import on_terminal
from tests.support.usage_rows import record, usage_row

U: Final = ["id", "at", "key_id", "key_name", "outcome", "client_ip", "method", "path", "user_agent", "count"]


def traffic(database: Database) -> tuple[datetime, str, str]:
    """Six rows, ten days to a minute old: of two keys and of none. Returns when, and the keys' ids."""
    now = datetime.now(UTC)
    ci, billing = put(database, "ci"), put(database, "Billing")
    record(database, [
        usage_row(now - 10 * DAY, ci, client_ip="192.0.2.1"),
        usage_row(now - 3 * DAY, ci, client_ip="192.0.2.2", path="/a?b=c", user_agent="curl/8 \"x\", 'y'"),
        usage_row(start_of_minute(now - 2 * DAY), None, "malformed", client_ip="198.51.100.9", method=None, path=None,
            user_agent=None, count=1234),
        usage_row(now - 1 * DAY, billing, client_ip="2001:db8::1", method="POST"),
        usage_row(start_of_minute(now - timedelta(hours=1)), ci, "expired", client_ip=None, count=7),
        usage_row(now - timedelta(minutes=1), ci, client_ip="192.0.2.2"),
    ])  # fmt: skip
    return now, ci, billing


def listed(keyctl: Keyctl, *options: str) -> list[int]:
    """Which rows a filter finds, by their place in what was written."""
    found = keyctl.ok("audit", "usage", "--json", *options)
    assert found.stderr == ""
    return [use["id"] for use in found.json]


def test_every_filter_finds_what_it_says(keyctl: Keyctl, database: Database) -> None:
    now, ci, billing = traffic(database)
    edge = rfc3339_exact(now - DAY)
    for options, expected in {
        (): [1, 2, 3, 4, 5, 6],
        ("--key", "CI"): [1, 2, 5, 6],
        ("--key", ci[:8]): [1, 2, 5, 6],
        ("--key", billing): [4],
        ("--outcome", "ok"): [1, 2, 4, 6],
        ("--outcome", "MALFORMED"): [3],
        ("--outcome", "revoked"): [],
        ("--key", "ci", "--outcome", "expired"): [5],
        ("--since", "4d"): [2, 3, 4, 5, 6],
        ("--since", edge): [4, 5, 6],
        ("--until", edge): [1, 2, 3],
        ("--until", "4d"): [1],
        ("--since", "4d", "--until", "2h", "--key", "ci"): [2],
        ("--limit", "2"): [5, 6],
        ("--limit", "1", "--key", "billing"): [4],
        ("--limit", "0"): [],
    }.items():
        assert listed(keyctl, *options) == expected, options


@pytest.mark.one_database
def test_json_json_lines_and_csv_say_the_same(keyctl: Keyctl, database: Database) -> None:
    """Promise 10."""
    now, ci, _ = traffic(database)
    outputs = {form: keyctl.ok("audit", "usage", form).stdout for form in ("--json", "--jsonl", "--csv")}
    whole = json.loads(outputs["--json"])
    assert all(list(use) == U for use in whole)
    assert outputs["--json"].isascii()
    assert outputs["--jsonl"].isascii()
    assert [json.loads(line) for line in outputs["--jsonl"].splitlines()] == whole
    header, *rows = csv.reader(io.StringIO(outputs["--csv"]))
    assert header == U
    expected = [["" if value is None else str(value) for value in use.values()] for use in whole]
    assert rows == expected
    assert whole[1] == {
        "id": 2, "at": rfc3339_exact(now - 3 * DAY), "key_id": ci, "key_name": "ci", "outcome": "ok",
        "client_ip": "192.0.2.2", "method": "GET", "path": "/a?b=c", "user_agent": "curl/8 \"x\", 'y'", "count": 1,
    }  # fmt: skip
    assert {name: whole[2][name] for name in ("key_id", "key_name", "method", "path", "user_agent", "count")} == {
        "key_id": None, "key_name": None, "method": None, "path": None, "user_agent": None, "count": 1234,
    }  # fmt: skip


@pytest.mark.one_database
def test_a_log_without_rows_is_a_success_in_every_format(keyctl: Keyctl) -> None:
    assert keyctl.ok("audit", "usage", "--json").json == []
    assert keyctl.ok("audit", "usage", "--jsonl").stdout == ""
    assert keyctl.ok("audit", "usage", "--csv").stdout == ",".join(U) + "\r\n"
    shown = on_terminal(keyctl, "audit", "usage", width=40)
    assert shown.status == 0
    assert "0 uses, 0 refused" in shown.text


def test_bad_input_is_told_from_no_such_key(fresh_keyctl: Keyctl) -> None:
    """Refused before the database is looked for."""
    for options, code in {
        ("--outcome", "okay"): "usage",
        ("--since", "yesterday"): "invalid_input",
        ("--until", "0d"): "invalid_input",
        ("--json", "--csv"): "usage",
        ("--limit", "-1"): "usage",
    }.items():
        refused = fresh_keyctl("audit", "usage", *options, "--json")
        assert (refused.status, refused.stdout, refused.error["code"]) == (2, "", code), options
    named = fresh_keyctl("audit", "usage", "--outcome", "okay", "--json").error
    assert all(reason.value in named["hint"] for reason in Reason)
    assert list(fresh_keyctl.home.iterdir()) == []
    missing = fresh_keyctl("audit", "usage", "--key", "nothing", "--jsonl")
    assert (missing.status, missing.stdout) == (3, "")


def test_an_option_before_the_subcommand_is_refused_rather_than_unheard(fresh_keyctl: Keyctl) -> None:
    for command in (("usage",), ("prune", "--usage", "--older-than", "1d")):
        refused = fresh_keyctl("audit", "--json", *command)
        assert (refused.status, refused.stdout, refused.error["code"]) == (2, "", "usage")


@pytest.mark.one_database
@pytest.mark.parametrize("width", [40, 72, 80, 200])
def test_the_summary_fits_the_terminal_and_loses_nothing(keyctl: Keyctl, database: Database, width: int) -> None:
    _, ci, billing = traffic(database)
    other = put(database, "日本語" * 10)
    now = datetime.now(UTC)
    record(database, [usage_row(now - timedelta(minutes=12, seconds=5), ci, count=10**12,
                          client_ip="2001:db8:1111:2222:3333:4444:5555:6666"),
                      usage_row(start_of_minute(now), other, "revoked", client_ip="a" * 70, count=10**9)])  # fmt: skip
    shown = on_terminal(keyctl, "audit", "usage", width=width)
    assert shown.status == 0
    assert max(map(cell_len, shown.lines)) <= width
    said = " ".join(shown.text.split())
    # Ten days ago is not within the seven that are shown.
    assert "the last 7 days" in said
    assert "1,000,000,000,003 uses, 1,000,001,241 refused" in said
    for word in (ci, billing, other, "ci", "Billing", "192.0.2.2", "2001:db8::1", "malformed", "1,234", "expired",
                 "revoked", "1,000,000,000", "1,000,000,000,002", "12 minutes ago", "2 days ago"):  # fmt: skip
        assert word in said, word
    # An address may be folded.
    assert "198.51." in said
    assert shown.text.count("語") >= 10
    assert shown.text.count("a") >= 70
    assert said.index(ci) < said.index(billing)
    assert shown.text.count("█") >= 2
    if width == 200:
        line = next(line for line in shown.lines if billing in line)
        # 21 steps of 8 hours, one of them with a use.
        assert sorted(line.split()[4]) == sorted("·" * 20 + "█")


@pytest.mark.one_database
def test_into_a_pipe_a_row_stays_on_its_line(keyctl: Keyctl, database: Database) -> None:
    _, ci, _ = traffic(database)
    put(database, "n" * 100)
    said = keyctl.ok("audit", "usage", "--since", "30d").stdout
    (line,) = [line for line in said.splitlines() if line.split()[:2] == ["ci", ci]]
    assert line.split()[2:4] == ["3", "7"]
    assert "\x1b" not in said
    assert "the last" not in said  # they said themselves since when


@pytest.mark.one_database
def test_a_screen_without_unicode_is_shown_ascii(keyctl: Keyctl, database: Database) -> None:
    traffic(database)
    shown = keyctl.spawn("audit", "usage", environment={"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"})
    assert shown.status == 0
    assert shown.stdout.isascii()
    assert "#" in shown.stdout


def test_filters_hold_for_the_summary_too(keyctl: Keyctl, database: Database) -> None:
    _, ci, billing = traffic(database)
    for options, words, absent in (
        (("--key", "billing"), ["1 use, 0 refused", billing], [ci, "Refused attempts"]),
        (("--outcome", "expired"), ["0 uses, 7 refused", ci, "█"], [billing, "malformed", "Busiest addresses"]),
        (("--outcome", "ok", "--since", "30d"), ["4 uses, 0 refused", ci, billing], ["Refused attempts"]),
        (("--until", "5d", "--since", "30d"), ["1 use, 0 refused", ci], [billing]),
        (("--until", "5d"), ["1 use, 0 refused", ci, "the last 7 days"], [billing]),
        (("--until", "5d", "--since", "1d"), ["0 uses, 0 refused"], [ci]),
    ):  # fmt: skip
        said = keyctl.ok("audit", "usage", *options).stdout
        assert all(word in said for word in words), (options, said)
        assert not any(word in said for word in absent), (options, said)


def test_the_summary_shows_the_busiest_and_says_how_many_more(keyctl: Keyctl, database: Database) -> None:
    now = datetime.now(UTC)
    ids = [f"key{number:09d}" for number in range(23)]
    for number, key_id in enumerate(ids):
        record(database, [usage_row(now - DAY, key_id, client_ip=f"10.0.0.{number}") for _ in range(number + 1)])
    minute = start_of_minute(now - DAY)
    record(database, [usage_row(minute, key_id, "revoked", client_ip=None) for key_id in ids[:13]])
    said = keyctl.ok("audit", "usage").stdout
    keys = said.partition("Busiest addresses")[0]
    assert [key_id for key_id in ids if key_id in keys] == ids[3:]
    assert "and 3 more: --limit 23 shows all" in keys
    addresses = said.partition("Busiest addresses")[2].partition("Refused attempts")[0]
    assert addresses.count("10.0.0.") == 10
    assert "10.0.0.22" in addresses
    assert "and 13 more" in addresses
    assert "and 3 more" in said.partition("Refused attempts")[2]
    assert "--limit" not in keyctl.ok("audit", "usage", "--limit", "23").stdout
    assert "and 23 more: --limit 23 shows all" in keyctl.ok("audit", "usage", "--limit", "0").stdout


@pytest.mark.one_database
def test_what_a_client_sent_cannot_act_on_what_shows_it(keyctl: Keyctl, database: Database) -> None:
    """Promise 12."""
    now = datetime.now(UTC)
    key_id = put(database, HOSTILE_TEXT)
    everywhere = {"client_ip": HOSTILE_TEXT, "method": HOSTILE_TEXT, "user_agent": HOSTILE_TEXT}
    record(database, [
        usage_row(now - DAY, key_id, path="=cmd()", **everywhere),
        usage_row(start_of_minute(now), HOSTILE_TEXT, HOSTILE_TEXT, path="@x", **everywhere | {"user_agent": "-1+1"}),
    ])  # fmt: skip
    for width in (40, 80, 200):
        shown = on_terminal(keyctl, "--no-color", "audit", "usage", width=width)
        assert shown.status == 0
        assert b"\x1b[2J" not in shown.raw
        assert b"\x1b]8" not in shown.raw
        assert "\u202e" not in shown.text
        assert "".join(shown.text.split()).count("[red]x[/red]") >= 3
    for form in ("--json", "--jsonl"):
        assert keyctl.ok("audit", "usage", form).stdout.isascii()
    use = keyctl.ok("audit", "usage", "--json").json[0]
    assert (use["user_agent"], use["path"], use["key_name"]) == (HOSTILE_TEXT, "=cmd()", HOSTILE_TEXT)
    sheet = keyctl.ok("audit", "usage", "--csv").stdout
    assert "\x1b" not in sheet
    assert "\u202e" not in sheet
    rows = list(csv.DictReader(io.StringIO(sheet)))
    assert [row["path"] for row in rows] == ["'=cmd()", "'@x"]
    assert rows[1]["user_agent"] == "'-1+1"


@pytest.mark.parametrize("value", ["x'ff1b'", "CAST(x'ff' AS TEXT)", "5", "1.5"])
def test_a_value_of_any_type_is_shown_as_far_as_it_goes(keyctl: Keyctl, database: Database, value: str) -> None:
    """Promise 12. A column of SQLite lets anything stand in it; PostgreSQL takes the last two as text."""
    if database.address.display.startswith("postgresql") and value not in ("5", "1.5"):
        value = "'5'"
    record(database, [usage_row(datetime.now(UTC) - DAY, put(database, "ci"))])
    with database.writing() as tx:
        tx.execute(text(f"UPDATE usage_event SET client_ip = {value}, path = {value}, user_agent = {value}"))
    for form in ("--json", "--jsonl", "--csv"):
        assert keyctl.ok("audit", "usage", form).stdout
    assert "Busiest addresses" in keyctl.ok("audit", "usage").stdout


def test_many_rows_are_all_streamed_in_order(keyctl: Keyctl, database: Database) -> None:
    """More than are fetched at once."""
    now, key_id = datetime.now(UTC), put(database, "ci")
    record(database, [usage_row(now - timedelta(seconds=number), key_id) for number in range(5000)])
    lines = keyctl.ok("audit", "usage", "--jsonl").stdout.splitlines()
    assert len(lines) == 5000
    instants = [json.loads(line)["at"] for line in lines]
    assert instants == sorted(instants)
    assert listed(keyctl, "--limit", "2500") == list(range(2500, 0, -1))
