"""Taking a raw key out of what a command prints, also where the command prints it encoded, wrapped or in part."""

import re
from base64 import b64encode
from collections.abc import Iterator
from typing import Final, NamedTuple

from alphalens_keyctl.keyformat import CHECKSUM_LENGTH, SECRET_LENGTH, RawKey, redact

# So many characters of the secret are recognised wherever they stand together: by chance they stand nowhere.
_PIECE: Final = 8
# In JSON and in a shell the end of a line is written with a letter, and a byte with an x or a u.
_LETTER: Final = re.compile(r"\\[nrt]|([A-Za-z0-9])")
_HEX_DIGIT: Final = re.compile(r"0x|\\u00|([0-9A-Fa-f])")


class _Writing(NamedTuple):
    """A way to write a secret down, by signs between which anything else may stand.

    The group of `sign` catches a sign, `forms` are what comes of the secret, in small letters unless `cased`, and
    `piece` says how many signs in a row are recognised.
    """

    sign: re.Pattern[str]
    cased: bool
    forms: tuple[str, ...]
    piece: int


def without(text: str, raw: RawKey) -> str:
    """Return `text` with `raw` redacted, and every other raw key that stands there as it is.

    Of the secret of `raw` no more than 7 characters in a row are left, whether it stands there as it is, in hex or in
    base64 (standard or URL-safe, by itself or inside of something longer), whole or cut off, in one line or wrapped.
    What escapes a text for a URL, JSON or a shell leaves a raw key as it is.
    """
    text = text.replace(raw.reveal(), f"[redacted {raw.id}]")
    for writing in _writings(raw.reveal()[-SECRET_LENGTH - CHECKSUM_LENGTH :]):
        text = _without_pieces(text, writing)
    return redact(text)


def _writings(secret: str) -> tuple[_Writing, ...]:
    given = secret.encode("ascii")
    return (
        # Neither a letter nor a digit in ASCII comes out of base64 as one of the two signs that have another spelling
        # in URLs.
        _Writing(_LETTER, True, (secret, *(_base64(given, before) for before in range(3))), _PIECE),
        _Writing(_HEX_DIGIT, False, (given.hex(),), 2 * _PIECE),
    )


def _base64(secret: bytes, before: int) -> str:
    """Return what base64 makes of `secret` behind `before` other bytes (modulo 3).

    Base64 takes three bytes at a time. The signs at the ends that hold bits of other bytes, too, are left out.
    """
    encoded = b64encode(bytes(before) + secret).decode("ascii")
    return encoded[-(-4 * before // 3) : 4 * (before + len(secret)) // 3]


def _without_pieces(text: str, writing: _Writing) -> str:
    places = [found.start(1) for found in writing.sign.finditer(text) if found[1]]
    signs = "".join(text[place] for place in places)
    signs = signs if writing.cased else signs.lower()
    length = writing.piece
    pieces = {form[at : at + length] for form in writing.forms for at in range(len(form) - length + 1)}
    for first, end in reversed([*_stretches(signs, pieces, length)]):
        text = f"{text[: places[first]]}[redacted]{text[places[end - 1] + 1 :]}"
    return text


def _stretches(signs: str, pieces: set[str], length: int) -> Iterator[tuple[int, int]]:
    """Yield the first position of each stretch of `signs` that consists of pieces, and the position behind it."""
    first = end = 0
    for at in range(len(signs) - length + 1):
        if signs[at : at + length] in pieces:
            if at > end:
                if end:
                    yield first, end
                first = at
            end = at + length
    if end:
        yield first, end
