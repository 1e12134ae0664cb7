"""`audit` alone: show the audit log."""

from typing import Annotated

import typer

from alphalens_keyctl import text
from alphalens_keyctl.cli import run as runs
from alphalens_keyctl.cli.options.arguments import CsvOption, JsonLinesOption, JsonOption, parse_key
from alphalens_keyctl.cli.options.groups import Panel
from alphalens_keyctl.cli.options.rows import (
    TERMINAL_LIMIT,
    FormatOption,
    KeyFilter,
    limit_option,
    parse_period,
    since_option,
    until_option,
)
from alphalens_keyctl.errors import Code, ExitStatus, KeyctlError
from alphalens_keyctl.vocabulary import LARGEST_NUMBER


def audit(
    ctx: typer.Context,
    key: KeyFilter = None,
    actor: Annotated[
        str | None, typer.Option("--actor", metavar="TEXT", show_default=False, help="Only what this actor did.")
    ] = None,
    action: Annotated[
        str | None,
        typer.Option(
            "--action", metavar="ACTION", show_default=False, help="Only this action, for example key.revoke."
        ),
    ] = None,
    since: Annotated[str | None, since_option("Only events since WHEN: 7d (ago), a date or an instant.")] = None,
    until: Annotated[str | None, until_option("Only events before WHEN: 7d (ago), a date or an instant.")] = None,
    limit: Annotated[
        int | None,
        limit_option(f"Show the latest N events. Default: {TERMINAL_LIMIT}; all with --json, --jsonl or --csv."),
    ] = None,
    after: Annotated[
        int | None,
        typer.Option(
            "--after",
            metavar="SEQ",
            min=0,
            max=LARGEST_NUMBER,
            show_default=False,
            help="Go on behind the event of this number; with --limit N the next N.",
        ),
    ] = None,
    reverse: Annotated[
        bool, typer.Option("--reverse", rich_help_panel=Panel.OUTPUT, help="Show the newest event first.")
    ] = False,
    follow: Annotated[
        bool,
        typer.Option(
            "--follow",
            "-f",
            rich_help_panel=Panel.OUTPUT,
            help="Go on with each new event as it is written, until Ctrl-C.",
        ),
    ] = False,
    json: JsonOption = False,
    jsonl: JsonLinesOption = False,
    csv: CsvOption = False,
    form: FormatOption = None,
) -> None:
    """Show who changed which key when, why and from where, oldest first.

    Examples:
      alphalens-keyctl audit --key billing --since 7d
      alphalens-keyctl audit --follow --action key.revoke
      alphalens-keyctl audit --format ocsf --after 0 --limit 1000
    """
    if ctx.invoked_subcommand is not None:
        _refuse_options_before(ctx, ctx.invoked_subcommand)
        return
    run = runs.of(ctx)
    machine, feed = runs.one_format(json=json, jsonl=jsonl, csv=csv), runs.feed(form, json or jsonl or csv)
    start, end = parse_period(since, until, now=run.act.at)
    by = None if actor is None else text.parse_line(actor, what="actor", longest=text.LONGEST_ACTOR)
    if follow:
        _refuse_with_follow(until=until, reverse=reverse, json=json, both=after is not None and limit is not None)
    from alphalens_keyctl.cli.audit import log_events

    try:
        log_events.show_log(
            run,
            reference=None if key is None else parse_key(key),
            actor=by,
            action=action,
            since=start,
            until=end,
            after=after,
            limit=limit,
            machine=machine or feed,
            reverse=reverse,
            follow=follow,
        )
    except KeyboardInterrupt:
        if not follow:
            raise
        raise typer.Exit(ExitStatus.INTERRUPTED) from None  # the way to end it, and no error


def _refuse_with_follow(*, until: str | None, reverse: bool, json: bool, both: bool) -> None:
    """Refuse what has no meaning for a log that goes on. Raises `KeyctlError` (usage)."""
    for option, given, hint in (
        ("--until", until is not None, "What comes has no end."),
        ("--reverse", reverse, "What comes, comes oldest first."),
        ("--json", json, "One JSON document would never end: use --jsonl."),
        ("--limit with --after", both, "Leave --limit out: all behind --after is shown."),
    ):
        if given:
            raise KeyctlError(Code.USAGE, f"--follow excludes {option}", hint)


def _refuse_options_before(ctx: typer.Context, subcommand: str) -> None:
    """Refuse options that the subcommand would ignore: `audit --json verify` would print no JSON."""
    given = [name for name, value in ctx.params.items() if value not in (None, False)]
    if given:
        raise KeyctlError(
            Code.USAGE,
            f"--{given[0]} stands before '{subcommand}', which does not hear it",
            f"Write it after '{subcommand}', if it has that option.",
        )
