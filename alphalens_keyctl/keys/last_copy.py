"""What a destination held before it gets a new key: it may be the only copy of another key (promise 2)."""

from collections.abc import Callable, Container, Sequence
from datetime import datetime
from typing import Final

from sqlalchemy import Connection

from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.keyformat import RawKey
from alphalens_keyctl.keys import lookup
from alphalens_keyctl.keys.lookup import DigestedKey
from alphalens_keyctl.models import Key, Status

# A destination by its name, and the raw key in it.
Held = tuple[str, RawKey | DigestedKey]
# Those that open or can open again, for as long as nobody ends them. A retiring key is on its way out everywhere.
_LIVE: Final = frozenset({Status.ACTIVE, Status.DELIVERING, Status.SUSPENDED})


def refuse(
    connection: Connection,
    held: Sequence[Held],
    *,
    replaced: Container[str],
    now: datetime,
    visible: Callable[[Key], bool],
) -> None:
    """Raise `KeyctlError` (conflict) where a destination holds a live key of this database whose id is none of
    `replaced`. A key that is not `visible` to the caller is not named."""
    for destination, raw in held:
        if raw.id in replaced:
            continue
        try:
            key = lookup.find(connection, raw, now=now)
        except KeyctlError as error:
            if error.code is Code.KEY_NOT_FOUND:
                continue
            raise
        if key.status in _LIVE:
            said = f"key '{key.name}' ({key.id})" if visible(key) else "another key"
            raise KeyctlError(
                Code.CONFLICT,
                f"{destination} holds {said}, which is {key.status}, and perhaps nobody else holds it",
                "Name another destination; or revoke that key, or move it away, first.",
            )
