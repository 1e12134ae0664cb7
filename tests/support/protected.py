"""A service to protect, which says what reached it."""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

from tests.support.web import Address

# RFC 6455, 1.3
_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class _Echo(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.headers.get("Upgrade", "").lower() == "websocket":
            self._talk()
            return
        size = self._read_body()
        headers = [[name.lower(), value] for name, value in self.headers.items()]
        body = json.dumps({"headers": headers, "body": size}).encode()
        self.send_response(401 if self.path == "/own-401" else 200)
        self.send_header("Content-Length", str(len(body)))
        if self.path == "/own-deprecation":
            self.send_header("Deprecation", "@1")
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET  # noqa: N815  # the name that the base class looks for

    def _read_body(self) -> int:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return len(self.rfile.read(int(self.headers.get("Content-Length", 0))))
        size = 0
        while chunk := int(self.rfile.readline(), 16):
            size += len(self.rfile.read(chunk))
            self.rfile.readline()
        self.rfile.readline()
        return size

    def _talk(self) -> None:
        digest = hashlib.sha1((self.headers["Sec-WebSocket-Key"] + _GUID).encode(), usedforsecurity=False).digest()
        self.send_response(101)
        for name, value in (
            ("Upgrade", "websocket"), ("Connection", "Upgrade"),
            ("Sec-WebSocket-Accept", base64.b64encode(digest).decode()),
        ):  # fmt: skip
            self.send_header(name, value)
        self.end_headers()
        self.close_connection = True
        # Not frames: what comes goes back, and says who it is first.
        self.wfile.write(f"{self.headers['X-Key-Name']}\n".encode())
        while line := self.rfile.readline():
            self.wfile.write(line)

    def log_message(self, *_: Any) -> None:
        pass


class _NoSayer(BaseHTTPRequestHandler):
    """Stands where `serve` does, says no, and keeps the questions as they came."""

    protocol_version = "HTTP/1.1"
    questions: ClassVar[list[dict[str, list[str]]]]

    def parse_request(self) -> bool:
        if not super().parse_request():
            return False
        self.questions.append({name.lower(): self.headers.get_all(name) or [] for name in self.headers})
        self.send_response(401)
        self.send_header("Content-Length", "0")
        self.end_headers()
        self.wfile.flush()
        return False  # it is answered, whatever the method

    def log_message(self, *_: Any) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True


@contextmanager
def service() -> Iterator[Address]:
    """Run the service until the block ends."""
    with _served(_Echo) as address:
        yield address


@contextmanager
def questions() -> Iterator[tuple[Address, list[dict[str, list[str]]]]]:
    """Run a server that a proxy asks as it asks `serve`; the headers of each question, by name in lower case."""

    class NoSayer(_NoSayer):
        questions: ClassVar[list[dict[str, list[str]]]] = []

    with _served(NoSayer) as address:
        yield address, NoSayer.questions


@contextmanager
def _served(handler: type[BaseHTTPRequestHandler]) -> Iterator[Address]:
    with _Server(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield Address(server.server_port)
        finally:
            server.shutdown()
            thread.join()
