"""Promises 2 and 3 for every destination, alone and in pairs, when a step of the delivery is killed, fails, finds
no space or gets no answer. What must hold is said once, by `tests.support.deliveries.DeliveryJudge`.

`python -m tests.support.strikes` runs every combination. Here a stride of them runs, across the sets of
destinations, so that every kind of fault and every step comes up on some set; left out is the rest of the product.
"""

import os
import random
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.commands import Keyctl
from tests.support.deliveries import Command, DeliveryJudge, run_together
from tests.support.destinations import File, use_keyring
from tests.support.disks import small_disk
from tests.support.held_delivery import HeldDelivery
from tests.support.strikes import COMBINATIONS, KINDS, Case, Fault, Row, faults_of, matrix, run_matrix, strike_and_judge
from tests.support.waiting import wait_for

SETS: dict[str, list[tuple[str, ...]]] = {
    "alone": [one for one in COMBINATIONS if len(one) == 1 and "keyring" not in one],
    "in pairs": [one for one in COMBINATIONS if len(one) == 2 and "keyring" not in one],
    "with a keyring": [one for one in COMBINATIONS if "keyring" in one],
}
# Where in the matrix the first case stands, and every so many further ones. A keyring costs a process of Python a
# delivery, and PostgreSQL a connection a judgement: there kills come up, and connections that break.
SHARES = {
    "sqlite": {"alone": (0, 11), "in pairs": (0, 37), "with a keyring": (11, 61)},
    "postgresql": {"alone": (6, 41), "in pairs": (116, 149), "with a keyring": (11, 211)},
}
ON_SQLITE = pytest.mark.one_database


@pytest.fixture
def ring(keyctl: Keyctl, tmp_path: Path) -> Keyctl:
    """The program in a home that has a keyring."""
    use_keyring(keyctl, tmp_path)
    return keyctl


@pytest.fixture
def judge(database_url: str) -> Iterator[DeliveryJudge]:
    judge = DeliveryJudge(database_url)
    yield judge
    judge.close()


@pytest.mark.parametrize(
    ("command", "kinds"),
    [
        *(("rotate", kinds) for kinds in SETS),
        ("create", "alone"),
        # What more destinations do does not depend on the database.
        pytest.param("create", "in pairs", marks=ON_SQLITE),
        pytest.param("create", "with a keyring", marks=ON_SQLITE),
    ],
)
def test_a_delivery_that_is_struck_anywhere_leaves_every_destination_with_a_key_that_works(
    ring: Keyctl, judge: DeliveryJudge, tmp_path: Path, command: str, kinds: str
) -> None:
    """Promises 1, 2, 3, 6 and 7; exit 0 if and only if all was done; the same command again finishes the job."""
    first, stride = SHARES[judge.kind][kinds]
    rows = matrix(tmp_path, judge.kind, command=command, first=first, stride=stride, kinds=SETS[kinds])
    expected = len(range(first, sum(len(list(faults_of(one, judge.kind))) for one in SETS[kinds]), stride))
    came = run_matrix(ring, judge, rows)
    assert came.total() == expected, came


def deliver(ring: Keyctl, judge: DeliveryJudge, row: Row, command: str = "create") -> None:
    ended = run_together(ring, Command(row.arguments(command)))[0]
    judge.assert_finished(row.name, row.destinations, ended.result, printed=False)


def go_on(ring: Keyctl, judge: DeliveryJudge, row: Row) -> None:
    """Run the struck command again, which finishes. A `create` is struck next where there is no key."""
    deliver(ring, judge, row, row.command)
    if row.command == "create":
        row.move_on()


SIGNALS = [
    ("stage", 2, "before", "nothing"),
    ("hand_over", 1, "before", "nothing"),
    ("hand_over", 1, "during", "nothing"),
    ("hand_over", 2, "before", "nothing"),
    ("hand_over", 2, "after", "nothing"),
    ("transaction", 3, "after", "done"),
]


@pytest.mark.parametrize(
    ("command", "kinds"),
    [
        ("rotate", ("pipe-to", "key-file")),
        # What files do does not depend on the database, and what a `create` does there the matrix has.
        pytest.param("rotate", ("key-file", "env-file"), marks=ON_SQLITE),
        pytest.param("create", ("pipe-to", "key-file"), marks=ON_SQLITE),
        pytest.param("create", ("key-file", "env-file"), marks=ON_SQLITE),
    ],
    ids=lambda given: given if isinstance(given, str) else " + ".join(given),
)
def test_ctrl_c_puts_both_destinations_back_unless_all_was_done(
    ring: Keyctl, judge: DeliveryJudge, tmp_path: Path, command: str, kinds: tuple[str, ...]
) -> None:
    """Promises 2 and 3; exit 130 if and only if nothing was done."""
    row = Row(command, kinds, [], tmp_path)
    if command == "rotate":
        deliver(ring, judge, row)
    for step, number, when, expected in SIGNALS:
        before = judge.look(row.name, row.destinations)
        struck = ("tests.support.strikes", "strike", [step, number, when, "interrupt"])
        result = run_together(ring, Command(row.arguments(command), [struck]))[0].result
        outcome = judge.assert_unharmed(row.name, row.destinations, before, result, printed=False)
        assert (outcome, result.status) == (expected, 0 if expected == "done" else 130), (step, number, when, result)
        if expected == "nothing" and (command == "rotate" or "pipe-to" not in kinds):
            # A command that nobody can give an older key keeps the new one, which opens nothing.
            assert judge.look(row.name, row.destinations) == before
        go_on(ring, judge, row)


# SIGTERM ends the program where it stands, and a database sees what it sees of a kill, which the matrix has on both.
@ON_SQLITE
@pytest.mark.parametrize("command", ["create", "rotate"])
def test_sigterm_is_as_sudden_as_a_kill_and_harms_as_little(
    ring: Keyctl, judge: DeliveryJudge, tmp_path: Path, command: str
) -> None:
    """Promises 2 and 3."""
    row = Row(command, ("pipe-to", "env-file"), [], tmp_path)
    if command == "rotate":
        deliver(ring, judge, row)
    for step, number, when, expected in SIGNALS:
        before = judge.look(row.name, row.destinations)
        struck = ("tests.support.strikes", "strike", [step, number, when, "terminate"])
        result = run_together(ring, Command(row.arguments(command), [struck]))[0].result
        assert result.status == -signal.SIGTERM, result
        judge.wait_until_alone()
        outcome = judge.assert_unharmed(row.name, row.destinations, before, result, printed=False)
        assert outcome == ("delivering" if step == "hand_over" else expected), (step, number, when)
        go_on(ring, judge, row)


@pytest.mark.parametrize("command", ["create", "rotate"])
def test_a_command_whose_starter_is_killed_at_once_stores_the_whole_key_or_none(
    ring: Keyctl, judge: DeliveryJudge, tmp_path: Path, command: str
) -> None:
    """Promise 3: one that finds its standard input empty may well store that in place of the key it has."""
    row = Row(command, ("pipe-to",), [], tmp_path)
    if command == "rotate":
        deliver(ring, judge, row)
    fault = Fault("kill", "hand_over", 1, "during", "program", "kill")
    before = judge.look(row.name, row.destinations)
    assert strike_and_judge(ring, judge, [(row, Case(command, row.kinds, fault, printed=False))]) == ["delivering"]
    after = judge.look(row.name, row.destinations)
    assert after.held == before.held or after.working == [True]
    deliver(ring, judge, row, command)


def test_a_command_ends_with_the_rotation_that_started_it_and_cannot_undo_the_next_one(
    keyctl: Keyctl, judge: DeliveryJudge, tmp_path: Path
) -> None:
    """Promise 3: exit 0 if and only if all was done, also when the rotation before was killed half-way."""
    row = Row("rotate", ("pipe-to",), [], tmp_path)
    folder = row.destinations[0].folder
    keyctl.ok(*row.arguments("create"))
    (folder / "fault").write_text("linger before\n")
    assert keyctl(*row.arguments("rotate")).status == -signal.SIGKILL
    # The killed attempt counts as running until its command has ended.
    wait_for(lambda: keyctl(*row.arguments("rotate")).status == 0)
    held = row.destinations[0].held()
    (folder / "go").touch()
    judge.wait_until_alone()
    assert row.destinations[0].held() == held
    judge.assert_sound()


def test_an_attempt_that_was_killed_counts_as_running_until_its_command_has_ended(
    keyctl: Keyctl, tmp_path: Path
) -> None:
    """Promises 3 and 4: the command may still store its key, and nobody else hands a newer one over before."""
    raw, _ = keyctl.create("ci")
    held = HeldDelivery(keyctl, tmp_path / "held", "rotate", "ci")
    (warden,) = map(int, Path(f"/proc/{held.process.pid}/task/{held.process.pid}/children").read_text().split())
    os.kill(warden, signal.SIGSTOP)  # as if it got no processor time
    try:
        held.process.kill()
        held.process.wait()
        refused = keyctl("rotate", "ci", "--json")
        assert (refused.status, refused.error["code"]) == (6, "lost_race")
    finally:
        os.kill(warden, signal.SIGCONT)
    wait_for(lambda: keyctl("rotate", "ci").status == 0)
    assert keyctl.opens(raw)


# A database sees of it what it sees of a kill before any destination is put back.
@ON_SQLITE
@pytest.mark.parametrize("kinds", [("key-file", "env-file"), ("pipe-to", "key-file")], ids=" + ".join)
@pytest.mark.parametrize("command", ["create", "rotate"])
def test_a_kill_while_destinations_are_put_back_leaves_each_with_a_key_that_works(
    ring: Keyctl, judge: DeliveryJudge, tmp_path: Path, command: str, kinds: tuple[str, ...]
) -> None:
    """Promises 2 and 3: a failure that is being undone, and then the process dies as well."""
    row = Row(command, kinds, [], tmp_path)
    if command == "rotate":
        deliver(ring, judge, row)
    for number, when in ((1, "before"), (1, "during"), (1, "after"), (2, "before"), (2, "after")):
        before = judge.look(row.name, row.destinations)
        strikes = [["hand_over", 2, "during", "refuse"], ["put_back", number, when, "kill"]]
        struck = [("tests.support.strikes", "strike", one) for one in strikes]
        result = run_together(ring, Command(row.arguments(command), struck))[0].result
        if (command, number, when) != ("create", 1, "during"):  # there a file is removed, and nothing staged
            assert result.status == -signal.SIGKILL, (number, when, result)
        judge.wait_until_alone()
        judge.assert_unharmed(row.name, row.destinations, before, result, printed=False)
        go_on(ring, judge, row)


def test_a_create_that_takes_over_from_a_killed_one_and_fails_leaves_its_command_with_a_key_that_works(
    ring: Keyctl, judge: DeliveryJudge, tmp_path: Path
) -> None:
    """Promises 2 and 3: the first command has the killed create's key, which opens, and then the newer one."""
    row = Row("create", ("pipe-to", "pipe-to"), [], tmp_path)
    kill = Fault("kill", "hand_over", 2, "after", "program", "kill")
    refusal = Fault("failure", "hand_over", 2, "during", "destination", "fail before")
    for fault in (kill, refusal):
        outcome = strike_and_judge(ring, judge, [(row, Case("create", row.kinds, fault, printed=False))])
        assert outcome == ["delivering"]
        assert judge.look(row.name, row.destinations).working == [True, True]
    deliver(ring, judge, row)


# What a database sees of it, one fault after the other, the matrix and the tests above have on both.
@ON_SQLITE
@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("command", ["create", "rotate"])
def test_faults_one_after_another_leave_every_destination_with_a_key_that_works(
    ring: Keyctl, judge: DeliveryJudge, tmp_path: Path, command: str, seed: int
) -> None:
    """Promises 2 and 3: nothing is finished or cleaned up by hand between one fault and the next."""
    chance = random.Random(seed)
    kinds = chance.choice(SETS["in pairs"])
    row = Row(command, kinds, [], tmp_path)
    if command == "rotate":
        deliver(ring, judge, row)
    faults = [fault for fault in faults_of(kinds, judge.kind) if fault.what != "no answer"]
    for fault in chance.sample(faults, 6):
        strike_and_judge(ring, judge, [(row, Case(command, kinds, fault, printed=False))])
        if any(key.status == "active" for key in judge.every_key(row.name)):
            row.command = command = "rotate"
    deliver(ring, judge, row, command)


def fill(path: Path) -> None:
    """Leave its file system no room."""
    with suppress(OSError), path.open("wb", buffering=0) as ballast:
        while ballast.write(bytes(4096)):
            pass


# A database sees of it that a delivery is undone, as with every failure.
@ON_SQLITE
@pytest.mark.parametrize("command", ["create", "rotate"])
@pytest.mark.parametrize("kind", ["key-file", "env-file"])
def test_a_full_disk_under_a_file_keeps_the_key_out_of_all_destinations(
    ring: Keyctl, judge: DeliveryJudge, tmp_path: Path, command: str, kind: str
) -> None:
    """Promises 2 and 3, with a file system that really has no block left, under the second of two files."""
    with small_disk(tmp_path / "disk", 64) as disk:
        row = Row(command, ("key-file", kind), [], tmp_path)
        row.destinations[1] = File(kind, disk / "own")
        if command == "rotate":
            deliver(ring, judge, row)
        before = judge.look(row.name, row.destinations)
        fill(disk / "ballast")
        result = run_together(ring, Command(row.arguments(command)))[0].result
        assert result.status == 7
        assert "No space left" in result.stderr
        assert judge.assert_unharmed(row.name, row.destinations, before, result, printed=False) == "nothing"
        assert judge.look(row.name, row.destinations) == before
        os.unlink(disk / "ballast")
        deliver(ring, judge, row, command)


def test_the_matrix_has_every_destination_alone_and_in_pairs_first_and_second() -> None:
    """Promises 2 and 3: no destination, and no pair of them, is left out."""
    assert {one for one in COMBINATIONS if len(one) == 1} == {(kind,) for kind in KINDS}
    pairs = {frozenset(one) for one in COMBINATIONS if len(one) == 2}
    assert len(pairs) == 9
    assert all(frozenset((one, other)) in pairs for one in KINDS for other in KINDS if (one, other) != ("keyring",) * 2)
