"""`rotate`: a successor that is shown once, and an old key that works until its grace is over. Promises 3 and 4."""

from datetime import UTC, datetime, timedelta

import pytest

from alphalens_keyctl.database import Database
from tests.support.answers import K, reason
from tests.support.commands import Keyctl
from tests.support.databases import one_database
from tests.support.key_rows import change, put
from tests.support.moments import moment
from tests.support.raw_keys import RAW_KEY
from tests.support.terminal import on_terminal


@pytest.mark.one_database
def test_a_pipe_gets_the_new_key_alone_and_is_told_about_the_old_one(keyctl: Keyctl) -> None:
    """Promises 1 and 10."""
    old, old_id = keyctl.create("ci")
    rotated = keyctl.ok("rotate", "ci")
    new = rotated.stdout.removesuffix("\n")
    assert RAW_KEY.fullmatch(new)
    assert new != old
    first, second = rotated.stderr.splitlines()
    assert first == f"Rotated key 'ci'; the new id is {new.split('_')[1]}."
    retires_at = keyctl.ok("show", old_id, "--json").json["retires_at"]
    assert second == f"The old key {old_id} works for 24 hours more, until {retires_at}. It was never used."
    assert keyctl.opens(old)
    assert keyctl.opens(new)


def test_json_is_one_document_and_the_successor_keeps_what_the_key_was(keyctl: Keyctl) -> None:
    _, old_id = keyctl.create(
        "Été", "--owner", "ops", "--purpose", "deploys", "--label", "team=billing", "--label", "a=b"
    )
    before = keyctl.ok("show", "été", "--json").json
    rotated = keyctl.ok("rotate", "ÉTÉ", "--json")
    assert rotated.stdout.isascii()
    assert rotated.stderr == ""
    document = rotated.json
    assert list(document) == ["key", "raw_key", "delivered_to", "previous", "rotated"]
    assert (document["rotated"], document["delivered_to"]) == (True, ["stdout"])
    new, previous = document["key"], document["previous"]
    assert list(new) == list(previous) == K
    for field in ("name", "owner", "purpose", "labels", "expires_at"):
        assert new[field] == previous[field] == before[field]
    assert (new["status"], new["replaces"], new["replaced_by"]) == ("active", old_id, None)
    assert (previous["status"], previous["id"], previous["replaced_by"]) == ("retiring", old_id, new["id"])
    # What was printed before the change came true is what came true.
    assert keyctl.keys() == [new, previous]


@pytest.mark.parametrize(
    ("grace", "span"),
    [(None, timedelta(hours=24)), one_database("30m", timedelta(minutes=30)), one_database("2w", timedelta(weeks=2))],
)
def test_the_old_key_works_for_its_grace_and_no_longer(
    keyctl: Keyctl, database: Database, grace: str | None, span: timedelta
) -> None:
    """Promise 3."""
    old, old_id = keyctl.create("ci")
    document = keyctl.ok("rotate", "ci", "--json", *(["--grace", grace] if grace else [])).json
    assert moment(document["previous"]["retires_at"]) - moment(document["key"]["activated_at"]) == span
    assert keyctl.opens(old)
    change(database, old_id, retires_at=datetime.now(UTC))
    assert reason(keyctl, old) == "retired"
    assert keyctl.opens(document["raw_key"])


def test_a_grace_of_0_cuts_the_old_key_off_at_once(keyctl: Keyctl) -> None:
    old, old_id = keyctl.create("ci")
    rotated = keyctl.ok("rotate", "ci", "--grace", "0")
    assert f"The old key {old_id} stopped working just now." in rotated.stderr
    assert reason(keyctl, old) == "retired"
    assert keyctl.opens(rotated.stdout.strip())
    assert [key["status"] for key in keyctl.keys()] == ["active", "retired"]


def test_the_successor_lives_as_long_as_the_old_key_was_meant_to(keyctl: Keyctl, database: Database) -> None:
    _, old_id = keyctl.create("ci", "--expires", "7d")
    now = datetime.now(UTC)
    began = now - timedelta(days=5)
    change(database, old_id, created_at=began, activated_at=began, expires_at=began + timedelta(days=7))
    expires_at = moment(keyctl.ok("rotate", "ci", "--json").json["key"]["expires_at"])
    assert now + timedelta(days=7, seconds=-1) <= expires_at <= datetime.now(UTC) + timedelta(days=7)


def test_expires_overrides_the_lifetime(keyctl: Keyctl) -> None:
    keyctl.create("ci", "--expires", "7d")
    assert keyctl.ok("rotate", "ci", "--expires", "never", "--json").json["key"]["expires_at"] is None
    document = keyctl.ok("rotate", "ci", "--expires", "2097-01-31", "--json").json
    assert document["key"]["expires_at"] == "2097-01-31T00:00:00Z"


def test_if_older_than_rotates_only_a_key_active_for_longer(keyctl: Keyctl, database: Database) -> None:
    raw, key_id = keyctl.create("ci")
    log = keyctl.ok("audit", "--jsonl").stdout
    young = keyctl.ok("rotate", "ci", "--if-older-than", "30d")
    assert young.stdout == ""
    assert young.stderr == f"Nothing to do: key 'ci' ({key_id}) needs no rotation yet.\n"
    document = keyctl.ok("rotate", "ci", "--if-older-than", "30d", "--json").json
    assert [document[name] for name in ("raw_key", "delivered_to", "previous", "rotated")] == [None, [], None, False]
    assert document["key"] == keyctl.keys()[0]
    assert keyctl.ok("audit", "--jsonl").stdout == log
    change(database, key_id, activated_at=datetime.now(UTC) - timedelta(days=31))
    assert keyctl.ok("rotate", "ci", "--if-older-than", "30d", "--json").json["rotated"] is True
    assert keyctl.opens(raw)


def test_if_expiring_within_rotates_only_a_key_about_to_expire(keyctl: Keyctl) -> None:
    keyctl.create("never")
    keyctl.create("later", "--expires", "30d")
    keyctl.create("soon", "--expires", "5d")
    rotated = {
        name: keyctl.ok("rotate", name, "--if-expiring-within", "7d", "--json").json["rotated"]
        for name in ("never", "later", "soon")
    }
    assert rotated == {"never": False, "later": False, "soon": True}
    # Of two conditions one is enough.
    both = keyctl.ok("rotate", "later", "--if-expiring-within", "31d", "--if-older-than", "9w", "--json").json
    assert both["rotated"] is True


def test_a_revoked_or_pending_key_is_refused(keyctl: Keyctl, database: Database) -> None:
    _, revoked = keyctl.create("ci")
    keyctl.ok("revoke", "ci")
    # Its lease runs, so that it counts as being delivered by another process.
    pending = put(database, "pending", activated_at=None, lease_until=datetime.now(UTC) + timedelta(minutes=1))
    log = keyctl.ok("audit", "--jsonl").stdout
    for reference in (revoked, "ci", pending):
        refused = keyctl("rotate", reference, "--json")
        assert (refused.status, refused.stdout, refused.error["code"]) == (6, "", "wrong_state")
    assert keyctl.ok("audit", "--jsonl").stdout == log


def test_the_id_of_a_key_that_was_rotated_already_is_refused(keyctl: Keyctl) -> None:
    """Promise 4."""
    _, old_id = keyctl.create("ci")
    successor = keyctl.ok("rotate", old_id, "--json").json["key"]["id"]
    refused = keyctl("rotate", old_id, "--json")
    assert (refused.status, refused.stdout, refused.error["code"]) == (6, "", "lost_race")
    assert successor in refused.error["message"]
    # The name means the successor, which may be rotated in its turn.
    keyctl.ok("rotate", "ci", "--grace", "0")
    assert keyctl("rotate", successor).status == 6
    assert keyctl("rotate", old_id).status == 6
    assert [key["status"] for key in keyctl.keys()] == ["active", "retired", "retiring"]


def test_an_expired_key_can_be_rotated_and_is_retired_then(keyctl: Keyctl, database: Database) -> None:
    old, old_id = keyctl.create("ci")
    change(database, old_id, expires_at=datetime.now(UTC) - timedelta(days=1))
    rotated = keyctl.ok("rotate", "ci", "--expires", "never")
    assert f"The old key {old_id} had expired and opens nothing." in rotated.stderr
    assert reason(keyctl, old) == "retired"
    assert keyctl.opens(rotated.stdout.strip())


@pytest.mark.one_database
def test_it_says_who_used_the_old_key_last_and_when_its_own_expiry_comes_first(
    keyctl: Keyctl, database: Database
) -> None:
    _, old_id = keyctl.create("ci")
    soon = (datetime.now(UTC) + timedelta(hours=2)).replace(microsecond=0)
    used = datetime.now(UTC) - timedelta(days=3, hours=1)
    change(database, old_id, expires_at=soon, last_used_at=used, use_count=5)
    said = keyctl.ok("rotate", "ci", "--expires", "never").stderr
    assert f"until {soon:%Y-%m-%dT%H:%M:%SZ}" in said
    assert "It was last used 3 days ago, 5 times in all." in said


@pytest.mark.one_database
@pytest.mark.parametrize("width", [40, 60, 80, 200])
def test_on_a_terminal_the_raw_key_stands_whole_on_a_line_of_its_own(keyctl: Keyctl, width: int) -> None:
    """Promise 1."""
    _, old_id = keyctl.create("ci")
    shown = on_terminal(keyctl, "rotate", "ci", width=width)
    assert shown.status == 0
    raw = next(line for line in shown.raw.split(b"\r\n") if line.startswith(b"alk_")).decode()
    assert RAW_KEY.fullmatch(raw)
    assert len(RAW_KEY.findall(shown.text)) == 1
    assert f"The old key {old_id} works for 24 hours" in " ".join(shown.text.split())
    assert keyctl.opens(raw)


@pytest.mark.one_database
def test_the_key_may_be_named_by_its_raw_key_on_stdin(keyctl: Keyctl) -> None:
    old, old_id = keyctl.create("ci")
    rotated = keyctl.ok("rotate", "-", "--json", stdin=f"{old}\n".encode())
    assert rotated.json["previous"]["id"] == old_id


def test_each_rotation_is_in_the_log(keyctl: Keyctl) -> None:
    """Promise 6."""
    _, old_id = keyctl.create("ci")
    document = keyctl.ok("--actor", "jo", "rotate", "ci", "--json").json
    new_id = document["key"]["id"]
    events = keyctl.ok("audit", "--limit", "3", "--json").json
    assert [(event["action"], event["key_id"]) for event in events] == [
        ("key.create", new_id), ("key.rotate", old_id), ("key.activate", new_id),
    ]  # fmt: skip
    assert {event["actor"] for event in events} == {"jo"}
    assert events[0]["detail"]["replaces"] == old_id
    assert events[1]["detail"]["successor"] == new_id
    assert events[1]["detail"]["retires_at"] == document["previous"]["retires_at"]
