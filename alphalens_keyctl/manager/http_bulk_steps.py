"""The steps of taking a fleet in over HTTP. The keys are begun by as many requests as it takes, and become current by
one, so that it is all or none at whatever byte the network breaks (promise 2)."""

import json
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, Final

from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.keys.bulk_file import Line
from alphalens_keyctl.keys.bulk_issuance import Begun, Settled
from alphalens_keyctl.manager import http_documents as documents
from alphalens_keyctl.manager import http_requests as requests
from alphalens_keyctl.manager.http_exchange import Server
from alphalens_keyctl.manager.http_steps import LONGEST_LEASE, TRIES, answers_lost, understood

# Keys of one request, and bytes of its body.
_MOST: Final = 1000
_LARGEST: Final = 900_000
# Keys of one fleet, whose ids one request has to name.
MOST_AT_ONCE: Final = 50_000


class HttpBulkSteps:
    """`bulk_issuance.BulkSteps` over HTTP."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def try_begin(self, lines: Sequence[Line]) -> None:
        """Raise `KeyctlError` where `begin` would before it writes anything."""
        if len(lines) > MOST_AT_ONCE:
            raise KeyctlError(
                Code.INVALID_INPUT,
                f"a server takes {MOST_AT_ONCE:,} keys at once, and these are {len(lines):,}",
                "Split the file.",
            )
        for some in _parts(lines):
            self._server.ask("/v1/keys:create", {"keys": some, "dry_run": True})

    def begin(self, lines: Sequence[Line], destinations: Sequence[str], *, lease: float) -> Iterator[list[Begun]]:
        """Write a key for each line, in as many requests as it takes."""
        parts = list(_parts(lines))
        if len(parts) > 1:
            self.try_begin(lines)  # else the last line would be refused after the first ones were written
        for some in parts:
            yield self._begun({"keys": some, "to": list(destinations), "lease": min(lease, LONGEST_LEASE)})

    def renew(self, key_ids: Sequence[str], *, lease: float) -> None:
        """Let the lease end in so many seconds from now."""
        self._server.post("/v1/keys:renew", {"keys": list(key_ids), "lease": min(lease, LONGEST_LEASE)})

    def activate(self, key_ids: Sequence[str], *, at: datetime, delivered_to: Sequence[str]) -> None:
        """Make all of the keys current, or none."""
        body = {"keys": list(key_ids), "at": requests.instant(at), "delivered_to": list(delivered_to)}
        self._server.post("/v1/keys:activate", body)

    def settle(self, key_ids: Sequence[str]) -> Settled:
        """Discard the keys, but for the case that all of them are current."""
        found = self._server.post("/v1/keys:discard", {"keys": list(key_ids)}).document
        with understood(self._server):
            return Settled(found["outcome"])

    def _begun(self, body: dict[str, Any]) -> list[Begun]:
        for _ in range(TRIES):
            answer = self._server.post("/v1/keys:create", body)
            with understood(self._server):
                found = [(documents.key(each["key"]), documents.raw_key(each)) for each in answer.document["created"]]
                begun = [(key, raw) for key, raw in found if raw is not None and raw.id == key.id]
                if len(found) != len(body["keys"]):
                    raise ValueError("other keys")
            if len(begun) == len(found):
                return begun
            # The raw keys were in an answer that was lost, and are in no other: nobody will ever hold them.
            self.settle([key.id for key, _ in found])
        raise answers_lost(self._server)


def _parts(lines: Sequence[Line]) -> Iterator[list[dict[str, Any]]]:
    """What requests say of the lines, as many at a time as one request takes."""
    part: list[dict[str, Any]] = []
    size = 0
    for line in lines:
        said = {"line": line.number, **requests.draft(line.draft)}
        size += len(json.dumps(said)) + 2
        if part and (len(part) == _MOST or size > _LARGEST):
            yield part
            part, size = [], len(json.dumps(said))
        part.append(said)
    if part:
        yield part
