"""Fitted final estimators as ONNX graphs over a float64 matrix: our own exact form for trees, skl2onnx for the rest."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, checker, helper, numpy_helper
from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    IsolationForest,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from hub.models.types import Task

MAX_NODES: Final = 3_000_000
INPUT: Final = "matrix"
OUTPUT: Final = "answer"

_FORESTS = (RandomForestClassifier, RandomForestRegressor, ExtraTreesClassifier, ExtraTreesRegressor)
_TREES = (DecisionTreeClassifier, DecisionTreeRegressor)
_BOOSTED = (GradientBoostingClassifier, GradientBoostingRegressor)
_HISTOGRAM = (HistGradientBoostingClassifier, HistGradientBoostingRegressor)


class InconvertibleError(Exception):
    """This estimator has no graph; it is computed by itself."""


def to_graph(estimator: Any, task: Task, width: int) -> bytes:
    """An ONNX model from `matrix` (rows, width) float64 to `answer`, as `Answer.values` has it. InconvertibleError.

    Stock conversion compares split thresholds in 32 bits, and thresholds are values of the data: up to one row in a
    hundred falls on the other side. Our form keeps thresholds and leaves in 64 bits (ai.onnx.ml 5, TreeEnsemble).
    """
    if type(estimator) in _HISTOGRAM:
        return _histogram_graph(estimator, task, width)
    if type(estimator) in _BOOSTED:
        return _boosted_graph(estimator, task, width)
    if type(estimator) in (*_FORESTS, *_TREES):
        return _forest_graph(estimator, task, width)
    if type(estimator) is IsolationForest:
        return _isolation_graph(estimator, width)
    return _stock_graph(estimator, task, width)


def thresholds(estimator: Any) -> Iterator[tuple[int, float]]:
    """Every split of an estimator's trees: (column, threshold)."""
    from hub.models.runtimes.sklearn import walk

    for each in walk(estimator):
        if hasattr(each, "nodes"):
            nodes = each.nodes
            inner = nodes[(nodes["is_leaf"] == 0) & (nodes["is_categorical"] == 0)]
            yield from zip(inner["feature_idx"].tolist(), inner["num_threshold"].tolist(), strict=True)
        elif hasattr(each, "children_left") and hasattr(each, "threshold"):
            inner = each.children_left >= 0
            yield from zip(each.feature[inner].tolist(), each.threshold[inner].tolist(), strict=True)


@dataclass
class _Ensemble:
    """The attribute lists of one TreeEnsemble node, filled tree by tree."""

    roots: list[int] = field(default_factory=list)
    features: list[int] = field(default_factory=list)
    splits: list[float] = field(default_factory=list)
    missing: list[int] = field(default_factory=list)
    true_ids: list[int] = field(default_factory=list)
    false_ids: list[int] = field(default_factory=list)
    true_leaf: list[int] = field(default_factory=list)
    false_leaf: list[int] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)
    targets: list[int] = field(default_factory=list)

    def add(
        self,
        left: NDArray[Any],
        right: NDArray[Any],
        leaf: NDArray[np.bool_],
        feature: NDArray[Any],
        split: NDArray[Any],
        missing: NDArray[Any],
        weight: NDArray[Any],
        target: int,
    ) -> None:
        """One tree. A tree that is a single leaf becomes a split with that leaf on both sides."""
        if len(self.features) + len(leaf) > MAX_NODES:
            raise InconvertibleError("too many nodes")
        first, first_leaf = len(self.features), len(self.weights)
        self.roots.append(first)
        place = np.where(leaf, first_leaf + np.cumsum(leaf) - 1, first + np.cumsum(~leaf) - 1)
        self.weights += weight[leaf].astype(np.float64).tolist()
        self.targets += [target] * int(leaf.sum())
        if leaf[0]:
            left, right, inner = np.array([0]), np.array([0]), np.array([True])
            feature, split, missing = np.array([0]), np.array([0.0]), np.array([1])
        else:
            inner = ~leaf
        self.features += feature[inner].tolist()
        self.splits += split[inner].astype(np.float64).tolist()
        self.missing += missing[inner].astype(int).tolist()
        for child, ids, flags in ((left, self.true_ids, self.true_leaf), (right, self.false_ids, self.false_leaf)):
            ids += place[child[inner]].tolist()
            flags += leaf[child[inner]].astype(int).tolist()

    def node(self, source: str, target: str, width: int) -> NodeProto:
        """The node: sums of leaves per target, float64 throughout."""
        count = len(self.splits)
        return helper.make_node(
            "TreeEnsemble",
            [source],
            [target],
            domain="ai.onnx.ml",
            n_targets=width,
            aggregate_function=1,
            post_transform=0,
            tree_roots=self.roots,
            nodes_featureids=self.features,
            nodes_splits=helper.make_tensor("splits", TensorProto.DOUBLE, [count], self.splits),
            nodes_modes=helper.make_tensor("modes", TensorProto.UINT8, [count], bytes(count), raw=True),
            nodes_truenodeids=self.true_ids,
            nodes_falsenodeids=self.false_ids,
            nodes_trueleafs=self.true_leaf,
            nodes_falseleafs=self.false_leaf,
            nodes_missing_value_tracks_true=self.missing,
            leaf_targetids=self.targets,
            leaf_weights=helper.make_tensor("leaves", TensorProto.DOUBLE, [len(self.weights)], self.weights),
        )


@dataclass
class _Graph:
    """Nodes in order and their constants."""

    nodes: list[NodeProto] = field(default_factory=list)
    constants: list[TensorProto] = field(default_factory=list)

    def step(self, operator: str, *inputs: str | NDArray[Any] | float, **attributes: Any) -> str:
        """Adds one operation; numbers and arrays become constants. Returns the name of its output."""
        names = []
        for each in inputs:
            if not isinstance(each, str):
                name = f"c{len(self.constants)}"
                array = np.asarray(each) if isinstance(each, np.ndarray) else np.array([each], dtype=np.float64)
                self.constants.append(numpy_helper.from_array(array, name))
                each = name
            names.append(each)
        output = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, names, [output], **attributes))
        return output

    def single(self, source: str) -> str:
        """As scikit-learn's trees see their input: rounded to 32 bits, compared in 64."""
        narrow = self.step("Cast", source, to=TensorProto.FLOAT)
        return self.step("Cast", narrow, to=TensorProto.DOUBLE)

    def trees(self, ensemble: _Ensemble, source: str, targets: int) -> str:
        """Adds the ensemble."""
        output = f"v{len(self.nodes)}"
        self.nodes.append(ensemble.node(source, output, targets))
        return output

    def finish(self, last: str, width: int, shape: Sequence[int | None]) -> bytes:
        """The checked model."""
        self.nodes.append(helper.make_node("Identity", [last], [OUTPUT]))
        graph = helper.make_graph(
            self.nodes,
            "hub",
            [helper.make_tensor_value_info(INPUT, TensorProto.DOUBLE, [None, width])],
            [helper.make_tensor_value_info(OUTPUT, TensorProto.DOUBLE, list(shape))],
            self.constants,
        )
        opsets = [helper.make_opsetid("", 20), helper.make_opsetid("ai.onnx.ml", 5)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
        checker.check_model(model)
        content: bytes = model.SerializeToString()
        return content


def _link(graph: _Graph, raw: str, task: Task, width: int, inverse: str | None = None) -> bytes:
    """From the sum of the leaves to probabilities or values."""
    if task is Task.BINARY:
        one = graph.step("Sigmoid", raw)
        other = graph.step("Sub", 1.0, one)
        return graph.finish(graph.step("Concat", other, one, axis=1), width, [None, 2])
    if task is Task.MULTICLASS:
        return graph.finish(graph.step("Softmax", raw, axis=1), width, [None, None])
    return graph.finish(graph.step(inverse, raw) if inverse else raw, width, [None, 1])


def _histogram_graph(estimator: Any, task: Task, width: int) -> bytes:
    if getattr(estimator, "_preprocessor", None) is not None:
        raise InconvertibleError("native categories")
    inverse = {"IdentityLink": None, "LogLink": "Exp", "LogitLink": None, "MultinomialLogit": None}
    link = type(estimator._loss.link).__name__
    if link not in inverse:
        raise InconvertibleError(link)
    ensemble = _Ensemble()
    for stage in estimator._predictors:
        for target, predictor in enumerate(stage):
            nodes = predictor.nodes
            if nodes["is_categorical"].any():
                raise InconvertibleError("native categories")
            ensemble.add(
                nodes["left"].astype(np.int64),
                nodes["right"].astype(np.int64),
                nodes["is_leaf"].astype(bool),
                nodes["feature_idx"],
                nodes["num_threshold"],
                nodes["missing_go_to_left"],
                nodes["value"],
                target,
            )
    graph = _Graph()
    summed = graph.trees(ensemble, INPUT, len(estimator._predictors[0]))
    start = np.asarray(estimator._baseline_prediction, dtype=np.float64).reshape(1, -1)
    return _link(graph, graph.step("Add", summed, start), task, width, inverse[link])


def _add_tree(ensemble: _Ensemble, tree: Any, weight: NDArray[Any], target: int, columns: Any = None) -> None:
    missing = getattr(tree, "missing_go_to_left", np.zeros(tree.node_count, dtype=np.uint8))
    feature = tree.feature if columns is None else np.asarray(columns)[np.maximum(tree.feature, 0)]
    leaf = tree.children_left == -1
    ensemble.add(tree.children_left, tree.children_right, leaf, feature, tree.threshold, missing, weight, target)


def _boosted_graph(estimator: Any, task: Task, width: int) -> bytes:
    if estimator.init is not None:
        raise InconvertibleError("an estimator to start from")
    ensemble = _Ensemble()
    for stage in estimator.estimators_:
        for target, each in enumerate(stage):
            _add_tree(ensemble, each.tree_, estimator.learning_rate * each.tree_.value[:, 0, 0], target)
    graph = _Graph()
    summed = graph.trees(ensemble, graph.single(INPUT), estimator.estimators_.shape[1])
    # What boosting starts from is the same for every row, as long as it is the usual prior.
    start = np.asarray(estimator._raw_predict_init(np.zeros((1, width), dtype=np.float32)), dtype=np.float64)
    raw = graph.step("Add", summed, start.reshape(1, -1))
    if task is Task.BINARY and getattr(estimator, "loss", "") == "exponential":
        raw = graph.step("Mul", raw, 2.0)
    return _link(graph, raw, task, width)


def _forest_graph(estimator: Any, task: Task, width: int) -> bytes:
    trees = [each.tree_ for each in getattr(estimator, "estimators_", [estimator])]
    ensemble = _Ensemble()
    graph = _Graph()
    source = graph.single(INPUT)
    if task is Task.REGRESSION:
        for tree in trees:
            _add_tree(ensemble, tree, tree.value[:, 0, 0] / len(trees), 0)
        return graph.finish(graph.trees(ensemble, source, 1), width, [None, 1])
    # A leaf of the graph holds one class, so each further class repeats the trees.
    classes = len(estimator.classes_)
    given = range(1, 2) if classes == 2 else range(classes)
    for tree in trees:
        shares = tree.value[:, 0, :] / tree.value[:, 0, :].sum(axis=1, keepdims=True)
        for target, each in enumerate(given):
            _add_tree(ensemble, tree, shares[:, each] / len(trees), target)
    summed = graph.trees(ensemble, source, len(given))
    if classes == 2:
        summed = graph.step("Concat", graph.step("Sub", 1.0, summed), summed, axis=1)
    return graph.finish(summed, width, [None, classes])


def _isolation_graph(estimator: Any, width: int) -> bytes:
    """The decision function: 2 to the minus mean depth over the depth expected, less the offset (Liu et al. 2008)."""
    from sklearn.ensemble._iforest import _average_path_length

    ensemble = _Ensemble()
    for each, columns in zip(estimator.estimators_, estimator.estimators_features_, strict=True):
        tree = each.tree_
        depth = np.zeros(tree.node_count)
        for at in range(tree.node_count):
            if tree.children_left[at] >= 0:
                depth[[tree.children_left[at], tree.children_right[at]]] = depth[at] + 1
        _add_tree(ensemble, tree, depth + _average_path_length(tree.n_node_samples), 0, columns)
    graph = _Graph()
    summed = graph.trees(ensemble, graph.single(INPUT), 1)
    expected = len(estimator.estimators_) * float(_average_path_length(np.array([estimator._max_samples]))[0])
    score = graph.step("Pow", 2.0, graph.step("Div", graph.step("Neg", summed), expected))
    return graph.finish(graph.step("Sub", graph.step("Neg", score), float(estimator.offset_)), width, [None, 1])


def _stock_graph(estimator: Any, task: Task, width: int) -> bytes:
    from skl2onnx import to_onnx
    from skl2onnx.common.data_types import DoubleTensorType

    options = {id(estimator): {"zipmap": False}} if task in {Task.BINARY, Task.MULTICLASS} else None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model: ModelProto = to_onnx(
                estimator, initial_types=[(INPUT, DoubleTensorType([None, width]))], options=options, target_opset=20
            )
    except Exception as error:
        raise InconvertibleError(type(estimator).__name__) from error
    wanted = model.graph.output[-1].name
    kept = [each for each in model.graph.output if each.name == wanted]
    del model.graph.output[:]
    model.graph.output.extend(kept)
    content: bytes = model.SerializeToString()
    return content
