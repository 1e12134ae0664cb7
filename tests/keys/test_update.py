"""What an update does to keys: nothing is lost beside a rotation, a revocation or another update, a name stays with its
lineage, and every verifier knows. Promises 4, 5, 6, 7 and 14."""

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest

from alphalens_keyctl import KeyVerifier
from alphalens_keyctl.database import Database
from alphalens_keyctl.keyformat import generate
from alphalens_keyctl.models import Reason
from tests.support import unguarded
from tests.support.answers import assert_failed, events, ids
from tests.support.commands import Keyctl
from tests.support.databases import one_database
from tests.support.faults import at_once, go_on, paused
from tests.support.freshness import NEVER, TOLD, until, wait_until_told
from tests.support.held_delivery import HeldDelivery
from tests.support.judge import judge
from tests.support.key_rows import put
from tests.support.web import serving, with_key

DAY: Final = timedelta(days=1)


def by_id(keyctl: Keyctl) -> dict[str, dict[str, Any]]:
    return {key["id"]: key for key in keyctl.keys()}


def said(keyctl: Keyctl, key_id: str) -> dict[str, Any]:
    """The detail of the last event of a key."""
    detail: dict[str, Any] = keyctl.ok("audit", "--key", key_id, "--json").json[-1]["detail"]
    return detail


# --- what is written, and its record --------------------------------------------------------------------------------


def test_each_field_is_set_and_taken_away_and_an_event_tells_before_and_after(keyctl: Keyctl) -> None:
    """Promise 6."""
    raw, key_id = keyctl.create("ci", "--owner", "old", "--label", "team=a", "--label", "env=prod")
    document = keyctl.ok(
        "--actor", "jo", "update", "CI", "--set-owner", "new", "--set-purpose", "nightly",
        "--set-expires", "2099-01-01",
        "--set-label", "team=b", "--unset", "label:env", "--unset", "label:none", "--reason", "moved", "--json",
    ).json  # fmt: skip
    assert list(document) == ["changed", "unchanged", "dry_run"]
    (key,) = document["changed"]
    assert document["changed"] == keyctl.keys()
    assert (key["owner"], key["purpose"], key["labels"]) == ("new", "nightly", {"team": "b"})
    assert key["expires_at"] == "2099-01-01T00:00:00Z"
    (event,) = keyctl.ok("audit", "--action", "key.update", "--json").json
    assert (event["actor"], event["key_id"], event["key_name"]) == ("jo", key_id, "ci")
    detail = event["detail"]
    assert detail["before"] == {
        "owner": "old", "purpose": None, "expires_at": None, "labels": {"team": "a", "env": "prod"},
    }  # fmt: skip
    assert detail["after"] == {
        "owner": "new", "purpose": "nightly", "expires_at": "2099-01-01T00:00:00Z", "labels": {"team": "b"},
    }  # fmt: skip
    assert detail["reason"] == "moved"
    keyctl.ok("update", key_id, *(part for what in ("owner", "purpose", "expires") for part in ("--unset", what)))
    (key,) = keyctl.keys()
    assert (key["owner"], key["purpose"], key["expires_at"]) == (None, None, None)
    assert keyctl.opens(raw)
    assert keyctl("audit", "verify").status == 0


def test_what_a_key_has_already_is_no_change_and_no_event(keyctl: Keyctl) -> None:
    _, key_id = keyctl.create("ci", "--owner", "ops", "--label", "a=b")
    log = keyctl.ok("audit", "--jsonl").stdout
    same = ("--set-owner", "ops", "--set-label", "a=b", "--unset", "purpose", "--set-name", "ci")
    done = keyctl.ok("update", "ci", *same, "--json").json
    assert (done["changed"], ids(done["unchanged"])) == ([], [key_id])
    assert keyctl.ok("audit", "--jsonl").stdout == log


def test_what_is_final_stays_as_it_is_and_nothing_else_changes_either(keyctl: Keyctl, database: Database) -> None:
    now = datetime.now(UTC)
    left = put(database, "left", owner="ops", retires_at=now - DAY)
    gone = put(database, "gone", owner="ops", revoked_at=now, revoked_by="sql")
    keyctl.create("ci", "--owner", "ops")
    before = keyctl.keys()
    for final in (left, gone):
        error = assert_failed(keyctl("update", "ci", final, "--set-owner", "new", "--json"), 6, "wrong_state")
        assert final in error["message"]
    by_filter = keyctl("update", "--status", "revoked", "--set-owner", "new", "--yes", "--json")
    assert_failed(by_filter, 6, "wrong_state")
    assert keyctl.keys() == before


def test_a_damaged_row_stays_as_it_is_and_others_change(keyctl: Keyctl, database: Database) -> None:
    """Promise 14."""
    _, good = keyctl.create("good", "--owner", "ops", "--label", "team=a")
    _, bad = keyctl.create("bad", "--owner", "ops")
    keyctl.create("other")
    broken = "'no object'" if database.one_writer else "'{\"a\": 1}'"
    unguarded.write(database, f"UPDATE api_key SET labels = {broken} WHERE id = '{bad}'")
    new = ("--set-owner", "new", "--set-label", "team=b")
    assert_failed(keyctl("update", bad, *new, "--json"), 6, "wrong_state")
    done = keyctl.ok("update", "--owner", "ops", *new, "--yes", "--json").json
    assert (ids(done["changed"]), ids(done["unchanged"])) == ([good], [bad])
    assert by_id(keyctl)[bad]["owner"] == "ops"
    assert keyctl.ok("update", "--owner", "ops", *new, "--yes").stdout == (
        f"Key 'bad' ({bad}) is damaged: left as it is.\n"
    )


@pytest.mark.one_database
def test_more_labels_than_a_key_can_have_are_refused_with_the_key(keyctl: Keyctl) -> None:
    labels = [part for number in range(31) for part in ("--label", f"k{number}=v")]
    _, key_id = keyctl.create("ci", *labels)
    keyctl.ok("update", "ci", "--set-label", "one=v")
    error = assert_failed(keyctl("update", "ci", "--set-label", "two=v", "--json"), 2, "invalid_input")
    assert key_id in error["message"]
    keyctl.ok("update", "ci", "--set-label", "two=v", "--unset", "label:one", "--set-label", "k3=w")


# --- names ----------------------------------------------------------------------------------------------------------


@pytest.mark.one_database
def test_a_new_name_obeys_the_rules_of_create(keyctl: Keyctl) -> None:
    _, key_id = keyctl.create("one")
    _, other = keyctl.create("Größe")
    keyctl.create("gone")
    keyctl.ok("revoke", "gone")
    for taken in ("größe", "GRÖSSE", other[:8], other):
        assert_failed(keyctl("update", "one", "--set-name", taken, "--json"), 6, "name_taken")
    assert [key["name"] for key in keyctl.keys() if key["id"] == key_id] == ["one"]
    keyctl.ok("update", "one", "--set-name", "gone")
    assert keyctl.ok("show", "gone", "--json").json["id"] == key_id
    assert keyctl("show", "one").status == 3
    keyctl.create("one")


@pytest.mark.one_database
@pytest.mark.parametrize("name", ["Ci", "Été"])
def test_another_spelling_of_the_same_name_is_taken(keyctl: Keyctl, name: str) -> None:
    """The database folds no letters beyond ASCII, and takes such a name all the same."""
    _, key_id = keyctl.create(name)
    keyctl.ok("rotate", name)
    for spelling in (name.upper(), name.lower(), name):
        done = keyctl.ok("update", name, "--set-name", spelling, "--json").json
        assert [key["name"] for key in done["changed"]] == [spelling] * 2
    assert_failed(keyctl("create", name.lower(), "--json"), 6, "name_taken")
    assert by_id(keyctl)[key_id]["name"] == name


def test_a_new_name_is_that_of_every_key_of_the_lineage_that_opens(keyctl: Keyctl, tmp_path: Path) -> None:
    """Promise 5: the new name revokes what the old name revoked."""
    first, first_id = keyctl.create("ci", "--owner", "ops")
    second = keyctl.ok("rotate", "ci").stdout.strip()
    left = HeldDelivery(keyctl, tmp_path / "dead", "rotate", "ci").die()
    done = keyctl.ok("update", "ci", "--set-name", "deploy", "--set-owner", "dev", "--json").json
    assert set(ids(done["changed"])) == {first_id, second.split("_")[1], left.id}
    # A key that was rotated out changes its name alone; what is being delivered is the copy of the current one.
    assert {key["id"]: key["owner"] for key in keyctl.keys()} == {
        first_id: "ops", second.split("_")[1]: "dev", left.id: "dev",
    }  # fmt: skip
    assert said(keyctl, first_id)["before"] == {"name": "ci"}
    assert all(map(keyctl.opens, (first, second, left.raw)))
    assert keyctl("show", "ci").status == 3
    # A key of the old name is another's.
    other, _ = keyctl.create("ci")
    assert len(keyctl.ok("revoke", "deploy", "--json").json["changed"]) == 3
    assert [keyctl.opens(each) for each in (first, second, left.raw, other)] == [False, False, False, True]


def test_a_key_that_was_rotated_out_keeps_the_name_of_its_successor(keyctl: Keyctl) -> None:
    _, old = keyctl.create("ci")
    new = keyctl.ok("rotate", "ci", "--json").json["key"]["id"]
    error = assert_failed(keyctl("update", old, "--set-name", "ci-old", "--json"), 6, "wrong_state")
    assert new in error["message"]
    assert {key["name"] for key in keyctl.keys()} == {"ci"}
    keyctl.ok("revoke", new)
    keyctl.ok("update", old, "--set-name", "ci-old")


def test_a_rotation_is_taken_back_under_the_new_name_when_the_old_key_had_retired(keyctl: Keyctl) -> None:
    """Promise 3: nobody else may have got the old name's key."""
    old, old_id = keyctl.create("Été")
    keyctl.ok("rotate", "été", "--grace", "0")
    keyctl.ok("update", "été", "--set-name", "ÉTÉ 2")
    other, _ = keyctl.create("été")
    keyctl.ok("rotate", "été 2", "--abort")
    key = keyctl.ok("show", "été 2", "--json").json
    assert (key["id"], key["name"], key["status"]) == (old_id, "ÉTÉ 2", "active")
    assert said(keyctl, old_id)["name_before"] == "Été"
    assert (keyctl.opens(old), keyctl.opens(other)) == (True, True)


def test_a_name_is_not_changed_under_a_delivery_that_runs(keyctl: Keyctl, tmp_path: Path) -> None:
    """Promise 4."""
    _, key_id = keyctl.create("ci")
    keyctl.create("other")
    delivery = HeldDelivery(keyctl, tmp_path / "held", "rotate", "ci")
    assert_failed(keyctl("update", "ci", "--set-name", "deploy", "--json"), 6, "lost_race")
    creating = HeldDelivery(keyctl, tmp_path / "new", "create", "fresh")
    assert_failed(keyctl("update", "other", "--set-name", "FRESH", "--json"), 6, "name_taken")
    assert (delivery.finish().status, creating.finish().status) == (0, 0)
    keyctl.ok("update", "ci", "--set-name", "deploy")
    assert {by_id(keyctl)[each]["name"] for each in (key_id, delivery.id)} == {"deploy"}


# --- beside others --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reference", ["name", one_database("id"), one_database("filter")])
def test_a_change_made_while_a_successor_is_delivered_is_not_lost(
    keyctl: Keyctl, tmp_path: Path, reference: str
) -> None:
    """Promise 4: the successor is a copy from before the change. A first one was killed, and replaced by the next."""
    _, key_id = keyctl.create("ci", "--owner", "old", "--expires", "90d")
    keyctl.create("other")
    left = HeldDelivery(keyctl, tmp_path / "dead", "rotate", "ci").die()
    delivery = HeldDelivery(keyctl, tmp_path / "held", "rotate", "ci")
    which = {"name": ["ci"], "id": [key_id], "filter": ["--owner", "old", "--yes"]}[reference]
    done = keyctl.ok("update", *which, "--set-owner", "new", "--set-label", "a=b", "--json").json
    assert set(ids(done["changed"])) == {key_id, left.id, delivery.id}
    assert delivery.finish().status == 0
    key = keyctl.ok("show", "ci", "--json").json
    assert (key["id"], key["owner"], key["labels"]) == (delivery.id, "new", {"a": "b"})
    assert events(keyctl, delivery.id) == ["create", "deliver", "update", "activate"]


def test_beside_rotations_at_once_a_change_stays_with_the_name(keyctl: Keyctl) -> None:
    """Promises 3 and 4: whoever is first, the current key has the new owner, and one rotation wins."""
    with judge(keyctl.database_url) as judging:
        for number in range(3):
            name = f"ci-{number}"
            keyctl.create(name, "--owner", "old")
            update = ("update", name, "--set-owner", "new")
            *rotations, updated = at_once(keyctl, ("rotate", name), ("rotate", name), update)
            assert sorted(result.status for result in rotations) == [0, 6]
            assert updated.status == 0
            current = judging.current(name)
            assert current is not None
            assert (current.owner, current.replaces is None) == ("new", False)


def test_of_two_updates_of_one_key_at_once_neither_is_lost(keyctl: Keyctl) -> None:
    with judge(keyctl.database_url) as judging:
        raw, key_id = keyctl.create("ci")
        labels = [f"k{number}=v" for number in range(4)]
        results = at_once(keyctl, *(("update", "ci", "--set-label", label) for label in labels))
        assert [result.status for result in results] == [0] * 4
        (key,) = keyctl.keys()
        assert key["labels"] == dict(label.split("=") for label in labels)
        assert events(keyctl, key_id) == ["create", "activate", *["update"] * 4]
        assert judging.opens(raw)


def test_of_several_that_want_one_name_at_once_one_gets_it(keyctl: Keyctl) -> None:
    with judge(keyctl.database_url) as judging:
        made = [keyctl.create(f"ci-{number}")[1] for number in range(3)]
        wishes = [("update", key_id, "--set-name", "best") for key_id in made]
        results = at_once(keyctl, *wishes, ("create", "BEST"))
        assert sorted(result.status for result in results) == [0, 6, 6, 6]
        assert judging.current("best") is not None
        assert sum(key["name"].lower() == "best" and key["status"] == "active" for key in keyctl.keys()) == 1


def test_a_key_that_was_revoked_meanwhile_stays_revoked_and_unchanged(keyctl: Keyctl, tmp_path: Path) -> None:
    """Promise 5: the update decides on what it reads in its own transaction."""
    raw, key_id = keyctl.create("ci", "--expires", "1d")
    update = paused(keyctl, tmp_path / "at", "before_begin", 2, "update", "ci", "--set-expires", "never", "--json")
    keyctl.ok("revoke", "ci")
    go_on(tmp_path / "at")
    assert_failed(update.wait(), 6, "wrong_state")
    assert not keyctl.opens(raw)
    assert events(keyctl, key_id) == ["create", "activate", "revoke"]
    with judge(keyctl.database_url):
        raws = [keyctl.create(f"ci-{number}")[0] for number in range(4)]
        for number in range(4):
            name = f"ci-{number}"
            *_, revocation = at_once(keyctl, ("update", name, "--set-expires", "9d"), ("revoke", name, "--yes"))
            assert revocation.status == 0
        assert not any(map(keyctl.opens, raws))


# --- expiry ---------------------------------------------------------------------------------------------------------


def soon() -> str:
    """An instant a second from now, as WHEN."""
    return (datetime.now(UTC) + timedelta(seconds=1)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def test_a_changed_expiry_counts_in_a_warm_verifier_as_a_revocation_does(
    keyctl: Keyctl, database: Database, database_url: str
) -> None:
    """Promise 5."""
    raw, past = generate(), generate()
    put(database, "ci", raw=raw, expires_at=datetime.now(UTC) + 9 * DAY)
    put(database, "past", raw=past, expires_at=datetime.now(UTC) - DAY)
    with KeyVerifier(database_url, max_staleness=NEVER) as verifier:
        assert verifier.verify(raw.reveal())
        wait_until_told(verifier, database_url, raw.reveal())
        assert verifier.verify(past.reveal()).reason is Reason.EXPIRED
        # An expired key is not final: whoever extends it a day too late has not lost it.
        keyctl.ok("update", "past", "--set-expires", "30d")
        until(verifier, past.reveal(), Reason.OK, within=TOLD)
        assert verifier.verify(raw.reveal())
        keyctl.ok("update", "ci", "--set-expires", soon(), "--set-owner", "new")
        deadline = time.monotonic() + TOLD
        while (key := verifier.verify(raw.reveal()).key) is None or key.owner != "new":
            # On SQLite the very next call knows.
            assert database_url.startswith("postgresql")
            assert time.monotonic() < deadline
            time.sleep(0.01)
        until(verifier, raw.reveal(), Reason.EXPIRED, within=1 + TOLD)


@pytest.mark.one_database
def test_a_changed_expiry_counts_over_serve(keyctl: Keyctl) -> None:
    """Promise 5, through what a server remembers."""
    raw, _ = keyctl.create("ci")

    def answers(status: int) -> bool:
        deadline = time.monotonic() + 1 + TOLD
        while served.ask("/", with_key(raw)).status != status:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        return True

    with serving(keyctl) as served:
        assert answers(204)
        keyctl.ok("update", "ci", "--set-expires", soon())
        assert answers(401)
        keyctl.ok("update", "ci", "--set-expires", "never")
        assert answers(204)


def test_a_new_expiry_does_not_resume_a_suspended_key_nor_lengthen_a_grace(keyctl: Keyctl, database: Database) -> None:
    now = datetime.now(UTC)
    off = put(database, "off", suspended_at=now - DAY, expires_at=now - DAY)
    going = put(database, "going", retires_at=now + DAY)
    keyctl.ok("update", off, going, "--set-expires", "90d")
    found = by_id(keyctl)
    assert found[off]["status"] == "suspended"
    assert datetime.fromisoformat(found[going]["retires_at"]) <= now + DAY
    assert found[going]["status"] == "retiring"
