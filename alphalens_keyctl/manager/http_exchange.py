"""Requests to a server of the HTTP API and their answers: what is sent again, and what an answer that is no answer
means."""

import http.client
import json
import secrets
import ssl
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final, NamedTuple
from urllib.parse import urlencode

from alphalens_keyctl import __version__, interrupts, text
from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.keyformat import RawKey
from alphalens_keyctl.manager.http_connection import Connection, Deadline
from alphalens_keyctl.server_address import ServerAddress
from alphalens_keyctl.settings import PROGRAM

# Seconds before a request is sent again whose answer was lost. Together they are longer than a server takes to start.
_PAUSES: Final = (0.1, 0.3, 1.0, 2.0)
# Seconds that a stream may take; the server cuts one off earlier.
_LONGEST_STREAM: Final = 900.0
_LARGEST: Final = 1 << 28  # bytes of a document: K of a million keys
_LONGEST_LINE: Final = 1 << 24
_BLOCK: Final = 1 << 17
_LONGEST_TEXT: Final = 20_000
_PROBLEM: Final = "application/problem+json"
_LINES: Final = "application/jsonl"
# What stands in front of a server says so while the server is away.
_AWAY: Final = frozenset({502, 503, 504})
_CODES: Final = {code.value: code for code in Code}
_UNKNOWN: Final = "Whether it was carried out is not known: look before you repeat it."

Query = Sequence[tuple[str, str]]


class Waits(NamedTuple):
    """Seconds to wait: for a connection, and for an answer."""

    connect: float
    answer: float


class Answer(NamedTuple):
    """A good answer. `replayed` says that the request had been carried out before, and its answer was lost: this is
    that answer without the raw key."""

    status: int
    document: Any
    replayed: bool = False


class _LostError(Exception):
    """There is no answer, or one that asks to come again. Where the request may be repeated, it is."""

    def __init__(self, error: KeyctlError) -> None:
        super().__init__()
        self.error = error


class Server:
    """A server of the HTTP API, and the key that its caller is let in by. Any thread may ask it."""

    def __init__(self, address: ServerAddress, key: RawKey, waits: Waits) -> None:
        self.address = address
        self._key = key
        self._waits = waits
        self._idle: list[Connection] = []
        self._context: ssl.SSLContext | None = None
        self._reached = False

    def __repr__(self) -> str:
        return f"<Server {self.address.display}>"

    def get(self, path: str, query: Query = ()) -> Any:
        """The document at a path. A request whose answer is lost is sent again. Raises `KeyctlError`."""
        return self._until_answered("GET", _target(path, query), None, {}).document

    def post(self, path: str, body: Mapping[str, Any] | None = None) -> Answer:
        """Carry a request out, once: it has an `Idempotency-Key`, so that one whose answer is lost is sent again and
        the server does not repeat it. Raises `KeyctlError`."""
        return self._until_answered("POST", path, body, {"Idempotency-Key": secrets.token_hex(16)})

    def ask(self, path: str, body: Mapping[str, Any]) -> Any:
        """The document that a POST which changes nothing answers. Raises `KeyctlError`."""
        return self._until_answered("POST", path, body, {}).document

    def put(self, path: str, body: Mapping[str, Any]) -> Any:
        """Set what a path holds. Sent again it could undo what somebody set meanwhile, so it is not. Raises
        `KeyctlError`."""
        self.close()  # a connection that the other end closed meanwhile would be no reason to fail
        try:
            return self._exchange("PUT", path, body, {}).document
        except _LostError as lost:
            raise _unknown(lost.error) from None

    @contextmanager
    def lines(self, path: str, query: Query = ()) -> Iterator[Iterator[list[Any]]]:
        """The documents of a stream, some at a time, while the block lasts; in constant memory. Raises `KeyctlError`
        (server_unreachable) where the stream breaks off before its end."""
        connection = self._connection()
        try:
            deadline = Deadline(self._waits.answer, self._waits.answer)
            with self._told():
                response = self._send(connection, deadline, "GET", _target(path, query), None, {"Accept": _LINES})
                if response.status != http.client.OK:
                    self._refuse(response, self._read(response))
                if not response.headers.get("Content-Type", "").startswith(_LINES) or not response.chunked:
                    raise self._odd("a stream that does not say where it ends")
            deadline.restart(_LONGEST_STREAM)
            yield self._documents(response)
        except _LostError as lost:
            raise lost.error from None
        finally:
            connection.close()

    def close(self) -> None:
        """Close the connections that are open."""
        while self._idle:
            self._idle.pop().close()

    def _until_answered(self, method: str, target: str, body: Any, headers: Mapping[str, str]) -> Answer:
        for pause in (*_PAUSES, None):
            was_there = self._reached
            try:
                return self._exchange(method, target, body, headers)
            except _LostError as lost:
                # A server that never answered is not one that restarts: who mistyped its address waits for nothing.
                if pause is None or not (was_there or self._reached):
                    raise (_unknown(lost.error) if "Idempotency-Key" in headers else lost.error) from None
            with interrupts.let_in():
                time.sleep(pause)
        raise AssertionError("unreachable")

    def _exchange(self, method: str, target: str, body: Any, headers: Mapping[str, str]) -> Answer:
        """Send a request once. Raises `_LostError` without an answer, `KeyctlError` for one that is an error."""
        connection = self._connection()
        kept = False
        try:
            deadline = Deadline(self._waits.answer, self._waits.answer)
            # Ctrl-C comes through: whoever waits for an answer asks afterwards what became of it, as after a cut.
            with self._told(), interrupts.let_in():
                response = self._send(connection, deadline, method, target, body, headers)
                content = self._read(response)
            self._refuse(response, content)
            answer = self._answer(response, content)
            kept = not response.will_close
            return answer
        finally:
            if kept:
                self._idle.append(connection)
            else:
                connection.close()

    def _send(
        self,
        connection: Connection,
        deadline: Deadline,
        method: str,
        target: str,
        body: Any,
        headers: Mapping[str, str],
    ) -> http.client.HTTPResponse:
        # A connection that was open may have been closed at the other end, which is no reason to fail.
        if connection.sock is None:
            try:
                connection.connect()
            except ssl.SSLCertVerificationError as error:
                raise self._unreachable(f"its certificate is not to be trusted: {error.verify_message}") from None
            except OSError as error:
                raise _LostError(self._unreachable(_why(error, self._waits.connect))) from None
        connection.deadline = deadline
        sent = {"API-Key": self._key.reveal(), "User-Agent": f"{PROGRAM}/{__version__}", **headers}
        content = None
        if body is not None:
            content, sent["Content-Type"] = json.dumps(body).encode(), "application/json"
        connection.request(method, self.address.path + target, content, sent)
        response = connection.getresponse()
        self._reached = True
        return response

    def _connection(self) -> Connection:
        with suppress(IndexError):
            return self._idle.pop()
        return Connection(self.address, self._waits.connect, self._tls)

    def _tls(self) -> ssl.SSLContext:
        self._context = self._context or ssl.create_default_context()
        return self._context

    @contextmanager
    def _told(self) -> Iterator[None]:
        """What goes wrong between a request and the end of its answer, as an error."""
        try:
            yield
        except (http.client.RemoteDisconnected, http.client.IncompleteRead):
            self._reached = True
            raise _LostError(self._unreachable("the connection broke off")) from None
        except TimeoutError as error:
            raise self._unreachable(_why(error, self._waits.answer)) from None
        except OSError as error:
            self._reached = True
            raise _LostError(self._unreachable(f"the connection broke off: {_why(error, 0)}")) from None
        except (http.client.HTTPException, ValueError):
            # Its message may repeat what the server sent.
            raise self._odd("something else than HTTP") from None

    def _read(self, response: http.client.HTTPResponse) -> bytes:
        parts, size = [], 0
        while part := response.read(_BLOCK):
            size += len(part)
            if size > _LARGEST:
                raise self._odd(f"more than {_LARGEST >> 20} MiB")
            parts.append(part)
        if response.length:
            raise http.client.IncompleteRead(b"")
        return b"".join(parts)

    def _documents(self, response: http.client.HTTPResponse) -> Iterator[list[Any]]:
        rest = b""
        while True:
            with self._told():
                block = response.read1(_BLOCK)
            if not block:
                break
            whole, newline, rest = (rest + block).rpartition(b"\n")
            if newline:
                yield self._lines(whole)
            elif len(rest) > _LONGEST_LINE:
                raise self._odd("a line without end")
        if rest:
            raise self._odd("a stream whose last line is cut off")

    def _lines(self, whole: bytes) -> list[Any]:
        try:
            found: list[Any] = json.loads(b"[" + whole.replace(b"\n", b",") + b"]")
        except (ValueError, RecursionError):
            raise self._odd("a stream that is no JSON Lines") from None
        return found

    def _answer(self, response: http.client.HTTPResponse, content: bytes) -> Answer:
        try:
            if response.headers.get_content_type() != "application/json":
                raise ValueError
            document = json.loads(content)
        except (ValueError, RecursionError):
            raise self._odd("something else than JSON") from None
        return Answer(response.status, document, response.headers.get("Idempotency-Replayed") == "true")

    def _refuse(self, response: http.client.HTTPResponse, content: bytes) -> None:
        """Raise the error that an answer is, if it is one."""
        status = response.status
        if status in (http.client.OK, http.client.CREATED):
            return
        if status == http.client.UNAUTHORIZED:
            raise KeyctlError(
                Code.UNAUTHENTICATED,
                f"the server at {self.address.display} refuses the key {self._key.id}, or there is none of that id",
                "It was revoked, suspended or rotated, has expired, is for another server or other addresses, or the"
                " server's database is away. 'login' takes another key.",
            )
        if (found := _problem(response, content)) is not None:
            if response.headers.get("Retry-After") is not None and status in (
                http.client.CONFLICT, http.client.TOO_MANY_REQUESTS
            ):  # fmt: skip
                raise _LostError(found)
            raise found
        if status in _AWAY:
            raise _LostError(self._odd(f"{status}: something in front of it cannot reach it"))
        if http.client.MULTIPLE_CHOICES <= status < http.client.BAD_REQUEST:
            raise self._odd(f"{status}: it sends its callers elsewhere, where the key must not go")
        raise self._odd(f"{status} and no word of why")

    def _unreachable(self, why: str) -> KeyctlError:
        return KeyctlError(
            Code.SERVER_UNREACHABLE,
            f"the server at {self.address.display} cannot be reached: {why}",
            "Check that 'serve-api' runs there, and the URL.",
        )

    def odd(self, what: str = "a document that this version does not know") -> KeyctlError:
        """The error for an answer that no server of the HTTP API gives."""
        return self._odd(what)

    def _odd(self, what: str) -> KeyctlError:
        return KeyctlError(
            Code.SERVER_ERROR,
            f"the server at {self.address.display} answers with {what}",
            "Check that the URL is that of 'serve-api', and its version.",
        )


def _target(path: str, query: Query) -> str:
    return f"{path}?{urlencode(query)}" if query else path


def _unknown(error: KeyctlError) -> KeyctlError:
    return KeyctlError(error.code, error.message, f"{_UNKNOWN} {error.hint}".rstrip())


def _why(error: OSError, limit: float) -> str:
    if isinstance(error, TimeoutError):
        return f"it did not answer within {limit:g} seconds"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed ({error.reason or 'no reason given'})"
    return error.strerror or type(error).__name__


def _problem(response: http.client.HTTPResponse, content: bytes) -> KeyctlError | None:
    """The error that a problem document is; None for what is none of ours."""
    if response.headers.get_content_type() != _PROBLEM:
        return None
    with suppress(ValueError, RecursionError, KeyError, TypeError):
        return error_of(json.loads(content))
    return None


def error_of(document: Mapping[str, Any]) -> KeyctlError:
    """The error in a document. Raises ValueError, KeyError or TypeError for what is none. Its texts are made inert
    (promise 12), and hold no raw key."""
    detail, hint = document["detail"], document.get("hint", "")
    if not isinstance(detail, str) or not isinstance(hint, str):
        raise TypeError
    told = [text.tame(each, longest=_LONGEST_TEXT) for each in (detail, hint)]
    return KeyctlError(_CODES[document["code"]], *told)
