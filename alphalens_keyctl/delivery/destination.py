"""What a destination that outlives the process can do."""

from typing import Final, NamedTuple, Protocol

from alphalens_keyctl.database.attempt import Attempt
from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.keyformat import MalformedKeyError, RawKey, parse
from alphalens_keyctl.models import Key

_NAME: Final = "ALPHALENS_KEY_NAME"
_ID: Final = "ALPHALENS_KEY_ID"
_OWNER: Final = "ALPHALENS_KEY_OWNER"


class Parcel(NamedTuple):
    """What is delivered: a raw key, the key it belongs to, the ids of the keys that it replaces, and the attempt that
    delivers it."""

    key: Key
    raw: RawKey
    replaced: frozenset[str]
    attempt: Attempt


class Destination(Protocol):
    """A destination of a raw key. Its methods are called in their order; `put_back` at any time after `stage` began."""

    name: str
    limit: float  # seconds that `stage`, `hand_over` and `put_back` take together at most

    def stage(self, parcel: Parcel) -> None:
        """Prepare all that can be prepared before the destination holds the key.

        Raises `KeyctlError` (delivery_failed).
        """

    def held(self) -> RawKey | None:
        """Return the raw key that the destination held before the new one, or None when it cannot tell."""

    def hand_over(self) -> None:
        """Give the destination the new key and make sure that it holds it. Raises `KeyctlError` (delivery_failed)."""

    def put_back(self, earlier: RawKey | None) -> bool:
        """Give the destination back what it held before. False when it may still hold the new key.

        `earlier` is the raw key of a predecessor that some destination held, for a destination that does not know what
        it held itself.
        """


def about(key: Key) -> dict[str, str]:
    """Return the environment variables that describe a key to a command. Never the raw key (promise 1): an
    environment is inherited and logged."""
    return {_NAME: key.name, _ID: key.id, _OWNER: key.owner or ""}


def failed(name: str, problem: str, hint: str = "") -> KeyctlError:
    """Return the error that says which destination failed, and why."""
    return KeyctlError(Code.DELIVERY_FAILED, f"{name}: {problem}", hint)


def spelled(text: str) -> str:
    """Return a path or a word of the operating system with the bytes spelled out that are no characters.

    The database records text, and text alone.
    """
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def raw_key_in(content: str | bytes | None) -> RawKey | None:
    """Return the raw key that is all of `content`, white space at its ends apart; None when there is none."""
    if content is None:
        return None
    try:
        return parse(content.strip())
    except MalformedKeyError:
        return None
