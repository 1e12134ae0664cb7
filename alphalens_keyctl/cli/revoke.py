"""`revoke KEY…`: switch keys off for good."""

from typing import TYPE_CHECKING, Annotated

import typer

from alphalens_keyctl.cli import run as runs
from alphalens_keyctl.cli.options.arguments import JsonOption
from alphalens_keyctl.cli.options.filters import Filters
from alphalens_keyctl.cli.options.groups import with_groups
from alphalens_keyctl.cli.options.guards import Guards, KeysArgument, asked
from alphalens_keyctl.errors import KeyctlError

if TYPE_CHECKING:
    from alphalens_keyctl.cli.run import Run
    from alphalens_keyctl.keys.revocation import Changed


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

    All of them or, where one cannot be found, none. Revoking a revoked key is fine.
    """
    run = runs.of(ctx)
    request = asked(keys, filters, guards, json=json)
    from alphalens_keyctl.cli import revoke_keys

    done = revoke_keys.change_keys(run, revoke_keys.REVOKE, request)
    if keyring and not guards.dry_run:
        _forget(run, done)


def _forget(run: "Run", done: "Changed") -> None:
    """Remove revoked keys from the keyring. One that holds another key by now keeps it."""
    from alphalens_keyctl.delivery import keyring
    from alphalens_keyctl.keys import selection

    with run.database() as database, database.reading() as connection:
        keys = selection.some(connection, [*done.changed, *done.unchanged], now=run.act.at)
        digests = selection.digests(connection, keys)
    try:
        for key in keys:
            if keyring.look(key.name, digests).key_id == key.id:
                keyring.remove(key.name)
    except KeyctlError as error:
        raise KeyctlError(
            error.code, error.message, "The keys are revoked all the same; remove the entry by hand."
        ) from error
