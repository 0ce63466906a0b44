"""The table, the model and the mapping of every contestant: 10 categories one-hot, 8 numbers scaled, boosted trees."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import polars as pl

TABLE = "leads"
TEXTS = [f"c{at}" for at in range(10)]
NUMBERS = [f"n{at}" for at in range(8)]
FEATURES = [*TEXTS, *NUMBERS]
TRAINED_ON = 20_000


def mapping(*, changed_by: str | None = None, reasons: int = 0) -> str:
    """The document: every column a feature, the probability written back, with so many reasons in `why`."""
    read = "connection: crm, entity: leads" + (f", changed_by: {changed_by}" if changed_by else "")
    lines = [
        "format: 1",
        "mapping: bench",
        "title: Bench",
        "owner: bench",
        "purpose: Measure the batch path",
        f"read: {{ {read} }}",
        "features:",
        *(f"  {name}: {name}" for name in FEATURES),
        "model: { name: bench }",
        "decide: { score: probability }",
        "write:",
        "  mode: update",
        "  set: { score: score }",
        *([f'  with: {{ why: "reasons({reasons})" }}'] if reasons else []),
    ]
    return "\n".join(lines)


MAPPING = mapping()


@dataclass(frozen=True)
class Trained:
    """The fitted pipeline on disk, and rows to register it with."""

    file: Path
    sample: pl.DataFrame

    def load(self) -> Any:
        """The pipeline as a script loads it."""
        return joblib.load(self.file)


def rows(count: int, seed: int = 1, first: int = 1) -> pl.DataFrame:
    """`id` from `first` on, the features and an empty `score`; the same for the same seed."""
    draw = np.random.default_rng(seed)
    columns: dict[str, Any] = {"id": np.arange(first, first + count, dtype=np.int64)}
    for at, name in enumerate(TEXTS):
        kinds = pl.Series([f"kind {at} {letter}" for letter in "abcdefghij"[: 3 + at % 6]])
        columns[name] = kinds.gather(draw.integers(0, len(kinds), count))
    for at, name in enumerate(NUMBERS):
        columns[name] = np.round(draw.normal(10.0 * at, 1.0 + at, count), 3)
    return pl.DataFrame(columns).with_columns(score=pl.lit(None, pl.Float64))


def train(folder: Path) -> Trained:
    """Fits the pipeline of `figures.md` on rows of its own."""
    from sklearn.compose import ColumnTransformer
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    frame = rows(TRAINED_ON, seed=0)
    noise = np.random.default_rng(2).normal(size=frame.height)
    signal = frame["n0"] + frame["n1"] / 5 + 2 * (frame["c0"] == "kind 0 a").cast(pl.Float64) + noise
    encode = ColumnTransformer(
        [
            ("texts", OneHotEncoder(handle_unknown="ignore", sparse_output=False), TEXTS),
            ("numbers", StandardScaler(), NUMBERS),
        ]
    )
    pipeline = make_pipeline(encode, HistGradientBoostingClassifier(max_iter=100, random_state=0))
    pipeline.fit(frame.select(FEATURES).to_pandas(), (signal > signal.median()).to_numpy())
    file = folder / "model.joblib"
    joblib.dump(pipeline, file)
    return Trained(file, frame.select(FEATURES).head(5_000))
