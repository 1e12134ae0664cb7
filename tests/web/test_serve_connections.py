"""What a peer of `serve` may send over one connection, and how long it may take. Promises 9 and 14.

On one database: nothing here depends on which.
"""

import re
import resource
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import pytest

from alphalens_keyctl.web import challenge
from alphalens_keyctl.web.connection import LARGEST_HEAD, MOST_HEADERS, PATIENCE
from tests.support.commands import Keyctl
from tests.support.waiting import wait_for
from tests.support.web import LIMIT, Address, Served, serving, uses

pytestmark = pytest.mark.one_database


class Raw(NamedTuple):
    """An answer as bytes say it."""

    status: int
    head: str
    body: bytes


class Peer:
    """A connection on which a test writes and reads bytes."""

    def __init__(self, address: Address) -> None:
        self._socket = socket.create_connection(("127.0.0.1", address.port), LIMIT)
        self._socket.settimeout(LIMIT)
        self._left = b""

    def send(self, text: str | bytes) -> None:
        self._socket.sendall(text.encode("latin-1") if isinstance(text, str) else text)

    def send_until_refused(self, most: int) -> int:
        """Send up to so many bytes of nothing; returns how many could be sent."""
        sent = 0
        while sent < most:
            try:
                self.send(b"x" * 1_000_000)
            except (BrokenPipeError, ConnectionResetError):
                break
            sent += 1_000_000
        return sent

    def answer(self) -> Raw | None:
        """The next answer, or None where the connection ended instead."""
        while b"\r\n\r\n" not in self._left:
            if not self._receive():
                return None
        head, _, self._left = self._left.partition(b"\r\n\r\n")
        text = head.decode("latin-1")
        length = re.search(r"(?i)content-length: (\d+)", text)
        size = int(length[1]) if length else 0
        while len(self._left) < size:
            assert self._receive()
        body, self._left = self._left[:size], self._left[size:]
        return Raw(int(text.split()[1]), text.lower(), body)

    def ended(self) -> bool:
        """Whether the other side closed, with nothing more to say."""
        while self._receive():
            pass
        return self._left == b""

    def close(self) -> None:
        self._socket.close()

    def _receive(self) -> bool:
        try:
            more = self._socket.recv(65536)
        except ConnectionResetError:
            return False
        self._left += more
        return bool(more)


@contextmanager
def peer(served: Served) -> Iterator[Peer]:
    made = Peer(served.address)
    try:
        yield made
    finally:
        made.close()


def question(raw_key: str, *more: str, path: str = "/verify") -> str:
    lines = ("GET " + path + " HTTP/1.1", "Host: a", *([f"API-Key: {raw_key}"] if raw_key else []), *more)
    return "\r\n".join(lines) + "\r\n\r\n"


@pytest.mark.parametrize(
    "announced",
    [
        "Content-Length: 10", "Content-Length: 500", "Transfer-Encoding: chunked", "Content-Length: 00",
        "Upgrade: websocket\r\nConnection: Upgrade",
    ],
)  # fmt: skip
def test_what_follows_a_question_that_announces_more_is_never_answered(announced: str, keyctl: Keyctl) -> None:
    """Promise 14: nginx announces the body of one client's request and sends the next client's question instead."""
    raw_key, _ = keyctl.create("good")
    other, _ = keyctl.create("other")
    with serving(keyctl) as served:
        for sent_at_once in (True, False):
            with peer(served) as one:
                first, second = question(raw_key, announced), question(other)
                one.send(first + second if sent_at_once else first)
                answer = one.answer()
                assert answer is not None
                assert answer.status == 204
                assert "connection: close" in answer.head
                if not sent_at_once:
                    one.send(second)
                assert one.ended()
    assert {row["key_name"] for row in uses(keyctl)} == {"good"}


def test_an_empty_body_keeps_the_connection(keyctl: Keyctl) -> None:
    """Envoy says with each question that it has none."""
    raw_key, _ = keyctl.create("good")
    with serving(keyctl) as served, peer(served) as one:
        for _ in range(3):
            one.send(question(raw_key, "Content-Length: 0"))
            answer = one.answer()
            assert answer is not None
            assert answer.status == 204
            assert "connection: close" not in answer.head


def test_a_question_that_comes_before_the_answer_to_the_one_before_is_not_answered(keyctl: Keyctl) -> None:
    """Promise 14: no proxy asks so, and what a client slipped past one comes so."""
    raw_key, _ = keyctl.create("good")
    with serving(keyctl) as served:
        for second in (question(raw_key), question("", path="/healthz"), "\x00\x01rubbish\r\n\r\n"):
            with peer(served) as one:
                one.send(question(raw_key) + second)
                answer = one.answer()
                assert answer is not None
                assert answer.status == 204
                assert "connection: close" in answer.head
                assert one.ended()
    assert len(uses(keyctl)) == 3


@pytest.mark.parametrize(
    "form",
    [
        "GET /%68ealthz HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET http://x/healthz HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET //x/healthz HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /healthz\r\n\r\n",
        "GET /healthz HTTP/0.9\r\n\r\n",
        "GET /healthz HTTP/2.0\r\n\r\n",
        "POST /healthz HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /healthz HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n",
        "GET /healthz HTTP/1.1\r\nHost: a\r\nAPI-Key: x\r\n\r\n",
        "GET /%72eadyz HTTP/1.1\r\nHost: a\r\n\r\n",
    ],
)
def test_health_is_answered_in_its_plainest_form_alone(form: str, keyctl: Keyctl) -> None:
    """Promise 9: a 204 is leave to whoever a proxy asked for."""
    with serving(keyctl) as served, peer(served) as one:
        one.send(form)
        answer = one.answer()
        assert answer is not None
        assert (answer.status, answer.body) == (401, challenge.BODY)


def test_health_is_no_answer_on_a_connection_over_which_a_question_came(keyctl: Keyctl) -> None:
    """Promise 9: what a client slips past a proxy comes after a question of the proxy's own."""
    raw_key, _ = keyctl.create("good")
    with serving(keyctl) as served:
        for path in ("/healthz", "/readyz"):
            probe = question("", path=path)
            with peer(served) as one:
                for status in (204, 401, 401):
                    one.send(question(raw_key) if status == 204 else probe)
                    answer = one.answer()
                    assert answer is not None
                    assert answer.status == status
            # And none follows it.
            with peer(served) as one:
                one.send(probe)
                answer = one.answer()
                assert answer is not None
                assert answer.status == 204
                assert "connection: close" in answer.head
                assert one.ended()


def test_a_head_beyond_the_bounds_is_refused_while_it_comes_and_harms_nobody(keyctl: Keyctl) -> None:
    """Promise 14."""
    raw_key, _ = keyctl.create("good")
    with serving(keyctl) as served:
        with peer(served) as endless:
            endless.send(f"GET / HTTP/1.1\r\nAPI-Key: {raw_key}\r\nX: ")
            assert endless.send_until_refused(200_000_000) < 50_000_000
        for too_much in (
            [f"X: {'x' * LARGEST_HEAD}"],
            [f"X-{number}: x" for number in range(MOST_HEADERS)],
            [f"{'x' * LARGEST_HEAD}: x"],
        ):
            with peer(served) as one:
                one.send(question(raw_key, *too_much))
                answer = one.answer()
                assert answer is not None
                assert (answer.status, answer.body) == (401, challenge.BODY)
                assert one.ended()
        with peer(served) as one:
            one.send(question(raw_key, f"X: {'x' * 60_000}", *(f"X-{number}: x" for number in range(MOST_HEADERS - 5))))
            answer = one.answer()
            assert answer is not None
            assert answer.status == 204
    assert len(uses(keyctl)) == 1


def test_half_sent_questions_are_given_up_while_everybody_else_is_served(keyctl: Keyctl) -> None:
    """Promise 14."""
    raw_key, _ = keyctl.create("good")
    with serving(keyctl) as served:
        # More than come in together, and after a whole question as well as before one.
        half = [Peer(served.address) for _ in range(300)]
        try:
            for number, one in enumerate(half):
                if number % 2:
                    one.send(question(raw_key))
                    assert one.answer() is not None
                one.send(question(raw_key)[:-2])
            with peer(served) as other:
                other.send(question(raw_key))
                assert other.answer() is not None
            began = time.monotonic()
            assert all(one.ended() for one in half)
            assert time.monotonic() - began < PATIENCE + LIMIT
        finally:
            for one in half:
                one.close()


def test_where_too_many_connections_are_open_the_one_that_was_still_the_longest_goes(keyctl: Keyctl) -> None:
    """Promise 14."""
    raw_key, _ = keyctl.create("good")
    limit = 200
    with serving(keyctl) as served, peer(served) as busy:
        resource.prlimit(served.process.pid, resource.RLIMIT_NOFILE, (limit, limit))
        held: list[Peer] = []
        try:
            for _ in range(2 * limit):
                held.append(Peer(served.address))
                busy.send(question(raw_key))
                answer = busy.answer()
                assert answer is not None
                assert answer.status == 204
        finally:
            for one in held:
                one.close()


def test_a_byte_that_no_header_may_hold_is_a_refusal_like_any_other(keyctl: Keyctl) -> None:
    """Promise 9: nginx makes a 500 of a 400."""
    raw_key, _ = keyctl.create("good")
    with serving(keyctl) as served:
        for form in (
            question(raw_key + "\x01"), question("\x00" + raw_key), question(raw_key, "User-Agent: a\x07b"),
            question(raw_key, "X Y: z"), question(raw_key, path="/caf\xe9"), "\x16\x03\x01\r\n\r\n",
        ):  # fmt: skip
            with peer(served) as one:
                one.send(form)
                answer = one.answer()
                assert answer is not None, form
                assert (answer.status, answer.body) == (401, challenge.BODY), form
                assert one.ended()
        wait_for(lambda: served.ask("/healthz").status == 204)
        assert [line["event"] for line in served.log()] == ["listening"]


def test_the_answer_to_a_question_with_a_large_body_arrives(keyctl: Keyctl) -> None:
    """Closing at once would reset the connection, and a reset takes the answer away."""
    raw_key, _ = keyctl.create("good")
    with serving(keyctl) as served:
        for _ in range(3):
            with peer(served) as one:
                one.send(question(raw_key, "Content-Length: 900000") + "x" * 900_000)
                answer = one.answer()
                assert answer is not None
                assert answer.status == 204
                assert one.ended()
