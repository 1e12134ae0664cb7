"""`serve` behind real proxies, each by the text that stands in README for it. Promises 1, 5, 8, 9 and 14.

On one database: the proxies see none.
"""

import http.client
import json
import os
import signal
import socket
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from alphalens_keyctl import KeyVerifier
from alphalens_keyctl.web import challenge
from tests.services.caddy import CADDY, CADDY_OF_DEBIAN
from tests.services.envoy import ENVOY
from tests.services.haproxy import HAPROXY
from tests.services.nginx import NGINX, nginx
from tests.services.proxy import Ports, Proxy, free_port, running
from tests.services.traefik import TRAEFIK
from tests.support.commands import Keyctl
from tests.support.protected import questions, service
from tests.support.readme import block
from tests.support.waiting import wait_for
from tests.support.web import LIMIT, Address, Served, asgi_server, ask, send, serving, uses, with_key, wsgi_server

PROXIES = [NGINX, CADDY, CADDY_OF_DEBIAN, TRAEFIK, ENVOY, HAPROXY]
EACH_PROXY = pytest.mark.parametrize("proxy", PROXIES, ids=lambda proxy: proxy.name.replace(" ", "-"))


@contextmanager
def proxied(keyctl: Keyctl, proxy: Proxy) -> Iterator[tuple[Served, Address]]:
    """A proxy in front of the service, asking `serve`."""
    with (
        serving(keyctl, "--trusted-proxy", "127.0.0.1") as served,
        service() as behind,
        running(proxy, served.address.port, behind.port) as port,
    ):
        # Some listen before they have read what is behind them.
        wait_for(lambda: ask(Address(port)).status == 401)
        yield served, Address(port)


def reached(answer: Any) -> dict[str, list[str]]:
    """The headers that reached the service, each with its values."""
    assert answer.status == 200, answer
    found: dict[str, list[str]] = {}
    for name, value in answer.json["headers"]:
        found.setdefault(name, []).append(value)
    return found


@pytest.mark.one_database
@EACH_PROXY
def test_bodies_reach_the_service_and_no_clients_request_harms_anothers(proxy: Proxy, keyctl: Keyctl) -> None:
    """Promise 14: two clients over kept connections, whose questions go to `serve` over the same one."""
    keys = {name: keyctl.create(name)[0] for name in ("one", "other")}
    with proxied(keyctl, proxy) as (_, front):
        clients = {name: front.connect() for name in keys}
        for size in (10, 500, 0, 100_000, 2_000_000, 1):
            for chunked in (False, True):
                for name, client in clients.items():
                    body: Any = iter([b"x" * size, b""]) if chunked else b"x" * size
                    client.request("POST", "/orders", body, {"API-Key": keys[name]}, encode_chunked=chunked)
                    answer = client.getresponse()
                    assert answer.status == 200, (size, chunked, name, answer.read())
                    document = json.loads(answer.read())
                    assert document["body"] == size
                    assert dict(document["headers"])["x-key-name"] == name
                # A client that is refused, or goes in the middle of its body, takes nobody along.
                assert raw(front, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello") == 401
                with socket.create_connection(("127.0.0.1", front.port), LIMIT) as broken:
                    head = f"POST / HTTP/1.1\r\nHost: a\r\nAPI-Key: {keys['one']}\r\nContent-Length: 500\r\n\r\nabc"
                    broken.sendall(head.encode())
        for client in clients.values():
            client.close()
        _talk_over_a_websocket(front, keys["one"])
        assert reached(ask(front, "/", with_key(keys["other"])))["x-key-name"] == ["other"]
    assert {row["path"] for row in uses(keyctl, "ok")} == {"/orders", "/", "/socket"}


def _talk_over_a_websocket(front: Address, raw_key: str) -> None:
    handshake = (
        "GET /socket HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    )
    with socket.create_connection(("127.0.0.1", front.port), LIMIT) as refused:
        refused.sendall(f"{handshake}\r\n".encode())
        assert b" 401 " in refused.makefile("rb").readline()
    with socket.create_connection(("127.0.0.1", front.port), LIMIT) as client:
        client.sendall(f"{handshake}API-Key: {raw_key}\r\n\r\n".encode())
        stream = client.makefile("rb")
        assert b" 101 " in stream.readline()
        while stream.readline().strip():
            pass
        assert stream.readline() == b"one\n"
        for said in (b"a\n", b"b" * 100_000 + b"\n"):
            client.sendall(said)
            assert stream.readline() == said


@EACH_PROXY
def test_the_question_announces_no_body_and_names_the_client_as_the_proxy_sees_it(proxy: Proxy) -> None:
    """Promise 14: whoever answers may believe what a question announces."""
    with questions() as (asked, found), service() as behind, running(proxy, asked.port, behind.port) as port:
        wait_for(lambda: ask(Address(port)).status == 401)
        found.clear()
        head = "POST / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 6.6.6.6\r\n"
        for body in ("Content-Length: 5\r\n\r\nhello", "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"):
            assert raw(Address(port), head + body) == 401
        assert len(found) == 2
        for question in found:
            assert question.get("content-length", ["0"]) == ["0"]
            assert "transfer-encoding" not in question
            # The proxy's word stands last, whether or not it keeps the client's.
            (hops,) = question["x-forwarded-for"]
            assert hops.split(",")[-1].strip() not in ("6.6.6.6", "")


MADE_UP = tuple(
    (name, "made-up")
    for first in "-_"
    for second in "-_"
    for name in (
        f"X{first}Key{second}Id",
        f"x{first}key{second}name",
        f"X{first}KEY{second}OWNER",
        f"X{first}Key{second}Scopes",
    )
)


@pytest.mark.one_database
@EACH_PROXY
def test_the_service_learns_who_it_is_from_the_proxy_alone_and_never_sees_the_raw_key(
    proxy: Proxy, keyctl: Keyctl
) -> None:
    """Promises 1 and 8."""
    raw_key, key_id = keyctl.create("Ключ 1", "--owner", "team-ü", "--scope", "prices:read", "--scope", "reports:*")
    ownerless, ownerless_id = keyctl.create("ownerless")
    about = (
        ("X-Forwarded-For", "6.6.6.6"), ("X_Forwarded_For", "6.6.6.7"), ("X-Forwarded-Uri", "/made-up"),
        ("X-Original-URI", "/made-up"), ("X-Forwarded-Method", "MADE"), ("X-Original-Method", "MADE"),
        ("User-Agent", "test/1"), ("API_Key", raw_key),
    )  # fmt: skip
    with proxied(keyctl, proxy) as (_, front):
        for more in (
            (),
            (*MADE_UP, *about),
            # What a Connection header names, a proxy leaves out of what it passes on.
            (("Connection", "keep-alive, X-Key-Id, X-Key-Name, X-Key-Owner, X-Key-Scopes"),),
            (("Connection", "x-key-id"), ("Connection", "X-Key-Name"), ("Upgrade", "h2c"), *MADE_UP, *about),
        ):
            if more[:1] == (("Connection", "x-key-id"),) and proxy is ENVOY:
                continue  # refuses the upgrade
            answer = ask(front, "/orders/1?x=2", with_key(raw_key, *more))
            headers = reached(answer)
            assert headers["x-key-id"] == [key_id]
            assert [unquote(name) for name in headers["x-key-name"]] == ["Ключ 1"]
            assert [unquote(owner) for owner in headers["x-key-owner"]] == ["team-ü"]
            assert headers["x-key-scopes"] == ["prices:read reports:*"]
            assert "made-up" not in str({name: headers[name] for name in headers if "key" in name})
            assert raw_key not in answer.body.decode()
            # Of a key without an owner and scopes nobody's word stands there.
            headers = reached(ask(front, "/", with_key(ownerless, *more), method="POST"))
            assert headers["x-key-id"] == [ownerless_id]
            assert not [name for name in headers if "owner" in name or "scopes" in name]
            assert "made-up" not in str({name: headers[name] for name in headers if "key" in name})
    rows = uses(keyctl, "ok")
    # Envoy puts an address of its own for a client on the same machine.
    addresses = {row["client_ip"] for row in rows}
    assert addresses == {"127.0.0.1"} or (proxy is ENVOY and len(addresses) == 1 and "6.6.6" not in str(addresses))
    assert {(row["method"], row["path"]) for row in rows} == {("GET", "/orders/1"), ("POST", "/")}
    assert "test/1" in {row["user_agent"] for row in rows}


def asking(proxy: Proxy, question: str) -> Proxy:
    """The proxy, whose text has this question in place of `/verify`."""

    def command(folder: Path, ports: Ports) -> Sequence[str]:
        words = proxy.command(folder, ports)
        for file in folder.iterdir():
            if file.is_file():
                file.write_text(file.read_text().replace("/verify", question))
        return words

    return proxy._replace(command=command)


@pytest.mark.one_database
@pytest.mark.parametrize(
    "proxy", [proxy for proxy in PROXIES if proxy is not ENVOY], ids=lambda proxy: proxy.name.replace(" ", "-")
)
def test_a_key_that_lacks_a_scope_gets_403_and_one_from_elsewhere_the_401_of_any(proxy: Proxy, keyctl: Keyctl) -> None:
    """Promises 9 and 13."""
    keys = {
        "reader": keyctl.create("reader", "--scope", "prices:*", "--scope", "reports:read")[0],
        "writer": keyctl.create("writer", "--scope", "prices:write", "--scope", "reports:read")[0],
        "free": keyctl.create("free")[0],
        "local": keyctl.create("local", "--allow-from", "127.0.0.0/8")[0],
        "remote": keyctl.create("remote", "--allow-from", "6.6.6.0/24")[0],
    }
    with proxied(keyctl, asking(proxy, "/verify?scope=prices:read&scope=reports:read")) as (_, front):
        made_up = (("X-Forwarded-For", "6.6.6.6"), ("X_Forwarded_For", "6.6.6.6"), ("Forwarded", "for=6.6.6.6"))
        for path in ("/", "/?scope=reports:read", "/verify?scope=", "/?scope=prices:write"):
            status = {name: ask(front, path, with_key(raw_key, *made_up)).status for name, raw_key in keys.items()}
            assert status == {"reader": 200, "writer": 403, "free": 200, "local": 200, "remote": 401}, path
        refused = ask(front, "/", with_key(keys["writer"]))
        assert refused.headers["content-type"] == ["application/problem+json"]
        assert refused.headers["cache-control"] == ["no-store"]
        assert refused.headers["www-authenticate"] == [
            'ApiKey error="insufficient_scope", scope="prices:read reports:read"'
        ]
        assert (refused.json["status"], refused.json["code"]) == (403, "insufficient_scope")
        elsewhere = ask(front, "/", with_key(keys["remote"], *made_up))
        assert (elsewhere.status, elsewhere.body) == (401, challenge.BODY)
    assert {row["key_name"] for row in uses(keyctl, "scope")} == {"writer"}
    assert {row["key_name"] for row in uses(keyctl, "address")} == {"remote"}


def raw(front: Address, text: str) -> int:
    """The status of the answer to a request as it stands."""
    with socket.create_connection(("127.0.0.1", front.port), LIMIT) as client:
        client.sendall(text.encode("latin-1"))
        return int(client.makefile("rb").readline().split()[1])


@pytest.mark.one_database
@EACH_PROXY
def test_every_refusal_is_the_problem_document_and_no_path_opens_by_itself(proxy: Proxy, keyctl: Keyctl) -> None:
    """Promises 5 and 9."""
    raw_key, _ = keyctl.create("good")
    with proxied(keyctl, proxy) as (_, front):
        for path in (
            "/", "/healthz", "/readyz", "/%68ealthz", "/_alphalens_keyctl/", "/ext_authz/x", "/ext_authz/healthz",
            "/verify",
        ):  # fmt: skip
            for key in ((), with_key(raw_key[:-1]), with_key(raw_key, ("API-Key", raw_key))):
                refused = ask(front, path, key)
                assert (refused.status, refused.body) == (401, challenge.BODY), (path, key)
                assert refused.headers["content-type"] == ["application/problem+json"]
                assert refused.headers["www-authenticate"] == ["ApiKey"]
                assert refused.headers["cache-control"] == ["no-store"]
            assert ask(front, path, with_key(raw_key)).status == 200
        # A 401 of the service's own is the service's own.
        assert ask(front, "/own-401", with_key(raw_key)).json["headers"]
        # What no header may hold is the client's fault, not the server's.
        for header in (f"API-Key: {raw_key}\x01", f"API-Key: {raw_key}\r\nUser-Agent: a\x07"):
            assert raw(front, f"GET / HTTP/1.1\r\nHost: a\r\n{header}\r\n\r\n") in (400, 401), header
        # Space and tab around a value are no part of it (RFC 9110, 5.5).
        assert raw(front, f"GET / HTTP/1.1\r\nHost: a\r\nAPI-Key: \t{raw_key} \t\r\n\r\n") == 200
        keyctl.ok("revoke", "good", "--yes")
        assert ask(front, "/", with_key(raw_key)).status == 401


@pytest.mark.one_database
def test_while_serve_hangs_or_is_away_nobody_gets_in_and_nobody_waits_for_long(keyctl: Keyctl) -> None:
    """Promises 9 and 11. All proxies ask the same `serve`, so that their patience runs out at the same time."""
    raw_key, _ = keyctl.create("good")
    with ExitStack() as stack, ThreadPoolExecutor(len(PROXIES)) as clients:
        served = stack.enter_context(serving(keyctl, "--trusted-proxy", "127.0.0.1"))
        behind = stack.enter_context(service())
        fronts = {
            proxy: Address(stack.enter_context(running(proxy, served.address.port, behind.port))) for proxy in PROXIES
        }
        for front in fronts.values():
            wait_until_it_opens(front, raw_key)
        os.kill(served.process.pid, signal.SIGSTOP)
        try:
            waiting = {
                proxy: clients.submit(patient, front, raw_key, proxy.patience + LIMIT)
                for proxy, front in fronts.items()
            }
            for proxy, answer in waiting.items():
                status, seconds = answer.result()
                assert status in proxy.hung, proxy.name
                assert seconds < proxy.patience + LIMIT, proxy.name
        finally:
            os.kill(served.process.pid, signal.SIGCONT)
        for front in fronts.values():
            wait_until_it_opens(front, raw_key)
        served.stop()
        for proxy, front in fronts.items():
            assert ask(front, "/", with_key(raw_key)).status == proxy.away, proxy.name
            assert ask(front, "/healthz").status == proxy.away, proxy.name


def wait_until_it_opens(front: Address, raw_key: str) -> None:
    wait_for(lambda: ask(front, "/", with_key(raw_key)).status == 200)


def patient(front: Address, raw_key: str, seconds: float) -> tuple[int, float]:
    """The status of an answer that may take so long, and how long it took."""
    connection = http.client.HTTPConnection("127.0.0.1", front.port, timeout=seconds)
    began = time.monotonic()
    try:
        return send(connection, "/", with_key(raw_key)).status, time.monotonic() - began
    finally:
        connection.close()


# The heart of README's text before it took the announcement of the body out of the question.
EARLIER = """
    upstream alphalens_keyctl { server 127.0.0.1:SERVE; keepalive 32; }
    server {
        listen 127.0.0.1:PORT;
        location / {
            auth_request /_alphalens_keyctl;
            auth_request_set $key_name $upstream_http_x_key_name;
            proxy_pass http://127.0.0.1:SERVICE;
            proxy_set_header X-Key-Name $key_name;
        }
        location = /_alphalens_keyctl {
            internal;
            proxy_pass http://alphalens_keyctl/verify;
            proxy_http_version 1.1;
            proxy_pass_request_body off;
            proxy_pass_request_headers off;
            proxy_set_header Connection "";
            proxy_set_header API-Key $http_api_key;
            proxy_set_header X-Original-Method $request_method;
            proxy_set_header X-Original-URI $request_uri;
        }
    }
"""


@pytest.mark.one_database
def test_nginx_that_announces_a_body_and_does_not_send_it_answers_each_client_for_itself(keyctl: Keyctl) -> None:
    """Promise 14: README's text was once so, and services run with it."""
    keys = {name: keyctl.create(name)[0] for name in ("one", "other")}
    port = free_port()
    with serving(keyctl, "--trusted-proxy", "127.0.0.1") as served, service() as behind:
        text = EARLIER.replace("SERVE;", f"{served.address.port};").replace("SERVICE", str(behind.port))
        with nginx(text.replace("PORT", str(port)), port):
            front = Address(port)
            smuggled = f"GET /healthz HTTP/1.1\r\nHost: a\r\nAPI-Key: {keys['one']}\r\n\r\n"
            for body in (b"0123456789", b"x" * 500, smuggled.encode(), iter([b"y" * 100, b""])):
                client = front.connect()
                client.request("POST", "/", body, {"API-Key": keys["one"]}, encode_chunked=not isinstance(body, bytes))
                answer = client.getresponse()
                assert answer.status == 200
                assert dict(json.loads(answer.read())["headers"])["x-key-name"] == "one"
                for _ in range(3):
                    assert reached(ask(front, "/", with_key(keys["other"])))["x-key-name"] == ["other"]
                    assert ask(front, "/").status == 401
                client.close()


def test_the_middleware_in_the_readme_guards_what_it_says(keyctl: Keyctl, monkeypatch: Any) -> None:
    made: list[KeyVerifier] = []

    def make() -> KeyVerifier:
        made.append(KeyVerifier())
        return made[-1]

    assert keyctl.database_url is not None
    monkeypatch.setenv("ALPHALENS_KEYCTL_DATABASE_URL", keyctl.database_url)
    monkeypatch.setattr("alphalens_keyctl.KeyVerifier", make)
    raw_key, _ = keyctl.create("billing")
    for marker, run in (("asgi", asgi_server), ("wsgi", wsgi_server)):
        names: dict[str, Any] = {"__name__": marker}
        exec(block(marker, "python"), names)
        with run(names["app"]) as server:
            assert b"hello billing" in ask(server, "/", with_key(raw_key)).body
            assert ask(server, "/").status == 401
            assert ask(server, "/health").status == 404
        made.pop().close()  # before the database goes
    assert not made
