"""`resume KEY…`: switch suspended keys on again."""

import typer

from alphalens_keyctl.cli import run as runs
from alphalens_keyctl.cli.arguments import JsonOption
from alphalens_keyctl.cli.switch_options import (
    DryRunOption,
    KeysArgument,
    MaxOption,
    ReasonOption,
    YesOption,
    asked,
)
from alphalens_keyctl.cli.which_keys import Filters, choosing_keys


@choosing_keys
def resume(
    ctx: typer.Context,
    keys: KeysArgument = None,
    reason: ReasonOption = None,
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    most: MaxOption = None,
    json: JsonOption = False,
    *,
    filters: Filters,
) -> None:
    """Resume suspended keys: they open again, unless they expired meanwhile.

    Resuming a key that is not suspended is fine.
    """
    run = runs.of(ctx)
    request = asked(keys, filters, reason=reason, dry_run=dry_run, yes=yes, most=most, json=json)
    from alphalens_keyctl.cli import switching

    switching.switch_keys(run, switching.RESUME, request)
