"""What can be told of changes before they are sent: rows that would be cut, rounded or refused are rejected here."""

from __future__ import annotations

import polars as pl

from connectors.sql.client import Client
from connectors.sql.tables import Column, Relation
from hub.sdk import Changes, FieldType
from hub.sdk.types import REJECTED


def checked(client: Client, relation: Relation, changes: Changes) -> tuple[pl.DataFrame, list[pl.DataFrame]]:
    """The rows to send, flat and typed, and the answers for those that cannot be."""
    entity, fields = relation.entity, changes.fields
    given = changes.frame.schema
    # Under letters of our own from here on: a field may be called anything.
    flat = changes.frame.select(
        pl.int_range(pl.len(), dtype=pl.Int64).alias("n"),
        "_key", "_version", "_before", "_clear",
        *(pl.col(name).alias(f"w{i}") for i, name in enumerate(fields)),
    )  # fmt: skip
    keys = [
        pl.col("_key").struct.field(name).cast(entity.by_name[name].dtype, strict=False).alias(f"k{i}")
        for i, name in enumerate(entity.key)
    ]
    faults = [
        pl.when(pl.any_horizontal(pl.selectors.matches(r"^k\d+$").is_null())).then(
            pl.struct(field=pl.lit(None, pl.String), reason=pl.lit("the key is incomplete"))
        )
    ]
    for i, name in enumerate(entity.key):
        impossible = client.impossible(pl.col(f"k{i}"), relation.meta(name))
        if impossible is not None:
            told = pl.struct(field=pl.lit(name), reason=pl.lit("no record can have this key"))
            faults.append(pl.when(impossible).then(told))
    values, before = [], []
    for i, name in enumerate(fields):
        column = relation.meta(name)
        value = pl.col(f"w{i}").cast(column.field.dtype, strict=False)
        values.append(client.fitted(value, column).alias(f"v{i}"))
        old = pl.col("_before").struct.field(name).cast(column.field.dtype, strict=False)
        before.append(old.alias(f"o{i}"))
        for fault, reason in _faults(client, column, pl.col(f"w{i}"), given[name]):
            told = pl.struct(field=pl.lit(name), reason=pl.lit(reason))
            faults.append(pl.when(fault).then(told))
    cleared = pl.col("_clear").list
    flags = [
        (pl.col(f"w{i}").is_not_null() | cleared.contains(name).fill_null(value=False)).alias(f"s{i}")
        for i, name in enumerate(fields)
    ]
    cleaned = [
        pl.when(~cleared.contains(name).fill_null(value=False)).then(f"v{i}").alias(f"v{i}")
        for i, name in enumerate(fields)
    ]
    flat = flat.with_columns(*keys).with_columns(
        *values, *before, *flags, seen=pl.col("_before").is_not_null(), fault=pl.coalesce(faults)
    )
    flat = flat.with_columns(*cleaned)
    bad = flat.filter(pl.col("fault").is_not_null())
    answers = bad.select(
        "n", pl.lit(REJECTED).alias("state"), pl.col("fault").struct.unnest(), pl.lit(None, pl.String).alias("version")
    )
    kept = flat.filter(pl.col("fault").is_null())
    unset = [f"s{i}" for i in range(len(fields)) if not kept[f"s{i}"].all()]
    letters = [f"{c}{i}" for i in range(len(fields)) for c in "vo"]
    good = kept.select(
        "n",
        *(f"k{i}" for i in range(len(keys))),
        *letters,
        *unset,
        "seen",
        pl.col("_version").cast(pl.String).alias("version"),
    )
    return good, [answers] if answers.height else []


def _faults(client: Client, column: Column, raw: pl.Expr, given: pl.DataType) -> list[tuple[pl.Expr, str]]:
    field = column.field
    value = raw.cast(field.dtype, strict=False)
    found = [(raw.is_not_null() & value.is_null(), f"the value is no {field.type.value} that the column can hold")]
    if field.type is FieldType.DECIMAL and given.is_numeric() and given != field.dtype:
        wide = raw.cast(pl.Float64)
        found.append(
            ((value.cast(pl.Float64) - wide).abs() > wide.abs() * 1e-15, "the number has more digits than the column")
        )
    if field.length is not None:
        size = value.bin.size() if field.type is FieldType.BYTES else value.str.len_chars()
        found.append((size > field.length, f"longer than the {field.length} that the column holds"))
    if field.values:
        found.append((~value.is_in(list(field.values)), "not among the values that the column takes"))
    if column.low is not None and column.high is not None and field.type is FieldType.INTEGER:
        found.append(
            ((value < max(column.low, -(2**63))) | (value > min(column.high, 2**63 - 1)), "outside the column's range")
        )
    odd = client.unstorable(value, column)
    if odd is not None:
        found.append((odd, "the database cannot hold this value unchanged"))
    if not field.nullable:
        cleared = pl.col("_clear").list.contains(field.name).fill_null(value=False)
        found.append((cleared, "may not be null"))
    return found
