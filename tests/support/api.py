"""The HTTP API in this process, and callers of it."""

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
from anyio.from_thread import BlockingPortal, start_blocking_portal

from alphalens_keyctl import KeyVerifier
from alphalens_keyctl.api.application import application
from alphalens_keyctl.api.doorway import Doorway
from alphalens_keyctl.database import Database
from alphalens_keyctl.keyformat import RawKey, generate
from alphalens_keyctl.settings import Settings
from alphalens_keyctl.web.client_address import TrustedProxies
from tests.support.callers import DEAD, ROLES, TEAM, House
from tests.support.key_rows import put


class Api:
    """The API over a database, and the house of its keys."""

    def __init__(self, door: Doorway, portal: BlockingPortal, database: Database, verifier: KeyVerifier) -> None:
        self.door = door
        self._portal = portal
        self.house = House(database)
        self.verifier = verifier
        self._raw: dict[str, RawKey] = {}

    def caller(self, role: str) -> str:
        """The id of a new key of this role."""
        raw = generate()
        scopes, owner = (("keyctl:admin", "keyctl:team"), TEAM) if role in DEAD else ROLES[role]
        key_id = put(self.house.database, f"caller-{raw.id}", raw=raw, owner=owner, scopes=scopes)
        self._raw[key_id] = raw
        self.house.end(key_id, role)
        return key_id

    def ask(self, caller: str | None, method: str, path: str, body: Any = None, **headers: str) -> httpx.Response:
        """The answer to a request of the key with the id `caller`, or of nobody. `body` is sent as JSON, bytes as
        they are, and what gives bytes later as it comes."""
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        if caller is not None:
            given["API-Key"] = self._raw[caller].reveal()
        answer: httpx.Response = self._portal.call(self._send, method, path, body, given)
        return answer

    async def _send(self, method: str, path: str, body: Any, headers: dict[str, str]) -> httpx.Response:
        transport = httpx.ASGITransport(self.door, raise_app_exceptions=False, client=("127.0.0.1", 50000))
        async with httpx.AsyncClient(transport=transport, base_url="http://api") as client:
            plain = isinstance(body, bytes | AsyncIterator)
            if plain:
                headers = {"Content-Type": "application/json"} | headers
            sent = {"content": body} if plain else {"json": body}
            return await client.request(method, path, headers=headers, **sent)

    def raw(self, caller: str) -> str:
        return self._raw[caller].reveal()


@contextmanager
def api_over(database_url: str, database: Database) -> Iterator[Api]:
    """The API without a socket. Closed after the block."""
    settings = Settings(database_url)
    with KeyVerifier(settings=settings) as verifier:
        door = Doorway(application(database, verifier, settings), verifier, TrustedProxies())
        with start_blocking_portal() as portal:
            yield Api(door, portal, database, verifier)
