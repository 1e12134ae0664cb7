"""The middleware for WSGI applications: Flask, Django and others."""

from collections.abc import Callable, Collection, Iterable
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from alphalens_keyctl.web import challenge, early_warning, headers
from alphalens_keyctl.web.client_address import UNIX, TrustedProxies
from alphalens_keyctl.web.early_warning import EarlyWarning
from alphalens_keyctl.web.required_scopes import RequiredScopes, Scopes

if TYPE_CHECKING:
    from alphalens_keyctl import KeyVerifier

Environ = dict[str, Any]
StartResponse = Callable[..., Any]
App = Callable[[Environ, StartResponse], Iterable[bytes]]

KEY: Final = "alphalens_keyctl.api_key"
# What servers write in place of the address of a peer on a unix socket.
_NO_ADDRESS: Final = frozenset({"", "<local>"})


class ApiKeyWsgiMiddleware:
    """Passes a request with a good key in the header `API-Key` to the application, and answers any other with 401.

    The application finds the key's record, a `Key`, at `environ["alphalens_keyctl.api_key"]`. `exempt`,
    `trusted_proxies`, `warn_within` and `required_scopes` mean what they mean to `ApiKeyMiddleware`; where the last is
    a function it is called with the environ. The caller who made the verifier closes it; a verifier also writes every
    use when the process ends.

    WSGI gives `X_Forwarded_For` and `X-Forwarded-For` one name, and `API_Key` and `API-Key`. gunicorn, waitress,
    werkzeug and nginx drop headers with an underscore, and under a2wsgi the middleware tells them apart. Any other
    server (wsgiref, uWSGI, uvicorn's own `wsgi` interface) lets a client add to what a trusted proxy said: have the
    proxy drop such headers.
    """

    def __init__(
        self,
        app: App,
        verifier: "KeyVerifier",
        *,
        trusted_proxies: Iterable[str] = (),
        exempt: Collection[str] = (),
        warn_within: timedelta | None = None,
        required_scopes: Scopes | Callable[[Environ], Scopes] = None,
    ) -> None:
        self._app = app
        self._verifier = verifier
        self._required: RequiredScopes[Environ] = RequiredScopes(required_scopes)
        self._proxies = TrustedProxies(trusted_proxies)
        self._exempt = frozenset((exempt,) if isinstance(exempt, str) else exempt)
        self._warning = EarlyWarning(verifier, warn_within)

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        path = _decoded(environ.get("SCRIPT_NAME", "")) + _decoded(environ.get("PATH_INFO", ""))
        # A client cannot set it: a header's name begins with HTTP_. A server or another middleware can.
        environ.pop(KEY, None)
        if path in self._exempt:
            return self._app(environ, start_response)
        client = self._proxies.client(_peer(environ), headers.of_wsgi(environ, "X-Forwarded-For"))
        needed = self._required.of(environ)
        answer = self._verifier.verify(
            headers.of_wsgi(environ, "API-Key"),
            scope=needed,
            address=client.certain,
            client_ip=client.address,
            method=environ.get("REQUEST_METHOD"),
            path=quote(path, errors="surrogateescape"),
            user_agent=environ.get("HTTP_USER_AGENT"),
        )
        if not answer.allowed:
            refusal = challenge.refusal(answer.reason, needed)
            start_response(f"{refusal.status} {refusal.phrase}", [*refusal.headers])
            return [] if environ.get("REQUEST_METHOD") == "HEAD" else [refusal.body]
        environ[KEY] = answer.key
        if warning := self._warning.headers(answer):
            start_response = _warning(start_response, warning)
        return self._app(environ, start_response)


def _warning(start_response: StartResponse, warning: early_warning.Headers) -> StartResponse:
    """Return a `start_response` that adds the headers to the application's."""

    def start_with_warning(status: str, own: list[tuple[str, str]], *more: Any) -> Any:
        if not early_warning.names_either(name for name, _ in own):
            own = [*own, *warning]
        return start_response(status, own, *more)

    return start_with_warning


def _peer(environ: Environ) -> str | None:
    address: str | None = environ.get("REMOTE_ADDR")
    return UNIX if address in _NO_ADDRESS else address


def _decoded(part: str) -> str:
    """Return the UTF-8 text of bytes that PEP 3333 hands over as Latin-1."""
    return part.encode("latin-1", "replace").decode("utf-8", "surrogateescape")
