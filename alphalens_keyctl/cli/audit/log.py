"""`audit` alone: the log of every change."""

from typing import Annotated

import typer

from alphalens_keyctl import text
from alphalens_keyctl.cli import run as runs
from alphalens_keyctl.cli.options.arguments import CsvOption, JsonLinesOption, JsonOption, one_of, parse_key
from alphalens_keyctl.cli.options.rows import KeyFilter, limit_option, parse_period, since_option, until_option
from alphalens_keyctl.errors import Code, KeyctlError

TERMINAL_LIMIT = 100


def audit(
    ctx: typer.Context,
    key: KeyFilter = None,
    actor: Annotated[
        str | None, typer.Option("--actor", metavar="TEXT", show_default=False, help="Only what this actor did.")
    ] = None,
    action: Annotated[
        str | None, typer.Option("--action", metavar="ACTION", show_default=False, help="For example key.revoke.")
    ] = None,
    since: Annotated[str | None, since_option("From then on: 7d, a date, an instant.")] = None,
    until: Annotated[str | None, until_option("Before then: 7d, a date, an instant.")] = None,
    limit: Annotated[
        int | None, limit_option(f"The latest so many; {TERMINAL_LIMIT} for people, all for machines.")
    ] = None,
    json: JsonOption = False,
    jsonl: JsonLinesOption = False,
    csv: CsvOption = False,
) -> None:
    """Show who changed which key when, oldest first."""
    if ctx.invoked_subcommand is not None:
        _refuse_options_before(ctx, ctx.invoked_subcommand)
        return
    run = runs.of(ctx)
    from alphalens_keyctl.keys import lookup
    from alphalens_keyctl.logs import audit as log
    from alphalens_keyctl.models import Action
    from alphalens_keyctl.output import channel, documents

    machine, now = runs.one_format(json=json, jsonl=jsonl, csv=csv), run.act.at
    start, end = parse_period(since, until, now=now)
    wanted = log.LogFilter(
        actor=None if actor is None else text.parse_line(actor, what="actor", longest=text.LONGEST_ACTOR),
        action=None if action is None else one_of(Action, action, "action"),
        since=start,
        until=end,
    )
    reference = None if key is None else parse_key(key)
    with run.database() as database, database.reading(tolerant=True) as connection:
        if reference is not None:
            wanted = wanted._replace(key_ids=lookup.meant_by(connection, reference, now=now))
        if machine is not None:
            events = log.read(connection, wanted, limit=limit)
            channel.write(documents.events_as(machine, events), utf8=True)
            return
        shown = list(log.read(connection, wanted, limit=TERMINAL_LIMIT if limit is None else limit))
        total = log.count(connection, wanted)
    from alphalens_keyctl.output import tables

    channel.write([tables.event_list(shown, total, now=now, screen=run.screen())])


def _refuse_options_before(ctx: typer.Context, subcommand: str) -> None:
    """An option that goes unheard is worse than one refused: `audit --json verify` would print no JSON."""
    given = [name for name, value in ctx.params.items() if value not in (None, False)]
    if given:
        raise KeyctlError(
            Code.USAGE,
            f"--{given[0]} stands before '{subcommand}', which does not hear it",
            f"Write it after '{subcommand}', if it has that option.",
        )
