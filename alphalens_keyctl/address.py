"""Where the database is: a URL or a path → a plain value that can be shown without a password."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import quote, unquote, urlsplit

from alphalens_keyctl.errors import Code, KeyctlError

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):(//)?")
# Blanks or quotes around a text, a URL without its scheme, the keyword form of libpq: nobody names a file like this.
_MEANT_AS_URL = re.compile(r"""^[\s"']|\s$|^//|://|:[^/]*@|\b(password|host|dbname|user)\s*=""", re.IGNORECASE)
# Of ASCII, of Latin-1, and the two that end a line in Unicode.
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_POSTGRESQL: Final = frozenset({"postgresql", "postgres", "postgresql+psycopg"})
_SECRET_PARAMETERS: Final = frozenset({"password", "sslpassword", "passfile"})
_FORMS: Final = "Use a path, sqlite:///PATH or postgresql://USER@HOST/DATABASE."


@dataclass(frozen=True)
class SQLiteAddress:
    """A SQLite file, as an absolute path with links resolved: SQLite puts its own files beside the target of a link,
    and every process has to find the same lock file there."""

    path: Path

    @property
    def display(self) -> str:
        return str(self.path)

    def scrub(self, text: str) -> str:
        return text


@dataclass(frozen=True)
class PostgreSQLAddress:
    """A database on a PostgreSQL server. `conninfo` is what libpq takes; `display` never holds a password."""

    conninfo: str = field(repr=False)
    display: str
    _secrets: tuple[str, ...] = field(repr=False)

    @property
    def holds_password(self) -> bool:
        """Whether the URL holds a password."""
        return bool(self._secrets)

    def scrub(self, text: str) -> str:
        """`text`, the message of a driver, with `***` in place of every password that the driver repeats."""
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text


Address = SQLiteAddress | PostgreSQLAddress


def parse_address(text: str) -> Address:
    """A path, `sqlite:///PATH`, `postgresql://…` or `postgres://…` → the address.

    Raises `KeyctlError` (configuration_invalid). The message never repeats the text, which may hold a password where
    the parser does not expect one.
    """
    if _CONTROL.search(text):
        raise _refusal("the database URL holds a control character")
    scheme = _SCHEME.match(text)
    if scheme is None or not (scheme[2] or scheme[1].lower() in {"sqlite", *_POSTGRESQL}):
        if _MEANT_AS_URL.search(text):
            # Taken for a path, the text would make another database than was meant, named after the password.
            raise _refusal("the database URL cannot be read")
        return _sqlite(text)
    name = scheme[1].lower()
    if name == "sqlite":
        return _sqlite_url(text)
    if name in _POSTGRESQL:
        return _postgresql(text, scheme)
    raise _refusal(f"no database is known by the scheme '{name}'")


def from_folder(folder: Path, text: str) -> str:
    """The text of an address whose SQLite file, where its path is relative, is counted from `folder`. Any other text,
    also one that is no address, stays as it is."""
    url = re.match("sqlite:///", text, re.IGNORECASE)
    if url is None and (_SCHEME.match(text) is not None or _MEANT_AS_URL.search(text)):
        return text
    path = text[url.end() :] if url is not None else text
    if not path or path == ":memory:" or path.startswith(("/", "~")):
        return text
    return f"{url[0]}{quote(str(folder))}/{path}" if url is not None else f"{folder}/{path}"


def _sqlite_url(text: str) -> SQLiteAddress:
    rest = text[len("sqlite:") :]
    if not rest.startswith("///"):
        raise _refusal("a SQLite URL has three slashes before its path")
    path = rest[3:]
    if "?" in path or "#" in path:
        raise _refusal("a SQLite URL takes no parameters")
    return _sqlite(unquote(path))


def _sqlite(path: str) -> SQLiteAddress:
    if not path or path == ":memory:":
        raise _refusal("the database needs a file: keys kept in memory are lost when the command ends")
    if _CONTROL.search(path):
        raise _refusal("the database path holds a control character")
    try:
        return SQLiteAddress(Path(path).expanduser().resolve())
    except (RuntimeError, OSError):
        raise _refusal("the database path leads nowhere") from None


def _postgresql(text: str, scheme: re.Match[str]) -> PostgreSQLAddress:
    if not scheme[2]:
        raise _refusal("a PostgreSQL URL has two slashes after its scheme")
    rest = text[scheme.end() :]
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    # After an unescaped '@' the end of the password would be taken for the host, and would turn up in messages.
    if authority.count("@") > 1 or "@" in rest[len(authority) :]:
        raise _refusal("the user name or password holds a bare '@', '/', '?' or '#'", _ESCAPE)
    if "#" in rest:
        raise _refusal("a bare '#' stands in the URL", _ESCAPE)
    try:
        parts = urlsplit("postgresql://" + rest)
        query = [pair.partition("=") for pair in parts.query.split("&") if parts.query]
        ports = [host.rpartition("]")[2].partition(":")[2] for host in parts.netloc.rpartition("@")[2].split(",")]
    except ValueError:
        raise _refusal("the database URL cannot be read", _ESCAPE) from None
    credentials, _, hosts = authority.rpartition("@")
    user, _, password = credentials.partition(":")
    if ":" in password:
        raise _refusal("the password holds a bare ':'", _ESCAPE)
    # In a URL without its host the password stands where the port should.
    if any(port and not (port.isascii() and port.isdigit()) for port in ports):
        raise _refusal("the URL's port is not a number", _ESCAPE)
    if not all(equals for _, equals, _ in query):
        # libpq would repeat such a parameter, which may be the end of a password with a bare '&'.
        raise _refusal("a parameter of the URL has no '='", _ESCAPE)
    shown = [user, hosts, parts.path, *(value for name, _, value in query if unquote(name) not in _SECRET_PARAMETERS)]
    if any(_CONTROL.search(unquote(each)) for each in shown):
        raise _refusal("the database URL holds a control character")
    secrets = [password, *(value for name, _, value in query if unquote(name) in _SECRET_PARAMETERS)]
    forms = {form for secret in secrets for form in (secret, unquote(secret)) if form}
    return PostgreSQLAddress(
        conninfo="postgresql://" + rest,
        display=f"postgresql://{user + '@' if user else ''}{hosts}{parts.path}",
        _secrets=tuple(sorted(forms, key=len, reverse=True)),
    )


_ESCAPE: Final = "Write such characters in a user name or password as %40 for @, %3A for :, %2F for /, %26 for &."


def _refusal(problem: str, hint: str = _FORMS) -> KeyctlError:
    return KeyctlError(Code.CONFIGURATION, problem, hint)
