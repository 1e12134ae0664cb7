"""All destinations as one: each of them gets the raw key, or none keeps it."""

from collections.abc import Sequence
from contextlib import suppress

from alphalens_keyctl.database.attempt import Attempt
from alphalens_keyctl.delivery.destination import Destination, Parcel
from alphalens_keyctl.errors import KeyctlError
from alphalens_keyctl.keyformat import RawKey
from alphalens_keyctl.models import Key


class Handover:
    """The destinations, in the order in which they are handed the key: commands, keyring, files.

    The destination that can least be undone comes first; files, which are renamed in one step, come last. Satisfies
    `issuance.Destinations`.
    """

    def __init__(self, destinations: Sequence[Destination]) -> None:
        self._destinations = destinations
        self._staged: list[Destination] = []
        self._replaced: frozenset[str] = frozenset()

    @property
    def names(self) -> tuple[str, ...]:
        """The name of each destination, as in `delivered_to`."""
        return tuple(destination.name for destination in self._destinations)

    @property
    def limit(self) -> float:
        """Seconds that all destinations take together at most."""
        return sum(destination.limit for destination in self._destinations)

    def stage(self, key: Key, raw: RawKey, replaced: frozenset[str], attempt: Attempt) -> None:
        """Prepare every destination. `replaced` holds the ids of the keys that `key` replaces. `attempt` lasts until
        the delivery is over.

        Raises `KeyctlError` (delivery_failed) for the first destination that cannot.
        """
        self._replaced = replaced
        for destination in self._destinations:
            self._staged.append(destination)
            destination.stage(Parcel(key, raw, replaced, attempt))

    def held(self) -> list[tuple[str, RawKey]]:
        """Return the raw key that each destination held when it was prepared, of those that can tell."""
        found = ((destination.name, destination.held()) for destination in self._staged)
        return [(name, raw) for name, raw in found if raw is not None]

    def hand_over(self) -> None:
        """Give each destination the key. Raises `KeyctlError` (delivery_failed) for the first that fails."""
        for destination in self._destinations:
            destination.hand_over()

    def put_back(self) -> bool:
        """Give each destination back what it held before, the last first. False when one may still hold the new key."""
        earlier = self._earlier()
        restored = [destination.put_back(earlier) for destination in reversed(self._staged)]
        return all(restored)

    def _earlier(self) -> RawKey | None:
        """Return the predecessor's raw key when a destination still has it, or None. The database does not have it."""
        for destination in self._staged:
            with suppress(KeyctlError):
                held = destination.held()
                if held is not None and held.id in self._replaced:
                    return held
        return None
