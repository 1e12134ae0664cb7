"""Who holds a key that is about to end is told in the answers to the key: `Deprecation` and `Sunset`."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, Final, NamedTuple

import pytest

from alphalens_keyctl import KeyVerifier
from alphalens_keyctl.database import Database
from alphalens_keyctl.web import ApiKeyMiddleware, ApiKeyWsgiMiddleware
from tests.services.caddy import CADDY, CADDY_OF_DEBIAN
from tests.services.envoy import ENVOY
from tests.services.haproxy import HAPROXY
from tests.services.nginx import NGINX
from tests.services.proxy import Proxy, running
from tests.services.traefik import TRAEFIK
from tests.support import unguarded
from tests.support.commands import Keyctl
from tests.support.protected import service
from tests.support.waiting import wait_for
from tests.support.web import Address, Answer, Served, asgi_server, ask, serving, with_key, wsgi_server

OWN: Final = "Tue, 01 Jan 2030 00:00:00 GMT"


class Keys(NamedTuple):
    """Raw keys, and the record of the retiring one and of its successor."""

    retiring: str
    expiring: str
    later: str
    for_ever: str
    old: dict[str, Any]
    new: dict[str, Any]

    def expected(self) -> dict[str, list[str]]:
        """What the holder of the retiring key is told."""
        since = int(datetime.fromisoformat(self.new["activated_at"]).timestamp())
        end = datetime.fromisoformat(self.old["retires_at"])
        return {"deprecation": [f"@{since}"], "sunset": [f"{end.astimezone(UTC):%a, %d %b %Y %H:%M:%S} GMT"]}


@pytest.fixture
def keys(keyctl: Keyctl) -> Keys:
    retiring, _ = keyctl.create("rotated", "--expires", "300d")
    rotated = keyctl.ok("rotate", "rotated", "--grace", "30d", "--json").json
    made = {name: keyctl.create(name, "--expires", when)[0] for name, when in (("soon", "13d"), ("later", "15d"))}
    return Keys(
        retiring, made["soon"], made["later"], keyctl.create("for-ever")[0], rotated["previous"], rotated["key"]
    )


def told(answer: Answer) -> dict[str, list[str]]:
    return {name: [*answer.headers[name]] for name in ("deprecation", "sunset") if name in answer.headers}


async def asgi_application(scope: Mapping[str, Any], receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        while (await receive())["type"] == "lifespan.startup":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})
        return
    headers = [(b"Sunset", OWN.encode())] if scope["path"] == "/own" else []
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b""})


def wsgi_application(environ: Mapping[str, Any], start_response: Any) -> list[bytes]:
    start_response("200 OK", [("sunset", OWN)] if environ["PATH_INFO"] == "/own" else [])
    return [b""]


@contextmanager
def fronted(kind: str, verifier: KeyVerifier, **options: Any) -> Iterator[Address]:
    if kind == "asgi":
        with asgi_server(ApiKeyMiddleware(asgi_application, verifier, **options)) as server:
            yield server
    else:
        with wsgi_server(ApiKeyWsgiMiddleware(wsgi_application, verifier, **options)) as server:
            yield server


# What the database says of a key is the same for both kinds.
@pytest.mark.parametrize("kind", ["asgi", pytest.param("wsgi", marks=pytest.mark.one_database)])
def test_the_middleware_tells_holders_of_keys_that_end_and_nobody_else(kind: str, keyctl: Keyctl, keys: Keys) -> None:
    with KeyVerifier(keyctl.database_url) as verifier:
        with fronted(kind, verifier, exempt=["/health"]) as server:
            for _ in range(2):  # looked up, and from memory
                assert told(ask(server, "/", with_key(keys.retiring))) == keys.expected()
                sunset = told(ask(server, "/", with_key(keys.expiring)))
                assert list(sunset) == ["sunset"]
                in_13_days = datetime.now(UTC) + timedelta(days=13)
                assert abs(parsedate_to_datetime(sunset["sunset"][0]) - in_13_days) < timedelta(hours=1)
                for raw_key in (keys.later, keys.for_ever):
                    assert told(ask(server, "/", with_key(raw_key))) == {}
            assert told(ask(server, "/health", with_key(keys.retiring))) == {}
            # An application that speaks of its resource speaks alone.
            assert told(ask(server, "/own", with_key(keys.retiring))) == {"sunset": [OWN]}
            keyctl.ok("revoke", "rotated")
            keyctl.ok("suspend", "soon")
            for raw_key in (keys.retiring, keys.expiring):
                refused = ask(server, "/", with_key(raw_key))
                assert (refused.status, told(refused)) == (401, {})
        with fronted(kind, verifier, warn_within=timedelta(days=16)) as server:
            assert list(told(ask(server, "/", with_key(keys.later)))) == ["sunset"]


@pytest.mark.one_database
def test_serve_tells_the_proxy_by_the_setting_or_the_option(keyctl: Keyctl, keys: Keys) -> None:
    with serving(keyctl) as served:
        for path in ("/verify", "/ext_authz/"):
            assert told(ask(served.address, path, with_key(keys.retiring))) == keys.expected()
            assert list(told(ask(served.address, path, with_key(keys.expiring)))) == ["sunset"]
            assert told(ask(served.address, path, with_key(keys.later))) == {}
            assert told(ask(served.address, path)) == {}
    folder = keyctl.home / ".config" / "alphalens-keyctl"
    folder.mkdir(parents=True)
    (folder / "config.toml").write_text('warn_within = "16d"\n')
    with serving(keyctl) as served:
        assert list(told(ask(served.address, "/", with_key(keys.later)))) == ["sunset"]
    with serving(keyctl, "--warn-within", "0") as served:
        assert told(ask(served.address, "/", with_key(keys.expiring))) == {}
        assert told(ask(served.address, "/", with_key(keys.retiring))) == keys.expected(), "a rotation is told always"


def test_a_successor_whose_row_is_damaged_stops_no_key_and_leaves_its_date_out(
    keyctl: Keyctl, keys: Keys, database: Database
) -> None:
    """Promise 14."""
    unguarded.write(database, f"UPDATE api_key SET labels = '{{\"a\": 1}}' WHERE id = '{keys.new['id']}'")
    with KeyVerifier(keyctl.database_url) as verifier:
        assert verifier.verify(keys.retiring).allowed
        with fronted("wsgi", verifier) as server:
            assert told(ask(server, "/", with_key(keys.retiring))) == {"sunset": keys.expected()["sunset"]}


def test_the_answer_says_since_when_its_key_is_retiring(keyctl: Keyctl, keys: Keys) -> None:
    with KeyVerifier(keyctl.database_url) as verifier:
        for _ in range(2):
            answer = verifier.verify(keys.retiring)
            assert answer.retiring_since is not None
            assert answer.retiring_since.replace(microsecond=0) == datetime.fromisoformat(keys.new["activated_at"])
            assert answer == (True, "ok", answer.key), "no field of the tuple"
        assert verifier.verify(keys.expiring).retiring_since is None
        assert verifier.warn_within == timedelta(days=14)
        with pytest.raises(ValueError, match="not negative"):
            ApiKeyMiddleware(asgi_application, verifier, warn_within=timedelta(days=-1))


@contextmanager
def proxied(keyctl: Keyctl, proxy: Proxy) -> Iterator[tuple[Served, Address]]:
    with (
        serving(keyctl, "--trusted-proxy", "127.0.0.1") as served,
        service() as behind,
        running(proxy, served.address.port, behind.port) as port,
    ):
        wait_for(lambda: ask(Address(port)).status == 401)
        yield served, Address(port)


@pytest.mark.one_database
@pytest.mark.parametrize(
    "proxy", [NGINX, CADDY, CADDY_OF_DEBIAN, TRAEFIK, ENVOY, HAPROXY], ids=lambda proxy: proxy.name.replace(" ", "-")
)
def test_the_client_hears_it_through_a_proxy(proxy: Proxy, keyctl: Keyctl, keys: Keys) -> None:
    """By README's texts. Traefik passes nothing on to the client, and README says so."""
    with proxied(keyctl, proxy) as (_, front):
        made_up = (("Sunset", OWN), ("Deprecation", "@1"), ("X-Key-Sunset", OWN), ("X-Key-Deprecation", "@1"))
        for more in ((), made_up):
            expected = {} if proxy is TRAEFIK else keys.expected()
            assert told(ask(front, "/", with_key(keys.retiring, *more))) == expected
            assert list(told(ask(front, "/", with_key(keys.expiring, *more)))) == list(expected)[1:]
            assert told(ask(front, "/", with_key(keys.for_ever, *more))) == {}
            assert told(ask(front, "/", more)) == {}
        own = told(ask(front, "/own-deprecation", with_key(keys.retiring)))
        assert own["deprecation"][0] == "@1"
        if proxy in (NGINX, HAPROXY):
            assert own == {"deprecation": ["@1"]}, "the service speaks of itself alone"
