"""Files and estimators that are not taken: nothing in them runs, and the message names the way out."""

from __future__ import annotations

import bz2
import functools
import gzip
import io
import json
import pickle
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import polars as pl
import pytest
import skops.io
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.cluster import KMeans
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.svm import LinearSVC

from hub.models import ModelRefusedError, ModelVersion, Registry, SampleError
from hub.models.runtimes.sklearn import load

Enrol = Callable[..., ModelVersion]
ROWS = np.random.default_rng(0).normal(size=(60, 2))
SAMPLE = pl.DataFrame(ROWS, schema=["a", "b"])
TRUTH = (ROWS[:, 0] > 0).astype(int)


class Canary:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.write_text, (self.path, "sang"))


def as_torch(content: bytes) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr("model/data.pkl", content)
    return target.getvalue()


def by_joblib(content: object, **stated: Any) -> bytes:
    target = io.BytesIO()
    joblib.dump(content, target, **stated)
    return target.getvalue()


PICKLES: dict[str, Callable[[object], bytes]] = {
    **{f"pickle protocol {each}": functools.partial(pickle.dumps, protocol=each) for each in range(6)},
    "joblib": by_joblib,
    "joblib with zlib": functools.partial(by_joblib, compress=3),
    "joblib with gzip": functools.partial(by_joblib, compress=("gzip", 3)),
    "joblib with bz2": functools.partial(by_joblib, compress=("bz2", 3)),
    "joblib with xz": functools.partial(by_joblib, compress=("xz", 3)),
    "joblib with lzma": functools.partial(by_joblib, compress=("lzma", 3)),
    "gzip by hand": lambda each: gzip.compress(pickle.dumps(each)),
    "bz2 by hand": lambda each: bz2.compress(pickle.dumps(each)),
    "zlib by hand": lambda each: zlib.compress(pickle.dumps(each)),
    "archive of pickles": lambda each: as_torch(pickle.dumps(each)),
}


@pytest.mark.parametrize("suffix", [".pkl", ".skops", ".onnx"])
@pytest.mark.parametrize("kind", PICKLES)
def test_a_pickle_in_any_guise_is_refused_unread(kind: str, suffix: str, tmp_path: Path, enrol: Enrol) -> None:
    sang = tmp_path / "canary"
    path = tmp_path / f"model{suffix}"
    path.write_bytes(PICKLES[kind](Canary(sang)))
    with pytest.raises(ModelRefusedError, match=r"call hub\.models\.register\(name, estimator"):
        enrol(path, SAMPLE)
    assert not sang.exists()


def test_a_pickle_beside_a_skops_schema_is_refused_unread(tmp_path: Path, enrol: Enrol) -> None:
    sang = tmp_path / "canary"
    path = tmp_path / "model.skops"
    path.write_bytes(skops.io.dumps(LogisticRegression().fit(ROWS, TRUTH)))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("extra.pkl", pickle.dumps(Canary(sang)))
    with pytest.raises(ModelRefusedError, match="archive of pickles"):
        enrol(path, SAMPLE)
    assert not sang.exists()


def test_object_arrays_in_a_skops_file_are_never_unpickled(tmp_path: Path, enrol: Enrol) -> None:
    sang = tmp_path / "canary"
    hidden = io.BytesIO()
    np.save(hidden, np.array([Canary(sang)], dtype=object), allow_pickle=True)
    path = tmp_path / "model.skops"
    with zipfile.ZipFile(io.BytesIO(skops.io.dumps(LogisticRegression().fit(ROWS, TRUTH)))) as source:
        parts = {each: source.read(each) for each in source.namelist()}
    with zipfile.ZipFile(path, "w") as target:
        for name, content in parts.items():
            target.writestr(name, hidden.getvalue() if name.endswith(".npy") else content)
    with pytest.raises(ModelRefusedError, match="cannot be read"):
        enrol(path, SAMPLE)
    assert not sang.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no model"),
        (b"age,income\n1,2\n", "no model"),
        (b'{"learner": {}}', "no model"),
        (b"\x89HDF\r\n\x1a\n" + b"0" * 50, "Keras"),
        (b"PK\x03\x04 broken", "damaged zip"),
        (b"\x08\x07" + b"\xff" * 40, "no ONNX model"),
    ],
)
def test_a_file_that_is_no_model_is_refused(content: bytes, message: str, tmp_path: Path, enrol: Enrol) -> None:
    path = tmp_path / "model.bin"
    path.write_bytes(content)
    with pytest.raises(ModelRefusedError, match=message):
        enrol(path, SAMPLE)


def test_a_file_that_is_not_there_is_refused_by_its_name(tmp_path: Path, enrol: Enrol) -> None:
    with pytest.raises(ModelRefusedError, match=r"nowhere\.onnx cannot be read: No such file"):
        enrol(tmp_path / "nowhere.onnx", SAMPLE)


class OwnClassifier(ClassifierMixin, BaseEstimator):
    """Somebody's own class."""

    def fit(self, x: Any, y: Any) -> OwnClassifier:
        self.classes_ = np.unique(y)
        self.n_features_in_ = 2
        return self

    def predict(self, x: Any) -> Any:
        return np.zeros(len(x), dtype=int)

    def predict_proba(self, x: Any) -> Any:
        return np.full((len(x), 2), 0.5)


@pytest.mark.usefixtures("proven_here")
def test_a_class_that_is_not_on_the_list_is_refused_by_name(tmp_path: Path, enrol: Enrol) -> None:
    own = OwnClassifier().fit(ROWS, TRUTH)
    with pytest.raises(ModelRefusedError, match=r"OwnClassifier, which is not on the hub's list.*ONNX"):
        enrol(own, SAMPLE)
    path = tmp_path / "own.skops"
    skops.io.dump(own, path)
    with pytest.raises(ModelRefusedError, match=r"OwnClassifier, which is not on the hub's list"):
        enrol(path, SAMPLE)


def test_a_function_that_is_not_on_the_list_is_refused_by_name(enrol: Enrol) -> None:
    line = make_pipeline(FunctionTransformer(np.nan_to_num), LogisticRegression()).fit(ROWS, TRUTH)
    with pytest.raises(ModelRefusedError, match=r"nan_to_num"):
        enrol(line, SAMPLE)


def forge(estimator: Any, change: Callable[[dict[str, Any]], None]) -> bytes:
    """A skops file whose schema was changed by hand."""
    with zipfile.ZipFile(io.BytesIO(skops.io.dumps(estimator))) as source:
        parts = {each: source.read(each) for each in source.namelist()}
    schema = json.loads(parts["schema.json"])
    change(schema)
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, json.dumps(schema).encode() if name == "schema.json" else content)
    return target.getvalue()


def set_attribute(name: str, node: dict[str, Any]) -> Callable[[dict[str, Any]], None]:
    return lambda schema: schema["content"]["content"].update({name: node})


FORGED = {
    "a function": {"__class__": "system", "__module__": "os", "__loader__": "FunctionNode", "__id__": 1},
    "a type": {"__class__": "Popen", "__module__": "subprocess", "__loader__": "TypeNode", "__id__": 1},
    "a method": {
        "__class__": "read_text",
        "__module__": "builtins",
        "__loader__": "MethodNode",
        "__id__": 1,
        "content": {"func": "exec"},
    },
    "an operator": {
        "__class__": "attrgetter",
        "__module__": "operator",
        "__loader__": "OperatorFuncNode",
        "__id__": 1,
        "attrs": {},
    },
}


@pytest.mark.usefixtures("proven_here")
@pytest.mark.parametrize("kind", FORGED)
def test_a_forged_schema_is_refused_before_skops_sees_it(kind: str, tmp_path: Path, enrol: Enrol) -> None:
    path = tmp_path / "model.skops"
    path.write_bytes(forge(LogisticRegression().fit(ROWS, TRUTH), set_attribute("extra", FORGED[kind])))
    with pytest.raises(ModelRefusedError, match="not on the hub's list of types"):
        enrol(path, SAMPLE)


@pytest.mark.parametrize(
    "estimator",
    [RandomForestClassifier(2, random_state=0), HistGradientBoostingClassifier(max_iter=2)],
    ids=["forest", "histogram"],
)
def test_a_tree_that_points_outside_of_itself_is_refused(estimator: Any) -> None:
    estimator.fit(np.repeat(ROWS, 3, axis=0), np.repeat(TRUTH, 3))
    if hasattr(estimator, "estimators_"):
        estimator.estimators_[1].tree_.children_left[0] = 1 << 20
    else:
        estimator._predictors[1][0].nodes["left"][0] = 1 << 20
    content = skops.io.dumps(estimator)
    with pytest.raises(ModelRefusedError, match="points outside of itself"):
        load(content)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (LogisticRegression(), "not fitted"),
        (LinearSVC().fit(ROWS, TRUTH), "CalibratedClassifierCV"),
        (KMeans(2, n_init=1).fit(ROWS), "neither a classifier"),
        (RandomForestClassifier(2).fit(ROWS, np.column_stack([TRUTH, TRUTH])), "several targets"),
        (FunctionTransformer(), "no scikit-learn estimator that predicts"),
        (object(), "no scikit-learn estimator that predicts"),
    ],
    ids=lambda each: each if isinstance(each, str) else type(each).__name__,
)
def test_an_estimator_that_cannot_serve_is_refused_with_the_way_out(model: Any, message: str, enrol: Enrol) -> None:
    with pytest.raises(ModelRefusedError, match=message):
        enrol(model, SAMPLE)


def test_what_is_stated_wrongly_is_refused(enrol: Enrol) -> None:
    fitted = LogisticRegression().fit(ROWS, TRUTH)
    with pytest.raises(ModelRefusedError, match="stated as regression, but LogisticRegression does binary"):
        enrol(fitted, SAMPLE, task="regression")
    with pytest.raises(ModelRefusedError, match="'guess' is no task: use binary"):
        enrol(fitted, SAMPLE, task="guess")
    with pytest.raises(ModelRefusedError, match=r"positive class is stated as 'yes', but the classes are \[0, 1\]"):
        enrol(fitted, SAMPLE, positive="yes")
    with pytest.raises(ModelRefusedError, match="no name for a model"):
        enrol(fitted, SAMPLE, name="Lead Score")
    with pytest.raises(ModelRefusedError, match="no name for an alias"):
        enrol(fitted, SAMPLE, alias="3")
    with pytest.raises(ModelRefusedError, match="metric auc is nan"):
        enrol(fitted, SAMPLE, metrics={"auc": float("nan")})
    with pytest.raises(SampleError, match="the sample has 1 columns, the model was fitted on 2"):
        enrol(fitted, SAMPLE.select("a"))
    with pytest.raises(SampleError, match="no column churn"):
        enrol(fitted, SAMPLE, target="churn")
    with pytest.raises(SampleError, match="the target has 3 values, the sample 60 rows"):
        enrol(fitted, SAMPLE, target=[0, 1, 0])


def test_nothing_is_stored_of_what_was_refused(enrol: Enrol, registry: Registry) -> None:
    with pytest.raises(ModelRefusedError):
        enrol(LogisticRegression(), SAMPLE)
    assert registry.list() == []


def test_the_measures_of_a_sample_with_its_truth_are_kept(enrol: Enrol) -> None:
    labelled = SAMPLE.with_columns(won=pl.Series(TRUTH))
    fitted = LogisticRegression().fit(ROWS, TRUTH)
    version = enrol(fitted, labelled, target="won")
    assert version.metrics["accuracy"] == pytest.approx(fitted.score(ROWS, TRUTH))
    assert set(version.metrics) == {"accuracy", "brier", "roc_auc"}
    regression = enrol(LinearRegression().fit(ROWS, ROWS[:, 0]), SAMPLE, target=ROWS[:, 0])
    assert regression.metrics["r2"] == pytest.approx(1.0)
    assert enrol(fitted, SAMPLE, metrics={"auc": 0.9}).metrics == {"auc": 0.9}
