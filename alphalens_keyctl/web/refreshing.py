"""One look at the database for all requests that came before the look.

Under load an event loop reads many requests before it works on the first. Each request must be answered by what the
database says after the request came; one look serves all requests that came before the look.
"""

from collections.abc import Generator
from itertools import count
from types import coroutine
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from alphalens_keyctl import KeyVerifier


class Refreshes:
    """Refreshes a verifier, once for all requests that wait for a refresh."""

    def __init__(self, verifier: "KeyVerifier") -> None:
        self._verifier = verifier
        # Each request takes a number, and so does each refresh before the refresh begins: a refresh answers every
        # request with a smaller number. No number is given twice, not even to two threads.
        self._numbers = count(1)
        self._latest = 0, False

    @coroutine
    def since_now(self) -> Generator[None, None, bool]:
        """Return whether the verifier knows every change up to the moment of the call."""
        mine = next(self._numbers)
        yield  # to the other requests that were read
        began, succeeded = self._latest
        if began < mine:
            began = next(self._numbers)
            succeeded = self._verifier.refresh()
            self._latest = began, succeeded
        return succeeded
