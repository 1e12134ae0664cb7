"""`list`: which keys there are."""

from typing import Annotated

import typer

from alphalens_keyctl.cli import run as runs
from alphalens_keyctl.cli.options.arguments import CsvOption, JsonLinesOption, JsonOption, one_of
from alphalens_keyctl.cli.options.filters import Filters
from alphalens_keyctl.cli.options.groups import with_groups
from alphalens_keyctl.cli.options.rows import limit_option

TERMINAL_LIMIT = 100


@with_groups(filters=Filters)
def list_keys(
    ctx: typer.Context,
    all_: Annotated[bool, typer.Option("--all", help="Revoked and retired keys too.")] = False,
    sort: Annotated[
        str, typer.Option("--sort", metavar="BY", help="created, name, owner, last-used, expires or uses.")
    ] = "created",
    limit: Annotated[
        int | None, limit_option(f"At most so many; {TERMINAL_LIMIT} for people, all for machines.")
    ] = None,
    json: JsonOption = False,
    jsonl: JsonLinesOption = False,
    csv: CsvOption = False,
    *,
    filters: Filters,
) -> None:
    """List keys: all that are not revoked or retired, or those that fit every filter."""
    run = runs.of(ctx)
    from alphalens_keyctl.keys import selection
    from alphalens_keyctl.output import channel, documents

    machine = runs.one_format(json=json, jsonl=jsonl, csv=csv)
    wanted = filters.selection(final=all_)
    order, now = one_of(selection.Sort, sort, "order"), run.act.at
    with run.database() as database, database.reading() as connection:
        if machine is not None:
            found = selection.documents(connection, wanted, sort=order, limit=limit, now=now)
            channel.write(documents.keys_as(machine, found), utf8=True)
            return
        keys = selection.read(connection, wanted, sort=order, limit=TERMINAL_LIMIT if limit is None else limit, now=now)
        total = selection.count(connection, wanted, now=now)
        hidden = (
            0 if all_ or wanted.statuses else selection.count(connection, wanted._replace(final=True), now=now) - total
        )
    from alphalens_keyctl.output import tables

    channel.write([tables.key_list(keys, total, hidden=hidden, now=now, screen=run.screen())])
