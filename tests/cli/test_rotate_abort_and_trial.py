"""`rotate --abort`, which takes an unused successor back, and `rotate --check`, which tries the new key last and
takes the rotation back when that fails. Promises 2, 3, 5 and 6."""

import shlex
import signal
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from alphalens_keyctl import KeyVerifier
from alphalens_keyctl.database import Database
from alphalens_keyctl.models import Reason
from tests.support.answers import assert_failed, events, reason, statuses
from tests.support.commands import Keyctl, Process
from tests.support.databases import one_database
from tests.support.destinations import Destinations
from tests.support.freshness import NEVER, until, wait_until_told
from tests.support.held_delivery import HeldDelivery
from tests.support.key_rows import change
from tests.support.terminal import on_terminal
from tests.support.uses import use
from tests.support.waiting import WAIT, wait_for


@pytest.fixture
def destinations(tmp_path: Path) -> Destinations:
    return Destinations(tmp_path / "destinations")


def shell(script: str, *arguments: object) -> str:
    """A command line for `--check` and `--pipe-to`; `$0`, `$1`… are the arguments."""
    return shlex.join(["sh", "-c", script, *map(str, arguments)])


@pytest.mark.parametrize("grace", ["24h", "0"])
@pytest.mark.parametrize("named_by", ["name", one_database("old id"), one_database("new id")])
def test_abort_makes_the_old_key_current_again(keyctl: Keyctl, grace: str, named_by: str) -> None:
    """Promise 3."""
    old, old_id = keyctl.create("ci")
    before = keyctl.keys()
    done = keyctl.ok("rotate", "ci", "--grace", grace, "--json").json
    new_id = done["key"]["id"]
    reference = {"name": "CI", "old id": old_id, "new id": new_id[:8]}[named_by]
    aborted = keyctl.ok("rotate", "--abort", reference, "--json")
    assert aborted.stderr == ""
    document = aborted.json
    assert list(document) == ["key", "discarded", "rotated"]
    assert ([document["key"]], document["rotated"]) == (before, False)
    assert [(key["id"], key["status"], key["revoke_reason"]) for key in document["discarded"]] == [
        (new_id, "revoked", "aborted")
    ]
    assert keyctl.keys() == [*document["discarded"], document["key"]]
    assert (reason(keyctl, old), reason(keyctl, done["raw_key"])) == ("ok", "revoked")
    assert keyctl.ok("show", "ci", "--json").json["id"] == old_id
    assert events(keyctl, old_id) == ["create", "activate", "rotate", "abort"]
    assert events(keyctl, new_id) == ["create", "activate", "abort", "discard"]
    logged = keyctl.ok("audit", "--action", "key.abort", "--json").json
    assert [event["detail"]["reason"] for event in logged] == ["aborted", "aborted"]
    assert (logged[0]["detail"]["predecessor"], logged[1]["detail"]["successor"]) == (old_id, new_id)
    assert keyctl.ok("audit", "verify").status == 0
    # And the next rotation is one like any other.
    assert keyctl.ok("rotate", "ci", "--json").json["previous"]["id"] == old_id


@pytest.mark.one_database
def test_people_are_told_what_abort_did_and_which_destinations_hold_the_wrong_key(
    keyctl: Keyctl, destinations: Destinations
) -> None:
    _, old_id = keyctl.create("ci")
    keyctl.ok("rotate", "ci", *destinations.options, "--no-print")
    new_id = destinations.held()["key"].split("_")[1]
    aborted = keyctl.ok("rotate", "ci", "--abort")
    assert aborted.stdout == ""
    assert aborted.stderr.splitlines() == [
        f"Discarded key {new_id}, which nobody had used.",
        f"Key 'ci' is {old_id} again.",
        f"Mind: the discarded key had been delivered to {', '.join(destinations.names)}; the old one belongs there.",
    ]


def test_abort_of_a_rotation_until_used_leaves_no_end_behind(keyctl: Keyctl) -> None:
    old, old_id = keyctl.create("ci")
    new = keyctl.ok("rotate", "ci", "--until-used", "--grace", "0").stdout.strip()
    keyctl.ok("rotate", "ci", "--abort")
    assert (reason(keyctl, old), reason(keyctl, new)) == ("ok", "revoked")
    assert keyctl.ok("show", old_id, "--json").json["retires_at"] is None
    # An ordinary rotation afterwards waits for nobody.
    keyctl.ok("rotate", "ci", "--grace", "1h")
    member = keyctl.ok("show", "ci", "--json").json["rotation"]["old"][0]
    assert (member["id"], member["awaits_first_use"]) == (old_id, False)


def test_abort_gives_an_expired_key_its_name_back(keyctl: Keyctl, database: Database) -> None:
    old, old_id = keyctl.create("ci", "--expires", "7d")
    change(database, old_id, expires_at=datetime.now(UTC) - timedelta(hours=1))
    new = keyctl.ok("rotate", "ci").stdout.strip()
    document = keyctl.ok("rotate", "ci", "--abort", "--json").json
    assert (document["key"]["id"], document["key"]["status"]) == (old_id, "expired")
    assert (reason(keyctl, old), reason(keyctl, new)) == ("expired", "revoked")


def test_abort_refuses_a_successor_in_use(keyctl: Keyctl) -> None:
    old, _ = keyctl.create("ci")
    new = keyctl.ok("rotate", "ci").stdout.strip()
    use(keyctl, old)
    use(keyctl, new, times=2)
    before, log = keyctl.keys(), keyctl.ok("audit", "--jsonl").stdout
    said = assert_failed(keyctl("rotate", "ci", "--abort", "--json"), 6, "wrong_state")
    assert "is in use: 2 so far" in said["message"]
    assert keyctl.keys() == before
    assert keyctl.ok("audit", "--jsonl").stdout == log


@pytest.mark.one_database
def test_abort_refuses_where_there_is_nothing_to_take_back(keyctl: Keyctl, tmp_path: Path) -> None:
    keyctl.create("never-rotated")
    keyctl.create("revoked")
    keyctl.ok("revoke", "revoked", "--yes")
    keyctl.create("aborted")
    keyctl.ok("rotate", "aborted")
    keyctl.ok("rotate", "aborted", "--abort")
    _, old_id = keyctl.create("old-revoked")
    keyctl.ok("rotate", "old-revoked")
    keyctl.ok("revoke", old_id, "--yes")
    keyctl.create("new-revoked")
    keyctl.ok("rotate", "new-revoked")
    keyctl.ok("revoke", "new-revoked", "--yes")
    keyctl.create("running")
    running = HeldDelivery(keyctl, tmp_path / "live", "rotate", "running")
    before, log = keyctl.keys(), keyctl.ok("audit", "--jsonl").stdout
    for reference, code in (
        ("never-rotated", "wrong_state"),
        ("revoked", "wrong_state"),
        ("aborted", "wrong_state"),
        ("old-revoked", "wrong_state"),
        (old_id, "wrong_state"),
        ("new-revoked", "wrong_state"),
        ("running", "lost_race"),
        (running.id, "lost_race"),
    ):
        assert_failed(keyctl("rotate", reference, "--abort", "--json"), 6, code)
    assert keyctl("rotate", "nobody", "--abort").status == 3
    assert keyctl("rotate", "aborted", "running", "--abort").status == 2
    assert keyctl("rotate", "--abort").status == 2
    assert keyctl.keys() == before
    assert keyctl.ok("audit", "--jsonl").stdout == log
    assert running.finish().status == 0


@pytest.mark.parametrize("dead", [one_database(1), 2])
def test_abort_discards_successors_whose_delivery_died(keyctl: Keyctl, tmp_path: Path, dead: int) -> None:
    """Promise 2."""
    old, old_id = keyctl.create("ci")
    left = [HeldDelivery(keyctl, tmp_path / str(number), "rotate", "ci").die() for number in range(dead)]
    document = keyctl.ok("rotate", left[0].id, "--abort", "--json").json
    assert (document["key"]["id"], document["key"]["status"]) == (old_id, "active")
    assert [key["id"] for key in document["discarded"]] == [one.id for one in left]
    assert statuses(keyctl) == {old_id: "active"} | {one.id: "revoked" for one in left}
    assert keyctl.opens(old)
    assert not any(keyctl.opens(one.raw) for one in left)
    assert_failed(keyctl("rotate", "ci", "--abort", "--json"), 6, "wrong_state")


def test_abort_of_the_rotation_that_replaced_a_dead_one_leaves_only_the_old_key(keyctl: Keyctl, tmp_path: Path) -> None:
    """Promise 2: no key stays alive that nobody holds."""
    old, old_id = keyctl.create("ci")
    left = HeldDelivery(keyctl, tmp_path / "dead", "rotate", "ci").die()
    new = keyctl.ok("rotate", "ci").stdout.strip()
    document = keyctl.ok("rotate", "ci", "--abort", "--json").json
    assert document["key"]["id"] == old_id
    assert {key["id"] for key in document["discarded"]} == {left.id, new.split("_")[1]}
    assert [reason(keyctl, raw) for raw in (old, left.raw, new)] == ["ok", "revoked", "revoked"]
    assert keyctl.ok("rotate", "ci", "--json").json["previous"]["id"] == old_id


def test_verifiers_see_an_abort_at_once(keyctl: Keyctl, database_url: str) -> None:
    """Promise 5."""
    old, _ = keyctl.create("ci")
    new = keyctl.ok("rotate", "ci", "--grace", "0").stdout.strip()
    with KeyVerifier(database_url, max_staleness=NEVER, usage="off") as service:
        assert service.verify(new)
        wait_until_told(service, database_url, new)
        assert service.verify(old).reason is Reason.RETIRED
        keyctl.ok("rotate", "ci", "--abort")
        until(service, new, Reason.REVOKED, within=5.0)
        assert service.verify(old)


@pytest.mark.one_database
def test_a_check_gets_the_bytes_that_a_destination_gets(keyctl: Keyctl, tmp_path: Path) -> None:
    keyctl.create("ci")
    piped, checked = tmp_path / "piped", tmp_path / "checked"
    commands = ("--pipe-to", shell('cat >"$0"', piped), "--check", shell('cat >"$0"', checked))
    for option, end in (("--pipe-newline", b"\n"), ("--no-pipe-newline", b"")):
        raw = keyctl.ok("rotate", "ci", *commands, option).stdout.rstrip("\n")
        assert (piped.read_bytes(), checked.read_bytes()) == (raw.encode() + end,) * 2


@pytest.mark.one_database
def test_a_check_gets_the_new_key_on_its_stdin_and_is_told_which_while_that_key_is_current(
    keyctl: Keyctl, tmp_path: Path
) -> None:
    """Promise 1: on stdin, never in the environment."""
    old, old_id = keyctl.create("ci", "--owner", "ops")
    folder = tmp_path / "check"
    folder.mkdir()
    check = shell('cat >"$0/stdin"; env >"$0/environment"; "$1" -m alphalens_keyctl list --json >"$0/list"',
                  folder, _python())  # fmt: skip
    done = keyctl.ok("rotate", "ci", "--check", check, "--json")
    assert done.stderr == ""
    raw, new_id = done.json["raw_key"], done.json["key"]["id"]
    assert (folder / "stdin").read_text() == f"{raw}\n"
    environment = dict(line.partition("=")[::2] for line in (folder / "environment").read_text().splitlines())
    told = {name: value for name, value in environment.items() if name.startswith("ALPHALENS_KEY_")}
    assert told == {"ALPHALENS_KEY_NAME": "ci", "ALPHALENS_KEY_ID": new_id, "ALPHALENS_KEY_OWNER": "ops"}
    assert raw not in (folder / "environment").read_text()
    seen = (folder / "list").read_text()
    assert f'"id": "{new_id}", "name": "ci", "status": "active"' in seen
    assert f'"id": "{old_id}", "name": "ci", "status": "retiring"' in seen
    assert keyctl.opens(old)
    assert keyctl.opens(raw)
    assert events(keyctl, new_id) == ["create", "activate"]


def _python() -> str:
    import sys

    return sys.executable


@pytest.mark.parametrize("grace", [pytest.param(("--grace", "0"), marks=pytest.mark.one_database), ("--until-used",)])
def test_a_check_that_fails_takes_the_rotation_back_and_restores_every_destination(
    keyctl: Keyctl, destinations: Destinations, grace: tuple[str, ...]
) -> None:
    """Promises 2, 3 and 6."""
    old = keyctl.ok("create", "ci", *destinations.options).stdout.strip()
    destinations.env_file.write_text(f"# mine\nTOKEN={old}\nOTHER=1\n")
    held, before = destinations.held(), keyctl.keys()
    check = shell('cat >"$0"; echo refused by the service; exit 4', destinations.key_file.parent.with_name("tried"))
    said = assert_failed(
        keyctl("rotate", "ci", *grace, *destinations.options, "--no-print", "--check", check, "--json"),
        7,
        "delivery_failed",
    )
    assert said["message"] == "check sh: ended with 4: refused by the service"
    assert "The rotation was taken back: the old key is current again, the new one opens nothing." in said["hint"]
    tried = destinations.key_file.parent.with_name("tried").read_text().strip()
    assert destinations.held() == held
    assert (reason(keyctl, old), reason(keyctl, tried)) == ("ok", "revoked")
    new, *rest = keyctl.keys()
    assert rest == before
    assert (new["id"], new["revoke_reason"]) == (tried.split("_")[1], "check_failed")
    assert events(keyctl, before[0]["id"]) == ["create", "deliver", "activate", "rotate", "abort"]
    assert events(keyctl, new["id"]) == ["create", "deliver", "activate", "abort", "discard"]
    keyctl.ok("rotate", "ci", *destinations.options, "--check", "cat")


def test_a_failed_check_leaves_the_new_key_open_where_a_command_may_hold_it_and_the_old_one_is_unknown(
    keyctl: Keyctl, tmp_path: Path
) -> None:
    """Promise 3: the destination that the command wrote to must not be left with a key that opens nothing."""
    old, old_id = keyctl.create("ci")
    held = tmp_path / "held"
    failed = keyctl(
        "rotate", "ci", "--no-print", "--pipe-to", shell('cat >"$0"', held), "--check", "false", "--json"
    )  # fmt: skip
    said = assert_failed(failed, 7, "delivery_failed")
    new_id = held.read_text().split("_")[1]
    assert f"A destination may hold the new key {new_id}, so it still opens" in said["hint"]
    assert statuses(keyctl) == {new_id: "delivering", old_id: "active"}
    assert keyctl.opens(old)
    assert keyctl.opens(held.read_text())
    done = keyctl.ok("rotate", "ci", "--json").json
    assert statuses(keyctl) == {done["key"]["id"]: "active", new_id: "retiring", old_id: "retiring"}


@pytest.mark.one_database
def test_a_check_that_is_no_command_or_never_ends(keyctl: Keyctl) -> None:
    old, _ = keyctl.create("ci")
    before = keyctl.keys()
    assert_failed(keyctl("rotate", "ci", "--check", "no-such-command-anywhere", "--json"), 7, "delivery_failed")
    assert_failed(keyctl("rotate", "ci", "--check", "", "--json"), 2, "usage")
    assert keyctl.keys() == before
    hung = keyctl("rotate", "ci", "--check", "sleep 60", "--pipe-timeout", "0.3", "--json")
    assert (hung.status, hung.error["message"]) == (7, "check sleep: did not end within 0.3 seconds")
    assert statuses(keyctl)[before[0]["id"]] == "active"
    assert keyctl.opens(old)
    assert not keyctl.opens(hung.json["raw_key"])


@pytest.mark.one_database
def test_a_terminal_that_showed_the_key_is_told_that_it_opens_nothing(keyctl: Keyctl) -> None:
    old, _ = keyctl.create("ci")
    shown = on_terminal(keyctl, "rotate", "ci", "--check", "false")
    assert shown.status == 7
    assert "error: check false: ended with 1" in shown.text
    assert "the old key is current again, the new one opens nothing" in " ".join(shown.text.split())
    assert keyctl.opens(old)


class Checking:
    """A rotation whose check has the new key and waits."""

    def __init__(self, keyctl: Keyctl, destinations: Destinations, folder: Path) -> None:
        folder.mkdir()
        self._folder = folder
        waiting = (
            'cat >"$0/got" && mv "$0/got" "$0/raw" && i=0 && '
            f'while [ ! -e "$0/go" ] && [ $i -lt {int(WAIT * 50)} ]; do sleep 0.02; i=$((i+1)); done'
        )
        self.process: Process = keyctl.start(
            "rotate",
            "ci",
            "--no-print",
            *destinations.options,
            "--grace",
            "0",
            "--check",
            shell(waiting, folder),
            "--json",
        )
        wait_for((folder / "raw").exists, "the trial was never run")
        self.raw = (folder / "raw").read_text().strip()

    def go_on(self) -> None:
        (self._folder / "go").touch()


def test_a_kill_in_mid_check_leaves_a_rotation_that_is_done(
    keyctl: Keyctl, destinations: Destinations, tmp_path: Path
) -> None:
    """Promise 2: the new key is where it belongs and current; only whether it is any good was not asked."""
    old = keyctl.ok("create", "ci", *destinations.options).stdout.strip()
    checking = Checking(keyctl, destinations, tmp_path / "check")
    checking.process.kill()
    assert checking.process.wait().status == -signal.SIGKILL
    checking.go_on()
    destinations.assert_hold(checking.raw)
    assert (reason(keyctl, old), reason(keyctl, checking.raw)) == ("retired", "ok")
    assert list(statuses(keyctl).values()) == ["active", "retired"]
    # The admin decides: it can still be taken back, or be rotated.
    keyctl.ok("rotate", "ci", "--abort")
    assert (reason(keyctl, old), reason(keyctl, checking.raw)) == ("ok", "revoked")


@pytest.mark.one_database
def test_ctrl_c_in_mid_check_takes_the_rotation_back(
    keyctl: Keyctl, destinations: Destinations, tmp_path: Path
) -> None:
    old = keyctl.ok("create", "ci", *destinations.options).stdout.strip()
    held, before = destinations.held(), keyctl.keys()
    checking = Checking(keyctl, destinations, tmp_path / "check")
    checking.process.kill(signal.SIGINT)
    said = assert_failed(checking.process.wait(), 130, "interrupted")
    assert "The rotation was taken back" in said["hint"]
    assert destinations.held() == held
    assert [key for key in keyctl.keys() if key["status"] != "revoked"] == before
    assert (reason(keyctl, old), reason(keyctl, checking.raw)) == ("ok", "revoked")


def test_a_key_revoked_in_mid_check_stays_revoked(keyctl: Keyctl, destinations: Destinations, tmp_path: Path) -> None:
    """Promise 5."""
    keyctl.ok("create", "ci", *destinations.options)
    old_id = keyctl.keys()[0]["id"]
    checking = Checking(keyctl, destinations, tmp_path / "check")
    keyctl.ok("revoke", old_id, "--yes")
    checking.process.kill(signal.SIGINT)
    failed = checking.process.wait()
    assert failed.status == 130
    assert "could not be taken back" in failed.error["hint"]
    assert statuses(keyctl)[old_id] == "revoked"
    # There is no old key to go back to: the new one stays, and stays where it is.
    destinations.assert_hold(checking.raw)
    assert keyctl.opens(checking.raw)


@pytest.mark.one_database
def test_a_check_with_several_keys_takes_back_only_the_one_that_fails(keyctl: Keyctl, tmp_path: Path) -> None:
    ids = {name: keyctl.create(name)[1] for name in ("a", "b", "c")}
    check = shell('cat >"$0/$ALPHALENS_KEY_NAME"; [ "$ALPHALENS_KEY_NAME" != b ]', tmp_path)
    done = keyctl("rotate", "a", "b", "c", "--jsonl", "--check", check)
    assert done.status == 1
    assert done.error["message"].startswith(f"1 of 3 rotations failed: 'b' ({ids['b']}): check sh: ended with 1")
    found = statuses(keyctl)
    assert {name: found[key_id] for name, key_id in ids.items()} == {"a": "retiring", "b": "active", "c": "retiring"}
    opened = {name: keyctl.opens((tmp_path / name).read_text()) for name in ids}
    assert opened == {"a": True, "b": False, "c": True}
