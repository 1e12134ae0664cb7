"""`audit usage`: who used which key, when and from where."""

from datetime import timedelta
from typing import Annotated

import typer

from alphalens_keyctl.cli import run as runs
from alphalens_keyctl.cli.options.arguments import CsvOption, JsonLinesOption, JsonOption, one_of, parse_key
from alphalens_keyctl.cli.options.rows import KeyFilter, limit_option, parse_period, since_option, until_option

KEYS_SHOWN = 20
DEFAULT_DAYS = 7


def usage(
    ctx: typer.Context,
    key: KeyFilter = None,
    since: Annotated[
        str | None,
        since_option(f"From then on: 24h, a date, an instant; {DEFAULT_DAYS}d for people, all for machines."),
    ] = None,
    until: Annotated[str | None, until_option("Before then: 24h, a date, an instant.")] = None,
    outcome: Annotated[
        str | None,
        typer.Option(
            "--outcome", metavar="REASON", show_default=False, help="ok, malformed, unknown, expired, revoked, …"
        ),
    ] = None,
    limit: Annotated[
        int | None, limit_option(f"For machines the latest so many rows; for people so many keys, else {KEYS_SHOWN}.")
    ] = None,
    json: JsonOption = False,
    jsonl: JsonLinesOption = False,
    csv: CsvOption = False,
) -> None:
    """Show which keys were used, when and from where, and what was refused.

    For people summed up; every row, oldest first, for machines.
    """
    run = runs.of(ctx)
    from alphalens_keyctl.keys import lookup
    from alphalens_keyctl.logs import usage as log
    from alphalens_keyctl.models import Reason
    from alphalens_keyctl.output import channel, documents

    machine, now = runs.one_format(json=json, jsonl=jsonl, csv=csv), run.act.at
    start, end = parse_period(since, until, now=now)
    wanted = log.UsageFilter(
        outcome=None if outcome is None else one_of(Reason, outcome, "outcome"), since=start, until=end
    )
    reference = None if key is None else parse_key(key)
    with run.database() as database, database.reading(tolerant=True) as connection:
        if reference is not None:
            wanted = wanted._replace(key_ids=lookup.meant_by(connection, reference, now=now))
        if machine is not None:
            channel.write(documents.uses_as(machine, log.documents(connection, wanted, limit=limit)), utf8=True)
            return
        end = end or now
        buckets = log.divide(start or end - timedelta(days=DEFAULT_DAYS), end)
        found = log.summary(connection, wanted, buckets, most_keys=KEYS_SHOWN if limit is None else limit)
    from alphalens_keyctl.output import usage as summaries

    channel.write([summaries.summary(found, now=now, screen=run.screen(), default_span=since is None)])
