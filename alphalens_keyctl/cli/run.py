"""What every command starts from: the settings, the actor, and the way to the database; and how a command answers.

The options files import this file at every start. For speed, the database and Rich are imported by the functions
that need them.
"""

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from shutil import get_terminal_size
from typing import TYPE_CHECKING, Protocol, TextIO, TypeVar

import typer

from alphalens_keyctl import provenance
from alphalens_keyctl.cli.options.program import ProgramOptions
from alphalens_keyctl.errors import Code, ExitStatus, KeyctlError
from alphalens_keyctl.output import channel
from alphalens_keyctl.output.errors import error_lines
from alphalens_keyctl.output.inert import for_terminal
from alphalens_keyctl.output.pages import wrapped
from alphalens_keyctl.provenance import Act
from alphalens_keyctl.settings import DATABASE_FILE, PROGRAM, Given, Settings, of_this_process

if TYPE_CHECKING:
    from alphalens_keyctl.database import Address, Database, Limits
    from alphalens_keyctl.manager.backend import Backend
    from alphalens_keyctl.manager.over_http import OverHttp
    from alphalens_keyctl.output.documents import Format
    from alphalens_keyctl.output.feeds import Feed
    from alphalens_keyctl.output.screen import Screen


class _CanClose(Protocol):
    def close(self) -> None: ...


_Closes = TypeVar("_Closes", bound=_CanClose)


@dataclass(frozen=True)
class Run:
    """One run of the program.

    `asked_at` is when it began, before anything was loaded. `machine` says that a machine format was asked for.
    """

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
    def manager(self, *, create: bool | None = None) -> Iterator["Backend"]:
        """Open the way to the keys, and close it after the block. What killed processes left is discarded first.

        A SQLite file that does not exist is made with `create`. Where `create` is None, and nobody named the file
        either, the block gets an empty database that is gone behind it. With a server, the way leads through it. Raises
        `KeyctlError`.
        """
        if self.settings.server is not None:
            with self.over_server() as way:
                yield way
            return
        from alphalens_keyctl.manager import opening

        def over_database(address: "Address", make: bool) -> "Backend":
            return opening.over_database(address, self.limits, self.act, prefix=self.settings.key_prefix, create=make)

        with self._opened(over_database, create) as backend:
            yield backend

    @contextmanager
    def over_server(self) -> Iterator["OverHttp"]:
        """Open the way to the keys over the server, and close it after the block. Raises `KeyctlError`."""
        from alphalens_keyctl.cli import server

        with server.manager(self.settings) as way:
            yield way

    @contextmanager
    def database(self, *, create: bool | None = None) -> Iterator["Database"]:
        """Open the database itself, for a command that administers the database and no keys, and close it after the
        block. `create` is as with `manager`; `require_database` is asked before. Raises `KeyctlError`."""
        from alphalens_keyctl.database import Database

        with self._opened(lambda address, make: Database.open(address, self.limits, create=make), create) as database:
            yield database

    @contextmanager
    def _opened(self, opening: "Callable[[Address, bool], _Closes]", create: bool | None) -> Iterator["_Closes"]:
        """Call `opening` with the database's address, and whether a file that is not there is made; close what it
        returns after the block."""
        from alphalens_keyctl.database import exists, parse_address

        address = parse_address(self.settings.database_url)
        was_there = exists(address)
        with ExitStack() as behind:
            if create is None and self.settings.is_default_database and not was_there:
                from tempfile import TemporaryDirectory

                # Before the first key there is nothing to read or change, and to look makes no file.
                folder = behind.enter_context(TemporaryDirectory(prefix=f"{PROGRAM}-"))
                opened = opening(parse_address(f"{folder}/{DATABASE_FILE}"), True)
            else:
                # A mistyped path would become an empty database, in which no key is known and no check finds anything.
                opened = opening(address, bool(create))
                if not was_there:
                    self.note(f"Made a new database at {address.display}.")
            behind.callback(opened.close)
            yield opened

    def require_database(self, what: str) -> None:
        """Raise `KeyctlError` (usage) where keys are administered through a server: `what` takes the database."""
        if self.settings.server is not None:
            raise KeyctlError(
                Code.USAGE,
                f"{what} works on the database itself, not over a server",
                f"Run it where the database is, with --database URL; {self.settings.source('server').name} names"
                " the server.",
            )

    def require_server(self, what: str) -> None:
        """Raise `KeyctlError` (usage) where keys are administered in the database: `what` takes a server."""
        if self.settings.server is None:
            raise KeyctlError(Code.USAGE, f"{what} works over a server", "Add --server URL, or set it in a profile.")

    def has_database(self) -> bool:
        """Return whether there is a database to open, or a server. Raises `KeyctlError` as `database.exists` does."""
        if self.settings.server is not None:
            return True
        from alphalens_keyctl.database import exists, parse_address

        return exists(parse_address(self.settings.database_url))

    def screen(self) -> "Screen":
        from alphalens_keyctl.output.screen import Screen

        return Screen.of_stdout(color=self.color)

    @contextmanager
    def progress(self, what: str, total: int) -> Iterator[Callable[[int], None]]:
        """While the block lasts, show how much of `total` is done, once the block takes longer than a second.

        Yields the function to call with the number done. Shows nothing without a terminal, for machines, or when quiet.
        """
        if self.quiet or self.machine or not channel.is_terminal(sys.stderr):
            yield lambda _done: None
            return
        from alphalens_keyctl.output.progress import shown

        with shown(what, total, color=self.color) as tell:
            yield tell

    def note(self, text: str) -> None:
        """Write sentences to stderr, beside the result. Nothing for machines: their stderr holds at most an error's
        document."""
        if not (self.quiet or self.machine):
            channel.note("\n".join(_lines(text.split("\n"), sys.stderr)))

    def confirm(self, question: str) -> None:
        """Say profile and database, and ask a question, on stderr. Raises `KeyctlError` (declined) unless the answer is
        yes.

        Not by Typer's `confirm`: it writes a space to stdout, which holds the result alone (promise 10).
        """
        from alphalens_keyctl.output.whereabouts import whereabouts

        asked = f"{whereabouts(self.settings, color=self.color)}\n{question} [y/N]: "
        if _answer(asked).strip().lower() not in (b"y", b"yes"):
            raise KeyctlError(Code.DECLINED, "not confirmed", "Nothing was changed.")

    def ask(self, question: str, parse: Callable[[str], str]) -> str:
        """Ask for a text on stderr until `parse` takes it; return what `parse` makes of it.

        Says what is wrong with each answer that `parse` refuses with a `KeyctlError`. Raises `KeyctlError` (declined)
        at the end of input.
        """
        while said := _answer(f"{question}: "):
            try:
                return parse(said.decode("utf-8", "surrogateescape").rstrip("\r\n"))
            except KeyctlError as error:
                channel.note_drawn(error_lines(error, width=get_terminal_size().columns, color=self.color))
        raise KeyctlError(Code.DECLINED, "not answered", "Nothing was changed.")

    def note_delivery(self, destinations: Sequence[str]) -> None:
        """Say which destinations besides stdout a raw key was delivered to."""
        if destinations:
            self.note(f"Delivered to: {', '.join(destinations)}.")


@dataclass(frozen=True)
class Start:
    """What a run is made of, while options of the program may still follow the command. The settings are settled when a
    command asks for its run, so that a broken configuration stops no command that needs none."""

    asked_at: datetime
    options: ProgramOptions
    machine: bool = False

    @property
    def given(self) -> Given:
        """What the options say of the settings."""
        given = self.options
        return Given(
            given.database,
            given.actor,
            given.config,
            profile=given.profile,
            server=given.server,
            api_key_file=given.api_key_file,
            insecure_plaintext=given.insecure_plaintext,
        )

    @property
    def color(self) -> bool:
        """Whether colours are wanted."""
        return not (self.options.no_color or os.environ.get("NO_COLOR"))

    def run(self) -> Run:
        """Return the run that the options, the environment, config.toml and the operating system make.

        Raises `KeyctlError`.
        """
        settings = of_this_process(self.given)
        act = provenance.act_of_this_process(settings.actor, self.asked_at)
        return Run(self.asked_at, settings, act, self.options.quiet, self.color, self.machine)


def of(context: typer.Context) -> Run:
    """Return the run of a command. Raises `KeyctlError` where the settings cannot be settled."""
    root = context.find_root()
    if isinstance(root.obj, Start):
        root.obj = root.obj.run()
    run = root.obj
    assert isinstance(run, Run)  # noqa: S101  # the application's callback put its start there
    return run


def start_of(context: typer.Context) -> Start:
    """Return the start of a command that has to work where the settings cannot be settled."""
    start = context.find_root().obj
    assert isinstance(start, Start)  # noqa: S101  # the application's callback put it there
    return start


def _answer(question: str) -> bytes:
    """Return the line that is typed behind a question, with its end; nothing at the end of input."""
    sys.stderr.write(question)
    sys.stderr.flush()
    said = b""
    try:
        said = sys.stdin.buffer.readline()
    finally:
        if not said.endswith(b"\n"):  # Ctrl-C and the end of input leave the cursor behind the question
            sys.stderr.write("\n")
    return said


def report(text: str) -> None:
    """Write the report of a change that was made. When writing fails, the error says that the change stands."""
    report_all([text])


def report_all(pieces: Iterable[str]) -> None:
    """Write a report that comes in pieces, as `report` does."""
    try:
        channel.write(pieces)
    except KeyctlError as error:
        raise KeyctlError(error.code, error.message, "The change was made; only the report failed.") from error


def report_sentences(sentences: Iterable[str]) -> None:
    """Write a report of sentences, inert (promise 12), as `report` does: a line each, on a terminal broken between
    words."""
    report(told(*sentences))


def told(*sentences: str) -> str:
    """Return sentences for stdout, inert (promise 12): a line each, on a terminal broken between words."""
    return "".join(f"{line}\n" for line in _lines(sentences, sys.stdout))


def _lines(sentences: Iterable[str], stream: TextIO | None) -> Iterator[str]:
    for sentence in map(for_terminal, sentences):
        if channel.is_terminal(stream):
            yield from wrapped(sentence, get_terminal_size().columns)
        else:
            yield sentence


def answer(text: str, *, status: ExitStatus) -> None:
    """Write a verdict and leave with its exit status, whether or not somebody still reads."""
    with suppress(channel.ReaderGoneError):
        channel.write([text])
    raise typer.Exit(status)


def can_ask() -> bool:
    """Whether somebody can be asked: stdin and stderr are a terminal."""
    return channel.is_terminal(sys.stdin) and channel.is_terminal(sys.stderr)


def one_format(**formats: bool) -> "Format | None":
    """Return the machine format whose option was given, or None. Raises `KeyctlError` (usage) for two."""
    from alphalens_keyctl.output.documents import Format

    asked = [Format(name) for name, wanted in formats.items() if wanted]
    if len(asked) > 1:
        raise KeyctlError(Code.USAGE, f"--{asked[0]} and --{asked[1]} exclude each other", "Choose one output format.")
    return asked[0] if asked else None


def feed(word: str | None, taken: bool) -> "Feed | None":
    """Return the format of `--format`, or None. Raises `KeyctlError` (usage) for another word, and where an option of
    another machine format was given (`taken`)."""
    if word is None:
        return None
    from alphalens_keyctl.output.feeds import Feed
    from alphalens_keyctl.text import one_of

    if taken:
        raise KeyctlError(Code.USAGE, "--format excludes --json, --jsonl and --csv", "Choose one output format.")
    return one_of(Feed, word, "format")
