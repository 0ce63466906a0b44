"""The hub beside itself: the same worker a second time, few changed rows, reasons, two workers, memory by size."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

import polars as pl

from bench import dataset, ours
from bench.contest import Measured, answer, begin, line, measure, twice
from bench.places import Place, place, reachable, run_sql

MOST_MB = 600
PIECE = 250_000
SINCE, EDITED = "2020-01-01", "2026-01-01"
CHANGED = 100
"""One record in so many is edited before the run that reads what changed."""


def compare(asked: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """One line per comparison, on the first database named that is there; the memory of each size beside it."""
    kind = next((each for each in asked.databases if reachable(each)), "sqlite")
    rows = asked.rows
    yield from _again(kind, rows)
    yield _with_reasons(kind, rows)
    if kind == "postgresql":
        yield _two_workers(kind, rows)
    yield from _memory(kind, asked.sizes)


def _again(kind: str, rows: int) -> Iterator[dict[str, Any]]:
    with place(kind, [dataset.rows(rows)]) as made:
        ours.prepare(made)
        first, second = twice(made, lambda: None)
        _expect(second, {"skipped": rows})
        yield _compared(f"batch {kind} unchanged second run/first", rows, second, first, 2.0)
    # A stamp a second apart, so that few records lie in the span that is read again in case a transaction came late.
    stamped = dataset.rows(rows).with_columns(
        changed=pl.lit(SINCE).str.to_datetime("%Y-%m-%d") + pl.duration(seconds="id")
    )
    with place(kind, [stamped]) as made:
        run_sql(made.url, f"CREATE INDEX by_change ON {dataset.TABLE} (changed)")
        ours.prepare(made, dataset.mapping(changed_by="changed"))
        first, second = twice(made, lambda: _edited(made))
        yield _compared(f"batch {kind} run with 1 % changed/first", rows, second, first, 10.0)


def _edited(made: Place) -> None:
    run_sql(made.url, f"UPDATE {dataset.TABLE} SET n0 = n0 + 1, changed = '{EDITED}' WHERE id % {CHANGED} = 0")


def _with_reasons(kind: str, rows: int) -> dict[str, Any]:
    taken = []
    for why in (True, False):
        with place(kind, [dataset.rows(rows).with_columns(why=pl.lit(None, pl.String))]) as made:
            ours.prepare(made, dataset.mapping(reasons=3 if why else 0))
            taken.append(measure("hub", made))
    return _compared(f"batch {kind} with reasons(3)/without", rows, taken[0], taken[1], 0.0)


def _two_workers(kind: str, rows: int) -> dict[str, Any]:
    taken = []
    for workers in (2, 1):
        with place(kind, [dataset.rows(rows)]) as made:
            ours.prepare(made)
            found = _together(made, workers)
            taken.append({name: max(each[name] for each in found) for name in ("seconds", "peak_mb")})
    return _compared(f"batch {kind} two workers/one", rows, taken[0], taken[1], 0.0)


def _together(made: Place, workers: int) -> list[Measured]:
    run = ours.order(made.folder / "home", made.own, 2)
    return [answer(each) for each in [begin("worker", made, run) for _ in range(workers)]]


def _memory(kind: str, sizes: list[int]) -> Iterator[dict[str, Any]]:
    peaks: dict[int, float] = {}
    for size in sorted(sizes):
        pieces = (dataset.rows(min(PIECE, size - at), seed=at, first=at + 1) for at in range(0, size, PIECE))
        with place(kind, pieces) as made:
            ours.prepare(made)
            peaks[size] = measure("hub", made)["peak_mb"]
    least = min(peaks)
    for size, peak in peaks.items():
        limit = peaks[least] if size > 1_000_000 else MOST_MB
        yield {
            "name": f"memory {kind} of a worker at {size:,} rows, MB",
            "ours": round(peak),
            "theirs": round(peaks[least]),
            "limit": round(limit),
            "ratio": round(peak / limit, 3),
            "memory": {f"{each:,}": round(found) for each, found in peaks.items()},
        }


def _compared(name: str, rows: int, ours_: Measured, theirs: Measured, limit: float) -> dict[str, Any]:
    return line(
        name,
        rows / ours_["seconds"],
        rows / theirs["seconds"],
        limit,
        rows=rows,
        memory={"ours": round(ours_["peak_mb"]), "theirs": round(theirs["peak_mb"])},
        seconds={"ours": round(ours_["seconds"], 2), "theirs": round(theirs["seconds"], 2)},
    )


def _expect(found: Measured, counts: dict[str, int]) -> None:
    if found["counts"] != counts:
        raise SystemExit(f"an unchanged second run gave {found['counts']}")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `python -m bench` passes on; rows and databases are those of batch."""
    help_ = "batch-extra: sizes of the table at which memory is measured"
    parser.add_argument("--sizes", nargs="+", type=int, default=[200_000, 1_000_000, 5_000_000], help=help_)
