"""Records of other entities that belong to each record, folded page by page as they stream."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime
from typing import Protocol, TypeAlias

import polars as pl

from hub.mappings.expressions import prepare
from hub.mappings.pipeline.fit import fit
from hub.mappings.pipeline.intake import STATE, marked, with_reasons
from hub.mappings.types import HELD, INVALID, READY, CompiledLookup
from hub.sdk.types import DELETED, KEY
from hub.sdk.types import INVALID as BROKEN

ReadLookup: TypeAlias = Callable[[CompiledLookup, pl.DataFrame, datetime], Iterator[pl.DataFrame]]
"""Reads the far records whose fields equal some row of the frame (distinct, no nulls), as the frames of their pages."""

_OURS, _VALUE = "ours.", "_value."
_MANY, _FOUND, _FAILED = "_many", "_found", "_failed"


class LookupStage:
    """One lookup: which keys are asked for, what is kept of the answer, and what becomes of a record without one."""

    def __init__(self, compiled: CompiledLookup, timezone: str) -> None:
        self._compiled = compiled
        self._by = list(compiled.match)
        name = compiled.lookup.name
        self._prefix = f"{name}."
        self._match = prepare({_OURS + field: each for field, each in compiled.match.items()})
        self._keys = [_exactly(compiled, field, timezone) for field in self._by]
        self._where = None if compiled.where is None else prepare({f"{name}.where": compiled.where})
        self._failed = f"lookup {name}: a record that matches cannot be read"
        self._many = f"lookup {name}: more than one match"
        self._missing = f"lookup {name}: no match"

    def enrich(self, frame: pl.DataFrame, read_lookup: ReadLookup, now: datetime) -> pl.DataFrame:
        """The frame with this lookup's columns; rows keep their order. Reads nothing where no record has a key."""
        evaluated = self._match.evaluate(frame, now=now)
        frame = with_reasons(frame, evaluated.errors)
        keys = evaluated.values.select(self._keys)
        asked = keys.filter(frame[STATE] == READY).drop_nulls().unique(maintain_order=True)
        answer = _Answer(self._compiled, keys.clear())
        if asked.height:
            for page in read_lookup(self._compiled, asked, now):
                self._take(answer, page, asked, now)
        return self._joined(frame, keys, answer)

    def _take(self, answer: _Answer, page: pl.DataFrame, asked: pl.DataFrame, now: datetime) -> None:
        """One page: the whole `where` again, and the keys compared exactly, since a far side may fold case or trim."""
        page = page.filter(~pl.col(DELETED).fill_null(value=False))
        if not page.height:
            return
        broken = page[BROKEN].is_not_null()
        if self._where is not None:
            judged = self._where.evaluate(page, now=now)
            broken = broken | judged.errors.is_not_null()
            wanted = judged.values.to_series().fill_null(value=False)
            page, broken = page.filter(wanted | broken), broken.filter(wanted | broken)
        answer.fail(page.filter(broken).select(self._by), asked)
        answer.add(page.filter(~broken).join(asked, on=self._by, how="semi", maintain_order="left"))

    def _joined(self, frame: pl.DataFrame, keys: pl.DataFrame, answer: _Answer) -> pl.DataFrame:
        rows = keys.join(answer.found(), on=self._by, how="left", maintain_order="left")
        rows = rows.join(answer.failed(), on=self._by, how="left", maintain_order="left")
        failed, many, found = (pl.lit(rows[each]) for each in (_FAILED, _MANY, _FOUND))
        frame = frame.with_columns(
            marked(pl.when(failed).then(pl.lit(self._failed)).when(many).then(pl.lit(self._many)))
        )
        missing = self._compiled.lookup.missing
        if missing != "null":
            state = HELD if missing == "hold" else INVALID
            frame = frame.with_columns(marked(pl.when(found.is_null()).then(pl.lit(self._missing)), state))
        return frame.hstack(rows.select(self._columns(rows.columns)))

    def _columns(self, present: list[str]) -> list[pl.Expr]:
        columns = []
        for dotted, kind in self._compiled.columns.items():
            name = _VALUE + dotted.removeprefix(self._prefix)
            value = pl.col(name) if name in present else pl.lit(None)
            columns.append(value.cast(kind.dtype).alias(dotted))
        return columns


class _Answer:
    """What the pages of one lookup come to: at most one row per key, whatever their number."""

    def __init__(self, compiled: CompiledLookup, keys: pl.DataFrame) -> None:
        self._by = keys.columns
        self._keys = keys
        self._folding = _folding(compiled)
        self._filled = False
        self._failures = [keys]

    def add(self, page: pl.DataFrame) -> None:
        """Folds the rows of a page in."""
        if page.height:
            self._filled = True
            self._folding.add(page, self._by)

    def fail(self, failed: pl.DataFrame, asked: pl.DataFrame) -> None:
        """Notes keys whose answer is not whole; a row whose own key could not be read may belong to any of them."""
        if failed.height:
            unknown = failed.select(pl.any_horizontal(pl.all().is_null()).any()).item()
            self._failures.append(asked if unknown else failed.unique())

    def found(self) -> pl.DataFrame:
        """The key fields, `_value.<column>`, `_many` and `_found` (true) of every key that has a match."""
        result = self._folding.result() if self._filled else self._keys
        many = pl.col(_MANY) if _MANY in result.columns else pl.lit(value=False).alias(_MANY)
        values = pl.exclude(*self._by, _MANY).name.prefix(_VALUE)
        return result.select(*self._by, values, many, pl.lit(value=True).alias(_FOUND))

    def failed(self) -> pl.DataFrame:
        """The key fields and `_failed` (true) of every key whose answer is not whole."""
        return pl.concat(self._failures).unique().with_columns(pl.lit(value=True).alias(_FAILED))


class _Folding(Protocol):
    def add(self, frame: pl.DataFrame, by: list[str]) -> None: ...

    def result(self) -> pl.DataFrame: ...


class _One:
    """The one far record per key, and which keys have more than one."""

    def __init__(self) -> None:
        self._kept: pl.DataFrame | None = None

    def add(self, frame: pl.DataFrame, by: list[str]) -> None:
        """A far record that arrives twice is still one; two records are two, whatever they hold."""
        frame = frame.with_columns(pl.lit(value=False).alias(_MANY))
        several = pl.col(_MANY).any() | (pl.col(KEY).n_unique() > 1)
        both = frame if self._kept is None else pl.concat([self._kept, frame])
        grouped = both.group_by(by, maintain_order=True)
        self._kept = grouped.agg(pl.exclude(*by, _MANY).first(), several.alias(_MANY)).select(frame.columns)

    def result(self) -> pl.DataFrame:
        """One row per key."""
        assert self._kept is not None
        return self._kept


def _folding(compiled: CompiledLookup) -> _Folding:
    from hub.mappings.expressions import First, Fold

    if compiled.aggregate is not None:
        return Fold(compiled.aggregate)
    if compiled.order is not None:
        return First(compiled.order)
    return _One()


def _exactly(compiled: CompiledLookup, name: str, timezone: str) -> pl.Expr:
    """Our value in the type of their field, null where theirs cannot equal it: 1.5 matches no integer."""
    dtype, field = compiled.match[name].type.dtype, compiled.entity.by_name[name]
    ours = pl.col(_OURS + name)
    value = fit(ours, dtype, replace(field, length=None, values=()), timezone).value
    if dtype.is_numeric() and dtype != field.dtype:
        value = pl.when(value.cast(dtype, strict=False) == ours).then(value)
    return value.alias(name)
