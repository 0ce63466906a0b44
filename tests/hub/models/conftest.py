"""What the tests of models share: a database, a registry, and a sample with awkward values."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import hub.models.store  # noqa: F401  (its tables)
from hub.audit import AuditLog
from hub.database import Database
from hub.keys import open_ring
from hub.models import Registry
from hub.settings import Settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path)


@pytest.fixture
def database(settings: Settings) -> Iterator[Database]:
    database = Database(settings)
    database.create_all()
    yield database
    database.close()


@pytest.fixture
def audit(database: Database) -> AuditLog:
    return AuditLog(database)


@pytest.fixture
def registry(settings: Settings, database: Database, audit: AuditLog) -> Registry:
    return Registry(database, open_ring(settings, database), audit)


def make_sample(rows: int = 1500, seed: int = 0) -> pl.DataFrame:
    """Eight numbers (rounded, so that splits fall on values; some null) and ten texts."""
    draw = np.random.default_rng(seed)
    numbers = {f"number {at}": np.round(draw.normal(loc=at * 10, scale=at + 1, size=rows), 2) for at in range(8)}
    texts = {f"text_{at}": draw.choice(list("abcdef")[: at % 5 + 2], rows) for at in range(10)}
    return pl.DataFrame({**numbers, **texts})


def make_truth(sample: pl.DataFrame, seed: int = 1) -> np.ndarray:
    """A binary truth that hangs on numbers and texts."""
    noise = np.random.default_rng(seed).normal(scale=0.5, size=sample.height)
    score = sample["number 0"].to_numpy() + (sample["text_0"] == "a").to_numpy() - 0.3 * sample["number 1"].to_numpy()
    return (score + noise > -2.5).astype(int)
