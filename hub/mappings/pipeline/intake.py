"""From pages to features: which records are due, and what the model is shown of each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

import polars as pl

from hub.mappings.expressions import Expression, Prepared, chosen, prepare
from hub.mappings.pipeline.expectations import Rules
from hub.mappings.pipeline.fit import fit
from hub.mappings.types import INVALID, READY, Compiled
from hub.models import InputField
from hub.sdk import Field, FieldType
from hub.sdk.types import BEFORE, DELETED, KEY, VERSION
from hub.sdk.types import INVALID as BROKEN

STATE, REASON, TARGET = "_state", "_reason", "_target"
"""Columns of every frame after `admit`; `_target` is the key of the record written, where that is not the one read."""

OUTSIDE = (KEY, VERSION, DELETED)

_WHERE = "where"
_KEY_OF = "key of the target, "


@dataclass(frozen=True, slots=True)
class Admitted:
    """A page split in two: `frame` holds the records that are due, with `_state` and `_reason`; `outside` the others.

    `outside` has `_key`, `_version` and `_deleted`: records that are gone, or no longer selected.
    """

    frame: pl.DataFrame
    outside: pl.DataFrame


def marked(reason: pl.Expr, state: str = INVALID) -> tuple[pl.Expr, pl.Expr]:
    """`_state` and `_reason` with those still ready and having this reason taken out: the first reason wins."""
    taken = (pl.col(STATE) == READY) & reason.is_not_null()
    return (
        pl.when(taken).then(pl.lit(state)).otherwise(pl.col(STATE)).alias(STATE),
        pl.when(taken).then(reason).otherwise(pl.col(REASON)).alias(REASON),
    )


def with_reasons(frame: pl.DataFrame, reasons: pl.Series) -> pl.DataFrame:
    """The frame with every ready record that has a reason made invalid."""
    if reasons.null_count() == len(reasons):
        return frame
    return frame.with_columns(marked(pl.lit(reasons)))


class Intake:
    """Re-applies the whole `where` to what a source sent."""

    def __init__(self, compiled: Compiled) -> None:
        self._where = None if compiled.where is None else prepare({_WHERE: compiled.where})

    def admit(self, page: pl.DataFrame, now: datetime) -> Admitted:
        """SQL's logic: unknown is not selected. A record that cannot be read or judged is due, and invalid.

        Such a record is kept although its `where` says no: the field that could not be read may be why.
        """
        wanted = errors = None
        if self._where is not None:
            judged = self._where.evaluate(page, now=now)
            wanted, errors = judged.values.to_series(), judged.errors
        if _plain(page, wanted, errors):
            ready = [one.new_from_index(0, page.height) for one in _ALL_READY] if page.height else _NONE_READY
            return Admitted(page.hstack(ready), page[list(OUTSIDE)].clear())
        reason = pl.col(BROKEN) if errors is None else pl.coalesce(BROKEN, pl.lit(errors))
        chosen = pl.lit(value=True) if wanted is None else pl.lit(wanted).fill_null(value=False)
        due = (~pl.col(DELETED)).fill_null(value=True) & (chosen | reason.is_not_null())
        state = pl.when(reason.is_null()).then(pl.lit(READY)).otherwise(pl.lit(INVALID))
        whole = page.with_columns(state.alias(STATE), reason.alias(REASON), due.alias("_due"))
        return Admitted(whole.filter("_due").drop("_due"), whole.filter(~pl.col("_due")).select(OUTSIDE))


_ALL_READY = [pl.Series(STATE, [READY]), pl.Series(REASON, [None], dtype=pl.String)]
_NONE_READY = [each.clear() for each in _ALL_READY]


def _plain(page: pl.DataFrame, wanted: pl.Series | None, errors: pl.Series | None) -> bool:
    """Whether every record is due and can be read, as it is of nearly every page."""
    if page[BROKEN].null_count() < page.height or page[DELETED].any():
        return False
    if errors is not None and errors.null_count() < len(errors):
        return False
    return wanted is None or bool(wanted.all(ignore_nulls=False))


class Featuring:
    """Computes what the model is shown, and keeps beside it only what later stages need."""

    def __init__(self, compiled: Compiled) -> None:
        key = compiled.key or {}
        self._prepared: Prepared = prepare({**compiled.features, **{_KEY_OF + name: key[name] for name in key}})
        self._beside = [pl.col(KEY), pl.col(VERSION), _before(compiled).alias(BEFORE), pl.col(STATE), pl.col(REASON)]
        inputs = compiled.model.signature.by_name
        fitted = {name: _as_input(name, each, inputs.get(name)) for name, each in compiled.features.items()}
        keys = dict(_target_key(compiled))
        self._shown = [each.value.alias(name) for name, each in fitted.items()]
        self._shown += _target(compiled, keys)
        misfits = [
            pl.lit(f"{name}: ") + each.reason
            for name, each in (*fitted.items(), *keys.items())
            if each.reason is not None
        ]
        self._misfit = pl.coalesce(misfits) if misfits else None
        self._rules = Rules(compiled)

    def features(self, frame: pl.DataFrame, now: datetime) -> pl.DataFrame:
        """`_key _version _before _state _reason`, the features and, where another record is written, `_target`."""
        evaluated = self._prepared.evaluate(frame, now=now)
        values = chosen(evaluated.values, self._shown)
        found = with_reasons(chosen(frame, self._beside), evaluated.errors)
        if self._misfit is not None:
            found = with_reasons(found, evaluated.values.select(self._misfit.alias("misfit")).to_series())
        return self._judged(found.hstack(values))

    def _judged(self, featured: pl.DataFrame) -> pl.DataFrame:
        verdicts = self._rules.verdicts(featured)
        if verdicts is None:
            return featured
        taken = (pl.col(STATE) == READY) & pl.lit(verdicts["state"]).is_not_null()
        return featured.with_columns(
            pl.when(taken).then(pl.lit(verdicts["state"])).otherwise(pl.col(STATE)).alias(STATE),
            pl.when(taken).then(pl.lit(verdicts["reason"])).otherwise(pl.col(REASON)).alias(REASON),
        )


def target_fields(compiled: Compiled) -> tuple[str, ...]:
    """Every field written, those of `set` first."""
    return (*compiled.set, *compiled.with_)


def _before(compiled: Compiled) -> pl.Expr:
    fields = target_fields(compiled)
    if compiled.in_place:
        return pl.struct(fields)
    return pl.lit(None, dtype=pl.Struct(compiled.target.schema(fields)))


@dataclass(frozen=True, slots=True)
class _Shown:
    value: pl.Expr
    reason: pl.Expr | None = None


def _as_input(name: str, expression: Expression, wanted: InputField | None) -> _Shown:
    """A feature in its input's type; the check made them one, save for a bare null and numbers given as reals."""
    value, dtype = pl.col(name), expression.type.dtype
    if wanted is None:
        return _Shown(value)
    if wanted.type is FieldType.REAL:
        return _Shown(value.cast(pl.Float64))
    field = Field(name, wanted.type)
    if dtype == field.dtype:
        return _Shown(value)
    fitted = fit(value, dtype, field, "UTC")
    return _Shown(fitted.value, fitted.reason)


def _target_key(compiled: Compiled) -> Iterator[tuple[str, _Shown]]:
    """The parts of the key of the record written, in that key's own order and types."""
    if compiled.in_place or compiled.key is None:
        return
    for name in compiled.target.key:
        expression, field = compiled.key[name], compiled.target.by_name[name]
        fitted = fit(pl.col(_KEY_OF + name), expression.type.dtype, field, compiled.document.read.timezone)
        missing = pl.when(fitted.value.is_null()).then(pl.lit("missing"))
        yield _KEY_OF + name, _Shown(fitted.value, pl.coalesce(fitted.reason, missing))


def _target(compiled: Compiled, parts: Mapping[str, _Shown]) -> Iterator[pl.Expr]:
    if compiled.in_place:
        return
    if compiled.key is None:
        yield pl.lit(None, dtype=compiled.target.key_dtype()).alias(TARGET)
        return
    yield pl.struct(each.value.alias(name.removeprefix(_KEY_OF)) for name, each in parts.items()).alias(TARGET)
