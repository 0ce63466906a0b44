"""A million rows out of a table, through the model and back into it, by the hub and by two scripts, side by side."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import polars as pl

from bench import dataset

CONTESTANTS = ("hub", "pandas", "bare")
LIMITS = {"pandas": 1.0, "bare": 2.0}
"""The largest share of the peer's time that the hub may take. The bare script remembers, checks and proves nothing."""
SERVER = os.environ.get("BENCH_POSTGRESQL", "postgresql://postgres@127.0.0.1:5432")
CHECKED = 20_000


def compare(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """One line per comparison; the contestants take turns, each in a fresh process on a fresh table."""
    for kind in arguments.databases:
        taken: dict[str, list[dict[str, float]]] = {name: [] for name in CONTESTANTS}
        for _ in range(arguments.rounds):
            for name in CONTESTANTS:
                taken[name].append(_round(kind, name, arguments.rows))
        middle = {name: {at: median(each[at] for each in found) for at in found[0]} for name, found in taken.items()}
        ours = middle["hub"]
        for peer in CONTESTANTS[1:]:
            ratio = ours["seconds"] / middle[peer]["seconds"]
            yield {
                "name": f"batch {kind} hub/{peer}",
                "rows": arguments.rows,
                "ours": round(ours["seconds"], 2),
                "theirs": round(middle[peer]["seconds"], 2),
                "limit": LIMITS[peer],
                "ratio": round(ratio, 2),
                "cpu_seconds": {"ours": round(ours["cpu_seconds"], 1), "theirs": round(middle[peer]["cpu_seconds"], 1)},
                "memory_mb": {"ours": round(ours["peak_mb"]), "theirs": round(middle[peer]["peak_mb"])},
                "largest_error": {"ours": ours["error"], "theirs": middle[peer]["error"]},
            }


def _round(kind: str, name: str, rows: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder, place(kind, Path(folder)) as (url, own):
        trained = dataset.train(Path(folder))
        trained.sample.write_parquet(Path(folder) / "sample.parquet")
        frame = dataset.rows(rows)
        fill(url, frame)
        command = [sys.executable, "-m", "bench.batch", name, url, own, folder]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        answer: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
        answer["error"] = _largest_error(url, frame, trained)
        print(json.dumps({"contestant": name, "kind": kind, **answer}), file=sys.stderr)
        return answer


@contextmanager
def place(kind: str, folder: Path) -> Iterator[tuple[str, str]]:
    """The customer's database and the hub's own, of the same kind and both new."""
    if kind == "sqlite":
        yield f"sqlite:///{folder / 'customer.db'}", f"sqlite:///{folder / 'hub.db'}"
        return
    import psycopg

    names = [f"hubbench_{os.getpid()}", f"hubbench_{os.getpid()}_own"]
    with psycopg.connect(f"{SERVER}/postgres", autocommit=True) as connection:
        try:
            for name in names:
                connection.execute(f"CREATE DATABASE {name}")
            yield f"{SERVER}/{names[0]}", f"{SERVER}/{names[1]}"
        finally:
            for name in names:
                connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


def fill(url: str, frame: pl.DataFrame) -> None:
    """Makes the table with these rows, by bulk ingest."""
    from bench.peers import connect_adbc

    kinds = {pl.Int64: "bigint", pl.String: "text", pl.Float64: "double precision"}
    columns = [f"{name} {kinds[type(dtype)]}" for name, dtype in frame.schema.items()]
    columns[0] = f"id {'integer' if url.startswith('sqlite') else 'bigint'} primary key"
    connection = connect_adbc(url)
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE TABLE {dataset.TABLE} ({', '.join(columns)})")
        cursor.adbc_ingest(dataset.TABLE, frame.to_arrow(), mode="append")
    connection.commit()
    connection.close()
    if not url.startswith("sqlite"):
        import psycopg

        with psycopg.connect(url, autocommit=True) as plain:
            plain.execute(f"VACUUM ANALYZE {dataset.TABLE}")


def _largest_error(url: str, frame: pl.DataFrame, trained: dataset.Trained) -> float:
    """How far the first written scores are from scikit-learn's; a score that is missing counts as one."""
    from bench.peers import connect_adbc

    part = frame.head(CHECKED)
    connection = connect_adbc(url)
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT score FROM {dataset.TABLE} WHERE id <= {CHECKED} ORDER BY id")
        found = np.asarray(cursor.fetch_arrow_table()["score"].to_numpy(), dtype=float)
        cursor.execute(f"SELECT count(*) FROM {dataset.TABLE} WHERE score IS NULL")
        missing = cursor.fetchone()[0]
    connection.close()
    wanted = trained.load().predict_proba(part.select(dataset.FEATURES).to_pandas())[:, 1]
    return 1.0 if missing else float(np.abs(found - wanted).max())


def _contest(name: str, url: str, own: str, folder: str) -> None:
    """In a process of its own: gets ready, works, and prints how long that took and the most memory held."""
    from bench import ours, peers

    ready = {"pandas": peers.pandas_script, "bare": peers.bare_script}
    place = Path(folder)
    work = ours.batch(url, own, place) if name == "hub" else ready[name](url, place)
    start, before = time.perf_counter(), time.process_time()
    work()
    seconds = time.perf_counter() - start
    print(json.dumps({"seconds": seconds, "cpu_seconds": time.process_time() - before, "peak_mb": _peak_mb()}))


def _peak_mb() -> float:
    # getrusage would tell the parent's peak where that is higher: it survives exec.
    status = Path("/proc/self/status").read_text("ascii")
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) / 1024


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `python -m bench` passes on."""
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--databases", nargs="+", default=["postgresql", "sqlite"], choices=["postgresql", "sqlite"])


if __name__ == "__main__":
    _contest(*sys.argv[1:])
