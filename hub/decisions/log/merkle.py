"""The Merkle tree over a segment's rows (RFC 9162, section 2.1): salted leaves, one root that proves them all."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

SALT_BYTES = 16
EMPTY_ROOT = sha256(b"").digest()


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
