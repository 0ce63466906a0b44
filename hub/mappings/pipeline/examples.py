"""The examples beside a mapping: small tables and a model's answers in, expected features and changes out.

A folder of three JSON files. `tables.json`: connection → entity → `fields` (named in order, with their types) and
`records` (lists of values in that order). `model.json`: `now`, and under `answers` per record key what the model is
taken to say (`outputs`, `reasons`), so that no model is needed. `expected.json`: `records`, each key with its state
and either its reason or its features, outputs used and decided values, and `changes` in order.

A key is its parts joined by `/`. Dates, times and decimals are text (ISO 8601, plain digits), bytes are hex.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from decimal import Decimal, InvalidOperation
from importlib.resources.abc import Traversable
from operator import index
from pathlib import Path
from typing import Any, TypeAlias

import polars as pl

from hub.mappings.pipeline.intake import REASON, STATE
from hub.mappings.pipeline.outcome import BECAUSE, Facts
from hub.mappings.pipeline.pipeline import Pipeline
from hub.mappings.types import READY, Compiled, CompiledLookup, MappingsError
from hub.sdk import Entity, Field, FieldType
from hub.sdk.types import DELETED, KEY, VERSION
from hub.sdk.types import INVALID as BROKEN

Records: TypeAlias = Sequence[Mapping[str, Any]]

FILES = ("tables", "model", "expected")
_REASONS = pl.List(pl.Struct({"feature": pl.String, "effect": pl.Float64}))
_PAGE_ROWS = 2
_MOST_SHOWN = 5

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


class ExampleError(MappingsError):
    """Examples that do not come out as promised, or cannot be run: what differs, or what would be right."""


@dataclass(frozen=True)
class Examples:
    """What a folder holds: records by connection and entity, the model's answers by key, and what must come of them."""

    now: datetime
    tables: Mapping[tuple[str, str], Records]
    answers: Mapping[str, Mapping[str, Any]]
    expected: Mapping[str, Any]


def read_examples(folder: Path | Traversable) -> Examples:
    """The examples of a folder. ExampleError names the file that is missing or not what it should be."""
    raw = {name: _read_json(folder, name) for name in FILES}
    try:
        now = datetime.fromisoformat(raw["model"]["now"])
        tables = {
            (connection, entity): [dict(zip(told["fields"], row, strict=True)) for row in told["records"]]
            for connection, entities in raw["tables"].items()
            for entity, told in entities.items()
        }
        answers = dict(raw["model"]["answers"])
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ExampleError(f"the examples are not as their guide says: {type(error).__name__} {error}") from None
    if now.tzinfo is None:
        raise ExampleError("model.json: now needs a zone, such as 2026-06-15T12:00:00+00:00")
    return Examples(now, tables, answers, raw["expected"])


def run_examples(compiled: Compiled, folder: Path | Traversable) -> list[str]:
    """The keys of the example records, all of which came out as promised; ExampleError lists what did not."""
    examples = read_examples(folder)
    found = outcome(compiled, examples)
    differences = list(_differences(examples.expected, found))
    if differences:
        more = len(differences) - _MOST_SHOWN
        shown = differences[:_MOST_SHOWN] + ([f"and {more} more"] if more > 0 else [])
        raise ExampleError("the examples do not hold: " + "; ".join(shown))
    return list(found["records"])


def outcome(compiled: Compiled, examples: Examples) -> dict[str, Any]:
    """What becomes of every record, in the shape of `expected.json`."""
    pipeline, now = Pipeline(compiled), examples.now
    read = compiled.document.read
    page = _page(compiled.source, compiled.fields, examples.tables.get((read.connection, read.entity), ()))
    admitted = pipeline.admit(page, now)
    featured = pipeline.features(pipeline.enrich(admitted.frame, _reader(examples), now), now)
    told: dict[str, dict[str, Any]] = {_name(key): {"state": "outside"} for key in admitted.outside[KEY]}
    told |= _told(featured, pipeline.feature_names)
    ready = featured.filter(pl.col(STATE) == READY)
    decided = pipeline.decide(ready, _answers(compiled, examples, ready), now)
    told |= _told(decided, (*pipeline.feature_names, *compiled.decide, BECAUSE))
    going = decided.filter(pipeline.worth_writing(decided, None) & (decided[STATE] == READY))
    reasons = pl.Series([examples.answers[_name(key)].get("reasons", []) for key in going[KEY]], dtype=_REASONS)
    facts = Facts(now, compiled.model.name, compiled.model.number, f"{compiled.document.mapping} 1")
    along = pipeline.passengers(going, reasons, now, facts)
    told |= _told(going.with_columns(along.select(STATE, REASON)).filter(along[STATE] != READY), ())
    sure = along[STATE] == READY
    changes = pipeline.changes(going.filter(sure), along.filter(sure))
    written = [{"key": row[KEY], **{name: row[name] for name in changes.fields}} for row in changes.frame.to_dicts()]
    plain: dict[str, Any] = json.loads(json.dumps({"records": told, "changes": written}, default=_plain))
    return plain


def _read_json(folder: Path | Traversable, name: str) -> dict[str, Any]:
    try:
        raw = json.loads((folder / f"{name}.json").read_text("utf-8"))
    except FileNotFoundError:
        raise ExampleError(f"the examples lack {name}.json") from None
    except json.JSONDecodeError as error:
        raise ExampleError(f"{name}.json, line {error.lineno}: not JSON: {error.msg}") from None
    if not isinstance(raw, dict):
        raise ExampleError(f"{name}.json: expected an object")
    return raw


def _reader(examples: Examples) -> Callable[[CompiledLookup, pl.DataFrame, datetime], Iterator[pl.DataFrame]]:
    def read(lookup: CompiledLookup, match: pl.DataFrame, _now: datetime) -> Iterator[pl.DataFrame]:
        rows = examples.tables.get((lookup.lookup.connection, lookup.entity.name), ())
        found = _page(lookup.entity, lookup.fields, rows).join(match, on=match.columns, maintain_order="left")
        # Several pages, as a far side would send them.
        yield from (found.slice(start, _PAGE_ROWS) for start in range(0, found.height, _PAGE_ROWS))

    return read


def _page(entity: Entity, fields: Sequence[str], rows: Records) -> pl.DataFrame:
    """A page as a source would send it, typed by the entity; fields that the mapping does not read are left out."""
    wanted = dict.fromkeys([*fields, *entity.key])
    return _frame([entity.by_name[each] for each in wanted], rows).select(
        *fields,
        pl.struct(entity.key).alias(KEY),
        pl.lit(None, dtype=pl.String).alias(VERSION),
        pl.lit(value=False).alias(DELETED),
        pl.lit(None, dtype=pl.String).alias(BROKEN),
    )


def _answers(compiled: Compiled, examples: Examples, ready: pl.DataFrame) -> pl.DataFrame:
    outputs = [Field(name, kind) for name, kind in compiled.model.signature.outputs().items()]
    keys = [_name(key) for key in ready[KEY]]
    if missing := [key for key in keys if key not in examples.answers]:
        raise ExampleError(f"model.json: answers has none for {missing[0]}")
    return _frame(outputs, [examples.answers[key].get("outputs", {}) for key in keys])


def _frame(fields: Sequence[Field], rows: Records) -> pl.DataFrame:
    return pl.DataFrame(
        [pl.Series(each.name, [_value(row.get(each.name), each) for row in rows], dtype=each.dtype) for each in fields]
    )


def _value(value: Any, field: Field) -> Any:
    """A JSON value as its field holds it."""
    if value is None:
        return None
    try:
        return _READ.get(field.type, lambda given: given)(value)
    except (TypeError, ValueError, InvalidOperation):
        raise ExampleError(f"{value!r} is no {field.type.value}, which {field.name} holds") from None


def _name(key: Mapping[str, Any]) -> str:
    return "/".join(str(each) for each in key.values())


def _told(frame: pl.DataFrame, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    told = {}
    for row in frame.iter_rows(named=True):
        each = {"state": row[STATE]}
        each |= {name: row[name] for name in names} if row[REASON] is None else {"reason": row[REASON]}
        told[_name(row[KEY])] = each
    return told


def _plain(value: Any) -> str:
    if isinstance(value, bytes):
        return value.hex()
    return str(value) if isinstance(value, Decimal) else str(value.isoformat())


def _differences(expected: Any, found: Any, place: str = "") -> Iterator[str]:
    """Where two JSON values differ, by their paths; numbers by a relative 1e-9."""
    if isinstance(expected, dict) and isinstance(found, dict):
        for name in dict.fromkeys([*expected, *found]):
            here = f"{place}.{name}".lstrip(".")
            if name in expected and name in found:
                yield from _differences(expected[name], found[name], here)
            else:
                yield f"{here} is {'not promised' if name in found else 'missing'}"
    elif isinstance(expected, list) and isinstance(found, list) and len(expected) == len(found):
        for at, (one, other) in enumerate(zip(expected, found, strict=True)):
            yield from _differences(one, other, f"{place}[{at}]")
    elif not _same(expected, found):
        shown = len(found) if isinstance(found, list) else found
        yield f"{place} is {shown}, expected {len(expected) if isinstance(expected, list) else expected}"


def _same(expected: Any, found: Any) -> bool:
    if isinstance(expected, float) and isinstance(found, float):
        return abs(expected - found) <= 1e-9 * max(abs(expected), abs(found))
    return type(expected) is type(found) and bool(expected == found)
