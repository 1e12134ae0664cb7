"""Whose word about the client's address is taken."""

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.web.client_address import UNIX, TrustedProxies

PROXY = "10.0.0.1"


def client(peer: str | None, forwarded_for: str | None, *trusted: str) -> str | None:
    return TrustedProxies(trusted).client(peer, forwarded_for).address


@pytest.mark.parametrize(
    ("peer", "forwarded_for", "certain"),
    [
        ("192.0.2.7", None, "192.0.2.7"),
        ("::ffff:192.0.2.7", None, "192.0.2.7"),
        # It may come from a proxy that nobody named.
        ("192.0.2.7", "203.0.113.9", None),
        ("192.0.2.7", "", None),
        ("fe80::1%eth0", None, None),
        (None, None, None),
        (UNIX, None, None),
        (UNIX, "203.0.113.9", None),
        # A trusted proxy's word, of which the last is its own.
        (PROXY, "203.0.113.9", "203.0.113.9"),
        (PROXY, "6.6.6.6, 203.0.113.9", "203.0.113.9"),
        (PROXY, "6.6.6.6, 203.0.113.9, 10.0.0.2", "203.0.113.9"),
        (PROXY, "10.0.0.9, 10.0.0.2", "10.0.0.9"),
        (PROXY, "[2001:db8::1]:443", "2001:db8::1"),
        (PROXY, None, None),
        (PROXY, "", None),
        (PROXY, "unknown", None),
        (PROXY, "203.0.113.9, unknown", None),
        (PROXY, "203.0.113.9, , 10.0.0.2", None),
        (PROXY, "203.0.113.9, 010.0.0.2", None),
        (PROXY, "fe80::1%eth0", None),
        (PROXY, "203.0.113.9, " + ", ".join(["10.0.0.2"] * 31), "203.0.113.9"),
        (PROXY, "203.0.113.9, " + ", ".join(["10.0.0.2"] * 32), None),
    ],
)
def test_an_address_is_certain_that_a_trusted_proxy_names_or_that_of_a_peer_which_speaks_for_nobody(
    peer: str | None, forwarded_for: str | None, certain: str | None
) -> None:
    """Promise 9: a key that is limited to networks opens from no other address."""
    assert TrustedProxies(["10.0.0.0/8"]).client(peer, forwarded_for).certain == certain


def test_without_a_trusted_proxy_the_client_is_the_peer_whatever_a_header_says() -> None:
    for forwarded in (None, "", "1.2.3.4", "1.2.3.4, 10.0.0.1", "unix"):
        assert client("192.0.2.7", forwarded) == "192.0.2.7"
        assert client("192.0.2.7", forwarded, PROXY, UNIX) == "192.0.2.7"
        assert client(UNIX, forwarded, PROXY) is None
        assert client(None, forwarded, PROXY, UNIX) is None


@pytest.mark.parametrize(
    ("forwarded_for", "expected"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("6.6.6.6, 203.0.113.9", "203.0.113.9"),
        ("6.6.6.6,203.0.113.9, 10.0.0.2 ,\t10.0.0.3", "203.0.113.9"),
        # Every hop is ours: the first of them is where the request came from.
        ("10.0.0.9, 10.0.0.2", "10.0.0.9"),
        # What cannot be read ends the walk at the last hop that could.
        ("6.6.6.6, unknown, 10.0.0.2", "10.0.0.2"),
        ("6.6.6.6,,10.0.0.2", "10.0.0.2"),
        ("6.6.6.6, 203.0.113.9:99999", PROXY),
        ("6.6.6.6, 203.0.113.9:", PROXY),
        ("6.6.6.6, ", PROXY),
        ("", PROXY),
        (None, PROXY),
        ("203.0.113.9 6.6.6.6", PROXY),
        ("203.0.113.09", PROXY),
        # ports, brackets, zones, IPv4 in IPv6
        ("203.0.113.9:4711", "203.0.113.9"),
        ("2001:DB8::1", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("[2001:db8::1]:443", "2001:db8::1"),
        ("[2001:db8::1", PROXY),
        ("[2001:db8::1]443", PROXY),
        ("fe80::1%eth0; drop", "fe80::1"),
        ("::ffff:203.0.113.9", "203.0.113.9"),
        ("203.0.113.9, ::ffff:10.0.0.2", "203.0.113.9"),
        ("203.0.113.9, [::ffff:10.0.0.2]:80", "203.0.113.9"),
    ],
)
def test_a_trusted_proxys_header_is_read_from_the_right(forwarded_for: str | None, expected: str) -> None:
    assert client(PROXY, forwarded_for, "10.0.0.0/8") == expected


def test_ipv4_and_its_form_in_ipv6_are_one_address_also_among_the_trusted() -> None:
    for trusted in ("10.0.0.1", "10.0.0.0/24", "::ffff:10.0.0.1", "::ffff:10.0.0.0/120", "10.0.0.77/24"):
        for peer in ("10.0.0.1", "::ffff:10.0.0.1", "::FFFF:a00:1"):
            assert client(peer, "203.0.113.9", trusted) == "203.0.113.9", (peer, trusted)
    assert client("::ffff:192.0.2.7", None) == "192.0.2.7"
    assert client("fd00::1", "203.0.113.9", "fd00::/8") == "203.0.113.9"


def test_a_unix_socket_is_trusted_only_when_the_word_unix_is_given() -> None:
    assert client(UNIX, "203.0.113.9", UNIX) == "203.0.113.9"
    assert client(UNIX, "203.0.113.9", "0.0.0.0/0") is None
    # The word is for the peer alone: a hop that calls itself so is none.
    assert client(UNIX, "203.0.113.9, unix", UNIX) is None
    assert client(UNIX, None, UNIX) is None


def test_a_header_made_long_to_keep_us_busy_is_read_no_further_than_a_chain_of_proxies_may_be() -> None:
    assert client(PROXY, "203.0.113.9, " + ", ".join(["10.0.0.2"] * 20), "10.0.0.0/8") == "203.0.113.9"
    assert client(PROXY, "203.0.113.9, " + ", ".join(["10.0.0.2"] * 1_000_000), "10.0.0.0/8") == "10.0.0.2"


@pytest.mark.parametrize("word", ["", "everyone", "10.0.0.0/33", "10.0.0.1:80", "*", "Unix", "10.0.0.0-10.0.0.9"])
def test_a_trusted_proxy_that_is_neither_address_nor_network_is_refused(word: str) -> None:
    with pytest.raises(KeyctlError) as refused:
        TrustedProxies([PROXY, word])
    assert refused.value.code is Code.INVALID_INPUT


@given(
    st.text() | st.text("0123456789abcdef.:,[]% \t", max_size=60), st.sampled_from([PROXY, "192.0.2.7", UNIX, "::1"])
)
def test_whatever_the_header_holds_the_answer_is_an_address_or_none(forwarded_for: str, peer: str) -> None:
    found = client(peer, forwarded_for, "10.0.0.0/8", UNIX)
    assert found is None or str(ip_address(found)) == found
