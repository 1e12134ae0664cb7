"""One call: its caller, and the way to the keys within the rights of the caller's key."""

from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Annotated, Any, Final
from urllib.parse import unquote

from fastapi import Depends, Request, Response

from alphalens_keyctl import text
from alphalens_keyctl.api import problems, replays
from alphalens_keyctl.api.bodies import DigestReference
from alphalens_keyctl.api.replays import Answer
from alphalens_keyctl.database import Database
from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.keys.lookup import DigestedKey, Reference
from alphalens_keyctl.manager.over_database import OverDatabase
from alphalens_keyctl.models import Key
from alphalens_keyctl.moments import utc_now
from alphalens_keyctl.output import documents
from alphalens_keyctl.provenance import Act, Origin
from alphalens_keyctl.settings import Settings
from alphalens_keyctl.verification.verifier import KeyVerifier

JSON: Final = "application/json"


class Call:
    """A request of a caller whose key was verified."""

    def __init__(self, request: Request) -> None:
        state = request.state
        self.settings: Settings = request.app.state.settings
        self.key: Key = state.api_key
        self.verifier: KeyVerifier = request.app.state.verifier
        self.request_id: str = state.request_id
        self._request = request
        self._database: Database = request.app.state.database

    def manager(self, *, lease: float | None = None) -> OverDatabase:
        """The way to the keys of this caller. `lease` is for the steps of an issuance, in seconds."""
        address = self._request.state.about["client_ip"]
        actor = text.tame(f"key:{self.key.id} {self.key.name}", longest=text.LONGEST_ACTOR)
        origin = Origin(None, None, None, None, address=address, request_id=self.request_id)
        act = Act(utc_now(), actor, origin)
        return OverDatabase(self._database, act, self.key.id, prefix=self.settings.key_prefix, lease=lease)

    def wants_lines(self) -> bool:
        """Whether the caller asks for JSON Lines."""
        accepted = self._request.headers.get("accept", "")
        return any(kind in accepted for kind in ("application/jsonl", "application/x-ndjson"))

    def once(self, work: Callable[[], Answer]) -> Response:
        """Answer with what `work` returns; where the request has an `Idempotency-Key`, do it once."""
        given = self._request.headers.get("idempotency-key")
        if given is None:
            return response(work())
        wanted = replays.asked(
            self.key.id, given, self._request.method, self._request.url.path, self._request.state.body_digest
        )
        return response(replays.once(self._database, wanted, work))

    def same_place(self, **query: str) -> str:
        """The URL of this request with other values in its query, relative to the server."""
        return f"{self._request.url.path}?{self._request.url.include_query_params(**query).query}"


def no_query(request: Request) -> None:
    """Refuse a query where none is taken. Raises `KeyctlError` (usage)."""
    for name in request.query_params:
        raise problems.usage(f"there is no query parameter {text.quoted(text.tame(name, longest=60))} here")


def response(answer: Answer, headers: Mapping[str, str] | None = None) -> Response:
    """An answer as it goes out."""
    replayed = {"Idempotency-Replayed": "true"} if answer.replayed else {}
    return Response(answer.text, answer.status, {**(headers or {}), **replayed}, media_type=JSON)


def document(value: Mapping[str, Any], status: int = HTTPStatus.OK) -> Answer:
    """An answer that is one document."""
    return Answer(documents.json_document(value), status)


def key_in_path(key: str) -> str:
    """KEY as it stands in a path. Raises `KeyctlError` (invalid_input)."""
    try:
        written = unquote(key, errors="strict")
    except UnicodeDecodeError:
        raise KeyctlError(Code.INVALID_INPUT, "the KEY is not UTF-8", "Encode it as UTF-8, then in percent.") from None
    return text.parse_line(written, what="KEY", longest=text.LONGEST_NAME)


def reference(given: str | DigestReference) -> Reference:
    """KEY as it stands in a body. Raises `KeyctlError` (invalid_input, raw_key_in_argument)."""
    if isinstance(given, str):
        return text.parse_line(given, what="KEY", longest=text.LONGEST_NAME)
    return digested(given)


def digested(given: DigestReference) -> DigestedKey:
    """A raw key by its digest. Raises `KeyctlError` (invalid_input)."""
    try:
        return DigestedKey(given.id, bytes.fromhex(given.sha256))
    except ValueError:
        raise KeyctlError(Code.INVALID_INPUT, "the sha256 is no digest in hex") from None


async def _call(request: Request) -> Call:
    return Call(request)


async def _key(key: str) -> str:
    return key_in_path(key)


Caller = Annotated[Call, Depends(_call)]
KeyInPath = Annotated[str, Depends(_key)]
