"""MariaDB's catalogue: tables, columns, types, keys and rights."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import polars as pl

from connectors.sql.client import EQUALITY, NULLS
from connectors.sql.tables import Column, Table
from hub.sdk import Field, FieldType, Operator

_TYPES: Mapping[str, FieldType] = {
    **dict.fromkeys(("tinyint", "smallint", "mediumint", "int", "bigint", "year", "bit"), FieldType.INTEGER),
    "decimal": FieldType.DECIMAL,
    "float": FieldType.REAL,
    "double": FieldType.REAL,
    **dict.fromkeys(("char", "varchar", "tinytext", "text", "mediumtext", "longtext", "enum"), FieldType.TEXT),
    **dict.fromkeys(("binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob"), FieldType.BYTES),
    "date": FieldType.DATE,
    "time": FieldType.TIME,
    "datetime": FieldType.TIMESTAMP,
    "timestamp": FieldType.INSTANT,
    "uuid": FieldType.UUID,
}


_CLOCKS = frozenset({FieldType.TIME, FieldType.TIMESTAMP, FieldType.INSTANT})
_BITS = {"tinyint": 8, "smallint": 16, "mediumint": 24, "int": 32, "bigint": 64}


CATALOGUE = """
SELECT c.TABLE_SCHEMA, c.TABLE_NAME, t.TABLE_TYPE LIKE '%VIEW%', COALESCE(v.IS_UPDATABLE, 'YES'), c.COLUMN_NAME,
       c.DATA_TYPE, c.COLUMN_TYPE, c.IS_NULLABLE, c.COLUMN_DEFAULT IS NOT NULL OR c.EXTRA LIKE '%auto_increment%',
       c.CHARACTER_MAXIMUM_LENGTH, c.NUMERIC_PRECISION, c.NUMERIC_SCALE, c.DATETIME_PRECISION, c.CHARACTER_SET_NAME,
       c.COLLATION_NAME, c.IS_GENERATED, c.PRIVILEGES, c.COLUMN_COMMENT,
       EXISTS (SELECT 1 FROM information_schema.CHECK_CONSTRAINTS k WHERE k.CONSTRAINT_SCHEMA = c.TABLE_SCHEMA
         AND k.TABLE_NAME = c.TABLE_NAME AND k.CONSTRAINT_NAME = c.COLUMN_NAME AND k.CHECK_CLAUSE LIKE 'json_valid(%')
  FROM information_schema.COLUMNS c
  JOIN information_schema.TABLES t ON t.TABLE_SCHEMA = c.TABLE_SCHEMA AND t.TABLE_NAME = c.TABLE_NAME
  LEFT JOIN information_schema.VIEWS v ON v.TABLE_SCHEMA = c.TABLE_SCHEMA AND v.TABLE_NAME = c.TABLE_NAME
 WHERE c.TABLE_SCHEMA IN :schemas
 ORDER BY c.TABLE_SCHEMA, c.TABLE_NAME, c.ORDINAL_POSITION
"""


INDEXES = """
SELECT TABLE_SCHEMA, TABLE_NAME, INDEX_NAME, COLUMN_NAME FROM information_schema.STATISTICS
 WHERE TABLE_SCHEMA IN :schemas AND NON_UNIQUE = 0 ORDER BY TABLE_SCHEMA, TABLE_NAME, INDEX_NAME, SEQ_IN_INDEX
"""


ROLES = """
SELECT ROLE_NAME AS name FROM information_schema.APPLICABLE_ROLES WHERE ROLE_NAME NOT IN
  (SELECT ROLE_NAME FROM information_schema.ENABLED_ROLES WHERE ROLE_NAME IS NOT NULL) ORDER BY ROLE_NAME
"""
"""The roles that are ours to take on and not in force: what they hold stands nowhere that we can see."""


COLUMNS = (
    "schema", "table", "view", "updatable", "name", "type", "native", "nullable", "defaulted", "length", "precision",
    "scale", "digits", "charset", "collation", "generated", "rights", "title", "json",
)  # fmt: skip


def described(group: pl.DataFrame, indexes: Mapping[str, Sequence[str]]) -> Table:
    rows = group.to_dicts()
    return Table(
        schema=rows[0]["schema"],
        name=rows[0]["table"],
        columns=tuple(_column(row) for row in rows if "select" in row["rights"]),
        primary=tuple(indexes.get("PRIMARY", ())),
        unique=tuple(frozenset(each) for each in indexes.values()),
        view=rows[0]["view"] == "1",
    )


def _column(row: Mapping[str, str | None]) -> Column:
    name, native = str(row["type"]), str(row["native"])
    kind, known = _TYPES.get(name, FieldType.TEXT), name in _TYPES
    unsigned = "unsigned" in native
    precision, scale = (int(row["precision"] or 0), int(row["scale"] or 0)) if name == "decimal" else (None, None)
    if native == "tinyint(1)" or native == "bit(1)":
        kind = FieldType.BOOLEAN
    elif name == "bigint" and unsigned:
        kind, precision, scale = FieldType.DECIMAL, 20, 0
    elif row["json"] == "1":
        kind = FieldType.JSON
    bits = _BITS.get(name) if kind is FieldType.INTEGER else None
    closed = row["updatable"] != "YES" or row["generated"] == "ALWAYS" or not known
    rights = str(row["rights"]).split(",")
    field = Field(
        name=str(row["name"]),
        type=kind,
        nullable=row["nullable"] == "YES",
        writable="update" in rights and not closed,
        title=str(row["title"] or ""),
        length=_length(row, kind),
        precision=None if precision is None else min(precision, 38),
        scale=scale,
        values=_values(native) if name == "enum" else (),
        operators=_operators(kind),
    )
    return Column(
        field=field,
        native="float" if name == "float" else native,
        family=name if known else "other",
        insertable="insert" in rights and not closed,
        defaulted=row["defaulted"] == "1",
        exact=kind is not FieldType.TEXT,
        digits=int(row["digits"] or 0) if kind in _CLOCKS else 6,
        low=None if bits is None else 0 if unsigned else -(2 ** (bits - 1)),
        high=None if bits is None else 2**bits - 1 if unsigned else 2 ** (bits - 1) - 1,
        charset=row["charset"],
        collation=row["collation"],
    )


def _length(row: Mapping[str, str | None], kind: FieldType) -> int | None:
    length = int(row["length"] or 0)
    if kind not in (FieldType.TEXT, FieldType.BYTES) or row["type"] == "enum" or not length or length >= 2**31:
        return None
    return length


def _values(native: str) -> tuple[str, ...]:
    return tuple(each.replace("''", "'") for each in re.findall(r"'((?:[^']|'')*)'", native))


def _operators(kind: FieldType) -> frozenset[Operator]:
    if kind is FieldType.JSON:
        return NULLS
    if kind in (FieldType.TEXT, FieldType.UUID, FieldType.BYTES, FieldType.BOOLEAN):
        return EQUALITY
    return frozenset(Operator)
