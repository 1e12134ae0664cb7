"""`audit prune`: remove what is old from the usage log."""

from typing import Annotated

import typer

from alphalens_keyctl.cli import run as runs
from alphalens_keyctl.cli.options.arguments import JsonOption
from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.moments import parse_span


def prune(
    ctx: typer.Context,
    older_than: Annotated[
        str, typer.Option("--older-than", metavar="DUR", show_default=False, help="What is older goes: 90d, 52w.")
    ],
    usage: Annotated[bool, typer.Option("--usage", help="The usage log; the audit log itself is for ever.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would go, and remove nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    json: JsonOption = False,
) -> None:
    """Remove old rows of the usage log for good, with an event in the audit log.

    When and how often each key was used stays on record with the key.
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
