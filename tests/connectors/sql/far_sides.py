"""The three databases as far sides: filled, looked at and broken through plain drivers, never through the connector."""

from __future__ import annotations

import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any, ClassVar
from uuid import uuid4

import psycopg
import pymysql
from psycopg import sql

from connectors.sql.client import EQUALITY, NULLS
from connectors.sql.config import SPEC, SqlConfig
from hub.sdk import Entity, Field, FieldType, Mode, Operator, Secret, Value
from hub.sdk.testing.harness import Fault, Harness, Record
from hub.sdk.testing.proxy import Behaviour, FaultProxy
from tests.conftest import MARIADB, POSTGRESQL

TABLE = "Patiënt Akte"
EDITED = datetime(2029, 12, 31, tzinfo=UTC)
SECRET = "pl4nted/Pässwort of the kit"
NO_NAN = "theirs: the column type holds neither NaN nor the infinities"
NO_TOKEN = "theirs: a database login lasts as long as its connection; there is no token that runs out"
NO_DELETES = "theirs: a table tells nothing of rows that are gone"


def entity(**changed: dict[str, Any]) -> Entity:
    """The truth about the table, the same for all three save for what is named."""
    plain = frozenset(Operator)
    fields = {
        "Klinik": {"type": FieldType.TEXT, "nullable": False, "length": 12},
        "number": {"type": FieldType.INTEGER, "nullable": False},
        "changed_at": {"type": FieldType.INSTANT, "writable": True},
        "name": {"type": FieldType.TEXT, "writable": True},
        "age": {"type": FieldType.INTEGER, "writable": True},
        "owed": {"type": FieldType.DECIMAL, "writable": True, "precision": 38, "scale": 9},
        "risk %": {"type": FieldType.REAL, "writable": True},
        "smoker": {"type": FieldType.BOOLEAN, "writable": True},
        "born": {"type": FieldType.DATE, "writable": True},
        "wakes": {"type": FieldType.TIME, "writable": True},
        "seen": {"type": FieldType.TIMESTAMP, "writable": True},
        "admitted": {"type": FieldType.INSTANT, "writable": True},
        "scan": {"type": FieldType.BYTES, "writable": True},
        "uid": {"type": FieldType.UUID, "writable": True},
        "extra": {"type": FieldType.JSON, "writable": True},
        "band": {"type": FieldType.TEXT, "nullable": False, "writable": True, "values": ("Hot", "Warm", "Cold")},
        "note": {"type": FieldType.TEXT, "writable": True, "length": 60},
    }
    made = [
        Field(name, **{"operators": plain, **settings, **changed.get(name, {})}) for name, settings in fields.items()
    ]
    return Entity(
        TABLE, tuple(made), ("Klinik", "number"), changed_by=("changed_at",), modes=frozenset(Mode), conditional=True
    )


def closed_port() -> int:
    """A port of this machine where nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


class SqliteHarness(Harness):
    """A file, looked at through the standard library's SQLite."""

    spec = SPEC
    stand_in = "sqlite"
    kind = "peer"
    faults = frozenset({Fault.DOWN, Fault.BUSY, Fault.GARBLED})
    bad = ("age", 66666)
    nonfinite = False
    gaps: ClassVar[dict[str, str]] = {
        **dict.fromkeys(
            (
                "test_the_planted_secret_is_never_seen",
                "test_the_config_shows_no_secret",
                "test_the_config_refuses_to_be_pickled_or_copied",
                "test_a_bad_login_is_an_unauthorized_error",
                "test_a_missing_right_is_reported_by_name",
                "test_verify_names_a_missing_right",
                "test_a_hidden_field_is_absent",
            ),
            "theirs: a file has no login, no secret and no rights of its own",
        ),
        **dict.fromkeys(
            (
                "test_a_silent_far_side_ends_at_the_deadline",
                "test_a_read_of_a_silent_far_side_ends_at_the_deadline",
                "test_a_read_cut_off_resumes_without_loss",
                "test_a_write_cut_off_claims_nothing_that_is_not_there",
                "test_a_write_cut_off_and_repeated_is_one_change",
            ),
            "theirs: a file has no connection that could fall silent or be cut",
        ),
        "test_a_token_that_expires_is_not_seen": NO_TOKEN,
        "test_a_deleted_record_comes_as_deleted": NO_DELETES,
        "test_nan_and_infinity_are_read": "theirs: SQLite stores NaN as null",
        "test_nan_and_infinity_are_written": "theirs: SQLite stores NaN as null",
    }

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        moment = {"operators": NULLS}
        self.entity = entity(
            **dict.fromkeys(("changed_at", "born", "wakes", "seen", "admitted", "extra"), moment),
            owed={"precision": 15, "scale": 4, "operators": NULLS},
            uid={"operators": EQUALITY},
            band={"values": (), "length": 9},
        )
        self.path = folder / "far side.db"
        self._execute(
            f'create table "{TABLE}" ("Klinik" varchar(12) not null, number integer not null, changed_at timestamptz, '
            'name text, age integer check (age <> 66666), owed decimal(15, 4), "risk %" double, smoker boolean, '
            "born date, wakes time, seen timestamp, admitted timestamptz, scan blob, uid uuid, extra json, "
            'band varchar(9) not null, note varchar(60), touched integer default 0, primary key ("Klinik", number))'
        )
        self._execute(
            f'create trigger touch after update on "{TABLE}" when new.touched = old.touched begin '
            f'update "{TABLE}" set touched = touched + 1 '
            'where "Klinik" = new."Klinik" and number = new.number; end'
        )
        self._holder: subprocess.Popen[bytes] | None = None

    def config(self, fault: Fault | None = None) -> SqlConfig:
        path = self.path
        if fault is Fault.DOWN:
            path = self.folder / "gone.db"
        elif fault is Fault.GARBLED:
            path = self.folder / "garbled.db"
            path.write_bytes(b"no database at all " * 500)
        elif fault is Fault.BUSY:
            path = self._locked()
        return SqlConfig(
            dialect="sqlite",
            path=str(path),
            provision=True,
            lock_seconds=1,
            late_seconds=0,
            changed_by={TABLE: ("changed_at",)},
        )

    def _locked(self) -> Path:
        """A copy that another process holds: two libraries in one process would not see each other's locks."""
        path = self.folder / "busy.db"
        path.write_bytes(self.path.read_bytes())
        program = (
            "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); "
            "c.execute('begin exclusive'); print('.', flush=True); input()"
        )
        if self._holder is None:
            self._holder = subprocess.Popen(
                [sys.executable, "-c", program, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
            assert self._holder.stdout is not None
            assert self._holder.stdout.readline() == b".\n"
        return path

    def _execute(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self.path)) as connection, connection:
            return connection.execute(statement, values).fetchall()

    def seed(self, entity: str, records: Sequence[Record]) -> None:
        names = [each.name for each in self.entity.fields]
        with closing(sqlite3.connect(self.path)) as connection, connection:
            connection.execute(f'delete from "{TABLE}"')
            listed = ", ".join(f'"{name}"' for name in names)
            marks = ", ".join("?" for _ in names)
            rows = [[self._in(each[name]) for name in names] for each in records]
            connection.executemany(f'insert into "{TABLE}" ({listed}) values ({marks})', rows)

    @staticmethod
    def _in(value: Value) -> Any:
        if isinstance(value, datetime):
            return value.isoformat(sep=" ")
        if isinstance(value, date | time):
            return value.isoformat()
        return str(value) if isinstance(value, Decimal) else value

    def stored(self, entity: str, key: Record) -> Record | None:
        names = [each.name for each in self.entity.fields]
        listed = ", ".join(f'"{name}"' for name in names)
        found = self._execute(
            f'select {listed} from "{TABLE}" where "Klinik" = ? and number = ?', [key["Klinik"], key["number"]]
        )
        if not found:
            return None
        return {each.name: self._out(each, value) for each, value in zip(self.entity.fields, found[0], strict=True)}

    @staticmethod
    def _out(field: Field, value: Any) -> Value:
        if value is None:
            return None
        kinds: dict[FieldType, Any] = {
            FieldType.DATE: date.fromisoformat,
            FieldType.TIME: time.fromisoformat,
            FieldType.TIMESTAMP: datetime.fromisoformat,
            FieldType.INSTANT: datetime.fromisoformat,
            FieldType.DECIMAL: lambda number: Decimal(str(number)),
        }
        made: Value = kinds.get(field.type, lambda plain: plain)(value)
        return made

    def count(self, entity: str) -> int:
        return int(self._execute(f'select count(*) from "{TABLE}"')[0][0])

    def edit(self, entity: str, key: Record, values: Record) -> None:
        values = {"changed_at": EDITED, **values}
        listed = ", ".join(f'"{name}" = ?' for name in values)
        given = [self._in(each) for each in values.values()]
        where = 'where "Klinik" = ? and number = ?'
        self._execute(f'update "{TABLE}" set {listed} {where}', [*given, key["Klinik"], key["number"]])

    def touched(self, entity: str, key: Record) -> int | None:
        where = 'where "Klinik" = ? and number = ?'
        return int(self._execute(f'select touched from "{TABLE}" {where}', [key["Klinik"], key["number"]])[0][0])

    def close(self) -> None:
        if self._holder is not None:
            self._holder.communicate(b"\n", timeout=10)


SERVER_FAULTS = frozenset(Fault) - {Fault.EXPIRE}
_BEHAVIOURS = {
    Fault.HANG: Behaviour(silent=True),
    Fault.GARBLED: Behaviour(garble=True),
    Fault.CUT_READ: Behaviour(cut_at=b"LIMIT", answered=False, skip=2),
    Fault.CUT_WRITE: Behaviour(cut_at=b"COMMIT"),
}


class ServerHarness(Harness):
    """What the two servers share: proxies for what networks do, and logins for what logins do."""

    spec = SPEC
    kind = "peer"
    secret = SECRET
    faults = SERVER_FAULTS
    bad = ("age", 66666)
    hidden = "note"
    patience = 1.5

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.place = f"hubkit_{uuid4().hex[:12]}"
        self._proxies: dict[Fault, FaultProxy] = {}
        self._logins: dict[Fault, str] = {}

    def _port(self, fault: Fault | None, host: str, port: int) -> int:
        if fault is Fault.DOWN:
            return closed_port()
        if fault not in _BEHAVIOURS:
            return port
        if fault not in self._proxies:
            self._proxies[fault] = FaultProxy(host, port)
        self._proxies[fault].behave(_BEHAVIOURS[fault])
        return self._proxies[fault].port

    def close(self) -> None:
        for each in self._proxies.values():
            each.close()


@cache
def _postgresql() -> psycopg.Connection[Any]:
    url = POSTGRESQL.set(drivername="postgresql")
    return psycopg.connect(url.render_as_string(hide_password=False), autocommit=True)


class PostgresHarness(ServerHarness):
    """A schema and logins of its own in a real PostgreSQL, looked at through psycopg."""

    stand_in = "postgresql"
    withheld = "SELECT"
    gaps: ClassVar[dict[str, str]] = {
        "test_a_token_that_expires_is_not_seen": NO_TOKEN,
        "test_a_deleted_record_comes_as_deleted": NO_DELETES,
    }
    environment: ClassVar[dict[str, str]] = {
        "PGOPTIONS": "-c statement_timeout=1",
        "PGSSLMODE": "verify-full",
        "PGSSLROOTCERT": "/nonexistent",
        "PGTARGETSESSIONATTRS": "read-only",
        "PGREQUIREPEER": "nobody",
        "PGDATESTYLE": "SQL, DMY",
        "PGTZ": "Asia/Tokyo",
        "PGCLIENTENCODING": "LATIN1",
        "PGCHANNELBINDING": "require",
        "PGREQUIREAUTH": "gss",
        "PGSSLNEGOTIATION": "direct",
    }

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        text = frozenset(Operator) - {Operator.LT, Operator.LE, Operator.GT, Operator.GE}
        self.entity = entity(
            **{name: {"operators": text} for name in ("Klinik", "name", "note")},
            band={"operators": EQUALITY},
            smoker={"operators": text},
            uid={"operators": EQUALITY},
            extra={"operators": NULLS},
        )
        self.admin = _postgresql()
        self._run("create role {0} login")
        self._run("create schema {0} authorization {0}")
        self._run("set role {0}")
        for statement in _POSTGRESQL_TABLE:
            self._run(statement)
        self._run("reset role")

    def _run(self, statement: str, *values: Any, login: str = "") -> Any:
        names = [sql.Identifier(each) for each in (self.place, TABLE, login or "none")]
        return self.admin.execute(sql.SQL(statement).format(*names), values or None)

    def config(self, fault: Fault | None = None) -> SqlConfig:
        host, port = str(POSTGRESQL.host), int(POSTGRESQL.port or 5432)
        return SqlConfig(
            dialect="postgresql",
            host=host,
            port=self._port(fault, host, port),
            database=str(POSTGRESQL.database),
            user=self._login(fault) if fault in (Fault.LOGIN, Fault.RIGHT, Fault.BUSY) else self.place,
            password=Secret(SECRET),
            tls="off",
            private=True,
            schemas=(self.place,),
            provision=True,
            late_seconds=0,
            changed_by={TABLE: ("changed_at",)},
        )

    def _login(self, fault: Fault) -> str:
        if fault not in self._logins:
            login = self._logins[fault] = f"{self.place}_{fault.value}"
            kinds = {Fault.LOGIN: "nologin", Fault.BUSY: "login connection limit 0", Fault.RIGHT: "login"}
            self._run(f"create role {{2}} {kinds[fault]}", login=login)
            if fault is Fault.RIGHT:
                columns = sql.SQL(", ").join(
                    sql.Identifier(e.name) for e in self.entity.fields if e.name != self.hidden
                )
                self._run("grant usage on schema {0} to {2}", login=login)
                table, role = sql.Identifier(self.place, TABLE), sql.Identifier(login)
                for right in ("select", "update", "insert"):
                    self.admin.execute(sql.SQL(f"grant {right} ({{}}) on {{}} to {{}}").format(columns, table, role))
        return self._logins[fault]

    def seed(self, entity: str, records: Sequence[Record]) -> None:
        self._run("delete from {0}.{1}")
        names = [each.name for each in self.entity.fields]
        listed = sql.SQL(", ").join(map(sql.Identifier, names))
        table = sql.Identifier(self.place, TABLE)
        with (
            self.admin.cursor() as cursor,
            cursor.copy(sql.SQL("copy {} ({}) from stdin").format(table, listed)) as copy,
        ):
            for each in records:
                copy.write_row([each[name] for name in names])

    def stored(self, entity: str, key: Record) -> Record | None:
        found = self._run('select * from {0}.{1} where "Klinik" = %s and number = %s', key["Klinik"], key["number"])
        row = found.fetchone()
        if row is None:
            return None
        named = dict(zip([each.name for each in found.description], row, strict=True))
        return {each.name: self._out(each, named[each.name]) for each in self.entity.fields}

    def _out(self, field: Field, value: Any) -> Value:
        if field.type is FieldType.UUID and value is not None:
            return str(value)
        if field.type is FieldType.JSON and value is not None:
            return str(self.admin.execute("select %s::jsonb::text", (psycopg.types.json.Jsonb(value),)).fetchone()[0])  # type: ignore[index]
        return bytes(value) if isinstance(value, memoryview) else value  # type: ignore[no-any-return]

    def count(self, entity: str) -> int:
        return int(self._run("select count(*) from {0}.{1}").fetchone()[0])

    def edit(self, entity: str, key: Record, values: Record) -> None:
        values = {"changed_at": EDITED, **values}
        listed = sql.SQL(", ").join(
            sql.SQL("{} = {}").format(sql.Identifier(name), value) for name, value in values.items()
        )
        where = sql.SQL('where "Klinik" = {} and number = {}').format(key["Klinik"], key["number"])
        statement = sql.SQL("update {} set {} {}").format(sql.Identifier(self.place, TABLE), listed, where)
        self.admin.execute(statement)

    def touched(self, entity: str, key: Record) -> int | None:
        found = self._run(
            'select touched from {0}.{1} where "Klinik" = %s and number = %s', key["Klinik"], key["number"]
        )
        return int(found.fetchone()[0])

    def close(self) -> None:
        super().close()
        self._run("drop schema {0} cascade")
        for login in self._logins.values():
            self._run("drop role {2}", login=login)
        self._run("drop role {0}")


_POSTGRESQL_TABLE = (
    "create type {0}.bands as enum ('Hot', 'Warm', 'Cold')",
    (
        'create table {0}.{1} ("Klinik" varchar(12) not null, number integer not null, changed_at timestamptz, '
        'name text, age bigint check (age <> 66666), owed numeric(38, 9), "risk %" double precision, smoker boolean, '
        "born date, wakes time, seen timestamp, admitted timestamptz, scan bytea, uid uuid, extra jsonb, "
        'band {0}.bands not null, note varchar(60), touched integer default 0, primary key ("Klinik", number))'
    ),
    (
        "create function {0}.touch() returns trigger language plpgsql as $$ begin new.touched = old.touched + 1; "
        "return new; end $$"
    ),
    "create trigger touch before update on {0}.{1} for each row execute function {0}.touch()",
)


@contextmanager
def mariadb() -> Iterator[Any]:
    """A plain connection of the administrator, in UTC."""
    connection = pymysql.connect(
        host=MARIADB.host,
        port=MARIADB.port or 3306,
        user=MARIADB.username,
        password=MARIADB.password or "",
        charset="utf8mb4",
        autocommit=True,
        init_command="SET SESSION time_zone = '+00:00', sql_mode = 'STRICT_ALL_TABLES'",
    )
    with closing(connection), connection.cursor() as cursor:
        yield cursor


class MariaHarness(ServerHarness):
    """A database and logins of its own in a real MariaDB, looked at through plain PyMySQL."""

    stand_in = "mariadb"
    withheld = "UPDATE"
    nonfinite = False
    bounds: ClassVar[dict[str, tuple[Value, Value]]] = {
        name: (datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC), datetime(2038, 1, 19, 3, 14, 7, 999999, tzinfo=UTC))
        for name in ("changed_at", "admitted")
    }
    gaps: ClassVar[dict[str, str]] = {
        "test_a_token_that_expires_is_not_seen": NO_TOKEN,
        "test_a_deleted_record_comes_as_deleted": NO_DELETES,
        "test_nan_and_infinity_are_read": NO_NAN,
        "test_nan_and_infinity_are_written": NO_NAN,
    }

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        closed = ("Klinik", "name", "smoker", "scan", "uid", "band", "note")
        self.entity = entity(**{name: {"operators": EQUALITY} for name in closed}, extra={"operators": NULLS})
        table = f"`{self.place}`.`{TABLE}`"
        with mariadb() as cursor:
            cursor.execute(f"create database {self.place} character set utf8mb4 collate utf8mb4_general_ci")
            cursor.execute(
                f"create table {table} (`Klinik` varchar(12) not null, number integer not null, "
                "changed_at timestamp(6) null default null, name longtext, age bigint check (age <> 66666), "
                "owed decimal(38, 9), `risk %` double, smoker boolean, born date, wakes time(6), seen datetime(6), "
                "admitted timestamp(6) null default null, scan longblob, uid uuid, extra json, "
                "band enum('Hot', 'Warm', 'Cold') not null, note varchar(60), touched integer default 0, "
                "primary key (`Klinik`, number))"
            )
            cursor.execute(
                f"create trigger `{self.place}`.touch before update on {table} for each row begin "
                "set new.touched = old.touched + 1; end"
            )
            cursor.execute(f"create user {self.place}@'%%' identified by %s", (SECRET,))
            cursor.execute(f"grant all on `{self.place}`.* to {self.place}@'%'")

    def config(self, fault: Fault | None = None) -> SqlConfig:
        host, port = str(MARIADB.host), int(MARIADB.port or 3306)
        return SqlConfig(
            dialect="mariadb",
            host=host,
            port=self._port(fault, host, port),
            database=self.place,
            user=self._login(fault) if fault in (Fault.LOGIN, Fault.RIGHT, Fault.BUSY) else self.place,
            password=Secret(SECRET),
            tls="off",
            private=True,
            provision=True,
            late_seconds=0,
            changed_by={TABLE: ("changed_at",)},
        )

    def _login(self, fault: Fault) -> str:
        if fault not in self._logins:
            login = self._logins[fault] = f"{self.place}_{fault.value}"
            limit = " with max_queries_per_hour 1" if fault is Fault.BUSY else ""
            with mariadb() as cursor:
                password = "another" if fault is Fault.LOGIN else SECRET
                cursor.execute(f"create user {login}@'%%' identified by %s{limit}", (password,))
                if fault is Fault.BUSY:
                    cursor.execute(f"grant all on `{self.place}`.* to {login}@'%'")
                if fault is Fault.RIGHT:
                    columns = ", ".join(f"`{each.name}`" for each in self.entity.fields if each.name != self.hidden)
                    cursor.execute(f"grant select ({columns}) on `{self.place}`.`{TABLE}` to {login}@'%'")
        return self._logins[fault]

    def seed(self, entity: str, records: Sequence[Record]) -> None:
        names = [each.name for each in self.entity.fields]
        listed = ", ".join(f"`{name}`".replace("%", "%%") for name in names)
        marks = ", ".join("%s" for _ in names)
        rows = [[self._in(each[name]) for name in names] for each in records]
        with mariadb() as cursor:
            cursor.execute(f"delete from `{self.place}`.`{TABLE}`")
            if rows:
                cursor.executemany(f"insert into `{self.place}`.`{TABLE}` ({listed}) values ({marks})", rows)

    @staticmethod
    def _in(value: Value) -> Any:
        return value.replace(tzinfo=None) if isinstance(value, datetime) else value

    def stored(self, entity: str, key: Record) -> Record | None:
        listed = ", ".join(f"`{each.name}`".replace("%", "%%") for each in self.entity.fields)
        with mariadb() as cursor:
            cursor.execute(
                f"select {listed} from `{self.place}`.`{TABLE}` where binary `Klinik` = %s and number = %s",
                (key["Klinik"], key["number"]),
            )
            row = cursor.fetchone()
        if row is None:
            return None
        return {each.name: self._out(each, value) for each, value in zip(self.entity.fields, row, strict=True)}

    @staticmethod
    def _out(field: Field, value: Any) -> Value:
        if isinstance(value, timedelta):
            return (datetime(1, 1, 1) + value).time()
        if field.type is FieldType.INSTANT and value is not None:
            return value.replace(tzinfo=UTC)  # type: ignore[no-any-return]
        return value  # type: ignore[no-any-return]

    def count(self, entity: str) -> int:
        with mariadb() as cursor:
            cursor.execute(f"select count(*) from `{self.place}`.`{TABLE}`")
            return int(cursor.fetchone()[0])

    def edit(self, entity: str, key: Record, values: Record) -> None:
        values = {"changed_at": EDITED, **values}
        listed = ", ".join(f"`{name}` = %s".replace("risk %", "risk %%") for name in values)
        given = [self._in(each) for each in values.values()]
        with mariadb() as cursor:
            cursor.execute(
                f"update `{self.place}`.`{TABLE}` set {listed} where `Klinik` = %s and number = %s",
                (*given, key["Klinik"], key["number"]),
            )

    def touched(self, entity: str, key: Record) -> int | None:
        with mariadb() as cursor:
            where = "where `Klinik` = %s and number = %s"
            cursor.execute(f"select touched from `{self.place}`.`{TABLE}` {where}", (key["Klinik"], key["number"]))
            return int(cursor.fetchone()[0])

    def close(self) -> None:
        super().close()
        with mariadb() as cursor:
            cursor.execute(f"drop database `{self.place}`")
            for login in (self.place, *self._logins.values()):
                cursor.execute(f"drop user {login}@'%'")
