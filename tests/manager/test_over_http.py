"""KeyManager over HTTPS: what it gives is what it gives over the database, and a server that is none is said to be so,
in time. Promises 1, 11 and 12."""

import json
import re
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import pytest

from alphalens_keyctl import KeyManager
from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.keyformat import generate
from alphalens_keyctl.logs.audit import GENESIS, Head, LogFilter
from alphalens_keyctl.manager import http_exchange
from alphalens_keyctl.manager.backend import Backend
from alphalens_keyctl.models import Action, Event, Use
from alphalens_keyctl.output.documents import key_object
from alphalens_keyctl.settings import Settings
from tests.support.commands import Keyctl
from tests.support.raw_keys import shows
from tests.support.uses import use
from tests.support.web import LIMIT, serving


@pytest.fixture
def ways(keyctl: Keyctl, database_url: str) -> Iterator[tuple[KeyManager, KeyManager]]:
    """The manager over the database, and the one over a server in front of it."""
    raw, _ = keyctl.create("admin", "--scope", "keyctl:admin")
    with (
        serving(keyctl, command="serve-api") as served,
        KeyManager(database_url) as here,
        KeyManager(f"http://127.0.0.1:{served.address.port}", api_key=raw) as there,
    ):
        yield here, there


def backend(way: KeyManager) -> Backend:
    """The way itself, of which the commands ask more than `KeyManager` does."""
    return way._backend


def read(way: KeyManager, wanted: LogFilter, *, reverse: bool = False) -> list[Event]:
    with backend(way).events(wanted, limit=3, reverse=reverse) as found:
        return list(found)


def seen(found: Any) -> Any:
    """A value as documents show it: times in whole seconds, no more."""
    if hasattr(found, "is_current"):
        return {name: value for name, value in key_object(found).items() if name not in ("use_count", "last_used_at")}
    if isinstance(found, tuple) and hasattr(found, "_asdict"):
        return {name: seen(value) for name, value in found._asdict().items()}
    if isinstance(found, list | Iterator):
        return [seen(each) for each in found]
    return found


# What is asked of both, by a word for the message.
ASKED: Final[dict[str, Callable[[KeyManager], Any]]] = {
    "all keys": lambda way: way.keys(where={"final": True}),
    "filters": lambda way: way.keys(
        where={"owner": "team-a", "label": ["a=b", "!c"], "scope": ["prices:read"], "older_than": "1m"}, sort="name"
    ),
    "a limit": lambda way: way.keys(limit=1, sort="uses"),
    "a key": lambda way: way.key("billing/eu \u00e9"),
    "the start of an id": lambda way: way.key(way.key("ci").id[:7]),
    "events": lambda way: way.events("ci"),
    "an event": lambda way: way.event(2),
    "events behind one": lambda way: read(way, LogFilter(after_seq=2)),
    "the newest first": lambda way: read(way, LogFilter(before_seq=9), reverse=True),
    "the last event": lambda way: backend(way).last_event(),
    "new events": lambda way: backend(way).new_events(Head(0, GENESIS, None), LogFilter(action=Action.CREATE)),
    "events of a name that several keys had": lambda way: way.events("billing/eu \u00e9", action="key.create"),
    "the head": lambda way: way.head(),
    "usage": lambda way: map(Use._make, way.usage("ci", outcome="ok", limit=2)),
    "the policy": lambda way: way.policy(),
    "a dry run": lambda way: way.revoke("ci", dry_run=True),
    "a dry run by filter": lambda way: way.suspend(where={"owner": "team-a"}, dry_run=True, in_use=True),
    "a dry run of an update": lambda way: way.update(
        "ci", new={"owner": "x", "labels": {"a": None}, "add_scopes": ["a:b"]}, dry_run=True
    ),
}
REFUSED: Final[dict[str, Callable[[KeyManager], Any]]] = {
    "no such event": lambda way: way.event(9999),
    "a place in another log": lambda way: backend(way).new_events(Head(1, GENESIS, None), LogFilter()),
    "no such key": lambda way: way.key("nobody"),
    "a raw key that is none of them": lambda way: way.key(generate().reveal()),
    "a name that is taken": lambda way: way.create("CI"),
    "too many": lambda way: way.revoke(where={"final": True}, most=1),
    "a filter that selects none of the named": lambda way: way.revoke("ci", where={"owner": "nobody"}),
    "a key that cannot be rotated": lambda way: way.rotate("gone"),
    "a key in use": lambda way: way.suspend(where={"owner": "team-a"}),
    "an abort of nothing": lambda way: way.abort_rotation("ci"),
    "the policy": lambda way: way.create("unowned"),
    "a new name that is taken": lambda way: way.update("ci", new={"name": "gone2"}),
}


def test_a_program_gets_the_same_values_and_errors_over_both_ways(
    keyctl: Keyctl, ways: tuple[KeyManager, KeyManager]
) -> None:
    here, there = ways
    name = "billing/eu \u00e9"
    here.create(name, owner="team-a", purpose="what for", labels={"a": "b"}, scopes=["prices:read"], expires="90d")
    here.rotate(name)
    raw = here.create("ci", owner="team-a", allow_from=None).raw_key
    here.create("gone")
    here.create("gone2")
    here.revoke("gone")
    # More often than the other way uses its own key, whose uses are written when it pleases the server.
    use(keyctl, raw, times=100, client_ip="192.0.2.1")
    here.set_policy(require=["owner"], max_lifetime="365d")
    for word, ask in ASKED.items():
        assert seen(ask(there)) == seen(ask(here)), word
    assert seen(there.key(raw)) == seen(here.key("ci"))
    for word, ask in REFUSED.items():
        told = []
        for way in (here, there):
            with pytest.raises(KeyctlError) as caught:
                ask(way)
            # An expiry that would pass is counted from the second in which it was asked for.
            hint = re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", "AT", caught.value.hint or "")
            told.append((caught.value.code, caught.value.message, hint))
        assert told[1] == told[0], word


def test_the_log_is_followed_over_a_server_as_it_grows(ways: tuple[KeyManager, KeyManager]) -> None:
    """Promise 13 is held there: `tests.manager.test_following` follows as each role."""
    here, there = ways
    here.create("one")
    last = here.head().seq
    coming = there.follow(after=last - 1)
    assert next(coming).seq == last
    here.create("two")
    new = [next(coming) for _ in range(2)]
    assert new == list(here.events(limit=2))
    assert next(here.follow(after=last)) == new[0]


@pytest.mark.one_database
def test_a_block_delivers_over_a_server_as_over_the_database(ways: tuple[KeyManager, KeyManager]) -> None:
    """Promises 2 and 3: well left, the key is current; an exception leaves nothing that opens."""
    here, there = ways
    with there.creating("job", owner="team-a", expires="30d") as new:
        assert here.key("job").status == "pending"
        assert not shows(new.raw_key, repr(new) + repr(vars(there)))
    assert here.key("job").status == "active"
    held: list[str] = []
    with there.rotating("job", store={"destination": "vault", "limit": 5.0}) as new:
        held.append(new.raw_key)
        assert here.key(new.key.id).status == "delivering"
    assert (here.key("job").id, here.key(held[0]).status) == (new.key.id, "active")
    for block in (there.creating("none"), there.rotating("job")):
        with pytest.raises(ZeroDivisionError), block as failed:
            raise ZeroDivisionError
        assert here.key(failed.key.id).status == "revoked"
    assert not there.create("job", if_missing=True).made
    assert there.revoke("job").changed[0].status == "revoked"


Answering = Callable[[socket.socket], None]


@contextmanager
def server(answering: Answering) -> Iterator[int]:
    """A server that answers each connection in its own way; its port."""
    listener = socket.create_server(("127.0.0.1", 0))
    threads: list[threading.Thread] = []

    def answer(connection: socket.socket) -> None:
        with suppress(OSError), connection:
            connection.recv(1 << 16)
            answering(connection)

    def accept() -> None:
        with suppress(OSError):
            while True:
                threads.append(threading.Thread(target=answer, args=(listener.accept()[0],)))
                threads[-1].start()

    accepting = threading.Thread(target=accept)
    accepting.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for thread in (accepting, *threads):
            thread.join(LIMIT)


def saying(text: str | bytes) -> Answering:
    return lambda connection: connection.sendall(text.encode() if isinstance(text, str) else text)


def with_body(body: str, kind: str = "application/json", status: str = "200 OK", more: str = "") -> Answering:
    return saying(f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n{more}\r\n{body}")


# Connections whose other end held out until the server had had enough.
HELD: Final[list[socket.socket]] = []


def dripping(connection: socket.socket) -> None:
    """A byte now and then, for as long as anybody would bear."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nX-Long: ")
    with suppress(OSError):
        for _ in range(400):
            connection.sendall(b"x")
            time.sleep(0.02)
        HELD.append(connection)


def silent(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.settimeout(LIMIT)
        connection.recv(1)


PROBLEM: Final = "application/problem+json"
RAW: Final = generate()
NO_SERVERS: Final[dict[str, tuple[Answering, Code]]] = {
    "closes": (lambda _connection: None, Code.SERVER_UNREACHABLE),
    "is silent": (silent, Code.SERVER_UNREACHABLE),
    "drips": (dripping, Code.SERVER_UNREACHABLE),
    "is no HTTP": (saying("SSH-2.0-OpenSSH_9.2\r\n"), Code.SERVER_ERROR),
    "is binary": (saying(bytes(range(256)) * 4), Code.SERVER_ERROR),
    "has a head without end": (saying("HTTP/1.1 200 OK\r\n" + "X: y\r\n" * 200 + "\r\n"), Code.SERVER_ERROR),
    "has a line without end": (saying("HTTP/1.1 200 OK\r\nX: " + "y" * 70000 + "\r\n\r\n"), Code.SERVER_ERROR),
    "is cut off": (
        saying("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{"),
        Code.SERVER_UNREACHABLE,
    ),
    "is a page": (with_body("<html>hello</html>", "text/html"), Code.SERVER_ERROR),
    "is no JSON": (with_body("{"), Code.SERVER_ERROR),
    "nests": (with_body("[" * 50000), Code.SERVER_ERROR),
    "is another document": (with_body('{"hello": "world"}'), Code.SERVER_ERROR),
    "is a list": (with_body("[]"), Code.SERVER_ERROR),
    "is null": (with_body("null"), Code.SERVER_ERROR),
    "has wrong types": (with_body(json.dumps(dict.fromkeys(("id", "name"), 7))), Code.SERVER_ERROR),
    "redirects": (with_body("", status="307 No", more="Location: https://example.com/\r\n"), Code.SERVER_ERROR),
    "is busy in front": (with_body("", "text/html", "502 Bad Gateway"), Code.SERVER_ERROR),
    "refuses": (with_body("{}", PROBLEM, "401 Unauthorized"), Code.UNAUTHENTICATED),
    "has a problem of its own": (with_body('{"title": "Oops"}', PROBLEM, "500 Oops"), Code.SERVER_ERROR),
    "has a code of its own": (with_body('{"code": "teapot", "detail": "x"}', PROBLEM, "418 Teapot"), Code.SERVER_ERROR),
    "repeats the key": (
        with_body(json.dumps({"code": "usage", "detail": f"{RAW.reveal()}\x1b[2J"}), PROBLEM, "422 No"), Code.USAGE
    ),
}  # fmt: skip


def test_a_server_that_answers_with_something_else_slowly_or_not_at_all_is_said_to_be_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Promise 11: within the limits of a connection and of an answer. Promises 1 and 12: nothing repeats the key, or
    moves the cursor."""
    monkeypatch.setattr(http_exchange, "_PAUSES", (0.01,))
    settings = Settings("unused", connect_timeout=1.0, query_timeout=1.0)
    for word, (answering, code) in NO_SERVERS.items():
        for ask in (lambda way: way.key("ci"), lambda way: list(way.keys()), lambda way: way.create("x")):
            with server(answering) as port:
                way = KeyManager(f"http://127.0.0.1:{port}", api_key=RAW, settings=settings)
                with pytest.raises(KeyctlError) as caught:
                    ask(way)
                way.close()
            # A list takes no document for one, whole or cut off.
            assert caught.value.code in (code, Code.SERVER_ERROR), (word, caught.value)
            assert caught.value.code is code or "a stream" in caught.value.message, (word, caught.value)
            said = f"{caught.value.message} {caught.value.hint} {caught.value!r}"
            assert not shows(RAW.reveal(), said), word
            assert said.isprintable(), word
            assert not HELD


def test_a_stream_that_breaks_off_is_no_list_that_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_exchange, "_PAUSES", ())
    head = "HTTP/1.1 200 OK\r\nContent-Type: application/jsonl\r\n"
    for said in (
        f"{head}Transfer-Encoding: chunked\r\n\r\n",
        f"{head}Transfer-Encoding: chunked\r\n\r\n5\r\n",
        f"{head}Transfer-Encoding: chunked\r\n\r\n2\r\n{{}}\r\n0\r\n\r\n",
        f"{head}Transfer-Encoding: chunked\r\n\r\n3\r\n{{\n\n\r\n0\r\n\r\n",
        f"{head}\r\n",
    ):
        with (
            server(saying(said)) as port,
            KeyManager(f"http://127.0.0.1:{port}", api_key=RAW, settings=Settings("unused")) as way,
            pytest.raises(KeyctlError) as caught,
        ):
            list(way.keys())
        assert caught.value.code in (Code.SERVER_ERROR, Code.SERVER_UNREACHABLE)


@pytest.mark.one_database
def test_tls_is_verified_and_the_key_goes_to_no_other_server(
    keyctl: Keyctl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A certificate that nobody vouches for, or for another host, gets no key."""
    cert, key = certificate(tmp_path, "localhost")
    raw, _ = keyctl.create("admin", "--scope", "keyctl:admin")
    with serving(keyctl, "--tls-cert", str(cert), "--tls-key", str(key), command="serve-api") as served:
        port = served.address.port
        for host, trusted in (("localhost", False), ("127.0.0.1", True), ("localhost", True)):
            monkeypatch.setenv("SSL_CERT_FILE", str(cert) if trusted else "/dev/null")
            with KeyManager(f"https://{host}:{port}", api_key=raw) as way:
                if (host, trusted) == ("localhost", True):
                    assert way.key("admin").name == "admin"
                    continue
                with pytest.raises(KeyctlError, match="certificate") as caught:
                    way.key("admin")
                assert caught.value.code is Code.SERVER_UNREACHABLE
        said = keyctl("--server", f"http://127.0.0.1:{port}", "list", environment={"ALPHALENS_KEYCTL_API_KEY": raw})
        assert said.status == 7


def certificate(folder: Path, host: str) -> tuple[Path, Path]:
    """A certificate for a host, which vouches for itself, and its key."""
    cert, key = folder / "cert.pem", folder / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
         "-subj", f"/CN={host}", "-addext", f"subjectAltName=DNS:{host}", "-keyout", str(key), "-out", str(cert)],
        check=True, capture_output=True,
    )  # fmt: skip
    return cert, key
