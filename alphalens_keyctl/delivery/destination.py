"""What every destination that outlives the process can do."""

from typing import Final, NamedTuple, Protocol

from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.keyformat import MalformedKeyError, RawKey, parse
from alphalens_keyctl.models import Key

_NAME: Final = "ALPHALENS_KEY_NAME"
_ID: Final = "ALPHALENS_KEY_ID"
_OWNER: Final = "ALPHALENS_KEY_OWNER"


class Parcel(NamedTuple):
    """What is delivered: the raw key, the record about it, and the ids of the keys it replaces."""

    key: Key
    raw: RawKey
    replaced: frozenset[str]


class Destination(Protocol):
    """A destination for a raw key. Called in the order of the methods; `put_back` at any time after `stage` began."""

    name: str
    limit: float  # seconds that `stage`, `hand_over` and `put_back` may take together

    def stage(self, parcel: Parcel) -> None:
        """Prepare without the destination holding the new key. Raises `KeyctlError` (delivery_failed)."""

    def held(self) -> RawKey | None:
        """The raw key that the destination holds besides the new one, where it can tell."""

    def hand_over(self) -> None:
        """Have the destination hold the new key, for certain. Raises `KeyctlError` (delivery_failed)."""

    def put_back(self, earlier: RawKey | None) -> bool:
        """Have the destination hold what it held before. False where it may still hold the new key.

        `earlier` is a key of the same line that another destination held: for one that cannot remember itself.
        """


def about(key: Key) -> dict[str, str]:
    """What a command is told of a key in its environment. Never the raw key: others can read it there."""
    return {_NAME: key.name, _ID: key.id, _OWNER: key.owner or ""}


def failed(name: str, problem: str, hint: str = "") -> KeyctlError:
    """The error that says which destination failed, and why."""
    return KeyctlError(Code.DELIVERY_FAILED, f"{name}: {problem}", hint)


def spelled(text: str) -> str:
    """A path or a word as the operating system has it, with bytes that are no characters spelled out: it is
    recorded where only characters can be."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def raw_key_in(content: str | bytes | None) -> RawKey | None:
    """The raw key that `content` consists of, with or without an end of line, or None."""
    if content is None:
        return None
    try:
        return parse(content.strip())
    except MalformedKeyError:
        return None
