"""The Merkle tree over a segment (RFC 9162, section 2.1): one root that proves every row.

An entry of the tree is not one row but the hashes of `GROUP` neighbouring rows, one after the other. So a row is still
proven alone, by the hashes beside its own and the path of their group, and a segment costs one hash per row, not two.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

SALT_BYTES = 16
GROUP = 64
"""Row hashes in one entry of the tree."""
EMPTY_ROOT = sha256(b"").digest()


def segment_root(head: bytes, rows: Sequence[bytes]) -> bytes:
    """The root over a segment: the leaf of what its rows share, then one leaf per group of row hashes (32 bytes)."""
    groups = (b"".join(rows[at : at + GROUP]) for at in range(0, len(rows), GROUP))
    return root([head, *(sha256(b"\x00" + each).digest() for each in groups)])


def root(leaf_hashes: Sequence[bytes]) -> bytes:
    """The root over the leaves, in order: nodes are SHA-256(0x01 ‖ left ‖ right).

    Level by level with the odd one carried up, which gives the tree of RFC 9162 (split at the largest power of two).
    """
    level = list(leaf_hashes)
    if not level:
        return EMPTY_ROOT
    while len(level) > 1:
        pairs = [sha256(b"\x01" + left + right).digest() for left, right in zip(level[::2], level[1::2], strict=False)]
        level = [*pairs, level[-1]] if len(level) % 2 else pairs
    return level[0]
