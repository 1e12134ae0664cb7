"""Arguments and options that several commands share, and what TAB completes."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final, TypeVar

import typer

from alphalens_keyctl import text
from alphalens_keyctl.cli.options import standard_input
from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.keyformat import MalformedKeyError, RawKey, is_id, parse

_Word = TypeVar("_Word", bound=StrEnum)


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
# More than any database holds, and still a number that both take.
MOST_ROWS: Final = 1_000_000_000
CsvOption = Annotated[bool, typer.Option("--csv", help="Print CSV.")]


def one_of(words: type[_Word], given: str, what: str) -> _Word:
    """A word of a closed list. Raises `KeyctlError` (usage) that names the list."""
    try:
        return words(given.lower())
    except ValueError:
        raise KeyctlError(Code.USAGE, f"there is no {what} '{given}'", f"There are: {', '.join(words)}.") from None


def parse_key(reference: str) -> str | RawKey:
    """KEY → the text to look up, or the raw key that stands on stdin."""
    if reference != "-":
        return text.parse_line(reference, what="KEY", longest=text.LONGEST_NAME)
    try:
        return parse(standard_input.read_line())
    except MalformedKeyError as error:
        raise KeyctlError(
            Code.INVALID_INPUT, f"stdin holds no raw key: {error}", "Pipe the raw key in, whole and alone."
        ) from None


def _ids_starting_with(context: typer.Context, start: str) -> list[str]:
    from alphalens_keyctl.cli import run
    from alphalens_keyctl.database import Database, parse_address
    from alphalens_keyctl.keys import lookup
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
        # A row written by hand can have any id, and zsh runs what it completes.
        return list(filter(is_id, lookup.ids_starting_with(connection, start, limit=50)))
