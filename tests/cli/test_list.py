"""`list`: which keys there are, for people on any screen and for programs in three formats. Promises 10 and 12."""

import csv
import io
import json
import re
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
from tests.support.key_rows import key_row, put
from tests.support.terminal import on_terminal, plain

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
    assert keyctl.ok("list").stdout == ""
    assert keyctl.ok("list", "--json").json == []
    assert keyctl.ok("list", "--jsonl").stdout == ""
    assert keyctl.ok("list", "--csv").stdout == ",".join(K) + "\r\n"
    assert "0 keys" in on_terminal(keyctl, "list", width=40).text


@pytest.mark.one_database
def test_two_formats_at_once_are_a_usage_error(keyctl: Keyctl) -> None:
    refused = keyctl("list", "--json", "--csv")
    assert (refused.status, refused.stdout, refused.error["code"]) == (2, "", "usage")


@pytest.mark.one_database
def test_a_list_on_a_terminal_stops_at_100_and_says_so_and_one_for_programs_does_not(
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
    assert on_terminal(keyctl, "list", "--limit", "102").text.count("key-") == 102
    whole = on_terminal(keyctl, "list", "--limit", "500").text
    assert whole.count("key-") == 103
    assert "--limit" not in whole
    assert keyctl.ok("list").stdout.count("key-") == 103
    assert keyctl.ok("list", "--limit", "102").stdout.count("key-") == 102
    assert len(keyctl.ok("list", "--jsonl").stdout.splitlines()) == 103


def test_a_limit_that_no_database_can_count_to_is_no_fault_of_the_program(keyctl: Keyctl) -> None:
    keyctl.create("ci")
    for form in ("--json", "--jsonl"):
        result = keyctl("list", form, "--limit", "99999999999999999999")
        assert result.status in (0, 2), result


LONG: Final = "the-name-" + "n" * 80 + "-ends-here"


def mixed(database: Database) -> None:
    """A page as people have it, and one key whose texts are all too long for it."""
    now = datetime.now(UTC)
    put(database, "billing", owner="ops", created_at=now - 100 * DAY, last_used_at=now - 3 * DAY,
        expires_at=now + 8 * DAY, labels={"env": "prod"}, use_count=1234567)  # fmt: skip
    put(database, "soon", owner="ops", created_at=now - 50 * DAY, expires_at=now + DAY - timedelta(minutes=5))
    put(database, LONG, owner="o" * 100, purpose="p" * 200, created_at=now - 2 * DAY,
        labels={f"label-{number}": "v" * 50 for number in range(9)})  # fmt: skip
    put(database, "日本語の鍵", owner="東京", purpose="価格")
    put(database, "é\u0308 🔑", owner="Zoë")
    put(database, "gone", revoked_at=now - 59 * timedelta(minutes=1), revoked_by="sql")
    put(database, "past", expires_at=now - 2 * DAY)
    for number in range(6):
        put(database, f"service-{number}", purpose="nightly export", expires_at=now + 200 * DAY)


# From each width on the columns that a table has, beside Name, Id, Last used and Expires.
COLUMNS: Final = {
    60: [],
    80: ["Created"],
    88: ["Owner", "Created"],
    100: ["Status", "Owner", "Created"],
    110: ["Status", "Owner", "Created", "Uses"],
    120: ["Status", "Owner", "Created", "Uses", "Labels"],
    200: ["Status", "Owner", "Created", "Uses", "Labels", "Purpose"],
}


@pytest.mark.one_database
def test_a_table_has_a_line_a_key_and_breaks_no_word_at_any_width(keyctl: Keyctl, database: Database) -> None:
    mixed(database)
    keys = keyctl.keys()
    for width in (60, 61, 79, 80, 88, 100, 110, 120, 200, 400):
        shown = on_terminal(keyctl, "list", "--all", width=width)
        head, rule, *rows = shown.lines[: len(keys) + 2]
        footer = " ".join(shown.lines[len(keys) + 2 :])
        assert max(map(cell_len, shown.lines)) <= width
        assert set(rule) == {"─"}
        # Every key has its line, and on it what tells it from others stands whole.
        assert [row.split()[0] for row in rows] == ["✕" if key["status"] == "revoked" else "◇" if key["name"] == "past"
                                                    else "●" for key in keys], width  # fmt: skip
        assert all(key["id"] in row for key, row in zip(keys, rows, strict=True))
        assert all(key["name"] in row for key, row in zip(keys, rows, strict=True) if key["name"] != LONG), width
        long, billing, gone = (
            next(row for row in rows if row[2:].startswith(start)) for start in ("the-", "billing", "gone")
        )
        if width < 400:
            assert re.match(r"● the-\S*…\S*here  ", long), width
            assert cell_len(long) - len(long) == 0
        assert {"in 8 days", "3 days"} <= {*re.split("  +", billing.replace(" ago", ""))}, width
        assert "revoked" in gone
        assert footer.startswith(f"{len(keys)} keys")
        titles = re.split("  +", head.strip())
        fixed = ("Name", "Id", "Last used", "Expires")
        if width in COLUMNS:
            assert [title for title in titles if title not in fixed] == COLUMNS[width], width
        assert ("● active" in footer) == ("Status" not in titles), width
        # Each column begins on every line where its title does, in cells of the terminal.
        place = head.index("Id")
        assert {cell_len(row[: row.index(key["id"])]) for key, row in zip(keys, rows, strict=True)} == {place}


@pytest.mark.one_database
def test_columns_are_straight_where_stdout_cannot_write_every_letter(keyctl: Keyctl, database: Database) -> None:
    mixed(database)
    ids = [key["id"] for key in keyctl.keys()]
    for encoding in ("ascii", "latin-1"):
        shown = on_terminal(keyctl, "list", "--all", width=200, environment={"PYTHONIOENCODING": encoding}, real=True)
        lines = shown.raw.decode("latin-1").split("\r\n")
        rows = [plain(next(line for line in lines if key_id in line)) for key_id in ids]
        assert {row.index(key_id) for row, key_id in zip(rows, ids, strict=True)} == {plain(lines[0]).index("Id")}


@pytest.mark.one_database
def test_a_screen_below_60_columns_shows_cards_that_lose_nothing(keyctl: Keyctl, database: Database) -> None:
    mixed(database)
    for width in (20, 40, 59):
        shown = on_terminal(keyctl, "list", "--all", width=width)
        assert max(map(cell_len, shown.lines)) <= width
        whole = "".join(line.strip() for line in shown.lines).replace(" ", "")
        for text in (LONG, "o" * 100, "日本語の鍵", "é\u0308🔑", "owner東京", "expiresin8days", "revoked59minutesago"):
            assert text in whole, (width, text)


@pytest.mark.one_database
def test_an_expiry_is_yellow_under_14_days_and_red_under_1_and_says_so_in_words(
    keyctl: Keyctl, database: Database
) -> None:
    now = datetime.now(UTC)
    for name, end in {"a": -DAY, "b": DAY - timedelta(minutes=1), "c": DAY + timedelta(minutes=5),
                      "d": 14 * DAY - timedelta(minutes=1), "e": 14 * DAY + timedelta(minutes=5)}.items():  # fmt: skip
        put(database, name, expires_at=now + end)
    put(database, "f", retires_at=now + timedelta(hours=2))
    raw = on_terminal(keyctl, "list", "--sort", "name").raw.decode()
    for words, style in {"24 hours ago": 31, "in 23 hours": 31, "in 24 hours": 33, "in 14 days": 33}.items():
        assert f"\x1b[{style}m{words}\x1b[0m" in raw, (words, raw)
    assert "  in 2 weeks  " in raw
    assert "  in 2 hours  " in raw


@pytest.mark.one_database
def test_rows_that_come_after_the_first_page_keep_to_its_columns(keyctl: Keyctl, database: Database) -> None:
    now = datetime.now(UTC)
    with database.writing() as tx:
        tx.execute(insert(key_table), [key_row(f"key-{number:03}", created_at=now) for number in range(100)])
    last = put(database, LONG, owner="o" * 100, created_at=now - 59 * timedelta(minutes=1), use_count=7)
    for width in (60, 80, 120):
        shown = on_terminal(keyctl, "list", "--limit", "101", width=width)
        row = next(line for line in shown.lines if last in line)
        assert cell_len(row) <= width
        assert row.index(last) == shown.lines[0].index("Id")
        assert row.startswith("● the-")
        assert width == 60 or "  59 minutes" in row
        assert shown.lines[-2].startswith("101 keys")


@pytest.mark.one_database
def test_colour_is_for_terminals_and_can_be_turned_off(keyctl: Keyctl) -> None:
    keyctl.create("ci")
    assert b"\x1b[32m" in on_terminal(keyctl, "list").raw
    for without in (
        on_terminal(keyctl, "--no-color", "list"),
        on_terminal(keyctl, "list", environment={"NO_COLOR": "1"}),
    ):
        assert b"\x1b[3" not in without.raw
        assert "● " in without.text


@pytest.mark.one_database
def test_into_a_pipe_a_row_stays_on_its_line_with_every_value_whole(keyctl: Keyctl, database: Database) -> None:
    """No header, no footer, no colour: fields with tabs between, as CSV has them."""
    now = datetime.now(UTC).replace(microsecond=0)
    key_id = put(database, LONG, owner="o" * 100, purpose="p q", labels={"z": "1 2", "a": "é"}, created_at=now)
    at = now.strftime("%Y-%m-%dT%H:%M:%SZ")
    line = "\t".join([LONG, key_id, "active", "o" * 100, at, "", "", "0", "a=é z=1 2", "p q"]) + "\n"
    for options in ([], ["--all"]):
        piped = keyctl.ok("list", *options, environment={"FORCE_COLOR": "1", "COLUMNS": "40"})
        assert (piped.stdout, piped.stderr) == (line, "")


@pytest.mark.one_database
def test_quiet_leaves_the_rows_alone(keyctl: Keyctl) -> None:
    keyctl.create("ci")
    assert "1 key" in on_terminal(keyctl, "list").text
    quiet = on_terminal(keyctl, "--quiet", "list")
    assert len(quiet.lines) == 4  # the head, the rule, the key, and what follows the last newline
    assert "1 key" not in quiet.text


@pytest.mark.one_database
def test_columns_are_chosen_for_every_format_alike(keyctl: Keyctl, database: Database) -> None:
    fleet(database)
    every = {key["id"]: key for key in keyctl.keys()}
    for chosen in (["name", "owner", "expires_at"], ["labels", "id"], ["use_count", "status", "id"], list(K)[::-1]):
        option = ("list", "--all", "--columns", ",".join(chosen))
        listed = keyctl.ok(*option, "--json").json
        assert [list(key) for key in listed] == [chosen] * len(every)
        assert listed == [{name: key[name] for name in chosen} for key in every.values()]
        assert list(map(json.loads, keyctl.ok(*option, "--jsonl").stdout.splitlines())) == listed
        header, *rows = csv.reader(io.StringIO(keyctl.ok(*option, "--csv").stdout))
        assert header == chosen
        piped = [line.split("\t") for line in keyctl.ok(*option).stdout.splitlines()]
        for number, name in enumerate(chosen):
            cells = [row[number] for row in rows]
            if name != "labels":
                assert cells == ["" if key[name] is None else str(key[name]) for key in listed]
                assert cells == [row[number] for row in piped]
            else:
                assert [json.loads(cell) for cell in cells] == [key["labels"] for key in listed]
    shown = on_terminal(keyctl, "list", "--columns", "owner, name,name,expires_at", "--sort", "name", width=40)
    assert shown.lines[0].split() == ["Owner", "Name", "Expires"]
    assert shown.lines[2].split() == ["ops", "billing-prod", "in", "3", "days"]
    # Twenty columns are no table on this screen; nothing of them is lost.
    shown = on_terminal(keyctl, "list", "--columns", ",".join(K), width=50)
    assert max(map(cell_len, shown.lines)) <= 50
    assert "  owner ops" in shown.lines


@pytest.mark.one_database
def test_a_column_that_there_is_not_is_refused_with_those_there_are(keyctl: Keyctl) -> None:
    for given in ("expires", "name,", "", "name,Owner", "id;name", "digest"):
        for form in ([], ["--csv"], ["--json"]):
            refused = keyctl("list", "--columns", given, *form)
            assert (refused.status, refused.stdout) == (2, "")
            assert all(name in refused.stderr for name in K), refused.stderr


def test_a_text_finds_keys_by_a_part_of_their_name_id_or_owner(keyctl: Keyctl, database: Database) -> None:
    fleet(database)
    put(database, "east", owner="Ops-East")
    ids = {key["name"]: key["id"] for key in keyctl.keys()}
    # No text of three letters alone: one id in a few thousand holds it.
    for options, expected in {
        ("BILLing",): ["billing-prod", "Billing-test"],
        ("%",): ["zeta%2"],
        ("pS-eas",): ["east"],
        ("-", "ops"): ["east", "billing-prod"],
        ("ing", "--status", "retiring"): ["going"],
        (ids["off"][2:9].swapcase(),): ["off"],
        ("nothing like it",): [],
    }.items():
        assert names(keyctl, *options) == expected, options
    refused = keyctl("list", "--json", "a\x1b")
    assert (refused.status, refused.error["code"]) == (2, "invalid_input")


def test_an_owner_whom_no_key_has_is_answered_with_those_who_are_spelled_like_it(keyctl: Keyctl) -> None:
    keyctl.create("a", "--owner", "payments")
    keyctl.create("b", "--owner", "platform")
    said = "No key has the owner 'paymnts'; owners like it: payments.\n"
    for command in (("list",), ("revoke", "--yes"), ("suspend", "--dry-run"), ("rotate", "--dry-run"),
                    ("rotate", "--no-print", "--pipe-to", "true")):  # fmt: skip
        done = keyctl.ok(*command, "--owner", "paymnts")
        nothing = "" if command[0] == "list" else "No key fits: nothing to do.\n"
        assert done.stderr == nothing + said, command
        assert done.stdout == ""
    assert said in on_terminal(keyctl, "list", "--owner", "paymnts").text
    # Who has keys, none of which fits, is no slip of the pen; and a machine reads no advice.
    assert keyctl.ok("list", "--owner", "platform", "--expired").stderr == ""
    assert keyctl.ok("list", "--owner", "paymnts", "--json").stderr == ""


@pytest.mark.one_database
def test_a_heading_in_place_of_a_column_is_answered_with_the_column(keyctl: Keyctl) -> None:
    for given, meant in {
        "Expires": "expires_at", "Last used": "last_used_at", "last-used-at": "last_used_at", "Uses": "use_count",
        "created": "created_at", "NAME": "name",
    }.items():  # fmt: skip
        done = keyctl("list", "--columns", f"id,{given}", "--json")
        assert done.status == 2
        assert done.error["hint"].startswith(f"Did you mean {meant}? There are: id, name,")
    assert keyctl("list", "--columns", "bogus", "--json").error["hint"].startswith("There are: id")
