"""The ids by which a request is found in other logs: an id is taken in its form alone. Promises 1 and 12."""

import itertools
import re

import pytest

from alphalens_keyctl.keyformat import generate
from alphalens_keyctl.web.correlation import request_id, trace_id

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"


@pytest.mark.parametrize(
    "given",
    [
        "f9ed4675f1c53513c61a3b3b4e25b4c0", "0197A0A4-2f1b-7e6a-9d4c-6b7a5f3e2d1c", "01ARZ3NDEKTSV4RRFFQ69G5FAV",
        "a", "0" * 64,
        "Root=1-67891233-abcdef012345678912345678", "host.example/1:2+3@4", "req_8xQ-1", " a ",
    ],
)  # fmt: skip
def test_an_id_of_a_request_is_taken_as_it_came(given: str) -> None:
    assert request_id({b"x-request-id": given.encode()}) == given.strip()


SECRET = generate().reveal()


@pytest.mark.parametrize(
    "given",
    [
        "", " ", "a" * 65, "a b", "a, b", "a\r\nb", "\x1b[2J", "a\x00", "é", "<b>", '"', "a;b", "-rf", "a\n", "%41",
        SECRET, SECRET[4:], SECRET[17:], SECRET[17:-3], SECRET[4:].replace("_", "-"), f"x.{SECRET[20:]}",
    ],
    ids=itertools.count(),  # a raw key is another one in each process
)  # fmt: skip
def test_whatever_is_no_id_or_may_be_a_raw_key_gives_way_to_a_new_id(given: str) -> None:
    """Promises 1 and 12."""
    made = request_id({b"x-request-id": given.encode("latin-1")})
    assert re.fullmatch("[0-9a-f]{32}", made)
    assert made != request_id({})


@pytest.mark.parametrize(
    "given",
    [
        f"00-{TRACE}-{PARENT}-01", f"00-{TRACE}-{PARENT}-ff", f" 00-{TRACE}-{PARENT}-00\t",
        f"01-{TRACE}-{PARENT}-01", f"fe-{TRACE}-{PARENT}-01-what-comes-later",
    ],
)  # fmt: skip
def test_the_trace_of_a_valid_traceparent_is_known(given: str) -> None:
    assert trace_id({b"traceparent": given.encode()}) == TRACE


@pytest.mark.parametrize(
    "given",
    [
        "", TRACE, f"00-{TRACE}-{PARENT}", f"00-{TRACE}-{PARENT}-01-more", f"ff-{TRACE}-{PARENT}-01",
        f"00-{TRACE.upper()}-{PARENT}-01",
        f"00-{'0' * 32}-{PARENT}-01", f"00-{TRACE}-{'0' * 16}-01", f"00-{TRACE}-{PARENT}-01, 00-{TRACE}-{PARENT}-01",
        f"00-{TRACE}-{PARENT}-01\n", f"0-{TRACE}-{PARENT}-01", f"01-{TRACE}-{PARENT}-01-{'x' * 600}",
        f"01-{TRACE}-{PARENT}-01-\x1b",
        f"00-{TRACE}-{PARENT}-0g", SECRET,
    ],
    ids=itertools.count(),
)  # fmt: skip
def test_any_other_traceparent_is_left_out(given: str) -> None:
    """Promise 12."""
    assert trace_id({b"traceparent": given.encode()}) is None
    assert trace_id({}) is None
