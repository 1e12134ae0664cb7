"""`audit usage`: show the usage log."""

from typing import Annotated

import typer

from alphalens_keyctl.cli import run as runs
from alphalens_keyctl.cli.options.arguments import CsvOption, JsonLinesOption, JsonOption, parse_key
from alphalens_keyctl.cli.options.rows import (
    FormatOption,
    KeyFilter,
    limit_option,
    parse_period,
    since_option,
    until_option,
)
from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.vocabulary import LARGEST_NUMBER

KEYS_SHOWN = 20
DEFAULT_DAYS = 7


def usage(
    ctx: typer.Context,
    key: KeyFilter = None,
    since: Annotated[
        str | None,
        since_option(
            "Only uses since WHEN: 24h (ago), a date or an instant. "
            f"Default: {DEFAULT_DAYS}d; all with --json, --jsonl or --csv."
        ),
    ] = None,
    until: Annotated[str | None, until_option("Only uses before WHEN: 24h (ago), a date or an instant.")] = None,
    outcome: Annotated[
        str | None,
        typer.Option(
            "--outcome",
            metavar="OUTCOME",
            show_default=False,
            help="Only this outcome: ok, malformed, unknown, expired, revoked, …",
        ),
    ] = None,
    limit: Annotated[
        int | None,
        limit_option(
            f"Show N keys, by default {KEYS_SHOWN}; with --json, --jsonl or --csv the latest N rows, by default all."
        ),
    ] = None,
    after: Annotated[
        int | None,
        typer.Option(
            "--after",
            metavar="ROW",
            min=0,
            max=LARGEST_NUMBER,
            show_default=False,
            help="Go on behind the row with this id, as --json prints it; with --limit N the next N.",
        ),
    ] = None,
    json: JsonOption = False,
    jsonl: JsonLinesOption = False,
    csv: CsvOption = False,
    form: FormatOption = None,
) -> None:
    """Show which keys were used, when and from where, and what was refused.

    The table sums the uses up; --json, --jsonl, --csv and --format print every row, oldest first.

    Examples:
      alphalens-keyctl audit usage --key billing --since 24h
      alphalens-keyctl audit usage --outcome revoked --jsonl | jq -r .client_ip
      alphalens-keyctl audit usage --format ocsf --after 0 --limit 1000
    """
    run = runs.of(ctx)
    machine, feed = runs.one_format(json=json, jsonl=jsonl, csv=csv), runs.feed(form, json or jsonl or csv)
    start, end = parse_period(since, until, now=run.act.at)
    if after is not None and machine is None and feed is None:
        raise KeyctlError(
            Code.USAGE, "--after goes on row by row, and the table sums up", "Add --jsonl, --csv, --json or --format."
        )
    from alphalens_keyctl.cli.audit import usage_of_keys

    usage_of_keys.show_usage(
        run,
        reference=None if key is None else parse_key(key),
        outcome=outcome,
        since=start,
        until=end,
        after=after,
        limit=limit,
        machine=machine or feed,
    )
