"""`serve` behind a real nginx, by the configuration that stands in the README. Promises 5, 8 and 9."""

import json
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

from alphalens_keyctl.web import challenge
from tests.services.nginx import nginx
from tests.support.commands import ROOT, Keyctl
from tests.support.waiting import wait_for
from tests.support.web import Address, asgi_server, ask, serving, uses, with_key, wsgi_server

README = (ROOT / "README.md").read_text()


def block(marker: str) -> str:
    """The block of code that stands under a marker in the README."""
    match = re.search(rf"<!-- {marker} -->\n```[a-z]*\n(.*?)```", README, re.S)
    assert match is not None
    return match[1]


@contextmanager
def service() -> Iterator[Address]:
    """Something to protect: it answers with the headers that reached it."""

    class Echo(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps([[name.lower(), value] for name, value in self.headers.items()]).encode()
            status = 401 if self.path == "/own-401" else 200
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET  # noqa: N815  # the name that the base class looks for

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Echo) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield Address(server.server_port)
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def proxied(keyctl: Keyctl, *options: str) -> Iterator[tuple[Any, Address]]:
    """nginx in front of the service, asking `serve`, as the README has it but for the ports."""
    with serving(keyctl, "--trusted-proxy", "127.0.0.1", *options) as served, service() as behind:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        configuration = block("nginx")
        for ours, here in (
            ("listen 80;", f"listen 127.0.0.1:{port};"),
            ("server 127.0.0.1:8377;", f"server 127.0.0.1:{served.address.port};"),
            ("proxy_pass http://127.0.0.1:8000;", f"proxy_pass http://127.0.0.1:{behind.port};"),
        ):
            assert configuration.count(ours) == 1
            configuration = configuration.replace(ours, here)
        with nginx(configuration, port):
            yield served, Address(port)


def test_behind_nginx_the_service_learns_who_it_is_from_nginx_alone_and_never_sees_the_raw_key(
    keyctl: Keyctl,
) -> None:
    """Promises 5 and 8."""
    raw_key, key_id = keyctl.create("Ключ 1", "--owner", "team-ü")
    ownerless, ownerless_id = keyctl.create("ownerless")
    made_up = (
        ("X-Key-Id", "made-up"), ("X-Key-Name", "made-up"), ("X-Key-Owner", "made-up"), ("X_Key_Owner", "made-up"),
        ("X-Forwarded-For", "6.6.6.6"), ("X-Forwarded-Uri", "/made-up"), ("X-Original-URI", "/made-up"),
        ("X-Forwarded-Method", "MADE"), ("X-Original-Method", "MADE"), ("User-Agent", "test/1"),
    )  # fmt: skip
    with proxied(keyctl) as (_, front):
        reached = ask(front, "/orders/1?x=2", with_key(raw_key, *made_up))
        assert reached.status == 200
        headers = dict(reached.json)
        assert len(headers) == len(reached.json)
        assert raw_key not in reached.body.decode()
        assert "api-key" not in headers
        assert headers["x-key-id"] == key_id
        assert unquote(headers["x-key-name"]) == "Ключ 1"
        assert unquote(headers["x-key-owner"]) == "team-ü"
        # Of a key without an owner nobody's word stands there.
        headers = dict(ask(front, "/", with_key(ownerless, *made_up), method="POST").json)
        assert headers["x-key-id"] == ownerless_id
        assert not [name for name in headers if "owner" in name]
        keyctl.ok("revoke", "ownerless", "--yes")
        wait_for(lambda: ask(front, "/", with_key(ownerless)).status == 401, within=2.0)
    columns = ("client_ip", "method", "path", "user_agent")
    assert [tuple(row[name] for name in columns) for row in uses(keyctl, "ok")][:2] == [
        ("127.0.0.1", "GET", "/orders/1", "test/1"),
        ("127.0.0.1", "POST", "/", "test/1"),
    ]


def test_behind_nginx_every_refusal_is_the_problem_document_and_no_path_opens_by_itself(keyctl: Keyctl) -> None:
    """Promise 9."""
    raw_key, _ = keyctl.create("good")
    with proxied(keyctl) as (served, front):
        for path in ("/", "/healthz", "/readyz", "/_alphalens_keyctl/", "/ext_authz/x", "/verify", "/@unauthorized"):
            refused = ask(front, path)
            assert (refused.status, refused.body) == (401, challenge.BODY), path
            assert refused.headers["content-type"] == ["application/problem+json"]
            assert refused.headers["www-authenticate"] == ["ApiKey"]
            assert refused.headers["cache-control"] == ["no-store"]
            assert ask(front, path, with_key(raw_key[:-1])).body == challenge.BODY
        # The endpoint itself is not for clients.
        assert ask(front, "/_alphalens_keyctl", with_key(raw_key)).status == 404
        # A 401 of the service's own is the service's own.
        assert ask(front, "/own-401", with_key(raw_key)).json
        # Requests over open connections, one of nginx's after the other's.
        assert [ask(front, "/", with_key(raw_key)).status for _ in range(20)] == [200] * 20
        served.stop()
        assert ask(front, "/", with_key(raw_key)).status == 500
    assert len(uses(keyctl, "ok")) == 21


def test_the_middleware_in_the_readme_guards_what_it_says(keyctl: Keyctl, monkeypatch: Any) -> None:
    assert keyctl.database_url is not None
    monkeypatch.setenv("ALPHALENS_KEYCTL_DATABASE_URL", keyctl.database_url)
    raw_key, _ = keyctl.create("billing")
    for marker, run in (("asgi", asgi_server), ("wsgi", wsgi_server)):
        names: dict[str, Any] = {"__name__": marker}
        exec(block(marker), names)
        with run(names["app"]) as server:
            assert b"hello billing" in ask(server, "/", with_key(raw_key)).body
            assert ask(server, "/").status == 401
            assert ask(server, "/health").status == 404
