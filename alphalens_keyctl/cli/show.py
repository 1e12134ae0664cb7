"""`show KEY`: everything about one key."""

import typer

from alphalens_keyctl.cli import run as runs
from alphalens_keyctl.cli.arguments import JsonOption, KeyArgument, parse_key


def show(ctx: typer.Context, key: KeyArgument, json: JsonOption = False) -> None:
    """Show everything about one key, the line of successors it stands in, and how much it was used."""
    run = runs.of(ctx)
    from alphalens_keyctl import selection, usage
    from alphalens_keyctl.output import channel, documents

    reference = parse_key(key)
    with run.database() as database, database.reading() as connection:
        found = selection.find(connection, reference, now=run.act.at)
        lineage = selection.lineage(connection, found, now=run.act.at)
        used = usage.profile(connection, found.id, now=run.act.at)
    if json:
        line = [documents.key_object(member) for member in lineage]
        said = documents.key_object(found) | {"lineage": line, "usage": documents.usage_object(used)}
        channel.write([documents.json_document(said)])
    else:
        from alphalens_keyctl.output import panels

        channel.write([panels.details(found, lineage, used, now=run.act.at, screen=run.screen())])
