"""What a request needs: the scopes that a middleware asks a key for."""

from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

from alphalens_keyctl import scopes

_Request = TypeVar("_Request")

# One scope, several that are all needed, or None: no scope is needed.
Scopes = str | Iterable[str] | None


class RequiredScopes(Generic[_Request]):
    """The scopes that every request needs, or a function that says what a request needs.

    Raises `KeyctlError` (invalid_input) for a text that is no scope. What the function returns and is no scope no key
    covers.
    """

    def __init__(self, given: Scopes | Callable[[_Request], Scopes]) -> None:
        self._asked = given if callable(given) else None
        self._always = None if callable(given) else _listed(given)
        for scope in self._always or ():
            scopes.parse(scope)

    def of(self, request: _Request) -> tuple[str, ...] | None:
        """Return the scopes that a request needs, None where it needs none. Raises what the function raises."""
        return self._always if self._asked is None else _listed(self._asked(request))


def _listed(given: Scopes) -> tuple[str, ...] | None:
    return (given,) if isinstance(given, str) else None if given is None else tuple(given)
