"""What `serve` answers, as a process of its own: yes, no, and to those who ask after its health.

Promises 1, 8 and 9.
"""

import signal
import threading
from pathlib import Path
from urllib.parse import unquote

import pytest

from alphalens_keyctl.web import challenge
from tests.support.commands import Keyctl
from tests.support.waiting import wait_for
from tests.support.web import Address, Headers, ask, send, serving, uses, with_key

ODD_NAME = "Ключ “1” ;,= é😀%0d%0aX"
ODD_OWNER = 'Ünit <b> "q" 100%'


def test_a_good_key_is_204_with_who_it_is_and_no_name_can_break_a_header(keyctl: Keyctl) -> None:
    raw_key, key_id = keyctl.create(ODD_NAME, "--owner", ODD_OWNER)
    plain, plain_id = keyctl.create("plain")
    with serving(keyctl) as served:
        answer = served.ask("/any/path?at=all", with_key(raw_key))
        assert (answer.status, answer.body) == (204, b"")
        assert answer.headers["x-key-id"] == [key_id]
        for header, text in (("x-key-name", ODD_NAME), ("x-key-owner", ODD_OWNER)):
            (value,) = answer.headers[header]
            assert unquote(value, errors="strict") == text
            assert value.isascii()
            assert not set(value) & set(' ",;<>\r\n')
        ownerless = served.ask("/", with_key(plain))
        assert ownerless.headers["x-key-id"] == [plain_id]
        assert "x-key-owner" not in ownerless.headers
        for method in ("HEAD", "POST", "DELETE", "OPTIONS", "PATCH"):
            assert served.ask("/", with_key(plain), method=method).status == 204


@pytest.mark.one_database
def test_every_refusal_is_the_same_to_the_byte_and_no_raw_key_is_ever_logged(keyctl: Keyctl) -> None:
    """Promises 1 and 9."""
    from alphalens_keyctl.keyformat import generate

    good, key_id = keyctl.create("good")
    revoked, _ = keyctl.create("revoked")
    keyctl.ok("revoke", "revoked", "--yes")
    unknown = generate().reveal()
    asked: list[Headers] = [
        (), with_key(""), with_key(revoked), with_key(unknown), with_key(good[:-1]), with_key(good, ("API-Key", good)),
        with_key("\xff\xfe"), with_key("a" * 30_000),
    ]  # fmt: skip
    with serving(keyctl, "--access-log") as served:
        assert served.ask("/", with_key(good)).status == 204
        answers = [served.ask("/x", headers) for headers in asked]
        # Where a key does not belong it may still stand.
        served.ask(f"/{good}?key={good}", with_key(good, ("User-Agent", good)))
        encoded = good.replace("_", "%5f")
        served.ask(f"/{encoded}", with_key(good, ("X-Request-Id", good), ("traceparent", good)))
        assert served.stop().status == 0
        log = served.log_text()
    assert len({answer.headers["x-request-id"][0] for answer in answers}) == len(answers)
    same = {name: values for name, values in answers[0].headers.items() if name != "x-request-id"}
    assert all(
        answer == (401, same | {"x-request-id": answer.headers["x-request-id"]}, challenge.BODY) for answer in answers
    )
    assert "server" not in answers[0].headers
    for raw_key in (good, revoked, unknown):
        assert raw_key[-49:] not in log
    requests = [line for line in served.log() if line["event"] == "request"]
    assert len(requests) == len(asked) + 3
    assert [line["reason"] for line in requests[:5]] == ["ok", "malformed", "malformed", "revoked", "unknown"]
    assert requests[0]["key_id"] == key_id
    rows = uses(keyctl)
    assert good[-49:] not in str(rows)
    assert {row["outcome"] for row in rows} == {"ok", "malformed", "revoked", "unknown"}


@pytest.mark.one_database
def test_a_line_of_a_request_has_its_id_its_trace_and_its_duration_and_the_answer_has_the_id(keyctl: Keyctl) -> None:
    """Promises 1 and 12: an id that is none is not taken, whatever it tries."""
    raw_key, _ = keyctl.create("good")
    traced = ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
    with serving(keyctl, "--access-log") as served:
        first = served.ask("/", with_key(raw_key, ("X-Request-Id", "req-1"), traced))
        second = served.ask("/", [("X-Request-Id", "req-1"), ("X-Request-Id", "req-2"), traced, traced])
        # A parser lets these through, as `\xc2\x9b` begins a sequence like ESC [; with an ESC a request is not read.
        hostile = [served.ask("/%1b[2J", [(name, b"\xc2\x9b2J <b>")]) for name in ("X-Request-Id", "traceparent")]
        assert "x-request-id" not in served.ask("/", [("X-Request-Id", "\x1b]8;;x\x07")]).headers
        served.stop()
        lines = [line for line in served.log() if line["event"] == "request"]
        log = served.log_text()
    assert (first.status, first.headers["x-request-id"]) == (204, ["req-1"])
    assert [line["trace_id"] for line in lines] == ["4bf92f3577b34da6a3ce929d0e0e4736", None, None, None]
    assert [line["request_id"] for line in lines] == [
        answer.headers["x-request-id"][0] for answer in (first, second, *hostile)
    ]
    assert len({line["request_id"] for line in lines}) == 4
    assert all(0 < line["duration_ms"] < 60_000 for line in lines)
    assert log.isascii()
    assert not set(log) & {chr(code) for code in range(32) if code != 10}


@pytest.mark.one_database
def test_without_an_access_log_no_id_is_answered(keyctl: Keyctl) -> None:
    with serving(keyctl) as served:
        assert "x-request-id" not in served.ask("/", [("X-Request-Id", "req-1")]).headers


@pytest.mark.one_database
def test_nothing_is_logged_of_a_request_unless_asked_and_nothing_ever_goes_to_stdout(keyctl: Keyctl) -> None:
    """Promise 10."""
    raw_key, _ = keyctl.create("good")
    with serving(keyctl) as served:
        for _ in range(5):
            served.ask("/", with_key(raw_key))
            served.ask("/")
        result = served.stop()
        assert [line["event"] for line in served.log()] == ["listening", "stopped"]
    assert (result.status, result.stdout) == (0, "")


@pytest.mark.one_database
def test_with_quiet_it_says_nothing_at_all(keyctl: Keyctl, tmp_path: Path) -> None:
    place = tmp_path / "s"
    process = keyctl.start("--quiet", "serve", "--unix-socket", str(place))

    def answers() -> bool:
        try:
            return ask(Address(unix_socket=place), "/healthz").status == 204
        except OSError:
            return False

    wait_for(answers)
    process.kill(signal.SIGTERM)
    assert process.wait() == (0, "", "")


@pytest.mark.one_database
def test_health_is_never_200_and_never_an_answer_about_another_request(keyctl: Keyctl) -> None:
    """An Envoy without its prefix takes 200 alone; the others say what they ask about."""
    raw_key, _ = keyctl.create("good")
    with serving(keyctl) as served:
        for path in ("/healthz", "/readyz", "/healthz?verbose"):
            assert served.ask(path).status == 204, path
            for name in ("X-Original-URI", "X-Original-Method", "X-Forwarded-Uri", "X-Forwarded-Method"):
                assert served.ask(path, [(name, "/healthz")]).status == 401, (path, name)
                assert served.ask(path, with_key(raw_key, (name, "/healthz"))).status == 204
        for path in ("/healthz/", "/health", "//healthz", "/ext_authz/healthz", "/ext_authz/readyz", "/Healthz"):
            assert served.ask(path).status == 401, path
        assert served.ask("/ext_authz/healthz", with_key(raw_key)).status == 200
    assert not uses(keyctl, "unknown")


@pytest.mark.one_database
def test_what_a_proxy_says_is_believed_only_of_one_that_is_trusted(keyctl: Keyctl) -> None:
    """Promise 8."""
    raw_key, _ = keyctl.create("good")
    said = (
        ("X-Forwarded-For", "6.6.6.6, 203.0.113.9"), ("X-Forwarded-Method", "PUT"),
        ("X-Forwarded-Uri", "/orders/1?secret=2"),
    )  # fmt: skip
    with serving(keyctl) as served:
        served.ask("/own", with_key(raw_key, *said))
    with serving(keyctl, "--trusted-proxy", "10.0.0.0/8", "--trusted-proxy", "127.0.0.1") as served:
        served.ask("/own", with_key(raw_key, *said))
        served.ask("/own", with_key(raw_key))
    assert [(row["client_ip"], row["method"], row["path"]) for row in uses(keyctl)] == [
        ("127.0.0.1", "GET", "/own"),
        ("203.0.113.9", "PUT", "/orders/1"),
        ("127.0.0.1", "GET", "/own"),
    ]


def test_a_revocation_holds_for_the_next_requests_of_an_open_connection(keyctl: Keyctl) -> None:
    """Promise 5."""
    raw_key, _ = keyctl.create("good")
    with serving(keyctl) as served:
        connection = served.address.connect()
        assert [send(connection, headers=with_key(raw_key)).status for _ in range(5)] == [204] * 5
        keyctl.ok("revoke", "good", "--yes")
        wait_for(lambda: send(connection, headers=with_key(raw_key)).status == 401, within=2.0)
        connection.close()


def test_many_clients_at_once_each_get_their_own_keys_name(keyctl: Keyctl) -> None:
    made = [keyctl.create(f"key-{number}") for number in range(4)]
    wrong: list[str] = []
    with serving(keyctl, "--usage", "best-effort", "--max-staleness", "0.5") as served:

        def client(raw_key: str, key_id: str) -> None:
            connection = served.address.connect()
            for _ in range(50):
                answer = send(connection, headers=with_key(raw_key))
                if answer.headers.get("x-key-id") != [key_id]:
                    wrong.append(str(answer))
            connection.close()

        threads = [threading.Thread(target=client, args=each) for each in made]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert wrong == []
    assert len(uses(keyctl, "ok")) == 200


@pytest.mark.one_database
@pytest.mark.parametrize("shape", ["traefik", "caddy", "envoy"])
def test_the_question_of_each_proxy_in_its_own_shape_is_answered_as_that_proxy_expects(
    shape: str, keyctl: Keyctl
) -> None:
    """As their sources send it; nginx is asked itself, in a test of its own."""
    raw_key, key_id = keyctl.create("good")
    forwarded = (("X-Forwarded-For", "203.0.113.9"), ("X-Forwarded-Proto", "https"), ("X-Forwarded-Host", "a.example"))
    # Traefik and Caddy ask by GET, whatever the client's method, at the configured address, without a body.
    about = (("X-Forwarded-Method", "POST"), ("X-Forwarded-Uri", "/orders?x=1"))
    with serving(keyctl, "--trusted-proxy", "127.0.0.1") as served:
        if shape == "envoy":
            # The client's method and path behind the prefix; the address of Envoy itself last.
            hops = ("X-Forwarded-For", "203.0.113.9,127.0.0.1")
            extra = (hops, ("Content-Length", "0"), ("x-envoy-internal", "true"))
            path, method = "/ext_authz/orders?x=1", "POST"
        else:
            path, method, extra = "/verify", "GET", (*forwarded, *about)  # type: ignore[assignment]  # other headers
        good = served.ask(path, with_key(raw_key, *extra), method=method)
        bad = served.ask(path, extra, method=method)
    assert good.status == (200 if shape == "envoy" else 204)
    assert good.body == b""
    assert good.headers["x-key-id"] == [key_id]
    assert good.headers.get("x-envoy-auth-headers-to-remove") == (
        ["api-key,x-key-owner,x-key-scopes"] if shape == "envoy" else None
    )
    assert (bad.status, bad.body) == (401, challenge.BODY)
    (row,) = uses(keyctl, "ok")
    assert (row["client_ip"], row["method"], row["path"]) == ("203.0.113.9", "POST", "/orders")


@pytest.mark.one_database
def test_a_websockets_handshake_and_a_body_are_questions_like_any_other(keyctl: Keyctl) -> None:
    """Proxies pass on what the client sent, Upgrade too."""
    raw_key, _ = keyctl.create("good")
    upgrade = (("Connection", "Upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13"))
    with serving(keyctl) as served:
        assert served.ask("/", with_key(raw_key, *upgrade)).status == 204
        assert served.ask("/", upgrade).status == 401
        connection = served.address.connect()
        for _ in range(3):
            connection.request("POST", "/", body=b"x" * 100_000, headers={"API-Key": raw_key})
            response = connection.getresponse()
            assert (response.status, response.read()) == (204, b"")
        connection.close()
        assert [line["event"] for line in served.log()] == ["listening"]


def test_a_question_with_scopes_is_answered_403_and_an_address_counts_where_a_trusted_proxy_names_it(
    keyctl: Keyctl,
) -> None:
    """Promises 5, 8, 9 and 13."""
    reader, _ = keyctl.create("reader", "--scope", "prices:*", "--scope", "reports:read")
    free, _ = keyctl.create("free")
    local, _ = keyctl.create("local", "--allow-from", "192.0.2.0/24", "--allow-from", "127.0.0.1")
    named = ("X-Forwarded-For", "192.0.2.9")
    with serving(keyctl, "--trusted-proxy", "127.0.0.1") as served:
        for query, status in (
            ("", 204),
            ("?scope=prices:read", 204),
            ("?scope=prices%3Aread&scope=reports:read", 204),
            ("?x=1&scope=prices:read", 204),
            ("?scope=reports:write", 403),
            ("?scope=prices:read&scope=reports:write", 403),
            ("?scope=", 403),
            ("?scope", 403),
            ("?scope=prices:read+reports:read", 403),
            ("?scope=keyctl:admin", 403),
            (f"?scope={'a' * 5000}", 403),
        ):
            answer = served.ask(f"/verify{query}", with_key(reader))
            assert answer.status == status, query
            assert ("x-key-scopes" in answer.headers) is (status == 204)
            assert answer.headers.get("x-key-scopes", ["prices:* reports:read"]) == ["prices:* reports:read"]
            # Nobody without a good key learns what is needed.
            assert (refused := served.ask(f"/verify{query}")).status == 401, query
            assert refused.body == challenge.BODY
        assert served.ask("/verify?scope=prices:read", with_key(free)).status == 204
        assert "x-key-scopes" not in served.ask("/", with_key(free)).headers
        # Envoy's question has the client's own query.
        asked = served.ask("/ext_authz/x?scope=reports:write", with_key(reader))
        assert (asked.status, asked.headers["x-key-scopes"]) == (200, ["prices:* reports:read"])
        assert asked.headers["x-envoy-auth-headers-to-remove"] == ["api-key,x-key-owner"]
        removed = served.ask("/ext_authz/x", with_key(free)).headers["x-envoy-auth-headers-to-remove"]
        assert removed == ["api-key,x-key-owner,x-key-scopes"]
        assert served.ask("/", with_key(local, named)).status == 204
        # The proxy's own address is nobody's.
        for headers in (
            (),
            (("X-Forwarded-For", ""),),
            (("X-Forwarded-For", "198.51.100.1"),),
            (named, ("X-Forwarded-For", "x")),
        ):
            elsewhere = served.ask("/", with_key(local, *headers))
            assert (elsewhere.status, elsewhere.body) == (401, challenge.BODY), headers
        keyctl.ok("update", "reader", "--unset", "scope:prices:*")
        wait_for(lambda: served.ask("/verify?scope=prices:read", with_key(reader)).status == 403, within=2.0)
    assert {use["key_name"] for use in uses(keyctl, "scope")} == {"reader"}
    assert {use["client_ip"] for use in uses(keyctl, "address")} == {"127.0.0.1", "198.51.100.1"}
    with serving(keyctl) as served:  # no proxy is trusted
        for headers in ((), (named,)):
            assert served.ask("/", with_key(local, *headers)).status == 401
