"""Where the contestants work: the customer's database with its table, and the hub's own, new and gone afterwards."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import polars as pl

from bench import dataset

SERVERS = {
    "postgresql": os.environ.get("BENCH_POSTGRESQL", "postgresql://postgres@127.0.0.1:5432"),
    "mariadb": os.environ.get("BENCH_MARIADB", "mariadb://root@127.0.0.1:3306"),
}
KINDS = ("postgresql", "sqlite", "mariadb")
CHECKED = 20_000
_TYPES = {pl.Int64: "bigint", pl.String: "text", pl.Float64: "double precision", pl.Datetime: "timestamp"}


@dataclass(frozen=True)
class Place:
    """A customer's table, filled, a trained model beside it, and room for a hub."""

    kind: str
    url: str
    own: str
    folder: Path
    trained: dataset.Trained


def reachable(kind: str) -> bool:
    """Whether there is such a database; SQLite is always there."""
    if kind == "sqlite":
        return True
    parts = urlsplit(SERVERS[kind])
    try:
        socket.create_connection((parts.hostname or "", parts.port or 0), timeout=2).close()
    except OSError:
        return False
    return True


@cache
def _fitted() -> tuple[bytes, pl.DataFrame]:
    """The model as a file, and its sample: the same for all contestants of one bench."""
    with tempfile.TemporaryDirectory() as made:
        trained = dataset.train(Path(made))
        return trained.file.read_bytes(), trained.sample


@contextmanager
def place(kind: str, frames: Iterable[pl.DataFrame]) -> Iterator[Place]:
    """A table made of these frames, one after the other."""
    with tempfile.TemporaryDirectory() as made, databases(kind, Path(made)) as (url, own):
        folder = Path(made)
        trained = dataset.Trained(folder / "model.joblib", _fitted()[1])
        trained.file.write_bytes(_fitted()[0])
        trained.sample.write_parquet(folder / "sample.parquet")
        for number, frame in enumerate(frames):
            fill(url, frame, new=number == 0)
        tidy(url)
        yield Place(kind, url, own, folder, trained)


@contextmanager
def databases(kind: str, folder: Path) -> Iterator[tuple[str, str]]:
    """The addresses of a customer's database and of the hub's own, both empty."""
    if kind == "sqlite":
        yield f"sqlite:///{folder / 'customer.db'}", f"sqlite:///{folder / 'hub.db'}"
        return
    server, name = SERVERS[kind], f"hubbench_{os.getpid()}"
    if kind == "mariadb":
        with _mariadb(server) as connection, connection.cursor() as cursor:
            try:
                cursor.execute(f"CREATE DATABASE {name} CHARACTER SET utf8mb4")
                # The hub keeps its state in PostgreSQL or SQLite, never in MariaDB.
                yield f"{server}/{name}", f"sqlite:///{folder / 'hub.db'}"
            finally:
                cursor.execute(f"DROP DATABASE IF EXISTS {name}")
        return
    import psycopg

    with psycopg.connect(f"{server}/postgres", autocommit=True) as connection:
        try:
            for each in (name, f"{name}_own"):
                connection.execute(f"CREATE DATABASE {each}")
            yield f"{server}/{name}", f"{server}/{name}_own"
        finally:
            for each in (name, f"{name}_own"):
                connection.execute(f"DROP DATABASE IF EXISTS {each} WITH (FORCE)")


def _mariadb(url: str, **more: Any) -> Any:
    import pymysql

    parts = urlsplit(url)
    name = parts.path.removeprefix("/") or None
    login = {"host": parts.hostname, "port": parts.port, "user": parts.username, "password": parts.password or ""}
    return pymysql.connect(**login, database=name, autocommit=True, local_infile=True, **more)


def fill(url: str, frame: pl.DataFrame, *, new: bool = True) -> None:
    """Puts these rows into the table, by bulk; makes it first where it is `new`."""
    columns = [f"{name} {_TYPES[type(dtype)]}" for name, dtype in frame.schema.items()]
    columns[0] = f"id {'integer' if url.startswith('sqlite') else 'bigint'} primary key"
    if url.startswith("mariadb"):
        _fill_mariadb(url, frame, columns if new else None)
        return
    from bench.peers import connect_adbc

    connection = connect_adbc(url)
    if new and url.startswith("sqlite"):
        # A property of the file, which nearly every application that shares one sets.
        run_sql(url, "PRAGMA journal_mode = WAL")
    with connection.cursor() as cursor:
        if new:
            cursor.execute(f"CREATE TABLE {dataset.TABLE} ({', '.join(columns)})")
        cursor.adbc_ingest(dataset.TABLE, frame.to_arrow(), mode="append")
    connection.commit()
    connection.close()


def _fill_mariadb(url: str, frame: pl.DataFrame, columns: list[str] | None) -> None:
    with _mariadb(url) as connection, connection.cursor() as cursor:
        if columns is not None:
            # A timestamp there is moved by every change and starts in 1970 by another zone.
            kinds = [each.replace(" timestamp", " datetime(6)") for each in columns]
            cursor.execute(f"CREATE TABLE {dataset.TABLE} ({', '.join(kinds)})")
        places = ", ".join(["%s"] * frame.width)
        for part in frame.iter_slices(5_000):
            cursor.executemany(f"INSERT INTO {dataset.TABLE} VALUES ({places})", part.rows())


def tidy(url: str) -> None:
    """What a database does by itself some time after so many rows came."""
    if url.startswith("postgresql"):
        import psycopg

        with psycopg.connect(url, autocommit=True) as plain:
            plain.execute(f"VACUUM ANALYZE {dataset.TABLE}")


def run_sql(url: str, *statements: str) -> list[tuple[Any, ...]]:
    """Runs statements in the customer's database; the rows of the last, where it has any."""
    if url.startswith("mariadb"):
        connection = _mariadb(url)
    else:
        from bench.peers import connect

        connection = connect(url)[0]
    cursor = connection.cursor()
    for each in statements:
        cursor.execute(each)
    found = list(cursor.fetchall()) if cursor.description else []
    connection.commit()
    connection.close()
    return found


def largest_error(made: Place, frame: pl.DataFrame) -> float:
    """How far the first written scores are from scikit-learn's; a score that is missing counts as one."""
    part = frame.head(CHECKED)
    kept = f"SELECT score FROM {dataset.TABLE} WHERE id <= {CHECKED} ORDER BY id"
    found = np.array([row[0] for row in run_sql(made.url, kept)], dtype=float)
    missing = run_sql(made.url, f"SELECT count(*) FROM {dataset.TABLE} WHERE score IS NULL")[0][0]
    wanted = made.trained.load().predict_proba(part.select(dataset.FEATURES).to_pandas())[:, 1]
    return 1.0 if missing else float(np.abs(found - wanted).max())
