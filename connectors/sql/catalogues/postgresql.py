"""PostgreSQL's catalogue: tables, columns, types, keys and rights, in one query."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import polars as pl

from connectors.sql.client import EQUALITY, NULLS
from connectors.sql.tables import Column, Table
from hub.sdk import Field, FieldType, Operator

_TYPES: Mapping[str, tuple[FieldType, str]] = {
    "int2": (FieldType.INTEGER, "bigint"),
    "int4": (FieldType.INTEGER, "bigint"),
    "int8": (FieldType.INTEGER, "bigint"),
    "oid": (FieldType.INTEGER, "bigint"),
    "numeric": (FieldType.DECIMAL, "numeric"),
    "float4": (FieldType.REAL, "double precision"),
    "float8": (FieldType.REAL, "double precision"),
    "bool": (FieldType.BOOLEAN, "boolean"),
    "text": (FieldType.TEXT, "text"),
    "varchar": (FieldType.TEXT, "text"),
    "bpchar": (FieldType.TEXT, "bpchar"),
    "name": (FieldType.TEXT, "text"),
    "citext": (FieldType.TEXT, "text"),
    "uuid": (FieldType.UUID, "uuid"),
    "json": (FieldType.JSON, "json"),
    "jsonb": (FieldType.JSON, "jsonb"),
    "date": (FieldType.DATE, "date"),
    "time": (FieldType.TIME, "time"),
    "timestamp": (FieldType.TIMESTAMP, "timestamp"),
    "timestamptz": (FieldType.INSTANT, "timestamptz"),
    "bytea": (FieldType.BYTES, "bytea"),
}


_BOUNDS = {"int2": 15, "int4": 31, "int8": 63, "oid": 32}


DATES = {FieldType.DATE: "date", FieldType.TIMESTAMP: "timestamp", FieldType.INSTANT: "timestamptz"}


CATALOGUE = """
SELECT n.nspname AS schema, c.relname AS "table", c.relkind IN ('v', 'm') AS view, a.attname AS name,
       COALESCE(b.typname, t.typname) AS type, COALESCE(b.typtype, t.typtype) AS kind,
       CASE WHEN t.typtype = 'd' THEN t.typtypmod ELSE a.atttypmod END AS modifier,
       format_type(a.atttypid, a.atttypmod) AS native, NOT (a.attnotnull OR t.typnotnull) AS nullable,
       (a.atthasdef OR a.attidentity <> '') AS defaulted, COALESCE(k.collisdeterministic, true) AS exact,
       (SELECT json_agg(e.enumlabel ORDER BY e.enumsortorder)::text FROM pg_enum e
         WHERE e.enumtypid = COALESCE(b.oid, t.oid)) AS labels,
       has_column_privilege(c.oid, a.attnum, 'SELECT') AS visible,
       COALESCE(col_description(c.oid, a.attnum), '') AS title,
       (SELECT json_agg(x.attname ORDER BY array_position(p.indkey::int2[], x.attnum))::text FROM pg_attribute x
         WHERE x.attrelid = c.oid AND x.attnum = ANY (p.indkey::int2[])) AS "primary",
       a.attgenerated = '' AND a.attidentity <> 'a' AND c.relkind <> 'm'
         AND pg_column_is_updatable(c.oid, a.attnum, false)
         AND has_column_privilege(c.oid, a.attnum, 'UPDATE') AS writable,
       a.attgenerated = '' AND a.attidentity <> 'a' AND c.relkind <> 'm'
         AND has_column_privilege(c.oid, a.attnum, 'INSERT') AS insertable,
       (SELECT json_agg(i.columns)::text
          FROM (SELECT (SELECT json_agg(x.attname) FROM pg_attribute x
                         WHERE x.attrelid = c.oid AND x.attnum = ANY (u.indkey::int2[])) AS columns
                  FROM pg_index u WHERE u.indrelid = c.oid AND u.indisunique AND u.indimmediate AND u.indisvalid
                   AND u.indpred IS NULL AND u.indexprs IS NULL) i) AS uniques
  FROM pg_class c
  JOIN pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
  JOIN pg_type t ON t.oid = a.atttypid
  LEFT JOIN pg_type b ON b.oid = t.typbasetype AND t.typtype = 'd'
  LEFT JOIN pg_collation k ON k.oid = a.attcollation
  LEFT JOIN pg_index p ON p.indrelid = c.oid AND p.indisprimary
 WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT c.relispartition
   AND n.nspname IN (SELECT json_array_elements_text(CAST(:schemas AS json)))
   AND has_schema_privilege(n.oid, 'USAGE')
 ORDER BY n.nspname, c.relname, a.attnum
"""


# A role that we may become counts as ours, whether its rights are inherited or only taken on by SET ROLE.
WIDE = """
WITH mine AS (SELECT oid FROM pg_roles WHERE pg_has_role(current_user, oid, 'MEMBER')),
     place AS (SELECT n.oid, n.nspname FROM pg_namespace n
                WHERE n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname NOT LIKE 'pg\\_%')
SELECT line FROM (
  SELECT 1 AS n, name AS line FROM pg_roles r JOIN mine USING (oid)
    CROSS JOIN LATERAL (VALUES ('SUPERUSER', rolsuper), ('CREATEROLE', rolcreaterole), ('CREATEDB', rolcreatedb),
      ('REPLICATION', rolreplication), ('BYPASSRLS', rolbypassrls)) a (name, has) WHERE a.has
  UNION SELECT 2, 'member of ' || rolname FROM pg_roles JOIN mine USING (oid) WHERE rolname LIKE 'pg\\_%'
  UNION SELECT 3, 'CREATE on database ' || current_database()
    WHERE EXISTS (SELECT 1 FROM mine WHERE has_database_privilege(mine.oid, current_database(), 'CREATE'))
  UNION SELECT 4, 'CREATE on schema ' || nspname FROM place
    WHERE EXISTS (SELECT 1 FROM mine WHERE has_schema_privilege(mine.oid, place.oid, 'CREATE'))
  UNION SELECT 5, 'owner of ' || p.nspname || '.' || c.relname FROM pg_class c JOIN place p ON p.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND c.relowner IN (SELECT oid FROM mine)
) told ORDER BY n, line
"""


HELD = """
WITH mine AS (SELECT oid FROM pg_roles WHERE pg_has_role(current_user, oid, 'MEMBER')),
     place AS (SELECT n.oid, n.nspname FROM pg_namespace n
                WHERE n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname NOT LIKE 'pg\\_%')
, relation AS (SELECT c.oid, p.nspname, c.relname FROM pg_class c JOIN place p ON p.oid = c.relnamespace
                WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT c.relispartition
                  AND EXISTS (SELECT 1 FROM mine WHERE has_schema_privilege(mine.oid, p.oid, 'USAGE')))
SELECT k.name AS "right", r.nspname AS schema, r.relname AS "table", NULL AS columns
  FROM relation r CROSS JOIN (VALUES ('SELECT'), ('INSERT'), ('UPDATE'), ('DELETE'), ('TRUNCATE'), ('REFERENCES'),
    ('TRIGGER')) k (name)
 WHERE EXISTS (SELECT 1 FROM mine WHERE has_table_privilege(mine.oid, r.oid, k.name))
UNION ALL
SELECT k.name, r.nspname, r.relname, json_agg(a.attname)::text
  FROM relation r CROSS JOIN (VALUES ('SELECT'), ('INSERT'), ('UPDATE'), ('REFERENCES')) k (name)
  JOIN pg_attribute a ON a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped
 WHERE NOT EXISTS (SELECT 1 FROM mine WHERE has_table_privilege(mine.oid, r.oid, k.name))
   AND EXISTS (SELECT 1 FROM mine WHERE has_column_privilege(mine.oid, r.oid, a.attnum, k.name))
 GROUP BY 1, 2, 3
"""


COUNTERS = """
SELECT DISTINCT pg_get_serial_sequence(quote_ident(n.nspname) || '.' || quote_ident(c.relname), a.attname) AS counter
  FROM json_to_recordset(CAST(:inserted AS json)) AS i (schema text, "table" text, columns json)
  JOIN pg_namespace n ON n.nspname = i.schema
  JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = i."table"
  JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND a.atthasdef AND a.attidentity = ''
 WHERE a.attname NOT IN (SELECT json_array_elements_text(i.columns)) ORDER BY 1
"""
"""The sequences that fill columns of new rows; those of identity columns need no right."""


def described(group: pl.DataFrame) -> Table:
    rows = group.to_dicts()
    uniques = json.loads(rows[0]["uniques"] or "[]")
    return Table(
        schema=rows[0]["schema"],
        name=rows[0]["table"],
        columns=tuple(_column(row) for row in rows if row["visible"]),
        hidden=tuple(row["name"] for row in rows if not row["visible"]),
        primary=tuple(json.loads(rows[0]["primary"] or "[]")),
        unique=tuple(frozenset(each) for each in uniques),
        view=rows[0]["view"],
    )


def _column(row: Mapping[str, Any]) -> Column:
    kind, family = _TYPES.get(row["type"], (FieldType.TEXT, "text"))
    modifier, name = row["modifier"], row["type"]
    known = row["type"] in _TYPES or row["kind"] == "e"
    precision, scale = _decimal(modifier) if name == "numeric" else (None, None)
    bits = _BOUNDS.get(name)
    return Column(
        field=Field(
            name=row["name"],
            type=kind,
            nullable=row["nullable"],
            writable=bool(row["writable"]) and known,
            title=row["title"],
            length=modifier - 4 if name in ("varchar", "bpchar") and modifier > 4 else None,
            precision=precision,
            scale=scale,
            values=tuple(json.loads(row["labels"])) if row["labels"] else (),
            operators=_operators(kind, name, row["kind"]),
        ),
        native=row["native"],
        family=family,
        insertable=bool(row["insertable"]) and known,
        defaulted=row["defaulted"],
        exact=row["exact"] and name != "citext",
        digits=modifier if kind in (*DATES, FieldType.TIME) and modifier >= 0 else 6,
        low=None if bits is None else -(2**bits) if name != "oid" else 0,
        high=None if bits is None else 2**bits - 1,
    )


def _decimal(modifier: int) -> tuple[int | None, int | None]:
    """Precision and scale where polars holds them; else none, and (38, 12) with values outside it unreadable."""
    if modifier < 4:
        return None, None
    precision, scale = (modifier - 4) >> 16 & 0xFFFF, ((modifier - 4 & 0x7FF) ^ 1024) - 1024
    return (precision, scale) if precision <= 38 and 0 <= scale <= precision else (None, None)


def _operators(kind: FieldType, name: str, group: str) -> frozenset[Operator]:
    if kind is FieldType.JSON:
        return NULLS
    if kind is FieldType.UUID or name in ("bpchar", "citext"):
        return EQUALITY
    if kind is FieldType.BOOLEAN:
        return EQUALITY | {Operator.NE, Operator.NOT_IN}
    if kind is FieldType.TEXT and group not in ("b", "d") and name not in _TYPES:
        return EQUALITY
    return frozenset(Operator) - (
        {Operator.LT, Operator.LE, Operator.GT, Operator.GE} if kind is FieldType.TEXT else set()
    )
