"""The form of a raw key: generate, parse, digest, compare and redact one.

A raw key is `<prefix>_<id>_<secret><checksum>`: prefix `[a-z][a-z0-9]{1,9}`, 12 base62 characters of public id, 43 of
secret, 6 of CRC32 over everything before them. 62^43 > 2^256, so the secret carries at least 256 bits; 62^6 > 2^32, so
the checksum fits.
"""

import hashlib
import hmac
import re
import secrets
import zlib
from typing import Final, NoReturn

ALPHABET: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
DEFAULT_PREFIX: Final = "alk"
ID_LENGTH: Final = 12
SECRET_LENGTH: Final = 43
CHECKSUM_LENGTH: Final = 6
LONGEST: Final = 10 + 1 + ID_LENGTH + 1 + SECRET_LENGTH + CHECKSUM_LENGTH
DIGEST_SCHEME: Final = "sha256"
DIGEST_LENGTH: Final = 32  # bytes

_PREFIX = re.compile(r"[a-z][a-z0-9]{1,9}")
_ID = re.compile(rf"[0-9A-Za-z]{{{ID_LENGTH}}}")
_RAW_KEY = re.compile(
    rf"(?P<prefix>[a-z][a-z0-9]{{1,9}})_(?P<id>[0-9A-Za-z]{{{ID_LENGTH}}})"
    rf"_(?P<rest>[0-9A-Za-z]{{{SECRET_LENGTH + CHECKSUM_LENGTH}}})"
)
# Wider than a valid key on purpose: a key that lost a few characters to a bad copy, or gained some, or came out of a
# form that writes capitals, still gives most of its secret away. The match looks behind for the prefix and the id
# instead of consuming them: where two keys stand together without a gap, the prefix of the second ends the secret of
# the first. Of the prefix its last character is enough.
_LOOKALIKE = re.compile(
    r"(?<=[0-9A-Za-z]_[0-9A-Za-z]{12}_)[0-9A-Za-z]{16,}"
    # Without its prefix, which everybody knows, most of a key still stands there when this much does.
    r"|(?<=[0-9A-Za-z]{12}_)[0-9A-Za-z]{40,}"
    # In a URL, whose underscores somebody encoded.
    r"|(?<=[0-9A-Za-z]{12}%5[Ff])[0-9A-Za-z]{16,}"
)


class MalformedKeyError(Exception):
    """The text is not a raw key. The message says why and never repeats the text."""


class RawKey:
    """A raw key in memory. The secret leaves through `reveal()` alone: repr, str, format and pickle do not show it, so
    that no log line or traceback can (promise 1)."""

    __slots__ = ("_text", "id", "prefix")

    def __init__(self, text: str, prefix: str, key_id: str) -> None:
        self._text = text
        self.prefix = prefix
        self.id = key_id

    def reveal(self) -> str:
        """The whole raw key. Call it only where the key is written to its destination."""
        return self._text

    def digest(self) -> bytes:
        """SHA-256 of the whole raw key, 32 bytes: all that the database stores of it, under `DIGEST_SCHEME`.

        A slow hash would protect nothing: a random secret of 256 bits cannot be guessed (NIST SP 800-63B 5.1.2.2,
        OWASP ASVS 6.5.2).
        """
        return hashlib.sha256(self._text.encode("ascii")).digest()

    def __repr__(self) -> str:
        return f"<RawKey {self.prefix}_{self.id}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a raw key is never pickled")


def checksum(text: str) -> str:
    """CRC32 of ASCII `text` as 6 base62 characters, most significant first."""
    value = zlib.crc32(text.encode("ascii"))
    digits = ""
    for _ in range(CHECKSUM_LENGTH):
        value, digit = divmod(value, 62)
        digits = ALPHABET[digit] + digits
    return digits


def generate(prefix: str = DEFAULT_PREFIX) -> RawKey:
    """A new raw key from the operating system's CSPRNG. `prefix` must satisfy `is_prefix`."""
    if not is_prefix(prefix):
        raise ValueError("not a key prefix")
    key_id = _random(ID_LENGTH)
    body = f"{prefix}_{key_id}_{_random(SECRET_LENGTH)}"
    return RawKey(body + checksum(body), prefix, key_id)


def parse(text: str | bytes) -> RawKey:
    """Check the form of a presented key and take it apart.

    Raises `MalformedKeyError`, and nothing else, for anything that is not exactly a raw key. Length and alphabet are
    checked before the checksum, so that ten megabytes cost no more than ten bytes.
    """
    if len(text) > LONGEST:
        raise MalformedKeyError("it is too long for a raw key")
    if isinstance(text, bytes):
        try:
            text = text.decode("ascii")
        except UnicodeDecodeError:
            raise MalformedKeyError("it is not ASCII") from None
    match = _RAW_KEY.fullmatch(text)
    if match is None:
        raise MalformedKeyError("it does not have the form prefix_id_secret")
    if text[-CHECKSUM_LENGTH:] != checksum(text[:-CHECKSUM_LENGTH]):
        raise MalformedKeyError("its checksum is wrong: a character is missing or was changed")
    return RawKey(text, match["prefix"], match["id"])


def same_digest(one: bytes, other: bytes) -> bool:
    """Compare two digests in constant time."""
    return hmac.compare_digest(one, other)


def is_prefix(text: str) -> bool:
    """Whether `text` may stand before the first underscore of a raw key."""
    return _PREFIX.fullmatch(text) is not None


def is_id(text: str) -> bool:
    """Whether `text` has the form of a key's public id."""
    return _ID.fullmatch(text) is not None


def resembles_raw_key(text: str) -> bool:
    """Whether a raw key, or enough of one to give its secret away, stands anywhere in `text`, in letters of whatever
    case, width and font."""
    if _LOOKALIKE.search(text) is not None or _holds_wrapped_raw_key(text):
        return True
    if text.isascii():
        return False
    import unicodedata  # nothing but foreign letters needs it

    plain = unicodedata.normalize("NFKC", text)
    return _LOOKALIKE.search(plain) is not None or _holds_wrapped_raw_key(plain)


def _holds_wrapped_raw_key(text: str) -> bool:
    """Whether a raw key stands in `text` once white space is taken out, as a copy over the end of a line has some. The
    checksum tells the raw key from words."""
    joined = "".join(text.split())
    if len(joined) == len(text):
        return False
    for match in _RAW_KEY.finditer(joined):
        # A word before the raw key may have come to stand before its prefix.
        for start in range(match.start("prefix"), match.end("prefix") - 1):
            raw = joined[start : match.end()]
            if raw[-CHECKSUM_LENGTH:] == checksum(raw[:-CHECKSUM_LENGTH]):
                return True
    return False


def redact(text: str) -> str:
    """`text` with `[redacted]` in place of the secret of every raw key; the public id stays."""
    return _LOOKALIKE.sub("[redacted]", text)


def _random(length: int) -> str:
    return "".join(secrets.choice(ALPHABET) for _ in range(length))
