"""The hub's own database: engine, session, one transaction per unit of work, on SQLite or PostgreSQL."""

from __future__ import annotations

import json
import os
import random
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from datetime import UTC, datetime, timedelta
from enum import Enum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from sqlalchemy import (
    JSON,
    BigInteger,
    Connection,
    DateTime,
    Dialect,
    Engine,
    Integer,
    LargeBinary,
    MetaData,
    Select,
    Table,
    TypeDecorator,
    create_engine,
    event,
    inspect,
    make_url,
    select,
    text,
)
from sqlalchemy import Enum as EnumType
from sqlalchemy.engine import URL
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError, DisconnectionError, OperationalError, SQLAlchemyError
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import DeclarativeBase, Session, sessionmaker
from sqlalchemy.pool import ConnectionPoolEntry
from sqlalchemy.sql.functions import FunctionElement

from hub.faults import commit, reach, stop_outside
from hub.settings import Settings

if TYPE_CHECKING:
    from hub.sdk import Clock

T = TypeVar("T")
Row = TypeVar("Row", bound=tuple[Any, ...])

CLOCK_SECONDS = 60.0
"""How long a reading of the database's clock is carried on by this process's own."""

LOCK_SECONDS = 30.0
"""How long a writer of SQLite waits for the one before it."""

IDLE_SECONDS = 1.0
"""A connection that lay idle for so long is asked whether it still stands before it is used."""
USED = "hub.used"

RETRIED_STATES = ("40001", "40P01", "57P0", "08")
"""SQLSTATE beginnings after which the same work can be done again: serialisation, deadlock, shutdown, connection."""

Blob = LargeBinary
"""Bytes: bytea on PostgreSQL."""


class DatabaseError(Exception):
    """The hub's database cannot be used; the message is for the person who runs the hub."""


class CommitUnknownError(DatabaseError):
    """The connection was lost at commit: whether it took place must be looked up, never assumed."""


class UtcDateTime(TypeDecorator[datetime]):
    """A moment: aware and in UTC in Python; timestamptz on PostgreSQL, text that sorts on SQLite."""

    impl = DateTime
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> Any:
        return dialect.type_descriptor(DateTime(timezone=dialect.name == "postgresql"))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a moment without time zone cannot be stored")
        moment = value.astimezone(UTC)
        return moment if dialect.name == "postgresql" else moment.replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        if value is None:
            return None
        return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)


JsonDocument = JSON(none_as_null=True)
"""A JSON document, stored as text; NaN is refused."""

BigInt = BigInteger().with_variant(Integer(), "sqlite")
"""A 64-bit integer that SQLite can also count up by itself."""


class clock(FunctionElement[datetime]):  # noqa: N801  (an SQL function, used as one)
    """The database's own clock as an expression, so that leases never hang on a worker's clock."""

    type = UtcDateTime()
    inherit_cache = True


@compiles(clock, "postgresql")
def _clock_postgresql(_element: clock, _compiler: Any, **_: Any) -> str:
    return "clock_timestamp()"


@compiles(clock, "sqlite")
def _clock_sqlite(_element: clock, _compiler: Any, **_: Any) -> str:
    # The shape in which SQLAlchemy stores a datetime on SQLite, so that comparing texts compares moments.
    return "strftime('%Y-%m-%d %H:%M:%f000', 'now')"


class Base(DeclarativeBase):
    """Root of all tables of the hub. Enumerations are stored as their values, in text without a database type."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012  (SQLAlchemy's own contract)
        datetime: UtcDateTime(),
        bytes: Blob(),
        int: BigInt,
        Enum: EnumType(
            Enum,
            native_enum=False,
            create_constraint=False,
            length=64,
            values_callable=lambda kind: [str(each.value) for each in kind],
        ),
    }


def table_of(row: type[Base]) -> Table:
    """The table of a row class, for statements that make no objects."""
    table = row.__table__
    assert isinstance(table, Table)
    return table


class Closing(Protocol):
    """What is given back."""

    def close(self) -> None:
        """Harmless when repeated."""


class Database:
    """The engine and its sessions; safe to share between threads, never carried into a forked process.

    `begin()` is one unit of work: a writing transaction that is committed at the end of the block or not at all.
    `read()` sees one state and cannot write. `clock` tells the time in place of the database, to whoever simulates it.
    """

    def __init__(self, source: Settings | URL | str, *, clock: Clock | None = None) -> None:
        self.clock = clock
        self.url = make_url(source.database_url if isinstance(source, Settings) else source)
        if self.url.get_backend_name() not in {"sqlite", "postgresql"}:
            raise DatabaseError(f"the hub keeps its state in SQLite or PostgreSQL, not {self.url.get_backend_name()}")
        self.engine = _sqlite_engine(self.url) if self.sqlite else _postgresql_engine(self.url)
        self.sessions = sessionmaker(self.engine, expire_on_commit=False, info={"hub.database": self})
        # SQLite's one writer: others wait by sleeping up to a tenth of a second at a time, in no order. Threads of one
        # process queue here instead.
        self._turn = threading.RLock() if self.sqlite else nullcontext()
        stop_outside(self._turn)
        self._held: list[Closing] = []
        self._readers = sessionmaker(_reading(self.engine), expire_on_commit=False, info={"hub.database": self})

    @property
    def sqlite(self) -> bool:
        """Whether this is the embedded database, which has one writer at a time."""
        return self.url.get_backend_name() == "sqlite"

    @contextmanager
    def begin(self) -> Iterator[Session]:
        """One writing transaction. On SQLite it takes the write lock at once, so it never fails half-way."""
        point = commit()
        with self._turn, self.sessions() as session:
            with session.begin():
                yield session
                _reach("before", point)
            _reach("after", point)

    @contextmanager
    def read(self) -> Iterator[Session]:
        """One read-only transaction; a write inside it is refused by the database."""
        with self._readers() as session:
            yield session

    def now(self, session: Session) -> datetime:
        """The moment by the database's clock, or by the one given in its place."""
        if self.clock is not None:
            return self.clock.now()
        return session.execute(select(clock())).scalar_one()

    def skip_locked(self, statement: Select[Row]) -> Select[Row]:
        """The statement claiming its rows past those others hold; SQLite's one writer holds them all already."""
        return statement if self.sqlite else statement.with_for_update(skip_locked=True)

    def retrying(
        self,
        work: Callable[[Session], T],
        *,
        stored: Callable[[Session, T], bool] | None = None,
        repeatable: bool = False,
        attempts: int = 5,
        pause: Callable[[float], None] = time.sleep,
    ) -> T:
        """Does `work` in a transaction of its own, from the start again after a transient failure.

        Where the connection is lost at commit, `stored` is asked on a new one whether the work that gave this answer
        took place; `repeatable` says instead that doing it twice is harmless. With neither, or where the database
        stays away, that is CommitUnknownError.
        """
        point = commit(work)
        doubt: tuple[T] | None = None
        for attempt in range(1, attempts + 1):
            committing = False
            try:
                with self._turn, self.sessions() as session:
                    if doubt is not None and stored is not None and stored(session, doubt[0]):
                        return doubt[0]
                    doubt = None
                    result = work(session)
                    _reach("before", point)
                    committing = True
                    session.commit()
                    _reach("after", point)
                return result
            except DBAPIError as error:
                if committing and error.connection_invalidated and not repeatable:
                    doubt = (result,)
                if doubt is not None and (stored is None or attempt == attempts):
                    raise CommitUnknownError("the database went away at commit; look up what was stored") from error
                if attempt == attempts or not is_transient(error):
                    raise
            pause(random.uniform(0.5, 1.0) * min(2.0, 0.05 * 2**attempt))  # noqa: S311  (spreads the retries)
        raise AssertionError("unreachable")

    def check(self) -> None:
        """Connects once. DatabaseError says where to and, in the server's words, why not."""
        try:
            with self.engine.connect() as connection:
                connection.execute(text("select 1"))
        except SQLAlchemyError as error:
            cause = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
            raise DatabaseError(f"the hub's database {self.url.render_as_string()} cannot be used: {cause}") from error

    def lacking(self) -> list[str]:
        """Tables and columns that the stores imported so far expect and this database does not have."""
        seen = inspect(self.engine)
        there = set(seen.get_table_names())
        missing = [name for name in Base.metadata.tables if name not in there]
        for name, table in Base.metadata.tables.items():
            if name in there:
                known = {each["name"] for each in seen.get_columns(name)}
                missing += [f"{name}.{each.name}" for each in table.columns if each.name not in known]
        return sorted(missing)

    def create_all(self) -> None:
        """Makes the tables of every store imported so far; for tests, an installation is migrated instead."""
        Base.metadata.create_all(self.engine)

    def close_with_it(self, held: Closing) -> None:
        """What holds a connection of its own, to be closed with the database."""
        self._held.append(held)

    def close(self) -> None:
        """Gives back every connection; harmless when repeated."""
        for each in self._held:
            each.close()
        self.engine.dispose()


class Glance:
    """One number that is asked for with every request, in the driver's own words, on a connection that stays open.

    A tenth of what a transaction of the engine costs. It sees what is committed at that moment. Safe between threads.
    """

    def __init__(self, database: Database, statement: Select[tuple[int]]) -> None:
        self._database = database
        self._statement = str(statement.compile(database.engine))
        self._lock = threading.Lock()
        self._connection: Any = None
        database.close_with_it(self)

    def read(self) -> int | None:
        """The number; None where there is no row. DatabaseError where the database does not answer, twice."""
        failures = self._database.engine.dialect.loaded_dbapi.Error
        with self._lock:
            for left in (1, 0):
                try:
                    rows = self._opened().execute(self._statement).fetchall()
                    return int(rows[0][0]) if rows else None
                except (failures, DBAPIError) as error:
                    self._drop()
                    if not left:
                        raise DatabaseError("the hub's database does not answer") from error
        raise AssertionError("unreachable")

    def close(self) -> None:
        """Gives the connection back."""
        with self._lock:
            self._drop()

    def _opened(self) -> Any:
        if self._connection is None:
            made = self._database.engine.raw_connection()
            self._connection = made.driver_connection
            made.detach()
            if not self._database.sqlite:
                self._connection.autocommit = True
        return self._connection

    def _drop(self) -> None:
        if self._connection is not None:
            with suppress(self._database.engine.dialect.loaded_dbapi.Error):
                self._connection.close()
            self._connection = None


def _reach(when: str, point: str | None) -> None:
    if point is not None:
        reach(f"{when} {point}")


class DatabaseClock:
    """The database's time without asking for it each time: read now and then, carried on by the monotonic clock.

    So that what processes write down fits together, whatever the wall clock of their machine says or does.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._read: tuple[datetime, float] | None = None

    def now(self) -> datetime:
        with self._lock:
            if self._read is None or time.monotonic() - self._read[1] > CLOCK_SECONDS:
                with self._database.read() as session:
                    self._read = (self._database.now(session), time.monotonic())
            moment, read = self._read
            return moment + timedelta(seconds=time.monotonic() - read)

    def monotonic(self) -> float:
        return time.monotonic()


_NO_ROOM = (sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_SHMSIZE)
"""What SQLite calls a full disk where it grows its log or the index of it."""


def lacks_space(error: BaseException) -> bool:
    """Whether the database could not store something because its disk is full."""
    if not isinstance(error, DBAPIError):
        return False
    if isinstance(error.orig, sqlite3.Error):
        code = getattr(error.orig, "sqlite_errorcode", 0)
        return code & 0xFF == sqlite3.SQLITE_FULL or code in _NO_ROOM
    return getattr(error.orig, "sqlstate", None) == "53100"


def is_transient(error: BaseException) -> bool:
    """Whether the same unit of work may succeed when it is done again."""
    if not isinstance(error, DBAPIError):
        return False
    if isinstance(error.orig, sqlite3.OperationalError):
        return getattr(error.orig, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
    state = getattr(error.orig, "sqlstate", None)
    return error.connection_invalidated or (state or "").startswith(RETRIED_STATES) or _never_connected(error, state)


def _never_connected(error: DBAPIError, state: str | None) -> bool:
    # libpq tells a refused or broken connection by the class of error alone, without a state.
    return state is None and isinstance(error, OperationalError)


def insert_into(session: Session, table: type[Base]) -> Any:
    """An insert in the session's dialect, which knows `on_conflict_do_…`; the other dialect stays unimported."""
    if session.get_bind().dialect.name == "sqlite":
        from sqlalchemy.dialects import sqlite

        return sqlite.insert(table)
    from sqlalchemy.dialects import postgresql

    return postgresql.insert(table)


def _postgresql_engine(url: URL) -> Engine:
    engine = create_engine(
        url,
        hide_parameters=True,
        json_serializer=_to_json,
        pool_size=8,
        max_overflow=24,
        pool_timeout=15,
        pool_recycle=1800,
        connect_args={
            "connect_timeout": 10,
            "application_name": "hub",
            "options": "-c timezone=UTC",
            "client_encoding": "UTF8",
        },
    )
    event.listen(engine, "do_connect", _connect_postgresql)
    event.listen(engine, "checkin", _note_use)
    event.listen(engine, "checkout", partial(_ask_if_idle, engine.dialect))
    return engine


def _connect_postgresql(_dialect: Dialect, _record: object, given: Any, named: Any) -> Any:
    from hub.postgresql.connection import Connection

    return Connection.connect(*given, **named)


def _note_use(_connection: object, record: ConnectionPoolEntry) -> None:
    record.info[USED] = time.monotonic()


def _ask_if_idle(dialect: Dialect, connection: DBAPIConnection, record: ConnectionPoolEntry, _proxy: object) -> None:
    """What `pool_pre_ping` does each time, at the cost of three round trips, after a pause only."""
    if time.monotonic() - record.info.get(USED, float("inf")) <= IDLE_SECONDS:
        return
    try:
        dialect.do_ping(connection)
    except dialect.loaded_dbapi.Error:
        raise DisconnectionError("the connection was closed while it lay idle") from None


def _sqlite_engine(url: URL) -> Engine:
    if not url.database or url.database == ":memory:":
        raise DatabaseError("the hub needs a database file: sqlite:///path/to/hub.db")
    _make_private(Path(url.database))
    engine = create_engine(
        url,
        hide_parameters=True,
        json_serializer=_to_json,
        pool_size=8,
        max_overflow=24,
        connect_args={"timeout": LOCK_SECONDS},
    )
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _make_private(path: Path) -> None:
    """The file holds decisions about people: nobody else on the machine reads it.

    One that is there is not opened: closing it again would end every lock that this process holds on it by POSIX rules,
    and a worker that ends would take the log of what was committed away from under us.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    except FileExistsError:
        if not (path.is_file() and os.access(path, os.R_OK | os.W_OK)):
            raise DatabaseError(f"the hub's database file {path} cannot be opened: not ours to write") from None
    except OSError as error:
        raise DatabaseError(f"the hub's database file {path} cannot be opened: {error.strerror}") from error


def _prepare_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    # The driver must not open transactions by itself; the pragmas must run outside of one.
    connection.isolation_level = None
    for pragma in ("foreign_keys = on", "synchronous = full", "temp_store = memory"):
        connection.execute(f"PRAGMA {pragma}")
    _switch_to_wal(connection)


def _switch_to_wal(connection: sqlite3.Connection) -> None:
    """SQLite does not wait for its lock when it changes the journal: two first starts at once meet here."""
    until = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = wal")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
            time.sleep(0.01)


def _reading(engine: Engine) -> Engine:
    if engine.dialect.name == "sqlite":
        return engine.execution_options(hub_reading=True)
    return engine.execution_options(postgresql_readonly=True)


def _begin_sqlite(connection: Connection) -> None:
    reading = connection.get_execution_options().get("hub_reading", False)
    connection.exec_driver_sql(f"PRAGMA query_only = {'on' if reading else 'off'}")
    connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")


def _to_json(value: object) -> str:
    return json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
