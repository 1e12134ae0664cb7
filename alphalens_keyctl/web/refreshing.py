"""One look at the database for all requests that came before it.

Under load an event loop reads many requests before it works on the first. Each of them has to be answered by
what the database says after the request came, and none needs a question of its own for that.
"""

from collections.abc import Generator
from itertools import count
from types import coroutine
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from alphalens_keyctl import KeyVerifier


class Refreshes:
    """Has a verifier refreshed, once for all that wait for it."""

    def __init__(self, verifier: "KeyVerifier") -> None:
        self._verifier = verifier
        # Whoever comes takes a number, and so does each refresh before it begins: what it learns is news to all
        # smaller ones. No number is given twice, not even to two threads.
        self._numbers = count(1)
        self._latest = 0, False

    @coroutine
    def since_now(self) -> Generator[None, None, bool]:
        """Whether every change up to the moment of the call is known to the verifier."""
        mine = next(self._numbers)
        yield  # the other requests that were read
        began, succeeded = self._latest
        if began < mine:
            began = next(self._numbers)
            succeeded = self._verifier.refresh()
            self._latest = began, succeeded
        return succeeded
