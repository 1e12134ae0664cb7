"""The steps of an issuance over HTTP: the server does each in one transaction, and the delivery stands between them,
here. At whatever byte the network breaks, a destination holds a key that opens (promises 2 and 3)."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Final

from alphalens_keyctl.database.attempt import Attempt
from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.keyformat import MalformedKeyError
from alphalens_keyctl.keys import lifecycle
from alphalens_keyctl.keys.issuance import Begun, RotationPlan, Standing
from alphalens_keyctl.keys.last_copy import Held
from alphalens_keyctl.keys.lifecycle import Draft
from alphalens_keyctl.keys.rotation import Retirement
from alphalens_keyctl.manager import http_documents as documents
from alphalens_keyctl.manager import http_requests as requests
from alphalens_keyctl.manager.http_exchange import Answer, Server
from alphalens_keyctl.values import Key

# Seconds that a key which was begun is kept for this process, beyond those that its destinations take. So long, too,
# nobody else can begin one where this process died.
LEASE: Final = 60.0
LONGEST_LEASE: Final = 3600.0
TRIES: Final = 3


@contextmanager
def understood(server: Server) -> Iterator[None]:
    """In the block, a document that is not what it has to be is an error of the server."""
    try:
        yield
    except (ValueError, KeyError, TypeError, MalformedKeyError, OverflowError):
        raise server.odd() from None


class HttpSteps:
    """`issuance.Steps` over HTTP."""

    def __init__(self, server: Server) -> None:
        self._server = server

    @contextmanager
    def begin_create(self, draft: Draft, *, if_missing: bool) -> Iterator[Begun]:
        """Write a new key that opens nothing yet, for as long as its lease."""
        yield self._begin("/v1/keys", lambda: requests.new_key(draft, if_missing=if_missing, lease=LEASE))

    @contextmanager
    def begin_rotation(self, key_id: str, plan: RotationPlan) -> Iterator[Begun]:
        """Write a successor that opens nothing yet, for as long as its lease."""
        yield self._begin(requests.path("keys", key_id, "rotate"), lambda: requests.successor(plan, lease=LEASE))

    def begin_delivering(
        self, begun: Begun, destinations: Sequence[str], *, limit: float, held: Sequence[Held] = ()
    ) -> None:
        """Let the key open, since `destinations` are about to hold it."""
        body = {"to": list(destinations), "limit": min(limit + LEASE, LONGEST_LEASE)}
        if others := [requests.held(each) for each in held if each[1].id not in begun.replaced]:
            body["held"] = others
        self._server.post(requests.path("keys", begun.key.id, "deliver"), body)

    def hand_over_name(
        self, begun: Begun, *, at: datetime, retirement: Retirement, delivered_to: Sequence[str]
    ) -> None:
        """Make the key current."""
        deadline = retirement.deadline
        self._server.post(
            requests.path("keys", begun.key.id, "activate"),
            {
                "delivered_to": list(delivered_to),
                "at": requests.instant(at),
                "grace": retirement.grace.total_seconds(),
                "deadline": None if deadline is None else deadline.total_seconds(),
            },
        )

    def standing(self, key_id: str) -> Standing:
        """How the key stands now."""
        found = self._server.get(requests.path("keys", key_id, "standing"))
        with understood(self._server):
            return Standing(None if found["key"] is None else documents.key(found["key"]), found["overtaken"] is True)

    def discard(self, key_id: str, *, reason: str) -> bool:
        """Give the key up."""
        found = self._server.post(requests.path("keys", key_id, "discard"), {"reason": reason}).document
        with understood(self._server):
            return found["discarded"] is True

    def take_back(self, key_id: str, *, destinations: str | None, reason: str) -> Key:
        """Undo the handover of the name."""
        body = {"destinations": destinations, "reason": reason}
        found = self._server.post(requests.path("keys", key_id, "take-back"), body).document
        with understood(self._server):
            return documents.key(found["key"])

    def _begin(self, path: str, body: Callable[[], Mapping[str, Any]]) -> Begun:
        for _ in range(TRIES):
            answer = self._server.post(path, body())
            with understood(self._server):
                begun = _begun(answer)
            if not (answer.status == 201 and begun.raw is None):
                return begun
            # The raw key was in an answer that was lost, and is in no other: nobody will ever hold it (promise 2).
            self.discard(begun.key.id, reason=lifecycle.DELIVERY_FAILED)
        raise answers_lost(self._server)


def answers_lost(server: Server) -> KeyctlError:
    """The error where a raw key was in an answer that was lost, each time that it was asked for."""
    return KeyctlError(
        Code.SERVER_UNREACHABLE,
        f"the server at {server.address.display} cannot be reached: every answer with a new key was lost",
        "Nothing was changed. Run the command again when the network is better.",
    )


def _begun(answer: Answer) -> Begun:
    document = answer.document
    raw, key, previous = documents.raw_key(document), documents.key(document["key"]), document.get("previous")
    if raw is None:
        return Begun(key, None)
    if raw.id != key.id:
        raise ValueError("a raw key of another key")
    return Begun(
        key,
        raw,
        None if previous is None else documents.key(previous),
        frozenset(document["replaced"]),
        Attempt(lease=LEASE),
    )
