"""The Merkle tree of RFC 9162, section 2, over tiles of 256 hashes, so that a proof reads a handful of rows.

A tile of level 0 holds leaf hashes; one of level n holds the roots of the full tiles below it, 256 leaves to the power
of n each. Only full subtrees have a place in a tile; what lies over the ragged right edge is computed.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from hashlib import sha256

HEIGHT = 8
WIDTH = 1 << HEIGHT
HASH_BYTES = 32
EMPTY_ROOT = sha256(b"").digest()

Load = Callable[[int, int], bytes]
"""The hashes of a tile, one after the other, by its level and number; empty where there is none."""


def node_hash(left: bytes, right: bytes) -> bytes:
    """RFC 9162, 2.1.1: SHA-256 over a one byte and both children."""
    return sha256(b"\x01" + left + right).digest()


def split(size: int) -> int:
    """The largest power of two below `size`, where the tree divides."""
    return 1 << ((size - 1).bit_length() - 1)


class Storeys:
    """Tiles with the subtrees over them, kept from one proof to the next: the upper ones, and the ragged edge.

    What is kept is named by how many hashes it holds as well, and so many of them never change.
    """

    MOST = 64

    def __init__(self) -> None:
        self._held: OrderedDict[tuple[int, int, int], list[list[bytes]]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, level: int, number: int, count: int) -> list[list[bytes]] | None:
        """The storeys of a tile when it held so many hashes."""
        with self._lock:
            return self._held.get((level, number, count))

    def put(self, level: int, number: int, count: int, storeys: list[list[bytes]]) -> None:
        """Keeps them, if another proof will ask for them: each full tile of leaves is one among thousands."""
        if level == 0 and count == WIDTH:
            return
        with self._lock:
            self._held[level, number, count] = storeys
            if len(self._held) > self.MOST:
                self._held.popitem(last=False)

    def clear(self) -> None:
        """Forgets all of it."""
        with self._lock:
            self._held.clear()


class Tree:
    """Roots and proofs over tiles that somebody else keeps; each tile is asked for once.

    `kept` holds tiles beyond this tree, which then is the one of `size` leaves and no other.
    """

    def __init__(self, load: Load, *, kept: Storeys | None = None, size: int = 0) -> None:
        self._load = load
        self._tiles: dict[tuple[int, int], list[list[bytes]]] = {}
        self._kept = kept
        self._size = size

    def root(self, size: int) -> bytes:
        """The root over the first `size` leaves."""
        return self._over(0, size) if size else EMPTY_ROOT

    def inclusion(self, index: int, size: int) -> list[bytes]:
        """The path that proves the leaf at `index` in the tree of `size` (2.1.3.1). IndexError beyond it."""
        if not 0 <= index < size:
            raise IndexError(f"there is no leaf {index} in a tree of {size}")
        path, begin, end = [], 0, size
        while end - begin > 1:
            middle = begin + split(end - begin)
            if index < middle:
                path.append(self._over(middle, end))
                end = middle
            else:
                path.append(self._over(begin, middle))
                begin = middle
        return path[::-1]

    def consistency(self, old: int, new: int) -> list[bytes]:
        """The path that proves the tree of `old` leaves a beginning of that of `new` (2.1.4.1)."""
        if not 0 < old <= new:
            raise IndexError(f"a tree of {old} leaves is no beginning of one of {new}")
        path, begin, end, whole = [], 0, new, True
        while old != end:
            middle = begin + split(end - begin)
            if old <= middle:
                path.append(self._over(middle, end))
                end = middle
            else:
                path.append(self._over(begin, middle))
                begin, whole = middle, False
        if not whole:
            path.append(self._over(begin, end))
        return path[::-1]

    def _over(self, begin: int, end: int) -> bytes:
        size = end - begin
        if size & (size - 1) == 0:
            height = size.bit_length() - 1
            return self._full(height, begin >> height)
        middle = begin + split(size)
        return node_hash(self._over(begin, middle), self._over(middle, end))

    def _full(self, height: int, index: int) -> bytes:
        level, above = divmod(height, HEIGHT)
        number, place = divmod(index, WIDTH >> above)
        found = self._tiles.get((level, number))
        if found is None:
            found = self._tiles[level, number] = self._storeys(level, number)
        return found[above][place]

    def _storeys(self, level: int, number: int) -> list[list[bytes]]:
        if self._kept is None:
            return _storeys(self._load(level, number))
        count = min(WIDTH, (self._size >> level * HEIGHT) - number * WIDTH)
        found = self._kept.get(level, number, count)
        if found is None:
            found = _storeys(self._load(level, number)[: count * HASH_BYTES])
            self._kept.put(level, number, count, found)
        return found


def grow(size: int, leaves: Sequence[bytes], load: Load) -> dict[tuple[int, int], bytes]:
    """The tiles that change as `leaves` are appended to a tree of `size`, by level and number."""
    changed: dict[tuple[int, int], bytes] = {}
    level, added, first = 0, list(leaves), size
    while added:
        number, held = divmod(first, WIDTH)
        tile = load(level, number)[: held * HASH_BYTES] if held else b""
        complete, begun = [], number
        at = 0
        while at < len(added):
            taken = added[at : at + WIDTH - held]
            tile += b"".join(taken)
            changed[level, number] = tile
            if len(tile) == WIDTH * HASH_BYTES:
                complete.append(_storeys(tile)[HEIGHT][0])
            at, number, held, tile = at + len(taken), number + 1, 0, b""
        level, added, first = level + 1, complete, begun
    return changed


def _storeys(tile: bytes) -> list[list[bytes]]:
    """The hashes of a tile and, storey by storey, the full subtrees over them."""
    storeys = [[tile[at : at + HASH_BYTES] for at in range(0, len(tile), HASH_BYTES)]]
    for _ in range(HEIGHT):
        below = storeys[-1]
        storeys.append([node_hash(below[at], below[at + 1]) for at in range(0, len(below) - 1, 2)])
    return storeys


class Peaks:
    """The roots of the full subtrees of a growing log, largest first: all that a root of it needs."""

    def __init__(self) -> None:
        self.size = 0
        self._peaks: list[bytes] = []

    def append(self, leaf: bytes) -> None:
        """One more leaf hash."""
        self._peaks.append(leaf)
        self.size += 1
        joins = (self.size & -self.size).bit_length() - 1
        for _ in range(joins):
            right = self._peaks.pop()
            self._peaks[-1] = node_hash(self._peaks[-1], right)

    def root(self) -> bytes:
        """The root over what was appended so far."""
        if not self._peaks:
            return EMPTY_ROOT
        found = self._peaks[-1]
        for each in reversed(self._peaks[:-1]):
            found = node_hash(each, found)
        return found
