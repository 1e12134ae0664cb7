"""`suspend KEY…`: switch keys off for now."""

import typer

from alphalens_keyctl.cli import run as runs
from alphalens_keyctl.cli.arguments import JsonOption
from alphalens_keyctl.cli.switch_options import (
    DryRunOption,
    InUseOption,
    KeysArgument,
    MaxOption,
    ReasonOption,
    YesOption,
    asked,
)
from alphalens_keyctl.cli.which_keys import Filters, choosing_keys


@choosing_keys
def suspend(
    ctx: typer.Context,
    keys: KeysArgument = None,
    reason: ReasonOption = None,
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    most: MaxOption = None,
    in_use: InUseOption = False,
    json: JsonOption = False,
    *,
    filters: Filters,
) -> None:
    """Suspend keys: they open nothing until they are resumed.

    Verifiers see it as fast as a revocation. Suspending a suspended key is fine.
    """
    run = runs.of(ctx)
    request = asked(keys, filters, reason=reason, dry_run=dry_run, yes=yes, most=most, in_use=in_use, json=json)
    from alphalens_keyctl.cli import switching

    switching.switch_keys(run, switching.SUSPEND, request)
