"""A TCP proxy that breaks connections at a chosen byte, or tells somebody that the byte has come."""

import selectors
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Final

from tests.support.web import LIMIT

REQUEST: Final = "request"
RESPONSE: Final = "response"
_RESET: Final = struct.pack("ii", 1, 0)


@dataclass
class Strike:
    """What happens once `after` bytes have passed in a direction: the connection breaks; with `for_good`, so does every
    later one. `then` is called first. With `whole`, what came together with that byte is handed on before."""

    direction: str
    after: int
    for_good: bool = False
    then: Callable[[], object] = lambda: None
    whole: bool = False


class CuttingProxy:
    """The proxy, in front of a port of this machine."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._strike: Strike | None = None
        self._closed = False
        self.struck = False
        self.passed = {REQUEST: 0, RESPONSE: 0}
        # How many bytes had passed each time that the other side began to speak.
        self.turns: dict[str, list[int]] = {REQUEST: [], RESPONSE: []}
        self._speaks: str | None = None
        self._threads: list[threading.Thread] = []
        self._accepting = threading.Thread(target=self._accept)
        self._accepting.start()

    def arm(self, strike: Strike | None, port: int | None = None) -> None:
        """Begin to count anew; `port` is where the server is now."""
        self._to = port or self._to
        self.passed = {REQUEST: 0, RESPONSE: 0}
        self.turns = {REQUEST: [], RESPONSE: []}
        self.struck = False
        self._strike = strike

    def close(self) -> None:
        self._closed = True
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in (self._accepting, *self._threads):
            thread.join(LIMIT)
            assert not thread.is_alive()

    def _accept(self) -> None:
        while not self._closed:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self.struck and self._strike is not None and self._strike.for_good:
                _break(client)
                continue
            thread = threading.Thread(target=self._carry, args=(client,))
            self._threads.append(thread)
            thread.start()

    def _carry(self, client: socket.socket) -> None:
        try:
            server = socket.create_connection(("127.0.0.1", self._to), LIMIT)
        except OSError:
            _break(client)
            return
        with selectors.DefaultSelector() as selector:
            selector.register(client, selectors.EVENT_READ, (REQUEST, server))
            selector.register(server, selectors.EVENT_READ, (RESPONSE, client))
            with suppress(OSError):
                while not self._closed:
                    for key, _ in selector.select(0.05):
                        source: socket.socket = key.fileobj  # type: ignore[assignment]  # registered above
                        direction, sink = key.data
                        data = source.recv(1 << 16)
                        if not data or not self._pass(direction, data, sink):
                            raise OSError
        _break(client)
        _break(server)

    def _pass(self, direction: str, data: bytes, sink: socket.socket) -> bool:
        """Hand bytes on; False where the connection is to break."""
        strike, before = self._strike, self.passed[direction]
        if self._speaks not in (direction, None):
            self.turns[str(self._speaks)].append(self.passed[str(self._speaks)])
        self._speaks = direction
        self.passed[direction] += len(data)
        if strike is None or self.struck or strike.direction != direction or self.passed[direction] <= strike.after:
            sink.sendall(data)
            return True
        self.struck = True
        sink.sendall(data if strike.whole else data[: strike.after - before])
        strike.then()
        return False


def _break(connection: socket.socket) -> None:
    # Half of the world closes a connection, the other half resets it; the rest of what is on its way is lost then.
    with suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    connection.close()


@contextmanager
def cutting(port: int) -> Iterator[CuttingProxy]:
    """The proxy in front of a port, for the block."""
    proxy = CuttingProxy(port)
    try:
        yield proxy
    finally:
        proxy.close()
