"""Rows whose value is a split threshold: where stock conversion mis-scores, registration ends exact."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnxruntime
import polars as pl
import pytest
from skl2onnx import to_onnx
from sklearn.ensemble import (
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
)
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from hub.models import ModelVersion, Registry, Way
from hub.models.proving.rows import around


@pytest.fixture(scope="module")
def rows() -> np.ndarray:
    draw = np.random.default_rng(3)
    return np.round(draw.normal(50, 20, size=(4000, 6)), 1)


def threshold_rows(line: Pipeline, rows: np.ndarray) -> np.ndarray:
    """Rows with, in one column each, a threshold of the trees taken back through the scaler, and its neighbours."""
    scaler, trees = line.steps[0][1], line.steps[-1][1]
    if hasattr(trees, "_predictors"):
        nodes = np.concatenate([each[0].nodes for each in trees._predictors])
        nodes = nodes[nodes["is_leaf"] == 0]
        splits = list(zip(nodes["feature_idx"], nodes["num_threshold"], strict=True))
    else:
        inner = [each.tree_ for each in np.ravel(trees.estimators_)]
        splits = [
            (feature, split)
            for each in inner
            for feature, split in zip(each.feature, each.threshold, strict=True)
            if feature >= 0
        ]
    made = []
    for feature, split in splits[:800]:
        row = np.zeros((1, rows.shape[1]))
        row[0, feature] = split
        for value in around(float(scaler.inverse_transform(row)[0, feature])):
            made.append(rows[len(made) % len(rows)].copy())
            made[-1][feature] = value
    return np.array(made)


def frame(rows: np.ndarray) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=[f"number {at}" for at in range(rows.shape[1])])


LINES = {
    "histogram boosting after scaling": lambda: make_pipeline(
        StandardScaler(), HistGradientBoostingClassifier(max_iter=40)
    ),
    "boosting after scaling": lambda: make_pipeline(StandardScaler(), GradientBoostingClassifier(n_estimators=40)),
    "forest after scaling": lambda: make_pipeline(MinMaxScaler(), RandomForestClassifier(10, random_state=0)),
}


@pytest.mark.parametrize("kind", LINES)
def test_every_row_on_a_threshold_is_scored_as_the_estimator_does(
    kind: str, rows: np.ndarray, enrol: Callable[..., ModelVersion], registry: Registry
) -> None:
    line = LINES[kind]().fit(rows, (rows[:, 0] + rows[:, 1] > 100).astype(int))
    version = enrol(line, frame(rows))
    awkward = threshold_rows(line, rows)
    expected = line.predict_proba(awkward)[:, 1]
    found = registry.load(version).predict(frame(awkward))["probability"].to_numpy()
    assert len(awkward) > 1000
    assert np.abs(found - expected).max() < 1e-9
    assert version.way is Way.ONNX, version.tried
    assert version.rows_compared > 4000 + 2000 + 1000


@pytest.mark.filterwarnings("ignore")  # of skl2onnx itself
def test_stock_conversion_mis_scores_such_rows(rows: np.ndarray) -> None:
    line = LINES["histogram boosting after scaling"]().fit(rows, (rows[:, 0] + rows[:, 1] > 100).astype(int))
    awkward = threshold_rows(line, rows)
    stock = to_onnx(line, rows[:1].astype(np.float32), options={"zipmap": False}, target_opset=20)
    session = onnxruntime.InferenceSession(stock.SerializeToString(), providers=["CPUExecutionProvider"])
    found = session.run(None, {session.get_inputs()[0].name: awkward.astype(np.float32)})[1][:, 1]
    off = np.abs(found - line.predict_proba(awkward)[:, 1]) > 1e-3
    assert off.mean() > 0.01
