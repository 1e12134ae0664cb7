"""Arguments and options that several commands share, and how KEY is parsed."""

from typing import Annotated, Final

import typer

from alphalens_keyctl import text
from alphalens_keyctl.cli.options import standard_input
from alphalens_keyctl.cli.options.groups import Panel
from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.keyformat import MalformedKeyError, RawKey, parse

KeyArgument = Annotated[
    str,
    typer.Argument(
        metavar="KEY",
        help="A name, an id, its first 6 or more characters, or - for a raw key on stdin.",
        show_default=False,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", rich_help_panel=Panel.OUTPUT, help="Print one JSON document.")]
JsonLinesOption = Annotated[bool, typer.Option("--jsonl", rich_help_panel=Panel.OUTPUT, help="Print JSON Lines.")]
OverrideOption = Annotated[
    str | None,
    typer.Option(
        "--override",
        metavar="REASON",
        rich_help_panel=Panel.SAFETY,
        show_default=False,
        help="Do what the stored policy forbids; REASON goes on record.",
    ),
]
# More than any database holds, and a number that both databases take.
MOST_ROWS: Final = 1_000_000_000
CsvOption = Annotated[bool, typer.Option("--csv", rich_help_panel=Panel.OUTPUT, help="Print CSV.")]


def parse_override(given: str | None) -> str | None:
    """`--override REASON` → the reason, or None. Raises `KeyctlError` (invalid_input)."""
    return None if given is None else text.parse_line(given, what="reason", longest=text.LONGEST_REASON)


def parse_key(reference: str) -> str | RawKey:
    """KEY → the text to look up, or for `-` the raw key on stdin. Raises `KeyctlError` (invalid_input)."""
    if reference != "-":
        return text.parse_line(reference, what="KEY", longest=text.LONGEST_NAME)
    try:
        return parse(standard_input.read_line())
    except MalformedKeyError as error:
        raise KeyctlError(
            Code.INVALID_INPUT, f"stdin holds no raw key: {error}", "Pipe the raw key in, whole and alone."
        ) from None
