"""Records that a program sent as JSON, as a page of the entity they belong to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time
from decimal import Decimal, InvalidOperation
from difflib import get_close_matches
from typing import Any, TypeAlias

import polars as pl

from hub.runs.types import BadRequestError
from hub.sdk import Entity, Field, FieldType, Value

Columns: TypeAlias = Mapping[str, list[Value]]
"""Checked values by field, one list entry a record."""


def inline(
    entity: Entity, fields: Sequence[str], records: Sequence[Mapping[str, Any]], what: str = "records"
) -> pl.DataFrame:
    """A page (`Entity.page_schema`) of `fields`; what a record does not give is null.

    BadRequestError names the record (`what` and its number from 0), the field and what was expected; never the value.
    """
    return framed(entity, fields, [checked(entity, fields, records, what)])


def checked(
    entity: Entity, fields: Sequence[str], records: Sequence[Mapping[str, Any]], what: str = "records"
) -> Columns:
    """The values of `fields` and of the key, each as its field has it. BadRequestError as `inline`."""
    known = dict.fromkeys((*fields, *entity.key))
    typed = [(name, entity.by_name[name]) for name in known]
    columns: dict[str, list[Value]] = {name: [] for name in known}
    for number, record in enumerate(records):
        if not record.keys() <= known.keys():
            name = next(name for name in record if name not in known)
            raise BadRequestError(f"{what}[{number}].{_shown(name)}: {_unknown(entity, name, set(known))}")
        for name in entity.key:
            if record.get(name) is None:
                raise BadRequestError(f"{what}[{number}].{name}: missing; it is part of the key of {entity.name}")
        for name, field in typed:
            raw = record.get(name)
            columns[name].append(None if raw is None else _value(f"{what}[{number}]", field, raw))
    if len(set(keys := keys_of(entity, columns))) < len(keys):
        again = next(at for at, key in enumerate(keys) if key in keys[:at])
        raise BadRequestError(f"{what}[{again}]: the same record as one before it; name each record once")
    return columns


def keys_of(entity: Entity, columns: Columns) -> list[tuple[Value, ...]]:
    """The key of each record."""
    return list(zip(*(columns[name] for name in entity.key), strict=True))


def framed(entity: Entity, fields: Sequence[str], parts: Sequence[Columns]) -> pl.DataFrame:
    """Checked values, one part after the other, as a page; no two records may have the same key."""
    typed = {}
    for name in dict.fromkeys((*fields, *entity.key)):
        values = parts[0][name] if len(parts) == 1 else [value for part in parts for value in part[name]]
        typed[name] = pl.Series(name, values, entity.by_name[name].dtype)
    key = pl.DataFrame([typed[name] for name in entity.key]).to_struct("_key")
    text, none = pl.String(), [None] * len(key)
    reserved = [
        pl.Series("_version", none, text),
        pl.Series("_deleted", [False] * len(key), pl.Boolean()),
        pl.Series("_invalid", none, text),
    ]
    return pl.DataFrame([*(typed[name] for name in fields), key, *reserved])


def _shown(name: str) -> str:
    return name if len(name) <= 60 and name.isprintable() else "(some field)"


def overlaid(read: pl.DataFrame, given: pl.DataFrame, records: Sequence[Mapping[str, Any]]) -> pl.DataFrame:
    """The records read, each with the values that its request gave in place of those read; a null given counts too."""
    named = [name for name in given.columns if any(name in each for each in records)]
    told = [pl.Series(f"_told.{name}", [name in each for each in records]) for name in named]
    values = given.select("_key", pl.col(named).name.prefix("_given.")).with_columns(told)
    both = read.join(values, on="_key", how="left", maintain_order="left")
    return both.with_columns(
        pl.when(pl.col(f"_told.{name}").fill_null(value=False)).then(f"_given.{name}").otherwise(name).alias(name)
        for name in named
    ).select(read.columns)


def _unknown(entity: Entity, name: str, known: set[str]) -> str:
    if name in entity.by_name:
        return "the mapping does not read this field; leave it out"
    near = get_close_matches(name, sorted(known), 1)
    return f"{entity.name} has no such field" + (f"; did you mean {near[0]}?" if near else "")


def _value(place: str, field: Field, raw: Any) -> Value:
    try:
        return _parsed(field, raw)
    except (ValueError, TypeError, InvalidOperation, OverflowError):
        raise BadRequestError(f"{place}.{field.name}: expected {_EXPECTED[field.type]}") from None


_EXPECTED: Mapping[FieldType, str] = {
    FieldType.TEXT: "text",
    FieldType.INTEGER: "a whole number",
    FieldType.DECIMAL: "a number, or a decimal as text that the field can hold without rounding",
    FieldType.REAL: "a number",
    FieldType.BOOLEAN: "true or false",
    FieldType.DATE: "a date as text, 2026-11-20",
    FieldType.TIME: "a time as text, 13:45:00",
    FieldType.TIMESTAMP: "a date and time without zone as text, 2026-11-20T13:45:00",
    FieldType.INSTANT: "a date and time with zone as text, 2026-11-20T13:45:00Z",
    FieldType.BYTES: "bytes as hexadecimal text",
    FieldType.UUID: "a UUID as text",
    FieldType.JSON: "JSON as text",
}


def _parsed(field: Field, raw: Any) -> Value:
    kind = field.type
    if kind is FieldType.BOOLEAN:
        return bool(_only(raw, bool))
    if kind is FieldType.INTEGER:
        whole = int(_only(raw, int))
        if not -(2**63) <= whole < 2**63:
            raise OverflowError
        return whole
    if kind is FieldType.REAL:
        return float(_only(raw, (int, float)))
    if kind is FieldType.DECIMAL:
        return _decimal(field, raw)
    text: str = _only(raw, str)
    if kind is FieldType.DATE:
        return date.fromisoformat(text)
    if kind is FieldType.TIME:
        return time.fromisoformat(text)
    if kind in (FieldType.TIMESTAMP, FieldType.INSTANT):
        return _moment(datetime.fromisoformat(text), zoned=kind is FieldType.INSTANT)
    return bytes.fromhex(text) if kind is FieldType.BYTES else text


def _only(raw: Any, kind: Any) -> Any:
    # bool is an int to Python, not to anybody else.
    if not isinstance(raw, kind) or (isinstance(raw, bool) and kind is not bool):
        raise TypeError
    return raw


def _decimal(field: Field, raw: Any) -> Decimal:
    value = Decimal(str(_only(raw, (int, float, str))))
    dtype = field.dtype
    assert isinstance(dtype, pl.Decimal)
    if (
        not value.is_finite()
        or value != round(value, dtype.scale)
        or abs(value) >= 10 ** (dtype.precision - dtype.scale)
    ):
        raise ValueError
    return value


def _moment(value: datetime, *, zoned: bool) -> datetime:
    if (value.tzinfo is not None) != zoned:
        raise ValueError
    return value.astimezone(UTC) if zoned else value
