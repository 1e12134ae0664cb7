"""`verify`: say whether a raw key opens."""

from typing import Annotated

import typer

from alphalens_keyctl import networks, scopes
from alphalens_keyctl.cli import run as runs
from alphalens_keyctl.cli.options import standard_input
from alphalens_keyctl.cli.options.arguments import JsonOption


def verify(
    ctx: typer.Context,
    scope: Annotated[
        list[str] | None,
        typer.Option(
            "--scope",
            metavar="SCOPE",
            show_default=False,
            help="For a request that needs this scope; repeat for more.",
        ),
    ] = None,
    address: Annotated[
        str | None,
        typer.Option("--address", metavar="ADDRESS", show_default=False, help="For a client at this address."),
    ] = None,
    record: Annotated[bool, typer.Option("--record", help="Count the check as a use, and log it.")] = False,
    json: JsonOption = False,
) -> None:
    """Check a raw key from stdin: exit 0 when it opens, 4 when not, with the reason.

    The check does not count as a use, unless --record is given. A key that is limited to networks opens with
    --address alone.

    Examples:
      alphalens-keyctl verify < ci-key
      alphalens-keyctl verify --json < ci-key
      alphalens-keyctl verify --scope prices:read --address 10.1.2.3 < ci-key
    """
    run = runs.of(ctx)
    needed = tuple(map(scopes.parse, scope or ())) or None
    client = None if address is None else networks.parse_address(address)
    presented = standard_input.read_line()
    from alphalens_keyctl.cli import verify_key

    verify_key.verify_key(run, presented, scope=needed, address=client, record=record, json=json)
