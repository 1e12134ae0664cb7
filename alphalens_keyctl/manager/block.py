"""The store that a block fills with a raw key, as a destination (promises 2 and 3)."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from alphalens_keyctl.database import Attempt
from alphalens_keyctl.keyformat import RawKey
from alphalens_keyctl.keys.last_copy import Held
from alphalens_keyctl.models import Key


class Block(NamedTuple):
    """`issuance.Destinations` of a block. The block fills the store named `destination` itself, within `limit` seconds;
    without a name nothing outlives the process. `put_back` gives the store back what it held."""

    destination: str | None = None
    put_back_by: Callable[[], object] | None = None
    limit: float = 60.0

    @property
    def names(self) -> Sequence[str]:
        return () if self.destination is None else (self.destination,)

    def stage(self, key: Key, raw: RawKey, replaced: frozenset[str], attempt: Attempt) -> None:
        return None

    def held(self) -> Sequence[Held]:
        """Nothing: the block alone knows what its store holds."""
        return ()

    def hand_over(self) -> None:
        return None

    def put_back(self) -> bool:
        """False where the store may hold the new key: nobody gave it back what it held, or that failed."""
        if self.destination is None:
            return True
        if self.put_back_by is None:
            return False
        try:
            self.put_back_by()
        except Exception:  # noqa: BLE001  # whatever a store raises, the block's own exception is the one to be told
            return False
        return True
