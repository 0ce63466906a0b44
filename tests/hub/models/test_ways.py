"""Every way of computing a model equals scikit-learn called directly on the same rows."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polars as pl
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.decomposition import PCA
from sklearn.ensemble import (
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    IsolationForest,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.linear_model import LinearRegression, LogisticRegression, PoissonRegressor, Ridge
from sklearn.model_selection import FixedThresholdClassifier, GridSearchCV
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import LocalOutlierFactor
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler
from sklearn.svm import SVC, OneClassSVM
from sklearn.tree import DecisionTreeClassifier

from hub.models import ModelVersion, Registry, Task, Way

Enrol = Callable[..., ModelVersion]
Make = Callable[..., pl.DataFrame]
Line = Callable[[object], Pipeline]

CLASSIFIERS = {
    "histogram boosting": (HistGradientBoostingClassifier(max_iter=20), Way.ONNX),
    "boosting": (GradientBoostingClassifier(n_estimators=20), Way.ONNX),
    "exponential boosting": (GradientBoostingClassifier(n_estimators=10, loss="exponential"), Way.ONNX),
    "forest": (RandomForestClassifier(10, random_state=0), Way.ONNX),
    "extra trees": (ExtraTreesClassifier(10, random_state=0), Way.ONNX),
    "tree": (DecisionTreeClassifier(max_depth=6), Way.ONNX),
    "logistic": (LogisticRegression(max_iter=300), Way.ONNX),
    "bayes": (GaussianNB(), Way.ONNX),
    "network": (MLPClassifier(hidden_layer_sizes=(8,), max_iter=40, random_state=0, early_stopping=True), Way.ONNX),
    "calibrated forest": (CalibratedClassifierCV(RandomForestClassifier(5, random_state=0), cv=2), None),
    "calibrated vectors": (CalibratedClassifierCV(SVC(random_state=0), cv=2, ensemble=False), None),
    "own threshold": (FixedThresholdClassifier(LogisticRegression(max_iter=300), threshold=0.3), Way.COLUMNS),
}


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("kind", CLASSIFIERS)
def test_binary_predictions_are_those_of_the_estimator(
    kind: str,
    sample: pl.DataFrame,
    truth: np.ndarray,
    make_sample: Make,
    pipeline: Line,
    enrol: Enrol,
    registry: Registry,
) -> None:
    estimator, way = CLASSIFIERS[kind]
    fitted = pipeline(estimator).fit(sample.to_pandas(), truth)
    version = enrol(fitted, sample.to_pandas())
    fresh = make_sample(3000, seed=9)
    expected = fitted.predict_proba(fresh.to_pandas())[:, 1]
    found = registry.load(version).predict(fresh)
    assert found.columns == ["probability", "label", "confidence"]
    np.testing.assert_allclose(found["probability"], expected, atol=1e-6, rtol=0)
    apart = np.abs(expected - 0.5) > 1e-6
    assert (found["label"].to_numpy()[apart] == fitted.predict(fresh.to_pandas())[apart]).all()
    assert version.signature.task is Task.BINARY
    assert version.largest_difference <= version.tolerance
    assert version.rows_compared > sample.height
    assert way is None or version.way is way, version.tried


@pytest.mark.parametrize(
    "estimator",
    [
        HistGradientBoostingClassifier(max_iter=8),
        GradientBoostingClassifier(n_estimators=8),
        RandomForestClassifier(8, random_state=0),
        LogisticRegression(max_iter=500),
    ],
    ids=lambda each: type(each).__name__,
)
def test_several_classes_are_those_of_the_estimator(
    estimator: object,
    sample: pl.DataFrame,
    score: np.ndarray,
    make_sample: Make,
    pipeline: Line,
    enrol: Enrol,
    registry: Registry,
) -> None:
    names = np.array(["low risk", "low-risk", "high"])[np.digitize(score, np.quantile(score, [0.3, 0.7]))]
    fitted = pipeline(estimator).fit(sample.to_pandas(), names)
    version = enrol(fitted, sample.to_pandas())
    fresh = make_sample(2000, seed=9)
    found = registry.load(version).predict(fresh)
    expected = fitted.predict_proba(fresh.to_pandas())
    assert version.way is Way.ONNX, version.tried
    assert found.columns == [
        "label",
        "confidence",
        "probability_high",
        "probability_low_risk",
        "probability_low_risk_2",
    ]
    np.testing.assert_allclose(found.select(pl.col("^probability.*$")).to_numpy(), expected, atol=1e-6, rtol=0)
    assert (found["label"].to_numpy() == fitted.predict(fresh.to_pandas())).all()
    np.testing.assert_allclose(found["confidence"], expected.max(axis=1), atol=1e-6, rtol=0)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize(
    "estimator",
    [
        HistGradientBoostingRegressor(max_iter=20),
        HistGradientBoostingRegressor(max_iter=20, loss="poisson"),
        GradientBoostingRegressor(n_estimators=20, loss="huber"),
        RandomForestRegressor(8, random_state=0),
        LinearRegression(),
        Ridge(),
        PoissonRegressor(),
        MLPRegressor(hidden_layer_sizes=(8,), max_iter=40, random_state=0),
    ],
    ids=str,
)
def test_regression_values_are_those_of_the_estimator(
    estimator: object,
    sample: pl.DataFrame,
    score: np.ndarray,
    make_sample: Make,
    pipeline: Line,
    enrol: Enrol,
    registry: Registry,
) -> None:
    fitted = pipeline(estimator).fit(sample.to_pandas(), np.exp(score / 2))
    version = enrol(fitted, sample.to_pandas())
    fresh = make_sample(2000, seed=9)
    found = registry.load(version).predict(fresh)
    assert found.columns == ["value"]
    np.testing.assert_allclose(found["value"], fitted.predict(fresh.to_pandas()), rtol=1e-6, atol=1e-6)
    assert version.way is not Way.AS_IS, version.tried


@pytest.mark.parametrize(
    ("estimator", "way"),
    [
        (IsolationForest(n_estimators=20, random_state=0), Way.ONNX),
        (IsolationForest(n_estimators=20, random_state=0, contamination=0.1, max_features=0.5), Way.ONNX),
        (OneClassSVM(nu=0.1), None),
        (LocalOutlierFactor(novelty=True), None),
    ],
    ids=str,
)
def test_anomaly_scores_rise_with_strangeness(
    estimator: object,
    way: Way | None,
    sample: pl.DataFrame,
    make_sample: Make,
    pipeline: Line,
    enrol: Enrol,
    registry: Registry,
) -> None:
    fitted = pipeline(estimator).fit(sample.to_pandas())
    version = enrol(fitted, sample.to_pandas())
    fresh = make_sample(1000, seed=9).with_columns(pl.col("number 0") * 3)
    found = registry.load(version).predict(fresh)
    assert found.columns == ["anomaly_score", "is_anomaly"]
    np.testing.assert_allclose(found["anomaly_score"], -fitted.score_samples(fresh.to_pandas()), atol=1e-6, rtol=1e-6)
    assert (found["is_anomaly"].to_numpy() == (fitted.predict(fresh.to_pandas()) == -1)).all()
    assert way is None or version.way is way, version.tried


def test_a_step_without_a_reading_stays_with_the_estimator(
    sample: pl.DataFrame,
    truth: np.ndarray,
    make_sample: Make,
    preprocess: Callable[[], object],
    enrol: Enrol,
    registry: Registry,
) -> None:
    fitted = make_pipeline(preprocess(), PCA(5), LogisticRegression()).fit(sample.to_pandas(), truth)
    version = enrol(fitted, sample.to_pandas())
    fresh = make_sample(500, seed=9)
    found = registry.load(version).predict(fresh)
    np.testing.assert_allclose(found["probability"], fitted.predict_proba(fresh.to_pandas())[:, 1], atol=1e-6)
    assert version.way is not Way.AS_IS


def test_a_pipeline_that_reads_as_nothing_is_used_as_it_is_and_says_why(
    sample: pl.DataFrame, truth: np.ndarray, pipeline: Line, make_sample: Make, enrol: Enrol, registry: Registry
) -> None:
    fitted = CalibratedClassifierCV(pipeline(LogisticRegression()), cv=2).fit(sample.to_pandas(), truth)
    version = enrol(fitted, sample.to_pandas())
    fresh = make_sample(500, seed=9)
    found = registry.load(version).predict(fresh)
    assert version.way is Way.AS_IS
    assert version.tried == {"columns": "no reading as columns: CalibratedClassifierCV"}
    np.testing.assert_allclose(found["probability"], fitted.predict_proba(fresh.to_pandas())[:, 1], atol=1e-12)


def test_an_estimator_fitted_on_numpy_takes_the_samples_columns_in_order(
    sample: pl.DataFrame, truth: np.ndarray, enrol: Enrol, registry: Registry
) -> None:
    numbers = sample.select(pl.col("^number.*$"))
    fitted = make_pipeline(StandardScaler(), PolynomialFeatures(), LogisticRegression(max_iter=2000)).fit(
        numbers.to_numpy(), truth
    )
    version = enrol(fitted, numbers)
    shuffled = numbers.select(reversed(numbers.columns))
    found = registry.load(version).predict(shuffled)
    np.testing.assert_allclose(found["probability"], fitted.predict_proba(numbers.to_numpy())[:, 1], atol=1e-6)
    assert [each.name for each in version.signature.inputs] == numbers.columns


def test_a_search_is_registered_as_its_best_estimator(
    sample: pl.DataFrame, truth: np.ndarray, pipeline: Line, enrol: Enrol, registry: Registry
) -> None:
    line = pipeline(LogisticRegression())
    search = GridSearchCV(line, {"logisticregression__C": [0.1, 1.0]}, cv=2).fit(sample.to_pandas(), truth)
    version = enrol(search, sample.to_pandas())
    found = registry.load(version).predict(sample)
    np.testing.assert_allclose(found["probability"], search.predict_proba(sample.to_pandas())[:, 1], atol=1e-6)


def test_the_stated_class_is_the_positive_one(
    sample: pl.DataFrame, truth: np.ndarray, pipeline: Line, enrol: Enrol, registry: Registry
) -> None:
    names = np.where(truth == 1, "won", "lost")
    fitted = pipeline(LogisticRegression()).fit(sample.to_pandas(), names)
    second = enrol(fitted, sample.to_pandas())
    first = enrol(fitted, sample.to_pandas(), positive="lost")
    one, two = (registry.load(each).predict(sample) for each in (second, first))
    assert (second.signature.positive, first.signature.positive) == ("won", "lost")
    np.testing.assert_allclose(one["probability"] + two["probability"], 1.0)
    assert one["label"].to_list() == two["label"].to_list() == fitted.predict(sample.to_pandas()).tolist()
