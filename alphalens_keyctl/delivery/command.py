"""A command as a destination: it reads the raw key on its standard input and stores it."""

import os
import select
import shlex
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from subprocess import STDOUT
from typing import IO, Final

from alphalens_keyctl import interrupts
from alphalens_keyctl.database.attempt import Attempt
from alphalens_keyctl.delivery import child, redaction
from alphalens_keyctl.delivery.destination import Parcel, about, failed, spelled
from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.keyformat import LONGEST, RawKey, redact

# Bytes of a command's output that are passed on: the last ones.
_MOST_SAID: Final = 1 << 16
_LONGEST_REASON: Final = 200
# Seconds to wait for the end of a command's output after the command itself: its children may keep it open.
_LAST_WORDS: Final = 1.0
_WARDEN: Final = "alphalens_keyctl.delivery.warden"
# Python ignores these, and what it starts would inherit that.
_DEFAULT_SIGNALS: Final = f"{signal.SIGPIPE:d},{signal.SIGXFSZ:d}"
_NO_ATTEMPT: Final = Attempt()

Tell = Callable[[str], None]


class CommandLine:
    """A command, split into words as a shell splits them; no shell runs.

    `tell` is called with the command's output, raw keys redacted. `limit` is in seconds. With `newline` a newline
    follows the raw key.
    """

    def __init__(self, line: str, *, option: str, limit: float, tell: Tell, newline: bool = True) -> None:
        """Raises `KeyctlError` (usage) for a line that cannot be split or is empty."""
        try:
            self._words = shlex.split(line)
        except ValueError as error:
            raise KeyctlError(Code.USAGE, f"{option}: the command cannot be split into words: {error}") from None
        if not self._words:
            raise KeyctlError(Code.USAGE, f"{option} needs a command", f"For example: {option} 'gh secret set KEY'")
        # The rest of the line stays out of logs: it may hold passwords.
        self.name = f"{option.lstrip('-')} {spelled(os.path.basename(self._words[0]))}"
        self.limit = limit
        self._tell = tell
        self._end = b"\n" if newline else b""

    def look_up(self) -> None:
        """Raises `KeyctlError` (delivery_failed) when there is no such command."""
        if shutil.which(self._words[0]) is None:
            raise failed(self.name, f"there is no command '{self._words[0]}'", "Name one on PATH, or its whole path.")

    def run(self, raw: RawKey, told: Mapping[str, str], attempt: Attempt = _NO_ATTEMPT) -> None:
        """Run the command, with the raw key on its standard input and `told` in its environment.

        The command ends with this process at the latest, and `attempt` counts as running until the command has ended.
        Raises `CommandFailedError` when the command exits with anything but 0, `NoAnswerError` when it does not end in
        time, and as `Attempt.prove` does as soon as the attempt is lost.
        """
        # As bytes: a key's name that this locale cannot encode is no reason to fail.
        environment = {**os.environb, **{name.encode(): value.encode() for name, value in told.items()}}
        content = raw.reveal().encode("ascii") + self._end
        self._require_done(content, partial(redaction.without, raw=raw), environment, attempt)

    def feed(self, content: bytes) -> None:
        """Run the command with `content`, which is no secret and fits into a pipe's buffer, on its standard input.
        Raises as `run` does."""
        self._require_done(content, redact, dict(os.environb), _NO_ATTEMPT)

    def _require_done(
        self, content: bytes, redacted: Callable[[str], str], environment: Mapping[bytes, bytes], attempt: Attempt
    ) -> None:
        try:
            reported, said = self._run(content, redacted, environment, attempt)
        except OSError as error:
            raise CommandFailedError(self.name, f"cannot be started: {error.strerror}") from error
        if not reported:
            raise NoAnswerError(self.name, "was killed together with the process that watched it")
        if reported.startswith(b"!"):
            raise CommandFailedError(self.name, f"cannot be started: {os.strerror(int(reported[1:].split()[0]))}")
        status = int(reported)
        if status != 0:
            ended = f"ended with {status}" if status > 0 else f"was ended by signal {-status}"
            last_words = said.splitlines()[-1][:_LONGEST_REASON] if said else ""
            raise CommandFailedError(self.name, f"{ended}: {last_words}" if last_words else ended)

    def _run(
        self, content: bytes, redacted: Callable[[str], str], environment: Mapping[bytes, bytes], attempt: Attempt
    ) -> tuple[bytes, str]:
        """Run the command; return what the warden reported of its end, and the command's output."""
        said, output = "", None
        reader, writer = os.pipe()
        with open(reader, "rb") as report, open(writer, "wb") as end:
            inherited = (end.fileno(), *attempt.descriptors)
            words = (",".join(map(str, inherited)), _DEFAULT_SIGNALS, *self._words)
            try:
                with (
                    _holding(content) as stdin,
                    child.running(
                        child.script(_WARDEN),
                        *words,
                        stdin=stdin,
                        stderr=STDOUT,
                        inherited=inherited,
                        environment=environment,
                    ) as warden,
                ):
                    end.close()
                    assert warden.stdout is not None  # noqa: S101  # for the types
                    output = _Said(warden.stdout)
                    reported = self._reported(report, attempt)
                    # Else what the command left running, as an agent does, would be killed with the warden.
                    warden.wait()
            finally:
                if output is not None and (said := output.read(redacted)):
                    self._tell(said)
        return reported, said

    def _reported(self, report: IO[bytes], attempt: Attempt) -> bytes:
        deadline = time.monotonic() + self.limit
        watched = [report.fileno()] if attempt.alarm is None else [report.fileno(), attempt.alarm]
        with interrupts.let_in():
            while True:
                ready, _, _ = select.select(watched, [], [], max(0, deadline - time.monotonic()))
                if report.fileno() in ready:
                    return report.read()
                if not ready:
                    raise NoAnswerError(self.name, f"did not end within {self.limit:g} seconds")
                attempt.prove()


class CommandFailedError(KeyctlError):
    """The command answered that it did not take the key."""

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(Code.DELIVERY_FAILED, f"{name}: {problem}")


class NoAnswerError(KeyctlError):
    """The command did not end in time. Nobody knows what it did with the key."""

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(
            Code.DELIVERY_FAILED, f"{name}: {problem}", "Give it more time with --pipe-timeout, or see why it hangs."
        )


class Command:
    """`--pipe-to`: a command that stores the key."""

    def __init__(self, line: CommandLine) -> None:
        self._line = line
        self.name = line.name
        self.limit = 2 * line.limit
        self._parcel: Parcel | None = None
        self._may_hold = self._said_no = False

    def stage(self, parcel: Parcel) -> None:
        """Check that the command exists. Raises `KeyctlError` (delivery_failed)."""
        self._line.look_up()
        self._parcel = parcel

    def held(self) -> RawKey | None:
        """None: a command cannot be asked what it stored."""
        return None

    def hand_over(self) -> None:
        """Run the command with the new key."""
        assert self._parcel is not None  # noqa: S101  # staged before
        self._may_hold = True
        try:
            self._line.run(self._parcel.raw, about(self._parcel.key), self._parcel.attempt)
        except CommandFailedError:
            # The command's own word that it did not take the key (promise 2).
            self._said_no = True
            raise

    def put_back(self, earlier: RawKey | None) -> bool:
        """Run the command with the old key, when another destination held that.

        Without an old key, or when that run fails: True only when the command had answered that it did not take the
        new key.
        """
        if not self._may_hold or self._parcel is None:
            return True
        if earlier is not None:
            told = about(self._parcel.key._replace(id=earlier.id))
            with suppress(KeyctlError):
                self._line.run(earlier, told, self._parcel.attempt._replace(alarm=None))
                return True
        return self._said_no


@contextmanager
def _holding(content: bytes) -> Iterator[int]:
    """Yield the reading end of a pipe that holds `content`, which must fit into a pipe's buffer.

    The pipe is filled before a command starts: if this process were killed between the two, the command would read an
    empty standard input, and might store that in place of the key it has.
    """
    reader, writer = os.pipe()
    try:
        try:
            os.write(writer, content)
        finally:
            os.close(writer)
        yield reader
    finally:
        os.close(reader)


class _Said:
    """The end of a command's output, read by a thread so that a full pipe cannot stop the command."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._kept = bytearray()
        self._cut = False
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def read(self, redacted: Callable[[str], str]) -> str:
        """Return the output so far, without the raw keys that `redacted` takes out."""
        self._thread.join(_LAST_WORDS)
        text = redacted(bytes(self._kept).decode("utf-8", "replace"))
        # The cut may have left the end of a raw key, which `redact` does not recognise.
        return (text[LONGEST:] if self._cut else text).strip()

    def _read(self) -> None:
        with suppress(OSError, ValueError), self._stream:
            while piece := os.read(self._stream.fileno(), 1 << 14):
                self._kept += piece
                self._cut = self._cut or len(self._kept) > _MOST_SAID
                del self._kept[:-_MOST_SAID]
