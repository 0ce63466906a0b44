"""Proof at registration: which way of computing a model equals the fitted estimator on the user's own rows."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from hub.models.proving.proof import Proven, Wish
from hub.models.proving.rows import UNKNOWN, pull_back, verification_rows
from hub.models.runtimes.answer import Answer, Runtime, ask
from hub.models.runtimes.native import Native, Sample
from hub.models.signature import Inputs, Layout, Place, infer_fields, places
from hub.models.types import InputField, Label, ModelRefusedError, SampleError, Signature, Task, Way
from hub.sdk import FieldType

PROBED_ROWS = 20


def difference(truth: Answer, other: Answer, task: Task, tolerance: float) -> tuple[float, bool]:
    """The largest difference, and whether every row agrees: values within tolerance, labels equal.

    A regression's difference is relative where the value is above 1. A label may differ only where the two classes
    are within the tolerance of each other. NaN agrees with NaN.
    """
    expected, found = truth.values, other.values
    if expected.shape != found.shape:
        return float("inf"), False
    scale = np.maximum(1.0, np.abs(expected)) if task is Task.REGRESSION else 1.0
    with np.errstate(invalid="ignore"):
        gap = np.where((expected == found) | (np.isnan(expected) & np.isnan(found)), 0.0, np.abs(expected - found) / scale)
    largest = float(np.where(np.isnan(gap), np.inf, gap).max(initial=0.0))
    return largest, largest <= tolerance and bool(_same_labels(truth, other, task, tolerance).all())


def _same_labels(truth: Answer, other: Answer, task: Task, tolerance: float) -> NDArray[np.bool_]:
    if task is Task.REGRESSION:
        return np.ones(len(truth.values), dtype=bool)
    if task is Task.ANOMALY:
        same: NDArray[np.bool_] = (truth.values < 0) == (other.values < 0)
        return same | (np.abs(truth.values) <= tolerance)
    one, two = truth.labels(), other.labels()
    rows = np.arange(len(one))
    near = np.abs(truth.values[rows, one] - truth.values[rows, two]) <= tolerance
    return (one == two) | near


def prove_estimator(estimator: Any, sample: Sample, wish: Wish) -> Proven:
    """Stores a fitted estimator and finds its best proven way. ModelRefusedError and SampleError say what to change."""
    estimator = getattr(estimator, "best_estimator_", estimator)
    check_fitted(estimator)
    task = find_task(estimator, wish.task)
    names = input_names(estimator, sample.frame)
    fields = infer_fields(sample.frame, names)
    positions = [sample.frame.get_column_index(each) for each in names]
    native = sample.native.select(positions, named=hasattr(estimator, "feature_names_in_"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _prove(estimator, Layout(fields).inputs(sample.frame), fields, native, task, wish)


def _prove(
    estimator: Any, sample: Inputs, fields: tuple[InputField, ...], native: Native, task: Task, wish: Wish
) -> Proven:
    from hub.models.runtimes import sklearn as stored

    by_predict = False

    def truth(inputs: Inputs, shown: Sequence[InputField] = fields) -> Answer:
        return ask(estimator, native.build(inputs, shown), task, by_predict=by_predict)

    try:
        truth(sample.take(np.arange(min(sample.height, PROBED_ROWS))))
    except Exception as error:
        raise SampleError(f"the model cannot score the sample ({type(error).__name__}): {error}") from error
    fields = probe(truth, sample, fields, native)
    if task in {Task.BINARY, Task.MULTICLASS}:
        by_predict = True
        answer = truth(sample)
        by_predict = not bool((answer.labels() == answer.values.argmax(axis=1)).all())
    content = stored.dump(estimator)
    loaded = stored.load(content)
    tried: dict[str, str] = {}
    candidates = _candidates(loaded, content, fields, native, task, tried, by_predict=by_predict)
    splits = candidates[0].splits if candidates else []
    rows = verification_rows(sample, fields, splits)
    layout = Layout(fields)
    rows = layout.settle(rows, layout.unscorable(rows))
    expected = truth(rows, fields)
    if not np.isfinite(expected.values).any():
        raise SampleError("the model answers no number on any row of the sample")
    classes = plain_classes(estimator) if task in {Task.BINARY, Task.MULTICLASS} else ()
    signature = Signature(task, fields, classes, positive_class(classes, task, wish.positive))
    as_is = Candidate(Way.AS_IS, stored.AsIs(loaded, native, fields, task, by_predict), {}, [])
    for each in [*candidates, as_is]:
        largest, why_not = _compare(each.runtime, rows, expected, task, wish.tolerance)
        if why_not:
            tried[each.way.value] = why_not
        else:
            manifest = {
                "format": 1,
                "runtime": "sklearn",
                "way": each.way.value,
                "signature": signature.to_json(),
                "native": native.to_json(),
                "by_predict": by_predict,
                "offset": float(getattr(estimator, "offset_", _last(estimator, "offset_"))) if task is Task.ANOMALY else None,
                "linear": linear_weights(loaded, each.parts, task),
            }
            parts = {"manifest.json": json.dumps(manifest).encode(), "model.skops": content, **each.parts}
            return Proven(parts, signature, "sklearn", each.way, largest, rows.height, tried, {})
    raise ModelRefusedError(
        f"the model read back from its file {tried[Way.AS_IS.value]}: fit it with the installed scikit-learn"
    )


def _last(estimator: Any, name: str) -> Any:
    from sklearn.pipeline import Pipeline

    last = estimator.steps[-1][1] if isinstance(estimator, Pipeline) else estimator
    return getattr(last, name, 0.0)


def _compare(
    runtime: Runtime, rows: Inputs, expected: Answer, task: Task, tolerance: float
) -> tuple[float, str]:
    """The largest difference, and why this way is not taken (empty: it agrees on every row)."""
    try:
        answer = runtime.run(rows)
    except Exception as error:  # noqa: BLE001  (a way that fails on some row is no way; the reason is kept)
        return float("inf"), f"fails on some row: {type(error).__name__}"
    largest, agrees = difference(expected, answer, task, tolerance)
    return largest, "" if agrees else f"differs by up to {largest:.3g} from the fitted estimator"


@dataclass(frozen=True)
class Candidate:
    """One way to compute a model, with what must be stored for it and the splits it is tried on."""

    way: Way
    runtime: Runtime
    parts: Mapping[str, bytes]
    splits: Sequence[tuple[Place, float]]


def _candidates(
    loaded: Any,
    content: bytes,
    fields: Sequence[InputField],
    native: Native,
    task: Task,
    tried: dict[str, str],
    *,
    by_predict: bool,
) -> list[Candidate]:
    """The faster ways there are, fastest first; `tried` is told why there are no others."""
    from hub.models.runtimes import sklearn as stored
    from hub.models.runtimes.convert import InconvertibleError, thresholds, to_graph
    from hub.models.runtimes.onnx import Converted
    from hub.models.runtimes.preprocessing import UnreadableError, compile_pipeline

    if native.single:
        tried[Way.COLUMNS.value] = "the sample has 32-bit numbers, in which scikit-learn computes and columns do not"
        return []
    try:
        # From a copy of its own, since names are taken off what stands behind the columns.
        plan, rest = compile_pipeline(stored.load(content), fields)
    except UnreadableError as error:
        tried[Way.COLUMNS.value] = f"no reading as columns: {error}"
        return []
    stored.strip_names(rest)
    splits = pull_back(plan, thresholds(rest))
    parts = {"plan.json": plan.to_bytes()}
    behind = Candidate(Way.COLUMNS, stored.Behind(plan, rest, task, by_predict), parts, splits)
    if by_predict:
        tried[Way.ONNX.value] = "the estimator chooses labels otherwise than by the highest probability"
        return [behind]
    try:
        graph = to_graph(rest, task, len(plan.columns))
        runtime = Converted.of(plan, graph, task)
    except InconvertibleError as error:
        tried[Way.ONNX.value] = f"no graph: {error}"
        return [behind]
    except Exception as error:  # noqa: BLE001  (ONNX Runtime refuses a graph with errors of its own; kept)
        tried[Way.ONNX.value] = f"the graph does not open: {type(error).__name__}"
        return [behind]
    return [Candidate(Way.ONNX, runtime, {**parts, "graph.onnx": graph}, splits), behind]


def probe(
    truth: Callable[[Inputs], Answer], sample: Inputs, fields: tuple[InputField, ...], native: Native
) -> tuple[InputField, ...]:
    """Finds out, by asking, which inputs may be null and which texts may be ones never seen."""
    few = sample.take(np.arange(min(sample.height, PROBED_ROWS)))
    found = []
    for place, each in zip(places(fields), fields, strict=True):
        takes_null = each.nullable or _scores(truth, few.replace(place, None))
        if each.type is FieldType.TEXT:
            closed = not _scores(truth, few.replace(place, UNKNOWN))
            each = replace(each, closed=closed)
        found.append(replace(each, nullable=takes_null))
    return tuple(found)


def _scores(truth: Callable[[Inputs], Answer], inputs: Inputs) -> bool:
    try:
        return bool(np.isfinite(truth(inputs).values).all())
    except Exception:  # noqa: BLE001  (any refusal is the answer)
        return False


def check_fitted(estimator: Any) -> None:
    """ModelRefusedError unless this is a fitted scikit-learn estimator that predicts."""
    from sklearn.base import BaseEstimator
    from sklearn.exceptions import NotFittedError
    from sklearn.utils.validation import check_is_fitted

    if not isinstance(estimator, BaseEstimator) or not hasattr(estimator, "predict"):
        raise ModelRefusedError(
            f"{type(estimator).__name__} is no scikit-learn estimator that predicts: export it to ONNX and register the file"
        )
    try:
        check_is_fitted(estimator)
    except NotFittedError:
        raise ModelRefusedError(f"{type(estimator).__name__} is not fitted: call fit before registering it") from None


def find_task(estimator: Any, stated: Task | None) -> Task:
    """The task an estimator does; a stated one must be the same."""
    from sklearn.base import is_classifier, is_outlier_detector, is_regressor

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


def positive_class(classes: Sequence[Label], task: Task, stated: Label | None) -> Label | None:
    """Whose probability a binary model gives: the one stated, else the second in the estimator's order."""
    if task is not Task.BINARY:
        return None
    if stated is None:
        return classes[1]
    if stated not in classes:
        raise ModelRefusedError(f"the positive class is stated as {stated!r}, but the classes are {list(classes)}")
    return stated


def linear_weights(loaded: Any, parts: Mapping[str, bytes], task: Task) -> list[float] | None:
    """The weight of each plan column on the margin (log-odds of the second class, or the value), if it is linear."""
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

    last = loaded.steps[-1][1] if isinstance(loaded, Pipeline) else loaded
    linear: tuple[type, ...] = ()
    if task is Task.BINARY:
        linear = (LogisticRegression, LogisticRegressionCV)
    elif task is Task.REGRESSION:
        linear = (LinearRegression, Ridge, RidgeCV, Lasso, LassoCV, ElasticNet, ElasticNetCV)
    if "plan.json" not in parts or type(last) not in linear:
        return None
    weights = np.asarray(last.coef_, dtype=np.float64).reshape(-1)
    width = len(json.loads(parts["plan.json"])["columns"])
    return [float(each) for each in weights] if len(weights) == width else None
