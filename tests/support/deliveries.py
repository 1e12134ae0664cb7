"""Commands that deliver a key, struck in the middle, and one judge of what came of it."""

import os
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from alphalens_keyctl import KeyVerifier
from alphalens_keyctl.models import Key, Reason
from tests.support.commands import Before, Keyctl, Result
from tests.support.destinations import Destination, asides
from tests.support.judge import Judge
from tests.support.raw_keys import RAW_KEY, key_id

UNFINISHED = ("pending", "delivering")


class Command(NamedTuple):
    """A command to be run: `before` as in `tests.support.commands`; after `kill_after` seconds it gets SIGKILL. One
    that is `struck` may leave processes behind."""

    arguments: Sequence[str]
    before: Before = ()
    kill_after: float | None = None
    struck: bool = False


class Ended(NamedTuple):
    """How a command ended, and the seconds it took."""

    result: Result
    seconds: float


def run_together(keyctl: Keyctl, *commands: Command) -> list[Ended]:
    """Run commands at once, each to its end and that of every process that it started."""
    running = []
    for command in commands:
        # Pipes: a command whose disk is full can still write into them.
        reader, writer = os.pipe()
        error_reader, error_writer = os.pipe()
        begun = time.monotonic()
        if command.before or command.struck or command.kill_after is not None:
            process = keyctl.start(
                *command.arguments, before=command.before, stdout=writer, stderr=error_writer, to_the_last=True
            )
        else:
            process = keyctl.start_plain(*command.arguments, stdout=writer, stderr=error_writer)
        os.close(writer)
        os.close(error_writer)
        if command.kill_after is not None:
            process.kill_after(begun + command.kill_after - time.monotonic())
        running.append((process, begun, reader, error_reader))
    ended = []
    for process, begun, reader, error_reader in running:
        status = process.wait().status
        took = time.monotonic() - begun
        ended.append(Ended(Result(status, _read(reader), _read(error_reader)), took))
    return ended


def _read(reader: int) -> str:
    """What the command said: less than a pipe holds. A fork that runs beside it may hold the other end."""
    os.set_blocking(reader, False)
    said = b""
    with suppress(BlockingIOError):
        while piece := os.read(reader, 1 << 16):
            said += piece
    os.close(reader)
    return said.decode()


class Found(NamedTuple):
    """What stood in the destinations of a name, and which of it opened; which key was current, and which were on their
    way, before a command. `aside` is what a killed one left beside the destinations."""

    held: list[str | None]
    working: list[bool]
    current: str | None
    unfinished: frozenset[str]
    aside: frozenset[Path]


class DeliveryJudge(Judge):
    """Judges a name, its destinations and the command that was to deliver a key to them (promises 1, 2, 3, 6, 7)."""

    _together = False

    @contextmanager
    def together(self) -> Iterator[None]:
        """Judge commands that ended before the first of them is judged: the database is checked as a whole once, at
        the end."""
        self._together = True
        try:
            yield
        finally:
            self._together = False
        self.assert_sound()

    def assert_sound(self) -> None:
        if not self._together:
            super().assert_sound()

    def look(self, name: str, destinations: Sequence[Destination]) -> Found:
        found = self.every_key(name)
        key = _active(found)
        unfinished = frozenset(key.id for key in found if key.status in UNFINISHED)
        held = [one.held() for one in destinations]
        opens = self._which_open({raw for raw in held if raw})
        working = [bool(raw) and opens[str(raw)] for raw in held]
        return Found(held, working, key.id if key else None, unfinished, asides(destinations))

    def assert_unharmed(
        self, name: str, destinations: Sequence[Destination], before: Found, result: Result, *, printed: bool,
        faithless: Destination | None = None,
    ) -> str:  # fmt: skip
        """What holds after every fault; returns what came of it. `faithless` is a command that stored the key and
        then said that it had not: of that destination nothing is asked."""
        found = self.every_key(name)
        by_status = Counter(key.status for key in found)
        context = (name, result, [(key.id, key.status, key.delivering_to, key.revoke_reason) for key in found])
        after = [destination.held() for destination in destinations]
        opens = self._which_open({raw for raw in after if raw})
        # Exactly one is current; a name that never had a key may have none.
        assert by_status["active"] == 1 or (before.current is None and by_status["active"] == 0), context
        # What worked works.
        for destination, worked, now in zip(destinations, before.working, after, strict=True):
            if worked and destination is not faithless:
                assert now is not None, (destination.kind, context)
                assert opens.get(now), (destination.kind, context)
        # What opens is known: it is current, on its way out, or on its way to destinations that are named.
        for key in found:
            assert key.status in ("active", "retiring", "delivering", "pending", "revoked"), context
            assert key.status != "delivering" or key.delivering_to, context
        killed = result.status < 0
        if not killed:
            unfinished = {key.id for key in found if key.status in UNFINISHED} - before.unfinished
            assert all(key_id in result.stderr for key_id in unfinished), context
            assert not asides(destinations) - before.aside, context
        # 0 if and only if all was done.
        current = _active(found)
        done = current is not None and current.id != before.current
        everywhere = current is not None and all(raw is not None and key_id(raw) == current.id for raw in after)
        assert not done or everywhere, context
        assert killed or (result.status == 0) == done, context
        assert killed or result.status in (0, 7, 130), context
        self._assert_secret(result, printed=printed, current=current if done else None, context=context)
        assert "Traceback" not in result.stderr, context
        self.assert_sound()
        return "done" if done else "delivering" if by_status["delivering"] else "nothing"

    def assert_finished(self, name: str, destinations: Sequence[Destination], result: Result, *, printed: bool) -> None:
        """What holds after the same command was run again, unharmed: one key, and every destination has it."""
        context = (name, result)
        assert result.status == 0, context
        found = self.every_key(name)
        current = _active(found)
        assert current is not None, context
        held = [destination.held() for destination in destinations]
        assert [key_id(raw) if raw else None for raw in held] == [current.id] * len(destinations), context
        assert all(self._which_open({raw for raw in held if raw}).values()), context
        assert not [key for key in found if key.status in UNFINISHED], context
        assert [key.status for key in found].count("active") == 1, context
        assert not asides(destinations), context
        self._assert_secret(result, printed=printed, current=current, context=context)
        self.assert_sound()

    def _which_open(self, raws: set[str]) -> dict[str, bool]:
        """Whether each opens, as a service sees it that has not seen it before."""
        with KeyVerifier(self._url, usage="off") as verifier:
            answers = {raw: verifier.verify(raw) for raw in raws}
        assert not [one for one in answers.values() if one.reason is Reason.UNAVAILABLE], verifier.trouble
        return {raw: answer.allowed for raw, answer in answers.items()}

    @staticmethod
    def _assert_secret(result: Result, *, printed: bool, current: Key | None, context: object) -> None:
        assert not RAW_KEY.search(result.stderr), context
        shown: list[str] = RAW_KEY.findall(result.stdout)
        assert result.stdout == "".join(f"{raw}\n" for raw in shown), context
        assert len(shown) <= printed, context
        if result.status == 0 and shown:
            assert current is not None, context
            assert key_id(shown[0]) == current.id, context


def _active(keys: Sequence[Key]) -> Key | None:
    return next((key for key in keys if key.status == "active"), None)
