"""A hub whose clock the bench turns, over a table of leads that says by a number which of them moved."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from bench import dataset
from bench.ours import install
from bench.peers import connect_adbc
from bench.places import fill
from hub.runs import Installation

BETWEEN = timedelta(minutes=15)
MAPPING = "\n".join(
    [
        dataset.MAPPING.replace("entity: leads", "entity: leads, changed_by: moved, refresh: 1d"),
        'run: { schedule: "*/15 * * * *", limits: {} }',
    ]
)


class Calendar:
    """A clock that stands still until it is turned."""

    def __init__(self) -> None:
        self.moment = datetime(2026, 1, 1, tzinfo=UTC)

    def now(self) -> datetime:
        """The moment shown."""
        return self.moment

    def monotonic(self) -> float:
        """Real seconds: what is waited for is real."""
        return time.monotonic()

    def turn(self, by: timedelta = BETWEEN) -> None:
        """Lets so much time pass."""
        self.moment += by


@dataclass
class Simulated:
    """An embedded hub in a folder, its customer's table and its clock."""

    hub: Installation
    clock: Calendar
    customer: Any
    leads: int
    moved: int = 0

    def edit(self, ids: np.ndarray) -> None:
        """The customer changes a number of these leads, one after the other."""
        values = np.random.default_rng(self.moved).normal(0.0, 1.0, len(ids)).round(3)
        stamps = range(self.moved + 1, self.moved + 1 + len(ids))
        rows = pa.table({"n0": values, "moved": pa.array(stamps, pa.int64()), "id": ids})
        with self.customer.cursor() as cursor:
            cursor.executemany(f"UPDATE {dataset.TABLE} SET n0 = ?, moved = ? WHERE id = ?", rows)
        self.customer.commit()
        self.moved += len(ids)


def simulate(folder: Path, leads: int) -> Simulated:
    """A hub as it is installed, the mapping published, nothing run yet."""
    url = f"sqlite:///{folder / 'customer.db'}"
    dataset.train(folder).sample.write_parquet(folder / "sample.parquet")
    fill(url, dataset.rows(leads).with_columns(moved=pl.lit(0, pl.Int64)))
    # By the library that the hub reads with: two of them in one process miss each other's locks, and break the file.
    customer = connect_adbc(url)
    with customer.cursor() as cursor:
        cursor.execute(f"CREATE INDEX moved ON {dataset.TABLE} (moved, id)")
    customer.commit()
    clock = Calendar()
    home = folder / "home"
    hub = install(
        home,
        url,
        f"sqlite:///{home / 'hub.db'}",
        folder,
        mapping=MAPPING,
        clock=clock,
        changed_by={dataset.TABLE: ["moved"]},
    )
    return Simulated(hub, clock, customer, leads)
