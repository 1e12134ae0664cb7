"""`show` and `verify`: what is known of a key, and whether it opens. Promises 1, 5, 8, 9 and 12."""

import os
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import Any

import pytest

from alphalens_keyctl.database import Database
from alphalens_keyctl.keyformat import generate
from alphalens_keyctl.moments import rfc3339
from tests.support.answers import K
from tests.support.commands import Keyctl, Result
from tests.support.databases import by_hand
from tests.support.fork_server import CLOSED
from tests.support.hostile import HOSTILE_TEXT
from tests.support.key_rows import put
from tests.support.moments import start_of_minute
from tests.support.raw_keys import with_id
from tests.support.terminal import Session, on_terminal
from tests.support.usage_rows import record, usage_row


def verified(keyctl: Keyctl, presented: bytes) -> tuple[int, Any]:
    result = keyctl("verify", "--json", stdin=presented)
    assert result.stderr == ""
    assert list(result.json) == ["allowed", "reason", "key"]
    return result.status, result.json


def shown_id(keyctl: Keyctl, reference: str) -> str:
    key_id: str = keyctl.ok("show", reference, "--json").json["id"]
    return key_id


def test_show_gives_the_lineage_oldest_first(keyctl: Keyctl) -> None:
    _, first = keyctl.create("ci", "--owner", "ops", "--label", "a=b")
    second = keyctl.ok("rotate", "ci", "--json").json["key"]["id"]
    third = keyctl.ok("rotate", "ci", "--json").json["key"]["id"]
    for reference, expected in (("CI", third), (first, first), (second[:6], second), (third[:11], third)):
        document = keyctl.ok("show", reference, "--json").json
        assert list(document)[: len(K)] == K
        assert document["id"] == expected
        assert [member["id"] for member in document["lineage"]] == [first, second, third]
        assert all(list(member) == K for member in document["lineage"])
        assert {key: document[key] for key in K} == document["lineage"][[first, second, third].index(expected)]
    text = " ".join(keyctl.ok("show", second).stdout.split())
    assert f"{first} (retiring) -> {second} (retiring) -> {third} (active)" in text


@pytest.mark.one_database
@pytest.mark.parametrize("width", [40, 80, 200])
def test_show_fits_the_terminal_and_loses_nothing(keyctl: Keyctl, database: Database, width: int) -> None:
    key_id = put(database, "n" * 100, owner="o" * 100, purpose="p" * 200, labels={"l" * 60: "v" * 100},
                 revoked_at=datetime.now(UTC), revoked_by="jo", revoke_reason="q" * 500)  # fmt: skip
    shown = on_terminal(keyctl, "show", key_id, width=width)
    assert shown.status == 0
    assert max(map(len, shown.lines)) <= width
    for letter, count in {"n": 100, "o": 100, "p": 200, "l": 60, "v": 100, "q": 500}.items():
        assert shown.text.count(letter) >= count
    assert key_id in shown.text


def used(database: Database) -> tuple[str, list[datetime]]:
    """A key with 1 + 2 + 3 uses from three addresses on three of the last 30 days, attempts on two of them that
    were refused, and before that a use that is too old to be shown. Returns its id and those days' instants."""
    now, key_id = datetime.now(UTC), put(database, "ci")
    days = [now - timedelta(days=days) for days in (28, 1, 0)]
    for at, times, address in zip(days, (1, 2, 3), ("192.0.2.1", "192.0.2.2", "2001:db8::3"), strict=True):
        record(database, [usage_row(at, key_id, client_ip=address) for _ in range(times)])
    record(
        database,
        [usage_row(start_of_minute(days[1]), key_id, "expired", count=1234, client_ip=ip) for ip in ("a", "b")],
    )
    record(database, [usage_row(start_of_minute(days[0]), key_id, "revoked", count=5, client_ip=None)])
    record(database, [usage_row(now - timedelta(days=32), key_id), usage_row(now, put(database, "ci-2"))])
    record(database, [usage_row(start_of_minute(now), None, "unknown")])
    return key_id, days


def test_show_tells_the_use_of_its_last_30_days(keyctl: Keyctl, database: Database) -> None:
    """Promise 8."""
    key_id, (first, yesterday, today) = used(database)
    usage = keyctl.ok("show", key_id, "--json").json["usage"]
    assert list(usage) == ["since", "until", "uses", "refused", "over_time", "addresses", "refusals"]
    assert (usage["uses"], usage["refused"]) == (6, 2473)
    since = datetime.fromisoformat(usage["since"])
    assert usage["until"] == rfc3339(since + timedelta(days=30))
    assert since.time() == time()
    assert since <= datetime.now(UTC) - timedelta(days=29) < since + timedelta(days=1, minutes=5)
    assert [day["at"] for day in usage["over_time"]] == [rfc3339(since + timedelta(days=day)) for day in range(30)]
    days = {day["at"][:10]: (day["uses"], day["refused"]) for day in usage["over_time"]}
    expected = {str(first.date()): (1, 5), str(yesterday.date()): (2, 2468), str(today.date()): (3, 0)}
    assert {day: numbers for day, numbers in days.items() if any(numbers)} == expected
    assert usage["addresses"] == [
        {"client_ip": "2001:db8::3", "uses": 3, "last_at": rfc3339(today)},
        {"client_ip": "192.0.2.2", "uses": 2, "last_at": rfc3339(yesterday)},
        {"client_ip": "192.0.2.1", "uses": 1, "last_at": rfc3339(first)},
    ]
    assert usage["refusals"] == [
        {"outcome": "expired", "count": 2468, "last_at": rfc3339(start_of_minute(yesterday))},
        {"outcome": "revoked", "count": 5, "last_at": rfc3339(start_of_minute(first))},
    ]


@pytest.mark.one_database
def test_show_of_a_key_that_was_never_used_says_so(keyctl: Keyctl) -> None:
    keyctl.create("ci")
    usage = keyctl.ok("show", "ci", "--json").json["usage"]
    assert (usage["uses"], usage["refused"], usage["addresses"], usage["refusals"]) == (0, 0, [], [])
    assert len(usage["over_time"]) == 30
    assert "30 days    no use" in keyctl.ok("show", "ci").stdout


@pytest.mark.one_database
@pytest.mark.parametrize("width", [40, 80, 200])
def test_the_use_of_a_key_fits_the_terminal(keyctl: Keyctl, database: Database, width: int) -> None:
    key_id, _ = used(database)
    many = [f"10.0.0.{number}" for number in range(9)]
    record(database, [usage_row(datetime.now(UTC), key_id, client_ip=address) for address in many for _ in range(9)])
    shown = on_terminal(keyctl, "show", key_id, width=width)
    assert shown.status == 0
    assert max(map(len, shown.lines)) <= width
    said = " ".join(shown.text.split())
    for words in ("87 uses, 2,473 refused", "10.0.0.0 (9 uses)", "10.0.0.4 (9 uses), others", "2,468 expired"):
        assert words in said
    assert "10.0.0.5" not in said
    line = next(line for line in shown.lines if "█" in line)
    assert len(line.split()[-1]) == (30 if width > 40 else 15)


@pytest.mark.one_database
def test_what_a_client_sent_cannot_act_on_the_panel(keyctl: Keyctl, database: Database) -> None:
    """Promise 12."""
    key_id = put(database, "ci")
    record(database, [usage_row(datetime.now(UTC), key_id, client_ip=HOSTILE_TEXT)])
    record(database, [usage_row(start_of_minute(datetime.now(UTC)), key_id, HOSTILE_TEXT)])
    shown = on_terminal(keyctl, "--no-color", "show", key_id)
    assert shown.status == 0
    assert b"\x1b[2J" not in shown.raw
    assert b"\x1b]8" not in shown.raw
    assert "".join(shown.text.split()).count("[red]x[/red]") == 2
    document = keyctl.ok("show", key_id, "--json")
    assert document.stdout.isascii()
    assert document.json["usage"]["addresses"][0]["client_ip"] == HOSTILE_TEXT


def test_an_unknown_key_and_too_short_a_start_are_not_found(keyctl: Keyctl) -> None:
    raw, key_id = keyctl.create("ci")
    for reference in ("c", "ci ci", key_id[:5], key_id[1:], key_id + "x", key_id.swapcase(), "%", "*", "ci%"):
        refused = keyctl("show", reference, "--json")
        assert (refused.status, refused.stdout, refused.error["code"]) == (3, "", "key_not_found"), reference
    forged = with_id(key_id).reveal()
    refused = keyctl("show", "-", "--json", stdin=forged.encode())
    assert (refused.status, refused.error["code"]) == (3, "key_not_found")
    assert keyctl.ok("show", "-", "--json", stdin=raw.encode()).json["id"] == key_id


def test_a_start_that_fits_two_ids_is_ambiguous(keyctl: Keyctl, database: Database) -> None:
    first = put(database, "one", raw=with_id("abcdef111111"))
    second = put(database, "two", raw=with_id("abcdef222222"), revoked_at=datetime.now(UTC), revoked_by="x")
    refused = keyctl("show", "abcdef", "--json")
    assert (refused.status, refused.stdout, refused.error["code"]) == (2, "", "ambiguous_key")
    assert first in refused.error["message"]
    assert second in refused.error["message"]
    assert shown_id(keyctl, "abcdef1") == first
    assert shown_id(keyctl, "abcdef2") == second


def test_a_name_that_fits_the_id_of_another_key_is_ambiguous_rather_than_guessed(
    keyctl: Keyctl, database: Database
) -> None:
    """Whoever may name keys could otherwise direct a revocation elsewhere."""
    victim = put(database, "victim", raw=with_id("abcdef111111"))
    for name in ("abcdef", "abcdef11111"):
        assert keyctl("create", name).status == 6
        trap = put(database, name)
        for command in ("show", "revoke", "rotate"):
            refused = keyctl(command, name, "--json")
            assert (refused.status, refused.stdout, refused.error["code"]) == (2, "", "ambiguous_key")
            assert victim in refused.error["message"]
            assert trap in refused.error["message"]
        assert shown_id(keyctl, trap) == trap
    # As long as an id and written by other means: not even a whole id is trusted then.
    put(database, victim)
    assert keyctl("revoke", victim).status == 2


@pytest.mark.one_database
def test_a_raw_key_typed_at_the_terminal_is_not_echoed(keyctl: Keyctl) -> None:
    """Promise 1."""
    raw, key_id = keyctl.create("ci")
    session = Session(keyctl, "show", "-", "--json", real=True)
    # The space after it comes when echo is off.
    session.wait_for("Raw key: ")
    session.type(raw.encode() + b"\n")
    shown = session.end()
    assert shown.status == 0
    assert key_id in shown.text
    assert raw[20:] not in shown.text


def test_verify_accepts_a_good_key_and_says_until_when(keyctl: Keyctl) -> None:
    raw, key_id = keyctl.create("ci", "--expires", "2097-01-31")
    for presented in (raw, f"{raw}\n", f"{raw}\r\n", f"{raw}\nand more\n"):
        status, answer = verified(keyctl, presented.encode())
        assert (status, answer["allowed"], answer["reason"]) == (0, True, "ok")
        assert (list(answer["key"]), answer["key"]["id"]) == (K, key_id)
    said = keyctl.ok("verify", stdin=raw.encode())
    assert said.stdout == f"Opens: key 'ci' ({key_id}), until 2097-01-31T00:00:00Z.\n"


def test_verify_gives_each_reason(keyctl: Keyctl, database: Database) -> None:
    """Promises 5 and 9."""
    now = datetime.now(UTC)
    soon, past = now + timedelta(hours=1), now - timedelta(seconds=1)
    cases: dict[str, dict[str, Any]] = {
        "ok": {"expires_at": soon, "retires_at": soon},
        "pending": {"activated_at": None, "lease_until": soon},
        "suspended": {"suspended_at": past},
        "retired": {"retires_at": past},
        "expired": {"expires_at": past},
        "revoked": {"revoked_at": past, "revoked_by": "x", "revoke_reason": "leaked", "suspended_at": past,
                    "expires_at": past},
        "unavailable": {"digest_scheme": "from the future"},
    }  # fmt: skip
    for reason, values in cases.items():
        raw = generate()
        put(database, reason, raw=raw, **values)
        status, answer = verified(keyctl, raw.reveal().encode())
        assert (status, answer["allowed"], answer["reason"]) == (0 if reason == "ok" else 4, reason == "ok", reason)
        assert answer["key"]["name"] == reason
        said = keyctl("verify", stdin=raw.reveal().encode())
        assert said.status == status
        assert said.stdout.startswith("Opens: " if reason == "ok" else "Refused: ")
        assert "leaked" in said.stdout or reason != "revoked"


def test_a_wrong_secret_behind_a_real_id_is_as_unknown_as_a_made_up_key(keyctl: Keyctl) -> None:
    _, key_id = keyctl.create("ci")
    answers = [verified(keyctl, raw.reveal().encode()) for raw in (with_id(key_id), generate())]
    assert answers == [(4, {"allowed": False, "reason": "unknown", "key": None})] * 2
    texts: list[Result] = [keyctl("verify", stdin=raw.reveal().encode()) for raw in (with_id(key_id), generate())]
    assert texts[0] == texts[1]


@pytest.mark.one_database
def test_what_is_no_raw_key_is_malformed(keyctl: Keyctl) -> None:
    raw, _ = keyctl.create("ci")
    changed = raw[:30] + ("a" if raw[30] != "a" else "b") + raw[31:]
    for presented in (
        b"", b"\n", b"ci", b"\0", raw.encode() + b"\0", b"\0" + raw.encode(), raw[:-1].encode(), raw.encode() + b"a",
        changed.encode(), raw.upper().encode(), b" " + raw.encode(), raw.encode() + b" ", b"\xff\xfe" * 40,
        raw.encode("utf-16"), b"API-Key: " + raw.encode(), b"x" * 10_000_000, raw.encode() * 150_000,
    ):  # fmt: skip
        status, answer = verified(keyctl, presented)
        assert (status, answer) == (4, {"allowed": False, "reason": "malformed", "key": None}), presented[:100]


@pytest.mark.one_database
@pytest.mark.parametrize(
    "command", [("verify",), ("show", "-"), ("audit", "verify", "--head", "-"), ("audit", "verify", "--head", "fifo")]
)
def test_input_that_never_comes_or_never_ends_is_given_up(keyctl: Keyctl, command: tuple[str, ...]) -> None:
    """Promise 11."""
    os.mkfifo(keyctl.home / "fifo")
    reader, writer = os.pipe()
    for said, missing in (
        (b"", "a writer or its first byte"),
        (b"alk_0", "its end" if "audit" in command else "the end"),
    ):
        os.write(writer, said)
        done = keyctl(*command, stdin=reader, before=[("tests.support.streams", "hurry", [])])
        name, missing = ("fifo", "a writer or its first byte") if "fifo" in command else ("stdin", missing)
        assert (done.status, done.stdout) == (7, "")
        assert done.stderr.startswith(f"error: {name}: {missing}")
    os.close(reader)
    os.close(writer)


@pytest.mark.one_database
def test_a_closed_or_unreadable_stdin_is_no_answer(keyctl: Keyctl, tmp_path: Path) -> None:
    """Promise 9: what could not be asked is not answered."""
    closed = keyctl("verify", "--json", stdin=CLOSED)
    assert (closed.status, closed.stdout, closed.error["code"]) == (7, "", "input_failed")
    with (tmp_path / "write only").open("wb") as file:
        unreadable = keyctl("verify", "--json", stdin=file.fileno())
    assert (unreadable.status, unreadable.stdout, unreadable.error["code"]) == (7, "", "input_failed")


def test_verify_does_not_count_as_a_use(keyctl: Keyctl) -> None:
    raw, _ = keyctl.create("ci")
    before, log = keyctl.keys(), keyctl.ok("audit", "--jsonl").stdout
    assert keyctl.opens(raw)
    keyctl("verify", stdin=with_id(before[0]["id"]).reveal().encode())
    assert keyctl.keys() == before
    assert (before[0]["use_count"], before[0]["last_used_at"]) == (0, None)
    assert keyctl.ok("audit", "--jsonl").stdout == log


def test_verify_says_on_stderr_why_the_database_could_not_be_asked(
    keyctl: Keyctl, database_url: str, tmp_path: Path
) -> None:
    """Promises 9 and 10: the answer on stdout, the error beside it, as a document where a machine reads along."""
    raw, _ = keyctl.create("ci")
    scheme, _, name = database_url.partition("://")
    away, code = (
        (f"{tmp_path / 'elsewhere.db'}", "database_missing")
        if scheme == "sqlite"
        else (f"{scheme}://{name.rpartition('/')[0]}/elsewhere", "database_unreachable")
    )
    answer = keyctl("--database", away, "verify", "--json", stdin=raw.encode())
    assert (answer.status, answer.json) == (4, {"allowed": False, "reason": "unavailable", "key": None})
    assert (list(answer.error), answer.error["code"]) == (["code", "message", "hint"], code)
    # What cannot be recorded though it was asked for is an error alone.
    unrecorded = keyctl("--database", away, "verify", "--record", "--json", stdin=raw.encode())
    assert (unrecorded.status, unrecorded.stdout, unrecorded.error["code"]) == (7, "", code)
    for quiet in ((), ("--quiet",)):
        said = keyctl("--database", away, *quiet, "verify", stdin=raw.encode())
        assert (said.status, said.stdout.partition(":")[0]) == (4, "Refused")
        assert answer.error["message"] in said.stderr
    assert raw not in answer.stderr + said.stderr


def test_a_row_that_no_program_of_ours_wrote_is_said_to_be_the_reason(keyctl: Keyctl, database_url: str) -> None:
    """Promise 9."""
    raw, key_id = keyctl.create("ci")
    if database_url.startswith("postgresql"):  # on SQLite the shell itself can look away
        by_hand(database_url, "ALTER TABLE api_key DROP CONSTRAINT api_key_labels_object")
    by_hand(database_url, "UPDATE api_key SET labels = '[1]' WHERE id = %s", key_id)
    answer = keyctl("verify", "--json", stdin=raw.encode())
    assert (answer.status, answer.json["reason"]) == (4, "unavailable")
    assert answer.error["code"] == "database_unusable"
