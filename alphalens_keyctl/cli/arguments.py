"""Arguments and options that several commands share, and what TAB completes."""

import os
import select
import sys
import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final, TypeVar

import typer

from alphalens_keyctl import text
from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.keyformat import LONGEST, MalformedKeyError, RawKey, parse
from alphalens_keyctl.output import channel

_Word = TypeVar("_Word", bound=StrEnum)
STDIN_LIMIT: Final = 60.0  # seconds that a raw key on stdin may take to come


def complete_key(context: typer.Context, incomplete: str) -> list[str]:
    """Ids of keys, for TAB. Ids alone: a name could run as code when zsh completes it. Any trouble, no ids."""
    try:
        return _ids_starting_with(context, incomplete)
    except (KeyctlError, OSError, ImportError):
        return []


KeyArgument = Annotated[
    str,
    typer.Argument(
        metavar="KEY",
        help="A name, an id, 6 or more characters an id begins with, or - for a raw key on stdin.",
        autocompletion=complete_key,
        show_default=False,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
JsonLinesOption = Annotated[bool, typer.Option("--jsonl", help="Print JSON Lines.")]
CsvOption = Annotated[bool, typer.Option("--csv", help="Print CSV.")]


def one_of(words: type[_Word], given: str, what: str) -> _Word:
    """A word of a closed list. Raises `KeyctlError` (usage) that names the list."""
    try:
        return words(given)
    except ValueError:
        raise KeyctlError(Code.USAGE, f"there is no {what} '{given}'", f"There are: {', '.join(words)}.") from None


def parse_key(reference: str) -> str | RawKey:
    """KEY → the text to look up, or the raw key that stands on stdin."""
    if reference != "-":
        return text.parse_line(reference, what="KEY", longest=text.LONGEST_NAME)
    try:
        return parse(read_stdin_line())
    except MalformedKeyError as error:
        raise KeyctlError(
            Code.INVALID_INPUT, f"stdin holds no raw key: {error}", "Pipe the raw key in, whole and alone."
        ) from None


def read_stdin_line() -> bytes:
    """The first line of stdin without its end, at most a little more than a raw key is long.

    On a terminal it is asked for and not echoed. Raises `KeyctlError` when stdin is closed or silent.
    """
    if channel.is_terminal(sys.stdin):
        typed: str = typer.prompt("Raw key", hide_input=True, err=True)
        return typed.strip().encode("utf-8", "replace")
    if sys.stdin is None:
        raise KeyctlError(Code.INPUT_FAILED, "stdin is closed", "Pipe the raw key in.")
    deadline = time.monotonic() + STDIN_LIMIT
    line = b""
    while b"\n" not in line and len(line) <= LONGEST + 2:
        ready, _, _ = select.select([0], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            raise KeyctlError(Code.INPUT_FAILED, f"nothing came on stdin within {STDIN_LIMIT:.0f} seconds")
        try:
            piece = os.read(0, 4096)
        except OSError as error:
            raise KeyctlError(Code.INPUT_FAILED, f"stdin cannot be read: {error.strerror}") from error
        if not piece:
            break
        line += piece
    return line.partition(b"\n")[0].removesuffix(b"\r")


def _ids_starting_with(context: typer.Context, start: str) -> list[str]:
    from alphalens_keyctl import selection
    from alphalens_keyctl.cli import run
    from alphalens_keyctl.database import Database, parse_address
    from alphalens_keyctl.moments import utc_now

    options = context.find_root().params
    config = options.get("config")
    now = utc_now()
    begun = run.start(
        now,
        database_url=options.get("database"),
        actor=None,
        config_file=Path(config) if config else None,
        quiet=True,
        no_color=True,
    )
    # TAB never makes a database, and never waits long for one.
    database = Database.open(parse_address(begun.settings.database_url), begun.limits, create=False)
    with database.reading() as connection:
        return selection.ids_starting_with(connection, start, limit=50)
