"""`revoke KEY…`: end keys for good."""

from typing import Annotated

import typer

from alphalens_keyctl.cli import run as runs
from alphalens_keyctl.cli.options.arguments import JsonOption
from alphalens_keyctl.cli.options.filters import Filters
from alphalens_keyctl.cli.options.groups import with_groups
from alphalens_keyctl.cli.options.guards import Guards, KeysArgument, asked


@with_groups(filters=Filters, guards=Guards)
def revoke(
    ctx: typer.Context,
    keys: KeysArgument = None,
    keyring: Annotated[bool, typer.Option("--keyring", help="Remove the keys from the system's keyring too.")] = False,
    json: JsonOption = False,
    *,
    filters: Filters,
    guards: Guards,
) -> None:
    """Revoke keys: they open nothing from now on, and nothing brings them back.

    When one of them cannot be found, none is revoked. Revoking a revoked key is fine.

    Examples:
      alphalens-keyctl revoke billing --reason "leaked in a ticket"
      # See first, then do; from cron --yes answers the question:
      alphalens-keyctl revoke --suspended-for 30d --dry-run
      alphalens-keyctl revoke --suspended-for 30d --yes
    """
    run = runs.of(ctx)
    request = asked(keys, filters, guards, json=json)
    from alphalens_keyctl.cli import revoke_keys

    revoke_keys.revoke(run, request, keyring=keyring)
