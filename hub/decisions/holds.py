"""Held records: those that wait for a person, who lets them pass the hold once or drops them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

import polars as pl
from sqlalchemy.orm import Session

from hub.decisions.standing.standing import Standing
from hub.decisions.types import DROPPED, HELD, KEY, RELEASED, DecisionError


def held(standing: Standing, mapping: str) -> Iterator[pl.DataFrame]:
    """The records that wait for a person: `_key` and standing columns. Released ones wait no longer."""
    for rows in standing.in_state(mapping, HELD):
        waiting = rows.filter(pl.col("why").ne_missing(RELEASED))
        if not waiting.is_empty():
            yield waiting


def release(session: Session, standing: Standing, mapping: str, keys: pl.Series, now: datetime) -> int:
    """Makes held records due at once, to pass the hold one time. DecisionError, and nothing done, where one is none."""
    instant = pl.lit(now, pl.Datetime("us", "UTC"))
    return _change(session, standing, mapping, keys, [instant.alias("due"), pl.lit(RELEASED).alias("why")])


def drop(session: Session, standing: Standing, mapping: str, keys: pl.Series) -> int:
    """Puts held records aside until they change. DecisionError, and nothing done, where one is not held."""
    never = pl.lit(None, pl.Datetime("us", "UTC"))
    dropped = [pl.lit(DROPPED).alias("state"), never.alias("due"), pl.lit(DROPPED).alias("why")]
    return _change(session, standing, mapping, keys, dropped)


def _change(session: Session, standing: Standing, mapping: str, keys: pl.Series, change: list[pl.Expr]) -> int:
    distinct = keys.unique()
    view = standing.view(mapping, distinct)
    waiting = (view.frame["state"].eq_missing(HELD) & view.frame["why"].ne_missing(RELEASED)).sum()
    if waiting < len(distinct):
        raise DecisionError(f"{len(distinct) - waiting} of {len(distinct)} records are not held by {mapping}")
    updates = view.frame.with_columns(distinct.alias(KEY), *change)
    standing.put(session, view, updates)
    return len(distinct)
