"""The options that `revoke`, `suspend`, `resume` and `update` share, and the value that they are parsed into."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, NamedTuple

import typer

from alphalens_keyctl import text
from alphalens_keyctl.cli.options.arguments import MOST_ROWS, parse_key
from alphalens_keyctl.cli.options.filters import Filters
from alphalens_keyctl.cli.options.groups import OptionGroup, Panel
from alphalens_keyctl.keyformat import RawKey
from alphalens_keyctl.keys.guards import MOST_BY_FILTER

KeysArgument = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="KEY",
        show_default=False,
        help="Names, ids, first characters of ids (6 or more), or - for a raw key on stdin.",
    ),
]


@dataclass(frozen=True)
class Guards(OptionGroup):
    """The options that guard against changing the wrong keys, or too many."""

    panel = Panel.SAFETY

    reason: Annotated[
        str | None, typer.Option("--reason", metavar="TEXT", help="Why, for the audit log.", show_default=False)
    ] = None
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would change, and change nothing.")] = False
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")] = False
    most: Annotated[
        int | None,
        typer.Option(
            "--max",
            metavar="N",
            min=1,
            max=MOST_ROWS,
            show_default=False,
            help=f"Refuse when filters select more than N keys. Default: {MOST_BY_FILTER}.",
        ),
    ] = None
    in_use: Annotated[
        bool, typer.Option("--in-use", help="Let filters select keys that were used within the last hour.")
    ] = False


class Asked(NamedTuple):
    """What the options of a revocation or an update ask for. `most` is None without `--max`."""

    references: Sequence[str | RawKey]
    filters: Filters
    reason: str | None
    dry_run: bool
    yes: bool
    most: int | None
    in_use: bool
    json: bool


def asked(keys: Sequence[str] | None, filters: Filters, guards: Guards, *, json: bool) -> Asked:
    """Return the options as one value. Raises `KeyctlError` (invalid_input, input_failed)."""
    why = guards.reason
    if why is not None:
        why = text.parse_line(why, what="reason", longest=text.LONGEST_REASON)
    references = [parse_key(key) for key in keys or ()]
    return Asked(references, filters, why, guards.dry_run, guards.yes, guards.most, guards.in_use, json)
