"""Decides what an undo writes: for each record that a page wrote the values it replaced, where nobody edited since."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import polars as pl

from hub.decisions import APPLIED, PARKED, PLANNED, UNKNOWN, DecisionLog

MADE = "; it held none of these values before, so they are emptied where they can be, and the record stays"
"""Of a record that the run made, or that was empty: nothing is ever deleted."""


def undo_segment(
    log: DecisionLog,
    segment: int,
    run: str,
    targets: Sequence[tuple[str, str]],
    required: Collection[str] = (),
    *,
    makes: bool = False,
) -> pl.DataFrame:
    """The decisions that take one segment back. `targets` are (group prefix, field): `set.` or `with.`.

    A field that the segment left alone is expected to hold what it held before, so that nobody's edit is overwritten.
    `makes` says that the run made records: those are emptied and stay, but for the `required` fields, which never held
    null and cannot.
    """
    frame = log.frame(segment)
    results = log.results(segment).select("row", pl.col("state").alias("_result"))
    written = (
        frame.with_row_index("row")
        .with_columns(pl.col("row").cast(results.schema["row"]))
        .join(results, on="row", how="left")
        # Without a sure answer the write may have landed all the same: the condition below tells.
        .filter((pl.col("_state") == PLANNED) & pl.col("_result").fill_null(UNKNOWN).is_in([APPLIED, UNKNOWN, PARKED]))
    )
    cleared = pl.col("_clear").fill_null([])
    fields = [name for _, name in targets]
    put_back = [pl.col(f"before.{name}").alias(f"{prefix}{name}") for prefix, name in targets]
    expected = [
        pl.when(cleared.list.contains(name))
        .then(None)
        .otherwise(pl.coalesce(pl.col(f"{prefix}{name}"), pl.col(f"before.{name}")))
        .alias(f"before.{name}")
        for prefix, name in targets
    ]
    blank = [
        pl.when(pl.col(f"before.{name}").is_null()).then(pl.lit(name)).otherwise(pl.lit(None, pl.String))
        for name in fields
        if name not in required
    ]
    empties = pl.concat_list(blank) if blank else pl.lit([], pl.List(pl.String))
    why = pl.lit(f"undo of run {run}")
    held = pl.any_horizontal(pl.col(f"before.{name}").is_not_null() for name in fields)
    return written.select(
        "_key",
        "_target",
        *put_back,
        *expected,
        _version=pl.lit(None, pl.String),
        _state=pl.lit(PLANNED),
        _reason=pl.when(~held & pl.lit(value=makes)).then(why + MADE).otherwise(why),
        _because=pl.lit(None, pl.String),
        _digest=pl.col("_digest"),
        _clear=empties.list.drop_nulls(),
        _previous=pl.struct(pl.lit(segment, pl.Int64).alias("segment"), pl.col("row").cast(pl.UInt32).alias("row")),
    )
