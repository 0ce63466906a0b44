"""SQLite through ADBC: its catalogue, its affinities, its one file.

Only ADBC's own copy of SQLite opens the file. Two copies in one process drop each other's locks
(https://www.sqlite.org/howtocorrupt.html 2.2.1), so the standard library's module is not used beside it.
"""

# ruff: noqa: ARG002 - the interface is one for all products

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, datetime, time
from decimal import Decimal
from itertools import count
from pathlib import Path
from typing import Any

import adbc_driver_manager
import adbc_driver_sqlite.dbapi as driver
import polars as pl
import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy.dialects import sqlite
from sqlalchemy.sql.elements import ClauseElement

from connectors.sql.catalogues.sqlite import CATALOGUE, described
from connectors.sql.client import ContentionError, CountingClient, Expression, FullError, Parameter, record, text_of
from connectors.sql.config import SqlConfig
from connectors.sql.tables import Column, Table
from hub.sdk import (
    CheckReport,
    Context,
    Field,
    FieldType,
    RejectedError,
    UnauthorizedError,
    UnavailableError,
    UnexpectedError,
    Value,
)

_BATCH_ROWS = 200_000
_TEXTUAL = frozenset({FieldType.TEXT, FieldType.UUID, FieldType.JSON})
_FORMATS = {
    FieldType.DATE: "%Y-%m-%d",
    FieldType.TIMESTAMP: "%Y-%m-%d %H:%M:%S%.f",
    FieldType.INSTANT: "%Y-%m-%d %H:%M:%S%.f%#z",
    FieldType.TIME: "%H:%M:%S%.f",
}
_KEPT = {FieldType.INTEGER: (pl.Int64(),), FieldType.REAL: (pl.Float64(), pl.Int64())}
"""What the driver makes of a column where every value is a number of the kind."""
_COUNTED = frozenset({FieldType.INTEGER, FieldType.REAL, FieldType.BOOLEAN, FieldType.TEXT})
_TEXTS = ("CHAR", "CLOB", "TEXT")
"""What gives a column text affinity, where no INT stands before: https://www.sqlite.org/datatype3.html 3.1."""


class SqliteClient(CountingClient):
    """One ADBC connection in autocommit to one file; it is never created."""

    dialect = sqlite.dialect(paramstyle="qmark")
    begin = ("BEGIN IMMEDIATE",)

    def __init__(self, config: SqlConfig, context: Context) -> None:
        super().__init__(config, context)
        self._names = count()

    # --- the wire ---------------------------------------------------------------------------------------------

    def send(self, sql: str, parameters: Sequence[Parameter]) -> pl.DataFrame | None:
        connection = self._connected()
        try:
            # A fresh cursor every time: after a failed read the same one answers no rows, without an error.
            with connection.cursor() as cursor:
                cursor.adbc_statement.set_options(**{"adbc.sqlite.query.batch_rows": str(_BATCH_ROWS)})
                cursor.execute(sql, record(parameters) if parameters else None)
                return _frame(cursor.fetch_arrow_table()) if cursor.description else None
        except adbc_driver_manager.Error as error:
            raise _translated(str(error)) from None

    def _connected(self) -> Any:
        if self.connection is None:
            path = Path(str(self.config.path))
            if not path.is_file():
                raise UnavailableError("path: there is no such file, or it cannot be reached")
            mode = "ro" if self.config.read_only else "rw"
            connection: Any = None
            try:
                connection = driver.connect(f"{path.resolve().as_uri()}?mode={mode}", autocommit=True)
                with connection.cursor() as cursor:
                    cursor.execute(f"PRAGMA busy_timeout = {1000 * int(self.config.lock_seconds)}")
                    cursor.fetchall()
                    cursor.execute("PRAGMA foreign_keys = ON")
                    cursor.execute("SELECT count(*) FROM sqlite_master")
                    cursor.fetchall()
            except adbc_driver_manager.Error as error:
                if connection is not None:
                    connection.close()
                raise _translated(str(error)) from None
            self.connection = connection
        return self.connection

    def close(self) -> None:
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.close()

    def identity(self) -> CheckReport:
        version = self.rows(sa.text("SELECT sqlite_version() AS v")).item()
        return CheckReport(identity="(file access)", product=f"SQLite {version}")

    def tables(self) -> list[Table]:
        found = self.rows(sa.text(CATALOGUE))
        if not found.height:
            return []
        return [described(group) for group in found.partition_by("table", maintain_order=True)]

    def rowset(self, frame: pl.DataFrame, columns: Mapping[str, Column | None]) -> sa.FromClause:
        return self._ingested("hub_rows", frame, columns)

    @contextmanager
    def matches(self, frame: pl.DataFrame, columns: Mapping[str, Column | None]) -> Iterator[sa.FromClause]:
        name = f"hub_match_{next(self._names)}"
        yield self._ingested(name, frame, columns)
        if self.connection is not None:
            self.send(f"DROP TABLE IF EXISTS temp.{name}", ())

    def _ingested(self, table: str, frame: pl.DataFrame, columns: Mapping[str, Column | None]) -> sa.FromClause:
        made = []
        for name in frame.columns:
            column = columns.get(name)
            made.append(_stored(column, name) if column is not None else pl.col(name))
        arrow = frame.select(made).to_arrow(compat_level=pl.CompatLevel.oldest())
        try:
            with self._connected().cursor() as cursor:
                cursor.adbc_ingest(table, arrow, mode="replace", temporary=True)
        except adbc_driver_manager.Error as error:
            raise _translated(str(error)) from None
        return sa.table(table, *(sa.column(name) for name in frame.columns), schema="temp")

    # --- values -----------------------------------------------------------------------------------------------

    def read(self, expression: Expression, column: Column) -> Expression:
        kind, stored = column.field.type, sa.func.typeof(expression)
        if kind in (FieldType.INTEGER, FieldType.BOOLEAN):
            return sa.case((stored == sa.literal_column("'integer'"), expression))
        if kind is FieldType.REAL:
            return sa.case((_among(stored, "real", "integer"), sa.cast(expression, sa.REAL())))
        if kind is FieldType.BYTES:
            return sa.case((stored == sa.literal_column("'blob'"), expression))
        if kind is FieldType.DECIMAL:
            real = sa.func.printf(sa.literal_column("'%!.15g'"), expression)
            return sa.case((stored == sa.literal_column("'real'"), real), else_=sa.cast(expression, sa.Text()))
        return sa.case((stored == sa.literal_column("'text'"), expression))

    def unreadable(self, expression: Expression, column: Column) -> Expression | None:
        allowed = {
            FieldType.INTEGER: ("integer",),
            FieldType.BOOLEAN: ("integer",),
            FieldType.REAL: ("real", "integer"),
            FieldType.BYTES: ("blob",),
            FieldType.DECIMAL: ("real", "integer", "text"),
        }.get(column.field.type, ("text",))
        bad = sa.not_(_among(sa.func.typeof(expression), *allowed, "null"))
        if column.field.type is FieldType.BOOLEAN:
            bad = sa.or_(bad, sa.not_(expression.in_([sa.literal_column("0"), sa.literal_column("1")])))
        return bad

    def plain(self, column: Column, brought: pl.DataType | None = None, *, key: bool = False) -> bool:
        """The driver takes the narrowest type that holds all values: text wins over numbers, and blobs over text.

        So a type proves what stands there, save that numbers beside texts become texts: no column of text affinity
        holds numbers, and the text of a number is no moment, though it would be no mark of one either.
        """
        kind, native = column.field.type, column.native.upper()
        if kind in _KEPT:
            return brought is None or brought in _KEPT[kind]
        textual = kind is FieldType.TEXT and "INT" not in native and any(each in native for each in _TEXTS)
        return (textual or (kind in _FORMATS and not key)) and (brought is None or brought == pl.String)

    def decode(self, raw: pl.Expr, column: Column) -> pl.Expr:
        kind = column.field.type
        if kind in (FieldType.TIMESTAMP, FieldType.INSTANT):
            raw = raw.cast(pl.String, strict=False).str.replace("T", " ", literal=True)
            if kind is FieldType.TIMESTAMP:
                raw = pl.when(raw.str.len_chars() == 10).then(raw + " 00:00:00").otherwise(raw)
            parsed = raw.str.to_datetime(_FORMATS[kind], strict=False, time_unit="us")
            return parsed.cast(column.field.dtype)
        if kind is FieldType.DATE:
            text = raw.cast(pl.String, strict=False)
            return pl.when(text.str.len_chars() == 10).then(text.str.to_date(_FORMATS[kind], strict=False))
        if kind is FieldType.TIME:
            return raw.cast(pl.String, strict=False).str.to_time(_FORMATS[kind], strict=False)
        if kind is FieldType.DECIMAL:
            return _decimal(raw.cast(pl.String, strict=False), column)
        return raw.cast(column.field.dtype, strict=False)

    def mark(self, expression: Expression, column: Column) -> Expression | None:
        stored = sa.func.typeof(expression)
        exact = sa.case(
            (stored == sa.literal_column("'real'"), sa.func.printf(sa.literal_column("'%!.17g'"), expression)),
            (stored == sa.literal_column("'blob'"), sa.func.hex(expression)),
            else_=sa.cast(expression, sa.Text()),
        )
        return sa.func.substr(stored, sa.literal_column("1"), sa.literal_column("1")).concat(exact)

    def mark_of(self, value: object, column: Column) -> str:
        kind = "i" if isinstance(value, int) else "r" if isinstance(value, float) else "t"
        return kind + str(value)

    def place(self, mark: str, column: Column) -> Expression:
        kind, text = mark[0], mark[1:]
        if kind == "i":
            return sa.literal(int(text), sa.BigInteger())
        if kind == "r":
            return sa.literal(float(text), sa.Float())
        return sa.literal(bytes.fromhex(text) if kind == "b" else text, sa.types.NullType())

    def earlier(self, mark: str, seconds: int) -> str:
        return mark[0] + super().earlier(mark[1:], seconds)

    def bound(self, value: Value, column: Column) -> Expression:
        if isinstance(value, Decimal):
            return sa.cast(sa.literal(str(value), sa.types.NullType()), sa.Numeric())
        if isinstance(value, date | time):
            value = _iso(value)
        return sa.literal(int(value) if isinstance(value, bool) else value, sa.types.NullType())

    def ordered(self, expression: Expression, column: Column, *, declared: bool) -> Expression:
        return expression.collate("BINARY") if declared and column.field.type in _TEXTUAL else expression

    def compared(self, expression: Expression, column: Column) -> Expression:
        return expression.collate("BINARY") if column.field.type in _TEXTUAL else expression

    def version(self, expression: Expression) -> Expression:
        return sa.cast(expression, sa.Text())

    def taken(self, expression: Expression, column: Column) -> Expression:
        return expression

    def keyed(self, expression: Expression, column: Column) -> Expression:
        """One text for one moment, however it was written; an instant has to stand in UTC."""
        if column.field.type not in (FieldType.TIMESTAMP, FieldType.INSTANT, FieldType.TIME):
            return expression
        text = sa.func.replace(sa.func.replace(expression, _word("T"), _word(" ")), _word("+00:00"), _word(""))
        text = sa.func.rtrim(text, _word("Z"))
        cut = sa.func.rtrim(sa.func.rtrim(text, _word("0")), _word("."))
        return sa.case((sa.func.instr(text, _word(".")) > sa.literal_column("0"), cut), else_=text)

    def sought(self, expression: Expression, column: Column) -> Expression:
        return self.keyed(expression, column)

    def matched(self, left: Expression, right: Expression, column: Column) -> Expression:
        found = super().matched(left, right, column)
        if column.field.type not in _TEXTUAL:
            return found
        # A column without a declared type holds the number 1 beside the text '1', which compare as equal.
        return sa.and_(found, left.collate("BINARY") == right, sa.func.typeof(left) == _word("text"))

    def same(self, left: Expression, right: Expression, column: Column) -> Expression:
        return super().same(self.compared(left, column), right, column)

    def countable(self, column: Column) -> bool:
        """Moments and decimals are written in more ways than one, so they are compared here rather than there."""
        return column.field.type in _COUNTED

    def changed(self, statement: ClauseElement) -> int:
        self.execute(statement)
        return int(self.rows(sa.select(sa.func.changes())).item())

    def unstorable(self, wanted: pl.Expr, column: Column) -> pl.Expr | None:
        if column.field.type is FieldType.REAL:
            return wanted.is_nan()
        if column.field.type is FieldType.DECIMAL:
            # A numeric column keeps 15 digits: https://www.sqlite.org/datatype3.html 3.
            return (
                wanted.cast(pl.String)
                .str.replace_all(r"[-.]|^0+|(\.\d*?)0+$", "$1")
                .str.strip_chars_start("0")
                .str.len_chars()
                > 16
            )
        return None

    def insert(
        self, table: sa.TableClause, names: Sequence[str], chosen: sa.Select[Any], key: Sequence[str]
    ) -> ClauseElement:
        statement = sqlite.insert(table).from_select(list(names), chosen.where(sa.true()))
        return statement.on_conflict_do_nothing(index_elements=list(key))

    def native_for(self, field: Field) -> str:
        kinds = {
            FieldType.TEXT: f"VARCHAR({field.length})" if field.length else "TEXT",
            FieldType.DECIMAL: f"DECIMAL({field.precision or 38}, {12 if field.scale is None else field.scale})",
            FieldType.INSTANT: "TIMESTAMPTZ",
            FieldType.BYTES: "BLOB",
        }
        return kinds.get(field.type, field.type.value.upper())


def _word(text: str) -> Expression:
    return sa.literal_column(f"'{text}'")


def _among(expression: Expression, *words: str) -> Expression:
    return expression.in_([sa.literal_column(f"'{word}'") for word in words])


def _iso(value: date | time) -> str:
    return value.isoformat(sep=" ") if isinstance(value, datetime) else value.isoformat()


def _decimal(text: pl.Expr, column: Column) -> pl.Expr:
    """The decimal, null where digits would be lost: polars rounds in a cast without a word."""
    dtype = column.field.dtype
    assert isinstance(dtype, pl.Decimal)
    value = text.cast(dtype, strict=False)
    small = text.str.contains("e-", literal=True) & (value.cast(pl.Float64) != text.cast(pl.Float64, strict=False))
    digits = text.str.extract(r"\.(\d*?)0*$").str.len_chars().fill_null(0)
    return pl.when(~small & (digits <= dtype.scale)).then(value)


def _stored(column: Column, name: str) -> pl.Expr:
    """A column as SQLite is to hold it: moments as ISO text, decimals as text that its affinity turns to a number."""
    kind = column.field.type
    if kind is FieldType.INSTANT:
        return (text_of(column.field, name) + "+00:00").alias(name)
    if kind is FieldType.TIMESTAMP:
        # Whole seconds as SQLite's own functions write them, so that a value put back is the same text again.
        whole = pl.col(name).dt.strftime("%Y-%m-%d %H:%M:%S")
        exact = pl.col(name).dt.strftime("%Y-%m-%d %H:%M:%S%.6f")
        return pl.when(pl.col(name).dt.microsecond() == 0).then(whole).otherwise(exact).alias(name)
    if kind in (FieldType.DATE, FieldType.TIME, FieldType.DECIMAL):
        return text_of(column.field, name).alias(name)
    return pl.col(name).cast(pl.Int64) if kind is FieldType.BOOLEAN else pl.col(name)


def _frame(table: pa.Table) -> pl.DataFrame:
    try:
        table.validate(full=True)
    except pa.ArrowInvalid:
        return _mended(table)
    return pl.DataFrame(table)


def _mended(table: pa.Table) -> pl.DataFrame:
    """Some text is no UTF-8, and polars takes Arrow at its word: such a value is left out and said to be unreadable."""
    binary = [each.cast(pa.binary()) if pa.types.is_string(each.type) else each for each in table.columns]
    frame = pl.DataFrame(pa.Table.from_arrays(binary, names=table.column_names))
    for name, column in zip(table.column_names, table.columns, strict=True):
        if not pa.types.is_string(column.type):
            continue
        texts = [None if value is None else value.decode(errors="replace") for value in frame[name]]
        bad = [text is not None and text.encode() != value for text, value in zip(texts, frame[name], strict=True)]
        if any(bad) and not name.startswith("c"):
            raise UnexpectedError("a key of this table holds text that is no UTF-8")
        if any(bad) and f"x{name[1:]}" not in frame.columns:
            continue  # it was selected as it stands, and stays bytes, which are asked for one by one
        frame = frame.with_columns(pl.Series(name, texts, pl.String))
        if any(bad):
            frame = frame.with_columns(pl.col(f"x{name[1:]}").cast(pl.Boolean) | pl.Series(bad))
    return frame


def _translated(text: str) -> Exception:
    if re.search(r"(database|table|schema) is (locked|busy)", text):
        return ContentionError("another writer holds the file")
    found = re.search(r"(UNIQUE|NOT NULL|FOREIGN KEY) constraint failed(?:: [^,\n]*\.([^.,\n]+))?", text)
    if found:
        reason = {"UNIQUE": "another record holds this unique value already", "NOT NULL": "a value is required"}
        return RejectedError(reason.get(found[1], "a rule of the table forbids it"), field=found[2])
    rule = re.search(r"CHECK constraint failed: (.+)", text)
    if rule:
        return RejectedError("a rule of the table forbids it", detail=rule[1])
    if "constraint failed" in text or "INTEGRITY" in text:
        return RejectedError("a rule or trigger of the table forbids it")
    if "is full" in text:
        return FullError()
    if "readonly" in text or "unable to open" in text:
        return UnauthorizedError("the file may not be opened for this", missing=("file access",))
    if "not a database" in text or "malformed" in text:
        return UnexpectedError("the file is no intact SQLite database")
    if "no such" in text:
        return UnexpectedError("a table or column is gone since it was described")
    return UnexpectedError("the database refused the statement", detail=text.split(":")[0])
