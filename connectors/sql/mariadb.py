"""MariaDB through PyMySQL: its catalogue, its collations, its session."""

# ruff: noqa: ARG002 - the interface is one for all products

from __future__ import annotations

import re
import socket
import ssl
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from typing import Any

import polars as pl
import pymysql
import sqlalchemy as sa
from pymysql.converters import conversions
from sqlalchemy.dialects import mysql
from sqlalchemy.sql.elements import ClauseElement
from sqlalchemy.sql.functions import Function

from connectors.sql.catalogues.mariadb import CATALOGUE, COLUMNS, INDEXES, ROLES, described
from connectors.sql.client import (
    UNPROVEN,
    ContentionError,
    CountingClient,
    Expression,
    FullError,
    LostError,
    Parameter,
    text_of,
)
from connectors.sql.held import Holding, parsed
from connectors.sql.tables import Column, Table, raw_frame
from hub.sdk import (
    CheckReport,
    Field,
    FieldType,
    RejectedError,
    UnauthorizedError,
    UnavailableError,
    UnexpectedError,
    Value,
)
from hub.sdk.http import of_tls

_COUNTED = frozenset({FieldType.INTEGER, FieldType.REAL, FieldType.BOOLEAN, FieldType.TEXT})
# A row of a batch travels as JSON; each value in a type that brings it whole.
_CARRIED = {FieldType.INTEGER: "BIGINT", FieldType.REAL: "DOUBLE", FieldType.BOOLEAN: "TINYINT"}
_CASTS = {
    FieldType.DATE: "DATE",
    FieldType.TIME: "TIME(6)",
    FieldType.TIMESTAMP: "DATETIME(6)",
    FieldType.INSTANT: "DATETIME(6)",
}
# What PyMySQL lets through when an answer is no answer of the protocol.
_GARBLED = (struct.error, IndexError, KeyError, ValueError, AssertionError, TypeError, AttributeError)
_SESSION = (
    "SET SESSION sql_mode = 'STRICT_ALL_TABLES,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION', "
    "time_zone = '+00:00', group_concat_max_len = 1048576, "
    "max_statement_time = {statement}, innodb_lock_wait_timeout = {lock}, lock_wait_timeout = {lock}, "
    "tx_isolation = 'READ-COMMITTED'"
)


_PART = "\x1f"


@dataclass(frozen=True, slots=True)
class _Document:
    """A batch of rows as JSON: hundreds of kilobytes, quoted in two passes where PyMySQL goes letter by letter."""

    text: str


def _quoted(document: _Document, _encoders: object = None) -> str:
    # The session is utf8mb4 and its sql_mode leaves the backslash its meaning: these two characters are all that
    # could end the text. What JSON holds of others it has escaped.
    return "'" + document.text.replace("\\", "\\\\").replace("'", "\\'") + "'"


class MariaClient(CountingClient):
    """One PyMySQL connection in autocommit; results stay text until polars types them, column by column."""

    dialect = mysql.dialect(paramstyle="format")
    begin = ("START TRANSACTION",)
    _moved = 0

    @property
    def default_schema(self) -> str | None:
        return self.config.schemas[0] if self.config.schemas else self.config.database

    @property
    def _schemas(self) -> list[str]:
        return list(self.config.schemas or (str(self.config.database),))

    # --- the wire ---------------------------------------------------------------------------------------------

    def send(self, sql: str, parameters: Sequence[Parameter]) -> pl.DataFrame | None:
        try:
            if self.connection is None:
                self.connection = self._connect()
            # PyMySQL has no public way to change the limit of a connection that stands.
            self.connection._read_timeout = max(0.001, self.context.seconds_left(self.config.statement_seconds + 5))
            with self.connection.cursor() as cursor:
                self._moved = cursor.execute(sql, tuple(parameters))
                if cursor.description is None:
                    return None
                return raw_frame([each[0] for each in cursor.description], cursor.fetchall())
        except (pymysql.Error, OSError) as error:
            tls = of_tls(error) or of_tls(getattr(error, "original_exception", None))
            if tls and self.connection is None:  # of one that stood, TLS says no more than that it was cut
                self.context.distrusted(str(self.config.host))
                self.close()
                raise LostError(UNPROVEN, detail=type(error).__name__) from None
            raise self._translated(error) from None
        except _GARBLED as error:
            self.close()
            raise LostError("the database's answer makes no sense", detail=type(error).__name__) from None

    def many_rows(self, statement: sa.Select[Any]) -> pl.DataFrame:
        """Each row as one text that is cut here: PyMySQL takes as long for a value as for a whole row.

        Where a value holds the sign that parts them, or a row is too long for a text, they are brought one by one.
        """
        columns = list(statement.selected_columns)
        parts = [sa.func.ifnull(each, sa.literal_column("''")) for each in columns]
        # 63 to a number, as many bits as it has with its sign.
        nulls = [_bits(columns[at : at + 63]) for at in range(0, len(columns), 63)]
        joined = sa.func.concat_ws(sa.literal_column("_utf8mb4 X'1F'"), *nulls, *parts)
        found = self.rows(statement.with_only_columns(joined.label("row")))["row"]
        width = len(nulls) + len(columns)
        if found.null_count() or (found.str.count_matches(_PART, literal=True) != width - 1).any():
            return self.rows(statement)
        cut = pl.DataFrame({"row": found}).select(pl.col("row").str.split_exact(_PART, width - 1)).unnest("row")
        flags = [pl.col(f"field_{at}").cast(pl.Int64) for at in range(len(nulls))]
        return cut.select(
            pl.when(flags[at // 63] & (1 << at % 63) == 0).then(pl.col(f"field_{len(nulls) + at}")).alias(each.name)
            for at, each in enumerate(columns)
        )

    def countable(self, column: Column) -> bool:
        """Reals of 32 bits, moments and decimals are compared here rather than there."""
        return column.native != "float" and column.field.type in _COUNTED and column.family not in ("bit", "other")

    def holds_any(self, column: Column) -> bool:
        """Whether every text can be compared with the column's: a batch fails whole where one is not of its charset."""
        return column.collation is None or str(column.collation).startswith("utf8mb4")

    def changed(self, statement: ClauseElement) -> int:
        self.execute(statement)
        return self._moved

    def _connect(self) -> Any:
        config = self.config
        encoders = {kind: encode for kind, encode in conversions.items() if not isinstance(kind, int)}
        encoders[_Document] = _quoted
        tls = None if config.tls == "off" else ssl.create_default_context(cafile=config.tls_ca)
        session = _SESSION.format(statement=int(config.statement_seconds), lock=int(config.lock_seconds))
        patience = max(0.1, self.context.seconds_left(config.connect_seconds))
        connection = pymysql.connect(
            defer_connect=True,
            host=config.host,
            port=config.effective_port,
            user=config.user,
            # PyMySQL would send a text as Latin-1.
            password=config.password.reveal().encode() if config.password else b"",
            database=config.database,
            charset="utf8mb4",
            conv=encoders,
            connect_timeout=patience,
            read_timeout=patience,
            write_timeout=config.statement_seconds + 5,
            ssl=tls,
            ssl_disabled=tls is None,
            autocommit=True,
            init_command=session,
        )
        connection.connect(self._opened(patience))
        return connection

    def _opened(self, patience: float) -> socket.socket:
        """A socket to the first of the host's addresses that takes one: PyMySQL would look the name up again."""
        failed: OSError | None = None
        for address in self.addresses():
            try:
                opened = socket.create_connection((address, self.config.effective_port), patience)
            except OSError as error:
                failed = error
            else:
                opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                opened.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
                return opened
        assert failed is not None
        raise failed

    def _translated(self, error: Exception) -> Exception:
        code = error.args[0] if error.args and isinstance(error.args[0], int) else 0
        text = str(error.args[1]) if len(error.args) > 1 else ""
        if code in (1044, 1045, 1049, 1698, 1251, 1275, 4151):
            return UnauthorizedError(
                "the database refuses the login: check user, password, database and TLS", detail=str(code)
            )
        if code in (1142, 1143, 1227, 1370):
            found = re.match(r"(\w[\w ]*) command denied to user .* for (?:table|column) (\S+)", text)
            missing = (f"{found[1]} {found[2]}",) if found else ()
            return UnauthorizedError("the login lacks a right that this needs", missing=missing, detail=str(code))
        if code in (1020, 1205, 1213):
            return ContentionError("another writer holds these records", detail=str(code))
        if code in (1226, 1969, 3024):
            return UnavailableError("the database is too busy, or took longer than a statement may", detail=str(code))
        if code in (1021, 1114) or re.search(r"\b(?:[Ee]rrno|[Ee]rrcode|error): 28\b", text):
            return FullError(detail=str(code))
        if code in _REASONS:
            found = re.search(r"(?:[Cc]olumn|Field) '([^']+)'|`([^`]+)` at row", text)
            rule = re.search(r"CONSTRAINT `([^`]+)`", text)
            field = (found[1] or found[2]) if found else None
            return RejectedError(_REASONS[code], field=field, detail=rule[1] if rule else str(code))
        if code in (1146, 1054):
            return UnexpectedError("a table or column is gone since it was described", detail=str(code))
        if code in (0, 1040, 1053, 1203, 1927) or 2000 <= code < 3000 or isinstance(error, OSError):
            answered = self.connection is not None
            self.close()
            return LostError(
                "the connection to the database was lost" if answered else "the database does not answer",
                detail=f"{type(error).__name__} {code}",
            )
        return UnexpectedError("the database refused the statement", detail=str(code))

    def close(self) -> None:
        connection, self.connection = self.connection, None
        if connection is not None and connection.open:
            connection.close()

    def identity(self) -> CheckReport:
        row = self.rows(sa.text("SELECT CURRENT_USER() AS who, VERSION() AS version")).row(0)
        return CheckReport(identity=row[0], product=f"MariaDB {row[1]}")

    def tables(self) -> list[Table]:
        schemas: sa.BindParameter[Any] = sa.bindparam("schemas", self._schemas, expanding=True)
        columns = self.rows(sa.text(CATALOGUE).bindparams(schemas)).rows()
        rows = pl.DataFrame(columns, schema=dict.fromkeys(COLUMNS, pl.String), orient="row")
        indexes: dict[tuple[str, str], dict[str, list[str]]] = {}
        for schema, table, index, column in self.rows(sa.text(INDEXES).bindparams(schemas)).rows():
            indexes.setdefault((schema, table), {}).setdefault(index, []).append(column)
        groups = rows.partition_by("schema", "table", maintain_order=True, as_dict=True)
        return [described(group, indexes.get((str(names[0]), str(names[1])), {})) for names, group in groups.items()]

    # --- rights -------------------------------------------------------------------------------------------------

    def account(self, login: str | None) -> str:
        """`user`@`host`: an account of MariaDB is both, and the server knows which of them let us in."""
        name, at, host = (login or self.identity().identity).rpartition("@")
        return f"{self.printed(name)}@{self.printed(host)}" if at else f"{self.printed(host)}@{self.printed('%')}"

    def held(self) -> tuple[list[Holding], tuple[str, ...], tuple[str, ...]]:
        held, strange = parsed(self.rows(sa.text("SHOW GRANTS")).to_series())
        roles = self.rows(sa.text(ROLES))["name"].to_list()
        return held, tuple(f"role {each}, which it may take on" for each in roles), tuple(sorted(set(strange)))

    def rowset(self, frame: pl.DataFrame, columns: Mapping[str, Column | None]) -> sa.FromClause:
        made, kinds = [], []
        for name, dtype in frame.schema.items():
            column = columns.get(name)
            kind = _carried(column, dtype, frame[name])
            plain = dtype.is_integer() or dtype == pl.Float64
            value = text_of(column.field, name) if column is not None and not plain else pl.col(name)
            made.append(pl.col(name).cast(pl.Int8) if dtype == pl.Boolean else value.alias(name))
            # The names are our own letters and numbers, the kinds come from the table above.
            kinds.append(f"{name} {kind} PATH '$.{name}' ERROR ON ERROR")
        rows = frame.select(made).select(row=pl.struct(pl.all()).struct.json_encode())["row"]
        document = self.bound_rows("document", _Document(f"[{','.join(rows)}]"))
        text = sa.text(f"SELECT * FROM JSON_TABLE(:document, '$[*]' COLUMNS ({', '.join(kinds)})) AS j")  # noqa: S608
        return text.bindparams(document).columns(*(sa.column(name) for name in frame.columns)).subquery()

    # --- values -----------------------------------------------------------------------------------------------

    def read(self, expression: Expression, column: Column) -> Expression:
        if column.native == "float":
            return _cast(expression, "DOUBLE")
        if column.family == "bit":
            return expression + sa.literal_column("0")
        return _cast(expression, "CHAR") if column.family == "other" else expression

    def decode(self, raw: pl.Expr, column: Column) -> pl.Expr:
        kind = column.field.type
        if kind is FieldType.BYTES:
            return raw.cast(pl.Binary)
        text = raw.cast(pl.String, strict=False)
        if kind is FieldType.BOOLEAN:
            return pl.when(text.is_in(["0", "1"])).then(text == "1")
        if kind is FieldType.DATE:
            return text.str.to_date("%Y-%m-%d", strict=False)
        if kind in (FieldType.TIMESTAMP, FieldType.INSTANT):
            moment = text.str.to_datetime("%Y-%m-%d %H:%M:%S%.f", strict=False, time_unit="us")
            return moment.dt.replace_time_zone("UTC") if kind is FieldType.INSTANT else moment
        if kind is FieldType.TIME:
            return text.str.to_time("%H:%M:%S%.f", strict=False)
        return text.cast(column.field.dtype, strict=False)

    def mark(self, expression: Expression, column: Column) -> Expression | None:
        return sa.func.hex(expression) if column.field.type is FieldType.BYTES else None

    def place(self, mark: str, column: Column) -> Expression:
        kind = column.field.type
        if kind in (FieldType.INTEGER, FieldType.BOOLEAN):
            return sa.literal(int(mark), sa.BigInteger())
        if kind is FieldType.REAL:
            return sa.literal(float(mark), sa.types.NullType())
        if kind is FieldType.DECIMAL:
            return _cast(sa.literal(mark, sa.types.NullType()), "DECIMAL(65,30)")
        text = sa.literal(mark, sa.types.NullType())
        return sa.func.unhex(text) if kind is FieldType.BYTES else text

    def bound(self, value: Value, column: Column) -> Expression:
        if isinstance(value, bytes):
            return sa.func.unhex(sa.literal(value.hex(), sa.types.NullType()))
        if isinstance(value, datetime):
            value = (value.astimezone(UTC) if value.tzinfo else value).replace(tzinfo=None).isoformat(sep=" ")
        elif isinstance(value, date | time):
            value = value.isoformat()
        return sa.literal(value, sa.types.NullType())

    def ordered(self, expression: Expression, column: Column, *, declared: bool) -> Expression:
        if column.field.type is not FieldType.TEXT:
            return expression
        if declared:
            return _bytes(expression)
        return _cast(expression, "CHAR") if column.field.values else expression

    def version(self, expression: Expression) -> Expression:
        return _cast(expression, "CHAR")

    def after(self, keys: Sequence[Expression], marks: Sequence[Expression]) -> Expression:
        """Spelt out: MariaDB finds no index for a comparison of rows."""
        found = keys[-1] > marks[-1]
        for key, mark in zip(keys[-2::-1], marks[-2::-1], strict=True):
            found = sa.and_(key >= mark, sa.or_(key > mark, found))
        return found

    def taken(self, expression: Expression, column: Column) -> Expression:
        kind = column.field.type
        if kind in _CASTS:
            return _cast(expression, _CASTS[kind])
        return sa.func.unhex(expression) if kind is FieldType.BYTES else expression

    def sought(self, expression: Expression, column: Column) -> Expression:
        """Texts in the column's own collation, so that its index serves; `matched` tells case apart."""
        if column.field.type is not FieldType.TEXT or not column.charset:
            return self.taken(expression, column)
        text = sa.func.convert(expression.op("USING")(sa.literal_column(column.charset)))
        return text.collate(str(column.collation))

    def matched(self, left: Expression, right: Expression, column: Column) -> Expression:
        found = super().matched(left, right, column)
        if column.field.type is not FieldType.TEXT or not column.charset:
            return found
        return sa.and_(found, _bytes(left) == _bytes(right))

    def same(self, left: Expression, right: Expression, column: Column) -> Expression:
        if column.field.type is FieldType.TEXT:
            left, right = _bytes(left), _bytes(right)
        return left.is_not_distinct_from(right)

    def fitted(self, wanted: pl.Expr, column: Column) -> pl.Expr:
        if column.native == "float":
            return wanted.cast(pl.Float32).cast(pl.Float64)
        return super().fitted(wanted, column)

    def unstorable(self, wanted: pl.Expr, column: Column) -> pl.Expr | None:
        return wanted.is_nan() | wanted.is_infinite() if column.field.type is FieldType.REAL else None

    def native_for(self, field: Field) -> str:
        kinds = {
            FieldType.TEXT: f"VARCHAR({field.length})" if field.length and field.length <= 16_000 else "LONGTEXT",
            FieldType.DECIMAL: f"DECIMAL({field.precision or 38},{12 if field.scale is None else field.scale})",
            FieldType.REAL: "DOUBLE",
            FieldType.INTEGER: "BIGINT",
            FieldType.TIMESTAMP: "DATETIME(6)",
            FieldType.INSTANT: "TIMESTAMP(6) NULL",
            FieldType.TIME: "TIME(6)",
            FieldType.BYTES: "LONGBLOB",
        }
        return kinds.get(field.type, field.type.value.upper())


_REASONS = {
    1048: "a value is required",
    1062: "another record holds this unique value already",
    1264: "the number is outside the column's range",
    1265: "the value does not fit the column's type",
    1292: "the value does not fit the column's type",
    1364: "a value is required",
    1366: "the value does not fit the column's type or character set",
    1406: "the text is longer than the column",
    1411: "the value does not fit the column's type",
    1451: "other records refer to it",
    1452: "it refers to a record that does not exist",
    1644: "a trigger of the table refuses it",
    1690: "the number is outside the column's range",
    1369: "a rule of the view forbids it",
    3819: "a rule of the table forbids it",
    4025: "a rule of the table forbids it",
}


def _bytes(text: Expression) -> Expression:
    """A text that is ordered and compared by its characters alone, trailing blanks included."""
    converted: Expression = sa.func.convert(text.op("USING")(sa.literal_column("utf8mb4")))
    return converted.collate("utf8mb4_nopad_bin")


def _bits(columns: Sequence[Expression]) -> Expression:
    """A number whose bits tell which of the columns are null."""
    found: Expression = sa.literal_column("0")
    for at, each in enumerate(columns):
        found = found + sa.cast(each.is_(None), sa.Integer()) * sa.literal_column(str(1 << at))
    return found


def _cast(expression: Expression, kind: str) -> Expression:
    """CAST to a type of the fixed words above: SQLAlchemy leaves out a CAST to most types of this product."""
    return Function("CAST", expression.op("AS")(sa.literal_column(kind)))


def _carried(column: Column | None, dtype: pl.DataType, values: pl.Series) -> str:
    if column is None:
        return "TINYINT" if dtype == pl.Boolean else "BIGINT" if dtype.is_integer() else "VARCHAR(64)"
    field = column.field
    if isinstance(field.dtype, pl.Decimal):
        return f"DECIMAL({field.dtype.precision},{field.dtype.scale})"
    if field.type in _CARRIED:
        return _CARRIED[field.type]
    if field.type in _CASTS or field.type is FieldType.UUID:
        return "VARCHAR(64)"
    sizes = 2 * values.bin.size() if field.type is FieldType.BYTES else values.str.len_chars()
    size = max(1, int(sizes.cast(pl.Int64).max() or 0))  # type: ignore[arg-type]
    return f"VARCHAR({size}) CHARACTER SET utf8mb4" if size <= 1000 else "LONGTEXT CHARACTER SET utf8mb4"
