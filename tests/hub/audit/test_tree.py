"""The tree gives the roots and proofs of RFC 9162, and a proof of anything else is refused."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.audit.merkle import verifier
from hub.audit.merkle.proof import proves_growth, proves_inclusion
from hub.audit.merkle.tree import HASH_BYTES, WIDTH, Peaks, Tree, grow, node_hash

HASHES = [sha256(b"%d" % number).digest() for number in range(70_000)]
EDGES = [1, 2, 3, 255, 256, 257, 511, 512, 65_535, 65_536, 65_537, 66_000]
LETTERS = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
"""The leaves of the test vectors of Certificate Transparency, RFC 6962's reference implementation."""
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


def by_definition(leaves: Sequence[bytes]) -> bytes:
    """MTH of RFC 9162, 2.1.1, as it is written there."""
    if len(leaves) < 2:
        return leaves[0] if leaves else sha256(b"").digest()
    middle = 1
    while middle * 2 < len(leaves):
        middle *= 2
    return node_hash(by_definition(leaves[:middle]), by_definition(leaves[middle:]))


def tree_of(*parts: int) -> Tree:
    """A tree that grew by these numbers of leaves, one after the other."""
    tiles: dict[tuple[int, int], bytes] = {}

    def load(level: int, number: int) -> bytes:
        return tiles.get((level, number), b"")

    size = 0
    for each in parts:
        tiles |= grow(size, HASHES[size : size + each], load)
        size += each
    return Tree(load)


FULL = tree_of(70_000)


@pytest.mark.parametrize("size", range(1, 9))
def test_roots_are_those_of_the_published_vectors(size: int) -> None:
    peaks = Peaks()
    for each in LETTERS[:size]:
        peaks.append(sha256(b"\x00" + bytes.fromhex(each)).digest())
    assert peaks.root().hex() == ROOTS[size - 1]


@pytest.mark.parametrize("size", EDGES)
def test_tiles_give_the_root_of_the_definition(size: int) -> None:
    assert FULL.root(size) == by_definition(HASHES[:size])


@given(st.lists(st.integers(1, 700), min_size=1, max_size=8))
def test_it_is_the_same_tree_however_it_grew(parts: list[int]) -> None:
    size = sum(parts)
    peaks = Peaks()
    for each in HASHES[:size]:
        peaks.append(each)
    assert tree_of(*parts).root(size) == peaks.root() == FULL.root(size)


sizes = st.one_of(st.sampled_from(EDGES), st.integers(1, 69_990))


@given(sizes, st.data())
def test_every_leaf_is_proven_and_no_other(size: int, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, size - 1))
    path, root = FULL.inclusion(index, size), FULL.root(size)
    for check in (proves_inclusion, verifier.included):
        assert check(HASHES[index], index, size, path, root)
        assert not check(HASHES[index + 1], index, size, path, root)
        assert not check(HASHES[index], index, size, [*path, HASHES[0]], root)
        assert not check(HASHES[index], index, size, path, HASHES[69_999])
        if path:
            assert not check(HASHES[index], index, size, path[:-1], root)
            at = data.draw(st.integers(0, len(path) - 1))
            assert not check(HASHES[index], index, size, [*path[:at], HASHES[69_999], *path[at + 1 :]], root)


@given(sizes, sizes, st.data())
def test_growth_is_proven_and_nothing_else(one: int, other: int, data: st.DataObject) -> None:
    old, new = sorted((one, other))
    path, roots = FULL.consistency(old, new), (FULL.root(old), FULL.root(new))
    for check in (proves_growth, verifier.grown):
        assert check(old, roots[0], new, roots[1], path)
        assert not check(old, HASHES[0], new, roots[1], path) or old == 1
        assert not check(old, roots[0], new, HASHES[1], path)
        assert not check(old, roots[0], new, roots[1], [*path, HASHES[0]])
        if path:
            at = data.draw(st.integers(0, len(path) - 1))
            assert not check(old, roots[0], new, roots[1], [*path[:at], HASHES[69_999], *path[at + 1 :]])


def test_a_proof_of_what_is_not_there_is_not_given() -> None:
    for ask in (lambda: FULL.inclusion(5, 5), lambda: FULL.consistency(0, 5), lambda: FULL.consistency(6, 5)):
        with pytest.raises(IndexError):
            ask()


def test_a_full_tile_is_256_hashes_and_never_changes() -> None:
    tiles = grow(0, HASHES[:256], lambda _level, _number: b"")
    assert {place: len(tile) for place, tile in tiles.items()} == {(0, 0): WIDTH * HASH_BYTES, (1, 0): HASH_BYTES}
    more = grow(256, HASHES[256:600], lambda *place: tiles.get(place, b""))
    assert sorted(more) == [(0, 1), (0, 2), (1, 0)]
