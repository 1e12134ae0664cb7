"""The forward-auth endpoint: a proxy asks about each request, and lets a request in only after a yes.

nginx, Traefik and Caddy take any status from 200 to 299 for a yes, and ask at a configured path; README's text for
HAProxy takes 204. Envoy takes 200 alone, and asks at the path of the protected request, behind a configured prefix.
"""

import asyncio
import logging
import time
from collections.abc import Iterable
from datetime import timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Final, Unpack
from urllib.parse import parse_qsl, quote

from alphalens_keyctl.errors import KeyctlError
from alphalens_keyctl.verification.judgement import Verification
from alphalens_keyctl.web import asgi, challenge, correlation, headers
from alphalens_keyctl.web.client_address import TrustedProxies
from alphalens_keyctl.web.early_warning import EarlyWarning, Headers
from alphalens_keyctl.web.refreshing import Refreshes
from alphalens_keyctl.web.waiting import NoThreadFreeError, Threads

if TYPE_CHECKING:
    from alphalens_keyctl import KeyVerifier
    from alphalens_keyctl.web.metrics import Metrics

ENVOY_PREFIX: Final = "/ext_authz/"
LIVE_PATH: Final = "/healthz"
READY_PATH: Final = "/readyz"
# What metrics call the questions of Envoy and of other proxies, and our own paths.
_ENVOY_ROUTE: Final = "ext_authz"
_ROUTE: Final = "verify"
_OUR_PATHS: Final = {LIVE_PATH: "healthz", READY_PATH: "readyz"}
# Every route with every status.
ANSWERS: Final = (
    *((_ROUTE, status) for status in (204, 401)),
    *((_ENVOY_ROUTE, status) for status in (200, 401)),
    ("healthz", 204),
    *(("readyz", status) for status in (204, 503)),
)
# In the state of the server: what to call when a request was refused unread.
UNREAD: Final = "alphalens_keyctl.unread"
# The extension of a scope that is the first on its connection, and whose target is a path, not a URL.
FIRST: Final = "alphalens_keyctl.first"
# Seconds for which an answer about the database is given again.
READY_FOR: Final = 1.0

# Headers that mark a question about a key: set by nginx and HAProxy as README configures them, by Traefik and Caddy,
# or by the client.
_ABOUT_ANOTHER: Final = frozenset(
    (b"x-original-uri", b"x-original-method", b"x-forwarded-uri", b"x-forwarded-method", b"api-key")
)
_VERSIONS: Final = frozenset(("1.1", "1.0"))
_NO_BODY: Final[asgi.Message] = {"type": "http.response.body", "body": b""}
_NOTHING: Final = (b"content-length", b"0")
_CLOSE: Final = (b"connection", b"close")
# A proxy's question is short; a longer query was not written by whoever set the proxy up. Bytes.
_LONGEST_QUERY: Final = 4096
# What no key covers.
_NO_SCOPE: Final = ""
# Keys whose response headers are kept ready.
_REMEMBERED: Final = 10_000

_log = logging.getLogger(__name__)


class ForwardAuth:
    """An ASGI application that answers 204 with `X-Key-Id`, `X-Key-Name`, `X-Key-Owner` and `X-Key-Scopes`, or 401; or
    403 to a good key that does not cover every `scope` of the question's query.

    Name and owner are percent-encoded UTF-8 (RFC 3986, 2.1), so that no name ends a header. The answer for a key
    without an owner has no `X-Key-Owner`, and for one that is not restricted to scopes no `X-Key-Scopes`. The client's
    address is known for certain where a trusted proxy names it. For a key that is retiring, or that expires within
    `warn_within`, the answer has `Deprecation` and `Sunset` for the proxy to pass on. When the server shuts down, the
    application closes the verifier.
    """

    def __init__(
        self,
        verifier: "KeyVerifier",
        *,
        trusted_proxies: Iterable[str] = (),
        access_log: bool = False,
        warn_within: timedelta | None = None,
        metrics: "Metrics | None" = None,
    ) -> None:
        self._verifier = verifier
        self._metrics = metrics
        self._warning = EarlyWarning(verifier, warn_within)
        self._proxies = TrustedProxies(trusted_proxies)
        self._threads = Threads()
        self._refreshes = Refreshes(verifier)
        self._lookups = _Lookups(verifier, self._threads)
        self._readiness = _Readiness(verifier, self._threads)
        self._access_log = access_log
        self.uses_lost = False
        """Whether, when the server shut down, uses could not be written."""

    async def __call__(self, scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send) -> None:
        """Answer one request, or the lifespan of the server."""
        if scope["type"] == "lifespan":
            await self._live(scope, receive, send)
            return
        began = time.monotonic()
        # First, so that each answer is sent as soon as it is known, and not after the work on all other requests.
        refreshed = await self._refreshes.since_now()
        found = headers.single(scope["headers"])
        path: str = scope["path"]
        if path in _OUR_PATHS and _asks_after_us(scope, found):
            status = 204 if path == LIVE_PATH or await self._readiness.now() else 503
            if self._metrics is not None:
                self._metrics.answered(_OUR_PATHS[path], status, time.monotonic() - began)
            await _say_how_we_are(status, send)
            return
        if _is_more_than_a_question(scope, found):
            send = _adding(send, _CLOSE)
        request_id = correlation.request_id(found) if self._access_log else None
        if request_id is not None:
            send = _adding(send, (correlation.REQUEST_ID, request_id.encode()))
        peer = asgi.peer(scope)
        client = self._proxies.client(peer, headers.text_of(found.get(b"x-forwarded-for")))
        client_ip, trusted = client.address, self._proxies.vouch(peer)
        # The peer is a proxy. Where nobody said which one is trusted, its own address is not the client's.
        address = client.certain if trusted else None
        needed = _needed(scope)
        method, asked_path = _request_asked_about(scope, found, trusted=trusted)
        raw_key = headers.raw_key(found)
        user_agent = headers.text_of(found.get(b"user-agent"))
        about: asgi.About = {
            "scope": needed, "address": address, "client_ip": client_ip, "method": method, "path": asked_path,
            "user_agent": user_agent,
        }  # fmt: skip
        answer = self._verifier.verify_cached(raw_key, refreshed=refreshed, **about)
        if answer is None:
            answer = await self._lookups.verify(raw_key, **about)
        for_envoy = path.startswith(ENVOY_PREFIX)
        start = self._start(answer, for_envoy=for_envoy)
        refusal = challenge.refusal(answer.reason, needed)
        if self._metrics is not None:
            # Before the answer: whoever has it finds it counted.
            self._metrics.verified(answer.reason)
            status = refusal.status if start is None else start["status"]
            self._metrics.answered(_ENVOY_ROUTE if for_envoy else _ROUTE, status, time.monotonic() - began)
        if start is not None:
            await send(start)
            await send(_NO_BODY)
        else:
            await asgi.refuse(send, refusal)
        if request_id is not None:
            correlated = correlation.logged(request_id, found, time.monotonic() - began)
            _tell(answer, client_ip, method, asked_path, correlated)

    def _start(self, answer: Verification, *, for_envoy: bool) -> asgi.Message | None:
        """The start of a yes; None for a no."""
        key = answer.key
        if not answer.allowed or key is None:
            return None
        return _yes(key.id, key.name, key.owner, key.scopes, for_envoy, self._warning.headers(answer))

    async def _live(self, scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                if self._metrics is not None:
                    scope["state"][UNREAD] = self._metrics.unread
                    self._metrics.watch(self._verifier)
                await send({"type": "lifespan.startup.complete"})
                continue
            try:
                if self._metrics is not None:
                    await asyncio.to_thread(self._metrics.watch_no_more)
                await asyncio.to_thread(self._verifier.close)
            except KeyctlError as error:
                self.uses_lost = True
                _log.error("uses are lost: they could not be written", extra={"problem": error.message})
                await send({"type": "lifespan.shutdown.failed", "message": ""})
            else:
                await send({"type": "lifespan.shutdown.complete"})
            self._threads.close()
            return


class _Lookups:
    """Look-ups under way: of many requests with one key, one asks the database and the others wait.

    On SQLite every commit, also of uses, makes the verifier look each key up anew. Without this class every request
    under way would look a busy key up, and the threads would cost more than the look-up.
    """

    def __init__(self, verifier: "KeyVerifier", threads: Threads) -> None:
        self._verifier = verifier
        self._threads = threads
        self._under_way: dict[bytes | None, asyncio.Event] = {}

    async def verify(self, raw_key: bytes | None, **about: Unpack[asgi.About]) -> Verification:
        first = self._under_way.get(raw_key)
        if first is not None:
            await first.wait()
            # Each request asks the verifier for itself: the first answer may no longer hold.
            return await asgi.verify(self._verifier, self._threads, raw_key, **about)
        done = self._under_way[raw_key] = asyncio.Event()
        try:
            return await asgi.verify(self._verifier, self._threads, raw_key, **about)
        finally:
            del self._under_way[raw_key]
            done.set()


class _Readiness:
    """Whether the database answers. The database is asked once a second at most."""

    def __init__(self, verifier: "KeyVerifier", threads: Threads) -> None:
        self._verifier = verifier
        self._threads = threads
        self._asking = asyncio.Lock()
        self._holds_until = float("-inf")
        self._ready = False

    async def now(self) -> bool:
        async with self._asking:
            if time.monotonic() >= self._holds_until:
                try:
                    self._ready = await self._threads.run(self._verifier.ready)
                except NoThreadFreeError:
                    self._ready = False
                self._holds_until = time.monotonic() + READY_FOR
            return self._ready


async def _say_how_we_are(status: int, send: asgi.Send) -> None:
    # Never 200: an Envoy without its path_prefix asks at the client's own path, and must not let a request for
    # /healthz in.
    await send({"type": "http.response.start", "status": status, "headers": [_CLOSE]})
    await send(_NO_BODY)


def _request_asked_about(scope: asgi.Scope, found: dict[bytes, bytes], *, trusted: bool) -> tuple[str, str]:
    """Return method and path, without the query, of the request that the proxy asks about."""
    method, path = None, None
    if trusted:
        method = found.get(b"x-original-method") or found.get(b"x-forwarded-method")
        path = found.get(b"x-original-uri") or found.get(b"x-forwarded-uri")
    return (
        method.decode("latin-1") if method else scope["method"],
        path.partition(b"?")[0].decode("latin-1") if path else _without_prefix(asgi.request_path(scope)),
    )


def _needed(scope: asgi.Scope) -> tuple[str, ...] | None:
    """Return the scopes that the proxy asks for in the query; None for none.

    Envoy asks with the client's own path and query behind its prefix, so that no query there is the proxy's.
    """
    query: bytes = scope.get("query_string", b"")
    if not query or scope["path"].startswith(ENVOY_PREFIX):
        return None
    return _scopes_in(query) if len(query) <= _LONGEST_QUERY else (_NO_SCOPE,)


@lru_cache(maxsize=1024)
def _scopes_in(query: bytes) -> tuple[str, ...] | None:
    pairs = parse_qsl(query.decode("latin-1"), keep_blank_values=True, max_num_fields=None)
    return tuple(value for name, value in pairs if name == "scope") or None


def _asks_after_us(scope: asgi.Scope, found: dict[bytes, bytes]) -> bool:
    """Whether a request for one of our paths is a probe's, and cannot be one that somebody slipped past a proxy.

    A proxy that keeps the path of the request would take our health for leave to open its own /healthz; one that
    says what it asks about is known by that. A request slipped past a proxy comes after one of the proxy's own, on
    the same connection; so only the first is answered, in the plainest form alone, and no other follows it.
    """
    return (
        FIRST in scope.get("extensions", ())
        and scope["raw_path"] == scope["path"].encode()
        and scope["method"] in ("GET", "HEAD")
        and scope["http_version"] in _VERSIONS
        and _ABOUT_ANOTHER.isdisjoint(found)
        and not _is_more_than_a_question(scope, found)
    )


def _is_more_than_a_question(scope: asgi.Scope, found: dict[bytes, bytes]) -> bool:
    """Whether bytes may follow the headers that are no question of their own: a body, another protocol.

    nginx announces the client's body in its question and does not send it. What came next over the same connection
    would be read as that body.
    """
    return (
        b"transfer-encoding" in found
        or found.get(b"content-length", b"0") != b"0"
        or b"upgrade" in found
        or scope["http_version"] not in _VERSIONS
    )


def _adding(send: asgi.Send, header: tuple[bytes, bytes]) -> asgi.Send:
    """`send` that adds a header to the answer."""

    async def send_with_header(message: asgi.Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message["headers"], header]}
        await send(message)

    return send_with_header


def _without_prefix(path: str) -> str:
    return path[len(ENVOY_PREFIX) - 1 :] if path.startswith(ENVOY_PREFIX) else path


@lru_cache(maxsize=_REMEMBERED)
def _yes(
    key_id: str, name: str, owner: str | None, scopes: tuple[str, ...] | None, for_envoy: bool, warning: Headers
) -> asgi.Message:
    headers = [(b"x-key-id", quote(key_id, safe="").encode()), (b"x-key-name", quote(name, safe="").encode())]
    headers += [(header.lower().encode(), value.encode()) for header, value in warning]
    if owner is not None:
        headers.append((b"x-key-owner", quote(owner, safe="").encode()))
    if scopes is not None:
        headers.append((b"x-key-scopes", " ".join(scopes).encode()))
    if not for_envoy:
        return {"type": "http.response.start", "status": 204, "headers": headers}
    # Envoy removes these headers from the request that it passes on: the raw key, and what a client made up.
    unwanted = b",".join(
        (
            b"api-key",
            *([b"x-key-owner"] if owner is None else []),
            *([b"x-key-scopes"] if scopes is None else []),
        )
    )
    headers += ((b"x-envoy-auth-headers-to-remove", unwanted), _NOTHING)
    return {"type": "http.response.start", "status": 200, "headers": headers}


def _tell(answer: Verification, client_ip: str | None, method: str, path: str, correlated: dict[str, object]) -> None:
    fields = {
        "allowed": answer.allowed,
        "reason": str(answer.reason),
        "key_id": answer.key.id if answer.key is not None else None,
        "client_ip": client_ip,
        "method": method[:64],
        "path": path[:512],
        **correlated,
    }
    _log.info("request", extra=fields)
