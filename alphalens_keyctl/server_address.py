"""Where a server of the HTTP API is: a URL → a plain value that holds no secret and can be shown."""

import ipaddress
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from alphalens_keyctl import keyformat
from alphalens_keyctl.errors import Code, KeyctlError

_PORTS: Final = {"https": 443, "http": 80}
_HOST: Final = re.compile(r"[0-9A-Za-z._:-]+")
_PATH: Final = re.compile(r"[!-~]*")
_FORMS: Final = "Use https://HOST, http://127.0.0.1:PORT or unix:/PATH."


@dataclass(frozen=True)
class ServerAddress:
    """A server: host and port, or its unix socket. `path` stands before the path of each request. With `tls`, the
    certificate of the server must be for `host`. `display` is the URL."""

    display: str
    host: str
    port: int = 0
    path: str = ""
    tls: bool = False
    unix_socket: Path | None = None


def is_server_url(text: str) -> bool:
    """Whether a text names a server of the HTTP API, and no database."""
    return text.partition(":")[0].lower() in ("http", "https", "unix")


def parse_server(text: str, *, plaintext: bool = False) -> ServerAddress:
    """`https://HOST[:PORT][/PATH]`, `http://…` of this machine, or `unix:/PATH` → the address.

    `plaintext` allows http to another machine. Raises `KeyctlError` (configuration_invalid), which never repeats the
    text: it may hold a key where the parser does not expect one.
    """
    if keyformat.resembles_raw_key(text):
        raise _refusal("the server's URL holds a raw key", "Consider the key leaked: rotate it.")
    scheme, _, rest = text.partition(":")
    if scheme == "unix" and rest.startswith("/") and "\0" not in rest and rest.isprintable():
        return ServerAddress(text, "localhost", unix_socket=Path(rest))
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise _refusal("the server's URL cannot be read") from None
    host = parts.hostname or ""
    if parts.scheme not in _PORTS or not _HOST.fullmatch(host) or not _PATH.fullmatch(parts.path):
        raise _refusal("the server's URL cannot be read")
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise _refusal("the server's URL holds a user, a query or a fragment", f"Leave it out. {_FORMS}")
    tls = parts.scheme == "https"
    if not (tls or plaintext or _is_here(host)):
        raise _refusal(
            "http to another machine would show the key to everybody on the way",
            "Use https://; --insecure-plaintext allows http all the same.",
        )
    path = parts.path.rstrip("/")
    return ServerAddress(
        f"{parts.scheme}://{parts.netloc.lower()}{path}", host, port or _PORTS[parts.scheme], path, tls
    )


def _is_here(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _refusal(problem: str, hint: str = _FORMS) -> KeyctlError:
    return KeyctlError(Code.CONFIGURATION, problem, hint)
