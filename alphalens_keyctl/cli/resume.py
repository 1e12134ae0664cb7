"""`resume KEY…`: let suspended keys open again."""

import typer

from alphalens_keyctl.cli import run as runs
from alphalens_keyctl.cli.options.arguments import JsonOption
from alphalens_keyctl.cli.options.filters import Filters
from alphalens_keyctl.cli.options.groups import with_groups
from alphalens_keyctl.cli.options.guards import Guards, KeysArgument, asked


@with_groups(filters=Filters, guards=Guards)
def resume(
    ctx: typer.Context,
    keys: KeysArgument = None,
    json: JsonOption = False,
    *,
    filters: Filters,
    guards: Guards,
) -> None:
    """Resume suspended keys: they open again, unless they have expired meanwhile.

    Resuming a key that is not suspended is fine.

    Examples:
      alphalens-keyctl resume billing
      alphalens-keyctl resume --owner team-a --yes
    """
    run = runs.of(ctx)
    request = asked(keys, filters, guards, json=json)
    from alphalens_keyctl.cli import revoke_keys

    revoke_keys.resume(run, request)
