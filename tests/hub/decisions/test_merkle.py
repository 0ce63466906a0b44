"""The tree is that of RFC 9162: known roots, a second way of computing it, and rows proven alone."""

from __future__ import annotations

from hashlib import sha256

import pytest

from hub.decisions.log.merkle import GROUP, root, segment_root

LEAVES = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
"""The inputs of the Certificate Transparency test vectors (certificate-transparency-go, testdata)."""

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


def _leaf(text: str) -> bytes:
    return sha256(b"\x00" + bytes.fromhex(text)).digest()


def _recursive(leaves: list[bytes]) -> bytes:
    if len(leaves) == 1:
        return leaves[0]
    cut = 1 << ((len(leaves) - 1).bit_length() - 1)
    return sha256(b"\x01" + _recursive(leaves[:cut]) + _recursive(leaves[cut:])).digest()


@pytest.mark.parametrize("count", range(1, 9))
def test_roots_are_those_of_the_published_vectors(count: int) -> None:
    assert root([_leaf(each) for each in LEAVES[:count]]).hex() == ROOTS[count - 1]


def test_no_leaves_are_the_hash_of_nothing() -> None:
    assert root([]) == sha256(b"").digest()


@pytest.mark.parametrize("count", [*range(1, 40), 1000, 1023, 1025])
def test_level_by_level_is_the_recursive_tree(count: int) -> None:
    leaves = [sha256(str(each).encode()).digest() for each in range(count)]
    assert root(leaves) == _recursive(leaves)


def _path(leaves: list[bytes], at: int) -> list[tuple[str, bytes]]:
    """The audit path of RFC 9162, section 2.1.3.1: on which side each hash stands."""
    if len(leaves) == 1:
        return []
    cut = 1 << ((len(leaves) - 1).bit_length() - 1)
    if at < cut:
        return [*_path(leaves[:cut], at), ("right", _recursive(leaves[cut:]))]
    return [*_path(leaves[cut:], at - cut), ("left", _recursive(leaves[:cut]))]


@pytest.mark.parametrize("count", [1, GROUP - 1, GROUP, GROUP + 1, 5 * GROUP + 3])
def test_each_row_is_proven_by_the_hashes_beside_it_and_the_path_of_its_group(count: int) -> None:
    head, rows = _leaf("00"), [sha256(str(each).encode()).digest() for each in range(count)]
    entries = [head, *(_leaf(b"".join(rows[at : at + GROUP]).hex()) for at in range(0, count, GROUP))]
    for at in {0, count // 2, count - 1}:
        group = at // GROUP
        beside = rows[group * GROUP : (group + 1) * GROUP]
        found = _leaf(b"".join((*beside[: at % GROUP], rows[at], *beside[at % GROUP + 1 :])).hex())
        for side, other in _path(entries, group + 1):
            found = sha256(b"\x01" + (other + found if side == "left" else found + other)).digest()
        assert found == segment_root(head, rows)


def test_a_segment_root_moves_with_the_head_with_any_row_and_with_their_order() -> None:
    head, rows = _leaf("00"), [sha256(str(each).encode()).digest() for each in range(3 * GROUP)]
    other = [*rows[:100], _leaf("01"), *rows[101:]]
    swapped = [*rows[:10], rows[11], rows[10], *rows[12:]]
    roots = {segment_root(head, each) for each in (rows, other, swapped, rows[:-1], rows[::-1])}
    assert len({*roots, segment_root(_leaf("02"), rows)}) == 6


def test_the_root_of_a_segment_is_what_it_was_when_the_construction_was_fixed() -> None:
    rows = [sha256(str(each).encode()).digest() for each in range(150)]
    assert segment_root(_leaf("00"), rows).hex() == "547574303563acab73632b58fe45d2c6dc2aa965adec34413cd820cd9797d2f3"
