"""`audit prune`: remove old rows of the usage log."""

from typing import Annotated

import typer

from alphalens_keyctl.cli import run as runs
from alphalens_keyctl.cli.options.arguments import JsonOption
from alphalens_keyctl.cli.options.groups import Panel
from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.moments import parse_span


def prune(
    ctx: typer.Context,
    older_than: Annotated[
        str,
        typer.Option("--older-than", metavar="DUR", show_default=False, help="Remove rows older than DUR: 90d, 52w."),
    ],
    usage: Annotated[
        bool, typer.Option("--usage", help="Prune the usage log; the audit log is never shortened.")
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", rich_help_panel=Panel.SAFETY, help="Show what would be removed, and remove nothing."),
    ] = False,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", rich_help_panel=Panel.SAFETY, help="Do not ask for confirmation.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Remove old rows of the usage log for good, and write an event to the audit log.

    Each key keeps its last use and its number of uses.

    Examples:
      alphalens-keyctl audit prune --usage --older-than 90d --dry-run
      alphalens-keyctl audit prune --usage --older-than 52w --yes
    """
    run = runs.of(ctx)
    if not usage:
        raise KeyctlError(
            Code.USAGE,
            "only the usage log can be pruned",
            "Say so with --usage. The audit log is never shortened.",
        )
    before = (run.act.at - parse_span(older_than, what="age")).replace(microsecond=0)
    from alphalens_keyctl.cli.audit import prune_usage

    prune_usage.prune_usage(run, before, dry_run=dry_run, ask=not yes, json=json)
