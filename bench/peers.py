"""What users would otherwise pick for a batch: the script they write, and the fastest bare script known."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import joblib

from bench.dataset import FEATURES, NUMBERS, TABLE, TEXTS

CHUNK = 10_000
_READ = f"SELECT id, {', '.join(FEATURES)} FROM {TABLE}"
_LAND = f"UPDATE {TABLE} SET score = landed.score FROM landed WHERE {TABLE}.id = landed.id"


def pandas_script(url: str, folder: Path) -> Callable[[], None]:
    """`read_sql` in chunks, `predict_proba`, `executemany`: as tutorials have it."""
    import pandas as pd

    model = joblib.load(folder / "model.joblib")
    connection, place = connect(url)

    def work() -> None:
        cursor = connection.cursor()
        for chunk in pd.read_sql(_READ, connection, chunksize=CHUNK):
            scores = model.predict_proba(chunk[FEATURES])[:, 1]
            pairs = [(float(score), int(key)) for score, key in zip(scores, chunk["id"], strict=True)]
            cursor.executemany(f"UPDATE {TABLE} SET score = {place} WHERE id = {place}", pairs)
        connection.commit()

    return work


def bare_script(url: str, folder: Path) -> Callable[[], None]:
    """ADBC to Arrow, a stock ONNX graph, bulk ingest to a temporary table, one UPDATE … FROM."""
    import pyarrow as pa

    session = _stock_session(folder)
    if url.startswith("mariadb"):
        return _bare_mariadb(url, session)
    connection = connect_adbc(url)

    def inputs(batch: pa.RecordBatch) -> dict[str, Any]:
        texts = {name: batch[name].to_numpy(zero_copy_only=False).reshape(-1, 1) for name in TEXTS}
        numbers = {name: batch[name].to_numpy().astype("float32").reshape(-1, 1) for name in NUMBERS}
        return {**texts, **numbers}

    def work() -> None:
        keys, scores = [], []
        with connection.cursor() as cursor:
            cursor.execute(_READ)
            for batch in cursor.fetch_record_batch():
                scores.append(pa.array(session.run(None, inputs(batch))[1][:, 1].astype("float64")))
                keys.append(batch["id"])
        landed = pa.table({"id": pa.chunked_array(keys), "score": pa.chunked_array(scores)})
        with connection.cursor() as cursor:
            cursor.adbc_ingest("landed", landed, mode="create", temporary=True)
            cursor.execute(_LAND)
        connection.commit()

    return work


def _bare_mariadb(url: str, session: Any) -> Callable[[], None]:
    """The same where no driver speaks Arrow: rows as they come, many rows an INSERT, one UPDATE … JOIN."""
    import numpy as np
    from pymysql.cursors import SSCursor

    reading, writing = connect(url)[0], connect(url)[0]
    names = [*TEXTS, *NUMBERS]

    def work() -> None:
        with writing.cursor() as landing, reading.cursor(SSCursor) as cursor:
            landing.execute("CREATE TEMPORARY TABLE landed (id bigint PRIMARY KEY, score double)")
            cursor.execute(_READ)
            while rows := cursor.fetchmany(CHUNK):
                key, *columns = zip(*rows, strict=True)
                kinds = ["float32" if name in NUMBERS else object for name in names]
                inputs = {
                    name: np.array(column, kind).reshape(-1, 1)
                    for name, column, kind in zip(names, columns, kinds, strict=True)
                }
                scores = session.run(None, inputs)[1][:, 1].astype("float64").tolist()
                landing.executemany("INSERT INTO landed VALUES (%s, %s)", list(zip(key, scores, strict=True)))
            landing.execute(f"UPDATE {TABLE} JOIN landed ON {TABLE}.id = landed.id SET {TABLE}.score = landed.score")
        writing.commit()

    return work


def _stock_session(folder: Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(stock_graph(folder), options)


def stock_graph(folder: Path) -> bytes:
    """The whole pipeline by the stock converter; it mis-scores some rows, which is why the hub does not use it."""
    from skl2onnx import to_onnx
    from skl2onnx.common.data_types import FloatTensorType, StringTensorType

    kept = folder / "stock.onnx"
    if not kept.exists():
        model = joblib.load(folder / "model.joblib")
        types = [(name, StringTensorType([None, 1])) for name in TEXTS]
        types += [(name, FloatTensorType([None, 1])) for name in NUMBERS]
        made = to_onnx(model, initial_types=types, options={id(model): {"zipmap": False}})
        kept.write_bytes(made.SerializeToString())
    return kept.read_bytes()


def connect(url: str) -> tuple[Any, str]:
    """The driver that scripts use, and how it writes a place for a value."""
    if url.startswith("sqlite"):
        return sqlite3.connect(url.removeprefix("sqlite:///")), "?"
    if url.startswith("mariadb"):
        import pymysql

        parts = urlsplit(url)
        login = {"host": parts.hostname, "port": parts.port, "user": parts.username, "password": parts.password or ""}
        return pymysql.connect(**login, database=parts.path.removeprefix("/")), "%s"
    import psycopg2  # what nearly every tutorial installs: one round trip a row, where psycopg 3 sends a pipeline

    return psycopg2.connect(url), "%s"


def connect_adbc(url: str) -> Any:
    """An ADBC connection, as the bare script and the bench itself use it."""
    if url.startswith("sqlite"):
        import adbc_driver_sqlite.dbapi

        return adbc_driver_sqlite.dbapi.connect(url.removeprefix("sqlite:///"))
    import adbc_driver_postgresql.dbapi

    return adbc_driver_postgresql.dbapi.connect(url)
