"""The one refusal. Whoever is refused learns nothing from it: it is the same to the byte for every reason, so
that nobody can tell a revoked key from one that never was, or a bad key from a database that is away.
"""

import json
from typing import Final

STATUS: Final = 401
# RFC 9457; with the type "about:blank" the title is the status's own phrase (section 4.2.1).
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
    # A cache that kept a refusal would hand it to those who hold a key.
    ("Cache-Control", "no-store"),
)
RAW_HEADERS: Final = tuple((name.lower().encode(), value.encode()) for name, value in HEADERS)
