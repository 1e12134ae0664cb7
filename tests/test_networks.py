"""From where a key may be used."""

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alphalens_keyctl import networks
from alphalens_keyctl.errors import Code, KeyctlError


@pytest.mark.parametrize(
    ("text", "stored"),
    [
        ("10.0.0.0/8", "10.0.0.0/8"),
        ("192.0.2.7", "192.0.2.7"),
        ("192.0.2.7/32", "192.0.2.7"),
        ("0.0.0.0/0", "0.0.0.0/0"),
        ("::/0", "::/0"),
        ("2001:DB8:0::/32", "2001:db8::/32"),
        ("::1", "::1"),
        ("::1/128", "::1"),
        ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
    ],
)
def test_a_network_is_stored_in_one_spelling(text: str, stored: str) -> None:
    assert networks.parse(text) == stored
    assert networks.are_sound([stored])


@pytest.mark.parametrize(
    "text",
    [
        "", "*", "any", "localhost", "10/8", "10.0.0", "010.0.0.1", "10.0.0.0/33", "10.0.0.0/-1", "10.0.0.0/",
        "10.0.0.0/255.0.0.0", "10.0.0.0/0.0.0.255", "fe80::1%eth0", "fe80::%eth0/64", "[::1]", "10.0.0.1:80", "1",
        "\u0661\u0660.0.0.1", "10.0.0.0/\u0668", "10.0.0.0 /8", "::/129", "1.2.3.4,5.6.7.8",
    ],
)  # fmt: skip
def test_what_is_no_network_is_refused(text: str) -> None:
    with pytest.raises(KeyctlError) as refused:
        networks.parse(text)
    assert refused.value.code is Code.INVALID_INPUT
    assert refused.value.hint


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("10.1.2.3/8", "Write 10.0.0.0/8 for the network, or 10.1.2.3 for the one address."),
        ("2001:db8::1/32", "Write 2001:db8::/32 for the network, or 2001:db8::1 for the one address."),
    ],
)
def test_bits_behind_the_length_are_refused_and_the_network_is_named(text: str, right: str) -> None:
    with pytest.raises(KeyctlError, match="bits set behind its length") as refused:
        networks.parse(text)
    assert refused.value.hint == right


def test_a_key_has_fifty_networks_at_most_each_once_ipv4_first() -> None:
    assert networks.parse_all([]) is None
    assert networks.parse_all(["::1", "10.0.0.2", "9.0.0.0/8", "10.0.0.2/32"]) == ("9.0.0.0/8", "10.0.0.2", "::1")
    with pytest.raises(KeyctlError, match="50 networks at most, not 51"):
        networks.parse_all(f"10.0.0.{number}" for number in range(51))


@pytest.mark.parametrize(
    ("allowed", "address", "lies_in"),
    [
        (None, None, True),
        (None, "nonsense", True),
        ((), "10.0.0.1", False),
        (("10.0.0.0/8",), "10.255.255.255", True),
        (("10.0.0.0/8",), "11.0.0.0", False),
        (("10.0.0.0/8",), "::ffff:10.0.0.1", True),
        (("10.0.0.0/8",), "::10.0.0.1", False),
        (("192.0.2.7", "::1"), "::1", True),
        (("::/0",), "10.0.0.1", False),
        (("::/0",), "::ffff:10.0.0.1", False),
        (("0.0.0.0/0",), "10.0.0.1", True),
        (("0.0.0.0/0",), "::1", False),
        (("fe80::/10",), "fe80::1%eth0", False),
        (("10.0.0.0/8",), None, False),
        (("10.0.0.0/8",), "", False),
        (("10.0.0.0/8",), "010.0.0.1", False),
        (("10.0.0.0/8",), "10.0.0.1, 10.0.0.2", False),
        (("10.0.0.0/8",), " 10.0.0.1", False),
        (("10.0.0.0/8",), "unix", False),
    ],
)
def test_an_address_lies_in_a_network_or_is_refused(
    allowed: tuple[str, ...] | None, address: str | None, lies_in: bool
) -> None:
    """Promise 9: an address that nobody knows for certain lies in no network."""
    assert networks.allows(allowed, address) is lies_in


@given(st.lists(st.ip_addresses(), max_size=4), st.ip_addresses())
def test_a_single_address_allows_itself_alone(held: list[object], address: object) -> None:
    allowed = networks.normal(networks.parse(str(each)) for each in held)
    mapped = getattr(address, "ipv4_mapped", None) or address
    assert networks.allows(allowed, str(address)) is (
        mapped in {getattr(each, "ipv4_mapped", None) or each for each in held}
    )


@given(st.ip_addresses(v=4), st.integers(0, 32), st.ip_addresses(v=4))
def test_a_network_covers_what_its_addresses_say(base: object, length: int, address: object) -> None:
    held = (networks.parse(str(ip_network(f"{base}/{length}", strict=False))),)
    lies_in = ip_address(str(address)) in ip_network(held[0])
    assert networks.allows(held, str(address)) is lies_in
    assert networks.covers(held, str(address)) is lies_in
    assert networks.covers(None, str(address))
    assert not networks.covers(held, "::1")
