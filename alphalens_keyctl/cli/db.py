"""`db`: the database's schema."""

import typer

from alphalens_keyctl.cli import run as runs
from alphalens_keyctl.cli.options.arguments import JsonOption

app = typer.Typer(help="Look after the database's schema.", no_args_is_help=False)


@app.command()
def upgrade(ctx: typer.Context, json: JsonOption = False) -> None:
    """Make the tables, or bring them to this version's schema. Safe to repeat, and from two places at once."""
    run = runs.of(ctx)
    from alphalens_keyctl.database import Database, parse_address
    from alphalens_keyctl.output import channel, documents

    database = Database.connect(parse_address(run.settings.database_url), run.limits)
    before = database.schema().revision
    database.upgrade()
    schema = database.schema()
    database.close()
    if json:
        document = {"database": database.address.display, "before": before, "revision": schema.revision}
        channel.write([documents.json_document(document)])
    else:
        done = "is at" if before == schema.revision else "was brought to"
        channel.write([f"{database.address.display} {done} schema {schema.revision}.\n"])


@app.command()
def status(ctx: typer.Context, json: JsonOption = False) -> None:
    """Say which database is used and whether its schema is this version's. Creates and changes nothing."""
    run = runs.of(ctx)
    from alphalens_keyctl import migrations
    from alphalens_keyctl.database import Database, parse_address
    from alphalens_keyctl.database.schema import Schema, SchemaState
    from alphalens_keyctl.errors import Code, KeyctlError
    from alphalens_keyctl.output import channel, documents

    address = parse_address(run.settings.database_url)
    try:
        database = Database.connect(address, run.limits, create=False)
        schema = database.schema()
        database.close()
    except KeyctlError as error:
        if error.code is not Code.DATABASE_MISSING:
            raise
        schema = Schema(None, SchemaState.MISSING)
    if json:
        document = {
            "database": address.display,
            "revision": schema.revision,
            "latest": migrations.LATEST,
            "state": schema.state.value,
        }
        channel.write([documents.json_document(document)])
    else:
        channel.write(
            [
                f"database  {address.display}\n",
                f"schema    {schema.revision or 'none'} ({schema.state}; this version has {migrations.LATEST})\n",
            ]
        )
