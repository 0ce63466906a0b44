"""Fitted scikit-learn estimators: stored by skops under our own closed list of types, and asked as they are."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import skops.io
from sklearn.base import BaseEstimator
from sklearn.ensemble._hist_gradient_boosting.predictor import TreePredictor
from sklearn.tree._tree import Tree

from hub.models.runtimes.answer import Answer, ask
from hub.models.runtimes.columns import Plan
from hub.models.runtimes.native import Native
from hub.models.runtimes.trusted import FUNCTIONS, LOADERS, TYPES
from hub.models.signature import Inputs
from hub.models.types import InputField, ModelRefusedError, Task

_WAY_OUT = "export the model to ONNX and register the .onnx file, or fit it with scikit-learn's own classes"


def dump(estimator: Any) -> bytes:
    """The estimator as a skops file. ModelRefusedError names what is not on the list, and the way out."""
    try:
        content: bytes = skops.io.dumps(estimator, compression=zipfile.ZIP_DEFLATED, compresslevel=1)
    except Exception as error:
        raise ModelRefusedError(f"the model cannot be stored as skops ({type(error).__name__}): {_WAY_OUT}") from error
    check_types(content)
    return content


def load(content: bytes) -> Any:
    """The estimator of a skops file, after every type in it was found on the closed list, its trees checked."""
    check_types(content)
    try:
        estimator = skops.io.loads(content, trusted=sorted(TYPES | FUNCTIONS))
    except Exception as error:
        raise ModelRefusedError(f"the skops file cannot be read ({type(error).__name__}): save it again") from error
    if not isinstance(estimator, BaseEstimator):
        raise ModelRefusedError(f"the skops file holds a {type(estimator).__name__}, no estimator")
    for each in walk(estimator):
        check_tree(each)
    return estimator


def check_types(content: bytes) -> None:
    """ModelRefusedError unless every type, function and loader that the file names is on our list.

    The schema is read as JSON only: nothing that the file names is imported. skops' own check follows, with our list,
    never with the file's.
    """
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        schema = json.loads(archive.read("schema.json"))
    foreign: set[str] = set()
    pending = [schema]
    while pending:
        node = pending.pop()
        if isinstance(node, list):
            pending += node
        elif isinstance(node, dict):
            pending += node.values()
            foreign |= _foreign(node)
    if foreign:
        listed = ", ".join(sorted(foreign)[:5])
        raise ModelRefusedError(f"the model holds {listed}, which is not on the hub's list of types: {_WAY_OUT}")


def _foreign(node: dict[str, Any]) -> set[str]:
    found: set[str] = set()
    if "__class__" in node or "__module__" in node:
        name = f"{node.get('__module__')}.{node.get('__class__')}"
        function = node.get("__loader__") == "FunctionNode"
        if name not in (FUNCTIONS if function else TYPES):
            found.add(name)
    if "__loader__" in node and node["__loader__"] not in LOADERS:
        found.add(str(node["__loader__"]))
    if "module_path" in node and f"{node['module_path']}.{node.get('function')}" not in FUNCTIONS:
        found.add(f"{node['module_path']}.{node.get('function')}")
    return found


def walk(found: Any, seen: set[int] | None = None) -> list[Any]:
    """Every estimator, tree and predictor inside an estimator, itself included."""
    seen = set() if seen is None else seen
    if id(found) in seen:
        return []
    seen.add(id(found))
    if isinstance(found, Tree | TreePredictor):
        return [found]
    if isinstance(found, dict):
        inside = list(found.values())
    elif isinstance(found, list | tuple | set):
        inside = list(found)
    elif isinstance(found, np.ndarray):
        inside = list(found.flat) if found.dtype == object else []
    elif type(found).__module__.startswith("sklearn.") and hasattr(found, "__dict__"):
        return [found, *(each for value in vars(found).values() for each in walk(value, seen))]
    else:
        inside = []
    return [each for value in inside for each in walk(value, seen)]


def check_tree(found: Any) -> None:
    """scikit-learn follows a tree's child and feature numbers unchecked: a forged one reads foreign memory."""
    if isinstance(found, Tree):
        left, right, feature = found.children_left, found.children_right, found.feature
        leaf, width = left == -1, found.n_features
    elif isinstance(found, TreePredictor):
        nodes = found.nodes
        left, right = nodes["left"].astype(np.int64), nodes["right"].astype(np.int64)
        feature, leaf, width = nodes["feature_idx"], nodes["is_leaf"].astype(bool), 1 << 20
        categorical = nodes["is_categorical"].astype(bool) & ~leaf
        if categorical.any() and int(nodes["bitset_idx"][categorical].max()) >= len(found.raw_left_cat_bitsets):
            raise ModelRefusedError("the model file is damaged: a tree names categories that it does not have")
    else:
        return
    at = np.arange(len(left))
    inner = ~leaf
    sound = (
        (left[inner] > at[inner])
        & (right[inner] > at[inner])
        & (left[inner] < len(at))
        & (right[inner] < len(at))
        & (feature[inner] >= 0)
        & (feature[inner] < width)
    )
    if len(at) == 0 or not sound.all():
        raise ModelRefusedError("the model file is damaged: a tree points outside of itself")


def strip_names(estimator: Any) -> None:
    """Lets a loaded estimator take plain matrices without a warning per call."""
    for each in walk(estimator):
        if isinstance(each, BaseEstimator) and "feature_names_in_" in vars(each):
            del each.feature_names_in_


@dataclass(frozen=True)
class AsIs:
    """The whole fitted pipeline, on the kind of frame that it was fitted on."""

    estimator: Any
    native: Native
    fields: Sequence[InputField]
    task: Task
    by_predict: bool = False

    def run(self, inputs: Inputs) -> Answer:
        return ask(self.estimator, self.native.build(inputs, self.fields), self.task, by_predict=self.by_predict)


@dataclass(frozen=True)
class Behind:
    """The fitted estimator behind preprocessing that was read as columns."""

    plan: Plan
    estimator: Any
    task: Task
    by_predict: bool = False

    def run(self, inputs: Inputs) -> Answer:
        return ask(self.estimator, self.plan.matrix(inputs), self.task, by_predict=self.by_predict)
