"""The one refusal. The refusal is the same to the byte for every reason: nobody can tell a revoked key from a key
that never was, or a bad key from a database that does not answer.
"""

import json
from typing import Final

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
HEADERS: Final = (
    ("Content-Type", "application/problem+json"),
    ("Content-Length", str(len(BODY))),
    # RFC 9110, 11.6.1: a 401 names a scheme.
    ("WWW-Authenticate", "ApiKey"),
    # A cache that kept a refusal would give the refusal to clients with a good key.
    ("Cache-Control", "no-store"),
)
RAW_HEADERS: Final = tuple((name.lower().encode(), value.encode()) for name, value in HEADERS)
