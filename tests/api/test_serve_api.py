"""`serve-api` as a process: where it listens, how it ends, what a client or a server that dies leaves behind."""

import http.client
import json
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.commands import Keyctl
from tests.support.web import LIMIT, Address, Served, serving

JSON: Final = "application/json"


@pytest.fixture
def admin(keyctl: Keyctl) -> str:
    """The raw key of an administrator."""
    return keyctl.ok("create", "admin", "--scope", "keyctl:admin").stdout.strip()


@pytest.fixture
def served(keyctl: Keyctl, admin: str) -> Iterator[Served]:
    with serving(keyctl, "--access-log", command="serve-api") as served:
        yield served


def ask(address: Address, raw: str, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    """Status and document of an answer."""
    connection = address.connect()
    try:
        headers = {"API-Key": raw, "Content-Type": JSON}
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        response = connection.getresponse()
        text = response.read()
        return response.status, json.loads(text) if text else None
    finally:
        connection.close()


def verdict(keyctl: Keyctl, raw: str) -> str:
    reason: str = keyctl("verify", "--json", stdin=raw.encode()).json["reason"]
    return reason


def cut(address: Address, raw: str, path: str, body: Any, *, keep: int | None) -> None:
    """Send a request, or the first `keep` bytes of it, and break the connection off before the answer is read."""
    text = json.dumps(body)
    request = (
        f"POST {path} HTTP/1.1\r\nHost: x\r\nAPI-Key: {raw}\r\nContent-Type: {JSON}\r\n"
        f"Content-Length: {len(text)}\r\n\r\n{text}"
    ).encode()
    connection = socket.create_connection(("127.0.0.1", address.port), timeout=LIMIT)
    connection.sendall(request[:keep])
    connection.close()


def test_a_raw_key_is_in_the_one_answer_and_nowhere_else(keyctl: Keyctl, served: Served, admin: str) -> None:
    """Promise 1: also not where a client puts it into a URL, a header or a body."""
    status, made = ask(served.address, admin, "POST", "/v1/keys", {"name": "billing"})
    assert status == 201
    raw = made["raw_key"]
    for path in (f"/v1/keys/{raw}", f"/v1/keys?name={raw}", f"/v1/%61{raw}"):
        assert ask(served.address, admin, "GET", path)[0] == 422
    ask(served.address, admin, "POST", "/v1/keys", {"name": raw})
    ask(served.address, raw, "GET", "/v1/self")
    said = [ask(served.address, admin, "GET", path)[1] for path in ("/v1/keys", "/v1/events", "/v1/usage")]
    result = served.stop()
    assert result.status == 0
    for secret in (raw[17:], admin[17:]):
        assert secret not in served.log_text()
        assert secret not in json.dumps(said)
        assert secret not in json.dumps([keyctl.ok("audit", *more, "--json").json for more in ((), ("usage",))])
    assert {line["request_id"] for line in served.log() if line["event"] == "request"}


def test_a_client_that_dies_leaves_a_key_that_opens_nothing_or_one_that_was_asked_for(
    keyctl: Keyctl, served: Served, admin: str
) -> None:
    """Promise 2, promise 3, over a connection that breaks off at each step."""
    steps = ("before", "after", "activating")
    old = {step: keyctl.ok("create", step).stdout.strip() for step in steps}
    for step in steps:
        rotate = f"/v1/keys/{step}/rotate"
        if step == "before":  # the answer
            for keep in (10, 120, None):
                cut(served.address, admin, rotate, {"lease": 1}, keep=keep)
            continue
        made = ask(served.address, admin, "POST", rotate, {"lease": 1})[1]
        if step == "activating":
            path = f"/v1/keys/{made['key']['id']}/activate"
            cut(served.address, admin, path, {"delivered_to": ["vault"]}, keep=-3)
        assert verdict(keyctl, made["raw_key"]) == "pending", step
        assert verdict(keyctl, old[step]) == "ok", step
    time.sleep(2.1)  # the lease, by the clock of the database, which on SQLite counts whole seconds
    for step in steps:
        status, new = ask(served.address, admin, "POST", f"/v1/keys/{step}/rotate", {})
        assert status == 201, (step, new)
        assert ask(served.address, admin, "POST", f"/v1/keys/{new['key']['id']}/activate", {})[0] == 200, step
        assert (verdict(keyctl, new["raw_key"]), verdict(keyctl, old[step])) == ("ok", "ok"), step
    assert keyctl.ok("audit", "verify")


def test_a_connection_that_breaks_off_at_any_step_of_a_delivery_loses_no_key(
    keyctl: Keyctl, served: Served, admin: str
) -> None:
    """Promise 3: the old key opens all the time, and each step may be asked for again."""
    old = keyctl.ok("create", "billing").stdout.strip()
    made = ask(served.address, admin, "POST", "/v1/keys/billing/rotate", {})[1]
    new, path = made["raw_key"], f"/v1/keys/{made['key']['id']}"
    before = "pending"
    for step, body, after, verdict_of_new in (
        ("deliver", {"to": ["vault"]}, "delivering", "ok"),
        ("activate", {"delivered_to": ["vault"]}, "active", "ok"),
        ("take-back", {"destinations": "vault"}, "delivering", "ok"),
        ("discard", {"reason": "check_failed"}, "revoked", "revoked"),
    ):
        cut(served.address, admin, f"{path}/{step}", body, keep=-3)
        assert ask(served.address, admin, "GET", f"{path}/standing")[1]["key"]["status"] == before, step
        cut(served.address, admin, f"{path}/{step}", body, keep=None)
        # 409 where the request whose answer was lost has taken the way back already.
        assert ask(served.address, admin, "POST", f"{path}/{step}", body)[0] in (200, 409), step
        assert ask(served.address, admin, "GET", f"{path}/standing")[1]["key"]["status"] == after, step
        assert (verdict(keyctl, new), verdict(keyctl, old)) == (verdict_of_new, "ok"), step
        before = after
    assert keyctl.ok("show", "billing", "--json").json["id"] == made["previous"]["id"]
    assert keyctl.ok("audit", "verify")


def test_a_server_that_is_killed_between_the_steps_goes_on_with_them(keyctl: Keyctl, admin: str) -> None:
    """Promise 2, promise 3: the lease is in the database, so another process can take the next step."""
    old = keyctl.ok("create", "billing").stdout.strip()
    with serving(keyctl, command="serve-api") as first:
        made = ask(first.address, admin, "POST", "/v1/keys/billing/rotate", {"lease": 3600})[1]
        first.process.kill(signal.SIGKILL)
        first.process.wait()
    assert (verdict(keyctl, made["raw_key"]), verdict(keyctl, old)) == ("pending", "ok")
    assert keyctl("rotate", "billing").status == 6, "the attempt runs on, and no other may take it"
    with serving(keyctl, command="serve-api") as second:
        activate = f"/v1/keys/{made['key']['id']}/activate"
        assert ask(second.address, admin, "POST", activate, {"delivered_to": ["vault"]})[0] == 200
    assert (verdict(keyctl, made["raw_key"]), verdict(keyctl, old)) == ("ok", "ok")
    assert keyctl.ok("audit", "verify")


@pytest.mark.one_database
def test_requests_that_do_not_come_or_cannot_be_read_are_ended(served: Served, admin: str) -> None:
    """Promise 14: such a client harms itself alone."""
    with socket.create_connection(("127.0.0.1", served.address.port), timeout=LIMIT) as odd:
        odd.sendall(b"GET / HTTP/1.1\r\nbad header\r\n\r\n")
        assert odd.recv(1000).startswith(b"HTTP/1.1 400")
    large = [("Content-Length", str(1024 * 1024 + 1))]
    connection = served.address.connect()
    connection.putrequest("POST", "/v1/keys")
    for name, value in (("API-Key", admin), *large):
        connection.putheader(name, value)
    connection.endheaders()
    assert connection.getresponse().status == 413, "refused before it has come"
    connection.close()
    body = json.dumps({"name": "large", "purpose": "x" * 100_000})
    assert ask(served.address, admin, "POST", "/v1/keys", json.loads(body))[0] == 422
    assert ask(served.address, admin, "GET", "/v1/self")[0] == 200


@pytest.mark.one_database
def test_several_workers_answer_a_repeated_request_once(keyctl: Keyctl, admin: str) -> None:
    with serving(keyctl, "--workers", "2", command="serve-api") as served:
        seen = set()
        for _ in range(6):
            connection = served.address.connect()
            headers = {"API-Key": admin, "Content-Type": JSON, "Idempotency-Key": "k1"}
            connection.request("POST", "/v1/keys", '{"name": "billing"}', headers)
            response = connection.getresponse()
            assert response.status == 201
            seen.add(json.loads(response.read())["key"]["id"])
            connection.close()
        assert len(seen) == 1
        assert served.stop().status == 0


@pytest.mark.one_database
@pytest.mark.parametrize(
    ("options", "status", "said"),
    [
        (("--host", "0.0.0.0"), 2, "in the clear"),
        (("--host", "::"), 2, "in the clear"),
        (("--host", ""), 2, "in the clear"),
        (("--tls-cert", "c.pem"), 2, "belong together"),
        (("--unix-socket", "s", "--port", "1"), 2, "excludes"),
        (("--tls-cert", "{cert}", "--tls-key", "none.pem"), 7, "cannot be read"),
        (("--tls-cert", "{cert}", "--tls-key", "{other}"), 7, "do not belong together"),
        (("--tls-cert", "{cert}", "--tls-key", "{cert}"), 7, "PEM"),
        (("--tls-cert", "{cert}", "--tls-key", "{open}"), 7, "everybody"),
    ],
)
def test_where_it_may_not_listen(
    keyctl: Keyctl, admin: str, pem: dict[str, Path], options: Sequence[str], status: int, said: str
) -> None:
    given = [each.format(**{name: str(path) for name, path in pem.items()}) for each in options]
    result = keyctl("serve-api", *given)
    assert result.status == status, result
    assert said in result.stderr


@pytest.mark.one_database
def test_tls(keyctl: Keyctl, admin: str, pem: dict[str, Path]) -> None:
    files = ("--tls-cert", str(pem["cert"]), "--tls-key", str(pem["key"]))
    with serving(keyctl, *files, command="serve-api") as served:
        context = ssl.create_default_context(cafile=str(pem["cert"]))
        connection = http.client.HTTPSConnection("localhost", served.address.port, timeout=LIMIT, context=context)
        connection.request("GET", "/v1/self", headers={"API-Key": admin})
        assert connection.getresponse().status == 200
        connection.close()
        assert served.stop().status == 0


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A certificate for localhost, its key, the key of another one, and its key where everybody may read it."""
    folder = tmp_path_factory.mktemp("tls")
    for name in ("cert", "second"):
        key = folder / ("key.pem" if name == "cert" else "other.pem")
        subprocess.run(
            [
                *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
                *("-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"),
                *("-keyout", str(key), "-out", str(folder / f"{name}.pem")),
            ],
            check=True,
            capture_output=True,
        )
        key.chmod(0o600)
        (folder / f"{name}.pem").chmod(0o600)
    everybodys = folder / "open.pem"
    everybodys.write_bytes((folder / "key.pem").read_bytes())
    everybodys.chmod(0o644)
    names = {"cert": "cert.pem", "key": "key.pem", "other": "other.pem", "open": "open.pem"}
    return {name: folder / file for name, file in names.items()}
