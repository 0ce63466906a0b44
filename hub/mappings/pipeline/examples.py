"""The examples of a mapping: records in, expected features and changes out, run without any far system.

One JSON object per file. `now`, `records` and `expect` are needed; `lookups` gives the far records by lookup, and
`predictions` what the model is taken to answer, where the example shall not depend on a model:

    {"now": "2026-06-15T12:00:00+00:00",
     "records": [{"Id": "00Q1", "NumberOfEmployees": 40}],
     "lookups": {"orders": [{"CustomerNo": "7", "NetAmount": "12.50"}]},
     "predictions": [{"probability": 0.83}],
     "expect": [{"features": {"company_size": 40}, "state": "ready", "changes": {"Score__c": 83}}]}

Dates, times and decimals are text (ISO 8601, plain digits), bytes are hex. What `expect` does not name is not looked
at; `changes` null says that nothing is written.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time
from decimal import Decimal, InvalidOperation
from math import isclose
from operator import index
from typing import Any, TypeAlias

import polars as pl

from hub.mappings.pipeline.intake import REASON, STATE
from hub.mappings.pipeline.outcome import Facts
from hub.mappings.pipeline.pipeline import Pipeline
from hub.mappings.types import READY, Compiled, CompiledLookup
from hub.sdk import Entity, Field, FieldType
from hub.sdk.types import DELETED, KEY, VERSION
from hub.sdk.types import INVALID as BROKEN

Predict: TypeAlias = Callable[[pl.DataFrame], pl.DataFrame]

_KNOWN = frozenset({"about", "now", "records", "lookups", "predictions", "expect"})
_EXPECTED = frozenset({"state", "reason", "features", "changes"})
_READ: Mapping[FieldType, Callable[[Any], Any]] = {
    FieldType.INTEGER: index,
    FieldType.REAL: float,
    FieldType.DECIMAL: lambda value: Decimal(str(value)),
    FieldType.DATE: date.fromisoformat,
    FieldType.TIME: time.fromisoformat,
    FieldType.TIMESTAMP: datetime.fromisoformat,
    FieldType.INSTANT: lambda value: datetime.fromisoformat(value).astimezone(UTC),
    FieldType.BYTES: bytes.fromhex,
}


class ExampleError(ValueError):
    """An example that cannot be run, in one sentence that names the place and what would be right."""


@dataclass(frozen=True)
class Example:
    """One file of examples: `expect` has one entry per record."""

    name: str
    now: datetime
    records: Sequence[Mapping[str, Any]]
    expect: Sequence[Mapping[str, Any]]
    lookups: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    predictions: Sequence[Mapping[str, Any]] | None = None


def read_example(name: str, text: str) -> Example:
    """The example that a file holds; ExampleError says what is wrong with its form."""
    try:
        raw = json.loads(text)
    except json.JSONDecodeError as error:
        raise ExampleError(f"{name}, line {error.lineno}: not JSON: {error.msg}") from None
    if not isinstance(raw, dict) or not {"now", "records", "expect"} <= raw.keys() <= _KNOWN:
        raise ExampleError(
            f"{name}: an example is an object with now, records and expect, and at most {_listed(_KNOWN)}"
        )
    try:
        now = datetime.fromisoformat(raw["now"])
    except (TypeError, ValueError):
        raise ExampleError(f"{name}: now is a moment such as 2026-06-15T12:00:00+00:00") from None
    if now.tzinfo is None:
        raise ExampleError(f"{name}: now needs a zone, such as 2026-06-15T12:00:00+00:00")
    if len(raw["records"]) != len(raw["expect"]):
        raise ExampleError(f"{name}: expect has {len(raw['expect'])} entries for {len(raw['records'])} records")
    for at, each in enumerate(raw["expect"], 1):
        if not isinstance(each, dict) or not each.keys() <= _EXPECTED:
            raise ExampleError(f"{name}, record {at}: expect takes {_listed(_EXPECTED)}")
    return Example(name, now, raw["records"], raw["expect"], raw.get("lookups", {}), raw.get("predictions"))


def run_examples(compiled: Compiled, examples: Sequence[Example], predict: Predict | None = None) -> list[str]:
    """Every difference between what the examples expect and what comes out, one sentence each; empty: all hold.

    `predict` is the model, from features to its outputs; an example with `predictions` of its own does without.
    ExampleError where an example names a field, lookup or output that the mapping does not have.
    """
    pipeline = Pipeline(compiled)
    return [each for example in examples for each in _Run(pipeline, example, predict).differences()]


@dataclass(frozen=True)
class _Run:
    pipeline: Pipeline
    example: Example
    predict: Predict | None

    def differences(self) -> Iterator[str]:
        """Record by record, in order."""
        compiled, example = self.pipeline.compiled, self.example
        page = _page(compiled.source, compiled.fields, example.records, example.name)
        page = page.with_columns(pl.int_range(pl.len()).cast(pl.String).alias(VERSION))
        admitted = self.pipeline.admit(page, example.now).frame
        featured = self.pipeline.features(self.pipeline.enrich(admitted, self._read, example.now), example.now)
        written = self._written(featured)
        at_row = {int(row[VERSION]): row for row in featured.iter_rows(named=True)}
        for at, wanted in enumerate(example.expect):
            row = at_row.get(at)
            where = f"{example.name}, record {at + 1}"
            for each in self._compared(wanted, row, written.get(at)):
                yield f"{where}: {each}"

    def _compared(
        self, wanted: Mapping[str, Any], row: Mapping[str, Any] | None, change: Mapping[str, Any] | None
    ) -> Iterator[str]:
        state = "outside" if row is None else row[STATE] if change is None else change[STATE]
        if wanted.get("state", state) != state:
            yield f"the state is {state}, expected {wanted['state']}"
        reason = None if row is None else row[REASON] if change is None else change[REASON]
        if "reason" in wanted and wanted["reason"] != reason:
            yield f"the reason is {reason!r}, expected {wanted['reason']!r}"
        for name, value in wanted.get("features", {}).items():
            yield from self._feature(name, value, row)
        if "changes" not in wanted:
            return
        if wanted["changes"] is None:
            if change is not None and change["worth"]:
                yield "a change is written, expected none"
        elif change is None or not change["worth"]:
            yield "no change is written, expected one"
        else:
            for name, value in wanted["changes"].items():
                yield from self._changed(name, value, change)

    def _feature(self, name: str, value: Any, row: Mapping[str, Any] | None) -> Iterator[str]:
        expression = self.pipeline.compiled.features.get(name)
        if expression is None or expression.type.kind is None:
            raise ExampleError(f"{self.example.name}: the mapping has no feature {name}")
        if row is not None and not _same(
            row[name], _value(value, Field(name, expression.type.kind), self.example.name)
        ):
            yield f"feature {name} is {row[name]}, expected {value}"

    def _changed(self, name: str, value: Any, change: Mapping[str, Any]) -> Iterator[str]:
        compiled = self.pipeline.compiled
        if name not in compiled.set and name not in compiled.with_:
            raise ExampleError(f"{self.example.name}: the mapping does not write {name}")
        if not _same(change[name], _value(value, compiled.target.by_name[name], self.example.name)):
            yield f"{name} is {change[name]}, expected {value}"

    def _written(self, featured: pl.DataFrame) -> dict[int, dict[str, Any]]:
        """State, reason, target fields and `worth` of each record that is scored, by its place among the records."""
        ready = featured.filter(pl.col(STATE) == READY)
        predictions = self._predictions(ready)
        if predictions is None:
            return {}
        pipeline, now = self.pipeline, self.example.now
        model = pipeline.compiled.model
        decided = pipeline.decide(ready, predictions, now)
        facts = Facts(now, model.name, model.number, pipeline.compiled.document.mapping)
        along = pipeline.passengers(decided, None, now, facts)
        states = along.select(STATE, REASON)
        fine = states[STATE] == READY
        values = pl.concat([decided.drop(STATE, REASON), along], how="horizontal")
        worth = pipeline.worth_writing(decided, None) & fine
        names = {name: name.split(".", 1)[1] for name in values.columns if name.startswith(("set.", "with."))}
        shown = values.select(
            VERSION,
            STATE,
            REASON,
            pl.lit(worth).alias("worth"),
            *(pl.col(each).alias(to) for each, to in names.items()),
        )
        return {int(row[VERSION]): row for row in shown.iter_rows(named=True)}

    def _predictions(self, ready: pl.DataFrame) -> pl.DataFrame | None:
        given, compiled = self.example.predictions, self.pipeline.compiled
        if given is None:
            return None if self.predict is None else self.predict(ready.select(self.pipeline.feature_names))
        if len(given) != len(self.example.records):
            raise ExampleError(f"{self.example.name}: {len(given)} predictions for {len(self.example.records)} records")
        outputs = [Field(name, kind) for name, kind in compiled.model.signature.outputs().items()]
        mine = [given[int(at)] for at in ready[VERSION].to_list()]
        return _frame(outputs, mine, self.example.name)

    def _read(self, lookup: CompiledLookup, match: pl.DataFrame, _now: datetime) -> Iterator[pl.DataFrame]:
        rows = self.example.lookups.get(lookup.lookup.name, [])
        page = _page(lookup.entity, lookup.fields, rows, self.example.name)
        yield page.join(match, on=match.columns, how="semi", maintain_order="left")


def _page(entity: Entity, fields: Sequence[str], rows: Sequence[Mapping[str, Any]], name: str) -> pl.DataFrame:
    """A page as a source would send it."""
    wanted = dict.fromkeys([*fields, *entity.key])
    for row in rows:
        if unknown := sorted(row.keys() - entity.by_name.keys()):
            raise ExampleError(f"{name}: {entity.name} has no field {unknown[0]}")
    frame = _frame([entity.by_name[each] for each in wanted], rows, name, partial=True)
    return frame.select(
        *fields,
        pl.struct(entity.key).alias(KEY),
        pl.lit(None, dtype=pl.String).alias(VERSION),
        pl.lit(value=False).alias(DELETED),
        pl.lit(None, dtype=pl.String).alias(BROKEN),
    )


def _frame(
    fields: Sequence[Field], rows: Sequence[Mapping[str, Any]], name: str, *, partial: bool = False
) -> pl.DataFrame:
    known = {each.name for each in fields}
    for row in () if partial else rows:
        if unknown := sorted(row.keys() - known):
            raise ExampleError(f"{name}: the model has no output {unknown[0]}; it has {', '.join(sorted(known))}")
    columns = [
        pl.Series(each.name, [_value(row.get(each.name), each, name) for row in rows], dtype=each.dtype)
        for each in fields
    ]
    return pl.DataFrame(columns)


def _value(value: Any, field_: Field, name: str) -> Any:
    """A JSON value as its field holds it."""
    if value is None:
        return None
    try:
        read = _READ.get(field_.type, lambda given: given)(value)
    except (TypeError, ValueError, InvalidOperation):
        raise ExampleError(f"{name}: {value!r} is no {field_.type.value}, which {field_.name} holds") from None
    return read


def _same(found: Any, wanted: Any) -> bool:
    if isinstance(found, float) and isinstance(wanted, float):
        return isclose(found, wanted, rel_tol=1e-9)
    return bool(found == wanted)


def _listed(names: frozenset[str]) -> str:
    return ", ".join(sorted(names))
