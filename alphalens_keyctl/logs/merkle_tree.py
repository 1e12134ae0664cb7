"""The Merkle tree of RFC 9162 (the one of RFC 6962) over a list of entries: its root, the proof that one entry stands
in the list, and the proof that a longer list begins with a shorter one.

Whoever holds the root and the size of a list can check both proofs without the list.
"""

import hashlib
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

EMPTY_ROOT: Final = hashlib.sha256(b"").digest()
BLOCK: Final = 4096  # entries; a power of two, so that a block is a whole subtree


class Place(NamedTuple):
    """A node of the tree: how far above the leaves, and which one from the left."""

    level: int
    position: int


class Climbed(NamedTuple):
    """The root over a list; and of the node that was watched, the node itself and what it is hashed with on its way to
    the root, from the bottom."""

    size: int
    root: bytes
    watched: list[bytes]


def leaf(entry: bytes) -> bytes:
    """Return the hash of an entry as a leaf."""
    return hashlib.sha256(b"\0" + entry).digest()


def node(left: bytes, right: bytes) -> bytes:
    """Return the hash of the node over two nodes."""
    return hashlib.sha256(b"\1" + left + right).digest()


def root(blocks: Iterable[Sequence[bytes]]) -> bytes:
    """Return the root over the entries, which come in blocks of `BLOCK`, the last one of as many as there are."""
    return _climb(blocks, None).root


def inclusion(blocks: Iterable[Sequence[bytes]], index: int) -> tuple[bytes, list[bytes]]:
    """Return the root over the entries, and the proof that the entry `index`, counted from 0, is one of them."""
    climbed = _climb(blocks, Place(0, index))
    return climbed.root, climbed.watched[1:]


def consistency(blocks: Iterable[Sequence[bytes]], earlier: int) -> tuple[bytes, list[bytes]]:
    """Return the root over the entries, and the proof that the first `earlier` of them, at least one, had the root that
    somebody holds."""
    place = _last_whole(earlier)
    climbed = _climb(blocks, place)
    if climbed.size == earlier:
        return climbed.root, []
    # The first node of a list whose length is a power of two is its root, which the checker holds.
    return climbed.root, climbed.watched if place.position else climbed.watched[1:]


def includes(root: bytes, size: int, entry: bytes, index: int, proof: Sequence[bytes]) -> bool:
    """Return whether the proof shows that `entry` has the number `index`, from 0, in the list of that size and root."""
    if not 0 <= index < size:
        return False
    here, last, found = index, size - 1, leaf(entry)
    for step in proof:
        if last == 0:
            return False
        if here & 1 or here == last:
            found = node(step, found)
            while here and not here & 1:
                here, last = here >> 1, last >> 1
        else:
            found = node(found, step)
        here, last = here >> 1, last >> 1
    return last == 0 and found == root


def extends(root: bytes, size: int, earlier_root: bytes, earlier: int, proof: Sequence[bytes]) -> bool:
    """Return whether the proof shows that the list of that size and root begins with the list of the size `earlier` and
    the root `earlier_root`."""
    if not 0 < earlier <= size:
        return False
    if earlier == size:
        return not proof and root == earlier_root
    start = _last_whole(earlier)
    here, last = start.position, (size - 1) >> start.level
    steps = list(proof) if here else [earlier_root, *proof]
    if not steps:
        return False
    before = now = steps[0]
    for step in steps[1:]:
        if last == 0:
            return False
        if here & 1 or here == last:
            before, now = node(step, before), node(step, now)
            while here and not here & 1:
                here, last = here >> 1, last >> 1
        else:
            now = node(now, step)
        here, last = here >> 1, last >> 1
    return last == 0 and before == earlier_root and now == root


def _last_whole(size: int) -> Place:
    """Return the last of the whole subtrees of which a list of `size` entries is made."""
    level, index = 0, size - 1
    while index & 1:
        level, index = level + 1, index >> 1
    return Place(level, index)


def _climb(blocks: Iterable[Sequence[bytes]], watch: Place | None) -> Climbed:
    tops: list[bytes] = []
    watched: list[bytes] = []
    height = BLOCK.bit_length() - 1
    above = (
        None if watch is None else Place(max(0, watch.level - height), watch.position >> max(0, height - watch.level))
    )
    size, sha256 = 0, hashlib.sha256
    for block in blocks:
        within = None
        if watch is not None and watch.level < height and above is not None and above.position == len(tops):
            within = Place(watch.level, watch.position & ((BLOCK >> watch.level) - 1))
        # Not `leaf`: for a million entries the calls alone would take as long as all else.
        top, watched_here = _reduced([sha256(b"\0" + entry).digest() for entry in block], within)
        watched += watched_here
        tops.append(top)
        size += len(block)
    if not tops:
        return Climbed(0, EMPTY_ROOT, [])
    top, watched_above = _reduced(tops, above)
    # What was watched inside a block is, at the end of its way there, the block's own node.
    return Climbed(size, top, watched + watched_above[1:] if watched else watched_above)


def _reduced(nodes: list[bytes], watch: Place | None) -> tuple[bytes, list[bytes]]:
    """Return the node over all of these, which stand on one level, and what is watched of the way there."""
    watched: list[bytes] = []
    sha256 = hashlib.sha256
    level = 0
    while True:
        if watch is not None and level >= watch.level:
            index = watch.position >> (level - watch.level)
            if level == watch.level:
                watched.append(nodes[index])
            if index ^ 1 < len(nodes):
                watched.append(nodes[index ^ 1])
        if len(nodes) == 1:
            return nodes[0], watched
        # The last of an odd number of nodes has no partner, and goes up as it is.
        alone = nodes[-1:] if len(nodes) & 1 else []
        nodes = [
            sha256(b"\1" + left + right).digest() for left, right in zip(nodes[::2], nodes[1::2], strict=False)
        ] + alone
        level += 1
