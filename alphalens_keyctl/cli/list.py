"""`list`: which keys there are."""

from typing import Annotated

import typer

from alphalens_keyctl import text
from alphalens_keyctl.cli import run as runs
from alphalens_keyctl.cli.arguments import CsvOption, JsonLinesOption, JsonOption, one_of
from alphalens_keyctl.cli.filters import limit_option
from alphalens_keyctl.moments import parse_span

TERMINAL_LIMIT = 100


def list_keys(
    ctx: typer.Context,
    status: Annotated[
        list[str] | None,
        typer.Option(
            "--status",
            metavar="STATUS",
            show_default=False,
            help="active, suspended, retiring, …; repeat for more.",
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", metavar="GLOB", show_default=False, help="Names, with * and ?.")
    ] = None,
    owner: Annotated[
        str | None, typer.Option("--owner", metavar="TEXT", show_default=False, help="Exactly this owner.")
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option("--label", metavar="K=V", show_default=False, help="Labelled so; repeat for more."),
    ] = None,
    unused_for: Annotated[
        str | None,
        typer.Option(
            "--unused-for",
            metavar="DUR",
            show_default=False,
            help="Not used for so long, counted from activation if never.",
        ),
    ] = None,
    never_used: Annotated[bool, typer.Option("--never-used", help="Never used at all.")] = False,
    expires_within: Annotated[
        str | None,
        typer.Option("--expires-within", metavar="DUR", show_default=False, help="About to expire."),
    ] = None,
    older_than: Annotated[
        str | None,
        typer.Option("--older-than", metavar="DUR", show_default=False, help="Created longer ago."),
    ] = None,
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
) -> None:
    """List keys: all that are not revoked or retired, or those that fit every filter."""
    run = runs.of(ctx)
    from alphalens_keyctl import selection
    from alphalens_keyctl.models import Status
    from alphalens_keyctl.output import channel, documents

    machine = runs.one_format(json=json, jsonl=jsonl, csv=csv)
    wanted = selection.Selection(
        statuses=tuple(one_of(Status, word, "status") for word in status or ()),
        final=all_,
        name_glob=None if name is None else text.parse_line(name, what="name pattern", longest=text.LONGEST_NAME),
        owner=None if owner is None else text.parse_line(owner, what="owner", longest=text.LONGEST_OWNER),
        labels=text.parse_labels(label or ()),
        never_used=never_used,
        unused_for=None if unused_for is None else parse_span(unused_for, what="time unused"),
        expires_within=None if expires_within is None else parse_span(expires_within, what="time to expiry"),
        older_than=None if older_than is None else parse_span(older_than, what="age"),
    )
    order, now = one_of(selection.Sort, sort, "order"), run.act.at
    with run.database() as database, database.reading() as connection:
        if machine is not None:
            found = selection.documents(connection, wanted, sort=order, limit=limit, now=now)
            channel.write(documents.keys_as(machine, found), utf8=True)
            return
        keys = selection.read(connection, wanted, sort=order, limit=TERMINAL_LIMIT if limit is None else limit, now=now)
        total = selection.count(connection, wanted, now=now)
        hidden = 0 if all_ or status else selection.count(connection, wanted._replace(final=True), now=now) - total
    from alphalens_keyctl.output import tables

    channel.write([tables.key_list(keys, total, hidden=hidden, now=now, screen=run.screen())])
