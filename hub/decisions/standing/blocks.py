"""The rows of standing as they are kept: typed, in key order, packed into sealed blocks, with newer rows laid over."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import polars as pl

from hub.decisions.keytext import key_text
from hub.decisions.types import KEY, STANDING_COLUMNS, STANDING_STATES, DecisionError

if TYPE_CHECKING:
    from polars._typing import PolarsDataType

TEXT = "_text"
VALUES = "values."
"""Prefix under which the target fields of `values` are kept as columns, so that their set may change over time."""
HAS_VALUES = "values"

SCHEMA: Mapping[str, pl.DataType] = {
    "digest": pl.Binary(),
    "state": pl.String(),
    HAS_VALUES: pl.Boolean(),
    "version": pl.String(),
    "segment": pl.Int64(),
    "row": pl.UInt32(),
    "at": pl.Datetime("us", "UTC"),
    "written_at": pl.Datetime("us", "UTC"),
    "due": pl.Datetime("us", "UTC"),
    "why": pl.String(),
    "attempts": pl.UInt32(),
}

BLOCK_ROWS = 10_000
"""Keys above which a block is split."""
SPLIT_ROWS = 7_500
FEW_ROWS = 64
"""Rows for which polars is told to do one thing after the other."""
FEW = 16
"""Keys up to which they are looked for one by one, which takes less than to set polars going."""


def flat(updates: pl.DataFrame) -> pl.DataFrame:
    """Updates as given, as rows of a block: key text, `_key`, standing columns, target fields; last of a key wins."""
    frame = updates if KEY in updates.columns else _gathered(updates)
    missing = [name for name in STANDING_COLUMNS if name not in frame.columns]
    if missing:
        raise DecisionError(f"standing needs the column {missing[0]}")
    strange = set(frame["state"].to_list()) - STANDING_STATES
    if strange:
        raise DecisionError(f"{min(map(str, strange))} is no state of a record's standing")
    kept = [frame[name].cast(dtype) for name, dtype in SCHEMA.items() if name != HAS_VALUES]
    values = frame["values"]
    parts = values.struct.unnest().get_columns() if isinstance(values.dtype, pl.Struct) else []
    nulls = values.null_count()
    flags = [nulls == 0] * len(values) if nulls in (0, len(values)) else values.is_not_null()
    there = pl.Series(HAS_VALUES, flags, pl.Boolean())
    fields = [each.alias(VALUES + each.name) for each in parts]
    rows = pl.DataFrame([key_text(frame[KEY]).alias(TEXT), frame[KEY], *kept, there, *fields])
    # Pages mostly come in the order of their keys.
    return rows if rows.height == 1 or _ascending(rows[TEXT]) else rows.unique(TEXT, keep="last").sort(TEXT)


def _ascending(texts: pl.Series) -> bool:
    """Whether each text is above the one before it."""
    return bool((texts[1:] > texts[:-1]).all(ignore_nulls=False))


def _gathered(updates: pl.DataFrame) -> pl.DataFrame:
    names = [name for name in updates.columns if name not in STANDING_COLUMNS]
    return updates.select(pl.struct(names).alias(KEY), pl.exclude(names))


def nested(rows: pl.DataFrame, fields: Mapping[str, pl.DataType] | None = None) -> pl.DataFrame:
    """Rows of blocks as standing columns; `fields` fixes the target fields of `values` and their types.

    A field not known of a record is null, and so is one that was kept in a type that is not the one asked for.
    """
    if fields is None:
        fields = {name[len(VALUES) :]: dtype for name, dtype in rows.schema.items() if name.startswith(VALUES)}
    parts = [
        (pl.col(VALUES + name) if rows.schema.get(VALUES + name) == dtype else pl.lit(None, dtype)).alias(name)
        for name, dtype in fields.items()
    ]
    if rows["state"].null_count() == rows.height:
        kinds = {**{name: rows.schema[name] for name in SCHEMA}, HAS_VALUES: pl.Struct(fields) if fields else pl.Null()}
        return _nothing({name: kinds[name] for name in STANDING_COLUMNS}, rows.height)
    values = pl.when(pl.col(HAS_VALUES)).then(pl.struct(parts)) if parts else pl.lit(None)
    wanted = [values.alias(name) if name == HAS_VALUES else pl.col(name) for name in STANDING_COLUMNS]
    return rows.select_seq(wanted) if rows.height <= FEW_ROWS else rows.select(wanted)


def empty() -> pl.DataFrame:
    """No rows, of no known key."""
    return pl.DataFrame(schema={TEXT: pl.String(), **SCHEMA})


def stacked(parts: Iterable[pl.DataFrame]) -> pl.DataFrame:
    """Rows one after the other; where a target field changed its type, its older values are unknown."""
    listed = [each for each in parts if not each.is_empty()]
    if not listed:
        return empty()
    wanted: dict[str, pl.DataType] = {}
    for each in listed:
        wanted.update(each.schema)
    keys = {repr(each.schema[KEY]) for each in listed}
    if len(keys) > 1:
        raise DecisionError("the key of the entity changed its type; clear the mapping's standing and run it in full")
    if all(each.schema == listed[0].schema for each in listed):
        return pl.concat(listed)
    return pl.concat([_shaped(each, wanted) for each in listed])


def _shaped(rows: pl.DataFrame, wanted: Mapping[str, pl.DataType]) -> pl.DataFrame:
    return rows.select(
        pl.col(name) if rows.schema.get(name) == dtype else pl.lit(None, dtype).alias(name)
        for name, dtype in wanted.items()
    )


def laid_over(below: pl.DataFrame, above: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """The rows with later ones in place of theirs, in key order; the last of `above` wins."""
    if not above:
        return below
    newer = stacked(above) if len(above) == 1 else stacked(above).unique(TEXT, keep="last")
    if newer.is_empty():
        return below
    if len(above) == 1 and not below.is_empty() and newer[TEXT][0] > below[TEXT][-1]:
        return stacked([below, newer])
    kept = below if below.is_empty() else below.join(newer.select(TEXT), on=TEXT, how="anti")
    return stacked([kept, newer]).sort(TEXT)


def between(rows: pl.DataFrame, low: str, high: str | None) -> pl.DataFrame:
    """Those of the rows, which are in key order, from `low` up to but not including `high`."""
    if rows.is_empty():
        return rows
    if not low and high is None:
        return rows
    texts = rows[TEXT]  # looked into by bisection: a query of polars takes ten times as long
    start = bisect_left(texts, low)
    stop = rows.height if high is None else bisect_left(texts, high)
    return rows.slice(start, stop - start)


def picked(rows: pl.DataFrame, texts: Sequence[str]) -> pl.DataFrame:
    """Those of the rows, which are in key order, that have one of these key texts; for few of them."""
    if rows.is_empty():
        return rows
    kept = rows[TEXT]
    if len(texts) <= FEW:
        places = [bisect_left(range(rows.height), text, key=kept.__getitem__) for text in texts]
    else:
        places = kept.search_sorted(pl.Series(texts, dtype=pl.String), side="left").to_list()
    held = [at for at, text in zip(places, texts, strict=True) if at < rows.height and kept[at] == text]
    return rows[held] if held else rows.clear()


def aligned(texts: pl.Series, parts: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """The rows of the parts in the order of the key texts, without their keys; null where there is none."""
    rows = stacked(parts)
    if not rows.is_empty() and rows[TEXT].equals(texts):
        return rows
    rows = rows.select(pl.exclude(KEY))
    if rows.is_empty() or (rows[TEXT] < texts.min()).all():  # new keys are above all others more often than not
        return _nothing(rows.schema, len(texts))
    return texts.alias(TEXT).to_frame().join(rows, on=TEXT, how="left", maintain_order="left")


def _nothing(schema: Mapping[str, PolarsDataType], height: int) -> pl.DataFrame:
    """Rows of nulls; `clear` of polars asks a query for each column."""
    return pl.DataFrame([pl.Series(name, [None], dtype).new_from_index(0, height) for name, dtype in schema.items()])


def split(rows: pl.DataFrame) -> list[pl.DataFrame]:
    """The rows as they are, or in equal parts where they are too many for one block."""
    if rows.height <= BLOCK_ROWS:
        return [rows]
    parts = -(-rows.height // SPLIT_ROWS)
    edges = [rows.height * at // parts for at in range(parts + 1)]
    return [rows.slice(start, stop - start) for start, stop in pairwise(edges)]


def counted(rows: pl.DataFrame) -> dict[str, int]:
    """Rows by state."""
    states = rows["state"].value_counts(name="count")
    return dict(sorted(zip(states["state"].to_list(), states["count"].to_list(), strict=True)))
