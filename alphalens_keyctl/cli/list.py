"""`list`: list keys."""

from typing import Annotated

import typer

from alphalens_keyctl.cli import run as runs
from alphalens_keyctl.cli.options.arguments import CsvOption, JsonLinesOption, JsonOption
from alphalens_keyctl.cli.options.filters import Filters
from alphalens_keyctl.cli.options.groups import with_groups
from alphalens_keyctl.cli.options.rows import TERMINAL_LIMIT, limit_option


@with_groups(filters=Filters)
def list_(
    ctx: typer.Context,
    all_: Annotated[bool, typer.Option("--all", help="Also list revoked and retired keys.")] = False,
    sort: Annotated[
        str, typer.Option("--sort", metavar="BY", help="Sort by created, name, owner, last-used, expires or uses.")
    ] = "created",
    limit: Annotated[
        int | None, limit_option(f"List at most N keys. Default: {TERMINAL_LIMIT}; all with --json, --jsonl or --csv.")
    ] = None,
    json: JsonOption = False,
    jsonl: JsonLinesOption = False,
    csv: CsvOption = False,
    *,
    filters: Filters,
) -> None:
    """List the keys that fit every filter; revoked and retired keys only with --all or --status."""
    run = runs.of(ctx)
    machine = runs.one_format(json=json, jsonl=jsonl, csv=csv)
    from alphalens_keyctl.cli import list_keys

    list_keys.list_keys(run, filters, final=all_, sort=sort, limit=limit, machine=machine)
