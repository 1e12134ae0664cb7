"""`audit head`: the audit log's last link, to be kept elsewhere."""

import typer

from alphalens_keyctl.cli import run as runs
from alphalens_keyctl.cli.options.arguments import JsonOption


def head(ctx: typer.Context, json: JsonOption = False) -> None:
    """Print the log's last place, hash and time. Keep it elsewhere: 'audit verify --head' needs it."""
    run = runs.of(ctx)
    from alphalens_keyctl.logs import audit as log
    from alphalens_keyctl.output import channel, documents

    with run.database() as database, database.reading() as connection:
        last = documents.head_object(log.head(connection))
    if json:
        channel.write([documents.json_document(last)])
    else:
        channel.write(f"{name:<5} {value if value is not None else '-'}\n" for name, value in last.items())
