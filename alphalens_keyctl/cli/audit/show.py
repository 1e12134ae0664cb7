"""`audit show`: show one event of the audit log whole."""

from typing import Annotated

import typer

from alphalens_keyctl.cli import run as runs
from alphalens_keyctl.cli.options.arguments import JsonOption
from alphalens_keyctl.vocabulary import LARGEST_NUMBER


def show(
    ctx: typer.Context,
    seq: Annotated[
        int,
        typer.Argument(metavar="SEQ", min=1, max=LARGEST_NUMBER, show_default=False, help="The number of the event."),
    ],
    json: JsonOption = False,
) -> None:
    """Show one event whole: what changed, who did it and why, what is known of them and what they said, and its hash.

    Examples:
      alphalens-keyctl audit show 1
    """
    run = runs.of(ctx)
    from alphalens_keyctl.cli.audit import show_event

    show_event.show_event(run, seq, json=json)
