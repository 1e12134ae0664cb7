"""Promises 2, 3, 4 and 6 when the process dies, is interrupted or cannot deliver, on real processes.

After each fault: exit 0 if and only if the key was shown, is active and is in the log; the old key opens; a
name whose `create` failed is free; the very next command cleans up; the database is sound (`judge` ends with it).
`python -m tests.support.line_kills` kills at every line; here a stride of them.
"""

import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.commands import Keyctl
from tests.support.databases import one_database
from tests.support.faults import at, at_once, fault, go_on, paused
from tests.support.fork_server import CLOSED
from tests.support.judge import judge
from tests.support.line_kills import TAIL, Choice, kill_create, kill_rotate, survive_rotate
from tests.support.raw_keys import key_id, raw_key_in

# Every so many lines before the first one that can write anything, from there on, and at the end, where the key is
# active already. On PostgreSQL the code in between is the same and a command costs more.
STRIDES = {"sqlite": (997, 199, 3), "postgresql": (4001, 593, 8)}
SHARDS = 2

POINTS = [  # where, the how many-eth, whether the raw key was shown whole, whether it opens
    ("before_commit", 1, False, False),
    ("after_commit", 1, False, False),
    ("before_write", 1, False, False),
    ("during_write", 1, False, False),
    ("after_write", 1, True, False),
    ("before_commit", 2, True, False),
    ("after_commit", 2, True, True),
]


def share(kind: str, shard: int, *, start: int) -> Choice:
    """Which lines a shard kills at. Each command and database begins at another line, so that together they come to
    more of them."""
    coarse, fine, late = STRIDES[kind]
    start += 11 if kind == "postgresql" else 0

    def choose(end: int, first: int) -> Sequence[int]:
        points = [*range(start, first, coarse), *range(first + start % fine, end - TAIL, fine)]
        return points[shard::SHARDS] + [*range(end - TAIL, end + 1, late)][shard::SHARDS]

    return choose


@pytest.mark.parametrize("shard", range(SHARDS))
def test_create_killed_at_any_line_is_done_or_leaves_nothing(keyctl: Keyctl, tmp_path: Path, shard: int) -> None:
    with judge(keyctl.database_url) as judging:
        came = kill_create(keyctl, judging, tmp_path / "trace", share(judging.kind, shard, start=5))
    assert came["done"] > 0, came
    assert came["nothing"] > 0, came


@pytest.mark.parametrize("shard", range(SHARDS))
def test_rotate_killed_at_any_line_is_done_or_leaves_the_old_key(keyctl: Keyctl, tmp_path: Path, shard: int) -> None:
    with judge(keyctl.database_url) as judging:
        came = kill_rotate(keyctl, judging, tmp_path / "trace", share(judging.kind, shard, start=23))
    assert came["done"] > 0, came
    assert came["nothing"] > 0, came


@pytest.mark.parametrize("turn", [0, one_database(1), one_database(2)])
def test_create_killed_around_commit_and_write_is_cleaned_up_by_any_next_command(keyctl: Keyctl, turn: int) -> None:
    """After each point another command, and with the turns each command after each point."""
    next_commands = (("list",), ("audit",), ("create", "other-{}"))
    with judge(keyctl.database_url) as judging:
        for number, (point, nth, shown, opens) in enumerate(POINTS):
            name = f"ci-{number}"
            killed = keyctl("create", name, before=fault(at, point, nth, "kill"))
            assert killed.status == -signal.SIGKILL, (point, nth, killed)
            raw = raw_key_in(killed)
            assert (raw is not None) == shown, (point, nth, killed)
            assert (raw is not None and judging.opens(raw)) == opens, (point, nth)
            judging.wait_until_alone()
            assert keyctl(*(word.format(number) for word in next_commands[(number + turn) % 3])).status == 0
            key = judging.current(name)
            assert (key.status if key else None) == ("active" if opens else None), (point, nth)


def test_rotate_killed_around_commit_and_write_leaves_one_current_key(keyctl: Keyctl) -> None:
    with judge(keyctl.database_url) as judging:
        held = keyctl("create", "ci").stdout.strip()
        for point, nth, shown, opens in POINTS:
            outcome, held = survive_rotate(keyctl, judging, held, fault(at, point, nth, "kill"))
            assert outcome == ("done" if opens else "shown, opens nothing" if shown else "nothing"), (point, nth)


@contextmanager
def broken(stdout: str) -> Iterator[int | str]:
    """A stdout that takes nothing."""
    if stdout == "closed":
        yield CLOSED
        return
    if stdout == "full":
        stream = os.open("/dev/full", os.O_WRONLY)
    else:
        reader, stream = os.pipe()
        os.close(reader)
    yield stream
    os.close(stream)


@pytest.mark.parametrize("command", ["create", "rotate"])
@pytest.mark.parametrize(
    ("point", "nth", "shown", "opens"),
    # Where stdout stands has nothing to do with the database.
    [one_database(*each) if each[0] in ("before_write", "during_write") else each for each in POINTS],
)
def test_ctrl_c_says_130_unless_the_key_is_shown_and_active(
    keyctl: Keyctl, tmp_path: Path, command: str, point: str, nth: int, shown: bool, opens: bool
) -> None:
    old = keyctl.create("ci")[0] if command == "rotate" else None
    process = paused(keyctl, tmp_path / "pause", point, nth, command, "ci")
    process.kill(signal.SIGINT)
    go_on(tmp_path / "pause")  # where nothing is waited for, Ctrl-C counts at the next wait
    result = process.wait()
    raw = raw_key_in(result)
    with judge(keyctl.database_url) as judging:
        if (point, nth) == ("before_commit", 2) and judging.kind == "sqlite":
            opens = True  # nothing is waited for any more, so Ctrl-C comes too late
        assert result.status == (0 if opens else 130), result
        if shown:
            assert raw is not None
            assert judging.opens(raw) == opens
        assert old is None or judging.opens(old)
        # What could not be discarded any more, the next command discards.
        assert keyctl(command, "ci").status == (6 if opens and command == "create" else 0)
        assert not [key for key in judging.every_key() if key.status == "pending"]


@pytest.mark.parametrize("command", ["create", "rotate"])
@pytest.mark.parametrize("point", [one_database("before_write"), one_database("during_write"), "after_write"])
def test_sigterm_at_delivery_leaves_nothing_that_opens(
    keyctl: Keyctl, tmp_path: Path, command: str, point: str
) -> None:
    old = keyctl.create("ci")[0] if command == "rotate" else None
    process = paused(keyctl, tmp_path / "pause", point, 1, command, "ci")
    process.kill(signal.SIGTERM)
    result = process.wait()
    assert result.status == -signal.SIGTERM
    with judge(keyctl.database_url) as judging:
        raw = raw_key_in(result)
        assert raw is None or not judging.opens(raw)
        assert old is None or judging.opens(old)
        judging.wait_until_alone()
        assert keyctl(command, "ci").status == 0
        assert not [key for key in judging.every_key() if key.status == "pending"]


def test_an_attempt_that_still_runs_is_left_alone_until_it_is_killed(keyctl: Keyctl, tmp_path: Path) -> None:
    old, _ = keyctl.create("ci")
    first = paused(keyctl, tmp_path / "rotate", "before_write", 1, "rotate", "ci")
    second = paused(keyctl, tmp_path / "create", "before_write", 1, "create", "other")
    with judge(keyctl.database_url) as judging:
        keyctl.ok("list")
        assert [key.status for key in judging.every_key()].count("pending") == 2
        lost = keyctl("rotate", "ci", "--json")
        assert (lost.status, lost.stdout, lost.error["code"]) == (6, "", "lost_race")
        taken = keyctl("create", "OTHER", "--json")
        assert (taken.status, taken.stdout, taken.error["code"]) == (6, "", "name_taken")
        first.kill()
        second.kill()
        assert (first.wait().status, second.wait().status) == (-signal.SIGKILL, -signal.SIGKILL)
        assert judging.opens(old)
        judging.wait_until_alone()
        assert judging.opens(keyctl.create("other")[0])
        assert not [key for key in judging.every_key() if key.status == "pending"]
        assert judging.opens(keyctl.ok("rotate", "ci").stdout.strip())
        assert judging.opens(old)


def test_rotators_killed_while_others_rotate_harm_none_of_them(keyctl: Keyctl) -> None:
    deaths = [("after_commit", 1), ("during_write", 1), ("after_write", 1), ("after_commit", 2)]
    with judge(keyctl.database_url) as judging:
        held = keyctl("create", "ci").stdout.strip()
        for _ in range(4):
            faults = [fault(at, point, nth, "kill") for point, nth in deaths]
            ended = at_once(keyctl, *[("rotate", "ci")] * 6, before=faults)
            judging.wait_until_alone()
            assert {result.status for result in ended} <= {0, 6, -signal.SIGKILL}
            live = [raw for result in ended if (raw := raw_key_in(result)) and judging.opens(raw)]
            assert len(live) <= 1
            assert [result.stdout.strip() for result in ended if result.status == 0] in ([], live)
            assert judging.opens(held)
            held = live[0] if live else held
            current = judging.current("ci")
            assert current is not None
            assert current.id == key_id(held)
            again = keyctl("rotate", "ci")
            assert again.status == 0, again
            held = again.stdout.strip()
            judging.assert_sound()


@pytest.mark.parametrize("as_json", [False, one_database(True)])
@pytest.mark.parametrize("command", ["create", "rotate"])
@pytest.mark.parametrize("stdout", [one_database("closed"), "full", one_database("reader gone")])
def test_a_key_that_cannot_be_shown_is_discarded(keyctl: Keyctl, command: str, stdout: str, as_json: bool) -> None:
    old = keyctl.create("ci")[0] if command == "rotate" else None
    options = ["--json"] if as_json else []
    with broken(stdout) as stream:
        result = keyctl(command, "ci", *options, stdout=stream)
    assert result.status == 7
    if as_json:
        assert result.error["code"] == "delivery_failed"
    else:
        assert result.stderr.startswith("error: the key could not be shown")
    with judge(keyctl.database_url) as judging:
        assert judging.every_key()[-1].revoke_reason == "delivery_failed"
        assert old is None or judging.opens(old)
        assert judging.opens(keyctl.ok(command, "ci").stdout.strip())


@pytest.mark.one_database
@pytest.mark.parametrize("command", [("list",), ("list", "--json"), ("audit",), ("audit", "--jsonl"), ("show", "ci")])
def test_a_list_that_cannot_be_written_is_an_error_and_one_that_nobody_reads_is_none(
    keyctl: Keyctl, command: tuple[str, ...]
) -> None:
    keyctl.create("ci")
    for stdout, status in (("closed", 7), ("full", 7), ("reader gone", 0)):
        with broken(stdout) as stream:
            result = keyctl(*command, stdout=stream)
        assert result.status == status, (stdout, result)
        assert "Traceback" not in result.stderr
        if status and "--json" in command:
            assert result.error["code"] == "output_failed"
