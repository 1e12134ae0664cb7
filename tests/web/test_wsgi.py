"""The WSGI middleware under Flask and Django on a real server, and on environments as no server makes them."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from alphalens_keyctl import KeyVerifier
from alphalens_keyctl.keyformat import generate
from alphalens_keyctl.web import ApiKeyWsgiMiddleware, challenge
from tests.support.commands import Keyctl
from tests.support.hostile import HOSTILE_KEYS
from tests.support.waiting import wait_for
from tests.support.web import ask, uses, with_key, wsgi_server


@pytest.fixture
def verifier(database_url: str) -> Iterator[KeyVerifier]:
    with KeyVerifier(database_url) as verifier:
        yield verifier


def flask_app(verifier: KeyVerifier, **options: Any) -> Any:
    from flask import Flask, request

    app = Flask(__name__)

    @app.get("/who")
    def who() -> dict[str, str]:
        key = request.environ["alphalens_keyctl.api_key"]
        return {"id": key.id, "name": key.name}

    @app.get("/health")
    def health() -> dict[str, str]:
        return {"health": "good"}

    app.wsgi_app = ApiKeyWsgiMiddleware(  # type: ignore[method-assign]  # Flask's own way to wrap it
        app.wsgi_app, verifier, exempt=["/health"], **options
    )
    return app


def django_app(verifier: KeyVerifier, **options: Any) -> Any:
    import django
    from django.conf import settings
    from django.core.wsgi import get_wsgi_application
    from django.http import HttpRequest, JsonResponse
    from django.urls import path

    def who(request: HttpRequest) -> JsonResponse:
        key = request.META["alphalens_keyctl.api_key"]
        return JsonResponse({"id": key.id, "name": key.name})

    def health(_request: HttpRequest) -> JsonResponse:
        return JsonResponse({"health": "good"})

    if not settings.configured:
        settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], SECRET_KEY="of this test", USE_TZ=True)
        django.setup()
        sys.modules[__name__].urlpatterns = [path("who", who), path("health", health)]  # type: ignore[attr-defined]  # Django looks for it here
    return ApiKeyWsgiMiddleware(get_wsgi_application(), verifier, exempt=["/health"], **options)


@pytest.mark.parametrize("make", [flask_app, django_app])
def test_a_framework_sees_the_keys_record_and_a_revocation_is_seen_at_once(
    make: Any, keyctl: Keyctl, verifier: KeyVerifier
) -> None:
    """Promises 5 and 8."""
    raw_key, key_id = keyctl.create("billing")
    forwarded = ("X-Forwarded-For", "6.6.6.6, 203.0.113.9")
    with wsgi_server(make(verifier, trusted_proxies=["127.0.0.1"])) as server:
        assert ask(server, "/who?a=b", with_key(raw_key, forwarded)).json == {"id": key_id, "name": "billing"}
        refused = ask(server, "/who")
        assert (refused.status, refused.body) == (401, challenge.BODY)
        assert refused.headers["www-authenticate"] == ["ApiKey"]
        assert refused.headers["cache-control"] == ["no-store"]
        assert refused.headers["content-type"] == ["application/problem+json"]
        # This server joins them by a comma.
        assert ask(server, "/who", with_key(raw_key, ("API-Key", raw_key))).status == 401
        assert ask(server, "/health").json == {"health": "good"}
        assert ask(server, "/health/").status == 401
        keyctl.ok("revoke", "billing", "--yes")
        wait_for(lambda: ask(server, "/who", with_key(raw_key)).status == 401, within=2.0)
    verifier.flush()
    row, *_ = uses(keyctl, "ok")
    assert (row["client_ip"], row["method"], row["path"]) == ("203.0.113.9", "GET", "/who")


def call(app: Any, **environ: Any) -> tuple[str, list[tuple[str, str]], bytes]:
    said: list[Any] = []

    def start_response(status: str, headers: list[tuple[str, str]]) -> None:
        said.extend((status, headers))

    body = b"".join(app({"REQUEST_METHOD": "GET", "PATH_INFO": "/", "SCRIPT_NAME": ""} | environ, start_response))
    return said[0], said[1], body


def unreachable(_environ: Any, _start_response: Any) -> Any:
    raise AssertionError("the application must not be reached")


def who(environ: Any, start_response: Any) -> Any:
    start_response("200 OK", [])
    return [environ["alphalens_keyctl.api_key"].id.encode() if "alphalens_keyctl.api_key" in environ else b"nobody"]


@pytest.mark.one_database
def test_whatever_stands_in_the_header_every_refusal_is_the_same(verifier: KeyVerifier) -> None:
    """Promise 9."""
    app = ApiKeyWsgiMiddleware(unreachable, verifier)
    answers = [call(app, HTTP_API_KEY=value.decode("latin-1")) for value in HOSTILE_KEYS] + [call(app)]
    assert all(answer == ("401 Unauthorized", list(challenge.HEADERS), challenge.BODY) for answer in answers)
    assert call(app, REQUEST_METHOD="HEAD")[2] == b""


def test_while_nobody_can_be_asked_every_key_is_refused_like_any_other(tmp_path: Path) -> None:
    """Promise 9."""
    with KeyVerifier(str(tmp_path / "none.db"), usage="off") as verifier:
        app = ApiKeyWsgiMiddleware(unreachable, verifier)
        answer = call(app, HTTP_API_KEY=generate().reveal())
    assert answer == ("401 Unauthorized", list(challenge.HEADERS), challenge.BODY)


def test_paths_and_peers_as_servers_spell_them_arrive_in_the_log(keyctl: Keyctl, verifier: KeyVerifier) -> None:
    """Promise 8."""
    raw_key, key_id = keyctl.create("billing")
    app = ApiKeyWsgiMiddleware(who, verifier, trusted_proxies=["unix", "10.0.0.0/8"])
    for peer in ("", "<local>", "10.1.1.1", "192.0.2.1", None):
        environ = {} if peer is None else {"REMOTE_ADDR": peer}
        said = call(
            app, HTTP_API_KEY=raw_key, HTTP_X_FORWARDED_FOR="203.0.113.9", SCRIPT_NAME="/caf\xc3\xa9",
            PATH_INFO="/\xff x", **environ,
        )  # fmt: skip
        assert said[2] == key_id.encode()
    verifier.flush()
    rows = uses(keyctl)
    assert [row["client_ip"] for row in rows] == ["203.0.113.9"] * 3 + ["192.0.2.1", None]
    assert {row["path"] for row in rows} == {"/caf%C3%A9/%FF%20x"}


@pytest.mark.one_database
def test_an_exempt_path_carries_no_record_that_somebody_else_put_there(verifier: KeyVerifier) -> None:
    app = ApiKeyWsgiMiddleware(who, verifier, exempt="/health")
    assert call(app, PATH_INFO="/health", **{"alphalens_keyctl.api_key": "made up"})[2] == b"nobody"


@pytest.mark.one_database
def test_a_good_key_without_the_scope_gets_403_and_one_from_elsewhere_the_401_of_any(
    keyctl: Keyctl, verifier: KeyVerifier
) -> None:
    """Promises 9 and 13."""
    writer, key_id = keyctl.create("writer", "--scope", "prices:write")
    local, local_id = keyctl.create("local", "--allow-from", "192.0.2.0/24")
    for required in ("prices:read", lambda environ: environ["PATH_INFO"] == "/" and ["prices:read"]):
        app = ApiKeyWsgiMiddleware(unreachable, verifier, required_scopes=required)
        status, headers, body = call(app, HTTP_API_KEY=writer)
        assert status == "403 Forbidden"
        assert dict(headers)["WWW-Authenticate"] == 'ApiKey error="insufficient_scope", scope="prices:read"'
        assert json.loads(body)["code"] == "insufficient_scope"
        assert call(app, HTTP_API_KEY=writer, REQUEST_METHOD="HEAD")[2] == b""
    app = ApiKeyWsgiMiddleware(who, verifier, required_scopes="prices:write", trusted_proxies=["10.0.0.1"])
    assert call(app, HTTP_API_KEY=writer)[2] == key_id.encode()
    for environ, opens in (
        ({"REMOTE_ADDR": "192.0.2.1"}, True),
        ({"REMOTE_ADDR": "192.0.2.1", "HTTP_X_FORWARDED_FOR": "192.0.2.1"}, False),
        ({"REMOTE_ADDR": "10.0.0.1", "HTTP_X_FORWARDED_FOR": "192.0.2.1"}, True),
        ({"REMOTE_ADDR": "10.0.0.1"}, False),
        ({"REMOTE_ADDR": "198.51.100.1"}, False),
        ({"REMOTE_ADDR": ""}, False),
        ({}, False),
    ):
        status, _, body = call(app, HTTP_API_KEY=local, **environ)
        assert (status, body) == (("200 OK", local_id.encode()) if opens else ("401 Unauthorized", challenge.BODY)), (
            environ
        )
