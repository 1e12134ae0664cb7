"""`verify`: say whether a raw key opens."""

from typing import Annotated

import typer

from alphalens_keyctl.cli import run as runs
from alphalens_keyctl.cli.options import standard_input
from alphalens_keyctl.cli.options.arguments import JsonOption


def verify(
    ctx: typer.Context,
    record: Annotated[bool, typer.Option("--record", help="Count the check as a use, and log it.")] = False,
    json: JsonOption = False,
) -> None:
    """Check a raw key from stdin: exit 0 when it opens, 4 when not, with the reason.

    The check does not count as a use, unless --record is given.

    Examples:
      alphalens-keyctl verify < ci-key
      alphalens-keyctl verify --json < ci-key
    """
    run = runs.of(ctx)
    presented = standard_input.read_line()
    from alphalens_keyctl.cli import verify_key

    verify_key.verify_key(run, presented, record=record, json=json)
