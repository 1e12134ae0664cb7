"""How the raw keys of `create --from FILE` leave: all of them or none. Promises 1, 2 and 11, on real processes."""

import json
import os
import select
import signal
import stat
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select as sql_select

from alphalens_keyctl.database import Database
from alphalens_keyctl.keyformat import RawKey
from alphalens_keyctl.keys import bulk_file, bulk_issuance
from alphalens_keyctl.models import Key, key_table
from alphalens_keyctl.moments import utc_now
from tests.support.callers import House
from tests.support.commands import Keyctl
from tests.support.databases import one_database
from tests.support.faults import at, fault, go_on, paused
from tests.support.fleets import NAMES, THREE, Store, end_the_lease, piped, raws_of, write
from tests.support.fork_server import CLOSED
from tests.support.judge import Judge, judge
from tests.support.terminal import Session

# The raw keys on stdout.


@pytest.mark.parametrize("gone", [one_database("closed"), "full", one_database("reader gone")])
def test_a_stdout_that_does_not_take_the_keys_leaves_none_that_opens(keyctl: Keyctl, fleet: str, gone: str) -> None:
    """Promise 2."""
    if gone == "closed":
        done = keyctl("create", "--from", fleet, stdout=CLOSED)
    else:
        reading, writing = os.pipe() if gone == "reader gone" else (None, os.open("/dev/full", os.O_WRONLY))
        if reading is not None:
            os.close(reading)
        done = keyctl("create", "--from", fleet, stdout=writing)
        os.close(writing)
    assert done.status == 7
    assert "None of the new keys was activated" in done.stderr
    assert {(key["status"], key["revoke_reason"]) for key in keyctl.keys()} == {("revoked", "delivery_failed")}
    assert list(raws_of(keyctl.ok("create", "--from", fleet))) == NAMES, "the names are free at once"


@pytest.mark.one_database
def test_a_disk_that_is_full_in_the_middle_leaves_none_that_opens(keyctl: Keyctl, tmp_path: Path) -> None:
    """Promise 2: part of the keys stands in the file."""
    fleet = write(tmp_path, "name\n" + "".join(f"service {number}\n" for number in range(300)))
    reading, writing = os.pipe()
    process = keyctl.start("create", "--from", fleet, stdout=writing)
    os.close(writing)
    begun = b""
    while len(begun) < 30_000:
        begun += os.read(reading, 1000)
    os.close(reading)
    done = process.wait()
    assert done.status == 7
    shown = [json.loads(line)["raw_key"] for line in begun.decode().splitlines()[:-1]]
    assert len(shown) > 20
    with judge(keyctl.database_url) as judging:
        assert not any(judging.opens(raw) for raw in shown[:5])
        assert all(key.status == "revoked" for key in judging.every_key())


@pytest.mark.one_database
def test_in_github_actions_every_key_is_masked_before_it_is_shown(keyctl: Keyctl, fleet: str) -> None:
    environment = {"GITHUB_ACTIONS": "true", "GITHUB_REPOSITORY": "a/b", "GITHUB_RUN_ID": "7"}
    done = keyctl.ok("create", "--from", fleet, environment=environment)
    assert done.stderr.splitlines()[:3] == [f"::add-mask::{raw}" for raw in raws_of(done).values()]


# Killed.


@pytest.mark.parametrize(
    ("point", "nth", "come"),
    [
        ("before_commit", 1, "nothing"),
        ("after_commit", 1, "pending"),
        one_database("before_write", 1, "pending"),
        one_database("during_write", 1, "pending"),
        one_database("after_write", 1, "pending"),
        ("before_commit", 2, "pending"),
        ("after_commit", 2, "active"),
    ],
)
def test_killed_around_the_hand_out_all_or_none_open_and_a_later_command_cleans_up(
    keyctl: Keyctl, fleet: str, point: str, nth: int, come: str
) -> None:
    """Promise 2. The lease is a minute; here it is cut short by hand."""
    killed = keyctl("create", "--from", fleet, before=fault(at, point, nth, "kill"))
    assert killed.status == -signal.SIGKILL
    with judge(keyctl.database_url) as judging:
        judging.wait_until_alone()
        found = judging.every_key()
        assert [key.status for key in found] == ([] if come == "nothing" else [come] * 3)
        shown = [line for line in killed.stdout.splitlines() if line.endswith("}")]
        for line in shown:
            assert judging.opens(json.loads(line)["raw_key"]) == (come == "active")
        if come == "pending":
            waiting = keyctl("create", "--from", fleet)
            assert waiting.status == 6, "for a minute it may still be running"
            assert "which another process is delivering" in waiting.stderr
            end_the_lease(judging)
            keyctl.ok("list")
            assert {(key.status, key.revoke_reason) for key in judging.every_key()} == {("revoked", "abandoned")}
        again = keyctl("create", "--from", fleet)
        assert again.status == (6 if come == "active" else 0)
        assert all(judging.opens(raw) for raw in raws_of(again).values())


def test_a_run_that_is_slow_but_alive_is_not_taken_for_dead_by_others(
    keyctl: Keyctl, fleet: str, tmp_path: Path
) -> None:
    process = paused(keyctl, tmp_path / "pause", "before_write", 1, "create", "--from", fleet)
    keyctl.ok("list")
    assert keyctl("create", "ci").status == 6
    go_on(tmp_path / "pause")
    done = process.wait()
    assert done.status == 0
    assert all(keyctl.opens(raw) for raw in raws_of(done).values())


def test_a_key_that_was_revoked_during_the_hand_out_takes_the_others_with_it(
    keyctl: Keyctl, fleet: str, tmp_path: Path
) -> None:
    """Promise 5: all or none, and revoked is revoked."""
    process = paused(keyctl, tmp_path / "pause", "before_write", 1, "create", "--from", fleet)
    keyctl.ok("revoke", "search")
    go_on(tmp_path / "pause")
    done = process.wait()
    assert done.status == 6
    assert not any(keyctl.opens(raw) for raw in raws_of(done).values())
    assert {key["status"] for key in keyctl.keys()} == {"revoked"}


# A command for each key.


@pytest.mark.one_database
def test_the_command_runs_for_each_key_and_is_told_which_it_is(keyctl: Keyctl, fleet: str, store: Store) -> None:
    done = piped(keyctl, fleet, store, environment=store.environment())
    assert (done.status, done.stdout, done.stderr) == (0, "", "Created 3 keys.\n")
    assert all(keyctl.opens(raw) for raw in store.raws.values())
    assert set(store.raws) == set(NAMES)
    ids = {key["name"]: key["id"] for key in keyctl.keys()}
    assert store.told == [["billing", ids["billing"], "ops"], ["search", ids["search"], ""], ["ci", ids["ci"], "ops"]]
    assert {key["status"] for key in keyctl.keys()} == {"active"}
    assert {tuple(event["detail"].get("delivered_to", ())) for event in keyctl.ok("audit", "--json").json} == {
        (), ("pipe-to store-key",),
    }  # fmt: skip


@pytest.mark.parametrize(
    "then", ["exit 3", *map(one_database, ("kill -9 $$", 'printf "%s" "$raw" >&2; exit 1', "sleep 60"))],
    ids=["exits 3", "is killed", "says the key", "hangs"],
)  # fmt: skip
def test_when_the_third_command_fails_no_key_opens_and_the_names_are_free(
    keyctl: Keyctl, fleet: str, store: Store, then: str
) -> None:
    """Promises 1, 2 and 11."""
    limit = ("--pipe-timeout", "1") if then.startswith("sleep") else ()
    done = piped(keyctl, fleet, store, *limit, environment=store.environment(then))
    assert (done.status, done.stdout) == (7, "")
    assert "pipe-to store-key" in done.stderr
    assert set(store.raws) == set(NAMES)
    assert not any(raw in done.stderr for raw in store.raws.values())
    assert not any(keyctl.opens(raw) for raw in store.raws.values())
    assert {(key["status"], key["revoke_reason"]) for key in keyctl.keys()} == {("revoked", "delivery_failed")}
    assert piped(keyctl, fleet, store, environment=store.environment()).status == 0
    assert all(keyctl.opens(raw) for raw in store.raws.values())
    assert keyctl("audit", "verify").status == 0


@pytest.mark.one_database
def test_ctrl_c_while_a_command_runs_ends_it_and_leaves_none(keyctl: Keyctl, fleet: str, store: Store) -> None:
    """Promise 2. What the command started ends with it: nobody has the FIFO open any more."""
    os.mkfifo(store.folder / ".life")
    life = os.open(store.folder / ".life", os.O_RDONLY | os.O_NONBLOCK)
    arguments = ("create", "--from", fleet, "--no-print", "--pipe-to", str(store.command))
    process = keyctl.start(
        *arguments, environment=store.environment("exec 9> $STORE/.life; touch $STORE/.runs; sleep 60", at="search")
    )
    store.wait_for(".runs")
    process.kill(signal.SIGINT)
    done = process.wait()
    assert (done.status, done.stdout) == (130, "")
    assert "None of the new keys was activated" in done.stderr
    assert set(store.raws) == {"billing", "search"}
    assert not any(keyctl.opens(raw) for raw in store.raws.values())
    assert select.select([life], [], [], 30)[0]
    assert os.read(life, 1) == b""
    os.close(life)
    assert piped(keyctl, fleet, store, environment=store.environment()).status == 0


def test_ctrl_c_before_the_keys_are_shown_leaves_none(keyctl: Keyctl, fleet: str, tmp_path: Path) -> None:
    """Promise 2."""
    process = paused(keyctl, tmp_path / "pause", "before_write", 1, "create", "--from", fleet)
    process.kill(signal.SIGINT)
    done = process.wait()
    assert done.status == 130
    # What was in the buffer may still come out; it opens nothing.
    assert not any(keyctl.opens(raw) for raw in raws_of(done).values())
    assert "None of the new keys was activated" in done.stderr
    assert {(key["status"], key["revoke_reason"]) for key in keyctl.keys()} == {("revoked", "delivery_failed")}
    assert list(raws_of(keyctl.ok("create", "--from", fleet))) == NAMES


def test_killed_while_commands_run_every_destination_holds_a_key_that_opens_and_the_next_run_starts_over(
    keyctl: Keyctl, fleet: str, store: Store
) -> None:
    """Promise 2: a store that got its key works at every instant, before the next run, during it and after it."""
    arguments = ("create", "--from", fleet, "--no-print", "--pipe-to", str(store.command))
    process = keyctl.start(*arguments, environment=store.environment("touch $STORE/.runs; sleep 20", at="search"))
    store.wait_for(".runs")
    process.kill(signal.SIGKILL)
    assert process.wait().status == -signal.SIGKILL
    with judge_of_deliveries(keyctl) as judging:
        judging.wait_until_alone()
        first = store.raws
        assert set(first) == {"billing", "search"}
        assert all(judging.opens(raw) for raw in first.values())
        assert {(key.status, key.delivering_to) for key in judging.every_key()} == {
            ("delivering", "pipe-to store-key"),
        }  # fmt: skip
        waiting = piped(keyctl, fleet, store, environment=store.environment())
        assert waiting.status == 6, "for as long as its lease holds it may still be running"
        end_the_lease(judging)
        keyctl.ok("list")
        assert all(judging.opens(raw) for raw in first.values()), "no other command takes a key from its store"
        assert piped(keyctl, fleet, store, "--dry-run", environment=store.environment()).status == 0
        failed = piped(keyctl, fleet, store, environment=store.environment("exit 1", at="billing"))
        assert failed.status == 7
        assert judging.opens(first["search"]), "nobody gave its store another"
        assert piped(keyctl, fleet, store, environment=store.environment()).status == 0
        assert all(judging.opens(raw) for raw in (*first.values(), *store.raws.values()))
        current = {name: judging.current(name) for name in NAMES}
        assert {name: key and (key.id, key.status) for name, key in current.items()} == {
            name: (raw.split("_")[1], "active") for name, raw in store.raws.items()
        }
        states = sorted(key.status for key in judging.every_key())
        assert states == ["active"] * 3 + ["retiring"] * 3 + ["revoked"] * 3


def judge_of_deliveries(keyctl: Keyctl) -> Any:
    """A `Judge` that does not end with the account of events, which knows no deliveries that were started over."""
    from contextlib import closing

    class Quiet(Judge):
        def close(self) -> None:
            self.database.close()

    assert keyctl.database_url is not None
    return closing(Quiet(keyctl.database_url))


def test_what_a_run_lends_for_itself_is_minutes_and_not_a_day(keyctl: Keyctl, tmp_path: Path, store: Store) -> None:
    """A thousand commands may take a minute each; a run that was killed must not hold the names for so long."""
    fleet = write(tmp_path, "name\nfirst\n" + "".join(f"service {number}\n" for number in range(1200)))
    arguments = ("create", "--from", fleet, "--no-print", "--pipe-to", str(store.command))
    process = keyctl.start(*arguments, environment=store.environment("touch $STORE/.runs; sleep 20", at="first"))
    store.wait_for(".runs")
    process.kill(signal.SIGKILL)
    process.wait()
    with judge_of_deliveries(keyctl) as judging:
        longest = {"sqlite": "datetime('now', '+5 minutes')", "postgresql": "now() + interval '5 minutes'"}[
            judging.kind
        ]
        assert judging.scalar(f"SELECT count(*) FROM api_key WHERE lease_until < {longest}") == 1201


def test_a_run_that_another_took_for_dead_does_not_say_that_it_succeeded(
    keyctl: Keyctl, fleet: str, store: Store
) -> None:
    """Promise 4, for a fleet: a machine that slept for longer than its lease."""
    arguments = ("create", "--from", fleet, "--no-print", "--pipe-to", str(store.command))
    sleeps = "touch $STORE/.runs; while [ ! -e $STORE/.go ]; do sleep 0.05; done"
    asleep = keyctl.start(*arguments, environment=store.environment(sleeps, at="search"))
    store.wait_for(".runs")
    with judge_of_deliveries(keyctl) as judging:
        end_the_lease(judging)
        taken_over = keyctl("create", "--from", fleet)
        assert taken_over.status == 0, taken_over
        (store.folder / ".go").touch()
        done = asleep.wait()
        assert (done.status, done.stdout) == (6, "")
        assert "Created" not in done.stderr
        for name, raw in raws_of(taken_over).items():
            current = judging.current(name)
            assert current is not None
            assert (current.id, current.status) == (raw.split("_")[1], "active")


def test_the_lease_is_renewed_while_commands_run(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run with more commands than its lease lasts is not dead. Here every command takes longer than the interval."""
    monkeypatch.setattr(bulk_issuance, "_RENEWAL", 0.0)
    ends: list[Any] = []

    def pipe(_key: Key, _raw: RawKey) -> None:
        with database.reading() as connection:
            ends.append(set(connection.scalars(sql_select(key_table.c.lease_until)).all()))

    handout = bulk_issuance.Handout(pipe=pipe, destinations=("pipe-to store",), limit=1.0)
    House(database).root.create_each(bulk_file.parse(THREE.encode(), now=utc_now()), handout)
    assert [len(each) for each in ends] == [1, 1, 1], "all of the keys have one end"
    first, second, third = (each.pop() for each in ends)
    assert first < second < third


@pytest.mark.one_database
def test_progress_shows_on_a_terminal_after_a_second_and_leaves_no_trace(
    keyctl: Keyctl, fleet: str, store: Store
) -> None:
    arguments = ("create", "--from", fleet, "--no-print", "--pipe-to", str(store.command))
    slow = store.environment("sleep 1.3", at="search")
    session = Session(keyctl, *arguments, environment=slow)
    session.wait_for("2/3")
    shown = session.end()
    assert shown.status == 0
    assert "Create keys" in shown.text
    assert shown.lines[-2].endswith("Created 3 keys.")
    keyctl.ok("revoke", *NAMES, "--yes")
    quiet = piped(keyctl, fleet, store, environment=slow)
    assert quiet.stderr == "Created 3 keys.\n", "not where nobody looks"


@pytest.mark.one_database
def test_raw_keys_that_go_to_a_file_are_in_nothing_else(keyctl: Keyctl, fleet: str, tmp_path: Path) -> None:
    """Promise 1."""
    with (tmp_path / "raw-keys.jsonl").open("wb") as file:
        done = keyctl.ok("create", "--from", fleet, stdout=file.fileno())
    raws = raws_of(done._replace(stdout=(tmp_path / "raw-keys.jsonl").read_text()))
    assert list(raws) == NAMES
    for path in tmp_path.rglob("*"):
        if stat.S_ISREG(path.stat().st_mode) and path.name != "raw-keys.jsonl":
            assert not any(raw.rpartition("_")[2].encode() in path.read_bytes() for raw in raws.values()), path
