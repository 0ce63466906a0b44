"""The examples beside each mapping that ships: their tables as connectors describe them, their records, their model."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from importlib.resources import files
from typing import Any

import polars as pl
import pytest

from hub.mappings.check import compile_mapping
from hub.mappings.document import read_document
from hub.mappings.pipeline import Facts, Pipeline
from hub.mappings.types import Compiled, CompiledLookup
from hub.models import ModelVersion, Signature
from hub.models.types import Way
from hub.sdk import Entity, Field, FieldType, Mode
from hub.sdk.types import DELETED, INVALID, KEY, VERSION

MAPPINGS = ("patient_risk", "material_demand", "lab_latest")


@dataclass(frozen=True)
class Example:
    """One mapping with its small tables, what its model answers, and what must come of it."""

    name: str
    text: str
    entities: Mapping[str, Sequence[Entity]]
    pages: Mapping[tuple[str, str], pl.DataFrame]
    version: ModelVersion
    predictions: Mapping[str, Mapping[str, Any]]
    reasons: Mapping[str, Sequence[Mapping[str, Any]]]
    now: datetime
    expected: Mapping[str, Any]

    def compile(self) -> Compiled:
        """The document against the tables."""
        return compile_mapping(read_document(self.text), self.entities.__getitem__, lambda _name, _use: self.version)


def read_example(name: str) -> Example:
    """The example of one mapping, from the files that ship with it."""
    folder = files("mappings") / name
    raw = {each: json.loads((folder / "examples" / f"{each}.json").read_text("utf-8")) for each in _FILES}
    entities: dict[str, list[Entity]] = {}
    pages: dict[tuple[str, str], pl.DataFrame] = {}
    for connection, tables in raw["tables"].items():
        for table, told in tables.items():
            entity = _entity(table, told)
            entities.setdefault(connection, []).append(entity)
            pages[connection, table] = _page(entity, told["records"])
    model = raw["model"]
    return Example(
        name=name,
        text=(folder / "mapping.yaml").read_text("utf-8"),
        entities=entities,
        pages=pages,
        version=_version(name, model["signature"]),
        predictions={key: each["outputs"] for key, each in model["answers"].items()},
        reasons={key: each.get("reasons", []) for key, each in model["answers"].items()},
        now=datetime.fromisoformat(model["now"]),
        expected=raw["expected"],
    )


_FILES = ("tables", "model", "expected")


def _entity(name: str, told: Mapping[str, Any]) -> Entity:
    fields = tuple(Field(each, **{**spec, "type": FieldType(spec["type"])}) for each, spec in told["fields"].items())
    modes = frozenset(Mode(each) for each in told.get("modes", ()))
    return Entity(name, fields, tuple(told["key"]), changed_by=tuple(told.get("changed_by", ())), modes=modes)


def _page(entity: Entity, records: Sequence[Sequence[Any]]) -> pl.DataFrame:
    """Every field of every record, typed as the entity says, and the reserved columns."""
    columns = {
        field.name: pl.Series([_value(field, record[at]) for record in records], dtype=field.dtype)
        for at, field in enumerate(entity.fields)
    }
    frame = pl.DataFrame(columns)
    return frame.with_columns(
        pl.struct(entity.key).alias(KEY),
        pl.lit(None, dtype=pl.String).alias(VERSION),
        pl.lit(value=False).alias(DELETED),
        pl.lit(None, dtype=pl.String).alias(INVALID),
    )


def _value(field: Field, raw: Any) -> Any:
    if raw is None:
        return None
    if field.type is FieldType.DECIMAL:
        return Decimal(raw)
    if field.type is FieldType.DATE:
        return date.fromisoformat(raw)
    if field.type in (FieldType.TIMESTAMP, FieldType.INSTANT):
        return datetime.fromisoformat(raw)
    return raw


def _version(name: str, signature: Mapping[str, Any]) -> ModelVersion:
    return ModelVersion(
        name=name,
        number=1,
        digest="0" * 64,
        signature=Signature.from_json(signature),
        runtime="sklearn",
        way=Way.ONNX,
        largest_difference=0.0,
        rows_compared=0,
        tolerance=1e-6,
        metrics={},
        owner="examples",
        note="",
        pool="default",
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
    )


def run_example(example: Example) -> dict[str, Any]:
    """What becomes of every record, in the shape of `expected.json`."""
    compiled = example.compile()
    pipeline = Pipeline(compiled)
    read = compiled.document.read

    def lookup(each: CompiledLookup, keys: pl.DataFrame, _now: datetime) -> Iterator[pl.DataFrame]:
        page = example.pages[each.lookup.connection, each.entity.name]
        page = page.select(*each.fields, KEY, VERSION, DELETED, INVALID)
        found = page.join(keys, on=keys.columns, how="semi", nulls_equal=False)
        for start in range(0, found.height, 2):  # several pages, as a far side would send them
            yield found.slice(start, 2)

    page = example.pages[read.connection, read.entity].select(*compiled.fields, KEY, VERSION, DELETED, INVALID)
    admitted = pipeline.admit(page, example.now)
    featured = pipeline.features(pipeline.enrich(admitted.frame, lookup, example.now), example.now)
    told = {_name(key): {"state": "outside"} for key in admitted.outside[KEY]}
    told |= _told(featured, pipeline.feature_names)
    ready = featured.filter(pl.col("_state") == "ready")
    keys = [_name(key) for key in ready[KEY]]
    outputs = compiled.model.signature.outputs()
    predictions = pl.DataFrame(
        {name: [example.predictions[key][name] for key in keys] for name in outputs},
        schema={name: Field(name, kind).dtype for name, kind in outputs.items()},
    )
    decided = pipeline.decide(ready, predictions, example.now)
    told |= _told(decided, (*pipeline.feature_names, *compiled.decide, "_because"))
    worth = pipeline.worth_writing(decided, None)
    going = decided.filter(worth & (decided["_state"] == "ready"))
    reasons = pl.Series(
        [example.reasons[_name(key)] for key in going[KEY]],
        dtype=pl.List(pl.Struct({"feature": pl.String, "effect": pl.Float64})),
    )
    facts = Facts(example.now, compiled.model.name, compiled.model.number, f"{example.name} 1")
    passengers = pipeline.passengers(going, reasons, example.now, facts)
    changes = pipeline.changes(going, passengers)
    written = [
        {"key": row[KEY], **{name: row[name] for name in changes.fields}} for row in changes.frame.iter_rows(named=True)
    ]
    plain: dict[str, Any] = json.loads(json.dumps({"records": told, "changes": written}, default=_plain))
    return plain


def _name(key: Mapping[str, Any]) -> str:
    return "/".join(str(each) for each in key.values())


def _told(frame: pl.DataFrame, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    told = {}
    for row in frame.iter_rows(named=True):
        each: dict[str, Any] = {"state": row["_state"]}
        if row["_reason"] is not None:
            each["reason"] = row["_reason"]
        else:
            each |= {name: row[name] for name in names}
        told[_name(row[KEY])] = each
    return told


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        return str(value)
    return value.isoformat()


@pytest.fixture(params=MAPPINGS)
def example(request: pytest.FixtureRequest) -> Example:
    """Each mapping that ships."""
    return read_example(request.param)
