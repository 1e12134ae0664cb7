"""`show KEY`: show everything about one key."""

from typing import Annotated

import typer

from alphalens_keyctl.cli import run as runs
from alphalens_keyctl.cli.options.arguments import JsonOption, KeyArgument, parse_key


def show(
    ctx: typer.Context,
    key: KeyArgument,
    keyring: Annotated[
        bool, typer.Option("--keyring", help="Also say whether the system's keyring has the key.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Show everything about one key, its lineage, and how much it was used.

    Examples:
      alphalens-keyctl show billing
      # Whose raw key is this? It is read from stdin:
      alphalens-keyctl show - < ci-key
    """
    run = runs.of(ctx)
    reference = parse_key(key)
    from alphalens_keyctl.cli import show_key

    show_key.show_key(run, reference, keyring=keyring, json=json)
