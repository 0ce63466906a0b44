"""SQLite's catalogue: tables, columns and what their declared types mean."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from connectors.sql.client import EQUALITY, NULLS
from connectors.sql.tables import Column, Table
from hub.sdk import Field, FieldType, Operator

CATALOGUE = """
SELECT m.name AS "table", m.type AS type, x.name AS name, x.type AS native, x."notnull" AS required, x.pk AS place,
       x.hidden AS hidden, x.dflt_value IS NOT NULL AS defaulted, m.sql LIKE '%WITHOUT ROWID%' AS rowless,
       (SELECT group_concat(u, char(30))
          FROM (SELECT (SELECT group_concat(i.name, char(31)) FROM pragma_index_info(l.name) i) AS u
                  FROM pragma_index_list(m.name) l WHERE l."unique" AND NOT l.partial)) AS uniques
  FROM sqlite_master m JOIN pragma_table_xinfo(m.name) x
 WHERE m.type IN ('table', 'view') AND m.name NOT LIKE 'sqlite\\_%' ESCAPE '\\' AND x.hidden <> 1
 ORDER BY m.name, x.cid
"""


_WORDS: Sequence[tuple[str, FieldType]] = (
    ("BOOL", FieldType.BOOLEAN),
    ("UUID", FieldType.UUID),
    ("GUID", FieldType.UUID),
    ("TIMESTAMPTZ", FieldType.INSTANT),
    ("WITH TIME ZONE", FieldType.INSTANT),
    ("TIMESTAMP", FieldType.TIMESTAMP),
    ("DATETIME", FieldType.TIMESTAMP),
    ("DATE", FieldType.DATE),
    ("TIME", FieldType.TIME),
    ("JSON", FieldType.JSON),
    ("INT", FieldType.INTEGER),
    ("CHAR", FieldType.TEXT),
    ("CLOB", FieldType.TEXT),
    ("TEXT", FieldType.TEXT),
    ("STRING", FieldType.TEXT),
    ("BLOB", FieldType.BYTES),
    ("BINARY", FieldType.BYTES),
    ("REAL", FieldType.REAL),
    ("FLOA", FieldType.REAL),
    ("DOUB", FieldType.REAL),
    ("DEC", FieldType.DECIMAL),
    ("NUMERIC", FieldType.DECIMAL),
    ("NUMBER", FieldType.DECIMAL),
    ("MONEY", FieldType.DECIMAL),
)


_MOMENTS = frozenset({FieldType.DATE, FieldType.TIME, FieldType.TIMESTAMP, FieldType.INSTANT})


def described(group: pl.DataFrame) -> Table:
    rows = group.to_dicts()
    view = rows[0]["type"] == "view"
    placed = sorted((row["place"], row["name"]) for row in rows if row["place"])
    primary = tuple(name for _, name in placed)
    uniques = [frozenset(each.split("\x1f")) for each in (rows[0]["uniques"] or "").split("\x1e") if each]
    rowid = len(primary) == 1 and not rows[0]["rowless"] and _native(rows, primary[0]).upper() == "INTEGER"
    columns = tuple(
        _column(row, view=view, required=(rowid or bool(rows[0]["rowless"])) and bool(row["place"])) for row in rows
    )
    return Table(None, rows[0]["table"], columns, primary, (*uniques, frozenset(primary)), view)


def _native(rows: Sequence[Mapping[str, Any]], name: str) -> str:
    return str(next(row["native"] for row in rows if row["name"] == name))


def _column(row: Mapping[str, Any], *, view: bool, required: bool) -> Column:
    native = str(row["native"] or "")
    upper = native.upper()
    kind = next((kind for word, kind in _WORDS if word in upper), FieldType.TEXT)
    sizes = [int(each) for each in re.findall(r"\d+", upper.partition("(")[2])]
    writable = not view and row["hidden"] == 0 and upper != ""
    field = Field(
        name=row["name"],
        type=kind,
        nullable=not (row["required"] or required),
        writable=writable,
        length=sizes[0] if sizes and kind in (FieldType.TEXT, FieldType.BYTES) else None,
        precision=sizes[0] if sizes and kind is FieldType.DECIMAL and sizes[0] <= 38 else None,
        scale=(sizes[1:] or [0])[0] if sizes and kind is FieldType.DECIMAL and sizes[0] <= 38 else None,
        operators=_operators(kind),
    )
    low, high = (-(2**63), 2**63 - 1) if kind is FieldType.INTEGER else (None, None)
    return Column(field, native, native, writable, bool(row["defaulted"]), low=low, high=high)


def _operators(kind: FieldType) -> frozenset[Operator]:
    if kind is FieldType.JSON:
        return NULLS
    if kind is FieldType.UUID:
        return EQUALITY
    if kind in _MOMENTS or kind is FieldType.DECIMAL:
        return NULLS
    return frozenset(Operator)
