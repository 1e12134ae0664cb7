"""One look at the database for all requests that came before it, and never for one that came after it."""

import asyncio
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from typing import Any

import pytest

from alphalens_keyctl import KeyVerifier
from alphalens_keyctl.web.forward_auth import ForwardAuth
from alphalens_keyctl.web.refreshing import Refreshes
from tests.support.commands import Keyctl
from tests.support.databases import on_sqlite, path_of


class Looks:
    """Stands in for a verifier: what is current, and how often it was looked at."""

    def __init__(self) -> None:
        self.current = self.known = self.count = 0
        self.works = True
        self.lock = threading.Lock()

    def refresh(self) -> bool:
        with self.lock:
            self.count += 1
            self.known = self.current
        return self.works


@pytest.fixture
def looks() -> Looks:
    return Looks()


@pytest.fixture
def refreshes(looks: Looks) -> Refreshes:
    return Refreshes(looks)  # type: ignore[arg-type]  # as much of a verifier as is needed


def test_requests_that_came_together_share_a_look(looks: Looks, refreshes: Refreshes) -> None:
    async def together() -> list[bool]:
        return list(await asyncio.gather(*(_asking(refreshes) for _ in range(100))))

    for rounds in range(1, 4):
        assert all(asyncio.run(together()))
        assert looks.count == rounds


def test_no_request_is_content_with_a_look_from_before_it_came(looks: Looks, refreshes: Refreshes) -> None:
    """Promise 5, whatever else is under way and in whatever order the loop goes on."""

    async def one(patience: int) -> None:
        for _ in range(patience):
            await asyncio.sleep(0)
        came_at = looks.current = looks.current + 1
        assert await refreshes.since_now()
        assert looks.known >= came_at

    async def many() -> None:
        await asyncio.gather(*(one(number % 7) for number in range(1000)))

    asyncio.run(many())
    assert looks.count < 100


def test_a_look_that_failed_is_known_to_all_who_waited_for_it_and_to_nobody_later(
    looks: Looks, refreshes: Refreshes
) -> None:
    async def together() -> list[bool]:
        return list(await asyncio.gather(*(_asking(refreshes) for _ in range(3))))

    looks.works = False
    assert asyncio.run(together()) == [False] * 3
    looks.works = True
    assert asyncio.run(together()) == [True] * 3


def test_two_event_loops_may_share_them(looks: Looks, refreshes: Refreshes) -> None:
    wrong: list[int] = []

    async def one() -> None:
        for _ in range(2000):
            with looks.lock:
                came_at = looks.current = looks.current + 1
            await refreshes.since_now()
            if looks.known < came_at:
                wrong.append(came_at)

    async def some() -> None:
        await asyncio.gather(one(), one(), one())

    threads = [threading.Thread(target=asyncio.run, args=(some(),)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not wrong


@on_sqlite
def test_under_load_the_first_request_after_a_change_is_answered_by_it(keyctl: Keyctl, database_url: str) -> None:
    """Promise 5."""
    raw, ident = keyctl.create("ci")
    with KeyVerifier(database_url) as verifier:
        app = ForwardAuth(verifier)

        async def load() -> None:
            while True:
                await _status(app, raw)

        async def change_and_ask() -> None:
            others = [asyncio.create_task(load()) for _ in range(20)]
            with closing(sqlite3.connect(path_of(database_url), timeout=10, isolation_level=None)) as connection:
                for suspended_at, expected in _states():
                    for _ in range(3):
                        await asyncio.sleep(0)
                    connection.execute("UPDATE api_key SET suspended_at = ? WHERE id = ?", (suspended_at, ident))
                    assert await _status(app, raw) == expected
            for other in others:
                other.cancel()
                with suppress(asyncio.CancelledError):
                    await other

        asyncio.run(change_and_ask())


def _states() -> Iterator[tuple[str | None, int]]:
    for _ in range(200):
        yield "2026-01-01 00:00:00.000000", 401
        yield None, 204


async def _asking(refreshes: Refreshes) -> bool:
    return await refreshes.since_now()


async def _status(app: ForwardAuth, raw_key: str) -> int:
    messages: list[Any] = []

    async def send(message: Any) -> None:
        messages.append(message)

    async def receive() -> Any:
        raise AssertionError("nothing more comes")

    scope = {
        "type": "http",
        "http_version": "1.1",
        "path": "/verify",
        "method": "GET",
        "client": ("127.0.0.1", 50000),
        "headers": [(b"api-key", raw_key.encode())],
    }
    await app(scope, receive, send)
    status: int = messages[0]["status"]
    return status
