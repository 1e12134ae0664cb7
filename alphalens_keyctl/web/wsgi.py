"""The middleware for WSGI applications: Flask, Django and others."""

from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from alphalens_keyctl.web import challenge, headers
from alphalens_keyctl.web.client_address import UNIX, TrustedProxies

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

    The application finds the key's record, a `Key`, at `environ["alphalens_keyctl.api_key"]`. `exempt` and
    `trusted_proxies` mean what they mean to `ApiKeyMiddleware`. The caller who made the verifier closes it; a
    verifier also writes every use when the process ends.

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
    ) -> None:
        self._app = app
        self._verifier = verifier
        self._proxies = TrustedProxies(trusted_proxies)
        self._exempt = frozenset((exempt,) if isinstance(exempt, str) else exempt)

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        path = _decoded(environ.get("SCRIPT_NAME", "")) + _decoded(environ.get("PATH_INFO", ""))
        # A client cannot set it: a header's name begins with HTTP_. A server or another middleware can.
        environ.pop(KEY, None)
        if path in self._exempt:
            return self._app(environ, start_response)
        answer = self._verifier.verify(
            headers.of_wsgi(environ, "API-Key"),
            client_ip=self._proxies.client(_peer(environ), headers.of_wsgi(environ, "X-Forwarded-For")),
            method=environ.get("REQUEST_METHOD"),
            path=quote(path, errors="surrogateescape"),
            user_agent=environ.get("HTTP_USER_AGENT"),
        )
        if not answer.allowed:
            start_response(f"{challenge.STATUS} Unauthorized", [*challenge.HEADERS])
            return [] if environ.get("REQUEST_METHOD") == "HEAD" else [challenge.BODY]
        environ[KEY] = answer.key
        return self._app(environ, start_response)


def _peer(environ: Environ) -> str | None:
    address: str | None = environ.get("REMOTE_ADDR")
    return UNIX if address in _NO_ADDRESS else address


def _decoded(part: str) -> str:
    """Return the UTF-8 text of bytes that PEP 3333 hands over as Latin-1."""
    return part.encode("latin-1", "replace").decode("utf-8", "surrogateescape")
