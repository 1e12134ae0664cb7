"""What every command starts from: the settings, who acts, and the way to the database."""

import os
import platform
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from alphalens_keyctl import provenance
from alphalens_keyctl.errors import Code, ExitStatus, KeyctlError
from alphalens_keyctl.output import channel
from alphalens_keyctl.provenance import Act
from alphalens_keyctl.settings import Given, Settings, of_this_process

if TYPE_CHECKING:
    from alphalens_keyctl.database import Database, Limits
    from alphalens_keyctl.output.documents import Format
    from alphalens_keyctl.output.screen import Screen


@dataclass(frozen=True)
class Run:
    """One run of the program. `asked_at` is when it began, before anything was loaded."""

    asked_at: datetime
    settings: Settings
    act: Act
    quiet: bool
    color: bool
    machine: bool

    @property
    def in_github_actions(self) -> bool:
        return self.act.origin.ci == "github-actions"

    @property
    def limits(self) -> "Limits":
        from alphalens_keyctl.database import Limits

        settings = self.settings
        return Limits(settings.connect_timeout, settings.lock_timeout, settings.query_timeout)

    @contextmanager
    def database(self, *, create: bool = True) -> Iterator["Database"]:
        """The database, open, and cleaned of what killed processes left."""
        from alphalens_keyctl.database import Database, exists, parse_address

        address = parse_address(self.settings.database_url)
        was_there = exists(address)
        database = Database.open(address, self.limits, create=create)
        if not was_there:
            # A path with a slip of the pen in it makes an empty database as well.
            self.note(f"Made a new database at {address.display}.")
        try:
            _clean_up(database, self.act)
            yield database
        finally:
            database.close()

    def screen(self) -> "Screen":
        from alphalens_keyctl.output.screen import Screen

        return Screen.of_stdout(color=self.color)

    @contextmanager
    def progress(self, what: str, total: int) -> Iterator[Callable[[int], None]]:
        """While the block lasts, show people how far it is, once it takes longer than a second."""
        if self.quiet or self.machine or not channel.is_terminal(sys.stderr):
            yield lambda _done: None
            return
        from alphalens_keyctl.output.progress import shown

        with shown(what, total, color=self.color) as tell:
            yield tell

    def note(self, text: str) -> None:
        """Say something beside the result, on stderr; for machines that is where an error's document goes."""
        if not (self.quiet or self.machine):
            channel.note(text)

    def note_delivery(self, destinations: Sequence[str]) -> None:
        """Say where a raw key was delivered to, besides stdout."""
        if destinations:
            self.note(f"Delivered to: {', '.join(destinations)}.")


def start(
    asked_at: datetime,
    *,
    database_url: str | None,
    actor: str | None,
    config_file: Path | None,
    quiet: bool,
    no_color: bool,
    machine: bool = False,
) -> Run:
    """Settle settings and actor from the options and the process's surroundings."""
    settings = of_this_process(Given(database_url, actor, config_file))
    os_user = _os_user()
    ci = provenance.recognise_ci(os.environ)
    act = Act(
        at=asked_at,
        actor=provenance.actor_name(settings.actor, ci, os_user),
        origin=provenance.origin(host=platform.node(), os_user=os_user, ci=ci),
    )
    color = not (no_color or os.environ.get("NO_COLOR"))
    return Run(asked_at, settings, act, quiet, color, machine)


def of(context: typer.Context) -> Run:
    """The run that a command belongs to."""
    run = context.find_root().obj
    assert isinstance(run, Run)  # noqa: S101  # the application's callback put it there
    return run


def confirm(question: str) -> None:
    """Ask on the terminal, on stderr. Raises `KeyctlError` (declined) unless the answer is yes.

    Typer's own question puts a space on stdout, which belongs to the result.
    """
    sys.stderr.write(f"{question} [y/N]: ")
    sys.stderr.flush()
    said = b""
    try:
        said = sys.stdin.buffer.readline()
    finally:
        if not said.endswith(b"\n"):  # Ctrl-C or the end of input leave the cursor behind the question
            sys.stderr.write("\n")
    if said.strip().lower() not in (b"y", b"yes"):
        raise KeyctlError(Code.DECLINED, "not confirmed", "Nothing was changed.")


def report(text: str) -> None:
    """Write what a change did. Where that fails, say that the change itself stands."""
    report_all([text])


def report_all(pieces: Iterable[str]) -> None:
    """`report` for what comes in pieces."""
    try:
        channel.write(pieces)
    except KeyctlError as error:
        raise KeyctlError(error.code, error.message, "The change was made; only the report failed.") from error


def answer(text: str, *, status: ExitStatus) -> None:
    """Write a verdict and leave with its exit status, whether or not somebody still reads."""
    with suppress(channel.ReaderGoneError):
        channel.write([text])
    raise typer.Exit(status)


def can_ask() -> bool:
    """Whether somebody is there to answer."""
    return channel.is_terminal(sys.stdin) and channel.is_terminal(sys.stderr)


def one_format(**formats: bool) -> "Format | None":
    """The one machine format that was asked for, by its option's name, or None. Raises `KeyctlError` for two."""
    from alphalens_keyctl.output.documents import Format

    asked = [Format(name) for name, wanted in formats.items() if wanted]
    if len(asked) > 1:
        raise KeyctlError(Code.USAGE, f"--{asked[0]} and --{asked[1]} exclude each other", "Choose one output format.")
    return asked[0] if asked else None


def _clean_up(database: "Database", act: Act) -> None:
    from alphalens_keyctl.keys import lifecycle

    # Where this command may only read, or the writer is busy, the next one does it: what was left behind
    # opens nothing meanwhile.
    with suppress(KeyctlError):
        with database.reading() as connection:
            left_behind = lifecycle.abandoned(connection, database.attempts)
        if left_behind:
            with database.writing() as tx:
                lifecycle.discard_abandoned(tx, database.attempts, act)


def _os_user() -> str | None:
    """The user who runs this, by the kernel's word: LOGNAME and USER say what anybody wants."""
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())
