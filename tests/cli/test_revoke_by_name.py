"""`revoke`, `suspend` and `resume` of a name mean every key of that name; by its id one key is meant, and the others
are told of. Promises 2 and 5."""

from pathlib import Path

import pytest

from tests.support.answers import ids, refused, statuses
from tests.support.commands import Keyctl
from tests.support.databases import mostly_on_sqlite, one_database
from tests.support.held_delivery import HeldDelivery
from tests.support.raw_keys import key_id


def rotated(keyctl: Keyctl) -> tuple[str, str]:
    """The raw keys of a name that was rotated: the old one in its grace, and the current one."""
    old, _ = keyctl.create("ci")
    return old, keyctl.ok("rotate", "ci", "--grace", "7d").stdout.strip()


@pytest.mark.parametrize("options", mostly_on_sqlite([(), ("--quiet",), ("--json",)], on_both=[("--json",)]))
def test_a_name_that_was_revoked_opens_nothing(keyctl: Keyctl, options: tuple[str, ...]) -> None:
    """Promise 5: the raw key that leaked may be the one in its grace."""
    old, new = rotated(keyctl)
    before = [option for option in options if option == "--quiet"]
    done = keyctl.ok(*before, "revoke", "CI", "--yes", *[option for option in options if option == "--json"])
    assert not keyctl.opens(old)
    assert not keyctl.opens(new)
    if "--json" in options:
        assert ids(done.json["changed"]) == [key_id(new), key_id(old)]
        assert (done.json["unchanged"], done.json["still_open"]) == ([], [])
    events = [event for event in keyctl.ok("audit", "--json").json if event["action"] == "key.revoke"]
    assert {event["key_id"] for event in events} == {key_id(old), key_id(new)}
    assert keyctl.ok("audit", "verify").status == 0


@pytest.mark.parametrize("again", [one_database(False), True])
@pytest.mark.parametrize("verb", ["revoke", one_database("suspend")])
def test_an_id_means_one_key_and_the_others_of_its_name_are_told_of(keyctl: Keyctl, verb: str, again: bool) -> None:
    """Promise 5: who revokes a leaked key hears that another one opens as it did, each time and also under --quiet."""
    old, new = rotated(keyctl)
    if again:
        keyctl.ok(verb, key_id(new), "--yes")
    said = keyctl.ok("--quiet", verb, key_id(new), "--yes").stderr
    assert f"key {key_id(old)}, also called 'ci', still opens until " in said
    assert f"alphalens-keyctl {verb} {key_id(old)}" in said
    document = keyctl.ok(verb, key_id(new), "--yes", "--json")
    assert ids(document.json["still_open"]) == [key_id(old)]
    assert document.stderr == ""
    assert keyctl.opens(old)
    assert not keyctl.opens(new)


def test_a_name_is_suspended_and_resumed_as_a_whole(keyctl: Keyctl) -> None:
    """Promise 5."""
    old, new = rotated(keyctl)
    assert len(keyctl.ok("suspend", "ci", "--json").json["changed"]) == 2
    assert (keyctl.opens(old), keyctl.opens(new)) == (False, False)
    assert len(keyctl.ok("resume", "ci", "--json").json["changed"]) == 2
    assert (keyctl.opens(old), keyctl.opens(new)) == (True, True)
    keyctl.ok("suspend", key_id(old))
    done = keyctl.ok("resume", "ci", "--json").json
    assert (ids(done["changed"]), ids(done["unchanged"])) == ([key_id(old)], [key_id(new)])


def test_a_name_whose_rotation_was_killed_is_revoked_with_what_a_destination_may_hold(
    keyctl: Keyctl, tmp_path: Path
) -> None:
    """Promises 2 and 5."""
    old, _ = keyctl.create("ci")
    left = HeldDelivery(keyctl, tmp_path / "dead", "rotate", "ci").die()
    assert keyctl.opens(left.raw)
    keyctl.ok("revoke", "ci", "--yes")
    assert not keyctl.opens(left.raw)
    assert not keyctl.opens(old)


@pytest.mark.parametrize("command", ["create", "create --from", "rotate"])
def test_what_a_killed_rotation_left_of_a_revoked_key_retires_with_the_next_key_of_the_name(
    keyctl: Keyctl, tmp_path: Path, command: str
) -> None:
    """Promise 2: nobody would come back to it, since its predecessor is revoked; it would open for ever."""
    _, old_id = keyctl.create("ci")
    left = HeldDelivery(keyctl, tmp_path / "dead", "rotate", "ci").die()
    keyctl.ok("revoke", old_id)
    assert statuses(keyctl)[left.id] == "delivering"
    if command == "create --from":
        (tmp_path / "one.csv").write_text("name\nci\n")
        keyctl.ok("create", "--from", str(tmp_path / "one.csv"))
    else:
        keyctl.create("ci")
    found = {key["id"]: key for key in keyctl.keys()}
    assert found[left.id]["status"] == "retiring"
    if command == "rotate":
        keyctl.ok("rotate", "ci", "--grace", "0")
    current = [key for key in keyctl.keys() if key["status"] == "active"]
    assert len(current) == 1
    assert found[left.id]["retires_at"] is not None
    assert keyctl.ok("audit", "verify").status == 0


def test_a_name_is_not_created_while_a_rotation_of_its_revoked_key_runs(keyctl: Keyctl, tmp_path: Path) -> None:
    """Promise 2: two at once would put two keys into one destination."""
    _, old_id = keyctl.create("ci")
    running = HeldDelivery(keyctl, tmp_path / "running", "rotate", "ci")
    keyctl.ok("revoke", old_id)
    refused(keyctl, "name_taken", "create", "ci")
    assert running.finish().status == 6
    keyctl.ok("create", "ci")


@pytest.mark.parametrize("verb", ["revoke", one_database("suspend"), one_database("resume"), "rotate"])
def test_a_key_that_a_filter_beside_it_excludes_is_an_error_that_says_so(keyctl: Keyctl, verb: str) -> None:
    """Whoever names a key means it."""
    raw, named = keyctl.create("test", "--owner", "ops")
    keyctl.create("other", "--owner", "platform", "--label", "env=prod")
    if verb == "resume":
        keyctl.ok("suspend", "test")
    before = keyctl.keys()
    delivery = ("--jsonl",) if verb == "rotate" else ("--yes",)
    for reference, filters in (("test", ("--owner", "platform")), (named, ("--label", "env=prod"))):
        error = refused(keyctl, "wrong_state", verb, reference, "other", *filters, *delivery)
        assert f"key 'test' ({named}) is none of the keys " in error["message"]
        assert ("select keys here and set nothing" in error["hint"]) == (verb == "rotate")
    assert keyctl.keys() == before
    assert keyctl.opens(raw) == (verb != "resume")


@pytest.mark.parametrize(
    ("options", "code"),
    [
        one_database(("--owner", "ops", "--max", "1"), "too_many_keys"),
        one_database((), "too_many_keys"),
        (("--owner", "ops"), "key_in_use"),
    ],
)
def test_a_dry_run_shows_all_that_would_change_and_exits_as_the_real_run(
    keyctl: Keyctl, options: tuple[str, ...], code: str
) -> None:
    """What stops the real run is told after what it would have changed."""
    made = [keyctl.create(f"ci-{number}", "--owner", "ops") for number in range(3)]
    if code == "key_in_use":
        keyctl.create("left-out", "--owner", "platform")
        keyctl.ok("verify", "--record", stdin=made[0][0].encode())
    filters = options or ("--older-than", "1s")
    if not options:
        keyctl.ok("revoke", "ci-2", "--yes")
        filters = ("--status", "active")
    shown = keyctl("suspend", *filters, "--dry-run", "--json")
    assert (shown.status, shown.error["code"]) == (6, code)
    would = {key["name"] for key in shown.json["changed"]}
    assert would == {f"ci-{number}" for number in range(3 if options else 2)}
    text = keyctl("suspend", *filters, "--dry-run")
    assert text.status == 6
    assert all(f"Would suspend key '{name}'" in text.stdout for name in would)
    assert refused(keyctl, code, "suspend", *filters, "--yes")["message"] == shown.error["message"]
    assert {key["status"] for key in keyctl.keys()} <= {"active", "revoked"}
