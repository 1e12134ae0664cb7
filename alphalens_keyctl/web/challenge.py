"""The one refusal. The refusal is the same to the byte for every reason: nobody can tell a revoked key from a key
that never was, or a bad key from a database that does not answer. A key that opens, and lacks a scope that the request
needs, is told so.
"""

import json
from collections.abc import Iterable
from functools import lru_cache
from typing import Final, NamedTuple

from alphalens_keyctl import scopes
from alphalens_keyctl.vocabulary import Reason

STATUS: Final = 401
# RFC 9457, 4.2.1: with the type "about:blank" the title is the phrase of the status.
BODY: Final = json.dumps(
    {
        "type": "about:blank",
        "title": "Unauthorized",
        "status": STATUS,
        "detail": "This needs a valid API key in the header API-Key.",
    }
).encode()
_FORBIDDEN: Final = 403


class Refusal(NamedTuple):
    """An answer of a middleware: its status with the phrase, its headers for WSGI and for ASGI, and its body."""

    status: int
    phrase: str
    headers: tuple[tuple[str, str], ...]
    raw_headers: tuple[tuple[bytes, bytes], ...]
    body: bytes


def refusal(reason: Reason, needed: Iterable[str] | None) -> Refusal:
    """Return the answer to a request whose key was refused for `reason`. `needed` are the scopes of the request."""
    if reason is not Reason.SCOPE:
        return UNAUTHORIZED
    return _insufficient(tuple(scope for scope in needed or () if scopes.covers_all((scope,), scope)))


def _refusal(status: int, phrase: str, body: bytes, scheme: str) -> Refusal:
    headers = (
        ("Content-Type", "application/problem+json"),
        ("Content-Length", str(len(body))),
        # RFC 9110, 11.6.1: a 401 names a scheme.
        ("WWW-Authenticate", scheme),
        # A cache that kept a refusal would give the refusal to clients with a good key.
        ("Cache-Control", "no-store"),
    )
    return Refusal(
        status, phrase, headers, tuple((name.lower().encode(), value.encode()) for name, value in headers), body
    )


UNAUTHORIZED: Final = _refusal(STATUS, "Unauthorized", BODY, "ApiKey")
HEADERS: Final = UNAUTHORIZED.headers
RAW_HEADERS: Final = UNAUTHORIZED.raw_headers


@lru_cache(maxsize=1024)
def _insufficient(needed: tuple[str, ...]) -> Refusal:
    scope = " ".join(needed)
    # RFC 9457, with a code as errors of the program have; RFC 6750, 3.1, for the challenge.
    body = json.dumps(
        {
            "type": "about:blank",
            "title": "Forbidden",
            "status": _FORBIDDEN,
            "detail": "The API key does not have the scope that this needs.",
            "code": "insufficient_scope",
            "scope": scope,
        }
    ).encode()
    return _refusal(_FORBIDDEN, "Forbidden", body, f'ApiKey error="insufficient_scope", scope="{scope}"')
