"""What every request passes before the application sees it: its id, its bounds, its caller. All that it holds back is
refused here, before a thread or the database is taken."""

import asyncio
import hashlib
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, unquote_to_bytes

from alphalens_keyctl.api import problems
from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.keyformat import redact, resembles_raw_key
from alphalens_keyctl.web import asgi, challenge, correlation, headers
from alphalens_keyctl.web.asgi import App, Message, Receive, Scope, Send
from alphalens_keyctl.web.client_address import TrustedProxies
from alphalens_keyctl.web.forward_auth import UNREAD
from alphalens_keyctl.web.waiting import NoThreadFreeError, Threads

if TYPE_CHECKING:
    from alphalens_keyctl import KeyVerifier
    from alphalens_keyctl.api.counting import Counting

LARGEST_BODY: Final = 1024 * 1024
# Seconds in which a body must have come.
BODY_PATIENCE: Final = 10.0
# Requests that a process carries out at once; one more is answered with 429.
MOST_WRITERS: Final = 4
MOST_READERS: Final = 10
# What needs no key: the description of the API, and what a probe asks.
OPEN: Final = frozenset({"/openapi.json", "/healthz"})

_READING: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_NO_STORE: Final = (b"cache-control", b"no-store")

_log = logging.getLogger(__name__)


class Doorway:
    """The ASGI application around `app`."""

    def __init__(
        self,
        app: App,
        verifier: "KeyVerifier",
        proxies: TrustedProxies,
        *,
        access_log: bool = False,
        counting: "Counting | None" = None,
    ) -> None:
        self._app = app
        self._verifier = verifier
        self._proxies = proxies
        self._access_log = access_log
        self._counting = counting
        self._threads = Threads()
        self._under_way = {True: 0, False: 0}  # by whether they only read
        self.uses_lost = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or the lifespan of the server."""
        if scope["type"] == "lifespan":
            if self._counting is not None:
                scope["state"][UNREAD] = self._counting.unread
            await self._app(scope, asgi.before_shutdown(receive, self._flush), send)
        elif scope["type"] == "http":
            await self._answer(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        found = headers.single(scope["headers"])
        request_id = correlation.request_id(found)
        answer = _Answer(send, request_id)
        began = time.monotonic()
        path, about = _canonical(scope), self._about(scope, found)
        if self._counting is not None:
            answer.counted = self._counting.of(scope["method"], path, began)
        key_id = None
        try:
            if _holds_raw_key(path, scope["query_string"]):
                refused = KeyctlError(
                    Code.RAW_KEY_IN_ARGUMENT, "the URL holds a raw key", "Name a key by its name or its id."
                )
                await answer.refuse(HTTPStatus.UNPROCESSABLE_ENTITY, refused)
                return
            state: dict[str, Any] = {"request_id": request_id, "about": about}
            if path not in OPEN:
                verified = await asgi.verify(self._verifier, self._threads, headers.raw_key(found), **about)
                if self._counting is not None:
                    self._counting.verified(verified.reason)
                if not verified.allowed or verified.key is None:
                    await asgi.refuse(answer, challenge.refusal(verified.reason, None))
                    return
                state["api_key"], key_id = verified.key, verified.key.id
            await self._within_bounds(
                {**scope, "path": path, "raw_path": path.encode(), "state": state}, receive, answer
            )
        except Exception:
            _log.exception("a request failed", extra={"request_id": request_id})
            if answer.status is not None and not answer.whole:
                raise  # the server cuts the connection off, so that half an answer is not taken for a whole one
            if answer.status is None:
                error = KeyctlError(Code.INTERNAL, "the server failed", "Its log says why, under the request's id.")
                await answer.refuse(HTTPStatus.INTERNAL_SERVER_ERROR, error)
        finally:
            if self._access_log:
                shown = redact(path if not _holds_raw_key(path, b"") else "[redacted]")
                _log.info(
                    "request",
                    extra={
                        "method": scope["method"],
                        "path": shown,
                        "status": answer.status,
                        "key_id": key_id,
                        "client_ip": about["client_ip"],
                        **correlation.logged(request_id, found, time.monotonic() - began),
                    },
                )

    async def _within_bounds(self, scope: Scope, receive: Receive, answer: "_Answer") -> None:
        """Hand the request on, with its whole body, unless the body or the number of requests is beyond a bound."""
        reading = scope["method"] in _READING
        try:
            body = b"" if reading else await asyncio.wait_for(_body(scope, receive), BODY_PATIENCE)
        except TimeoutError:
            late = problems.usage("the body did not come in time", f"It has {BODY_PATIENCE:.0f} s to arrive.")
            await answer.refuse(HTTPStatus.REQUEST_TIMEOUT, late, close=True)
            return
        except _GoneError:
            return
        if body is None:
            large = problems.usage("the body is too large", f"It may have {LARGEST_BODY:,} bytes.")
            await answer.refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, large, close=True)
            return
        if self._under_way[reading] >= (MOST_READERS if reading else MOST_WRITERS):
            busy = KeyctlError(Code.DATABASE_BUSY, "the server is busy with other requests", "Try again.")
            await answer.refuse(HTTPStatus.TOO_MANY_REQUESTS, busy)
            return
        scope["state"]["body_digest"] = hashlib.sha256(body).digest()
        self._under_way[reading] += 1
        try:
            await self._app(scope, receive if reading else _given(body, receive), answer)
        finally:
            self._under_way[reading] -= 1

    def _about(self, scope: Scope, found: dict[bytes, bytes]) -> asgi.About:
        client = self._proxies.client(asgi.peer(scope), headers.text_of(found.get(b"x-forwarded-for")))
        return asgi.About(
            address=client.certain,
            client_ip=client.address,
            method=scope["method"],
            path=redact(asgi.request_path(scope)),
            user_agent=headers.text_of(found.get(b"user-agent")),
        )

    async def _flush(self) -> None:
        try:
            await self._threads.run(self._verifier.flush)
        except (KeyctlError, NoThreadFreeError) as error:
            self.uses_lost = True
            _log.error("uses could not be written at shutdown", extra={"problem": str(error)})


class _Answer:
    """A `send` that gives the answer its id and forbids to keep it."""

    def __init__(self, send: Send, request_id: str) -> None:
        self._send = send
        self._request_id = request_id
        self.status: int | None = None
        self.whole = False
        self.counted: Callable[[int], None] | None = None
        """What to call with the status, before the answer: whoever has it finds it counted."""

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = status = message["status"]
            if self.counted is not None:
                self.counted(status)
            kept = [(name, value) for name, value in message.get("headers", ()) if name.lower() != b"cache-control"]
            message = {**message, "headers": [*kept, _NO_STORE, (b"x-request-id", self._request_id.encode())]}
        self.whole = message["type"] == "http.response.body" and not message.get("more_body", False)
        await self._send(message)

    async def refuse(self, status: HTTPStatus, error: KeyctlError, *, close: bool = False) -> None:
        """Answer with a problem document."""
        body = problems.body(error, status, self._request_id)
        more = [(name.lower().encode(), value.encode()) for name, value in problems.headers_of(error).items()]
        await self(
            {
                "type": "http.response.start",
                "status": int(status),
                "headers": [
                    (b"content-type", problems.MEDIA_TYPE.encode()),
                    (b"content-length", str(len(body)).encode()),
                    *([(b"connection", b"close")] if close else []),
                    *more,
                ],
            }
        )
        await self({"type": "http.response.body", "body": body})


class _GoneError(Exception):
    """The client is gone."""


async def _body(scope: Scope, receive: Receive) -> bytes | None:
    """The whole body; None for one that is too large, of which no more is read."""
    said = headers.single(scope["headers"]).get(b"content-length", b"")
    if said.isdigit() and int(said) > LARGEST_BODY:
        return None
    parts, size = [], 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _GoneError
        part = message.get("body", b"")
        size += len(part)
        if size > LARGEST_BODY:
            return None
        parts.append(part)
        if not message.get("more_body", False):
            return b"".join(parts)


def _given(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives this body first."""
    waiting = [body]

    async def give() -> Message:
        if waiting:
            return {"type": "http.request", "body": waiting.pop(), "more_body": False}
        return await receive()

    return give


def _canonical(scope: Scope) -> str:
    """The path in one spelling, each part still percent-encoded: a name may hold a slash."""
    raw = asgi.request_path(scope).encode("latin-1", "replace")
    return "/".join(quote(unquote_to_bytes(part), safe=":~-._*@!$&'()+,;=") for part in raw.split(b"/"))


def _holds_raw_key(path: str, query: bytes) -> bool:
    text = unquote_to_bytes(path).decode("utf-8", "replace")
    return any(resembles_raw_key(part) for part in (path, text, *_spelled(query)))


def _spelled(query: bytes) -> list[str]:
    with suppress(UnicodeDecodeError):
        text = query.decode("latin-1")
        return [text, unquote_to_bytes(query.replace(b"+", b" ")).decode("utf-8", "replace")]
    return []
