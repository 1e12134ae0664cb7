"""The middleware for ASGI applications: FastAPI, Starlette, Litestar and others."""

import logging
from collections.abc import Awaitable, Callable, Collection, Iterable, MutableMapping
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypedDict, Unpack
from urllib.parse import quote

from alphalens_keyctl.errors import KeyctlError
from alphalens_keyctl.verification.judgement import Verification
from alphalens_keyctl.vocabulary import Reason
from alphalens_keyctl.web import challenge, early_warning, headers
from alphalens_keyctl.web.challenge import Refusal
from alphalens_keyctl.web.client_address import UNIX, TrustedProxies
from alphalens_keyctl.web.early_warning import EarlyWarning
from alphalens_keyctl.web.required_scopes import RequiredScopes, Scopes
from alphalens_keyctl.web.waiting import NoThreadFreeError, Threads

if TYPE_CHECKING:
    from alphalens_keyctl import KeyVerifier

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_POLICY_VIOLATION: Final = 1008  # RFC 6455, 7.4.1
_STARTS: Final = frozenset(("http.response.start", "websocket.accept"))
_NOT_ASKED: Final = Verification(False, Reason.UNAVAILABLE, None)

_log = logging.getLogger(__name__)


class ApiKeyMiddleware:
    """Passes a request with a good key in the header `API-Key` to the application, and answers any other with 401.

    The application finds the key's record, a `Key`, at `scope["state"]["api_key"]` (`request.state.api_key` in the
    frameworks). A websocket without a good key is refused before the websocket is accepted. `exempt` lists exact
    paths that need no key; a request for such a path carries no record. `trusted_proxies` lists the proxies whose
    X-Forwarded-For is believed: addresses, networks in CIDR notation, or the word `unix`; a key that is limited to
    networks opens where the client's address is known for certain, through them or because the request has no such
    header.

    `required_scopes` lists what the key must cover, or is a function that is called with the ASGI scope of a request
    and returns it, None for nothing. A good key that does not cover it is answered 403 `insufficient_scope`.

    The answer to a key that is retiring says so in the headers `Deprecation` and `Sunset`, and to a key that expires
    within `warn_within` in `Sunset` (None: the setting of the verifier; timedelta(0): not before an expiry). Where the
    application sets either header, neither is added.

    When the application shuts down, every use is written. The caller who made the verifier closes it.
    """

    def __init__(
        self,
        app: App,
        verifier: "KeyVerifier",
        *,
        trusted_proxies: Iterable[str] = (),
        exempt: Collection[str] = (),
        warn_within: timedelta | None = None,
        required_scopes: Scopes | Callable[[Scope], Scopes] = None,
    ) -> None:
        self._app = app
        self._verifier = verifier
        self._required: RequiredScopes[Scope] = RequiredScopes(required_scopes)
        self._proxies = TrustedProxies(trusted_proxies)
        self._exempt = frozenset((exempt,) if isinstance(exempt, str) else exempt)
        self._warning = EarlyWarning(verifier, warn_within)
        self._threads = Threads()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, one websocket, or the lifespan of the server."""
        kind = scope["type"]
        if kind == "lifespan":
            await self._app(scope, before_shutdown(receive, self._flush), send)
            return
        if kind not in ("http", "websocket"):
            # Nobody knows where another protocol carries a key: closed.
            raise ValueError(f"no API key can be looked for in a connection of type {kind!r}")
        if scope["path"] in self._exempt:
            await self._app(scope, receive, send)
            return
        found = headers.single(scope["headers"])
        client = self._proxies.client(peer(scope), headers.text_of(found.get(b"x-forwarded-for")))
        needed = self._required.of(scope)
        answer = await verify(
            self._verifier,
            self._threads,
            headers.raw_key(found),
            scope=needed,
            address=client.certain,
            client_ip=client.address,
            # A websocket begins with a GET (RFC 6455, 4.1), over HTTP/2 with a CONNECT that stands for one.
            method=scope.get("method", "GET"),
            path=request_path(scope),
            user_agent=headers.text_of(found.get(b"user-agent")),
        )
        if answer.allowed:
            # A copy for this request: a server may share one state among all requests.
            state = {**(scope.get("state") or {}), "api_key": answer.key}
            if warning := self._warning.headers(answer):
                send = _warning(send, warning)
            await self._app({**scope, "state": state}, receive, send)
            return
        refusal = challenge.refusal(answer.reason, needed)
        if kind == "http":
            await refuse(send, refusal)
        else:
            await _refuse_websocket(scope, receive, send, refusal)

    async def _flush(self) -> None:
        try:
            await self._threads.run(self._verifier.flush)
        except (KeyctlError, NoThreadFreeError) as error:
            # The verifier still holds the uses, and its close() tries again.
            _log.error("uses could not be written at shutdown", extra={"problem": str(error)})


class About(TypedDict, total=False):
    """What a verifier is told of a request, beside the key."""

    scope: Iterable[str] | None
    address: str | None
    client_ip: str | None
    method: str | None
    path: str | None
    user_agent: str | None


async def verify(
    verifier: "KeyVerifier", threads: Threads, raw_key: bytes | None, **about: Unpack[About]
) -> Verification:
    """Return the verifier's answer; wait for the database in a thread, never in the event loop."""
    answer = verifier.verify_cached(raw_key, **about)
    if answer is not None:
        return answer
    try:
        return await threads.run(partial(verifier.verify, raw_key, **about))
    except NoThreadFreeError:
        return _NOT_ASKED


def _warning(send: Send, warning: early_warning.Headers) -> Send:
    """Return a `send` that adds the headers to the start of the answer."""
    added = [(name.lower().encode(), value.encode()) for name, value in warning]

    async def send_with_warning(message: Message) -> None:
        if message["type"] in _STARTS:
            own = [*(message.get("headers") or ())]
            if not early_warning.names_either(name for name, _ in own):
                message = {**message, "headers": [*own, *added]}
        await send(message)

    return send_with_warning


async def refuse(send: Send, refusal: Refusal) -> None:
    """Answer with the problem document of a refusal."""
    await send({"type": "http.response.start", "status": refusal.status, "headers": [*refusal.raw_headers]})
    await send({"type": "http.response.body", "body": refusal.body})


async def _refuse_websocket(scope: Scope, receive: Receive, send: Send, refusal: Refusal) -> None:
    if (await receive())["type"] != "websocket.connect":
        return
    if "websocket.http.response" not in (scope.get("extensions") or {}):
        await send({"type": "websocket.close", "code": _POLICY_VIOLATION, "reason": ""})
        return
    start = {"type": "websocket.http.response.start", "status": refusal.status, "headers": [*refusal.raw_headers]}
    await send(start)
    await send({"type": "websocket.http.response.body", "body": refusal.body})


def peer(scope: Scope) -> str | None:
    """Return the address of the connection's other end, `UNIX`, or None where the server does not know."""
    client = scope.get("client")
    if client:
        address: str = client[0]
        return address
    # A server may also lack the address of a TCP client that has gone, so the listening end decides.
    server = scope.get("server")
    return UNIX if server and server[1] is None else None


def request_path(scope: Scope) -> str:
    """Return the path as the request had it: percent-encoded, without the query."""
    raw: bytes | None = scope.get("raw_path")
    # Some servers leave the query in raw_path, and some leave the query out.
    return quote(scope["path"], errors="replace") if raw is None else raw.partition(b"?")[0].decode("latin-1")


def before_shutdown(receive: Receive, last_work: Callable[[], Awaitable[None]]) -> Receive:
    """Return a `receive` that does `last_work` before the application hears of the shutdown."""

    async def receive_after_work() -> Message:
        message = await receive()
        if message["type"] == "lifespan.shutdown":
            await last_work()
        return message

    return receive_after_work
