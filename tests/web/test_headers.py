"""One reading of the header, under every parser. Promise 9.

On one database: what is read is no matter of the database.
"""

import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest
from a2wsgi import WSGIMiddleware

from alphalens_keyctl import KeyVerifier
from alphalens_keyctl.web import ApiKeyMiddleware, ApiKeyWsgiMiddleware, challenge
from tests.support.commands import Keyctl
from tests.support.web import LIMIT, Address, asgi_server, wsgi_server

pytestmark = pytest.mark.one_database


@pytest.fixture
def verifier(database_url: str) -> Iterator[KeyVerifier]:
    with KeyVerifier(database_url) as verifier:
        yield verifier


async def _asgi(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})
        return
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body", "body": b""})


def _wsgi(_environ: Any, start_response: Any) -> list[bytes]:
    start_response("204 No Content", [])
    return []


def httptools(verifier: KeyVerifier) -> AbstractContextManager[Address]:
    return asgi_server(ApiKeyMiddleware(_asgi, verifier), http="httptools")


def h11(verifier: KeyVerifier) -> AbstractContextManager[Address]:
    return asgi_server(ApiKeyMiddleware(_asgi, verifier), http="h11")


def wsgiref(verifier: KeyVerifier) -> AbstractContextManager[Address]:
    return wsgi_server(ApiKeyWsgiMiddleware(_wsgi, verifier))


def a2wsgi(verifier: KeyVerifier) -> AbstractContextManager[Address]:
    """A WSGI application in an ASGI server."""
    app: Any = ApiKeyWsgiMiddleware(_wsgi, verifier)  # its own types of environments are narrower
    return asgi_server(WSGIMiddleware(app), lifespan="off", http="h11")


EACH_SERVER = pytest.mark.parametrize("run", [httptools, h11, wsgiref, a2wsgi])
Run = Callable[[KeyVerifier], AbstractContextManager[Address]]


def raw(server: Address, headers: str) -> tuple[int, bytes]:
    """Status and body of the answer to a request with these lines."""
    with socket.create_connection(("127.0.0.1", server.port), LIMIT) as client:
        client.sendall(f"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{headers}\r\n\r\n".encode("latin-1"))
        head, _, body = client.makefile("rb").read().partition(b"\r\n\r\n")
    return int(head.split()[1]), body


@EACH_SERVER
def test_space_and_tab_around_a_key_are_no_part_of_it(run: Run, keyctl: Keyctl, verifier: KeyVerifier) -> None:
    raw_key, _ = keyctl.create("good")
    with run(verifier) as server:
        for value in (f"{raw_key} ", f" \t{raw_key}", f"{raw_key}\t \t", raw_key):
            assert raw(server, f"API-Key:{value}")[0] == 204, value


@EACH_SERVER
def test_all_else_is_the_same_refusal_to_the_byte_or_the_servers_own(
    run: Run, keyctl: Keyctl, verifier: KeyVerifier
) -> None:
    good, _ = keyctl.create("good")
    other, _ = keyctl.create("other")
    refusal = (401, challenge.BODY)
    with run(verifier) as server:
        for headers in (
            f"API-Key: {good}\r\nAPI-Key: {good}",
            f"API-Key: {good}\r\napi-key: {other}",
            f"API-Key: {good}\r\nAPI-Key:",
            f"API-Key:\r\nAPI-Key: {good}",
            f"API-Key: {good},{good}",
            f"API-Key: {good}, {other}",
            f"API-Key: {good} {other}",
            f"API-Key: {good}\xff",
            "API-Key: \t ",
            "API-Key:",
            "X: y",
        ):
            assert raw(server, headers) == refusal, headers
        # A server may refuse these by itself, before anybody else reads them.
        for character in "\x00\x01\x08\x0b\x0c\x1b\x1f\x7f\x85\xa0":
            inside = good[:20] + character + good[20:]
            # wsgiref takes off the ends what Python calls white space, before anybody else reads it.
            bare = run is wsgiref and character.isspace()
            for value in (inside,) if bare else (inside, good + character, character + good):
                status, body = raw(server, f"API-Key: {value}")
                assert status == 400 or (status, body) == refusal, (value, status)


def test_a_name_with_an_underscore_is_another_one_where_it_can_be_told(keyctl: Keyctl, verifier: KeyVerifier) -> None:
    """A proxy that takes `API-Key` away, or sets it, knows nothing of `API_Key`."""
    good, _ = keyctl.create("good")
    for run in (httptools, h11):
        with run(verifier) as server:
            assert raw(server, f"API_Key: {good}") == (401, challenge.BODY)
    with a2wsgi(verifier) as server:
        assert raw(server, f"API_Key: {good}") == (401, challenge.BODY)
        assert raw(server, f"API_Key: x\r\nAPI-Key: {good}")[0] == 204


def test_a_server_that_drops_such_names_leaves_nothing_to_tell(keyctl: Keyctl, verifier: KeyVerifier) -> None:
    import threading

    from werkzeug.serving import make_server

    good, _ = keyctl.create("good")
    server = make_server("127.0.0.1", 0, ApiKeyWsgiMiddleware(_wsgi, verifier))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        address = Address(server.server_port)
        assert raw(address, f"API_Key: {good}") == (401, challenge.BODY)
        assert raw(address, f"API-Key: {good}")[0] == 204
    finally:
        server.shutdown()
        thread.join(LIMIT)
        server.server_close()
