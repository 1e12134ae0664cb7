"""`audit head`: the audit log's last link, to be kept elsewhere."""

import typer

from alphalens_keyctl.cli import run as runs
from alphalens_keyctl.cli.options.arguments import JsonOption


def head(ctx: typer.Context, json: JsonOption = False) -> None:
    """Print the log's last place, hash and time. Keep it elsewhere: 'audit verify --head' needs it."""
    run = runs.of(ctx)
    from alphalens_keyctl.cli.audit import head_of_log

    head_of_log.print_head(run, json=json)
