"""PostgreSQL through ADBC: its catalogue, its types, its session."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any
from urllib.parse import quote, urlencode

import adbc_driver_manager
import adbc_driver_postgresql.dbapi as driver
import polars as pl
import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.sql.elements import ClauseElement

from connectors.sql.catalogues.postgresql import CATALOGUE, COUNTERS, DATES, HELD, WIDE, described
from connectors.sql.client import (
    UNPROVEN,
    Client,
    ContentionError,
    Expression,
    FullError,
    LostError,
    Parameter,
    as_text,
    record,
    text_of,
)
from connectors.sql.held import EVERYTHING, Holding, Need
from connectors.sql.tables import Column, Native, Table
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


class PostgresClient(Client):
    """One ADBC connection in autocommit; transactions are opened by statement."""

    dialect = postgresql.dialect(paramstyle="numeric_dollar")  # type: ignore[no-untyped-call]
    begin = ("BEGIN", "SET CONSTRAINTS ALL IMMEDIATE")
    conditional = True
    _limit = 0

    @property
    def default_schema(self) -> str:
        return self.config.schemas[0] if self.config.schemas else "public"

    # --- the wire ---------------------------------------------------------------------------------------------

    def send(self, sql: str, parameters: Sequence[Parameter]) -> pl.DataFrame | None:
        if self.connection is None:
            self.connection = self._connect()
            self._limit = self.config.statement_seconds
        try:
            if not sql.startswith(("ROLLBACK", "COMMIT", "SAVEPOINT", "RELEASE")):
                self._keep_deadline()
            elif sql.startswith("ROLLBACK"):
                self._limit = 0  # which takes back what was set inside, too
            with self.connection.cursor() as cursor:
                cursor.execute(sql, record(parameters) if parameters else None)
                if not cursor.description:
                    return None
                return _frame(cursor.fetch_arrow_table())
        except adbc_driver_manager.Error as error:
            raise self._translated(error) from None

    def _keep_deadline(self) -> None:
        """Lowers the server's own limit where the deadline of the call is nearer, and lifts it again afterwards."""
        left = math.ceil(self.context.seconds_left(self.config.statement_seconds))
        if left == self._limit:
            return
        self._limit = left
        with self.connection.cursor() as cursor:
            cursor.execute(f"SET statement_timeout = {max(1, left) * 1000:d}")

    def _connect(self) -> Any:
        # Everything else that libpq would take from the environment is given in the URI; a service has no such word.
        os.unsetenv("PGSERVICE")
        try:
            return driver.connect(self._uri(), autocommit=True)
        except adbc_driver_manager.Error as error:
            if _UNPROVEN.search(str(error)):
                self.context.distrusted(str(self.config.host))
            raise _login_error(str(error)) from None

    def _uri(self) -> str:
        config = self.config
        addresses = self.addresses()
        milliseconds = 1000 * config.statement_seconds
        session = {
            "timezone": "UTC",
            "datestyle": "ISO,YMD",
            "intervalstyle": "iso_8601",
            "bytea_output": "hex",
            "extra_float_digits": "1",
            "statement_timeout": str(milliseconds),
            "lock_timeout": str(1000 * config.lock_seconds),
            "idle_in_transaction_session_timeout": str(milliseconds),
        }
        query = {
            "host": ",".join([str(config.host)] * len(addresses)),
            "port": str(config.effective_port),
            "dbname": str(config.database),
            "user": str(config.user),
            # libpq holds the certificate against the name and connects to these, which were judged.
            "hostaddr": ",".join(addresses),
            "target_session_attrs": "any",
            "requirepeer": "",
            "channel_binding": "prefer",
            "require_auth": "",
            "connect_timeout": str(max(2, int(self.context.seconds_left(config.connect_seconds)))),
            "sslmode": "disable" if config.tls == "off" else "verify-full",
            "sslnegotiation": "postgres",
            "sslcertmode": "disable",
            "ssl_min_protocol_version": "TLSv1.2",
            "ssl_max_protocol_version": "",
            "gssencmode": "disable",
            "load_balance_hosts": "disable",
            "passfile": os.path.join(os.devnull, "none"),  # noqa: PTH118 - a file that cannot be, so that no other is read
            "client_encoding": "UTF8",
            "application_name": "hub",
            "keepalives_idle": "15",
            "keepalives_interval": "5",
            "keepalives_count": "3",
            "tcp_user_timeout": str(milliseconds),
            "options": " ".join(f"-c {name}={value}" for name, value in session.items()),
        }
        if config.tls == "verify":
            query["sslrootcert"] = config.tls_ca or "system"
        if config.password:
            query["password"] = config.password.reveal()
        return f"postgresql://?{urlencode(query, quote_via=quote, safe='')}"

    def _translated(self, error: Any) -> Exception:
        state = error.sqlstate or ""
        told = {name.decode(): value.decode(errors="replace") for name, value in error.details or ()}
        if state in ("40P01", "40001", "55P03"):
            return ContentionError("another writer holds these records", detail=state)
        if state[:2] in ("22", "23", "44") or state in ("P0001", "P0004", "09000"):
            field = told.get("PG_DIAG_COLUMN_NAME")
            rule = told.get("PG_DIAG_CONSTRAINT_NAME") or field
            return RejectedError(
                _REASONS.get(state, _REASONS.get(state[:2], "the database refuses it")).format(
                    rule=f" ({rule})" if rule else ""
                ),
                field=field,
                detail=rule or state,
            )
        if state == "57014":
            return UnavailableError("the database took longer than a statement may", detail=state)
        if state == "53100":
            return FullError(detail=state)
        if state == "42501":
            return UnauthorizedError("the login lacks a right that this needs", missing=_subject(told), detail=state)
        if state in ("42P01", "42703"):
            return UnexpectedError("a table or column is gone since it was described", detail=state)
        if state[:2] in ("08", "57", "53") or not state:
            self.close()
            return LostError("the connection to the database was lost", detail=state or type(error).__name__)
        return UnexpectedError("the database refused the statement", detail=state)

    def close(self) -> None:
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.close()

    def seek_keys(self) -> None:
        # The planner knows nothing of a rowset's keys and walks the whole table or its index for every batch, which
        # makes a run of many batches quadratic.
        for setting in ("SET LOCAL enable_hashjoin = off", "SET LOCAL enable_mergejoin = off", "SET LOCAL jit = off"):
            self.send(setting, ())

    def identity(self) -> CheckReport:
        row = self.rows(sa.text("SELECT current_user::text AS who, version() AS product")).row(0)
        return CheckReport(identity=row[0], product=row[1].split(" on ")[0])

    def tables(self) -> list[Table]:
        listed = json.dumps(self.config.schemas or ("public",))
        found = self.rows(sa.text(CATALOGUE).bindparams(schemas=listed))
        shown = found.filter(pl.col("visible").any().over("schema", "table"))
        return [described(group) for group in shown.partition_by("schema", "table", maintain_order=True)]

    # --- rights -------------------------------------------------------------------------------------------------

    def entrance(self, schemas: Collection[str | None], to: str) -> list[str]:
        lines = [f"GRANT CONNECT ON DATABASE {self.printed(str(self.config.database))} TO {to};"]
        return [
            *lines,
            *(f"GRANT USAGE ON SCHEMA {self.printed(str(each))} TO {to};" for each in sorted(map(str, schemas))),
        ]

    def counters(self, inserted: Sequence[Need]) -> list[str]:
        told = [{"schema": each.schema, "table": each.table, "columns": sorted(each.columns)} for each in inserted]
        if not told:
            return []
        found = self.rows(sa.text(COUNTERS).bindparams(inserted=json.dumps(told)))
        return [f"USAGE ON SEQUENCE {each}" for each in found["counter"].drop_nulls()]

    def held(self) -> tuple[list[Holding], tuple[str, ...], tuple[str, ...]]:
        wide = tuple(self.rows(sa.text(WIDE))["line"])
        if "SUPERUSER" in wide:
            # Every right on every table, and those of every role: the one word says it all.
            return [Holding(EVERYTHING)], ("SUPERUSER",), ()
        rows = self.rows(sa.text(HELD)).rows()
        held = [
            Holding(right, schema, table, None if columns is None else frozenset(json.loads(columns)))
            for right, schema, table, columns in rows
        ]
        return held, wide, ()

    def rowset(self, frame: pl.DataFrame, columns: Mapping[str, Column | None]) -> sa.FromClause:
        arrays = []
        for name in frame.columns:
            column = columns.get(name)
            dtype = frame.schema[name]
            if dtype == pl.Boolean or dtype.is_integer() or dtype == pl.Float64:
                series, kind = frame[name], _carried(dtype)
            else:
                series, kind = frame.select(text_of(column.field, name) if column else pl.col(name))[name], "text"
            arrays.append(sa.cast(self.bound_rows(f"rows_{name}", series), Native(kind + "[]")))
        return sa.func.unnest(*arrays).table_valued(*frame.columns).render_derived()

    # --- values -----------------------------------------------------------------------------------------------

    def read(self, expression: Expression, column: Column) -> Expression:
        kind = column.field.type
        if kind in DATES:
            return sa.case((self._in_range(expression, kind), expression))
        if kind in (FieldType.TEXT, FieldType.DECIMAL, FieldType.UUID, FieldType.JSON):
            return sa.cast(expression, Native("text"))
        return sa.cast(expression, Native("bigint")) if column.native == "oid" else expression

    def unreadable(self, expression: Expression, column: Column) -> Expression | None:
        field = column.field
        if field.type in DATES:
            return sa.not_(self._in_range(expression, field.type))
        if field.type is FieldType.TIME:
            return expression == sa.cast(sa.literal_column("'24:00'"), Native("time"))
        if field.type is FieldType.DECIMAL and field.precision is None:
            limit = sa.cast(sa.literal_column("1e26"), Native("numeric"))
            return sa.or_(
                expression != sa.func.trunc(expression, sa.literal_column("12")), sa.func.abs(expression) >= limit
            )
        return None

    @staticmethod
    def _in_range(expression: Expression, kind: FieldType) -> Expression:
        native = Native(DATES[kind])
        return expression.between(
            sa.cast(sa.literal_column("'0001-01-01'"), native),
            sa.cast(
                sa.literal_column("'9999-12-31'" if kind is FieldType.DATE else "'9999-12-31 23:59:59.999999'"), native
            ),
        )

    def decode(self, raw: pl.Expr, column: Column) -> pl.Expr:
        return raw.cast(column.field.dtype, strict=False)

    def mark(self, expression: Expression, column: Column) -> Expression | None:
        if column.field.type in (FieldType.INTEGER, FieldType.TEXT, FieldType.DECIMAL, FieldType.UUID):
            return None
        return sa.cast(expression, Native("text"))

    def place(self, mark: str, column: Column) -> Expression:
        return sa.cast(sa.literal(mark, sa.Text()), Native(column.family))

    def bound(self, value: Value, column: Column) -> Expression:
        family = column.family
        if family == "bigint" and isinstance(value, int) and not -(2**63) <= value < 2**63:
            family = "numeric"
        if isinstance(value, bytes):
            return sa.func.decode(sa.literal(value.hex(), sa.Text()), sa.literal_column("'hex'"))
        return sa.cast(sa.literal(as_text(value), sa.Text()), Native(family))

    def ordered(self, expression: Expression, column: Column, *, declared: bool) -> Expression:
        if column.field.type is not FieldType.TEXT:
            return expression
        if (
            column.family == "text"
            and column.native not in ("text", "name")
            and not column.native.startswith("character v")
        ):
            expression = sa.cast(expression, Native("text"))
        return expression.collate("C") if declared and not column.exact else expression

    def compared(self, expression: Expression, column: Column) -> Expression:
        return sa.cast(expression, Native("text")) if column.family == "text" else expression

    def version(self, expression: Expression) -> Expression:
        return sa.cast(expression, Native("text"))

    def taken(self, expression: Expression, column: Column) -> Expression:
        if column.field.type is FieldType.BYTES:
            return sa.func.decode(expression, sa.literal_column("'hex'"))
        if column.field.type is FieldType.INSTANT:
            expression = expression.concat(sa.literal_column("'+00'"))
        # The column's own length or scale would cut what it is compared with; an assignment says so instead.
        exactly = column.field.values or column.native in ("real", "citext")
        return sa.cast(expression, Native(column.native if exactly else column.family))

    def matched(self, left: Expression, right: Expression, column: Column) -> Expression:
        found = super().matched(left, right, column)
        if column.exact:
            return found
        return sa.and_(found, _bytes(left) == _bytes(self.taken(right, column)))

    def same(self, left: Expression, right: Expression, column: Column) -> Expression:
        if column.native == "json" or not column.exact:
            left, right = _bytes(left), _bytes(right)
        return left.is_not_distinct_from(right)

    def fitted(self, wanted: pl.Expr, column: Column) -> pl.Expr:
        if column.native == "real":
            return wanted.cast(pl.Float32).cast(pl.Float64)
        return super().fitted(wanted, column)

    def unstorable(self, wanted: pl.Expr, column: Column) -> pl.Expr | None:
        if column.field.type in (FieldType.TEXT, FieldType.JSON):
            return wanted.str.contains("\x00", literal=True)
        return None

    def insert(
        self, table: sa.TableClause, names: Sequence[str], chosen: sa.Select[Any], key: Sequence[str]
    ) -> ClauseElement:
        statement = postgresql.insert(table).from_select(list(names), chosen)
        return statement.on_conflict_do_nothing(index_elements=list(key))

    def native_for(self, field: Field) -> str:
        kinds = {
            FieldType.TEXT: f"character varying({field.length})" if field.length else "text",
            FieldType.DECIMAL: f"numeric({field.precision or 38},{12 if field.scale is None else field.scale})",
            FieldType.REAL: "double precision",
            FieldType.INTEGER: "bigint",
            FieldType.BOOLEAN: "boolean",
            FieldType.TIMESTAMP: "timestamp without time zone",
            FieldType.INSTANT: "timestamp with time zone",
            FieldType.TIME: "time without time zone",
            FieldType.BYTES: "bytea",
            FieldType.JSON: "jsonb",
        }
        return kinds.get(field.type, field.type.value)


_REASONS = {
    "23502": "a value is required{rule}",
    "23503": "it refers to a record that does not exist{rule}",
    "23505": "another record holds this unique value already{rule}",
    "23514": "a rule of the table forbids it{rule}",
    "22001": "the text is longer than the column",
    "22003": "the number is outside the column's range",
    "23": "a rule of the table forbids it{rule}",
    "22": "the value does not fit the column's type",
    "44": "a rule of the view forbids it",
    "P0001": "a trigger of the table refuses it",
}


def _bytes(text: Expression) -> Expression:
    """A text that is compared byte for byte."""
    return sa.cast(text, Native("text")).collate("C")


def _carried(dtype: pl.DataType) -> str:
    return "boolean" if dtype == pl.Boolean else "double precision" if dtype == pl.Float64 else "bigint"


def _subject(told: Mapping[str, str]) -> tuple[str, ...]:
    found = re.search(r"permission denied for (\w+) (.+)$", told.get("PG_DIAG_MESSAGE_PRIMARY", ""))
    return (f"a right on {found[1]} {found[2]}",) if found else ()


_UNPROVEN = re.compile(r"certificate verify failed|server certificate|does not support SSL|root certificate")
"""In what libpq says where the server does not prove who it is; of a client's certificate it says other things."""


def _login_error(text: str) -> Exception:
    refused = (
        "authentication failed",
        "does not exist",
        "no pg_hba.conf entry",
        "permission denied",
        "not permitted to log in",
        "no password supplied",
        "certificate",
    )
    unproven = _UNPROVEN.search(text) is not None
    if any(each in text for each in refused):
        login = "the database refuses the login: check user, password, database and TLS"
        return UnauthorizedError(UNPROVEN if unproven else login)
    return UnavailableError(UNPROVEN if unproven else "the database does not answer")


def _frame(table: pa.Table) -> pl.DataFrame:
    plain = [
        column.cast(column.type.storage_type) if isinstance(column.type, pa.BaseExtensionType) else column
        for column in table.columns
    ]
    return pl.DataFrame(pa.Table.from_arrays(plain, names=table.column_names))
