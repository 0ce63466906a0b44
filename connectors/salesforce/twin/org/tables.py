"""The tables of the twin's own state, and the column that a field of an object gets."""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, Column, Float, Integer, MetaData, String, Table

from connectors.salesforce.twin.org.schema import Field

STATE = MetaData()
documents = Table(
    "documents",
    STATE,
    Column("kind", String, primary_key=True),
    Column("name", String, primary_key=True),
    Column("document", JSON, nullable=False),
)
counters = Table("counters", STATE, Column("name", String, primary_key=True), Column("last", Integer, nullable=False))
changes = Table(
    "changes",
    STATE,
    Column("replay", Integer, primary_key=True, autoincrement=True),
    Column("entity", String, nullable=False),
    Column("record", String, nullable=False),
    Column("kind", String, nullable=False),
    Column("user", String, nullable=False),
    Column("moment", Float, nullable=False),
    Column("transaction", String, nullable=False),
    Column("origin", String, nullable=False),
    Column("values", JSON, nullable=False),
    sqlite_autoincrement=True,
)
cursors = Table(
    "cursors",
    STATE,
    Column("id", String, primary_key=True),
    Column("user", String, nullable=False),
    Column("session", String, nullable=False),
    Column("query", String, nullable=False),
    Column("deleted", Integer, nullable=False),
    Column("size", Integer, nullable=False),
    Column("batch", Integer, nullable=False),
    Column("used", Float, nullable=False),
)
cursor_rows = Table(
    "cursor_rows",
    STATE,
    Column("cursor", String, primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("record", String, nullable=False),
    sqlite_with_rowid=False,
)
calls = Table(
    "calls",
    STATE,
    Column("number", Integer, primary_key=True),
    Column("moment", Float, nullable=False),
    Column("kind", String, nullable=False),
    Column("method", String, nullable=False),
    Column("path", String, nullable=False),
    Column("status", Integer, nullable=False),
    Column("counted", Integer, nullable=False),
    Column("user", String),
    Column("seconds", Float, nullable=False),
    Column("fault", String),
    Column("inside_wait", Integer, nullable=False),
    Column("detail", JSON, nullable=False),
)


def column_of(of: Field) -> Column[Any]:
    """Ids and moments are compared as they are, other text without regard to case."""
    if of.type in {"boolean", "int"}:
        return Column(of.name, Integer)
    if of.type in {"double", "currency", "percent"}:
        return Column(of.name, Float)
    if of.type in {"id", "reference", "date", "datetime"} or of.document.get("caseSensitive"):
        return Column(of.name, String, primary_key=of.type == "id")
    return Column(of.name, String(collation="NOCASE"))
