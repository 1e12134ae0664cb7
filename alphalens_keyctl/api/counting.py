"""What `/metrics` says of the API's requests. Labels are the routes that the API describes: nothing is a client's."""

import re
import time
from collections.abc import Callable, Iterable, Mapping
from http import HTTPStatus
from typing import Final

from alphalens_keyctl.vocabulary import Reason
from alphalens_keyctl.web.metrics import Desk, Metrics

# Of a method and a path that no route has.
OTHER: Final = "other"
_PARAMETER: Final = re.compile(r"\{\w+\}")


class Counting:
    """Counts what this process answers. `routes` are the API's: the methods of each path, whose parameters stand in
    braces."""

    def __init__(self, desk: Desk, routes: Mapping[str, Iterable[str]]) -> None:
        self._routes = [{method: f"{method} {path}" for method in methods} for path, methods in routes.items()]
        self._path = re.compile("|".join(f"({_pattern(path)})" for path in routes))
        answers = [(name, HTTPStatus.OK) for route in self._routes for name in route.values()]
        self.metrics = Metrics(desk, answers, unread=HTTPStatus.BAD_REQUEST)
        self.unread = self.metrics.unread
        self.verified = self.metrics.verified

    def route(self, method: str, path: str) -> str:
        """The route that a request is for, as `GET /v1/keys/{key}`; `OTHER` for none. `path` is in one spelling."""
        found = self._path.fullmatch(path)
        return (
            OTHER if found is None or found.lastindex is None else self._routes[found.lastindex - 1].get(method, OTHER)
        )

    def of(self, method: str, path: str, began: float) -> Callable[[int], None]:
        """What counts the answer to a request that `began` then (monotonic), by its status."""
        route = self.route(method, path)

        def count(status: int) -> None:
            if status == HTTPStatus.FORBIDDEN:
                self.verified(Reason.FORBIDDEN)
            self.metrics.answered(route, status, time.monotonic() - began)

        return count


def _pattern(path: str) -> str:
    return "[^/]+".join(re.escape(part) for part in _PARAMETER.split(path))
