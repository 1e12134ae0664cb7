"""Options that say which rows `list`, `audit` and `audit usage` show.

Each command words its own help: the same option has another default in each.
"""

from datetime import datetime
from typing import Annotated, Any, Final

import typer

from alphalens_keyctl.cli.options.arguments import MOST_ROWS, complete_key_id
from alphalens_keyctl.moments import parse_since

# Rows of a list that people get where they set no limit.
TERMINAL_LIMIT: Final = 100

KeyFilter = Annotated[
    str | None,
    typer.Option(
        "--key",
        metavar="KEY",
        autocompletion=complete_key_id,
        show_default=False,
        help="Only this key; by name, every key that had it.",
    ),
]


def since_option(help_text: str) -> Any:
    """`--since WHEN`, for `parse_period`."""
    return typer.Option("--since", metavar="WHEN", show_default=False, help=help_text)


def until_option(help_text: str) -> Any:
    """`--until WHEN`, for `parse_period`."""
    return typer.Option("--until", metavar="WHEN", show_default=False, help=help_text)


def limit_option(help_text: str) -> Any:
    """`--limit N`: a number of rows, 0 too."""
    return typer.Option("--limit", metavar="N", min=0, max=MOST_ROWS, show_default=False, help=help_text)


def parse_period(since: str | None, until: str | None, *, now: datetime) -> tuple[datetime | None, datetime | None]:
    """`--since` and `--until` → where the period starts and where it ends (exclusive), each UTC or open.

    Raises `KeyctlError` (invalid_input).
    """
    return (
        None if since is None else parse_since(since, what="start", now=now),
        None if until is None else parse_since(until, what="end", now=now),
    )
