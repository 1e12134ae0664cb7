"""`audit`, `audit verify`, `audit head`: who did what, and the proof that nobody touched it. Promises 6 and 7."""

import csv
import hashlib
import io
import json
import os
import sqlite3
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import pytest
from sqlalchemy import delete, insert, select, update

from alphalens_keyctl.database import Database
from alphalens_keyctl.logs import audit
from alphalens_keyctl.logs.audit import canonical
from alphalens_keyctl.models import event_table
from alphalens_keyctl.moments import rfc3339_exact
from tests.support.commands import Keyctl
from tests.support.raw_keys import key_id
from tests.support.terminal import CTRL_C, Session, on_terminal
from tests.support.unguarded import take_guards_away

E: Final = ["seq", "at", "actor", "action", "key_id", "key_name", "detail", "hash"]
Row = dict[str, Any]


def log(keyctl: Keyctl, *options: str) -> list[Row]:
    found: list[Row] = keyctl.ok("audit", "--json", *options).json
    return found


def verdict(keyctl: Keyctl, *options: str, stdin: bytes = b"") -> tuple[int, str | None, int | None]:
    """The exit status, and the break's kind and place."""
    result = keyctl("audit", "verify", "--json", *options, stdin=stdin)
    assert result.status in (0, 5), result
    document = result.json
    assert document["sound"] == (result.status == 0)
    broken = document["break"]
    return (0, None, None) if broken is None else (result.status, broken["kind"], broken["seq"])


def found(database: Database) -> tuple[str | None, int | None]:
    """The break's kind and place, without a command."""
    broken = audit.verify(database).broken
    return (None, None) if broken is None else (broken.kind.value, broken.seq)


def unguarded(database: Database) -> list[Row]:
    """Take the log's triggers away, as somebody with the database's password can; returns its rows."""
    take_guards_away(database, "audit_event")
    with database.reading() as tx:
        return [dict(row) for row in tx.execute(select(event_table).order_by(event_table.c.seq)).mappings()]


def rewrite(database: Database, rows: Sequence[Row]) -> None:
    """Make the log say exactly `rows`."""
    with database.writing() as tx:
        tx.execute(delete(event_table))
        tx.execute(insert(event_table), list(rows))


def hashed(row: Row) -> Row:
    """`row` with the hash that belongs to what it says."""
    form = canonical(
        row["seq"], rfc3339_exact(row["at"]), row["actor"], row["action"], row["key_id"], row["key_name"],
        row["detail"], row["previous_hash"],
    )  # fmt: skip
    return row | {"hash": hashlib.sha256(form).digest()}


def rechained(rows: Sequence[Row]) -> list[Row]:
    """A log written anew from the start, sound in itself."""
    chain: list[Row] = []
    for row in rows:
        chain.append(hashed(row | {"previous_hash": chain[-1]["hash"] if chain else bytes(32)}))
    return chain


def with_change(rows: Sequence[Row], seq: int, **values: Any) -> list[Row]:
    return [row | values if row["seq"] == seq else row for row in rows]


def history(keyctl: Keyctl) -> None:
    """Eight events: two keys made, one of them rotated, and its successor revoked."""
    keyctl.ok("--actor", "ann", "create", "Été \"x\" 'y'", "--owner", "ö")
    keyctl.ok("--actor", "bob", "create", "ci", "--purpose", "<&>")
    new = keyctl.ok("--actor", "ann", "rotate", "ci").stdout.strip()
    keyctl.ok("--actor", "bob", "revoke", key_id(new), "--reason", "leaked")


def test_every_filter_finds_what_it_says(keyctl: Keyctl, database: Database) -> None:
    history(keyctl)
    whole = log(keyctl)
    assert [event["seq"] for event in whole] == list(range(1, 9))
    assert all(list(event) == E for event in whole)
    old, new = (key["id"] for key in sorted(keyctl.keys(), key=lambda key: key["created_at"]) if key["name"] == "ci")
    if whole[2]["key_id"] != old:
        old, new = new, old
    for options, expected in {
        ("--actor", "ann"): [1, 2, 5, 6, 7],
        ("--actor", "nobody"): [],
        ("--action", "key.create"): [1, 3, 5],
        ("--action", "key.rotate"): [6],
        ("--key", "CI"): [3, 4, 5, 6, 7, 8],
        ("--key", old): [3, 4, 6],
        ("--key", new[:8]): [5, 7, 8],
        ("--key", "ci", "--actor", "bob", "--action", "key.revoke"): [8],
        ("--limit", "3"): [6, 7, 8],
        ("--actor", "ann", "--limit", "2"): [6, 7],
        ("--limit", "0"): [],
        ("--since", "1h"): [1, 2, 3, 4, 5, 6, 7, 8],
        ("--until", "1h"): [],
        ("--since", whole[4]["at"]): [5, 6, 7, 8],
        ("--until", whole[4]["at"]): [1, 2, 3, 4],
        ("--since", "2020-01-01", "--until", "2097-01-01T00:00:00+02:00", "--limit", "1"): [8],
    }.items():
        assert [event["seq"] for event in log(keyctl, *options)] == expected, options
    unknown = keyctl("audit", "--action", "key.explode", "--json")
    assert (unknown.status, unknown.error["code"]) == (2, "usage")
    assert keyctl("audit", "--key", "nothing").status == 3


@pytest.mark.one_database
def test_json_json_lines_and_csv_say_the_same(keyctl: Keyctl) -> None:
    """Promise 10."""
    history(keyctl)
    outputs = {form: keyctl.ok("audit", form).stdout for form in ("--json", "--jsonl", "--csv")}
    whole = json.loads(outputs["--json"])
    assert outputs["--json"].isascii()
    assert outputs["--jsonl"].isascii()
    assert [json.loads(line) for line in outputs["--jsonl"].splitlines()] == whole
    header, *rows = csv.reader(io.StringIO(outputs["--csv"]))
    assert header == E
    for row, event in zip(rows, whole, strict=True):
        cells = dict(zip(header, row, strict=True))
        assert json.loads(cells.pop("detail")) == event.pop("detail")
        assert cells == {name: str(value) for name, value in event.items()}


def test_an_event_says_who_did_it_from_where_and_in_which_run(keyctl: Keyctl) -> None:
    run = {
        "GITHUB_ACTIONS": "true", "GITHUB_REPOSITORY": "acme/web", "GITHUB_RUN_ID": "42",
        "GITHUB_SERVER_URL": "https://user:pw@github.example",
    }  # fmt: skip
    keyctl.ok("create", "ci", environment=run)
    keyctl.ok("create", "ci2", environment={"ALPHALENS_KEYCTL_ACTOR": "jo"})
    first, *_, last = log(keyctl)
    assert first["actor"] == "github-actions:acme/web"
    origin = first["detail"]["origin"]
    assert origin["ci"] == "github-actions"
    assert origin["ci_run_url"] == "https://github.example/acme/web/actions/runs/42"
    assert origin["os_user"]
    assert origin["host"]
    assert ("database_user" in origin) == ("postgresql" in str(keyctl.database_url))
    assert last["actor"] == "jo"
    assert not {"ci", "claims"} & last["detail"]["origin"].keys()


@pytest.mark.one_database
def test_who_called_sudo_is_told_as_a_claim_beside_the_user_whom_the_kernel_names(keyctl: Keyctl) -> None:
    """Promises 6 and 12: anybody can set SUDO_USER."""
    keyctl.ok("create", "ci", environment={"SUDO_USER": "jo\x1b[2J", "SUDO_UID": "1000"})
    made = log(keyctl)[0]
    assert made["detail"]["origin"]["claims"] == {"sudo_user": "jo?[2J"}
    assert made["actor"] == made["detail"]["origin"]["os_user"]
    assert f'[from {origin_of(made)}, sudo user "jo?[2J"]' in keyctl.ok("audit").stdout
    whole = keyctl.ok("audit", "show", "1", "--json").json
    assert whole == made | {
        "previous_hash": "0" * 64, "intact": True, "claims": {"sudo_user": "jo?[2J"},
        "facts": {name: text for name, text in made["detail"]["origin"].items() if name != "claims"},
    }  # fmt: skip
    keyctl.ok("--actor", "cron", "revoke", "ci", "--reason", "leaked")
    assert '"cron" revoked ci (' in keyctl.ok("audit").stdout
    assert keyctl.ok("audit", "show", "3", "--json").json["claims"]["actor"] == "cron"
    assert keyctl("audit", "show", "4", "--json").error["code"] == "event_not_found"
    assert keyctl("audit", "verify").status == 0


def origin_of(event: Row) -> str:
    """From where an event came, as people are told."""
    said = event["detail"]["origin"]
    role = said.get("database_user")
    return f"{said['os_user']}@{said['host']}" + (f", database user {role}" if role else "")


@pytest.mark.one_database
def test_the_story_fits_every_terminal_and_breaks_no_word(keyctl: Keyctl) -> None:
    """Promise 12, as far as a terminal goes; the reason stands first, and nothing falls away."""
    history(keyctl)
    words = {"created", "activated", "rotated", "revoked", "leaked", '"ann"', '"bob"', "purpose", "events;", "claim,"}
    for width in (40, 80, 120, 200):
        shown = on_terminal(keyctl, "audit", width=width)
        assert shown.status == 0
        assert max(map(len, shown.lines)) <= width
        assert words <= set(shown.text.split()), width
        assert "): leaked" in " ".join(shown.text.split())
        panel = on_terminal(keyctl, "audit", "show", "8", width=width)
        assert max(map(len, panel.lines)) <= width
        assert {"leaked", "key.revoke", "facts", "claims"} <= set(panel.text.split()), width
    assert "the latest 2 of 8 events" in on_terminal(keyctl, "audit", "--limit", "2").text
    assert "the first 2 of 5 events" in on_terminal(keyctl, "audit", "--after", "3", "--limit", "2").text


@pytest.mark.one_database
def test_what_follows_is_printed_as_it_comes_until_nobody_reads_it(keyctl: Keyctl) -> None:
    """Promise 10: each format, from the events that are there on; Ctrl-C ends it with 130 and no word."""
    keyctl.create("one")
    session = Session(keyctl, "audit", "--follow", width=80, real=True)
    session.wait_for("activated one")
    keyctl.create("two")
    session.wait_for("activated two")
    session.type(CTRL_C)
    ended = session.end()
    assert ended.status == 130
    assert "error" not in ended.text
    for options, expected in {
        ("--jsonl", "--after", "2"): '{"seq": 3,',
        ("--csv", "--limit", "1"): ",".join(E),
        ("--format", "cef", "--key", "two"): "CEF:0|",
    }.items():
        reads, writes = os.pipe()
        command = keyctl.start("audit", "--follow", *options, stdout=writes)
        os.close(writes)
        with os.fdopen(reads, "rb") as reader:
            assert reader.readline().decode().startswith(expected), options
        # The reader has gone; nothing more is written that would tell.
        ended_with = command.wait()
        assert (ended_with.status, ended_with.stderr) == (0, ""), options


@pytest.mark.one_database
def test_follow_refuses_what_has_no_meaning_for_a_log_that_goes_on(keyctl: Keyctl, fresh_keyctl: Keyctl) -> None:
    keyctl.create("one")
    for options in (("--json",), ("--reverse",), ("--until", "1h"), ("--after", "1", "--limit", "1")):
        refused = keyctl("audit", "--follow", *options)
        assert refused.status == 2, options
        assert "--follow excludes --" in refused.stderr
    assert fresh_keyctl("audit", "--follow").status == 7  # and not for ever on nothing
    gone = keyctl("audit", "--follow", "--jsonl", "--after", "3")
    assert (gone.status, gone.error["code"]) == (5, "log_replaced")


@pytest.mark.one_database
def test_newest_first_is_the_same_events_in_every_format(keyctl: Keyctl) -> None:
    history(keyctl)
    for options in ((), ("--limit", "3"), ("--after", "2", "--limit", "3"), ("--actor", "bob")):
        forward = log(keyctl, *options)
        assert log(keyctl, *options, "--reverse") == forward[::-1]
        lines = keyctl.ok("audit", "--csv", "--reverse", *options).stdout.splitlines()[1:]
        assert [line.partition(",")[0] for line in lines] == [str(event["seq"]) for event in forward[::-1]]
    said = keyctl.ok("audit", "--reverse", "--limit", "2").stdout.splitlines()
    assert [line.split()[0] for line in said[1:3]] == ["8", "7"]


def test_a_reader_with_nothing_but_sha256_and_json_can_check_the_chain(keyctl: Keyctl) -> None:
    """Promise 7, as README describes it to those who would rather not trust this program."""
    history(keyctl)
    previous = "0" * 64
    for line in keyctl.ok("audit", "--jsonl").stdout.splitlines():
        event = json.loads(line)
        detail = json.dumps(event["detail"], sort_keys=True, separators=(",", ":"))
        values = [event["seq"], event["at"], event["actor"], event["action"], event["key_id"], event["key_name"]]
        form = json.dumps([*values, detail, previous], separators=(",", ":"))
        previous = hashlib.sha256(form.encode("ascii")).hexdigest()
        assert event["hash"] == previous
    assert keyctl.ok("audit", "head", "--json").json["hash"] == previous


def test_a_sound_log_is_said_to_be_sound(keyctl: Keyctl) -> None:
    empty = keyctl.ok("audit", "verify", "--json").json
    nothing = {"seq": 0, "hash": "0" * 64, "at": None}
    assert empty == {"sound": True, "events": 0, "head": nothing, "break": None, "signed_by": None}
    assert dict(list(keyctl.ok("audit", "head", "--json").json.items())[:3]) == nothing
    history(keyctl)
    last = log(keyctl)[-1]
    head = keyctl.ok("audit", "head", "--json").json
    named = {name: last[name] for name in ("seq", "hash", "at")}
    root = head["root_hash"]
    assert head == named | {
        "tree_size": 8, "root_hash": root, "checkpoint": head["checkpoint"], "signature": None,
    }  # fmt: skip
    said = ["seq", "8", "hash", last["hash"], "at", last["at"], "root", root]
    assert keyctl.ok("audit", "head").stdout.split() == said
    found = {"sound": True, "events": 8, "head": named, "break": None, "signed_by": None}
    assert keyctl.ok("audit", "verify", "--json").json == found
    assert keyctl.ok("audit", "verify").stdout == "Sound: 8 events, each following the one before.\n"


EDITS: Final[dict[str, tuple[Callable[[Row], Any], str]]] = {
    "at": (lambda row: row["at"] + timedelta(microseconds=1), "altered"),
    "actor": (lambda row: row["actor"] + " ", "altered"),
    "action": (lambda row: "key.discard", "altered"),
    "key_id": (lambda row: None, "altered"),
    "key_name": (lambda row: row["key_name"].swapcase(), "altered"),
    "detail": (lambda row: row["detail"].replace(":", ": ", 1), "altered"),
    "previous_hash": (lambda row: bytes(31) + b"\1", "unlinked"),
    "hash": (lambda row: bytes(32), "altered"),
}


def test_every_single_edit_is_found(keyctl: Keyctl, database: Database) -> None:
    """Promise 7."""
    history(keyctl)
    rows = unguarded(database)
    for position, column in enumerate(EDITS):
        edit, kind = EDITS[column]
        seq = 1 + position  # each event of the log, the first and the last among them, is edited once
        row = rows[seq - 1]
        changed = edit(row)
        assert changed != row[column]
        rewrite(database, with_change(rows, seq, **{column: changed}))
        assert found(database) == (kind, seq), column
    rewrite(database, rows)
    assert found(database) == (None, None)


def test_removals_insertions_and_reorderings_are_found(keyctl: Keyctl, database: Database) -> None:
    """Promise 7."""
    history(keyctl)
    rows = unguarded(database)
    three, four = rows[2], rows[3]
    forged = three | {"seq": 9, "previous_hash": bytes(range(32))}
    inserted = hashed(four | {"actor": "eve"})
    moved_up = [row | {"seq": row["seq"] + 1} for row in rows[3:]]
    cases: dict[str, tuple[list[Row], tuple[str, int]]] = {
        "the first is removed": (rows[1:], ("missing", 1)),
        "one in the middle is removed": (rows[:3] + rows[4:], ("missing", 4)),
        "one is removed and the rest moved up": (
            rows[:3] + [row | {"seq": row["seq"] - 1} for row in rows[4:]], ("unlinked", 4)),
        "two are swapped": (
            [*rows[:2], four | {"seq": 3}, three | {"seq": 4}, *rows[4:]], ("unlinked", 3)),
        "one is appended": ([*rows, forged], ("unlinked", 9)),
        "one is appended that follows": ([*rows, forged | {"previous_hash": rows[-1]["hash"]}], ("altered", 9)),
        "one is appended far off": ([*rows, hashed(forged | {"seq": 11, "previous_hash": rows[-1]["hash"]})],
                                    ("missing", 9)),
        "one is inserted and the rest moved": (
            [*rows[:3], inserted, moved_up[0] | {"previous_hash": inserted["hash"]}, *moved_up[1:]],
            ("altered", 5)),
        "one is edited and its hash made to fit": (
            [hashed(row | {"actor": "eve"}) if row["seq"] == 4 else row for row in rows], ("unlinked", 5)),
    }  # fmt: skip
    for what, (changed, expected) in cases.items():
        rewrite(database, changed)
        assert found(database) == expected, what
    assert verdict(keyctl) == (5, "unlinked", 5)
    broken = keyctl("audit", "verify")
    assert (broken.status, broken.stderr) == (5, "")
    assert broken.stdout.startswith("Broken (unlinked): event 5 ")


@pytest.mark.parametrize(
    ("column", "value", "kind"),
    [
        ("actor", "x'616e6e'", "altered"),
        ("detail", "x'7b7d'", "altered"),
        ("key_name", "x'ff'", "altered"),
        ("actor", "CAST(x'ff' AS TEXT)", "altered"),
        ("previous_hash", "'text'", "unlinked"),
        ("hash", "'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa'", "altered"),
    ],
)
def test_a_value_of_the_wrong_type_is_a_break_and_not_a_crash(
    fresh_keyctl: Keyctl, column: str, value: str, kind: str
) -> None:
    """Promise 7. SQLite lets any column hold any type; only there can this be written."""
    fresh_keyctl.create("one")
    fresh_keyctl.create("two")
    (path,) = fresh_keyctl.home.rglob("keys.db")
    with sqlite3.connect(path) as connection:
        connection.execute("DROP TRIGGER audit_event_no_update")
        connection.execute(f"UPDATE audit_event SET {column} = {value} WHERE seq = 3")
    connection.close()
    result = fresh_keyctl("audit", "verify", "--json")
    assert (result.status, result.stderr) == (5, "")
    assert result.json["break"] == {"seq": 3, "kind": kind, "about": None}
    # What is there is shown as far as it goes: whoever looks for the break has to see it.
    assert fresh_keyctl("audit", "--jsonl").status == 0


def test_a_saved_head_proves_that_the_log_only_grew(keyctl: Keyctl, tmp_path: Path) -> None:
    """Promise 7."""
    nothing = keyctl.ok("audit", "head", "--json").stdout
    history(keyctl)
    saved = keyctl.ok("audit", "head", "--json").stdout
    file = tmp_path / "head.json"
    file.write_text(saved)
    keyctl.create("more")
    for head in (nothing, saved, keyctl.ok("audit", "head", "--json").stdout):
        assert verdict(keyctl, "--head", "-", stdin=head.encode()) == (0, None, None)
    said = keyctl.ok("audit", "verify", "--head", str(file)).stdout
    assert said == "Sound: 10 events, each following the one before, and it extends the saved head.\n"


def test_a_log_that_was_cut_off_or_written_anew_fails_against_a_saved_head(keyctl: Keyctl, database: Database) -> None:
    """Promise 7: neither can be seen in the log itself; the rows of the keys tell of a cut."""
    history(keyctl)
    saved = keyctl.ok("audit", "head", "--json").stdout.encode()
    rows = unguarded(database)
    with database.writing() as tx:
        tx.execute(delete(event_table).where(event_table.c.seq > 3))
    assert verdict(keyctl, "--log-only") == (0, None, None)
    assert verdict(keyctl)[0] == 5
    assert verdict(keyctl, "--head", "-", stdin=saved) == (5, "truncated", 4)
    rewrite(database, rechained(with_change(rows, 2, actor="eve")))
    assert verdict(keyctl, "--log-only") == (0, None, None)
    assert verdict(keyctl, "--head", "-", stdin=saved) == (5, "rewritten", 8)


@pytest.mark.parametrize(
    "content",
    [
        b"", b"null", b"[]", b"{}", b"8", b'"head"', b"\xff\xfe", b"{", b"[" * 4000,
        b'{"seq": 1}', b'{"seq": 1, "hash": "zz"}', b'{"seq": 1, "hash": "abcd"}', b'{"seq": 1, "hash": 5}',
        b'{"seq": -1, "hash": "' + b"0" * 64 + b'"}', b'{"seq": "1", "hash": "' + b"0" * 64 + b'"}',
        b'{"seq": true, "hash": "' + b"0" * 64 + b'"}', b'{"seq": 1.0, "hash": "' + b"0" * 64 + b'"}',
        b'{"seq": 0, "hash": "' + b"1" * 64 + b'"}',
        b'{"seq": 1, "hash": "' + b"0" * 64 + b'", "at": "yesterday"}',
        b'{"seq": 1, "hash": "' + b"0" * 64 + b'", "at": 5}', b" " * 5000 + b"{}",
    ],
)  # fmt: skip
def test_what_is_no_saved_head_is_refused(fresh_keyctl: Keyctl, content: bytes) -> None:
    refused = fresh_keyctl("audit", "verify", "--head", "-", "--json", stdin=content)
    assert (refused.status, refused.stdout, refused.error["code"]) == (2, "", "invalid_input")


def test_a_saved_head_that_cannot_be_read_is_refused(fresh_keyctl: Keyctl) -> None:
    for path in ("nothing here", "/", "", "x" * 300):
        refused = fresh_keyctl("audit", "verify", "--head", path, "--json")
        assert (refused.status, refused.stdout, refused.error["code"]) == (2, "", "invalid_input"), path


def test_the_database_itself_refuses_to_change_the_log(keyctl: Keyctl, database: Database) -> None:
    """Promise 7: no code has to remember it."""
    history(keyctl)
    for statement in (delete(event_table), update(event_table).values(actor="eve")):
        with pytest.raises(Exception, match=r"never changed|never deleted"), database.writing() as tx:
            tx.execute(statement)
    assert verdict(keyctl) == (0, None, None)
