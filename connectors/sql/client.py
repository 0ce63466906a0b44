"""What the three wires share: statements in, frames out, transactions, savepoints, deadlines and errors told apart."""

# ruff: noqa: ARG002 - a product that needs an argument has it

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any, TypeAlias

import polars as pl
import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy.engine.interfaces import Dialect
from sqlalchemy.sql.elements import ClauseElement

from connectors.sql.config import SqlConfig
from connectors.sql.held import Holding, Need
from connectors.sql.tables import Column, Table
from hub.sdk import (
    CheckReport,
    ConnectorError,
    Context,
    Field,
    FieldType,
    Operator,
    RejectedError,
    UnavailableError,
    Value,
)
from hub.sdk.network.addresses import resolve

Expression: TypeAlias = "sa.ColumnElement[Any]"
Parameter: TypeAlias = "int | float | str | bytes | pl.Series | None"

NULLS = frozenset({Operator.IS_NULL, Operator.NOT_NULL})
EQUALITY = NULLS | {Operator.EQ, Operator.IN}


class ContentionError(UnavailableError):
    """Another writer won: roll back and try the transaction again."""


class FullError(UnavailableError):
    """The database found no room on its disk, and so did not carry out what it was told."""

    def __init__(self, *, detail: str = "") -> None:
        super().__init__("the disk of the database is full", detail=detail)


UNPROVEN = (
    "the database cannot prove who it is: it speaks no TLS, or its certificate does not hold; tls_ca=FILE names the"
    " authority that signed it, and tls=off does without, on a network that is trusted"
)


class LostError(UnavailableError):
    """The connection is gone."""


class UnknownOutcomeError(UnavailableError):
    """The connection was lost while a transaction was being committed: nobody knows whether it was."""


class _Held:
    """The rows of one parameter, for as long as they are wanted."""

    def __init__(self, rows: object) -> None:
        self._rows: object | None = rows

    def let_go(self) -> None:
        self._rows = None

    def __call__(self) -> object:
        if self._rows is None:
            raise RuntimeError("a statement is sent after the transaction in which its rows were given")
        return self._rows


class Client(ABC):
    """One connection of one thread to one database, and how that product reads, compares and takes values.

    A statement is built with SQLAlchemy, so that names are quoted by the dialect and values are bound; it is compiled
    here and sent through the fastest driver of the product.
    """

    dialect: Dialect
    begin: Sequence[str]
    conditional = False
    """Whether UPDATE … RETURNING tells in one statement which rows met the condition."""

    def __init__(self, config: SqlConfig, context: Context) -> None:
        self.config = config
        self.context = context
        self.connection: Any = None
        self._held: list[_Held] = []

    def addresses(self) -> list[str]:
        """Where the host stands, looked up for this connection and judged; what is connected to is one of these."""
        return resolve(str(self.config.host), self.config.effective_port, private=self.config.private)

    # --- the wire ---------------------------------------------------------------------------------------------

    @abstractmethod
    def send(self, sql: str, parameters: Sequence[Parameter]) -> pl.DataFrame | None:
        """Runs one statement. Errors are the four of the contract and the three above."""

    @abstractmethod
    def close(self) -> None:
        """Gives the socket back; harmless when repeated."""

    @abstractmethod
    def identity(self) -> CheckReport:
        """Who we are and at which product."""

    @abstractmethod
    def tables(self) -> list[Table]:
        """What the catalogue shows of the schemas asked for, with our own rights."""

    @abstractmethod
    def rowset(self, frame: pl.DataFrame, columns: Mapping[str, Column | None]) -> sa.FromClause:
        """A frame as rows that a statement can join; `columns` says what each stands for (None: as it is)."""

    @contextmanager
    def matches(self, frame: pl.DataFrame, columns: Mapping[str, Column | None]) -> Iterator[sa.FromClause]:
        """A rowset that outlives other statements of this connection, for a read of several pages."""
        with self._letting_go():
            yield self.rowset(frame, columns)

    def bound_rows(self, name: str, rows: object) -> sa.BindParameter[Any]:
        """Rows as a parameter, until the transaction or the `matches` ends within which they are asked for.

        SQLAlchemy's statements are cycles, which Python takes apart only now and then: by themselves, those of a run
        would hold the rows of some twenty pages.
        """
        held = _Held(rows)
        self._held.append(held)
        return sa.bindparam(name, callable_=held, unique=True, type_=sa.types.NullType())

    @contextmanager
    def _letting_go(self) -> Iterator[None]:
        before = len(self._held)
        try:
            yield
        finally:
            for each in self._held[before:]:
                each.let_go()
            del self._held[before:]

    @property
    def default_schema(self) -> str | None:
        """The schema whose tables go by their bare names."""
        return self.config.schemas[0] if self.config.schemas else None

    def rows(self, statement: ClauseElement) -> pl.DataFrame:
        """The rows of one statement, as the driver gave them."""
        found = self.execute(statement)
        assert found is not None
        return found

    def many_rows(self, statement: sa.Select[Any]) -> pl.DataFrame:
        """The rows of a statement that brings a page of values, none of them bytes."""
        return self.rows(statement)

    def execute(self, statement: ClauseElement) -> pl.DataFrame | None:
        """Runs one statement within the deadline of the context."""
        if self.context.seconds_left(1.0) <= 0:
            raise UnavailableError("the time for this call is over")
        compiled = statement.compile(dialect=self.dialect, compile_kwargs={"render_postcompile": True})
        values = compiled.params
        names = getattr(compiled, "positiontup", None) or ()
        return self.send(str(compiled), [values[name] for name in names])

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """One transaction. LostError before the commit means that nothing was done; after it, nobody knows."""
        with self._letting_go():
            try:
                for statement in self.begin:
                    self.send(statement, ())
                yield
            except BaseException:
                self.roll_back()
                raise
        try:
            self.send("COMMIT", ())
        except (ContentionError, FullError, RejectedError):
            self.roll_back()
            raise
        except ConnectorError as error:
            self.close()
            raise UnknownOutcomeError(error.message, detail=error.detail) from error

    def seek_keys(self) -> None:  # noqa: B027 - most products do so by themselves
        """Until the transaction ends, each row of a rowset is looked for by the index of the key."""

    def roll_back(self) -> None:
        """Ends a transaction that failed; a connection that cannot even do that is closed."""
        if self.connection is None:
            return
        try:
            self.send("ROLLBACK", ())
        except Exception as error:  # noqa: BLE001 - the first error is the one to tell; this one goes to the log
            self.context.log.warning("rollback failed", error=type(error).__name__)
            self.close()

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        """What is done inside is undone alone when it fails."""
        self.send("SAVEPOINT hub_row", ())
        try:
            yield
        except UnavailableError:  # the whole transaction goes, and the product may have ended it by itself
            raise
        except Exception:
            self.send("ROLLBACK TO SAVEPOINT hub_row", ())
            raise
        self.send("RELEASE SAVEPOINT hub_row", ())

    # --- values -----------------------------------------------------------------------------------------------

    @abstractmethod
    def read(self, expression: Expression, column: Column) -> Expression:
        """What to select for a column so that the driver brings it whole."""

    def unreadable(self, expression: Expression, column: Column) -> Expression | None:
        """A condition that is true where the value has no place in the field's type; None: decoding finds out."""
        return None

    def plain(self, column: Column, brought: pl.DataType | None = None, *, key: bool = False) -> bool:
        """Whether a column may be selected as it stands; of what was `brought`, whether its type proves that all fit.

        For a product that keeps values of any type in any column, and where asking for each is dear.
        """
        return False

    @abstractmethod
    def decode(self, raw: pl.Expr, column: Column) -> pl.Expr:
        """The typed value of what `read` brought; null where it has no place in the type."""

    def mark(self, expression: Expression, column: Column) -> Expression | None:
        """A text that `place` can bind to stand exactly here in the order; None: the text of what `read` brings."""
        return None

    def mark_of(self, value: object, column: Column) -> str:
        """The mark of a key that was brought by `read`, or `plain`."""
        return str(value)

    @abstractmethod
    def place(self, mark: str, column: Column) -> Expression:
        """The bound value of a mark."""

    def earlier(self, mark: str, seconds: int) -> str:
        """The mark of a moment that much before; the same where it is no moment that Python can count with.

        Written as the mark is: where moments are kept as text, a blank sorts before every `T`.
        """
        try:
            moment = datetime.fromisoformat(mark) - timedelta(seconds=seconds)
            return moment.isoformat(sep="T" if "T" in mark else " ")
        except (ValueError, OverflowError):
            return mark

    @abstractmethod
    def bound(self, value: Value, column: Column) -> Expression:
        """The bound value of a filter, cast wide enough that nothing is rounded."""

    def ordered(self, expression: Expression, column: Column, *, declared: bool) -> Expression:
        """What to sort and compare by, so that the order is total over a key."""
        return expression

    def compared(self, expression: Expression, column: Column) -> Expression:
        """The column as a filter compares it."""
        return expression

    @abstractmethod
    def version(self, expression: Expression) -> Expression:
        """The text of a column that moves with every change."""

    def after(self, keys: Sequence[Expression], marks: Sequence[Expression]) -> Expression:
        """Whether a row stands behind the given place."""
        if len(keys) == 1:
            return keys[0] > marks[0]
        return sa.tuple_(*keys) > sa.tuple_(*marks)

    @abstractmethod
    def taken(self, expression: Expression, column: Column) -> Expression:
        """A column of a rowset as the type of the table's column."""

    def keyed(self, expression: Expression, column: Column) -> Expression:
        """The table's side of a comparison with a rowset."""
        return expression

    def sought(self, expression: Expression, column: Column) -> Expression:
        """The rowset's side of a comparison, so that the table's index serves. It may find more than is meant."""
        return self.taken(expression, column)

    def impossible(self, wanted: pl.Expr, column: Column) -> pl.Expr | None:
        """Where no record can hold the value, so that asking for it would only be an error."""
        if column.field.type is FieldType.UUID:
            return ~wanted.str.contains(r"^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$")
        if column.field.values:
            return ~wanted.is_in(list(column.field.values))
        return self.unstorable(wanted, column)

    def matched(self, left: Expression, right: Expression, column: Column) -> Expression:
        """Whether a key of the table is that of a rowset, byte for byte where it is a text.

        A collation may take two keys for one, and two records may differ by no more than that.
        """
        return self.keyed(left, column) == self.sought(right, column)

    def same(self, left: Expression, right: Expression, column: Column) -> Expression:
        """Whether two values of a column are the same, null included."""
        return left.is_not_distinct_from(right)

    def fitted(self, wanted: pl.Expr, column: Column) -> pl.Expr:
        """A wanted value as the column can hold it: reals in its width, moments in its fractions of a second."""
        if column.field.type in (FieldType.TIMESTAMP, FieldType.INSTANT, FieldType.TIME) and column.digits < 6:
            return wanted.dt.truncate(f"{10 ** (6 - column.digits)}us")
        return wanted

    def unstorable(self, wanted: pl.Expr, column: Column) -> pl.Expr | None:
        """Where a wanted value would be changed on its way in, beyond what the field's own limits say."""
        return None

    def insert(
        self, table: sa.TableClause, names: Sequence[str], chosen: sa.Select[Any], key: Sequence[str]
    ) -> ClauseElement:
        """New rows from a query; a key that stands already is passed over where the product can say so."""
        return sa.insert(table).from_select(list(names), chosen)

    # --- provisioning -----------------------------------------------------------------------------------------

    @abstractmethod
    def native_for(self, field: Field) -> str:
        """The type of a new column for this field."""

    def quoted(self, name: str) -> str:
        """A name as the dialect writes it."""
        return self.dialect.identifier_preparer.quote_identifier(name)

    # --- rights -------------------------------------------------------------------------------------------------

    def account(self, login: str | None) -> str:
        """A login as GRANT names it; None: our own."""
        return self.printed(login or str(self.config.user))

    def entrance(self, schemas: Collection[str | None], to: str) -> list[str]:
        """What has to be granted before any right on a table counts."""
        return []

    def counters(self, inserted: Sequence[Need]) -> list[str]:
        """Rights that new rows need beside those on columns, as GRANT names them."""
        return []

    def held(self) -> tuple[list[Holding], tuple[str, ...], tuple[str, ...]] | None:
        """What we hold on tables; lines of what we may do beside that; lines of what we are not told.

        None: the product has no rights of its own.
        """
        return None

    def printed(self, name: str) -> str:
        """A name as an administrator types it, where nothing of it stands for a value to be bound."""
        quoted = self.quoted(name)
        return quoted.replace("%%", "%") if self.dialect.paramstyle == "format" else quoted

    def grant_name(self, schema: str | None, name: str) -> str:
        """A table as GRANT names it."""
        return self.quoted(name) if schema is None else f"{self.quoted(schema)}.{self.quoted(name)}"


class CountingClient(Client):
    """A product that cannot say in one statement which rows it wrote, but how many."""

    @abstractmethod
    def countable(self, column: Column) -> bool:
        """Whether `same` on a column is exact in the database, and `changed` can count what an UPDATE moved."""

    @abstractmethod
    def changed(self, statement: ClauseElement) -> int:
        """Runs an UPDATE; how many rows it moved. For columns that are `countable` alone."""

    def holds_any(self, column: Column) -> bool:
        """Whether every text can be compared with those of a column."""
        return True


def as_text(value: Value) -> str | None:
    """A value as every product reads it inside a CAST."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, int | float):
        return repr(value)
    return value.isoformat(sep=" ") if isinstance(value, datetime) else str(value)


def text_of(field: Field, column: str) -> pl.Expr:
    """A typed column as text that every product can cast back without loss."""
    raw = pl.col(column)
    if field.type is FieldType.TIME:
        return raw.dt.strftime("%H:%M:%S%.6f")
    if field.type is FieldType.INSTANT:
        return raw.dt.strftime("%Y-%m-%d %H:%M:%S%.6f")
    if field.type is FieldType.BYTES:
        return raw.bin.encode("hex")
    return raw.cast(pl.String)


def record(parameters: Sequence[Parameter]) -> pa.RecordBatch:
    """The bound values of one statement for ADBC: a scalar as itself, a series as one array.

    Made by polars, since pyarrow looks into the environment when it converts Python values.
    """
    columns = [
        value.implode()
        if isinstance(value, pl.Series)
        else pl.Series([value], dtype=pl.String if value is None else None)
        for value in parameters
    ]
    frame = pl.DataFrame([each.alias(str(i)) for i, each in enumerate(columns)])
    return frame.to_arrow(compat_level=pl.CompatLevel.oldest()).to_batches()[0]
