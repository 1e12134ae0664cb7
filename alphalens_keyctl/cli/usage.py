"""`audit usage`: who used which key, when and from where."""

from datetime import timedelta
from typing import Annotated

import typer

from alphalens_keyctl.cli import run as runs
from alphalens_keyctl.cli.arguments import (
    MOST_ROWS,
    CsvOption,
    JsonLinesOption,
    JsonOption,
    complete_key,
    one_of,
    parse_key,
)
from alphalens_keyctl.moments import parse_since

KEYS_SHOWN = 20
DEFAULT_DAYS = 7


def usage(
    ctx: typer.Context,
    key: Annotated[
        str | None,
        typer.Option(
            "--key",
            metavar="KEY",
            autocompletion=complete_key,
            show_default=False,
            help="Only this key; by name, every key that had it.",
        ),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(
            "--since",
            metavar="WHEN",
            show_default=False,
            help=f"From then on: 24h, a date, an instant; {DEFAULT_DAYS}d for people, all for machines.",
        ),
    ] = None,
    until: Annotated[
        str | None,
        typer.Option("--until", metavar="WHEN", show_default=False, help="Before then: 24h, a date, an instant."),
    ] = None,
    outcome: Annotated[
        str | None,
        typer.Option(
            "--outcome", metavar="REASON", show_default=False, help="ok, malformed, unknown, expired, revoked, …"
        ),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(
            "--limit",
            metavar="N",
            min=0,
            max=MOST_ROWS,
            show_default=False,
            help=f"For machines the latest so many rows; for people so many keys, else {KEYS_SHOWN}.",
        ),
    ] = None,
    json: JsonOption = False,
    jsonl: JsonLinesOption = False,
    csv: CsvOption = False,
) -> None:
    """Show which keys were used, when and from where, and what was refused.

    For people summed up; every row, oldest first, for machines.
    """
    run = runs.of(ctx)
    from alphalens_keyctl import selection
    from alphalens_keyctl import usage as log
    from alphalens_keyctl.models import Reason
    from alphalens_keyctl.output import channel, documents

    machine, now = runs.one_format(json=json, jsonl=jsonl, csv=csv), run.act.at
    wanted = log.UsageFilter(
        outcome=None if outcome is None else one_of(Reason, outcome, "outcome"),
        since=None if since is None else parse_since(since, what="start", now=now),
        until=None if until is None else parse_since(until, what="end", now=now),
    )
    reference = None if key is None else parse_key(key)
    with run.database() as database, database.reading(tolerant=True) as connection:
        if reference is not None:
            wanted = wanted._replace(key_ids=selection.meant_by(connection, reference, now=now))
        if machine is not None:
            channel.write(documents.uses_as(machine, log.documents(connection, wanted, limit=limit)), utf8=True)
            return
        end = wanted.until or now
        buckets = log.divide(wanted.since or end - timedelta(days=DEFAULT_DAYS), end)
        found = log.summary(connection, wanted, buckets, most_keys=KEYS_SHOWN if limit is None else limit)
    from alphalens_keyctl.output import usage as summaries

    channel.write([summaries.summary(found, now=now, screen=run.screen(), default_span=since is None)])
