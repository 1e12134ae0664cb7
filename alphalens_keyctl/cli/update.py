"""`update KEY…`: give keys a new name, owner, purpose, expiry or labels."""

import typer

from alphalens_keyctl.cli import run as runs
from alphalens_keyctl.cli.options.arguments import JsonOption, OverrideOption, parse_override
from alphalens_keyctl.cli.options.filters import Filters
from alphalens_keyctl.cli.options.groups import with_groups
from alphalens_keyctl.cli.options.guards import Guards, KeysArgument, asked
from alphalens_keyctl.cli.options.new_values import NewValues


@with_groups(new_values=NewValues, filters=Filters, guards=Guards)
def update(
    ctx: typer.Context,
    keys: KeysArgument = None,
    override: OverrideOption = None,
    json: JsonOption = False,
    *,
    new_values: NewValues,
    filters: Filters,
    guards: Guards,
) -> None:
    """Change what is written down about keys, and when they expire; their raw keys stay as they are.

    A name means its current key. All of them change or none. A revoked or retired key stays as it is; an expired one
    opens again once it has a new expiry. A new name is also that of the old keys of a rotation that still open, and so
    are, for a KEY that is named, the scopes and networks that are set or taken away.

    Examples:
      alphalens-keyctl update billing --set-owner payments --set-label team=billing --unset purpose
      alphalens-keyctl update billing --set-expires 90d --set-scope prices:read --set-allow-from 10.0.0.0/8
      alphalens-keyctl update --owner team-a --set-owner team-b --dry-run
    """
    run = runs.of(ctx)
    request = asked(keys, filters, guards, json=json)
    from alphalens_keyctl.cli import update_keys

    update_keys.update(run, request, new_values, override=parse_override(override))
