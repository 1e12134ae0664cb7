"""`help [COMMAND|TOPIC]`: explain a command or a topic."""

from typing import Annotated

import typer


def help_(
    ctx: typer.Context,
    about: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="COMMAND|TOPIC", show_default=False, help="A command, as 'rotate' or 'audit check', or a topic."
        ),
    ] = None,
) -> None:
    """Explain a command or a topic; without either, list them.

    Examples:
      alphalens-keyctl help rotate
      alphalens-keyctl help exit-codes
      alphalens-keyctl help json | less
    """
    from alphalens_keyctl.cli import show_help

    show_help.show_help(ctx, about or ())
