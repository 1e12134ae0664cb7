"""`show KEY`: everything about one key."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from alphalens_keyctl.cli import run as runs
from alphalens_keyctl.cli.options.arguments import JsonOption, KeyArgument, parse_key

if TYPE_CHECKING:
    from alphalens_keyctl.delivery.keyring import Entry
    from alphalens_keyctl.models import Key


def show(
    ctx: typer.Context,
    key: KeyArgument,
    keyring: Annotated[bool, typer.Option("--keyring", help="Say whether the system's keyring has it.")] = False,
    json: JsonOption = False,
) -> None:
    """Show everything about one key, the line of successors it stands in, and how much it was used."""
    run = runs.of(ctx)
    from alphalens_keyctl.keys import lookup, selection
    from alphalens_keyctl.logs import old_key_use, usage
    from alphalens_keyctl.output import channel, documents

    reference = parse_key(key)
    with run.database() as database, database.reading() as connection:
        found = lookup.find(connection, reference, now=run.act.at)
        lineage = lookup.lineage(connection, found, now=run.act.at)
        used = usage.profile(connection, found.id, now=run.act.at)
        change = old_key_use.read(connection, lineage)
        digests = selection.digests(connection, lineage)
    entry = _look(found, digests) if keyring else None
    held = next((member for member in lineage if entry is not None and member.id == entry.key_id), None)
    if json:
        line = [documents.key_object(member) for member in lineage]
        said = documents.key_object(found) | {
            "lineage": line,
            "usage": documents.usage_object(used),
            "rotation": documents.rotation_object(change),
        }
        if entry is not None:
            said["keyring"] = documents.entry_object(entry.present, held)
        channel.write([documents.json_document(said)])
    else:
        from alphalens_keyctl.output import panels, words

        words_of_it = None if entry is None else words.keyring_entry(entry.present, held)
        screen = run.screen()
        panel = panels.details(found, lineage, used, change, keyring=words_of_it, now=run.act.at, screen=screen)
        channel.write([panel])


def _look(key: "Key", digests: Mapping[str, bytes]) -> "Entry":
    from alphalens_keyctl.delivery import keyring

    return keyring.look(key.name, digests)
