"""`revoke KEY…`: switch keys off for good."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from alphalens_keyctl import text
from alphalens_keyctl.cli import run as runs
from alphalens_keyctl.cli.arguments import JsonOption, complete_key, parse_key
from alphalens_keyctl.errors import Code, KeyctlError

if TYPE_CHECKING:
    from alphalens_keyctl.models import Key


def revoke(
    ctx: typer.Context,
    keys: Annotated[
        list[str],
        typer.Argument(
            metavar="KEY...",
            autocompletion=complete_key,
            show_default=False,
            help="Names, ids, starts of ids of 6 or more characters, or - for a raw key on stdin.",
        ),
    ],
    reason: Annotated[
        str | None, typer.Option("--reason", metavar="TEXT", help="Why, for the log.", show_default=False)
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would change, and change nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    keyring: Annotated[bool, typer.Option("--keyring", help="Remove the keys from the system's keyring too.")] = False,
    json: JsonOption = False,
) -> None:
    """Revoke keys: they open nothing from now on, and nothing brings them back.

    All of them or, where one cannot be found, none. Revoking a revoked key is fine.
    """
    run = runs.of(ctx)
    from alphalens_keyctl import lifecycle, selection
    from alphalens_keyctl.models import Status
    from alphalens_keyctl.output import channel, documents
    from alphalens_keyctl.output.inert import for_terminal

    why = None if reason is None else text.parse_line(reason, what="reason", longest=text.LONGEST_REASON)
    references = [parse_key(key) for key in keys]
    with run.database() as database:
        with database.reading() as connection:
            named = [selection.find(connection, reference, now=run.act.at) for reference in references]
        found = list({key.id: key for key in named}.values())
        live = [key for key in found if key.status != Status.REVOKED]
        asked = bool(live) and not (yes or dry_run) and runs.can_ask()
        if asked:
            for key in live:
                channel.note(f"  {key.name} ({key.id}, {key.status})")
            runs.confirm(f"Revoke {'this key' if len(live) == 1 else f'these {len(live)} keys'} for good?")
        if dry_run:
            done = lifecycle.Changed(live, [key for key in found if key.status == Status.REVOKED])
        else:
            with database.writing() as tx:
                act = run.act.now()
                meant = [selection.find(tx, reference, now=act.at) for reference in references]
                if asked:
                    _refuse_if_changed(named, meant)
                done = lifecycle.revoke(tx, [key.id for key in meant], act, reason=why)
        with database.reading() as connection:
            siblings = selection.still_opening(connection, [key.id for key in done.changed], now=run.act.at)
            digests = selection.digests(connection, found)
    failure = _forget(found, digests) if keyring and not dry_run else None
    if json:
        runs.report(documents.json_document(documents.changed_object(done, dry_run=dry_run)))
        if failure is not None:
            raise failure
        return
    verb = "Would revoke" if dry_run else "Revoked"
    lines = [f"{verb} key '{key.name}' ({key.id})." for key in done.changed]
    lines += [f"Key '{key.name}' ({key.id}) was revoked already." for key in done.unchanged]
    runs.report("".join(for_terminal(line) + "\n" for line in lines))
    for key in siblings:
        run.note(f"Mind: key {key.id}, also called '{key.name}', still opens: it is {key.status}.")
    if failure is not None:
        raise failure


def _forget(keys: "Sequence[Key]", digests: "Mapping[str, bytes]") -> KeyctlError | None:
    """Remove revoked keys from the keyring. One that holds another key by now keeps it."""
    from alphalens_keyctl.delivery import keyring

    try:
        for key in keys:
            if keyring.look(key.name, digests).key_id == key.id:
                keyring.remove(key.name)
    except KeyctlError as error:
        return KeyctlError(error.code, error.message, "The keys are revoked all the same; remove the entry by hand.")
    return None


def _refuse_if_changed(shown: "Sequence[Key]", meant: "Sequence[Key]") -> None:
    """While the question stood, a rotation may have given the name to another key than was said yes to."""
    for before, after in zip(shown, meant, strict=True):
        if before.id != after.id:
            raise KeyctlError(
                Code.LOST_RACE,
                f"'{before.name}' means another key than a moment ago; nothing was changed",
                "Look at it again, then repeat the command.",
            )
