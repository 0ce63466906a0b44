"""Records of other entities that belong to each record, folded page by page as they stream."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime
from typing import TypeAlias

import polars as pl

from hub.mappings.expressions import First, Fold, prepare
from hub.mappings.pipeline.fit import fit
from hub.mappings.pipeline.intake import STATE, marked, with_reasons
from hub.mappings.types import HELD, INVALID, READY, CompiledLookup
from hub.sdk.types import DELETED
from hub.sdk.types import INVALID as BROKEN

ReadLookup: TypeAlias = Callable[[CompiledLookup, pl.DataFrame, datetime], Iterator[pl.DataFrame]]
"""Reads the far records whose fields equal some row of the frame (distinct, no nulls), as the frames of their pages."""

ROWS = "_rows"
"""The column in which `First` tells how many records a key has."""

_OURS, _VALUE, _FOUND, _WHY = "ours.", "value.", "_found", "_why"


class LookupStage:
    """One lookup: which keys are asked for, what is kept of the answer, and what becomes of a record without one."""

    def __init__(self, compiled: CompiledLookup, timezone: str) -> None:
        self._compiled = compiled
        self._by = list(compiled.match)
        name = compiled.lookup.name
        self._match = prepare({_OURS + field: each for field, each in compiled.match.items()})
        self._keys = [_exactly(compiled, field, timezone) for field in self._by]
        self._where = None if compiled.where is None else prepare({f"{name}.where": compiled.where})
        self._missing = f"lookup {name}: no match"

    def enrich(self, frame: pl.DataFrame, read_lookup: ReadLookup, now: datetime) -> pl.DataFrame:
        """The frame with this lookup's columns; rows keep their order. Reads nothing where no record has a key."""
        evaluated = self._match.evaluate(frame, now=now)
        frame = with_reasons(frame, evaluated.errors)
        keys = evaluated.values.select(self._keys)
        asked = keys.filter(frame[STATE] == READY).drop_nulls().unique(maintain_order=True)
        answer = _Answer(self._compiled, keys.clear(), now)
        if asked.height:
            for page in read_lookup(self._compiled, asked, now):
                self._take(answer, page, asked, now)
        return self._joined(frame, keys, answer)

    def _take(self, answer: _Answer, page: pl.DataFrame, asked: pl.DataFrame, now: datetime) -> None:
        """One page: the whole `where` again, and the keys compared exactly, since a far side may fold case or trim."""
        page = page.filter(~pl.col(DELETED).fill_null(value=False))
        broken = page[BROKEN].is_not_null()
        if self._where is not None:
            judged = self._where.evaluate(page, now=now)
            broken = broken | judged.errors.is_not_null()
            wanted = judged.values.to_series().fill_null(value=False) | broken
            page, broken = page.filter(wanted), broken.filter(wanted)
        answer.fail(page.filter(broken).select(self._by), asked)
        answer.add(page.filter(~broken).join(asked, on=self._by, how="semi", maintain_order="left"))

    def _joined(self, frame: pl.DataFrame, keys: pl.DataFrame, answer: _Answer) -> pl.DataFrame:
        rows = keys.join(answer.found(), on=self._by, how="left", maintain_order="left")
        failed = keys.join(answer.failed(), on=self._by, how="left", maintain_order="left")[_WHY]
        frame = with_reasons(with_reasons(frame, failed), rows[_WHY])
        absent = rows[_FOUND].is_null()
        missing = self._compiled.lookup.missing
        if missing != "null":
            state = HELD if missing == "hold" else INVALID
            frame = frame.with_columns(marked(pl.when(pl.lit(absent)).then(pl.lit(self._missing)), state))
        return frame.hstack(answer.values(rows, absent))


class _Answer:
    """What the pages of one lookup come to: at most one row per key, whatever their number."""

    def __init__(self, compiled: CompiledLookup, keys: pl.DataFrame, now: datetime) -> None:
        self._compiled = compiled
        self._by = keys.columns
        self._keys = keys
        self._fold = None if compiled.aggregate is None else Fold(compiled.aggregate, self._by, now=now)
        self._first = First(compiled.order or (), self._by)
        self._filled = False
        self._failures = [keys]

    def add(self, page: pl.DataFrame) -> None:
        """Folds the rows of a page in."""
        if page.height:
            self._filled = True
            (self._first if self._fold is None else self._fold).add(page)

    def fail(self, failed: pl.DataFrame, asked: pl.DataFrame) -> None:
        """Notes keys whose answer is not whole; a row whose own key could not be read may belong to any of them."""
        if failed.height:
            unknown = failed.select(pl.any_horizontal(pl.all().is_null()).any()).item()
            self._failures.append(asked if unknown else failed.unique())

    def failed(self) -> pl.DataFrame:
        """The key fields of every key whose answer is not whole, and `_why`."""
        why = f"lookup {self._compiled.lookup.name}: a record that matches cannot be read"
        return pl.concat(self._failures).unique().with_columns(pl.lit(why).alias(_WHY))

    def found(self) -> pl.DataFrame:
        """Every key that has a match: the key fields, `value.<column>`, `_found`, and `_why` it is of no use."""
        name = self._compiled.lookup.name
        if not self._filled:
            found = self._keys.with_columns(pl.lit(None, dtype=pl.String).alias(_WHY))
        elif self._fold is not None:
            folded = self._fold.result()
            why = (pl.lit(f"lookup {name}: ") + pl.lit(folded.errors)).alias(_WHY)
            found = folded.keys.hstack(folded.values.select(pl.all().name.prefix(_VALUE))).with_columns(why)
        else:
            several = (pl.col(ROWS) > 1) & pl.lit(self._compiled.lookup.take != "first")
            why = pl.when(several).then(pl.lit(f"lookup {name}: more than one match")).alias(_WHY)
            # A key is a value as well: a mapping may use the very field it matched by.
            values = pl.exclude(ROWS).name.prefix(_VALUE)
            found = self._first.result().select(*self._by, values, why)
        return found.with_columns(pl.lit(value=True).alias(_FOUND))

    def values(self, rows: pl.DataFrame, absent: pl.Series) -> pl.DataFrame:
        """The lookup's columns of joined rows. Over no record at all a count is 0, as everywhere in SQL."""
        none = {} if self._fold is None else self._fold.empty().row(0, named=True)
        columns = []
        for dotted, kind in self._compiled.columns.items():
            name = dotted.removeprefix(f"{self._compiled.lookup.name}.")
            value = pl.col(_VALUE + name) if _VALUE + name in rows.columns else pl.lit(None)
            if none.get(name) is not None:
                value = pl.when(pl.lit(absent)).then(pl.lit(none[name])).otherwise(value)
            columns.append(value.cast(kind.dtype).alias(dotted))
        return rows.with_columns(columns).select(list(self._compiled.columns))


def _exactly(compiled: CompiledLookup, name: str, timezone: str) -> pl.Expr:
    """Our value in the type of their field, null where theirs cannot equal it: 1.5 matches no integer."""
    dtype, field = compiled.match[name].type.dtype, compiled.entity.by_name[name]
    ours = pl.col(_OURS + name)
    value = fit(ours, dtype, replace(field, length=None, values=()), timezone).value
    if dtype.is_numeric() and dtype != field.dtype:
        value = pl.when(value.cast(dtype, strict=False) == ours).then(value)
    return value.alias(name)
