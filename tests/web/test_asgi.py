"""The ASGI middleware under real frameworks and a real server, and on raw connections as no server makes them.

Promises 1, 5, 8 and 9, from where a service stands.
"""

import asyncio
import json
import logging
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest

from alphalens_keyctl import KeyVerifier
from alphalens_keyctl.errors import KeyctlError
from alphalens_keyctl.web import ApiKeyMiddleware, challenge
from tests.support.commands import Keyctl
from tests.support.hostile import HOSTILE_KEYS
from tests.support.waiting import wait_for
from tests.support.web import Address, asgi_server, ask, send, uses, with_key

WEBSOCKET = (
    ("Upgrade", "websocket"),
    ("Connection", "Upgrade"),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ("Sec-WebSocket-Version", "13"),
)


@pytest.fixture
def verifier(database_url: str) -> Iterator[KeyVerifier]:
    with KeyVerifier(database_url) as verifier:
        yield verifier


def fastapi_app(verifier: KeyVerifier) -> Any:
    from fastapi import FastAPI, Request, WebSocket

    app = FastAPI()
    app.add_middleware(ApiKeyMiddleware, verifier=verifier, exempt=["/health"])

    @app.get("/who")
    async def who(request: Request) -> dict[str, str]:
        return {"id": request.state.api_key.id, "name": request.state.api_key.name}

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"health": "good"}

    @app.websocket("/socket")
    async def talk(socket: WebSocket) -> None:
        await socket.accept()
        await socket.close()

    return app


def starlette_app(verifier: KeyVerifier) -> Any:
    from starlette.applications import Starlette
    from starlette.middleware import Middleware
    from starlette.requests import Request
    from starlette.responses import JSONResponse
    from starlette.routing import Route, WebSocketRoute
    from starlette.websockets import WebSocket

    async def who(request: Request) -> JSONResponse:
        return JSONResponse({"id": request.state.api_key.id, "name": request.state.api_key.name})

    async def health(_request: Request) -> JSONResponse:
        return JSONResponse({"health": "good"})

    async def talk(socket: WebSocket) -> None:
        await socket.accept()
        await socket.close()

    return Starlette(
        routes=[Route("/who", who), Route("/health", health), WebSocketRoute("/socket", talk)],
        middleware=[Middleware(ApiKeyMiddleware, verifier=verifier, exempt=["/health"])],
    )


def litestar_app(verifier: KeyVerifier) -> Any:
    from litestar import Litestar, Request, WebSocket, get, websocket

    @get("/who")
    async def who(request: Request[Any, Any, Any]) -> dict[str, str]:
        return {"id": request.state.api_key.id, "name": request.state.api_key.name}

    @get("/health")
    async def health() -> dict[str, str]:
        return {"health": "good"}

    @websocket("/socket")
    async def talk(socket: WebSocket[Any, Any, Any]) -> None:
        await socket.accept()
        await socket.close()

    app: Any = Litestar([who, health, talk], openapi_config=None)  # its own types of messages are narrower
    return ApiKeyMiddleware(app, verifier, exempt=["/health"])


FRAMEWORKS = pytest.mark.parametrize("make", [fastapi_app, starlette_app, litestar_app])


@FRAMEWORKS
def test_a_framework_sees_the_keys_record_and_a_revocation_is_seen_at_once(
    make: Any, keyctl: Keyctl, verifier: KeyVerifier
) -> None:
    """Promises 5 and 8."""
    raw_key, key_id = keyctl.create("billing")
    with asgi_server(make(verifier)) as server:
        assert ask(server, "/who", with_key(raw_key)).json == {"id": key_id, "name": "billing"}
        assert ask(server, "/who").status == 401
        assert ask(server, "/health").json == {"health": "good"}
        # Exempt is the path itself and nothing that resembles it.
        for path in ("/health/", "/healthz", "//health", "/HEALTH", "/health/../who", "/who?/health"):
            assert ask(server, path).status == 401, path
        assert ask(server, "/socket", WEBSOCKET).status in (401, 403)
        assert ask(server, "/socket", with_key(raw_key, *WEBSOCKET)).status == 101
        keyctl.ok("revoke", "billing", "--yes")
        # Over PostgreSQL within 100 ms of revoke's end.
        wait_for(lambda: ask(server, "/who", with_key(raw_key)).status == 401, within=2.0)
    assert [row["path"] for row in uses(keyctl, "ok")][:2] == ["/who", "/socket"]


@contextmanager
def echoing(verifier: KeyVerifier, **options: Any) -> Iterator[Address]:
    """A bare application that answers with the id of the key."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await live(receive, send)
            return
        body = scope["state"]["api_key"].id.encode()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"12")]})
        await send({"type": "http.response.body", "body": body})

    with asgi_server(ApiKeyMiddleware(app, verifier, **options)) as server:
        yield server


async def live(receive: Any, send: Any) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


@pytest.mark.one_database
def test_every_refusal_is_the_same_to_the_byte(keyctl: Keyctl, verifier: KeyVerifier) -> None:
    """Nobody can tell a revoked key from one that never was."""
    good, key_id = keyctl.create("good")
    revoked, _ = keyctl.create("revoked")
    keyctl.ok("revoke", "revoked", "--yes")
    retired, _ = keyctl.create("retired")
    keyctl.ok("rotate", "retired", "--grace", "0")
    from alphalens_keyctl.keyformat import generate

    unknown = generate().reveal()
    refused = [None, revoked, retired, unknown, good[:-1], good + "x", "", "x", f"{good},{good}", "alk__", "\xff" * 100]
    with echoing(verifier) as server:
        assert ask(server, headers=with_key(good)).body == key_id.encode()
        answers = [ask(server, headers=() if key is None else with_key(key)) for key in refused]
    assert {answer.status for answer in answers} == {401}
    assert {answer.body for answer in answers} == {challenge.BODY}
    dated = {"date", "server"}
    seen = [{name: value for name, value in answer.headers.items() if name not in dated} for answer in answers]
    assert seen == [
        {
            "content-type": ["application/problem+json"],
            "content-length": [str(len(challenge.BODY))],
            "www-authenticate": ["ApiKey"],
            "cache-control": ["no-store"],
        }
    ] * len(refused)
    assert answers[0].json["status"] == 401
    assert set(answers[0].json) == {"type", "title", "status", "detail"}
    assert {row["outcome"] for row in uses(keyctl)} == {"ok", "malformed", "unknown", "revoked", "retired"}


@pytest.mark.one_database
def test_two_keys_in_one_request_are_refused_even_when_both_are_the_good_one(
    keyctl: Keyctl, verifier: KeyVerifier
) -> None:
    raw_key, key_id = keyctl.create("billing")
    with echoing(verifier) as server:
        assert ask(server, headers=with_key(raw_key, ("api-KEY", raw_key))).status == 401
        assert ask(server, headers=with_key(raw_key, ("API-Key", "x"))).status == 401
        assert ask(server, headers=with_key("x", ("API-Key", raw_key))).status == 401
        assert ask(server, headers=with_key(raw_key, ("Accept", "a"), ("Accept", "b"))).body == key_id.encode()
    verifier.flush()
    assert sum(row["count"] for row in uses(keyctl, "malformed")) == 3


def test_the_address_in_the_log_is_the_clients_and_cannot_be_made_up(keyctl: Keyctl, verifier: KeyVerifier) -> None:
    """Promise 8."""
    raw_key, _ = keyctl.create("billing")
    lied = (("X-Forwarded-For", "6.6.6.6"), ("X-Forwarded-For", "203.0.113.9"), ("User-Agent", "curl/8"))
    with echoing(verifier) as server:
        ask(server, "/a%20b?secret=1", with_key(raw_key, *lied), method="PUT")
    with echoing(verifier, trusted_proxies=["127.0.0.0/8"]) as server:
        ask(server, "/caf%C3%A9", with_key(raw_key, *lied))
    columns = ("client_ip", "method", "path", "user_agent")
    assert [tuple(row[name] for name in columns) for row in uses(keyctl, "ok")] == [
        ("127.0.0.1", "PUT", "/a%20b", "curl/8"),
        ("203.0.113.9", "GET", "/caf%C3%A9", "curl/8"),
    ]


@contextmanager
def frozen(database_url: str) -> Iterator[None]:
    """Nobody can read a key until the block ends."""
    if database_url.startswith("sqlite"):
        with sqlite3.connect(database_url.removeprefix("sqlite:///"), isolation_level=None) as holder:
            holder.execute("PRAGMA locking_mode = EXCLUSIVE")
            holder.execute("BEGIN EXCLUSIVE")
            yield
            holder.execute("ROLLBACK")
        holder.close()
    else:
        with psycopg.connect(database_url) as session:
            session.execute("LOCK TABLE api_key IN ACCESS EXCLUSIVE MODE")
            yield
            session.rollback()


def test_while_the_database_does_not_answer_the_event_loop_serves_everybody_else(
    keyctl: Keyctl, database_url: str
) -> None:
    """Promises 9 and 11."""
    raw_key, _ = keyctl.create("billing")
    answers: list[int] = []

    def guarded() -> None:
        answers.append(ask(server, "/who", with_key(raw_key)).status)

    with KeyVerifier(database_url, timeout=3.0) as verifier, asgi_server(starlette_app(verifier)) as server:
        with frozen(database_url):
            waiting = [threading.Thread(target=guarded) for _ in range(3)]
            for thread in waiting:
                thread.start()
            with_connection = server.connect()
            for _ in range(50):
                assert send(with_connection, "/health").status == 200
            with_connection.close()
            # They were all served while these three still waited.
            assert answers == []
            for thread in waiting:
                thread.join(30)
        assert answers == [401, 401, 401]
        # It goes on by itself.
        wait_for(lambda: ask(server, "/who", with_key(raw_key)).status == 200)


def test_where_every_thread_waits_the_next_request_is_refused_rather_than_kept(
    keyctl: Keyctl, database_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Promises 9 and 11."""
    from alphalens_keyctl.web import waiting

    monkeypatch.setattr(waiting, "THREADS", 1)
    monkeypatch.setattr(waiting, "PATIENCE", 0.2)
    raw_key, _ = keyctl.create("billing")
    with KeyVerifier(database_url, timeout=3.0) as verifier, asgi_server(starlette_app(verifier)) as server:
        with frozen(database_url), caplog.at_level(logging.WARNING):
            first = threading.Thread(target=ask, args=(server, "/who", with_key(raw_key)))
            first.start()
            others: list[int] = []
            threads = [
                threading.Thread(target=lambda: others.append(ask(server, "/who", with_key(raw_key)).status))
                for _ in range(4)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(30)
            assert others == [401] * 4
            first.join(30)
        assert "the database does not keep up" in caplog.text
        assert raw_key not in caplog.text
        wait_for(lambda: ask(server, "/who", with_key(raw_key)).status == 200)


def test_a_server_that_shuts_down_has_every_use_written_and_leaves_the_verifier_open(
    keyctl: Keyctl, verifier: KeyVerifier
) -> None:
    """Promise 8."""
    raw_key, _ = keyctl.create("billing")
    with echoing(verifier) as server:
        for _ in range(20):
            assert ask(server, headers=with_key(raw_key)).status == 200
    assert len(uses(keyctl, "ok")) == 20
    assert verifier.verify(raw_key).allowed


# Raw connections


def scope(headers: Sequence[tuple[bytes, bytes]], **more: Any) -> dict[str, Any]:
    return {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "scheme": "http",
        "path": "/", "raw_path": b"/", "query_string": b"", "root_path": "", "headers": headers,
        "client": ("192.0.2.1", 1), "server": ("192.0.2.2", 80),
    } | more  # fmt: skip


async def nothing() -> Any:
    raise AssertionError("the middleware reads no body")


async def drive(app: Any, of: dict[str, Any], *incoming: dict[str, Any]) -> list[dict[str, Any]]:
    """What the application sends."""
    sent: list[dict[str, Any]] = []
    left = list(incoming)

    async def receive() -> Any:
        return left.pop(0)

    async def keep(message: Any) -> None:
        sent.append(message)

    await app(of, receive, keep)
    return sent


async def unreachable(_scope: Any, _receive: Any, _send: Any) -> None:
    raise AssertionError("the application must not be reached")


@pytest.mark.one_database
@pytest.mark.parametrize("value", HOSTILE_KEYS, ids=range(len(HOSTILE_KEYS)))
def test_whatever_stands_in_the_header_it_is_refused_and_nothing_breaks(value: bytes, verifier: KeyVerifier) -> None:
    """Promise 9."""
    sent = asyncio.run(drive(ApiKeyMiddleware(unreachable, verifier), scope([(b"api-key", value)])))
    assert [message.get("status") for message in sent] == [401, None]
    assert sent[1]["body"] == challenge.BODY


@pytest.mark.one_database
def test_a_connection_without_addresses_states_or_raw_path_is_served_too(keyctl: Keyctl, verifier: KeyVerifier) -> None:
    raw_key, key_id = keyctl.create("billing")
    seen: list[Any] = []

    async def app(inner: Any, _receive: Any, _send: Any) -> None:
        seen.append(inner["state"]["api_key"].id)

    bare = scope([(b"api-key", raw_key.encode())], path="/caf\xe9 x")
    for name in ("client", "server", "raw_path"):
        del bare[name]
    asyncio.run(drive(ApiKeyMiddleware(app, verifier), bare))
    verifier.flush()
    assert seen == [key_id]
    assert [(row["client_ip"], row["path"]) for row in uses(keyctl)] == [(None, "/caf%C3%A9%20x")]


@pytest.mark.one_database
def test_a_tcp_client_that_has_already_gone_is_not_taken_for_a_peer_over_a_unix_socket(
    keyctl: Keyctl, verifier: KeyVerifier
) -> None:
    """Servers know no address of either; the listening end tells them apart."""
    raw_key, _ = keyctl.create("billing")

    async def app(_scope: Any, _receive: Any, _send: Any) -> None:
        pass

    middleware = ApiKeyMiddleware(app, verifier, trusted_proxies=["unix"])
    headers = [(b"api-key", raw_key.encode()), (b"x-forwarded-for", b"203.0.113.9")]
    for server in (("192.0.2.2", 80), None, ("/run/service.sock", None)):
        asyncio.run(drive(middleware, scope(headers, client=None, server=server)))
    verifier.flush()
    assert [row["client_ip"] for row in uses(keyctl)] == [None, None, "203.0.113.9"]


def test_requests_at_once_never_see_each_others_key_even_where_a_server_shares_the_state(
    keyctl: Keyctl, verifier: KeyVerifier
) -> None:
    made = [keyctl.create(f"key-{number}") for number in range(5)]
    shared = {"pool": "of the lifespan"}
    seen: list[tuple[bytes, str]] = []

    async def all_at_once() -> None:
        barrier = asyncio.Barrier(len(made))

        async def app(inner: Any, _receive: Any, _send: Any) -> None:
            await barrier.wait()
            assert inner["state"]["pool"] == "of the lifespan"
            seen.append((dict(inner["headers"])[b"api-key"], inner["state"]["api_key"].id))

        middleware = ApiKeyMiddleware(app, verifier)
        scopes = [scope([(b"api-key", raw.encode())], state=shared) for raw, _ in made]
        await asyncio.gather(*(drive(middleware, each) for each in scopes))

    asyncio.run(all_at_once())
    assert sorted(seen) == sorted((raw.encode(), key_id) for raw, key_id in made)
    assert shared == {"pool": "of the lifespan"}


@pytest.mark.one_database
def test_a_websocket_is_refused_before_it_is_accepted_with_the_document_where_the_server_can(
    verifier: KeyVerifier,
) -> None:
    middleware = ApiKeyMiddleware(unreachable, verifier)
    plain: dict[str, Any] = {"type": "websocket", "path": "/", "headers": [], "client": None, "server": None}
    connect = {"type": "websocket.connect"}
    assert asyncio.run(drive(middleware, dict(plain), connect)) == [
        {"type": "websocket.close", "code": 1008, "reason": ""}
    ]
    able = plain | {"extensions": {"websocket.http.response": {}}}
    start, body = asyncio.run(drive(middleware, able, connect))
    assert (start["type"], start["status"]) == ("websocket.http.response.start", 401)
    assert body == {"type": "websocket.http.response.body", "body": challenge.BODY}
    # Who has hung up already gets no answer.
    assert asyncio.run(drive(middleware, dict(plain), {"type": "websocket.disconnect", "code": 1006})) == []


@pytest.mark.one_database
def test_a_kind_of_connection_that_is_not_known_does_not_get_past(verifier: KeyVerifier) -> None:
    """Promise 9."""
    with pytest.raises(ValueError, match="webtransport"):
        asyncio.run(drive(ApiKeyMiddleware(unreachable, verifier), {"type": "webtransport", "path": "/"}))


@pytest.mark.one_database
def test_a_trusted_proxy_that_makes_no_sense_is_refused_when_the_application_starts(verifier: KeyVerifier) -> None:
    from alphalens_keyctl.errors import KeyctlError

    with pytest.raises(KeyctlError):
        ApiKeyMiddleware(unreachable, verifier, trusted_proxies=["everyone"])


@pytest.mark.one_database
def test_one_text_where_several_may_stand_is_taken_for_one_and_not_for_its_letters(verifier: KeyVerifier) -> None:
    async def fine(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "reached"})

    middleware = ApiKeyMiddleware(fine, verifier, exempt="/health", trusted_proxies="10.0.0.0/8")
    assert asyncio.run(drive(middleware, scope([], path="/health"))) == [{"type": "reached"}]
    assert asyncio.run(drive(middleware, scope([], path="/")))[0]["status"] == 401


@pytest.mark.one_database
def test_a_good_key_without_the_scope_gets_403_and_one_from_elsewhere_the_401_of_any(
    keyctl: Keyctl, verifier: KeyVerifier
) -> None:
    """Promises 9 and 13."""
    reader, _ = keyctl.create("reader", "--scope", "prices:*")
    writer, _ = keyctl.create("writer", "--scope", "prices:write")
    local, _ = keyctl.create("local", "--allow-from", "192.0.2.0/24")
    seen: list[str] = []

    async def app(of: Any, _receive: Any, send: Any) -> None:
        seen.append(of["state"]["api_key"].name)
        await send({"type": "http.response.start", "status": 200, "headers": []})

    def asked(raw_key: str, *headers: tuple[bytes, bytes], required: Any = None, **more: Any) -> Any:
        of = scope([(b"api-key", raw_key.encode()), *headers], **more)
        middleware = ApiKeyMiddleware(app, verifier, required_scopes=required, trusted_proxies=["10.0.0.1"])
        return asyncio.run(drive(middleware, of, {"type": "websocket.connect"}))

    for required in ("prices:read", ["prices:read"], lambda of: "prices:read" if of["path"] == "/" else None):
        assert asked(reader, required=required)[0]["status"] == 200
        start, body = asked(writer, required=required)
        assert start["status"] == 403
        assert (b"www-authenticate", b'ApiKey error="insufficient_scope", scope="prices:read"') in start["headers"]
        assert json.loads(body["body"]) == {
            "type": "about:blank", "title": "Forbidden", "status": 403, "code": "insufficient_scope",
            "detail": "The API key does not have the scope that this needs.", "scope": "prices:read",
        }  # fmt: skip
        assert asked("no key", required=required)[1]["body"] == challenge.BODY
    assert asked(writer, required=lambda of: None)[0]["status"] == 200
    # What a function makes up is no scope, which no key covers; a header cannot be made of it.
    for wrong in ("a\r\nX: y", "*", "", 'a"b'):
        (start, _) = asked(reader, required=lambda _of, wrong=wrong: [wrong])
        assert (start["status"], b"\r" in dict(start["headers"])[b"www-authenticate"]) == (403, False)
    with pytest.raises(KeyctlError):
        ApiKeyMiddleware(app, verifier, required_scopes=["Prices"])
    refused = asked(writer, required="prices:read", type="websocket", extensions={"websocket.http.response": {}})
    assert refused[0]["status"] == 403
    # The address counts where it is known for certain.
    named = (b"x-forwarded-for", b"192.0.2.9")
    for headers, client, status in (
        ((), ("192.0.2.1", 1), 200),
        ((), ("198.51.100.1", 1), 401),
        ((), None, 401),
        ((named,), ("192.0.2.1", 1), 401),  # a proxy that nobody named may have written it
        ((named,), ("10.0.0.1", 1), 200),
        (((b"x-forwarded-for", b"192.0.2.9, 198.51.100.1"),), ("10.0.0.1", 1), 401),
        ((named, (b"x-forwarded-for", b"198.51.100.1")), ("10.0.0.1", 1), 401),
        ((), ("10.0.0.1", 1), 401),
        (((b"x_forwarded_for", b"192.0.2.9"),), ("10.0.0.1", 1), 401),
    ):
        sent = asked(local, *headers, client=client)
        assert sent[0]["status"] == status, (headers, client)
        assert status == 200 or sent[1]["body"] == challenge.BODY
