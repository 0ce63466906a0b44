"""What the tests of models share: a database, a registry, and samples with awkward values."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

import hub.models.store  # noqa: F401  (its tables)
from hub.audit import AuditLog
from hub.database import Database
from hub.keys import KeyRing, open_ring
from hub.models import ModelVersion, Registry
from hub.models.proving.proof import prove_file
from hub.settings import Settings

NUMBERS = [f"number {at}" for at in range(8)]
TEXTS = [f"text_{at}" for at in range(10)]


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
def keys(settings: Settings, database: Database) -> KeyRing:
    return open_ring(settings, database)


@pytest.fixture
def audit(database: Database) -> AuditLog:
    return AuditLog(database)


@pytest.fixture
def registry(database: Database, keys: KeyRing, audit: AuditLog) -> Registry:
    return Registry(database, keys, audit)


@pytest.fixture
def enrol(registry: Registry) -> Callable[..., ModelVersion]:
    """`registry.register` with a name, an owner and an actor filled in."""

    def enrol(model: object, sample: object, **stated: object) -> ModelVersion:
        given = {"owner": "anna", "actor": "human:anna", **stated}
        return registry.register(str(given.pop("name", "lead")), model, sample, **given)  # type: ignore[arg-type]

    return enrol


@pytest.fixture
def proven_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are proven in this process: that they have one of their own is shown in test_isolation.py."""
    monkeypatch.setattr("hub.models.proving.isolation.prove_apart", prove_file)


@pytest.fixture(scope="session")
def make_sample() -> Callable[..., pl.DataFrame]:
    """Eight numbers, rounded so that splits fall on values, and ten texts."""

    def make(rows: int = 800, seed: int = 0) -> pl.DataFrame:
        draw = np.random.default_rng(seed)
        numbers = {
            name: np.round(draw.normal(loc=at * 10, scale=at + 1, size=rows), 2) for at, name in enumerate(NUMBERS)
        }
        texts = {name: draw.choice(list("abcdef")[: at % 5 + 2], rows) for at, name in enumerate(TEXTS)}
        return pl.DataFrame({**numbers, **texts})

    return make


@pytest.fixture(scope="session")
def sample(make_sample: Callable[..., pl.DataFrame]) -> pl.DataFrame:
    return make_sample()


@pytest.fixture(scope="session")
def score(sample: pl.DataFrame) -> np.ndarray:
    """A number that hangs on numbers and texts, with noise."""
    noise = np.random.default_rng(1).normal(scale=0.5, size=sample.height)
    return sample["number 0"].to_numpy() + 2.0 * (sample["text_0"] == "a").to_numpy() + noise


@pytest.fixture(scope="session")
def truth(score: np.ndarray) -> np.ndarray:
    return (score > np.median(score)).astype(int)


@pytest.fixture(scope="session")
def preprocess() -> Callable[[], ColumnTransformer]:
    def make() -> ColumnTransformer:
        return ColumnTransformer(
            [
                ("numbers", StandardScaler(), NUMBERS),
                ("texts", OneHotEncoder(handle_unknown="ignore", sparse_output=False), TEXTS),
            ]
        )

    return make


@pytest.fixture(scope="session")
def pipeline(preprocess: Callable[[], ColumnTransformer]) -> Callable[[object], Pipeline]:
    """A scaled and encoded pipeline with the given estimator at its end."""
    return lambda estimator: make_pipeline(preprocess(), estimator)
