"""What a change did over HTTP: `backend.Outcome`."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from alphalens_keyctl.keys.selection import KeyDocument
from alphalens_keyctl.manager import http_documents as documents
from alphalens_keyctl.values import Key


class HttpOutcome:
    """`Outcome` over HTTP: all of it was in the answer."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        changed, unchanged = documents.keys(document["changed"]), documents.keys(document["unchanged"])
        self._keys = {key.id: key for key in (*changed, *unchanged)}
        self._documents = {each["id"]: each for each in (*document["changed"], *document["unchanged"])}
        self.changed: Sequence[str] = [key.id for key in changed]
        self.unchanged: Sequence[str] = [key.id for key in unchanged]
        self.stopped_by = documents.error(document.get("stopped_by"))
        self.narrowed: Mapping[str, int] = document.get("narrowed", {})
        self.lately = {key_id: (uses, addresses) for key_id, (uses, addresses) in document.get("lately", {}).items()}
        still_open = document.get("still_open")
        self._still_open = None if still_open is None else documents.keys(still_open)

    def keys(self, key_ids: Sequence[str]) -> list[Key]:
        return [self._keys[key_id] for key_id in key_ids]

    def documents(self, key_ids: Sequence[str]) -> Iterator[KeyDocument]:
        return (documents.key_document(self._documents[key_id]) for key_id in key_ids)

    def still_open(self) -> Iterator[Key] | None:
        return None if self._still_open is None else iter(self._still_open)
