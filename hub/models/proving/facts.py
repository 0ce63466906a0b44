"""What a fitted estimator says about itself: its task, its inputs, its classes, its weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl
from sklearn.base import BaseEstimator, is_classifier, is_outlier_detector, is_regressor
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import (
    ElasticNet,
    ElasticNetCV,
    Lasso,
    LassoCV,
    LinearRegression,
    LogisticRegression,
    LogisticRegressionCV,
    Ridge,
    RidgeCV,
)
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from hub.models.types import Label, ModelRefusedError, SampleError, Task

_LINEAR: Mapping[Task, tuple[type, ...]] = {
    Task.BINARY: (LogisticRegression, LogisticRegressionCV),
    Task.REGRESSION: (LinearRegression, Ridge, RidgeCV, Lasso, LassoCV, ElasticNet, ElasticNetCV),
}


def last_step(estimator: Any) -> Any:
    """The estimator at the end of a pipeline, or the estimator itself."""
    return estimator.steps[-1][1] if isinstance(estimator, Pipeline) else estimator


def check_fitted(estimator: Any) -> None:
    """ModelRefusedError unless this is a fitted scikit-learn estimator that predicts."""

    if not isinstance(estimator, BaseEstimator) or not hasattr(estimator, "predict"):
        raise ModelRefusedError(
            f"{type(estimator).__name__} is no scikit-learn estimator that predicts: export it to ONNX"
        )
    try:
        check_is_fitted(estimator)
    except NotFittedError:
        raise ModelRefusedError(f"{type(estimator).__name__} is not fitted: call fit before registering it") from None


def find_task(estimator: Any, stated: Task | None) -> Task:
    """The task an estimator does; a stated one must be the same."""

    if is_classifier(estimator):
        if not hasattr(estimator, "predict_proba"):
            raise ModelRefusedError(
                f"{type(estimator).__name__} gives no probabilities: wrap it in CalibratedClassifierCV and fit that"
            )
        if isinstance(estimator.classes_, list):
            raise ModelRefusedError("a classifier of several targets is not taken: register one model per target")
        found = Task.BINARY if len(estimator.classes_) == 2 else Task.MULTICLASS
    elif is_regressor(estimator):
        found = Task.REGRESSION
    elif is_outlier_detector(estimator) and hasattr(estimator, "decision_function"):
        found = Task.ANOMALY
    else:
        raise ModelRefusedError(
            f"{type(estimator).__name__} is neither a classifier, a regressor nor an outlier detector for new rows"
        )
    if stated not in {None, found}:
        raise ModelRefusedError(f"the task is stated as {stated}, but {type(estimator).__name__} does {found}")
    return found


def input_names(estimator: Any, frame: pl.DataFrame) -> list[str]:
    """The estimator's inputs in its own order; the sample's columns where it was fitted without names."""
    if hasattr(estimator, "feature_names_in_"):
        return [str(each) for each in estimator.feature_names_in_]
    expected = getattr(estimator, "n_features_in_", len(frame.columns))
    if expected != len(frame.columns):
        raise SampleError(f"the sample has {len(frame.columns)} columns, the model was fitted on {expected}")
    return list(frame.columns)


def plain_classes(estimator: Any) -> tuple[Label, ...]:
    """The classes as plain Python values; whole floats as integers, anything else as text."""
    found: list[Label] = []
    for each in estimator.classes_.tolist():
        if isinstance(each, bool | int | str):
            found.append(each)
        else:
            found.append(int(each) if isinstance(each, float) and each.is_integer() else str(each))
    return tuple(found)


def linear_weights(loaded: Any, parts: Mapping[str, bytes], task: Task) -> list[float] | None:
    """The weight of each plan column on the margin (log-odds of the second class, or the value), if it is linear."""

    last = last_step(loaded)
    if "plan.json" not in parts or type(last) not in _LINEAR.get(task, ()):
        return None
    weights = np.asarray(last.coef_, dtype=np.float64).reshape(-1)
    width = len(json.loads(parts["plan.json"])["columns"])
    return [float(each) for each in weights] if len(weights) == width else None
