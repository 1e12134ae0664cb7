"""Pages of a list: a token says behind which row the next page begins, and is good for its own query alone."""

import base64
import binascii
import hashlib
import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.moments import rfc3339_exact

_INSTANT: Final = "instant"


def token(query: str, place: Sequence[Any]) -> str:
    """The token for the page behind `place`, the values of a row, of the list that `query` asks for."""
    written = [{_INSTANT: rfc3339_exact(each)} if isinstance(each, datetime) else each for each in place]
    text = json.dumps([_digest(query), *written])
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def place(query: str, given: str) -> list[Any]:
    """The values of a token. Raises `KeyctlError` (invalid_input) for the token of another query."""
    try:
        found = json.loads(base64.b64decode(given + "=" * (-len(given) % 4), altchars="-_", validate=True))
        if isinstance(found, list) and len(found) == 3 and found[0] == _digest(query):
            return [_read(each) for each in found[1:]]
    except (ValueError, binascii.Error, RecursionError):
        pass
    raise KeyctlError(
        Code.INVALID_INPUT, "the page belongs to another query", "Follow the header Link, or begin with the first page."
    )


def link(url: str) -> dict[str, str]:
    """The header that names the next page."""
    return {"Link": f'<{url}>; rel="next"'}


def _read(value: Any) -> str | int | datetime | None:
    if isinstance(value, dict):
        return datetime.fromisoformat(value[_INSTANT])
    if value is None or (isinstance(value, str | int) and not isinstance(value, bool)):
        return value
    raise ValueError


def _digest(query: str) -> str:
    return hashlib.sha256(query.encode()).hexdigest()[:32]
