"""`db upgrade` and `db status`: look after the database's schema."""

import typer

from alphalens_keyctl.cli import run as runs
from alphalens_keyctl.cli.options.arguments import JsonOption

app = typer.Typer(help="Look after the database's schema.", no_args_is_help=False)


@app.command()
def upgrade(ctx: typer.Context, json: JsonOption = False) -> None:
    """Make the tables, or bring them to this version's schema. Safe to repeat, and to run twice at once."""
    run = runs.of(ctx)
    from alphalens_keyctl.cli import db_schema

    db_schema.upgrade(run, json=json)


@app.command()
def status(ctx: typer.Context, json: JsonOption = False) -> None:
    """Say which database is used and whether its schema is this version's. Creates and changes nothing."""
    run = runs.of(ctx)
    from alphalens_keyctl.cli import db_schema

    db_schema.status(run, json=json)
