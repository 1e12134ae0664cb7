"""The client's address: the peer of the connection, or the address that a trusted proxy passed on.

A client may write anything into `X-Forwarded-For`. A trusted proxy appends the true address at the right end; so
the header is read from the right, as far as its addresses belong to trusted proxies.
"""

from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final, NamedTuple

from alphalens_keyctl.errors import Code, KeyctlError

# The peer of a connection over a unix socket, and the word that makes such peers trusted.
UNIX: Final = "unix"
# More proxies than anybody has in a row; a longer header was made to keep the server busy.
_MOST_HOPS: Final = 32
# Longest header whose result is remembered, in characters: room for four addresses.
_MEMORABLE: Final = 200

_Address = IPv4Address | IPv6Address
_Network = IPv4Network | IPv6Network


class Client(NamedTuple):
    """A client's address as it is logged, and the same where it is known for certain; None where it is not."""

    address: str | None
    certain: str | None


class TrustedProxies:
    """The proxies whose X-Forwarded-For is believed: addresses, networks in CIDR notation, or the word `unix`.

    Raises `KeyctlError` (invalid_input) for anything else.
    """

    def __init__(self, given: Iterable[str] = ()) -> None:
        words = (given,) if isinstance(given, str) else tuple(given)
        self._unix = UNIX in words
        self._networks = tuple(map(_network, (word for word in words if word != UNIX)))
        self._remembered = lru_cache(maxsize=4096)(self._client)
        self.vouch = lru_cache(maxsize=4096)(self._vouch)

    def client(self, peer: str | None, forwarded_for: str | None) -> Client:
        """Return the client's address in canonical form, None where neither peer nor trusted proxy names one.

        `peer` is the address of the connection's other end or `UNIX`; `forwarded_for` the value of
        X-Forwarded-For, of several such headers all values in their order, joined by commas.

        An address is certain that a trusted proxy names, and that of a peer without the header. The header of a peer
        that is not trusted may be that of a proxy which nobody named, whose address the peer's then is. Where a trusted
        proxy names no client, or names what is no address, only the last proxy is known.
        """
        if forwarded_for is not None and len(forwarded_for) > _MEMORABLE:
            return self._client(peer, forwarded_for)
        return self._remembered(peer, forwarded_for)

    def _vouch(self, peer: str | None) -> bool:
        """Return whether a peer, an address or `UNIX`, is a trusted proxy."""
        if peer == UNIX:
            return self._unix
        return bool(self._networks) and self._trusts(_address(peer or ""))

    def _client(self, peer: str | None, forwarded_for: str | None) -> Client:
        client = None if peer is None or peer == UNIX else _address(peer)
        if not self.vouch(peer):
            return _client(client, certain=forwarded_for is None and not _has_zone(peer))
        hops = [] if forwarded_for is None else forwarded_for.rsplit(",", _MOST_HOPS)
        for hop in reversed(hops[-_MOST_HOPS:]):
            address = _address(hop)
            if address is None:
                return _client(client, certain=False)
            client = address
            if not self._trusts(address):
                return _client(client, certain=not _has_zone(hop))
        # Every hop is a trusted proxy's or, the first of all, that of a client among them.
        return _client(client, certain=0 < len(hops) <= _MOST_HOPS and not _has_zone(hops[0]))

    def _trusts(self, address: _Address | None) -> bool:
        return address is not None and any(address in network for network in self._networks)


def _client(address: _Address | None, *, certain: bool) -> Client:
    written = None if address is None else str(address)
    return Client(written, written if certain else None)


def _has_zone(text: str | None) -> bool:
    # The same address on another link is another host's.
    return text is not None and "%" in text


def _address(text: str) -> _Address | None:
    """Parse an address with or without port, brackets or zone. An IPv4-mapped IPv6 address becomes IPv4. None for
    anything else."""
    text = text.strip(" \t")
    if text.startswith("["):
        text, closed, port = text[1:].partition("]")
        if not closed or (port and not _is_port(port)):
            return None
    elif text.count(":") == 1:
        text, _, port = text.partition(":")
        if not _is_port(":" + port):
            return None
    try:
        # A zone has a meaning only on the machine that wrote it.
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address


def _is_port(text: str) -> bool:
    return text[:1] == ":" and text.isascii() and text[1:].isdigit() and int(text[1:6]) <= 65535 and len(text) <= 6


def _network(word: str) -> _Network:
    try:
        network = ip_network(word, strict=False)
    except ValueError:
        raise KeyctlError(
            Code.INVALID_INPUT,
            "a trusted proxy is neither an address nor a network",
            "Write for example 10.0.0.0/8, 127.0.0.1, fd00::/8, or the word unix.",
        ) from None
    # Mapped addresses are compared as IPv4, so a mapped network becomes IPv4 too.
    if isinstance(network, IPv6Network) and network.prefixlen >= 96:
        mapped = network.network_address.ipv4_mapped
        if mapped is not None:
            return IPv4Network((mapped, network.prefixlen - 96))
    return network
