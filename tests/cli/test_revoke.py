"""`revoke`: off for good, all of them or none, and asked about only where somebody can answer. Promises 5, 6, 11."""

from datetime import UTC, datetime, timedelta

import pytest

from alphalens_keyctl.database import Database
from alphalens_keyctl.keyformat import generate
from tests.support.answers import K
from tests.support.commands import Keyctl
from tests.support.key_rows import put
from tests.support.terminal import CTRL_C, CTRL_D, Session, on_terminal


def test_several_keys_are_revoked_at_once_by_name_id_and_start_of_id(keyctl: Keyctl) -> None:
    """Promises 5 and 6."""
    made = [keyctl.create(name) for name in ("one", "two", "three", "four")]
    (_, one), (_, two), (_, three), _ = made
    revoked = keyctl.ok("--actor", "jo", "revoke", "ONE", two, three[:8], "one", "--reason", "leaked: <b>=1</b>")
    assert revoked.stdout.splitlines() == [
        f"Revoked key 'one' ({one}).", f"Revoked key 'two' ({two}).", f"Revoked key 'three' ({three}).",
    ]  # fmt: skip
    assert [keyctl.opens(raw) for raw, _ in made] == [False, False, False, True]
    for key in keyctl.keys()[1:]:
        assert (key["status"], key["revoked_by"], key["revoke_reason"]) == ("revoked", "jo", "leaked: <b>=1</b>")
        assert key["revoked_at"] is not None
    events = keyctl.ok("audit", "--action", "key.revoke", "--json").json
    assert sorted(event["key_id"] for event in events) == sorted([one, two, three])
    assert {event["detail"]["reason"] for event in events} == {"leaked: <b>=1</b>"}


def test_where_one_key_cannot_be_found_none_is_revoked(keyctl: Keyctl) -> None:
    raw, _ = keyctl.create("ci")
    log = keyctl.ok("audit", "--jsonl").stdout
    refused = keyctl("revoke", "ci", "nothing", "--json")
    assert (refused.status, refused.stdout, refused.error["code"]) == (3, "", "key_not_found")
    assert keyctl.opens(raw)
    assert keyctl.ok("audit", "--jsonl").stdout == log


def test_revoking_a_revoked_key_is_fine_and_keeps_its_first_revocation(keyctl: Keyctl) -> None:
    _, key_id = keyctl.create("ci")
    first = keyctl.ok("--actor", "a", "revoke", "ci", "--reason", "first", "--json").json
    assert list(first) == ["changed", "unchanged", "still_open", "dry_run"]
    assert (len(first["changed"]), first["unchanged"], first["dry_run"]) == (1, [], False)
    assert list(first["changed"][0]) == K
    log = keyctl.ok("audit", "--jsonl").stdout
    second = keyctl.ok("--actor", "b", "revoke", "ci", key_id, "--reason", "second", "--json").json
    assert second == {"changed": [], "unchanged": first["changed"], "still_open": [], "dry_run": False}
    assert keyctl.ok("revoke", key_id).stdout == f"Key 'ci' ({key_id}) was revoked already.\n"
    assert keyctl.ok("audit", "--jsonl").stdout == log
    (key,) = keyctl.keys()
    assert (key["revoked_by"], key["revoke_reason"]) == ("a", "first")


@pytest.mark.one_database
def test_a_dry_run_shows_what_would_change_and_changes_nothing(keyctl: Keyctl) -> None:
    raw, key_id = keyctl.create("ci")
    _, gone = keyctl.create("gone")
    keyctl.ok("revoke", "gone")
    log = keyctl.ok("audit", "--jsonl").stdout
    assert keyctl.ok("revoke", "ci", gone, "--dry-run").stdout.splitlines() == [
        f"Would revoke key 'ci' ({key_id}).",
        f"Key 'gone' ({gone}) was revoked already.",
    ]
    document = keyctl.ok("revoke", "ci", gone, "--dry-run", "--json").json
    assert document["dry_run"] is True
    assert [key["id"] for key in document["changed"]] == [key_id]
    assert [key["id"] for key in document["unchanged"]] == [gone]
    assert document["changed"][0]["status"] == "active"
    assert keyctl.opens(raw)
    assert keyctl.ok("audit", "--jsonl").stdout == log


@pytest.mark.one_database
def test_a_key_in_its_grace_under_the_same_name_is_pointed_out(keyctl: Keyctl) -> None:
    old, old_id = keyctl.create("ci")
    new = keyctl.ok("rotate", "ci").stdout.strip()
    revoked = keyctl.ok("revoke", new.split("_")[1])
    assert revoked.stderr.startswith(f"Mind: key {old_id}, also called 'ci', still opens until ")
    assert revoked.stderr.endswith(f": it is retiring. To end it: alphalens-keyctl revoke {old_id}\n")
    assert (keyctl.opens(old), keyctl.opens(new)) == (True, False)


@pytest.mark.one_database
def test_a_raw_key_on_stdin_names_its_key(keyctl: Keyctl) -> None:
    """Promise 1."""
    raw, key_id = keyctl.create("ci")
    forged = generate().reveal()
    for stdin in (forged.encode(), b"", b"ci\n", raw[:-1].encode()):
        refused = keyctl("revoke", "-", stdin=stdin)
        assert refused.status == (3 if stdin == forged.encode() else 2)
        assert raw[20:40] not in refused.stderr
    assert keyctl.opens(raw)
    assert keyctl.ok("revoke", "-", stdin=f"{raw}\r\n".encode()).stdout == f"Revoked key 'ci' ({key_id}).\n"
    assert not keyctl.opens(raw)


def test_every_live_status_can_be_revoked(keyctl: Keyctl, database: Database) -> None:
    now = datetime.now(UTC)
    put(database, "off", suspended_at=now)
    put(database, "past", expires_at=now - timedelta(days=1))
    put(database, "going", retires_at=now + timedelta(days=1))
    put(database, "left", retires_at=now - timedelta(days=1))
    put(database, "pending", activated_at=None, lease_until=now + timedelta(minutes=1))
    document = keyctl.ok("revoke", "off", "past", "going", "left", "pending", "--json").json
    assert [key["status"] for key in document["changed"]] == ["revoked"] * 5


@pytest.mark.one_database
def test_without_a_terminal_nothing_is_asked(keyctl: Keyctl) -> None:
    """Promise 11."""
    keyctl.create("ci")
    revoked = keyctl.ok("revoke", "ci", stdin=b"n\n")
    assert revoked.stderr == ""
    assert keyctl.keys()[0]["status"] == "revoked"


@pytest.mark.one_database
@pytest.mark.parametrize("option", ["--yes", "--dry-run"])
def test_on_a_terminal_nothing_is_asked_either_where_the_answer_is_clear(keyctl: Keyctl, option: str) -> None:
    keyctl.create("ci")
    shown = on_terminal(keyctl, "revoke", "ci", option)
    assert shown.status == 0
    assert "?" not in shown.text


@pytest.mark.one_database
def test_on_a_terminal_yes_revokes_and_the_question_keeps_off_stdout(keyctl: Keyctl) -> None:
    """Promise 10: stdout holds the result alone."""
    _, key_id = keyctl.create("ci")
    session = Session(keyctl, "revoke", "ci", elsewhere=("stdout",))
    session.wait_for("Revoke this key for good? [y/N]:")
    session.type(b"y\n")
    shown = session.end()
    assert shown.status == 0
    assert f"ci ({key_id}, active)" in shown.text
    assert keyctl.keys()[0]["status"] == "revoked"
    assert shown.stdout == f"Revoked key 'ci' ({key_id}).\n"


@pytest.mark.one_database
@pytest.mark.parametrize(
    ("keys", "status", "said"),
    [
        (b"n\n", 1, "error: not confirmed"),
        (b"\n", 1, "error: not confirmed"),
        (CTRL_D, 1, "error: not confirmed"),
        (CTRL_C, 130, "error: interrupted"),
    ],
    ids=["no", "return alone", "end of input", "Ctrl-C"],
)
def test_on_a_terminal_all_but_yes_changes_nothing(keyctl: Keyctl, keys: bytes, status: int, said: str) -> None:
    raw, _ = keyctl.create("ci")
    keyctl.create("ci2")
    log = keyctl.ok("audit", "--jsonl").stdout
    # Ctrl-C becomes a signal only on the controlling terminal.
    session = Session(keyctl, "revoke", "ci", "ci2", real=True)
    session.wait_for("Revoke these 2 keys for good? [y/N]:")
    session.type(keys)
    shown = session.end()
    assert shown.status == status
    assert said in shown.text
    assert "Traceback" not in shown.text
    assert keyctl.opens(raw)
    assert keyctl.ok("audit", "--jsonl").stdout == log
