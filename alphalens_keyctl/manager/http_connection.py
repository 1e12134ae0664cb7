"""One connection to a server of the HTTP API, on which nothing lasts longer than it may (promise 11).

By `http.client` of the standard library: it follows no redirect, knows no proxy and no cookie and reads no `.netrc`, so
that a key goes to the server that was named and to nobody else; and it loads in a fifth of the time of any other
client.
"""

import http.client
import io
import socket
import ssl
import time
from collections.abc import Callable
from typing import Any, Final

from alphalens_keyctl.server_address import ServerAddress

_FIRST_BYTES: Final = 1 << 16


class Deadline:
    """When an exchange must be over: `total` seconds from now, with at most `silence` seconds between two bytes."""

    def __init__(self, total: float, silence: float) -> None:
        self._end = time.monotonic() + total
        self._silence = silence

    def restart(self, total: float) -> None:
        """Begin anew, now with `total` seconds."""
        self._end = time.monotonic() + total

    def left(self) -> float:
        """Seconds that the next bytes may take. Raises TimeoutError at the end."""
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError("the answer took too long")
        return min(left, self._silence)


class Connection(http.client.HTTPConnection):
    """A connection to a server, in clear only where the address says so. Every exchange begins with a new
    `deadline`."""

    def __init__(self, address: ServerAddress, connect_timeout: float, context: Callable[[], ssl.SSLContext]) -> None:
        super().__init__(address.host, address.port, timeout=connect_timeout)
        self._address = address
        self._context = context
        self.deadline = Deadline(connect_timeout, connect_timeout)
        self._answer: http.client.HTTPResponse | None = None

    def getresponse(self) -> http.client.HTTPResponse:
        """Read the head of the answer."""
        self._answer = super().getresponse()
        return self._answer

    def close(self) -> None:
        """Close the connection, and an answer that was not read to its end."""
        super().close()
        if self._answer is not None:
            self._answer.close()

    def connect(self) -> None:
        """Connect, which takes `connect_timeout` at most for each address of the host. Raises OSError."""
        if self._address.unix_socket is not None:
            found = socket.socket(socket.AF_UNIX)
            try:
                found.settimeout(self.timeout)
                found.connect(str(self._address.unix_socket))
            except BaseException:
                found.close()
                raise
        else:
            super().connect()
            found = self.sock
            if self._address.tls:
                # The context checks the certificate; the handshake as a whole ends with the timeout of the socket.
                found = self._context().wrap_socket(found, server_hostname=self._address.host)
        self.sock = _Bounded(found, self)


class _Bounded:
    """A socket for `http.client`: each read and each write ends with the deadline of the exchange. By itself a timeout
    bounds each of them, and a peer that drips bytes would hold for ever."""

    def __init__(self, found: socket.socket, connection: Connection) -> None:
        self._socket = found
        self._connection = connection

    def sendall(self, data: Any) -> None:
        rest = memoryview(data)
        while rest:
            self._socket.settimeout(self._connection.deadline.left())
            rest = rest[self._socket.send(rest) :]

    def makefile(self, _mode: str = "rb", *_: Any) -> io.BufferedReader:
        raw = self._socket.makefile("rb", buffering=0)
        return io.BufferedReader(_Reading(self._socket, raw, self._connection.deadline), _FIRST_BYTES)

    def close(self) -> None:
        self._socket.close()


class _Reading(io.RawIOBase):
    def __init__(self, found: socket.socket, raw: Any, deadline: Deadline) -> None:
        self._socket = found
        self._raw = raw
        self._deadline = deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._socket.settimeout(self._deadline.left())
        read: int = self._raw.readinto(buffer)
        return read

    def close(self) -> None:
        self._raw.close()
        super().close()
