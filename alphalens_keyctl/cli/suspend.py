"""`suspend KEY…`: stop keys from opening until they are resumed."""

import typer

from alphalens_keyctl.cli import run as runs
from alphalens_keyctl.cli.options.arguments import JsonOption
from alphalens_keyctl.cli.options.filters import Filters
from alphalens_keyctl.cli.options.groups import with_groups
from alphalens_keyctl.cli.options.guards import Guards, KeysArgument, asked


@with_groups(filters=Filters, guards=Guards)
def suspend(
    ctx: typer.Context,
    keys: KeysArgument = None,
    json: JsonOption = False,
    *,
    filters: Filters,
    guards: Guards,
) -> None:
    """Suspend keys: they open nothing until they are resumed.

    Verifiers see a suspension as fast as a revocation. Suspending a suspended key is fine.

    Examples:
      alphalens-keyctl suspend billing --reason "who uses it?"
      alphalens-keyctl suspend --unused-for 90d --max 20 --dry-run
    """
    run = runs.of(ctx)
    request = asked(keys, filters, guards, json=json)
    from alphalens_keyctl.cli import revoke_keys

    revoke_keys.suspend(run, request)
