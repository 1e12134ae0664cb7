"""Networks, from where a key may be used: their spelling, and whether an address lies in one of them.

None in place of networks is a key that may be used from anywhere. An IPv4-mapped IPv6 address is the IPv4 address in
it, in a network as at a client, so that `::/0` takes in no IPv4 address.
"""

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.text import parse_line, quoted

MOST_NETWORKS: Final = 50
_LONGEST: Final = 64
_MAPPED: Final = 96  # bits before the IPv4 address in ::ffff:0:0/96 (RFC 4291, 2.5.5.2)
# Python also takes 10.0.0.0/255.0.0.0, and the same digits as a mask of hosts.
_SPELLING: Final = re.compile(r"[0-9a-fA-F.:]+(/[0-9]{1,3})?", re.ASCII)
# The length of a network whose hosts usually belong together, by the version of the protocol.
_NEAR: Final = {4: 24, 6: 64}
_EXAMPLES: Final = "Write for example 10.0.0.0/8, 192.0.2.7 or 2001:db8::/32."

_Network = IPv4Network | IPv6Network


def parse(text: str) -> str:
    """Return a network as it is stored: `10.0.0.0/8`, `2001:db8::/32`, and a single address without its length.

    Raises `KeyctlError`: invalid_input, also where bits behind the length are set, with the network that is meant;
    raw_key_in_argument.
    """
    given = parse_line(text, what="network", longest=_LONGEST)
    if _SPELLING.fullmatch(given) is None:
        raise _refusal(given, "is neither a network nor an address", _EXAMPLES)
    try:
        loose = ip_network(given, strict=False)
    except ValueError:
        raise _refusal(given, "is neither a network nor an address", _EXAMPLES) from None
    try:
        return _written(_unmapped(ip_network(given)))
    except ValueError:
        host = given.partition("/")[0]
        raise _refusal(
            given,
            "has bits set behind its length",
            f"Write {_written(_unmapped(loose))} for the network, or {host} for the one address.",
        ) from None


def parse_address(text: str) -> str:
    """Return the address of a client as `allows` takes it. Raises `KeyctlError` as `parse` does."""
    address = parse_line(text, what="address", longest=_LONGEST)
    if _address(address) is None:
        raise KeyctlError(
            Code.INVALID_INPUT,
            "the address is none",
            "Write for example 192.0.2.7 or 2001:db8::1.",
            told=f"{quoted(address)} is no address",
        )
    return address


def parse_all(texts: Iterable[str]) -> tuple[str, ...] | None:
    """Return the networks in their normal form; None, anywhere, where there is not one text. Raises `KeyctlError` as
    `parse` does, and for more than `MOST_NETWORKS`."""
    found = normal(map(parse, texts))
    if len(found) > MOST_NETWORKS:
        raise KeyctlError(
            Code.INVALID_INPUT,
            f"a key is used from {MOST_NETWORKS} networks at most, not {len(found)}",
            "A shorter length takes many in.",
        )
    return found or None


def normal(networks: Iterable[str]) -> tuple[str, ...]:
    """Return networks in the order in which they are stored, IPv4 first, each once."""
    return tuple(sorted(set(networks), key=_order))


def are_sound(networks: Sequence[object]) -> bool:
    """Whether a list of networks is one that a program of ours may have written."""
    return len(networks) <= MOST_NETWORKS and _networks(tuple(networks)) is not None


def allows(networks: tuple[str, ...] | None, address: str | None) -> bool:
    """Whether a key that is limited to `networks` (None: it is not) may be used from a client's `address`.

    None is an address that is not known for certain. An address with a zone names another host on each link, so
    neither lies in any network.
    """
    if networks is None:
        return True
    client = None if address is None else _address(address)
    return client is not None and any(client in network for network in _networks(networks) or ())


def covers(held: Sequence[str] | None, wanted: str) -> bool:
    """Whether one of the networks `held` (None: anywhere) takes in all of the network `wanted`, which `parse` has
    accepted."""
    return held is None or any(_lies_in(_unmapped(ip_network(wanted)), _unmapped(ip_network(each))) for each in held)


def collapsed(addresses: Iterable[str]) -> tuple[str, ...]:
    """Return the networks that `addresses` are in: the /24 (IPv6: /64) of several, else the address. What is no address
    is passed over."""
    near: dict[_Network, set[IPv4Address | IPv6Address]] = {}
    for address in map(_address, addresses):
        if address is None:
            continue
        around = ip_network(f"{address}/{_NEAR[address.version]}", strict=False)
        near.setdefault(around, set()).add(address)
    return normal(str(around if len(found) > 1 else min(found, key=int)) for around, found in near.items())


@lru_cache(maxsize=4096)
def _networks(networks: tuple[object, ...]) -> tuple[_Network, ...] | None:
    # A number would be an address to `ip_network`.
    texts = [each for each in networks if isinstance(each, str)]
    if len(texts) < len(networks):
        return None
    try:
        return tuple(_unmapped(ip_network(each)) for each in texts)
    except ValueError:
        return None


@lru_cache(maxsize=4096)
def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    if isinstance(address, IPv4Address):
        return address
    return None if address.scope_id is not None else address.ipv4_mapped or address


def _unmapped(network: _Network) -> _Network:
    if isinstance(network, IPv6Network) and network.prefixlen >= _MAPPED:
        mapped = network.network_address.ipv4_mapped
        if mapped is not None:
            return IPv4Network((mapped, network.prefixlen - _MAPPED))
    return network


def _lies_in(network: _Network, other: _Network) -> bool:
    if isinstance(network, IPv4Network):
        return isinstance(other, IPv4Network) and network.subnet_of(other)
    return isinstance(other, IPv6Network) and network.subnet_of(other)


def _written(network: _Network) -> str:
    return str(network.network_address if network.prefixlen == network.max_prefixlen else network)


def _order(network: str) -> tuple[int, int, int]:
    parsed = ip_network(network)
    return parsed.version, int(parsed.network_address), parsed.prefixlen


def _refusal(given: str, problem: str, hint: str) -> KeyctlError:
    return KeyctlError(
        Code.INVALID_INPUT, f"the network {problem}", hint, told=f"the network {quoted(given)} {problem}"
    )
