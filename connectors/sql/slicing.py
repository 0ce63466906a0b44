"""Where to cut a selection into slices of about equal size, looking at few records where that will do."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl
import sqlalchemy as sa

from hub.sdk import FieldType

if TYPE_CHECKING:
    from connectors.sql.reading import Query

_MARK_BYTES = 1000
_PROBED = 256
"""Records of a stretch that are looked at to tell how dense they lie."""
_STRETCHES = 2
"""Stretches for each slice that is asked for."""
_FINER = 8
_MOST_PROBES = 1000


def bounds(query: Query, parts: int) -> list[list[str]]:
    """Marks of the key between the slices; fewer where there is little to cut or a mark would be too long."""
    if parts < 2:
        return []
    relation = query.relation
    metas = [relation.meta(name) for name in relation.entity.key]
    indexed = len(metas) == 1 and not (relation.declared or relation.table.view)
    if indexed and metas[0].field.type is FieldType.INTEGER and (edges := _edges(query)) is not None:
        return [[query.client.mark_of(each, metas[0])] for each in _estimated(query, *edges, parts)]
    return _percentiles(query, parts)


@dataclass(frozen=True)
class _Stretch:
    """Whole numbers from `low` to below `high`, and about how many of them are keys."""

    low: int
    high: int
    records: float

    def cut(self, pieces: int) -> list[tuple[int, int]]:
        step = max(1, -(-(self.high - self.low) // pieces))
        return [(low, min(low + step, self.high)) for low in range(self.low, self.high, step)]


def _estimated(query: Query, low: int, high: int, parts: int) -> Iterator[int]:
    """Keys that cut an index of whole numbers, from how dense it lies in places; each look is a short walk along it.

    A stretch that seems to hold more than a slice is looked at in finer ones: keys may lie in clusters far apart.
    """
    found = [_probed(query, *each) for each in _Stretch(low, high + 1, 0.0).cut(_STRETCHES * parts)]
    probes = len(found)
    while probes < _MOST_PROBES:
        share = sum(each.records for each in found) / parts
        coarse = [each for each in found if each.records > max(share, _PROBED) and each.high - each.low > 1]
        if not coarse:
            break
        finer = {each: [_probed(query, *piece) for piece in each.cut(_FINER)] for each in coarse}
        probes += sum(map(len, finer.values()))
        found = [piece for each in found for piece in finer.get(each, [each])]
    yield from _cuts(found, parts)


def _edges(query: Query) -> tuple[int, int] | None:
    """The lowest and the highest key; None where there is none, or where SQLite keeps something else than a number."""
    column, source = query.relation.column(query.relation.entity.key[0]), query.relation.source
    ends = [
        sa.select(end(column)).select_from(source).where(*query.conditions()).scalar_subquery()
        for end in (sa.func.min, sa.func.max)
    ]
    # Two queries in one, since a product looks for both ends along the index only when each is asked for alone.
    found = query.client.rows(sa.select(ends[0].label("low"), ends[1].label("high"))).cast(pl.String).row(0)
    whole = [int(each) for each in found if each is not None and re.fullmatch(r"-?\d+", each)]
    return (whole[0], whole[1]) if len(whole) == len(found) else None


def _probed(query: Query, low: int, high: int) -> _Stretch:
    column = query.relation.column(query.relation.entity.key[0])
    some = (
        sa.select(column.label("k"))
        .select_from(query.relation.source)
        .where(
            *query.conditions(), column >= sa.literal(low, sa.BigInteger()), column < sa.literal(high, sa.BigInteger())
        )
        .order_by(column)
        .limit(_PROBED)
        .subquery()
    )
    told = sa.select(
        sa.func.count().label("n"), sa.func.min(some.c.k).label("first"), sa.func.max(some.c.k).label("last")
    )
    count, first, last = (int(each or 0) for each in query.client.rows(told).row(0))
    if count < _PROBED:
        return _Stretch(low, high, float(count))
    # From the first key on: the stretch may begin with a gap, behind which the keys lie as dense as they do.
    return _Stretch(low, high, count * (high - first) / (last + 1 - first))


def _cuts(found: Sequence[_Stretch], parts: int) -> Iterator[int]:
    share, passed, number = sum(each.records for each in found) / parts, 0.0, 1
    before, last = found[0].low - 1, found[-1].high - 1
    for each in found:
        while number < parts and each.records and passed + each.records >= number * share:
            cut = each.low + int((each.high - each.low) * (number * share - passed) / each.records) - 1
            number += 1
            if cut >= last:
                return
            if cut > before:
                yield cut
                before = cut
        passed += each.records


def _percentiles(query: Query, parts: int) -> list[list[str]]:
    """Marks between parts that were counted."""
    numbered = sa.func.row_number().over(order_by=query.ordered(query.keys)).label("r")
    inner = sa.select(*query.labelled(), numbered).select_from(query.relation.source)
    rows = inner.where(*query.conditions()).subquery()
    total = int(query.client.rows(sa.select(sa.func.count()).select_from(rows)).item())
    step = -(-total // parts)
    if step == 0:
        return []
    cut = sa.select(rows).where(
        rows.c.r % sa.literal(step, sa.BigInteger()) == 0, rows.c.r < sa.literal(total, sa.BigInteger())
    )
    marks = query.client.rows(cut.order_by(rows.c.r)).drop("r").cast(pl.String)
    return [list(row) for row in marks.rows() if len(json.dumps(row)) <= _MARK_BYTES]
