"""Servers and requests for what stands in front of a service: real sockets, real processes."""

import http.client
import json
import signal
import socket
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import Any, NamedTuple
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import uvicorn

from tests.support.commands import Keyctl, Process, Result
from tests.support.waiting import wait_for

LIMIT = 30.0  # seconds after which an answer counts as missing
Headers = Iterable[tuple[str, str | bytes]]


class Answer(NamedTuple):
    """A response. Names of headers are in lower case, each with its values in order."""

    status: int
    headers: Mapping[str, Sequence[str]]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Address(NamedTuple):
    """Where a server listens: a port of 127.0.0.1 or a unix socket."""

    port: int = 0
    unix_socket: Path | None = None

    def connect(self) -> http.client.HTTPConnection:
        if self.unix_socket is None:
            return http.client.HTTPConnection("127.0.0.1", self.port, timeout=LIMIT)
        connection = http.client.HTTPConnection("localhost", timeout=LIMIT)
        connection.sock = socket.socket(socket.AF_UNIX)
        try:
            connection.sock.connect(str(self.unix_socket))
        except OSError:
            connection.close()
            raise
        return connection


def ask(address: Address, path: str = "/", headers: Headers = (), *, method: str = "GET") -> Answer:
    """One request over a connection of its own. A header may be given twice."""
    connection = address.connect()
    try:
        return send(connection, path, headers, method=method)
    finally:
        connection.close()


def send(
    connection: http.client.HTTPConnection, path: str = "/", headers: Headers = (), *, method: str = "GET"
) -> Answer:
    """One request over an open connection."""
    connection.putrequest(method, path)
    for name, value in headers:
        connection.putheader(name, value)
    connection.endheaders()
    response = connection.getresponse()
    found: dict[str, list[str]] = {}
    for name, value in response.getheaders():
        found.setdefault(name.lower(), []).append(value)
    return Answer(response.status, found, response.read())


def with_key(raw_key: str | bytes, *more: tuple[str, str | bytes]) -> Headers:
    return (("API-Key", raw_key), *more)


@contextmanager
def asgi_server(app: Any, **options: Any) -> Iterator[Address]:
    """An ASGI application under uvicorn, in a thread of this process."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    server = uvicorn.Server(
        uvicorn.Config(
            app, log_level="critical", proxy_headers=False, **{"lifespan": "on", "ws": "websockets-sansio"} | options
        )
    )
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    wait_for(lambda: server.started or not thread.is_alive())
    try:
        yield Address(listener.getsockname()[1])
    finally:
        server.should_exit = True
        thread.join(LIMIT)
        assert not thread.is_alive()


@contextmanager
def wsgi_server(app: Any) -> Iterator[Address]:
    """A WSGI application under the standard library's server, a thread a request."""

    class Threaded(ThreadingMixIn, WSGIServer):
        daemon_threads = True

    class Quiet(WSGIRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    with make_server("127.0.0.1", 0, app, server_class=Threaded, handler_class=Quiet) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield Address(server.server_port)
        finally:
            server.shutdown()
            thread.join(LIMIT)


class Served:
    """`serve` as a process."""

    def __init__(self, process: Process, log: Path) -> None:
        self.process = process
        self._log = log
        wait_for(lambda: any(line.get("event") == "listening" for line in self.log()) or not _runs(process.pid))
        address = next((line["address"] for line in self.log() if line.get("event") == "listening"), None)
        assert address is not None, self._log.read_text()
        if address.startswith("unix:"):
            self.address = Address(unix_socket=Path(address.removeprefix("unix:")))
        else:
            self.address = Address(int(address.rpartition(":")[2]))

    def log(self) -> list[dict[str, Any]]:
        """What it has logged so far: whole lines, each of which must be JSON."""
        whole = self._log.read_text().rpartition("\n")[0]
        return [json.loads(line) for line in whole.splitlines()]

    def log_text(self) -> str:
        return self._log.read_text()

    def ask(self, path: str = "/", headers: Headers = (), *, method: str = "GET") -> Answer:
        return ask(self.address, path, headers, method=method)

    def stop(self) -> Result:
        """SIGTERM, and what came of it."""
        self.process.kill(signal.SIGTERM)
        return self.process.wait()


@contextmanager
def serving(
    keyctl: Keyctl, *options: str, before: Sequence[str] = (), command: str = "serve", **more: Any
) -> Iterator[Served]:
    """`serve` on a free port, unless the options say otherwise; stopped at the end. `command` may be `serve-api`."""
    place = () if any(option.startswith(("--unix-socket", "--port")) for option in options) else ("--port", "0")
    log = keyctl.home / f"serve-{time.monotonic_ns()}.log"
    with log.open("wb") as stderr:
        process = keyctl.start(*before, command, *place, *options, stderr=stderr.fileno(), **more)
    try:
        served = Served(process, log)
        yield served
    finally:
        if _runs(process.pid):
            process.kill(signal.SIGTERM)
            process.wait()


def uses(keyctl: Keyctl, outcome: str | None = None) -> list[dict[str, Any]]:
    """The rows of the usage log, oldest first."""
    options = () if outcome is None else ("--outcome", outcome)
    rows: list[dict[str, Any]] = keyctl.ok("audit", "usage", "--json", *options).json
    return rows


def _runs(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


class Load:
    """Threads that ask as fast as they can, and count what they were told."""

    def __init__(self, address: Address, raw_key: str, threads: int = 3) -> None:
        self._address = address
        self._raw_key = raw_key
        self._stop = threading.Event()
        self.accepted = 0
        self.broken = 0
        self.others: set[int] = set()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._run) for _ in range(threads)]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(LIMIT)

    def _run(self) -> None:
        connection: http.client.HTTPConnection | None = None
        while not self._stop.is_set():
            try:
                connection = connection or self._address.connect()
                status = send(connection, headers=with_key(self._raw_key)).status
            except (OSError, http.client.HTTPException):
                connection = None
                with self._lock:
                    self.broken += 1
                time.sleep(0.01)
                continue
            with self._lock:
                if status == 204:
                    self.accepted += 1
                else:
                    self.others.add(status)
