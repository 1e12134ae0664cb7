"""The options of `list`, `audit` and `audit usage` that say which rows they show.

Each command words the help of these options itself, since the defaults differ.
"""

from datetime import datetime
from typing import Annotated, Any, Final

import typer

from alphalens_keyctl.cli.options.arguments import MOST_ROWS
from alphalens_keyctl.cli.options.groups import Panel
from alphalens_keyctl.moments import parse_since

# Rows of a table without --limit.
TERMINAL_LIMIT: Final = 100

KeyFilter = Annotated[
    str | None,
    typer.Option(
        "--key",
        metavar="KEY",
        show_default=False,
        help="Only this key; a name means every key that ever had it.",
    ),
]


FormatOption = Annotated[
    str | None,
    typer.Option(
        "--format",
        metavar="FORMAT",
        rich_help_panel=Panel.OUTPUT,
        show_default=False,
        help="Print lines for a SIEM: ocsf, cef or syslog.",
    ),
]


def since_option(help_text: str) -> Any:
    """Return the option `--since WHEN`, which `parse_period` parses."""
    return typer.Option("--since", metavar="WHEN", show_default=False, help=help_text)


def until_option(help_text: str) -> Any:
    """Return the option `--until WHEN`, which `parse_period` parses."""
    return typer.Option("--until", metavar="WHEN", show_default=False, help=help_text)


def limit_option(help_text: str) -> Any:
    """Return the option `--limit N`: a number of rows, from 0 on."""
    return typer.Option(
        "--limit", metavar="N", rich_help_panel=Panel.OUTPUT, min=0, max=MOST_ROWS, show_default=False, help=help_text
    )


def parse_period(since: str | None, until: str | None, *, now: datetime) -> tuple[datetime | None, datetime | None]:
    """`--since` and `--until` → the start of a period and its end (exclusive), each in UTC, or None where it is open.

    Raises `KeyctlError` (invalid_input).
    """
    return (
        None if since is None else parse_since(since, what="start", now=now),
        None if until is None else parse_since(until, what="end", now=now),
    )
