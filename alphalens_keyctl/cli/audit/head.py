"""`audit head`: print the audit log's head, to be kept elsewhere."""

from typing import Annotated

import typer

from alphalens_keyctl.cli import run as runs
from alphalens_keyctl.cli.options.arguments import JsonOption
from alphalens_keyctl.cli.options.evidence import OriginOption, SignOption
from alphalens_keyctl.cli.options.groups import Panel
from alphalens_keyctl.errors import Code, KeyctlError


def head(
    ctx: typer.Context,
    sign: SignOption = None,
    origin: OriginOption = None,
    json: JsonOption = False,
    checkpoint: Annotated[
        bool,
        typer.Option(
            "--checkpoint", rich_help_panel=Panel.OUTPUT, help="Print a checkpoint of C2SP, for witnesses to sign."
        ),
    ] = False,
) -> None:
    """Print the last event's number, hash and time, and the root of the tree over all events. Keep them elsewhere.

    'audit verify --head' compares the log with them, 'audit prove --check' an event. With --sign it prints JSON.

    Examples:
      alphalens-keyctl audit head
      alphalens-keyctl audit head --json > head.json
      alphalens-keyctl audit head --checkpoint --origin example.com/keys
    """
    run = runs.of(ctx)
    if checkpoint and (json or sign is not None):
        raise KeyctlError(
            Code.USAGE, "--checkpoint excludes --json and --sign", "The document of --json holds the checkpoint, too."
        )
    from alphalens_keyctl.cli.audit import head_of_log

    head_of_log.print_head(run, sign=sign, origin=origin, json=json, checkpoint=checkpoint)
