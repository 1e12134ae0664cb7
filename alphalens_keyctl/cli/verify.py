"""`verify`: does this raw key open?"""

from typing import Annotated

import typer

from alphalens_keyctl.cli import run as runs
from alphalens_keyctl.cli.options import standard_input
from alphalens_keyctl.cli.options.arguments import JsonOption


def verify(
    ctx: typer.Context,
    record: Annotated[bool, typer.Option("--record", help="Count it as a use, and log it.")] = False,
    json: JsonOption = False,
) -> None:
    """Check a raw key from stdin: exit 0 when it opens, 4 when not, with the reason.

    It does not count as a use, unless --record says so.
    """
    run = runs.of(ctx)
    presented = standard_input.read_line()
    from alphalens_keyctl.cli import verify_key

    verify_key.verify_key(run, presented, record=record, json=json)
