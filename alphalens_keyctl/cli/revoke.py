"""`revoke KEY…`: switch keys off for good."""

from typing import Annotated

import typer

from alphalens_keyctl import text
from alphalens_keyctl.cli import run as runs
from alphalens_keyctl.cli.arguments import JsonOption, complete_key, parse_key


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
    reason: Annotated[str | None, typer.Option("--reason", help="Why, for the log.", show_default=False)] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would change, and change nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    json: JsonOption = False,
) -> None:
    """Revoke keys: they open nothing from now on, and nothing brings them back.

    All of them or, where one cannot be found, none. Revoking a revoked key is fine.
    """
    run = runs.of(ctx)
    from alphalens_keyctl import lifecycle, selection
    from alphalens_keyctl.models import Status
    from alphalens_keyctl.output import channel, documents

    why = None if reason is None else text.parse_line(reason, what="reason", longest=text.LONGEST_REASON)
    references = [parse_key(key) for key in keys]
    with run.database() as database:
        with database.reading() as connection:
            named = [selection.find(connection, reference, now=run.act.at) for reference in references]
        found = list({key.id: key for key in named}.values())
        live = [key for key in found if key.status != Status.REVOKED]
        if live and not (yes or dry_run or json) and runs.can_ask():
            for key in live:
                run.note(f"  {key.name} ({key.id}, {key.status})")
            runs.confirm(f"Revoke {'this key' if len(live) == 1 else f'these {len(live)} keys'} for good?")
        if dry_run:
            done = lifecycle.Changed(live, [key for key in found if key.status == Status.REVOKED])
        else:
            with database.writing() as tx:
                done = lifecycle.revoke(tx, [key.id for key in found], run.act, reason=why)
        with database.reading() as connection:
            siblings = selection.still_opening(connection, [key.id for key in done.changed], now=run.act.at)
    if json:
        channel.write([documents.json_document(documents.changed_object(done, dry_run=dry_run))])
        return
    verb = "Would revoke" if dry_run else "Revoked"
    lines = [f"{verb} key '{key.name}' ({key.id}).\n" for key in done.changed]
    lines += [f"Key '{key.name}' ({key.id}) was revoked already.\n" for key in done.unchanged]
    channel.write(lines)
    for key in siblings:
        run.note(f"Mind: key {key.id}, also called '{key.name}', still opens: it is {key.status}.")
