"""Raw keys: how one looks, what its id is, one of a chosen id, and whether a text gives one away."""

import re
from base64 import b64decode
from collections.abc import Iterator
from typing import Final

from alphalens_keyctl.keyformat import RawKey, checksum, generate
from tests.support.commands import Result

RAW_KEY: Final = re.compile(r"alk_[0-9A-Za-z]{12}_[0-9A-Za-z]{49}")


def key_id(raw: str) -> str:
    """The id that stands in a raw key."""
    return raw.split("_")[1]


def raw_key_in(result: Result) -> str | None:
    """The raw key on stdout if it stands there whole, on a line of its own."""
    return result.stdout[:-1] if RAW_KEY.fullmatch(result.stdout.removesuffix("\n")) else None


def with_id(key_id: str) -> RawKey:
    """A raw key with this id."""
    body = generate().reveal()[:-6].split("_")
    text = f"alk_{key_id}_{body[2]}"
    return RawKey(text + checksum(text), "alk", key_id)


def shows(raw: str, text: str, *, characters: int = 8) -> bool:
    """Whether so many characters of the secret stand together in `text`, or in what somebody may decode it to."""
    secret = raw.split("_")[2]
    pieces = [secret[at : at + characters] for at in range(len(secret) - characters + 1)]
    return any(piece in reading for reading in _readings(text) for piece in pieces)


def _readings(text: str) -> Iterator[str]:
    """What a text says: as it stands, without what breaks it up, and out of hex and base64 that begin anywhere."""
    yield text
    joined = re.sub(r"\\[nrt]|\s", "", text)
    yield re.sub(r"[^A-Za-z0-9]", "", joined)
    digits = re.sub(r"0x|\\u00|[^0-9A-Fa-f]", "", joined)
    for at in range(2):
        yield bytes.fromhex(digits[at:][: (len(digits) - at) // 2 * 2]).decode("latin-1")
    for signs in re.findall(r"[A-Za-z0-9+/]+", joined.replace("-", "+").replace("_", "/")):
        for at in range(4):
            yield b64decode(signs[at:][: (len(signs) - at) // 4 * 4]).decode("latin-1")
