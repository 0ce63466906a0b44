"""One small world per database: statements by a plain driver, and connections of the connector to the same place."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import polars as pl
import psycopg
import pymysql
import pytest
from sqlalchemy import URL

from connectors.sql.config import SqlConfig
from connectors.sql.connector import SqlConnector
from hub.sdk import Changes, Context, Entity, Mode, Page, Secret, Selection
from hub.sdk.testing.suite.steps import JournalInMemory


class World:
    """A database of the test's own. `run` goes past the connector."""

    dialect: str

    def run(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        raise NotImplementedError

    def settings(self) -> dict[str, Any]:
        raise NotImplementedError

    def open(self, context: Context | None = None, **settings: Any) -> SqlConnector:
        config = SqlConfig(**{"dialect": self.dialect, **self.settings(), **settings})
        return SqlConnector(config, context or Context())

    def many(self, statement: str, rows: Sequence[Sequence[Any]]) -> None:
        for each in rows:
            self.run(statement, each)


class SqliteWorld(World):
    dialect = "sqlite"

    def __init__(self, path: Path) -> None:
        self.path = path
        self.run("select 1")

    def run(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self.path)) as connection, connection:
            return connection.execute(statement.replace("%s", "?"), values).fetchall()

    def many(self, statement: str, rows: Sequence[Sequence[Any]]) -> None:
        with closing(sqlite3.connect(self.path)) as connection, connection:
            connection.executemany(statement.replace("%s", "?"), rows)

    def settings(self) -> dict[str, Any]:
        self.path.touch()
        return {"path": str(self.path)}


class ServerWorld(World):
    def __init__(self, url: URL) -> None:
        self.url = url
        self.user, self.password = str(url.username), url.password or ""

    def settings(self) -> dict[str, Any]:
        found = {"host": self.url.host, "port": self.url.port, "database": self.url.database, "user": self.user}
        found["private"] = True
        return {**found, "tls": "off", **({"password": Secret(self.password)} if self.password else {})}


class PostgresWorld(ServerWorld):
    dialect = "postgresql"

    def __init__(self, url: URL) -> None:
        super().__init__(url)
        plain = url.set(drivername="postgresql").render_as_string(hide_password=False)
        self.connection = psycopg.connect(plain, autocommit=True)

    def run(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        found = self.connection.execute(statement, values or None)
        return found.fetchall() if found.description else []


class MariaWorld(ServerWorld):
    dialect = "mariadb"

    def __init__(self, url: URL) -> None:
        super().__init__(url)
        self.connection = pymysql.connect(
            host=url.host,
            port=url.port or 3306,
            user=url.username,
            password=url.password or "",
            database=url.database,
            autocommit=True,
            init_command="SET SESSION sql_mode = 'ANSI_QUOTES', time_zone = '+00:00'",
        )

    def run(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        with self.connection.cursor() as cursor:
            cursor.execute(statement, tuple(values) or None)
            return list(cursor.fetchall())

    def many(self, statement: str, rows: Sequence[Sequence[Any]]) -> None:
        with self.connection.cursor() as cursor:
            cursor.executemany(statement, rows)


@pytest.fixture
def sqlite(tmp_path: Path) -> World:
    return SqliteWorld(tmp_path / "far.db")


@pytest.fixture
def postgresql(postgresql_url: URL) -> Iterator[World]:
    made = PostgresWorld(postgresql_url)
    yield made
    made.connection.close()


@pytest.fixture
def mariadb(mariadb_url: URL) -> Iterator[World]:
    made = MariaWorld(mariadb_url)
    yield made
    made.connection.close()


@pytest.fixture(
    params=[
        "sqlite",
        pytest.param("postgresql", marks=pytest.mark.service("postgresql")),
        pytest.param("mariadb", marks=pytest.mark.service("mariadb")),
    ]
)
def world(request: pytest.FixtureRequest) -> World:
    """The test on each of the three databases."""
    found: World = request.getfixturevalue(request.param)
    return found


def entity(connector: SqlConnector, name: str) -> Entity:
    """The named entity, as the connection tells it."""
    return {each.name: each for each in connector.entities()}[name]


def frames(pages: Iterator[Page]) -> pl.DataFrame:
    """All pages as one frame."""
    return pl.concat([page.frame for page in pages])


def read(connector: SqlConnector, name: str, *fields: str, rows: int = 10_000, **more: Any) -> pl.DataFrame:
    """Everything that one selection reads."""
    return frames(connector.source().read(Selection(name, fields, page_rows=rows, **more)))


def changes(
    of: Entity,
    rows: Sequence[Mapping[str, Any]],
    *,
    mode: Mode = Mode.UPDATE,
    before: Sequence[Mapping[str, Any] | None] | None = None,
    version: str | None = None,
    clear: Sequence[Sequence[str]] | None = None,
) -> Changes:
    """Changes from rows that hold key and target fields."""
    fields = tuple(dict.fromkeys(name for row in rows for name in row if name not in of.key))
    schema = of.schema(fields)
    made = {
        "_key": pl.Series([{name: row[name] for name in of.key} for row in rows], dtype=of.key_dtype()),
        "_version": pl.Series([version] * len(rows), dtype=pl.String),
        "_before": pl.Series(before or [None] * len(rows), dtype=pl.Struct(schema)),
        "_clear": pl.Series(clear or [[]] * len(rows), dtype=pl.List(pl.String)),
        **{name: pl.Series([row.get(name) for row in rows], dtype=schema[name]) for name in fields},
    }
    return Changes(of.name, mode, fields, pl.DataFrame(made))


def write(connector: SqlConnector, batch: Changes) -> list[dict[str, Any]]:
    """The results of one write, as rows."""
    destination = connector.destination()
    assert destination is not None
    return destination.write(batch, journal=JournalInMemory()).frame.rows(named=True)
