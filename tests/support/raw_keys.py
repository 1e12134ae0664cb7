"""Raw keys: how one looks, what its id is, one of a chosen id."""

import re
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
