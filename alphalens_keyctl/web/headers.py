"""One reading of a request's headers, whatever the server's parser left in them.

httptools keeps the space behind a value and h11 takes it off; some servers join headers of one name, and some leave
that to the application. A header read in two ways would be two headers.
"""

from collections.abc import Iterable
from typing import Any, Final

# RFC 9110, 5.5: space and tab around a value are no part of it.
_AROUND: Final = " \t"
_AROUND_BYTES: Final = b" \t"


def single(headers: Iterable[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """Return an ASGI server's headers by name.

    Headers of one name are joined by commas (RFC 9110, 5.3): two API keys, even equal ones, become one that is
    malformed, rather than one of them the reader's choice.
    """
    pairs = headers if isinstance(headers, list) else list(headers)
    found = dict(pairs)
    if len(found) < len(pairs):
        found.clear()
        for name, value in pairs:
            found[name] = found[name] + b", " + value if name in found else value
    return found


def raw_key(found: dict[bytes, bytes]) -> bytes | None:
    """Return the value of `API-Key`, or None without one."""
    value = found.get(b"api-key")
    return None if value is None else value.strip(_AROUND_BYTES)


def of_wsgi(environ: dict[str, Any], name: str) -> str | None:
    """Return the value of a header, named as in `API-Key`, or None without one.

    WSGI gives `API_Key` and `API-Key` one name. Where a server hands on what it was sent (a2wsgi does, as
    `asgi.scope`), that decides; elsewhere nobody can tell the two apart.
    """
    scope = environ.get("asgi.scope")
    if scope is not None:
        return text_of(single(scope["headers"]).get(name.lower().encode()))
    value: str | None = environ.get("HTTP_" + name.upper().replace("-", "_"))
    return None if value is None else value.strip(_AROUND)


def text_of(value: bytes | None) -> str | None:
    """Return a header's value as text, byte by byte, or None for None."""
    return None if value is None else value.strip(_AROUND_BYTES).decode("latin-1")
