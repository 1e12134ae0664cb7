"""What `show KEY` does: read everything about one key, and print it as a panel or as JSON."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from alphalens_keyctl.cli.run import Run
from alphalens_keyctl.keyformat import RawKey
from alphalens_keyctl.manager.backend import Details
from alphalens_keyctl.models import Key
from alphalens_keyctl.output import channel, documents, sentences

if TYPE_CHECKING:
    from alphalens_keyctl.delivery.keyring import Entry


def show_key(run: Run, reference: str | RawKey, *, keyring: bool, json: bool) -> None:
    """Print everything about one key; with `keyring` also what the keyring has under the key's name.

    Raises `KeyctlError`.
    """
    with run.manager() as manager:
        found = manager.details(reference)
        # A reader without a right to the digests can do without them.
        digests = manager.digests(found.lineage) if keyring else {}
    entry = _look(found.key, digests) if keyring else None
    show = _json if json else _panel
    channel.write([show(run, found, entry)])


def _look(key: Key, digests: Mapping[str, bytes]) -> "Entry":
    from alphalens_keyctl.delivery import keyring

    return keyring.look(key.name, digests)


def _json(_run: Run, found: Details, entry: "Entry | None") -> str:
    key, lineage, used, old_use = found
    document = documents.key_object(key) | {
        "lineage": [documents.key_object(member) for member in lineage],
        "usage": documents.usage_object(used),
        "rotation": documents.rotation_object(old_use),
    }
    if entry is not None:
        document["keyring"] = documents.entry_object(entry.present, _held(entry, lineage))
    return documents.json_document(document)


def _panel(run: Run, found: Details, entry: "Entry | None") -> str:
    key, lineage, used, old_use = found
    from alphalens_keyctl.output import panels

    said = None if entry is None else sentences.keyring_entry(entry.present, _held(entry, lineage))
    return panels.details(key, lineage, used, old_use, keyring=said, now=run.act.at, screen=run.screen())


def _held(entry: "Entry", lineage: Sequence[Key]) -> Key | None:
    """Return the key of the lineage that the keyring holds, or None."""
    return next((member for member in lineage if member.id == entry.key_id), None)
