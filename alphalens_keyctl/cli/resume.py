"""`resume KEY…`: switch suspended keys on again."""

import typer

from alphalens_keyctl.cli import run as runs
from alphalens_keyctl.cli.arguments import JsonOption
from alphalens_keyctl.cli.option_groups import with_groups
from alphalens_keyctl.cli.switch_options import Guards, KeysArgument, asked
from alphalens_keyctl.cli.which_keys import Filters


@with_groups(filters=Filters, guards=Guards)
def resume(
    ctx: typer.Context,
    keys: KeysArgument = None,
    json: JsonOption = False,
    *,
    filters: Filters,
    guards: Guards,
) -> None:
    """Resume suspended keys: they open again, unless they expired meanwhile.

    Resuming a key that is not suspended is fine.
    """
    run = runs.of(ctx)
    request = asked(keys, filters, guards, json=json)
    from alphalens_keyctl.cli import switching

    switching.switch_keys(run, switching.RESUME, request)
