"""Records made from the types of an entity's fields: the values on which far systems and their drivers go wrong."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Context, Decimal
from typing import Any
from uuid import NAMESPACE_OID, UUID, uuid5

import polars as pl

from hub.sdk import Changes, Entity, Field, FieldType, Mode, Value
from hub.sdk.testing.harness import Harness, Record
from hub.sdk.types import BEFORE, CLEAR, KEY, VERSION

LONGEST = 100_000
"""Characters in the longest text tried where a field names no length."""

SCRIPTS = (
    "Ærøskøbing",
    "Ελληνικά ≈ ∞",
    "株式会社日立製作所",
    "العربية من اليمين",
    "हिन्दी में",
    "nurse 👩‍⚕️ 👍🏽 𝒳",
    "caf\u00e9",
    "cafe\u0301",
    "  padded  ",
    "O'Brien; DROP TABLE x; --",
    'say "so" \\ %_ {} $1 ?',
    "tab\tand\nline",
    "İstanbul ılık ß",
    "McDonald",
    "mcdonald",
    "NULL",
    "0012",
)
_PREFIXES = ("a", "B", "é", "Z", "ß", "0", "-", "日")
_EXACT = Context(prec=100)
_START = datetime(2024, 3, 30, 22, 15, tzinfo=UTC)


@dataclass(frozen=True)
class Change:
    """One change of a test, before it is a row of `Changes`."""

    key: Record
    values: Record
    version: str | None = None
    before: Record | None = None
    clear: tuple[str, ...] = ()


def key_of(entity: Entity, record: Record) -> dict[str, Value]:
    """The key fields of a record."""
    return {name: record[name] for name in entity.key}


def identity(entity: Entity, record: Record) -> tuple[str, ...]:
    """A key as a hashable, with decimals and texts told apart from their look-alikes."""
    return tuple(repr(canonical(entity.by_name[name], record[name])) for name in entity.key)


def records(harness: Harness, count: int) -> list[dict[str, Value]]:
    """`count` plain records with distinct keys; every two share their stamp."""
    return [record(harness, index) for index in range(count)]


def record(harness: Harness, index: int) -> dict[str, Value]:
    """The plain record with this number."""
    return {each.name: _value(harness, each, index) for each in harness.entity.fields}


def structural(entity: Entity) -> frozenset[str]:
    """The fields whose values are not free: those of the key, stamps, and whatever else names a record."""
    return frozenset((*entity.key, *entity.changed_by, *(each.field for each in entity.alternates)))


def _value(harness: Harness, field: Field, index: int) -> Value:
    entity = harness.entity
    if field.name in entity.key:
        return _key(harness, field, index if field.name == entity.key[-1] else index // 3)
    if field.name in entity.changed_by:
        return stamp(harness, field, index // 2)
    if field.name in structural(entity):
        return _key(harness, field, index)
    own = harness.key(field, index)
    return plain(harness, field, index) if own is None else own


def _key(harness: Harness, field: Field, number: int) -> Value:
    own = harness.key(field, number)
    return key_value(field, number) if own is None else own


def key_value(field: Field, index: int) -> Value:
    """A key: distinct by number, and still distinct where the far side ignores case."""
    if field.type is FieldType.TEXT:
        return f"{_PREFIXES[index % len(_PREFIXES)]}{index:05d}"[-(field.length or 6) :]
    if field.type is FieldType.DECIMAL:
        return Decimal(index) + (Decimal(1).scaleb(-field.scale) if field.scale else 0)
    if field.type is FieldType.INTEGER:
        return index - 2
    return _series(field, index)


def stamp(harness: Harness, field: Field, index: int) -> Value:
    """The moment of a change, ascending with the number, one tick apart."""
    if field.type is FieldType.INTEGER:
        return 1000 + index
    if field.type is FieldType.DATE:
        return _START.date() + timedelta(days=index)
    moment = _START + index * harness.tick
    return moment if field.type is FieldType.INSTANT else moment.replace(tzinfo=None)


def plain(harness: Harness, field: Field, index: int) -> Value:
    """An ordinary value that every far side holds."""
    if field.values:
        return field.values[index % len(field.values)]
    if field.type is FieldType.TEXT:
        return f"Plain {index}"[: field.length]
    if field.type is FieldType.INTEGER:
        return _within(harness, field, index)
    if field.type is FieldType.DECIMAL:
        room = 10 ** max(0, _digits(field)[0] - _digits(field)[1])
        return (Decimal(index % room) + (Decimal(5) / 10 if _digits(field)[1] else 0)) if room > 1 else Decimal(0)
    return _series(field, index)


def _series(field: Field, index: int) -> Value:
    moment = _START + timedelta(hours=index)
    made: Mapping[FieldType, Value] = {
        FieldType.REAL: index + 0.25,
        FieldType.BOOLEAN: index % 2 == 0,
        FieldType.DATE: moment.date() + timedelta(days=index),
        FieldType.TIME: time(index % 24, 30, index % 60),
        FieldType.TIMESTAMP: moment.replace(tzinfo=None),
        FieldType.INSTANT: moment,
        FieldType.BYTES: index.to_bytes(4, "big")[-(field.length or 4) :],
        FieldType.UUID: str(uuid5(NAMESPACE_OID, str(index))),
        FieldType.JSON: json.dumps({"number": index}),
    }
    return made[field.type]


def edges(harness: Harness, field: Field) -> list[Value]:
    """The values at the ends of a field's type, null and empty text apart, those first that break most."""
    if field.values:
        return list(field.values)
    if field.type is FieldType.TEXT:
        return [each for each in SCRIPTS if field.length is None or len(each) <= field.length]
    ends = harness.bounds.get(field.name)
    made = _edges_of_numbers(field) if field.type in _NUMBERS else _edges_of_the_rest(harness, field)
    if ends is None:
        return made
    low, high = ends
    return [low, high, *(each for each in made if each is not None and low <= each <= high)]  # type: ignore[operator]


_NUMBERS = frozenset({FieldType.INTEGER, FieldType.DECIMAL, FieldType.REAL})


def _edges_of_numbers(field: Field) -> list[Value]:
    if field.type is FieldType.INTEGER:
        return [-(2**63), 2**63 - 1, 0, -1, 2**53 + 1]
    if field.type is FieldType.REAL:
        largest = sys.float_info.max
        return [0.1, 1 / 3, -largest, largest, sys.float_info.min, -0.0, 1e22, 123456789.12345679]
    precision, scale = _digits(field)
    top, step = Decimal(10**precision - 1).scaleb(-scale, _EXACT), Decimal(1).scaleb(-scale)
    return [top, top.copy_negate(), step, step.copy_negate(), Decimal(0)]  # `-top` would round to 28 digits


def _edges_of_the_rest(harness: Harness, field: Field) -> list[Value]:
    last = timedelta(days=1) - harness.tick
    days = [date.min, date.max, date(1582, 10, 10), date(1899, 12, 31), date(1970, 1, 1), date(2000, 2, 29)]
    walls = [datetime.min, datetime.combine(date.max, time()) + last, datetime(1969, 12, 31, 23, 59, 59)]
    # Berlin: the first hour never was, the second and third are the same on the clock.
    walls += [datetime(2024, 3, 31, 2, 30), datetime(2024, 10, 27, 0, 30), datetime(2024, 10, 27, 1, 30)]
    walls.append(datetime(2024, 2, 29, 12, 0) + harness.tick)
    made: Mapping[FieldType, list[Value]] = {
        FieldType.DATE: [*days],
        FieldType.TIME: [time(), (datetime.min + last).time(), time(12)],
        FieldType.TIMESTAMP: [*walls],
        FieldType.INSTANT: [each.replace(tzinfo=UTC) for each in walls],
        FieldType.BOOLEAN: [True, False],
        FieldType.BYTES: [b"\x00", b"\x00\xff'\\\n", bytes(range(256))[: field.length], b"caf\xe9"[: field.length]],
        FieldType.UUID: ["00000000-0000-0000-0000-000000000000", str(UUID(int=2**128 - 1)), str(UUID(int=10))],
        FieldType.JSON: ['{"a": [1, null, {"ß": "日"}], "b": 1.5}', "[]", '"text"', "true"],
    }
    return made[field.type]


def longest(field: Field) -> Value:
    """The longest value that a text or bytes field takes, of characters that are longer in bytes."""
    size = LONGEST if field.length is None else min(field.length, LONGEST)
    return b"\xfe" * size if field.type is FieldType.BYTES else ("ßé" * size)[:size]


def another(harness: Harness, field: Field, unlike: Value) -> Value:
    """An ordinary value other than this one."""
    for index in (7, 8, 9, 10):
        value = plain(harness, field, index)
        if not same(field, value, unlike):
            return value
    raise LookupError(f"{field.name} has no second value")


def canonical(field: Field, value: Value) -> Any:
    """A value in a form in which equal means equal to the people who use it: exact, save for how JSON is spaced."""
    if value is None:
        return None
    if field.type is FieldType.DECIMAL:
        exact = Decimal(str(value)).normalize(_EXACT)
        return exact or Decimal(0)
    if field.type is FieldType.REAL:
        return "nan" if math.isnan(float(str(value))) else float(str(value))
    if field.type is FieldType.BOOLEAN and value in (0, 1):
        return bool(value)
    if field.type is FieldType.JSON:
        return json.dumps(json.loads(str(value)), sort_keys=True)
    if isinstance(value, datetime) and value.tzinfo is not None:
        return value.astimezone(UTC).isoformat()
    return value


def same(field: Field, left: Value, right: Value) -> bool:
    """Whether two values of a field are the same value."""
    one, other = canonical(field, left), canonical(field, right)
    return bool(type(one) is type(other) and one == other)


def changes(entity: Entity, fields: Sequence[str], rows: Sequence[Change], mode: Mode = Mode.UPDATE) -> Changes:
    """Rows as the frame that a destination is given."""
    target = pl.Struct(entity.schema(fields))
    schema: dict[str, Any] = {KEY: entity.key_dtype(), VERSION: pl.String(), BEFORE: target, CLEAR: pl.List(pl.String)}
    schema |= entity.schema(fields)
    columns: dict[str, list[Any]] = {name: [each.values.get(name) for each in rows] for name in fields}
    columns[KEY] = [dict(each.key) for each in rows]
    columns[VERSION] = [each.version for each in rows]
    columns[BEFORE] = [
        None if each.before is None else {name: each.before.get(name) for name in fields} for each in rows
    ]
    columns[CLEAR] = [list(each.clear) for each in rows]
    frame = pl.DataFrame({name: pl.Series(name, columns[name], dtype) for name, dtype in schema.items()})
    return Changes(entity.name, mode, tuple(fields), frame)


def _digits(field: Field) -> tuple[int, int]:
    return field.precision or 38, 12 if field.scale is None else field.scale


def _within(harness: Harness, field: Field, index: int) -> int:
    low, high = harness.bounds.get(field.name, (0, 2**63 - 1))
    assert isinstance(low, int)
    assert isinstance(high, int)
    return max(low, 0) + index % (high - max(low, 0) + 1)
