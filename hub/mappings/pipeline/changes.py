"""From decided values to writes: what travels along, what is worth a write, and the changes themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import polars as pl

from hub.mappings.expressions import REASONS, Expression, Prepared, chosen, prepare
from hub.mappings.pipeline.expectations import FEW
from hub.mappings.pipeline.intake import REASON, STATE, TARGET, target_fields, with_reasons
from hub.mappings.pipeline.outcome import BECAUSE, SET, WITH, Facts, Targets, late
from hub.mappings.types import READY, Compiled
from hub.sdk import Changes, FieldType, Mode
from hub.sdk.types import BEFORE, CLEAR, KEY, VERSION

_NO_REASONS = pl.List(pl.String)
_HELD, _UNKNOWN = "held.", "_unknown"
_ROUNDING = 1e-9


class Passengers:
    """What travels along with a write: reasons, time and versions; computed for records about to be written only."""

    def __init__(self, compiled: Compiled) -> None:
        late_set = {name: each for name, each in compiled.set.items() if late(each)}
        both = ((late_set, SET), (compiled.with_, WITH))
        self._groups = [(prepare(each), Targets(compiled, each, prefix)) for each, prefix in both if each]
        self._shortened = [_Shortened(compiled, each) for each, _ in both if each]
        self._titles = {each.name: each.title for each in compiled.document.features}

    def passengers(self, decided: pl.DataFrame, reasons: pl.Series | None, now: datetime, facts: Facts) -> pl.DataFrame:
        """`with.<field>` and the `set.<field>` that show reasons or facts, with `_state` and `_reason` as they now are.

        `reasons` is aligned with `decided`: lists of {feature, effect}, best first.
        """
        if not self._groups:
            return decided[[STATE, REASON]]
        listed = pl.lit(None, dtype=_NO_REASONS) if reasons is None else pl.lit(listed_reasons(reasons, self._titles))
        frame = decided.with_columns(listed.alias(REASONS), pl.col(BECAUSE).alias("because"), *facts.columns())
        found = decided[[STATE, REASON]]
        for (prepared, targets), shortened in zip(self._groups, self._shortened, strict=True):
            evaluated = prepared.evaluate(frame, now=now)
            values, misfit = targets.fitted(evaluated.values)
            if misfit.null_count() < len(misfit):
                values, misfit = targets.fitted(shortened.fitting(evaluated.values, frame, now))
            found = with_reasons(with_reasons(found, evaluated.errors), misfit).hstack(values)
        return found


class _Shortened:
    """Texts with reasons are made to fit their field by showing fewer whole reasons, never a part of one."""

    def __init__(self, compiled: Compiled, expressions: Mapping[str, Expression]) -> None:
        self._each: list[tuple[str, Expression, Prepared, int]] = []
        for name, each in expressions.items():
            length = compiled.target.by_name[name].length
            if each.reasons and length is not None:
                self._each.append((name, each, prepare({name: each}), length))

    def fitting(self, values: pl.DataFrame, frame: pl.DataFrame, now: datetime) -> pl.DataFrame:
        """The values, each too long a text with reasons replaced by the one with the most reasons that fits."""
        for name, expression, prepared, length in self._each:
            for shown in range(expression.reasons - 1, -1, -1):
                long = (values[name].str.len_chars() > length).fill_null(value=False)
                if not long.any():
                    break
                fewer = frame.with_columns(
                    pl.col(REASONS).list.head(shown) if shown else pl.lit(None, _NO_REASONS).alias(REASONS)
                )
                shorter = prepared.evaluate(fewer, now=now).values[name]
                values = values.with_columns(values[name].zip_with(~long, shorter).alias(name))
        return values


def listed_reasons(reasons: pl.Series, titles: Mapping[str, str]) -> pl.Series:
    """`Days since first contact (+)` for each {feature, effect}, in the order given; an effect of zero is no reason."""
    if len(reasons) <= FEW:
        rows = [_few_listed(each, titles) for each in reasons.to_list()]
        return pl.Series(reasons.name, rows, dtype=_NO_REASONS)
    effect = pl.element().struct.field("effect")
    sign = pl.when(effect > 0).then(pl.lit(" (+)")).when(effect < 0).then(pl.lit(" (−)"))
    title = pl.element().struct.field("feature").replace(titles)
    listed = reasons.list.eval((title + sign).drop_nulls())
    return listed.zip_with(listed.list.len() > 0, pl.Series([None], dtype=_NO_REASONS))


def _few_listed(row: list[dict[str, Any]] | None, titles: Mapping[str, str]) -> list[str] | None:
    """The same of one row, sooner than polars starts."""
    shown = [
        f"{titles.get(each['feature'], each['feature'])} ({'+' if each['effect'] > 0 else '−'})"
        for each in row or ()
        if each["effect"]
    ]
    return shown or None


def render_reasons(reasons: pl.Series, titles: Mapping[str, str], n: int) -> pl.Series:
    """The `n` best reasons per row as one text: `Days since first contact (+); Company size (−)`; null where none."""
    shown = listed_reasons(reasons, titles).list.head(n)
    return shown.list.join("; ").alias("reasons")


class Writes:
    """Tells which decided records are worth a write, and makes their changes."""

    def __init__(self, compiled: Compiled) -> None:
        self._compiled = compiled
        self._fields = target_fields(compiled)
        both = (*compiled.set.items(), *compiled.with_.items())
        self._cleared = [name for name, each in both if each.type.kind is None]
        self._compared = [name for name, each in compiled.set.items() if not late(each)]
        self._moved = [self._differs(name) for name in self._compared]
        self._struct = pl.Struct(compiled.target.schema(self._fields))

    def worth_writing(self, decided: pl.DataFrame, last_written: pl.Series | None) -> pl.Series:
        """Per row, whether a `set` value differs from what the record holds: as read in place, else as last written.

        A null is no wish, unless the field is assigned the literal `null`. A numeric difference below the field's
        `when_changed` is none. Where nothing is known of the record (a null struct), every wish is a difference.
        """
        if not self._moved:
            return pl.Series("worth", [False] * decided.height, dtype=pl.Boolean)
        both = decided
        if not self._compiled.in_place:
            both = decided[[SET + name for name in self._compared]].hstack(self._last(decided.height, last_written))
        return both.select(pl.any_horizontal(self._moved).alias("worth")).to_series()

    def _last(self, height: int, last_written: pl.Series | None) -> pl.DataFrame:
        schema = self._compiled.target.schema(self._compared)
        if last_written is None:
            blank = pl.DataFrame(schema={_HELD + name: dtype for name, dtype in schema.items()})
            return blank.clear(height).with_columns(pl.lit(value=True).alias(_UNKNOWN))
        present = last_written.struct.fields
        column = pl.col("last")
        return (
            last_written.alias("last")
            .to_frame()
            .select(
                *(
                    (column.struct.field(name) if name in present else pl.lit(None)).cast(dtype).alias(_HELD + name)
                    for name, dtype in schema.items()
                ),
                column.is_null().alias(_UNKNOWN),
            )
        )

    def _differs(self, name: str) -> pl.Expr:
        wish, field = pl.col(SET + name), self._compiled.target.by_name[name]
        in_place = self._compiled.in_place
        held = pl.col(BEFORE).struct.field(name) if in_place else pl.col(_HELD + name)
        if name in self._cleared:
            return held.is_not_null() if in_place else held.is_not_null() | pl.col(_UNKNOWN)
        step = self._compiled.document.write.when_changed.get(name)
        if step is None or not field.dtype.is_numeric():
            return wish.is_not_null() & wish.ne_missing(held)
        # Wide enough that no difference of two values wraps or overflows.
        wide = pl.Int128() if field.type is FieldType.INTEGER else pl.Float64()
        apart = (wish.cast(wide) - held.cast(wide)).abs().cast(pl.Float64)
        # 0.3 - 0.2 is a little less than 0.1, and the step is meant as it is written.
        far = apart >= step * (1 - _ROUNDING)
        return wish.is_not_null() & wish.ne_missing(held) & far.fill_null(value=True)

    def changes(self, decided: pl.DataFrame, passengers: pl.DataFrame | None) -> Changes:
        """One change per row, in order; ValueError for a row that is not ready, since nothing may be written of it."""
        states = decided[STATE] if passengers is None else passengers[STATE]
        if not (states == READY).all():
            raise ValueError("only records that are ready become changes")
        late = [] if passengers is None else [name for name in passengers.columns if name not in (STATE, REASON)]
        values = decided if passengers is None or not late else decided.hstack(passengers[late])
        compiled = self._compiled
        key, version = (KEY, pl.col(VERSION)) if compiled.in_place else (TARGET, pl.lit(None, dtype=pl.String))
        columns = [
            pl.col(key).alias(KEY),
            version.alias(VERSION),
            pl.col(BEFORE),
            _names(self._cleared).alias(CLEAR),
            *(pl.col((SET if name in compiled.set else WITH) + name).alias(name) for name in self._fields),
        ]
        write = compiled.document.write
        return Changes(compiled.target.name, write.mode, self._fields, chosen(values, columns))

    def clearing(self, keys: pl.Series, before: pl.Series | None = None) -> Changes:
        """Changes that empty every field this mapping writes: for a score that expired or a record that left.

        `keys` are those of the target; `before` holds the values to be replaced, as structs of the fields written.
        """
        frame = pl.DataFrame(
            {KEY: keys, BEFORE: before if before is not None else pl.Series([None] * len(keys), dtype=self._struct)}
        )
        nothing = [pl.lit(None, dtype=each.dtype).alias(each.name) for each in self._struct.fields]
        frame = frame.select(
            KEY, pl.lit(None, dtype=pl.String).alias(VERSION), BEFORE, _names(self._fields).alias(CLEAR), *nothing
        )
        return Changes(self._compiled.target.name, Mode.UPDATE, self._fields, frame)


def _names(fields: Sequence[str]) -> pl.Expr:
    """The same list of names in every row."""
    return pl.lit(pl.Series([list(fields)], dtype=pl.List(pl.String))).first()
