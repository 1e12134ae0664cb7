"""The Merkle tree of RFC 9162, against its definition and test data of Certificate Transparency. Promise 7."""

import hashlib
from collections.abc import Sequence
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alphalens_keyctl.logs import merkle_tree
from alphalens_keyctl.logs.merkle_tree import leaf, node

# The entries and the roots over the first 0, 1, … of them that implementations of Certificate Transparency test with.
ENTRIES: Final = [
    bytes.fromhex(entry)
    for entry in (
        "", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f",
    )
]  # fmt: skip
ROOTS: Final = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
# (index, size) → the proof that is published for it.
INCLUSIONS: Final = {
    (0, 1): [],
    (0, 8): [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ],
    (5, 8): [
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
    (2, 3): ["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"],
}


def in_blocks(entries: Sequence[bytes]) -> list[Sequence[bytes]]:
    return [entries[start : start + merkle_tree.BLOCK] for start in range(0, len(entries), merkle_tree.BLOCK)]


def by_definition(entries: Sequence[bytes]) -> bytes:
    """MTH of RFC 9162, 2.1.1."""
    if not entries:
        return hashlib.sha256(b"").digest()
    if len(entries) == 1:
        return leaf(entries[0])
    split = halves_at(len(entries))
    return node(by_definition(entries[:split]), by_definition(entries[split:]))


def inclusion_by_definition(index: int, entries: Sequence[bytes]) -> list[bytes]:
    """PATH of RFC 9162, 2.1.3.1."""
    if len(entries) == 1:
        return []
    split = halves_at(len(entries))
    if index < split:
        return [*inclusion_by_definition(index, entries[:split]), by_definition(entries[split:])]
    return [*inclusion_by_definition(index - split, entries[split:]), by_definition(entries[:split])]


def halves_at(size: int) -> int:
    """The largest power of two smaller than `size`."""
    return 1 << (size - 1).bit_length() - 1


def test_the_roots_are_those_of_the_published_test_data() -> None:
    for size, root in enumerate(ROOTS):
        assert merkle_tree.root(in_blocks(ENTRIES[:size])).hex() == root, size


def test_the_proofs_are_those_of_the_published_test_data() -> None:
    for (index, size), proof in INCLUSIONS.items():
        root, made = merkle_tree.inclusion(in_blocks(ENTRIES[:size]), index)
        assert ([step.hex() for step in made], root.hex()) == (proof, ROOTS[size])
        assert merkle_tree.includes(bytes.fromhex(ROOTS[size]), size, ENTRIES[index], index, made)


@pytest.mark.parametrize("block", [1, 2, 8, 4096])
def test_roots_and_proofs_are_as_defined_wherever_a_block_ends(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merkle_tree, "BLOCK", block)
    for size in range(1, 36):
        entries = [b"%d" % number for number in range(size)]
        root = by_definition(entries)
        for index in range(size):
            proof = inclusion_by_definition(index, entries)
            assert merkle_tree.inclusion(in_blocks(entries), index) == (root, proof)
            assert merkle_tree.includes(root, size, entries[index], index, proof)
            roots = (by_definition(entries[: index + 1]), root)
            assert merkle_tree.roots(size, entries[index], index, proof) == roots


@given(st.data())
def test_a_proof_of_anything_else_does_not_hold(data: st.DataObject) -> None:
    """Promise 7: another entry, place, size or root, and a proof that is longer, shorter, reordered or altered."""
    size = data.draw(st.integers(1, 70))
    index = data.draw(st.integers(0, size - 1))
    entries = [b"%d" % number for number in range(size)]
    root, proof = merkle_tree.inclusion(in_blocks(entries), index)
    assert merkle_tree.includes(root, size, entries[index], index, proof)
    other = data.draw(st.integers(-1, size + 70).filter(lambda number: number != index))
    assert not merkle_tree.includes(root, size, entries[index], other, proof)
    assert not merkle_tree.includes(root, size, b"another", index, proof)
    assert not merkle_tree.includes(leaf(root), size, entries[index], index, proof)
    assert not merkle_tree.includes(root, size, entries[index], index, [*proof, root])
    assert not merkle_tree.includes(root, 1 << 80, entries[index], index, proof)
    if proof:
        place = data.draw(st.integers(0, len(proof) - 1))
        altered = [*proof[:place], leaf(proof[place]), *proof[place + 1 :]]
        assert not merkle_tree.includes(root, size, entries[index], index, altered)
        assert not merkle_tree.includes(root, size, entries[index], index, proof[:-1])
