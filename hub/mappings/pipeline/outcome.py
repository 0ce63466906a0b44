"""From predictions to the values a record is to hold: decided, held back, or refused with the reason."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import polars as pl

from hub.mappings.expressions import Expression, chosen, prepare
from hub.mappings.pipeline.fit import fit
from hub.mappings.pipeline.intake import marked, with_reasons
from hub.mappings.types import HELD, WRITTEN_NAMES, Compiled
from hub.sdk import Field, FieldType

BECAUSE = "_because"
SET, WITH = "set.", "with."
NO_NUMBER, NO_LABEL = "the model returned no number", "the model returned no label"
LATE = "the model did not answer in time"
HOLDS = "held for a person, as decide.hold says"

_WHEN, _HOLD = "decide.fallback.when", "decide.hold"
_MISFIT = "_misfit"

_FACTS = frozenset(WRITTEN_NAMES) - {"because"}


@dataclass(frozen=True, slots=True)
class Facts:
    """Where and when a score was made: the same for every record of a page."""

    scored_at: datetime
    model: str
    model_version: int
    mapping_version: str

    def columns(self) -> list[pl.Expr]:
        """One literal column each, typed."""
        moment = pl.lit(self.scored_at.astimezone(UTC), dtype=pl.Datetime("us", "UTC"))
        return [
            moment.alias("scored_at"),
            pl.lit(self.model).alias("model"),
            pl.lit(self.model_version, dtype=pl.Int64).alias("model_version"),
            pl.lit(self.mapping_version).alias("mapping_version"),
        ]


def late(expression: Expression) -> bool:
    """Whether a written value needs the reasons or facts, which are there only once a record is about to be written."""
    return expression.reasons > 0 or not _FACTS.isdisjoint(expression.columns)


class Targets:
    """Some of the target fields, computed together and fitted to what each field holds."""

    def __init__(self, compiled: Compiled, expressions: Mapping[str, Expression], prefix: str) -> None:
        zone = compiled.document.read.timezone
        fitted = {
            name: fit(pl.col(name), each.type.dtype, compiled.target.by_name[name], zone)
            for name, each in expressions.items()
        }
        self._names = [prefix + name for name in fitted]
        self._converted = [each.converted.alias(prefix + name) for name, each in fitted.items()]
        broken = [rule for each in fitted.values() for rule, _ in each.rules]
        self._any = pl.any_horizontal(broken).alias(_MISFIT) if broken else pl.lit(value=False).alias(_MISFIT)
        self._values = [each.value.alias(prefix + name) for name, each in fitted.items()]
        self._reason = pl.coalesce(pl.lit(f"{name}: ") + each.reason for name, each in fitted.items()).alias(_MISFIT)

    def fitted(self, values: pl.DataFrame) -> tuple[pl.DataFrame, pl.Series]:
        """The columns `<prefix><field>`, and the first reason per row. Reasons are looked for only if there is one."""
        quick = chosen(values, [*self._converted, self._any])
        if not quick[_MISFIT].any():
            return quick[self._names], nothing(_MISFIT, quick.height)
        whole = values.select(*self._values, self._reason)
        return whole[self._names], whole[_MISFIT]


class Decisions:
    """Applies `decide` and `set` to predictions, in two evaluations unless one decided name builds on another."""

    def __init__(self, compiled: Compiled) -> None:
        self._decide = compiled.decide
        fallback = compiled.document.decide.fallback
        self._because = None if fallback is None else fallback.because
        when = {} if compiled.fallback_when is None else {_WHEN: compiled.fallback_when}
        self._levels = [prepare(each) for each in _levels({**compiled.decide, **when})]
        self._instead = _Instead(compiled) if compiled.fallback else None
        early = {name: each for name, each in compiled.set.items() if not late(each)}
        hold = {} if compiled.hold is None else {_HOLD: compiled.hold}
        self._written = prepare({**hold, **early}) if hold or early else None
        self._targets = Targets(compiled, early, SET)
        self._answers = dict(_answers(compiled))
        outputs = {name: Field(name, kind).dtype for name, kind in compiled.model.signature.outputs().items()}
        self._unanswered = {**outputs, **{name: each.type.dtype for name, each in compiled.decide.items()}}

    def decide(self, featured: pl.DataFrame, predictions: pl.DataFrame, now: datetime) -> pl.DataFrame:
        """Featured records and their predictions, row by row, with decided names, `_because` and `set.<field>`.

        A record for which anything here is in error is invalid, even where it would have been held.
        """
        if featured.height != predictions.height:
            raise ValueError(f"{predictions.height} predictions for {featured.height} records")
        frame = self._refused(featured.hstack(predictions))
        falls = None
        for level in self._levels:
            evaluated = level.evaluate(frame, now=now)
            values = evaluated.values
            if _WHEN in values.columns:
                falls = values.drop_in_place(_WHEN)
            frame = with_reasons(frame, evaluated.errors).hstack(values)
        return self._finished(self._fallen(frame, falls, now), now)

    def decide_late(self, featured: pl.DataFrame, now: datetime) -> pl.DataFrame:
        """The same columns without the model's answer: outputs null, the fallback taken, `_because` says so.

        ValueError where the mapping has no fallback. Decided names that the fallback does not set are null.
        """
        if self._instead is None:
            raise ValueError("the mapping has no decide.fallback to answer with")
        blank = pl.DataFrame(schema=self._unanswered).clear(featured.height)
        frame = featured.hstack(blank).with_columns(pl.lit(LATE).alias(BECAUSE))
        every = pl.Series([True]).new_from_index(0, featured.height)
        return self._finished(self._instead.put(frame, every, now), now)

    def _finished(self, frame: pl.DataFrame, now: datetime) -> pl.DataFrame:
        if self._written is None:
            return frame
        evaluated = self._written.evaluate(frame.hstack([frame[BECAUSE].alias("because")]), now=now)
        values, misfit = self._targets.fitted(evaluated.values)
        frame = with_reasons(with_reasons(frame, evaluated.errors), misfit)
        if _HOLD in evaluated.values.columns:
            frame = _held(frame, evaluated.values[_HOLD])
        return frame.hstack(values)

    def _refused(self, frame: pl.DataFrame) -> pl.DataFrame:
        for name, kind in self._answers.items():
            answer = frame[name]
            plain = answer.null_count() == 0 and (kind is not FieldType.REAL or np.isfinite(answer.to_numpy()).all())
            if not plain:
                fine = answer.is_finite() if kind is FieldType.REAL else answer.is_not_null()
                why = NO_NUMBER if kind is FieldType.REAL else NO_LABEL
                answered = pl.lit(fine.fill_null(value=False))
                frame = frame.with_columns(marked(pl.when(~answered).then(pl.lit(why))))
        return frame

    def _fallen(self, frame: pl.DataFrame, falls: pl.Series | None, now: datetime) -> pl.DataFrame:
        """`fallback` where its condition holds; an unknown condition does not hold."""
        if falls is None or not falls.any():
            return frame.hstack([nothing(BECAUSE, frame.height)])
        falls = falls.fill_null(value=False)
        frame = frame.with_columns(pl.when(pl.lit(falls)).then(pl.lit(self._because)).alias(BECAUSE))
        return frame if self._instead is None else self._instead.put(frame, falls, now)


class _Instead:
    """The values that a fallback puts in place of decided ones, in the decided types."""

    def __init__(self, compiled: Compiled) -> None:
        self._prepared = prepare(compiled.fallback)
        self._values: list[pl.Expr] = []
        reasons: list[pl.Expr] = []
        for name, each in compiled.fallback.items():
            wanted = compiled.decide[name].type
            if wanted.kind is None or wanted == each.type:
                self._values.append(pl.col(name))
                continue
            field = Field(name, wanted.kind, precision=wanted.precision, scale=wanted.scale)
            fitted = fit(pl.col(name), each.type.dtype, field, compiled.document.read.timezone)
            self._values.append(fitted.value.alias(name))
            reasons.append(pl.lit(f"{name}: ") + fitted.reason)
        self._reason = pl.coalesce(reasons) if reasons else pl.lit(None, dtype=pl.String)

    def put(self, frame: pl.DataFrame, falls: pl.Series, now: datetime) -> pl.DataFrame:
        """The frame with the values of the rows where `falls`; only there an error counts."""
        taken = pl.lit(falls)
        evaluated = self._prepared.evaluate(frame, now=now)
        values = evaluated.values.select(*self._values, self._reason.alias(_MISFIT))
        for reasons in (evaluated.errors, values.drop_in_place(_MISFIT)):
            frame = frame.with_columns(marked(pl.when(taken).then(pl.lit(reasons))))
        return frame.with_columns(
            pl.when(taken).then(pl.lit(each)).otherwise(pl.col(each.name)).alias(each.name)
            for each in values.iter_columns()
        )


def _held(frame: pl.DataFrame, held: pl.Series) -> pl.DataFrame:
    if not held.any():
        return frame
    taken = pl.lit(held.fill_null(value=False))
    return frame.with_columns(marked(pl.when(taken).then(pl.lit(HOLDS)), HELD))


def nothing(name: str, height: int) -> pl.Series:
    """A text column without any text."""
    return pl.Series(name, [None], dtype=pl.String).new_from_index(0, height)


def _levels(expressions: Mapping[str, Expression]) -> Iterator[dict[str, Expression]]:
    """Expressions in groups such that each reads only names of earlier groups, in the order written."""
    group: dict[str, Expression] = {}
    for name, each in expressions.items():
        if not group.keys().isdisjoint(each.columns):
            yield group
            group = {}
        group[name] = each
    if group:
        yield group


def _answers(compiled: Compiled) -> Iterator[tuple[str, FieldType]]:
    """The model's outputs that this mapping looks at."""
    used = frozenset().union(*(each.columns for each in _after_prediction(compiled)))
    for name, kind in compiled.model.signature.outputs().items():
        if name in used:
            yield name, kind


def _after_prediction(compiled: Compiled) -> Iterator[Expression]:
    """Every expression that is evaluated once the model has answered."""
    yield from compiled.decide.values()
    yield from compiled.fallback.values()
    yield from compiled.set.values()
    yield from compiled.with_.values()
    yield from (each for each in (compiled.fallback_when, compiled.hold) if each is not None)
