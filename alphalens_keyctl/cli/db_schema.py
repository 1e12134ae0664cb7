"""What `db upgrade` and `db status` do: bring the schema to this version's, and say which schema there is."""

from alphalens_keyctl import migrations
from alphalens_keyctl.cli.run import Run
from alphalens_keyctl.database import Database, parse_address
from alphalens_keyctl.database.schema import Schema, SchemaState
from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.output import channel, documents


def upgrade(run: Run, *, json: bool) -> None:
    """Bring the database to this version's schema, and say which schema it had and has. Raises `KeyctlError`."""
    run.require_database("db upgrade")
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


def status(run: Run, *, json: bool) -> None:
    """Say which database is used and how its schema compares with this version's. Changes nothing.

    Raises `KeyctlError`, but not for a database that does not exist.
    """
    run.require_database("db status")
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
