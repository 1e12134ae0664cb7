"""`list`: list keys."""

from typing import Annotated

import typer

from alphalens_keyctl.cli import run as runs
from alphalens_keyctl.cli.options.arguments import CsvOption, JsonLinesOption, JsonOption
from alphalens_keyctl.cli.options.filters import Filters
from alphalens_keyctl.cli.options.groups import Panel, with_groups
from alphalens_keyctl.cli.options.rows import TERMINAL_LIMIT, limit_option


@with_groups(filters=Filters)
def list_(
    ctx: typer.Context,
    texts: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="TEXT",
            show_default=False,
            help="A part of the name, id or owner; letter case does not matter. Of several, each must be found.",
        ),
    ] = None,
    all_: Annotated[
        bool, typer.Option("--all", rich_help_panel=Panel.WHICH_KEYS, help="Also list revoked and retired keys.")
    ] = False,
    sort: Annotated[
        str,
        typer.Option(
            "--sort",
            metavar="BY",
            rich_help_panel=Panel.OUTPUT,
            help="Sort by created, name, owner, last-used, expires or uses.",
        ),
    ] = "created",
    limit: Annotated[
        int | None, limit_option(f"List at most N keys. Default: {TERMINAL_LIMIT} on a terminal, else all.")
    ] = None,
    columns: Annotated[
        str | None,
        typer.Option(
            "--columns",
            metavar="NAMES",
            rich_help_panel=Panel.OUTPUT,
            show_default=False,
            help="Only these fields of --json, with commas between, in every format: name,owner,expires_at.",
        ),
    ] = None,
    json: JsonOption = False,
    jsonl: JsonLinesOption = False,
    csv: CsvOption = False,
    *,
    filters: Filters,
) -> None:
    """List the keys that fit every filter; revoked and retired keys only with --all or --status.

    Into a pipe a key is a line of name, id, status, owner, created_at, last_used_at, expires_at, use_count, labels and
    purpose, with tabs between.

    Examples:
      alphalens-keyctl list --expires-within 14d
      alphalens-keyctl list billing --columns name,owner,expires_at
      alphalens-keyctl list --json | jq -r '.[].name'
    """
    run = runs.of(ctx)
    machine = runs.one_format(json=json, jsonl=jsonl, csv=csv)
    from alphalens_keyctl.cli import list_keys

    list_keys.list_keys(run, filters, list_keys.Asked(texts or (), all_, sort, limit, columns, machine))
