"""What ties a request to its lines in other logs: the id of the request, and of the trace that the request is part of.

Any client writes both headers, so neither is taken unless it has the form and the length of an id. A raw key that
somebody put there is not taken either (promise 1).
"""

import re
from collections.abc import Mapping
from random import getrandbits
from typing import Final

from alphalens_keyctl.keyformat import redact

REQUEST_ID: Final = b"x-request-id"
# Every id that proxies and tracers make fits: UUIDs, ULIDs, AWS's `Root=1-67891233-abcdef012345678912345678`.
_REQUEST_ID: Final = re.compile(rb"[0-9A-Za-z][0-9A-Za-z._:=+/@-]{0,63}")
# As much of a secret as is recognised without what stands before it. A longer id of one piece is hexadecimal.
_SECRET: Final = re.compile(rb"(?![0-9a-f]+\b|[0-9A-F]+\b)[0-9A-Za-z]{40,}")
# W3C Trace Context, 3.2: version, trace id, parent id, flags; a later version may have more behind them.
_TRACEPARENT: Final = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}(-[!-~]*)?")
_LONGEST_TRACEPARENT: Final = 512


def request_id(found: Mapping[bytes, bytes]) -> str:
    """Return the value of `X-Request-Id` where it is an id, else a new id. `found` are the request's headers."""
    given = found.get(REQUEST_ID, b"").strip(b" \t")
    if _REQUEST_ID.fullmatch(given) and not _SECRET.search(given):
        text = given.decode("ascii")
        if redact(text) == text:
            return text
    # No secret: an id must only be another one. To ask the kernel would make the event loop wait for other threads.
    return f"{getrandbits(128):032x}"


def trace_id(found: Mapping[bytes, bytes]) -> str | None:
    """Return the trace id of `traceparent`, 32 hexadecimal digits; None without a valid one (W3C Trace Context)."""
    given = found.get(b"traceparent", b"").strip(b" \t")
    match = _TRACEPARENT.fullmatch(given) if len(given) <= _LONGEST_TRACEPARENT else None
    if match is None:
        return None
    version, trace, parent, more = match.groups()
    if version == b"ff" or (version == b"00" and more) or not trace.strip(b"0") or not parent.strip(b"0"):
        return None
    return trace.decode("ascii")


def logged(request_id: str, found: Mapping[bytes, bytes], seconds: float) -> dict[str, object]:
    """What the line of every request in an access log has: its ids, and the milliseconds that it took."""
    return {"request_id": request_id, "trace_id": trace_id(found), "duration_ms": round(seconds * 1000, 3)}
