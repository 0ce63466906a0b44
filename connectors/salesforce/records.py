"""Records as Salesforce sends them, JSON or CSV, as typed frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime, time
from pathlib import Path
from typing import Any

import polars as pl

from hub.sdk import Entity, FieldType

_FORMATS: Mapping[FieldType, str] = {FieldType.DATE: "%Y-%m-%d", FieldType.TIME: "%H:%M:%S%.fZ"}
NUMBERS = frozenset({FieldType.INTEGER, FieldType.DECIMAL, FieldType.REAL})


def page(
    entity: Entity, fields: Sequence[str], texts: pl.DataFrame, stamp: str | None, parent: str | None
) -> pl.DataFrame:
    """A page (`Entity.page_schema`) from a frame of texts, numbers and truth values, named as the query selected them.

    A value that does not fit its field makes its record invalid. The record's version is its `stamp` and, behind a
    blank, its `parent`: a write has to know whose children go together.
    """
    typed = texts.select(_typed(entity, name, texts.schema[name]) for name in fields)
    unfit = [
        pl.when(texts[name].is_not_null() & typed[name].is_null()).then(pl.lit(name)).otherwise(None).alias(name)
        for name in fields
    ]
    broken = texts.select(pl.concat_str(unfit, separator=", ", ignore_nulls=True).replace("", None).alias("_invalid"))
    invalid = (pl.lit("Salesforce sent a value that does not fit the type of ") + broken["_invalid"]).alias("_invalid")
    version = pl.col(stamp) if stamp is not None and stamp in texts.columns else pl.lit(None, pl.String)
    if parent is not None and parent in texts.columns:
        version = pl.concat_str([version, parent], separator=" ", ignore_nulls=True)
    deleted = pl.col("IsDeleted") if "IsDeleted" in texts.columns else pl.lit(value=False)
    reserved = texts.select(
        pl.struct(pl.col(each).alias(each) for each in entity.key).alias("_key"),
        version.cast(pl.String).alias("_version"),
        (deleted.cast(pl.String).str.to_lowercase() == "true").fill_null(value=False).alias("_deleted"),
    ).with_columns(invalid)
    return pl.concat([typed, reserved], how="horizontal")


def from_json(records: Sequence[Mapping[str, Any]], names: Sequence[str], entity: Entity) -> pl.DataFrame:
    """The records of one answer, a column for each name; `Parent.Field` is looked for inside."""
    made = {}
    for name in names:
        steps = name.split(".")
        values = [_inside(each, steps) for each in records]
        kind = entity.by_name[name].type if name in entity.by_name else FieldType.TEXT
        if kind is FieldType.BOOLEAN:
            made[name] = pl.Series(name, values, pl.Boolean)
        else:
            made[name] = pl.Series(name, [None if each is None else str(each) for each in values], pl.String)
    return pl.DataFrame(made)


def _inside(record: Mapping[str, Any], steps: Sequence[str]) -> Any:
    found: Any = record
    for each in steps:
        if found is None:
            return None
        found = found.get(each)
    return found


def from_csv(path: Path, names: Sequence[str], start: int = 0, rows: int | None = None) -> pl.DataFrame:
    """So many records of a result file, or all: every value a text, an empty one null. The rest stays on disk."""
    frame = pl.scan_csv(path, infer_schema=False).slice(start, rows).collect()
    # Bulk writes the names as the query did, save for their case.
    known = {each.lower(): each for each in frame.columns}
    # An empty value is quoted too, and Salesforce has no empty text.
    return frame.select(pl.col(known[name.lower()]).replace("", None).alias(name) for name in names)


def _typed(entity: Entity, name: str, given: pl.DataType) -> pl.Expr:
    field = entity.by_name[name]
    column = pl.col(name)
    if field.type is FieldType.BOOLEAN:
        return column if given == pl.Boolean else (column.str.to_lowercase() == "true").alias(name)
    if field.type is FieldType.INSTANT:
        # `+0000` in REST, `Z` in Bulk; both are UTC.
        plain = column.str.replace(r"(?:Z|\+0000)$", "")
        return plain.str.to_datetime("%Y-%m-%dT%H:%M:%S%.f", time_unit="us", strict=False).dt.replace_time_zone("UTC")
    if field.type is FieldType.DATE:
        return column.str.to_date(_FORMATS[field.type], strict=False)
    if field.type is FieldType.TIME:
        return column.str.to_time(_FORMATS[field.type], strict=False)
    if field.type in NUMBERS:
        # From ten millions on, Bulk writes a double with an exponent, which only a double can be read from.
        large = column.str.contains("[eE]")
        plain = column.str.replace(r"\.0+$", "") if field.type is FieldType.INTEGER else column
        exact = pl.when(large).then(None).otherwise(plain).cast(field.dtype, strict=False)
        double = pl.when(large).then(column).cast(pl.Float64, strict=False).cast(field.dtype, strict=False)
        return pl.coalesce(exact, double).alias(name)
    return column


def text_of(value: Any) -> str | bool | int | None:
    """A value as JSON takes it for a field; numbers go as numbers, see `number_of`."""
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%dT%H:%M:%S.") + f"{value.microsecond // 1000:03d}Z"
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, time):
        return value.strftime("%H:%M:%S.") + f"{value.microsecond // 1000:03d}Z"
    if value is None or isinstance(value, bool | int):
        return value
    return str(value)
