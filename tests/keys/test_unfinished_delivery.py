"""Promise 2 after a kill: a key that a destination may hold opens, says where it was going, and is looked after by the
next attempt. The destination is a command that has the key and does not end."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from alphalens_keyctl.models import Action
from tests.support import fleets
from tests.support.answers import events, statuses
from tests.support.commands import Keyctl
from tests.support.databases import by_hand, one_database
from tests.support.faults import at_once
from tests.support.held_delivery import HeldDelivery
from tests.support.terminal import on_terminal

DESTINATION = "pipe-to sh"
DAY = timedelta(days=1)


def grace(key: dict[str, Any]) -> timedelta:
    """How long a key that was rotated out goes on, from now."""
    return datetime.fromisoformat(key["retires_at"]) - datetime.now(UTC)


def assert_a_day(key: dict[str, Any]) -> None:
    assert DAY - timedelta(minutes=2) < grace(key) <= DAY


@pytest.mark.one_database
def test_what_a_killed_rotation_left_opens_and_says_where_it_was_going(keyctl: Keyctl, tmp_path: Path) -> None:
    """Promise 2."""
    old, old_id = keyctl.create("ci")
    left = HeldDelivery(keyctl, tmp_path / "dead", "rotate", "ci").die()
    assert keyctl.opens(old)
    assert keyctl.opens(left.raw)
    found = {key["id"]: key for key in keyctl.keys()}
    assert {key_id: key["status"] for key_id, key in found.items()} == {old_id: "active", left.id: "delivering"}
    assert (found[left.id]["delivering_to"], found[old_id]["delivering_to"]) == (DESTINATION, None)
    assert (found[left.id]["activated_at"], found[left.id]["replaces"]) == (None, old_id)
    lines = [key for line in keyctl.ok("list", "--jsonl").stdout.splitlines() if left.id in (key := line)]
    assert len(lines) == 1
    assert f'"delivering_to": "{DESTINATION}"' in lines[0]
    said = f"{left.id} was on its way to {DESTINATION}: rotate 'ci' to finish, or create it anew\n"
    assert keyctl.ok("list").stderr == said
    assert said in on_terminal(keyctl, "list", width=200).text
    shown = keyctl.ok("show", left.id, "--json").json
    assert (shown["status"], shown["delivering_to"]) == ("delivering", DESTINATION)
    assert [key["id"] for key in shown["lineage"]] == [old_id, left.id]
    assert f"was on its way to {DESTINATION}" in keyctl.ok("show", left.id).stdout
    # The name still means the old key, and that is where people look.
    named = keyctl.ok("show", "ci", "--json").json
    assert named["id"] == old_id
    assert [key["id"] for key in named["lineage"]] == [old_id, left.id]
    assert events(keyctl, left.id) == ["create", "deliver"]


@pytest.mark.parametrize("dead", [one_database(1), 2])
def test_the_next_rotation_replaces_what_was_left_and_all_earlier_keys_retire_with_the_grace(
    keyctl: Keyctl, tmp_path: Path, dead: int
) -> None:
    """Promises 2 and 3."""
    old, old_id = keyctl.create("ci")
    left = [HeldDelivery(keyctl, tmp_path / str(number), "rotate", "ci").die() for number in range(dead)]
    lineage = [old_id, *(one.id for one in left)]
    done = keyctl.ok("rotate", "ci", "--json").json
    new_id = done["key"]["id"]
    found = {key["id"]: key for key in keyctl.keys()}
    assert {key_id: key["status"] for key_id, key in found.items()} == dict.fromkeys(lineage, "retiring") | {
        new_id: "active"
    }
    for key_id, after in zip(lineage, [*lineage[1:], new_id], strict=True):
        assert_a_day(found[key_id])
        assert found[key_id]["replaced_by"] == after
        assert found[after]["replaces"] == key_id
        assert [key["id"] for key in keyctl.ok("show", key_id, "--json").json["lineage"]] == [*lineage, new_id]
    assert done["previous"] == found[old_id]
    for raw in (old, *(one.raw for one in left), done["raw_key"]):
        assert keyctl.opens(raw)
    assert keyctl.ok("show", "ci", "--json").json["id"] == new_id
    assert events(keyctl, left[0].id) == ["create", "deliver", "rotate"]
    assert keyctl.ok("audit", "verify").status == 0


def test_a_grace_of_0_cuts_off_what_was_left_as_well(keyctl: Keyctl, tmp_path: Path) -> None:
    old, _ = keyctl.create("ci")
    left = HeldDelivery(keyctl, tmp_path / "dead", "rotate", "ci").die()
    new = keyctl.ok("rotate", "ci", "--grace", "0").stdout.strip()
    assert [keyctl.opens(raw) for raw in (old, left.raw, new)] == [False, False, True]


def test_a_suspended_leftover_holds_up_rotation_until_it_is_resumed_or_revoked(keyctl: Keyctl, tmp_path: Path) -> None:
    """An admin's decision is not undone by a job: what was suspended by hand does not retire, opening."""
    _, old_id = keyctl.create("ci")
    left = HeldDelivery(keyctl, tmp_path / "dead", "rotate", "ci").die()
    by_hand(
        keyctl.database_url, f"UPDATE api_key SET suspended_at = '2026-01-01 00:00:00.000000' WHERE id = '{left.id}'"
    )
    before = keyctl.keys()
    refused = keyctl("rotate", "ci", "--json")
    assert (refused.status, refused.stdout, refused.error["code"]) == (6, "", "wrong_state")
    assert left.id in refused.error["message"]
    assert keyctl.keys() == before
    assert not keyctl.opens(left.raw)
    by_hand(keyctl.database_url, f"UPDATE api_key SET suspended_at = NULL WHERE id = '{left.id}'")
    new_id = keyctl.ok("rotate", "ci", "--json").json["key"]["id"]
    assert statuses(keyctl) == {old_id: "retiring", left.id: "retiring", new_id: "active"}


def test_a_revoked_leftover_is_passed_over(keyctl: Keyctl, tmp_path: Path) -> None:
    old, old_id = keyctl.create("ci")
    left = HeldDelivery(keyctl, tmp_path / "dead", "rotate", "ci").die()
    keyctl.ok("revoke", left.id, "--yes")
    done = keyctl.ok("rotate", "ci", "--json").json
    assert statuses(keyctl) == {old_id: "retiring", left.id: "revoked", done["key"]["id"]: "active"}
    assert done["key"]["replaces"] == old_id
    assert [keyctl.opens(raw) for raw in (old, left.raw, done["raw_key"])] == [True, False, True]


def test_revoking_the_old_key_says_that_a_leftover_opens_and_frees_the_name(keyctl: Keyctl, tmp_path: Path) -> None:
    """Promise 5."""
    old, old_id = keyctl.create("ci")
    left = HeldDelivery(keyctl, tmp_path / "dead", "rotate", "ci").die()
    revoked = keyctl.ok("revoke", old_id, "--yes")
    assert f"Mind: key {left.id}, also called 'ci', still opens: it is delivering." in revoked.stderr
    assert [keyctl.opens(raw) for raw in (old, left.raw)] == [False, True]
    refused = keyctl("rotate", "ci", "--json")
    assert (refused.status, refused.error["code"]) == (6, "wrong_state")
    new, _ = keyctl.create("ci")
    assert keyctl.opens(new)
    keyctl.ok("revoke", left.id, "--yes")
    assert not keyctl.opens(left.raw)
    assert statuses(keyctl)[old_id] == "revoked"


def test_an_old_key_revoked_during_the_delivery_gets_no_successor(keyctl: Keyctl, tmp_path: Path) -> None:
    """Promise 5: a revocation is not undone by a rotation that was under way."""
    old, old_id = keyctl.create("ci", "--key-file", str(tmp_path / "key"))
    running = HeldDelivery(keyctl, tmp_path / "live", "rotate", "ci", "--json", "--key-file", str(tmp_path / "key"))
    keyctl.ok("revoke", old_id, "--yes")
    late = running.finish()
    assert (late.status, late.stdout, late.error["code"]) == (6, "", "conflict")
    assert old_id in late.error["message"]
    assert (tmp_path / "key").read_text() == f"{old}\n"
    assert not keyctl.opens(old)


@pytest.mark.parametrize("if_missing", [False, one_database(True)])
def test_create_after_a_killed_create_replaces_what_was_left(
    keyctl: Keyctl, tmp_path: Path, *, if_missing: bool
) -> None:
    """Promise 2."""
    left = HeldDelivery(keyctl, tmp_path / "dead", "create", "ci", "--owner", "ann").die()
    assert keyctl.opens(left.raw)
    assert statuses(keyctl) == {left.id: "delivering"}
    done = keyctl.ok("create", "CI", "--owner", "bob", "--json", *(["--if-missing"] if if_missing else [])).json
    new_id = done["key"]["id"]
    found = {key["id"]: key for key in keyctl.keys()}
    assert {key_id: key["status"] for key_id, key in found.items()} == {left.id: "retiring", new_id: "active"}
    assert_a_day(found[left.id])
    assert (found[new_id]["owner"], found[new_id]["name"], found[new_id]["replaces"]) == ("bob", "CI", left.id)
    assert (found[left.id]["owner"], found[left.id]["replaced_by"]) == ("ann", new_id)
    assert done["key"] == found[new_id]
    assert keyctl.opens(left.raw)
    assert keyctl.opens(done["raw_key"])
    if if_missing:
        again = keyctl.ok("create", "ci", "--if-missing", "--json").json
        assert (again["raw_key"], again["key"]["id"]) == (None, new_id)


def test_a_suspended_leftover_of_create_keeps_its_name(keyctl: Keyctl, tmp_path: Path) -> None:
    """Promise 5: what somebody suspended is not replaced by a job, which would let it open again while it retires."""
    left = HeldDelivery(keyctl, tmp_path / "dead", "create", "ci").die()
    keyctl.ok("suspend", left.id)
    before = keyctl.keys()
    for again in (("create", "ci"), ("create", "--from", fleets.write(tmp_path, "name\nci\n"))):
        refused = keyctl(*again)
        assert (refused.status, refused.stdout) == (6, ""), refused
        assert f"the name 'ci' belongs to key {left.id}" in refused.stderr
    assert keyctl.keys() == before
    assert not keyctl.opens(left.raw)


@pytest.mark.parametrize("several", [False, one_database(True)])
def test_the_log_says_which_key_a_new_one_took_over_from(keyctl: Keyctl, tmp_path: Path, *, several: bool) -> None:
    """Promise 6: the event of the new key holds all of its row, written one by one or with a fleet."""
    left = HeldDelivery(keyctl, tmp_path / "dead", "create", "ci").die()
    described = ("ci", "ops", "nightly build", '{"env": "prod"}', "2099-01-01")
    if several:
        quoted = ",".join(f'"{cell.replace(chr(34), 2 * chr(34))}"' for cell in described)
        keyctl.ok("create", "--from", fleets.write(tmp_path, f"name,owner,purpose,labels,expires\n{quoted}\n"))
    else:
        options = ("--owner", "ops", "--purpose", "nightly build", "--label", "env=prod", "--expires", "2099-01-01")
        keyctl.ok("create", "ci", *options)
    (new,) = (key for key in keyctl.keys() if key["id"] != left.id)
    created, *_ = keyctl.ok("audit", "--key", new["id"], "--json").json
    said = {name: value for name, value in created["detail"].items() if name not in ("origin", "row")}
    assert said == {name: new[name] for name in ("owner", "purpose", "labels", "expires_at", "replaces")}
    assert new["replaces"] == left.id
    assert (new["name"], new["created_by"], new["created_at"]) == ("ci", created["actor"], created["at"][:19] + "Z")


def test_create_twice_killed_leaves_one_lineage_that_a_third_create_ends(keyctl: Keyctl, tmp_path: Path) -> None:
    left = [HeldDelivery(keyctl, tmp_path / str(number), "create", "ci").die() for number in range(2)]
    new_id = keyctl.ok("create", "ci", "--json").json["key"]["id"]
    assert statuses(keyctl) == {left[0].id: "retiring", left[1].id: "retiring", new_id: "active"}
    lineage = [key["id"] for key in keyctl.ok("show", left[0].id, "--json").json["lineage"]]
    assert lineage == [left[0].id, left[1].id, new_id]
    assert keyctl("rotate", "ci", "--abort").status == 6


@pytest.mark.one_database
@pytest.mark.parametrize("condition", ["--if-older-than", "--if-expiring-within"])
def test_a_rotation_that_is_not_due_is_finished_all_the_same(keyctl: Keyctl, tmp_path: Path, condition: str) -> None:
    """A job that is run again after a kill ends where one run ends."""
    _, old_id = keyctl.create("ci")
    assert keyctl.ok("rotate", "ci", condition, "7d", "--json").json["rotated"] is False
    left = HeldDelivery(keyctl, tmp_path / "dead", "rotate", "ci").die()
    done = keyctl.ok("rotate", "ci", condition, "7d", "--json").json
    assert done["rotated"] is True
    assert statuses(keyctl) == {old_id: "retiring", left.id: "retiring", done["key"]["id"]: "active"}
    assert keyctl.ok("rotate", "ci", condition, "7d", "--json").json["rotated"] is False


@pytest.mark.parametrize("command", ["create", "rotate"])
def test_of_two_that_take_over_at_once_one_wins(keyctl: Keyctl, tmp_path: Path, command: str) -> None:
    """Promise 4."""
    if command == "rotate":
        keyctl.create("ci")
    left = HeldDelivery(keyctl, tmp_path / "dead", command, "ci").die()
    results = at_once(keyctl, (command, "ci", "--json"), (command, "ci", "--json"))
    won, lost = sorted(results, key=lambda result: result.status)
    assert (won.status, lost.status, lost.stdout) == (0, 6, ""), results
    found = statuses(keyctl)
    assert list(found.values()).count("active") == 1
    assert found[won.json["key"]["id"]] == "active"
    assert found[left.id] == "retiring"
    assert "delivering" not in found.values()


def test_a_delivery_that_runs_is_not_taken_over(keyctl: Keyctl, tmp_path: Path) -> None:
    """Promise 4."""
    keyctl.create("ci")
    rotating = HeldDelivery(keyctl, tmp_path / "rotate", "rotate", "ci", "--json")
    creating = HeldDelivery(keyctl, tmp_path / "create", "create", "new", "--json")
    for arguments, code in (
        (("rotate", "ci"), "lost_race"),
        (("rotate", "ci", "--if-older-than", "7d"), "lost_race"),
        (("rotate", "ci", "--abort"), "lost_race"),
        (("create", "new"), "name_taken"),
        (("create", "new", "--if-missing"), "name_taken"),
        (("rotate", "new"), "wrong_state"),
    ):
        refused = keyctl(*arguments, "--json")
        assert (refused.status, refused.stdout, refused.error["code"]) == (6, "", code), arguments
    for running in (rotating, creating):
        done = running.finish()
        assert done.status == 0, done
        assert (done.json["raw_key"], done.json["delivered_to"]) == (None, [DESTINATION])
        assert done.json["key"]["id"] == running.id
        assert keyctl.opens(running.raw)
        assert statuses(keyctl)[running.id] == "active"
    assert events(keyctl, rotating.id) == [
        action.removeprefix("key.") for action in (Action.CREATE, Action.DELIVER, Action.ACTIVATE)
    ]
