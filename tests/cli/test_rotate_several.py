"""`rotate` of several keys: each for itself, by name or filter, with a destination that fits more than one. Promises 2,
3 and 10."""

import json
import os
import shlex
import signal
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from alphalens_keyctl.database import Database
from tests.support.answers import assert_failed, events, statuses
from tests.support.commands import Keyctl, Result
from tests.support.databases import by_hand, one_database
from tests.support.destinations import FIND_PROGRAM
from tests.support.key_rows import change
from tests.support.raw_keys import RAW_KEY
from tests.support.waiting import WAIT, wait_for


def store(folder: Path, script: str = "") -> str:
    """A `--pipe-to` that keeps each key, with what it was told of it, in a file by the key's name."""
    keep = 'cat >"$0/$ALPHALENS_KEY_NAME"; echo "$ALPHALENS_KEY_ID $ALPHALENS_KEY_OWNER" >>"$0/$ALPHALENS_KEY_NAME"'
    return shlex.join(["sh", "-c", f"{script} {keep}", str(folder)])


def kept(folder: Path) -> dict[str, tuple[str, str]]:
    """What `store` kept: name → raw key, and "id owner"."""
    found = {path.name: path.read_text().splitlines() for path in folder.iterdir()}
    return {name: (lines[0], lines[1].strip()) for name, lines in found.items()}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "store"
    folder.mkdir()
    return folder


def documents(result: Result) -> list[dict[str, object]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


@pytest.mark.one_database
def test_a_command_is_run_for_each_key_and_told_which(keyctl: Keyctl, folder: Path) -> None:
    old = {name: keyctl.create(name, "--owner", f"of {name}") for name in ("a", "b", "c")}
    done = keyctl.ok("rotate", "a", old["b"][1], "c"[:1], "--pipe-to", store(folder))
    assert done.stdout == ""
    found = kept(folder)
    assert set(found) == {"a", "b", "c"}
    for name, (raw, told) in found.items():
        assert told == f"{raw.split('_')[1]} of {name}"
        assert keyctl.opens(raw)
        assert statuses(keyctl)[old[name][1]] == "retiring"
    lines = done.stderr.splitlines()
    assert lines[0] == f"1 of 3: rotated key 'a'; the new id is {found['a'][0].split('_')[1]}"
    assert lines[-1] == "3 of 3 done."
    assert len(lines) == 4
    quiet = keyctl.ok("--quiet", "rotate", "a", "b", "--pipe-to", store(folder))
    assert (quiet.stdout, quiet.stderr) == ("", "")


@pytest.mark.one_database
def test_json_lines_can_be_used_line_by_line(keyctl: Keyctl, folder: Path) -> None:
    """Promise 10."""
    old = {name: keyctl.create(name)[1] for name in ("a", "b")}
    done = keyctl.ok("rotate", "a", "b", "--jsonl")
    assert done.stderr == ""
    assert done.stdout.isascii()
    for document, name in zip(documents(done), old, strict=True):
        assert list(document) == ["key", "raw_key", "delivered_to", "previous", "rotated"]
        raw, previous = document["raw_key"], document["previous"]
        assert isinstance(raw, str)
        assert isinstance(previous, dict)
        assert keyctl.opens(raw)
        assert (previous["id"], document["rotated"], document["delivered_to"]) == (old[name], True, ["stdout"])
    both = documents(keyctl.ok("rotate", "a", "b", "--jsonl", "--pipe-to", store(folder)))
    assert [document["delivered_to"] for document in both] == [["pipe-to sh", "stdout"]] * 2
    assert [document["raw_key"] for document in both] == [kept(folder)[name][0] for name in ("a", "b")]
    silent = keyctl.ok("rotate", "a", "b", "--jsonl", "--no-print", "--pipe-to", store(folder))
    assert [document["raw_key"] for document in documents(silent)] == [None, None]
    assert not RAW_KEY.search(silent.stdout)
    one = documents(keyctl.ok("rotate", "a", "--jsonl"))
    assert [document["rotated"] for document in one] == [True]


@pytest.mark.one_database
def test_each_line_is_there_before_the_next_key_is_rotated(keyctl: Keyctl, tmp_path: Path) -> None:
    """A reader that acts on a line as it comes finds that key current."""
    for name in ("a", "b"):
        keyctl.create(name)
    waiting = f'i=0; while [ ! -e "$0/go" ] && [ $i -lt {int(WAIT * 50)} ]; do sleep 0.02; i=$((i+1)); done'
    script = f'cat >/dev/null; [ "$ALPHALENS_KEY_NAME" = a ] || {{ : >"$0/b"; {waiting}; }}'
    wait = shlex.join(["sh", "-c", script, str(tmp_path)])
    reader, writer = os.pipe()
    process = keyctl.start("rotate", "a", "b", "--jsonl", "--pipe-to", wait, stdout=writer)
    os.close(writer)
    with os.fdopen(reader) as lines:
        first = json.loads(lines.readline())
        wait_for((tmp_path / "b").exists, "the second key was never rotated")
        assert statuses(keyctl)[first["key"]["id"]] == "active"
        assert keyctl.opens(first["raw_key"])
        (tmp_path / "go").touch()
        assert json.loads(lines.readline())["rotated"] is True
    assert process.wait().status == 0


def test_filters_choose_as_in_list_and_leave_out_what_cannot_be_rotated(
    keyctl: Keyctl, database: Database, folder: Path
) -> None:
    ids = {name: keyctl.create(name, "--owner", "ops")[1] for name in ("web-1", "web-2", "db-1", "web-off", "web-gone")}
    keyctl.create("web-other", "--owner", "dev")
    by_hand(
        keyctl.database_url,
        f"UPDATE api_key SET suspended_at = '2026-01-01 00:00:00.000000' WHERE id = '{ids['web-off']}'",
    )
    keyctl.ok("revoke", "web-gone", "--yes")
    keyctl.ok("rotate", "--name", "web-*", "--owner", "ops", "--pipe-to", store(folder))
    assert set(kept(folder)) == {"web-1", "web-2"}
    for path in folder.iterdir():
        path.unlink()
    # Named and filtered: all that are named have to fit, or none is rotated.
    change(database, ids["db-1"], created_at=datetime.now(UTC) - timedelta(days=40))
    assert keyctl("rotate", "db-1", "web-1", "--older-than", "30d", "--pipe-to", store(folder)).status == 6
    assert kept(folder) == {}
    keyctl.ok("rotate", "db-1", "--older-than", "30d", "--pipe-to", store(folder))
    assert set(kept(folder)) == {"db-1"}
    one = documents(keyctl.ok("rotate", "web-1", "--owner", "ops", "--jsonl"))
    assert len(one) == 1


@pytest.mark.one_database
def test_no_match_is_no_failure(keyctl: Keyctl, folder: Path) -> None:
    keyctl.create("ci")
    before = keyctl.keys()
    for options in (("--pipe-to", store(folder)), ("--jsonl",)):
        none = keyctl.ok("rotate", "--name", "nothing-*", *options)
        assert none.stdout == ""
    assert keyctl.keys() == before
    assert kept(folder) == {}


@pytest.mark.one_database
def test_a_key_named_more_than_once_is_rotated_once(keyctl: Keyctl, folder: Path) -> None:
    raw, key_id = keyctl.create("ci")
    done = keyctl.ok("rotate", "ci", "CI", key_id, key_id[:7], "--pipe-to", store(folder))
    assert "1 of 1 done." in done.stderr
    assert sorted(statuses(keyctl).values()) == ["active", "retiring"]
    assert keyctl.opens(raw)


@pytest.mark.one_database
def test_what_does_not_fit_several_keys_is_refused_before_anything_happens(keyctl: Keyctl, folder: Path) -> None:
    for name in ("a", "b"):
        keyctl.create(name)
    before, log = keyctl.keys(), keyctl.ok("audit", "--jsonl").stdout
    key_file, pipe = str(folder / "key"), store(folder)
    for arguments in (
        ("a", "b", "--key-file", key_file),
        ("a", "b", "--env-file", key_file, "--jsonl"),
        ("--name", "*", "--key-file", key_file, "--pipe-to", pipe),
        ("a", "--jsonl", "--key-file", key_file),
        ("a", "b", "--pipe-to", pipe, "--json"),
        ("--owner", "x", "--json"),
        ("a", "b"),
        ("a", "b", "--no-print"),
        ("a", "b", "--jsonl", "--no-print"),
        ("--name", "*"),
        (),
        ("--pipe-to", pipe),
        ("--jsonl",),
        ("a", "b", "--json", "--jsonl"),
    ):
        refused = keyctl("rotate", *arguments)
        assert (refused.status, refused.stdout) == (2, ""), (arguments, refused)
    # One that does not exist: none is rotated.
    assert_failed(keyctl("rotate", "a", "nobody", "--jsonl"), 3, "key_not_found")
    assert keyctl.keys() == before
    assert keyctl.ok("audit", "--jsonl").stdout == log
    assert kept(folder) == {}


@pytest.mark.parametrize("jsonl", [False, one_database(True)])
def test_one_that_fails_keeps_none_of_the_others_from_its_successor(
    keyctl: Keyctl, folder: Path, *, jsonl: bool
) -> None:
    """Promises 2 and 3."""
    old = {name: keyctl.create(name) for name in ("a", "b", "c")}
    refuse = 'if [ "$ALPHALENS_KEY_NAME" = b ]; then echo no room for b; exit 1; fi;'
    done = keyctl("rotate", "a", "b", "c", "--pipe-to", store(folder, refuse), *(["--jsonl"] if jsonl else []))
    assert done.status == 1
    message = f"1 of 3 rotations failed: 'b' ({old['b'][1]}): pipe-to sh: ended with 1: no room for b"
    if jsonl:
        assert (done.error["code"], done.error["message"]) == ("some_failed", message)
        assert len(done.stdout.splitlines()) == 2
        assert old["b"][1] not in done.stdout
    else:
        assert done.stdout == ""
        assert f"error: {message}" in done.stderr
        assert "2 of 3: failed: 'b'" in done.stderr
        assert "3 of 3: rotated key 'c'" in done.stderr
    found = {key["id"]: key for key in keyctl.keys()}
    assert [found[old[name][1]]["status"] for name in ("a", "b", "c")] == ["retiring", "active", "retiring"]
    assert [key["status"] for key in found.values() if key["name"] == "b"] == ["revoked", "active"]
    assert set(kept(folder)) == {"a", "c"}
    assert all(keyctl.opens(raw) for raw, _ in [*old.values(), *kept(folder).values()])


def test_conditions_hold_for_each_key(keyctl: Keyctl, database: Database, folder: Path) -> None:
    _, old_id = keyctl.create("old")
    _, young_id = keyctl.create("young")
    change(database, old_id, activated_at=datetime.now(UTC) - timedelta(days=31))
    done = keyctl.ok("rotate", "old", "young", "--if-older-than", "30d", "--pipe-to", store(folder))
    assert set(kept(folder)) == {"old"}
    assert f"2 of 2: key 'young' ({young_id}) needs no rotation yet" in done.stderr
    lines = documents(keyctl.ok("rotate", "old", "young", "--if-older-than", "30d", "--jsonl"))
    assert [(line["rotated"], line["raw_key"], line["previous"]) for line in lines] == [(False, None, None)] * 2


@pytest.mark.parametrize("at", ["b", one_database("c")])
def test_a_kill_in_the_middle_leaves_whole_rotations_and_the_next_run_ends_the_rest(
    keyctl: Keyctl, folder: Path, tmp_path: Path, at: str
) -> None:
    """Promise 2."""
    old = {name: keyctl.create(name) for name in ("a", "b", "c")}
    kill = f'{FIND_PROGRAM}; cat >"$0/../struck"; kill -KILL $program'
    strike = f'if [ "$ALPHALENS_KEY_NAME" = {at} ]; then {kill}; exit 0; fi;'
    killed = keyctl("rotate", "--name", "*", "--pipe-to", store(folder, strike))
    assert killed.status == -signal.SIGKILL
    done = {name: number for number, name in enumerate("abc") if name < at}
    found = statuses(keyctl)
    for name in old:
        line = [key["status"] for key in keyctl.keys() if key["name"] == name][::-1]
        expected = ["retiring", "active"] if name in done else ["active", "delivering"] if name == at else ["active"]
        assert line == expected, (name, found)
    assert set(kept(folder)) == set(done)
    everybody = [*(raw for raw, _ in old.values()), *(raw for raw, _ in kept(folder).values())]
    struck = (tmp_path / "struck").read_text().strip()
    assert all(keyctl.opens(raw) for raw in (*everybody, struck))
    again = keyctl("rotate", "--name", "*", "--if-older-than", "1h", "--pipe-to", store(folder))
    assert again.status == 0, again
    # What was half done is finished; what was not begun is not due yet; what was done is done.
    assert set(kept(folder)) == {*done, at}
    left = struck.split("_")[1]
    assert events(keyctl, left) == ["create", "deliver", "rotate"]
    assert statuses(keyctl)[left] == "retiring"
    assert all(keyctl.opens(raw) for raw in (*everybody, struck, kept(folder)[at][0]))


@pytest.mark.one_database
def test_a_dry_run_shows_what_would_be_rotated_and_changes_nothing(keyctl: Keyctl) -> None:
    """By name and by filter, for people and for programs; no destination has to be named."""
    made = {name: keyctl.create(name, "--owner", "ops")[1] for name in ("billing", "ci")}
    keyctl.create("other")
    before = keyctl.keys()
    for choice in (("--owner", "ops"), ("billing", "ci")):
        text = keyctl.ok("rotate", *choice, "--dry-run").stdout
        assert sorted(text.splitlines()) == [f"Would rotate key '{name}' ({key_id})." for name, key_id in made.items()]
        document = keyctl.ok("rotate", *choice, "--dry-run", "--json").json
        assert {key["id"] for key in document["changed"]} == set(made.values())
        assert (document["unchanged"], document["dry_run"]) == ([], True)
    not_due = keyctl.ok("rotate", "billing", "--if-older-than", "30d", "--dry-run", "--json").json
    assert (not_due["changed"], [key["name"] for key in not_due["unchanged"]]) == ([], ["billing"])
    assert keyctl("rotate", "--dry-run").status == 2
    assert keyctl("rotate", "--abort", "ci", "--dry-run").status == 2
    assert keyctl.keys() == before
