"""In front of a service: middleware for ASGI and WSGI, and the forward-auth server.

from alphalens_keyctl import KeyVerifier
from alphalens_keyctl.web import ApiKeyMiddleware
app = ApiKeyMiddleware(app, KeyVerifier())

The middleware needs no web framework and no extra; only `serve` needs the extra `server`.
"""

from alphalens_keyctl.web.asgi import ApiKeyMiddleware
from alphalens_keyctl.web.wsgi import ApiKeyWsgiMiddleware

__all__ = ["ApiKeyMiddleware", "ApiKeyWsgiMiddleware"]
