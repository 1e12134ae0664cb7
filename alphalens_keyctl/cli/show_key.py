"""What `show KEY` does: read everything about one key, and print it as a panel or as JSON."""

from typing import NamedTuple

from alphalens_keyctl.cli.run import Run
from alphalens_keyctl.keyformat import RawKey
from alphalens_keyctl.manager.backend import Backend, Details, issued
from alphalens_keyctl.models import Key
from alphalens_keyctl.output import channel, documents, sentences


class _Entry(NamedTuple):
    """What the keyring has under the key's name: whether there is an entry, and the key of the lineage in it."""

    present: bool
    held: Key | None


def show_key(run: Run, reference: str | RawKey, *, keyring: bool, json: bool) -> None:
    """Print everything about one key; with `keyring` also what the keyring has under the key's name.

    Raises `KeyctlError`.
    """
    with run.manager() as manager:
        found = manager.details(reference)
        entry = _look(manager, found) if keyring else None
    show = _json if json else _panel
    channel.write([show(run, found, entry)])


def _look(manager: Backend, found: Details) -> _Entry:
    from alphalens_keyctl.delivery import keyring

    present, raw = keyring.look(found.key.name)
    # A made-up secret behind a real id is no key.
    held = next((member for member in found.lineage if raw is not None and member.id == raw.id), None)
    return _Entry(present, held if raw is not None and held is not None and issued(manager, raw) else None)


def _json(_run: Run, found: Details, entry: _Entry | None) -> str:
    key, lineage, used, old_use = found
    document = documents.key_object(key) | {
        "lineage": [documents.key_object(member) for member in lineage],
        "usage": documents.usage_object(used),
        "rotation": documents.rotation_object(old_use),
    }
    if entry is not None:
        document["keyring"] = documents.entry_object(entry.present, entry.held)
    return documents.json_document(document)


def _panel(run: Run, found: Details, entry: _Entry | None) -> str:
    key, lineage, used, old_use = found
    from alphalens_keyctl.output import panels

    said = None if entry is None else sentences.keyring_entry(entry.present, entry.held)
    return panels.details(key, lineage, used, old_use, keyring=said, now=run.act.at, screen=run.screen())
