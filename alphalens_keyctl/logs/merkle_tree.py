"""The Merkle tree of RFC 9162 (the one of RFC 6962) over a list of entries: its root, and the proof that one entry
stands in the list.

Whoever holds the root and the size of a list can check the proof without the list.
"""

import hashlib
from collections.abc import Iterable, Sequence
from operator import add
from typing import Final

EMPTY_ROOT: Final = hashlib.sha256(b"").digest()
BLOCK: Final = 4096  # entries; a power of two, so that a block is a whole subtree


def leaf(entry: bytes) -> bytes:
    """Return the hash of an entry as a leaf."""
    return hashlib.sha256(b"\0" + entry).digest()


def node(left: bytes, right: bytes) -> bytes:
    """Return the hash of the node over two nodes."""
    return hashlib.sha256(b"\1" + left + right).digest()


def root(blocks: Iterable[Sequence[bytes]]) -> bytes:
    """Return the root over the entries, which come in blocks of `BLOCK`, the last one of as many as there are."""
    return _climbed(blocks, None)[0]


def inclusion(blocks: Iterable[Sequence[bytes]], index: int) -> tuple[bytes, list[bytes]]:
    """Return the root over the entries, and the proof that the entry `index`, counted from 0, is one of them."""
    return _climbed(blocks, index)


def includes(root: bytes, size: int, entry: bytes, index: int, proof: Sequence[bytes]) -> bool:
    """Return whether the proof shows that `entry` has the number `index`, from 0, in the list of that size and root."""
    found = roots(size, entry, index, proof)
    return found is not None and found[1] == root


def roots(size: int, entry: bytes, index: int, proof: Sequence[bytes]) -> tuple[bytes, bytes] | None:
    """Return the root over the first `index + 1` entries and the root over all, if the proof is that `entry` has the
    number `index` in a list of `size`; None for a proof that is none of such a list.

    What the proof has to the left of the entry is all that stands before the entry: the proof of the last entry that
    somebody knew also shows that the list only grew since.
    """
    if not 0 <= index < size:
        return None
    here, last = index, size - 1
    before = found = leaf(entry)
    for step in proof:
        if last == 0:
            return None
        if here & 1 or here == last:
            before, found = node(step, before), node(step, found)
            while here and not here & 1:
                here, last = here >> 1, last >> 1
        else:
            found = node(found, step)
        here, last = here >> 1, last >> 1
    return (before, found) if last == 0 else None


def _climbed(blocks: Iterable[Sequence[bytes]], index: int | None) -> tuple[bytes, list[bytes]]:
    """Return the root, and what the leaf `index` is hashed with on its way there, from the bottom."""
    tops: list[bytes] = []
    path: list[bytes] = []
    for block in blocks:
        within = index % BLOCK if index is not None and index // BLOCK == len(tops) else None
        top, steps = _reduced(_hashed(b"\0", block), within)
        path += steps
        tops.append(top)
    if not tops:
        return EMPTY_ROOT, []
    top, steps = _reduced(tops, None if index is None else index // BLOCK)
    return top, path + steps


def _reduced(nodes: list[bytes], index: int | None) -> tuple[bytes, list[bytes]]:
    """Return the node over all of these, which stand on one level, and what the node `index` is hashed with on its way
    there."""
    path: list[bytes] = []
    while len(nodes) > 1:
        if index is not None:
            if index ^ 1 < len(nodes):
                path.append(nodes[index ^ 1])
            index >>= 1
        # The last of an odd number of nodes has no partner, and goes up as it is.
        alone = nodes[-1:] if len(nodes) & 1 else []
        nodes = _hashed(b"\1", map(add, nodes[::2], nodes[1::2])) + alone
    return nodes[0], path


def _hashed(prefix: bytes, values: Iterable[bytes]) -> list[bytes]:
    """Return the hash of each value behind the prefix."""
    # To begin each hash anew, as `leaf` and `node` do, takes a fourth longer.
    begun = hashlib.sha256(prefix).copy
    hashes = []
    for value in values:
        one = begun()
        one.update(value)
        hashes.append(one.digest())
    return hashes
