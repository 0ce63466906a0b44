"""One mapping's standing as a process knows it at one moment, and what a put is about to make of it."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from itertools import pairwise
from typing import TypeAlias

import polars as pl

from hub.decisions.log.rows import packed
from hub.decisions.standing import blocks
from hub.decisions.standing.blocks import TEXT


@dataclass(frozen=True, slots=True)
class Block:
    """A block as the process knows it: its first key text (its rows reach up to the next block's), and its write."""

    id: int
    low: str
    seq: int
    token: int
    rows: int
    states: Mapping[str, int]
    due: datetime | None


@dataclass(frozen=True, slots=True)
class Over:
    """Rows laid over the blocks by one put."""

    seq: int
    rows: pl.DataFrame
    low: str
    high: str


@dataclass(frozen=True)
class Snapshot:
    """One mapping's standing after change number `seq`: blocks in key order, rows laid over in order of time."""

    mapping: str
    seq: int = 0
    epoch: int = 0
    blocks: tuple[Block, ...] = ()
    over: tuple[Over, ...] = ()
    lows: tuple[str, ...] = ()

    @cached_property
    def tops(self) -> dict[str, Top]:
        """By key text the newest row laid over; made where single keys are looked for."""
        return _topped({}, self.over)

    def then(self, seq: int, over: Sequence[Over], *, instead: bool = False) -> Snapshot:
        """This standing after a change that laid rows over the blocks, `instead` of all that lay there before."""
        after = replace(self, seq=seq, over=tuple(over) if instead else (*self.over, *over))
        if "tops" in self.__dict__ and not instead:
            after.__dict__["tops"] = _topped(self.tops, over)
        return after

    def place(self, text: str) -> int:
        """The block in whose range a key lies."""
        return max(bisect_right(self.lows, text) - 1, 0)

    def high(self, at: int) -> str | None:
        """Where the block at that place ends: the next one's first key text."""
        return self.lows[at + 1] if at + 1 < len(self.lows) else None

    def newer(self, at: int, low: str = "", high: str | None = None) -> list[pl.DataFrame]:
        """The rows laid over a block that count for it, oldest first; of the keys from `low` through `high` only."""
        block, end = self.blocks[at], self.high(at)
        start = max(block.low, low)
        found = []
        for each in self.over:
            missed = (
                each.high < start or (end is not None and each.low >= end) or (high is not None and each.low > high)
            )
            if each.seq > block.seq and not missed:
                found.append(blocks.between(each.rows, start, end))
        return [each for each in found if not each.is_empty()]


Top: TypeAlias = tuple[int, pl.DataFrame, int]
"""A row laid over: the change that laid it, and where it is."""


def _topped(below: dict[str, Top], over: Sequence[Over]) -> dict[str, Top]:
    tops = dict(below)
    for each in over:
        tops.update({text: (each.seq, each.rows, row) for row, text in enumerate(each.rows[TEXT].to_list())})
    return tops


@dataclass(frozen=True)
class View:
    """How some keys stand: `frame` has the standing columns, row by row as the keys were given, null where unknown."""

    mapping: str
    frame: pl.DataFrame
    snapshot: Snapshot = field(repr=False)


@dataclass
class Prepared:
    """What a put is about to write: blocks by place in the snapshot (-1: the first ever), and rows to lay over."""

    snapshot: Snapshot
    updates: pl.DataFrame
    rewrites: dict[int, list[tuple[str, pl.DataFrame, bytes]]] = field(default_factory=dict)
    over: pl.DataFrame | None = None


def carried(plan: Prepared, current: Snapshot) -> Prepared | None:
    """The plan on the standing as it is now; None where a block it rewrites moved, or got rows laid over."""
    if is_blank(plan) or plan.snapshot.epoch != current.epoch or (-1 in plan.rewrites and current.blocks):
        return None
    places = {each.id: at for at, each in enumerate(current.blocks)}
    rewrites = {}
    for at, parts in plan.rewrites.items():
        if at < 0:
            rewrites[at] = parts
            continue
        before = plan.snapshot.blocks[at]
        place = places[before.id]
        late = any(each.seq > plan.snapshot.seq for each in current.over) and any(
            not blocks.between(each.rows, before.low, current.high(place)).is_empty()
            for each in current.over
            if each.seq > plan.snapshot.seq
        )
        if current.blocks[place].token != before.token or late:
            return None
        rewrites[place] = parts
    return Prepared(current, plan.updates, rewrites, plan.over)


def is_blank(plan: Prepared) -> bool:
    return not plan.rewrites and plan.over is None


def packed_parts(low: str, rows: pl.DataFrame) -> list[tuple[str, pl.DataFrame, bytes]]:
    parts = blocks.split(rows)
    lows = [low, *(part[TEXT][0] for part in parts[1:])]
    return [(each, part, packed(part)) for each, part in zip(lows, parts, strict=True)]


def place_of_each(snapshot: Snapshot, texts: pl.Series) -> pl.Series:
    lows = pl.Series(snapshot.lows, dtype=pl.String)
    return (lows.search_sorted(texts, side="right").cast(pl.Int64) - 1).clip(0)


def places_of(snapshot: Snapshot, texts: pl.Series) -> list[int]:
    """The blocks in whose range the keys lie, in order."""
    if not snapshot.blocks or texts.is_empty():
        return []
    if len(snapshot.blocks) == 1:
        return [0]
    if not texts.has_nulls() and texts.is_sorted():  # as most pages are: the few ends of blocks are looked for instead
        first, last = snapshot.place(texts[0]), snapshot.place(texts[-1])
        lows = pl.Series(snapshot.lows[first + 1 : last + 1], dtype=pl.String)
        ends = [0, *texts.search_sorted(lows, side="left").to_list(), len(texts)]
        return [first + at for at, (start, end) in enumerate(pairwise(ends)) if start < end]
    return place_of_each(snapshot, texts).unique().sort().to_list()
