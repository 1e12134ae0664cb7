"""One connection to `serve`: how much a peer may send, and for how long it may keep the server waiting.

A proxy sends the questions of many clients over one connection. Bytes that the proxy and `serve` read differently
would answer one client's question with the answer to another's; so after anything but a plain question, whole and
alone, the connection ends with the answer. Whatever cannot be read is refused like a bad key: nginx makes a 500
of a 400.
"""

import asyncio
import resource
from heapq import nsmallest
from typing import Any, Final, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from alphalens_keyctl.web import challenge
from alphalens_keyctl.web.forward_auth import FIRST, UNREAD

# Bytes of a request's line and headers. nginx passes on 32 KiB, Envoy 60 KiB.
LARGEST_HEAD: Final = 64 * 1024
MOST_HEADERS: Final = 200
# Seconds in which a request that has begun must have come, and an answer must have been taken.
PATIENCE: Final = 10.0
# Connections a worker; fewer where the process may open fewer files.
MOST_CONNECTIONS: Final = 4096

# What is kept of the files a process may open for the database, the log and the interpreter.
_OTHER_FILES: Final = 128
# Seconds and bytes for which what still comes is thrown away, once the answer is out: to close at once would
# reset the connection, and the peer would lose the answer (RFC 9112, 9.6).
_LINGER: Final = 2.0
_LINGER_BYTES: Final = 1024 * 1024
_REFUSAL: Final = b"".join(
    (
        b"HTTP/1.1 401 Unauthorized\r\n",
        *(name + b": " + value + b"\r\n" for name, value in challenge.RAW_HEADERS),
        b"connection: close\r\n\r\n",
        challenge.BODY,
    )
)


class UnreadableError(Exception):
    """The request is beyond a bound. The parser stops, and the connection refuses."""


class Connection(HttpToolsProtocol):
    """uvicorn's connection over httptools, within bounds. Answers one question at a time."""

    refusal = _REFUSAL
    """What is answered to a request that cannot be read."""
    _unfinished = 0  # bytes that came since the last whole head
    _closing = False
    _asked = False
    _overdue: asyncio.TimerHandle | None = None
    _since = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Begin, and let go of older connections where there are too many."""
        self._since = self.loop.time()
        super().connection_made(cast("asyncio.Transport", _Transport(transport, self)))
        # As between two questions: uvicorn stops this clock at the first byte.
        self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)
        most = most_connections()
        if len(self.connections) > most:
            idle = [each for each in self.connections if isinstance(each, Connection) and each.is_free and each != self]
            # Several at once, so that a flood is not looked through for each one that comes.
            for each in nsmallest(max(1, most // 16), idle, key=lambda each: each._since) or [self]:
                each.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self._progress()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read on, within the bounds."""
        self._unfinished += len(data)
        if self._closing:
            if self._unfinished > _LINGER_BYTES:
                self.transport.abort()
            return
        super().data_received(data)
        if self._unfinished > LARGEST_HEAD:
            self.send_400_response("")
        elif self._unfinished and self._overdue is None:
            self._expect_progress(PATIENCE)

    def on_headers_complete(self) -> None:
        """Ask, if this is a question that may be asked here."""
        came, self._unfinished = self._unfinished, 0
        if self._overdue is not None:
            self._progress()
        if len(self.headers) > MOST_HEADERS or not self.is_free or (came > LARGEST_HEAD and self._is_large()):
            raise UnreadableError
        self._since = self.loop.time()
        if not self._asked:
            self._asked = True
            if self.url.startswith(b"/"):
                self.scope["extensions"] = {FIRST: {}}
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        """Refuse what cannot be read. A question under way is answered first, and alone."""
        self._closing = True
        if not self.is_free:
            self.cycle.keep_alive = False
            # For uvicorn up to 0.52 to say so.
            self.cycle.scope["headers"] = [*self.cycle.scope["headers"], (b"connection", b"close")]
            return
        if UNREAD in self.app_state:
            self.app_state[UNREAD]()
        self.transport.write(self.refusal)
        self.transport.close()

    def pause_writing(self) -> None:
        """Wait for a peer that takes no answers, but not for ever."""
        super().pause_writing()
        self._expect_progress(PATIENCE)

    def resume_writing(self) -> None:
        """Go on."""
        self._progress()
        super().resume_writing()

    @property
    def is_free(self) -> bool:
        """Whether no question is being answered."""
        return self.cycle is None or self.cycle.response_complete

    def _is_large(self) -> bool:
        # What came may hold a body too.
        return len(self.url) + sum(len(name) + len(value) for name, value in self.headers) > LARGEST_HEAD

    def _expect_progress(self, seconds: float) -> None:
        self._progress()
        self._overdue = self.loop.call_later(seconds, self._give_up)

    def _progress(self) -> None:
        if self._overdue is not None:
            self._overdue.cancel()
            self._overdue = None

    def _give_up(self) -> None:
        self._overdue = None
        self.transport.abort()

    def finish(self, transport: asyncio.Transport) -> None:
        """Close a connection whose last answer is out, and see to it that the answer arrives."""
        more_to_come = self._closing or (self.cycle is not None and self.cycle.more_body)
        self._closing = True
        if not more_to_come or not transport.can_write_eof():
            transport.close()
            return
        try:
            transport.write_eof()
        except (OSError, RuntimeError):  # the peer was faster
            transport.abort()
        else:
            self._expect_progress(_LINGER)


class _Transport:
    """The transport as uvicorn uses it, which closes as `Connection.finish` has it."""

    def __init__(self, transport: asyncio.Transport, connection: Connection) -> None:
        self._transport = transport
        self._connection = connection
        self._closed = False
        # Bound here, so that an answer costs no further call.
        self.write = transport.write
        self.abort = transport.abort

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._connection.finish(self._transport)

    def is_closing(self) -> bool:
        return self._closed or self._transport.is_closing()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


def most_connections() -> int:
    """How many connections this process keeps at once."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files == resource.RLIM_INFINITY:
        return MOST_CONNECTIONS
    return max(1, min(MOST_CONNECTIONS, files - _OTHER_FILES))
