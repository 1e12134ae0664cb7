"""`audit head`: print the audit log's head, to be kept elsewhere."""

import typer

from alphalens_keyctl.cli import run as runs
from alphalens_keyctl.cli.options.arguments import JsonOption


def head(ctx: typer.Context, json: JsonOption = False) -> None:
    """Print the last event's number, hash and time. Keep them elsewhere: 'audit verify --head' compares the log.

    Examples:
      alphalens-keyctl audit head
      alphalens-keyctl audit head --json > head.json
    """
    run = runs.of(ctx)
    from alphalens_keyctl.cli.audit import head_of_log

    head_of_log.print_head(run, json=json)
