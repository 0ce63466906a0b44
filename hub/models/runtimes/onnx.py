"""ONNX Runtime: graphs that the hub made itself, and .onnx files that were given."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
import onnx
import onnxruntime
import polars as pl
from numpy.typing import NDArray
from onnx import TensorProto

from hub.models.runtimes.answer import Answer
from hub.models.runtimes.columns import Plan
from hub.models.signature import Inputs, places
from hub.models.types import InputField, Label, ModelRefusedError, SampleError, Task
from hub.sdk import FieldType

DOMAINS: Final = frozenset({"", "ai.onnx", "ai.onnx.ml"})
CHUNK: Final = 100_000
"""Rows per call: bounds the memory of a graph's intermediate values."""
IN_CACHE: Final = 4_096
"""Rows per call of a graph of ours on the CPU: what its columns go through stays in the cache, in memory used again."""
CUDA: Final = "CUDAExecutionProvider"
EXACT: Final = {"use_tf32": "0", "cudnn_conv_algo_search": "DEFAULT"}
"""By itself CUDA multiplies with ten bits and lets algorithms race: a score would depend on who computes it."""

_TYPES: Final[Mapping[int, str]] = {
    TensorProto.FLOAT: "float32",
    TensorProto.DOUBLE: "float64",
    TensorProto.INT64: "int64",
    TensorProto.INT32: "int32",
    TensorProto.BOOL: "bool",
    TensorProto.STRING: "text",
}


def open_session(content: bytes, *, cuda: bool = False) -> Any:
    """A session of one thread that logs errors only; on a card where asked for and ONNX Runtime is built for CUDA.

    Without a card, or without CUDA's libraries, ONNX Runtime says so and computes on the CPU: the answers are the same.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    wanted = []
    if cuda and CUDA in onnxruntime.get_available_providers():
        with redirect_stdout(sys.stderr):  # where it complains; what a worker prints is read by its supervisor
            onnxruntime.preload_dlls()
        wanted.append((CUDA, EXACT))
    return onnxruntime.InferenceSession(content, options, providers=[*wanted, "CPUExecutionProvider"])


@dataclass(frozen=True)
class Converted:
    """A graph that the hub made: preprocessing as columns, then `matrix` to `answer`."""

    plan: Plan
    session: Any
    flat: bool

    @classmethod
    def of(cls, plan: Plan, graph: bytes, task: Task, *, cuda: bool = False) -> Self:
        """Opens the graph."""
        return cls(plan, open_session(graph, cuda=cuda), task in {Task.REGRESSION, Task.ANOMALY})

    def run(self, inputs: Inputs) -> Answer:
        name, rows = self.session.get_inputs()[0].name, CHUNK if CUDA in self.session.get_providers() else IN_CACHE
        parts = [self.session.run(None, {name: each})[0] for each in self.plan.parts(inputs, rows)]
        values = np.concatenate(parts).astype(np.float64, copy=False)
        return Answer(values.reshape(-1) if self.flat else values)


def read_graph(content: bytes) -> onnx.ModelProto:
    """A given file, parsed and checked. ModelRefusedError for external data, foreign operators or a damaged file."""
    try:
        model = onnx.load_model_from_string(content)
    except Exception:  # noqa: BLE001  (protocol buffers raise errors of their own)
        raise ModelRefusedError("the file is no ONNX model: hand in an .onnx or .skops file") from None
    graphs = [model.graph, *(each for each in model.functions)]
    for graph in _all_graphs(graphs):
        for node in graph.node:
            if node.domain not in DOMAINS:
                raise ModelRefusedError(
                    f"the ONNX graph uses {node.domain}:{node.op_type}; only standard operators are run: "
                    "export it without custom or contributed operators"
                )
        tensors = [*getattr(graph, "initializer", ()), *_attribute_tensors(graph)]
        sparse = [part for each in getattr(graph, "sparse_initializer", ()) for part in (each.values, each.indices)]
        if any(each.data_location == TensorProto.EXTERNAL or each.external_data for each in [*tensors, *sparse]):
            raise ModelRefusedError("the ONNX graph keeps its weights in other files: save it as one file")
    try:
        onnx.checker.check_model(model)
    except Exception as error:  # noqa: BLE001  (the checker's errors are of no one kind)
        raise ModelRefusedError(f"the ONNX graph is not valid ({type(error).__name__}): export it again") from None
    return model


def _all_graphs(graphs: Sequence[Any]) -> list[Any]:
    found: list[Any] = []
    pending = list(graphs)
    while pending:
        graph = pending.pop()
        found.append(graph)
        for node in graph.node:
            for attribute in node.attribute:
                pending += [*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])]
    return found


def _attribute_tensors(graph: Any) -> list[Any]:
    return [
        tensor
        for node in graph.node
        for attribute in node.attribute
        for tensor in [*attribute.tensors, *([attribute.t] if attribute.HasField("t") else [])]
    ]


@dataclass(frozen=True)
class Wiring:
    """How a given graph is fed and read: one matrix of all inputs or one column each, and which outputs mean what."""

    feeds: tuple[tuple[str, str], ...]
    matrix: bool
    values: str
    label: str | None

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "feeds": [list(each) for each in self.feeds],
            "matrix": self.matrix,
            "values": self.values,
            "label": self.label,
        }

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`."""
        return cls(tuple((name, kind) for name, kind in raw["feeds"]), raw["matrix"], raw["values"], raw["label"])


@dataclass(frozen=True)
class Given:
    """A graph that came as a file; it is itself the truth."""

    session: Any
    wiring: Wiring
    fields: Sequence[InputField]
    task: Task
    classes: tuple[Label, ...]

    def run(self, inputs: Inputs) -> Answer:
        parts = [
            self._run(inputs.take(np.arange(at, min(at + CHUNK, inputs.height))) if inputs.height > CHUNK else inputs)
            for at in range(0, max(inputs.height, 1), CHUNK)
        ]
        values = np.concatenate([each for each, _ in parts])
        codes = [each for _, each in parts if each is not None]
        return Answer(values, np.concatenate(codes) if codes else None)

    def _run(self, inputs: Inputs) -> tuple[NDArray[np.float64], NDArray[np.intp] | None]:
        wanted = [self.wiring.values] + ([self.wiring.label] if self.wiring.label else [])
        out = self.session.run(wanted, self._feeds(inputs))
        values = np.asarray(out[0], dtype=np.float64).reshape(inputs.height, -1)
        if self.task in {Task.REGRESSION, Task.ANOMALY}:
            return values[:, 0], None
        if values.shape[1] == 1:
            values = np.column_stack([1.0 - values[:, 0], values[:, 0]])
        if len(out) == 1:
            return values, None
        order = {each: at for at, each in enumerate(self.classes)}
        return values, np.array([order[each] for each in np.asarray(out[1]).reshape(-1).tolist()], dtype=np.intp)

    def _feeds(self, inputs: Inputs) -> dict[str, NDArray[Any]]:
        columns = [inputs.texts[each.at] if each.text else inputs.numbers[:, each.at] for each in places(self.fields)]
        if self.wiring.matrix:
            ((name, kind),) = self.wiring.feeds
            return {name: np.column_stack([_typed(each, kind) for each in columns])}
        return {
            name: _typed(column, kind).reshape(-1, 1)
            for (name, kind), column in zip(self.wiring.feeds, columns, strict=True)
        }


def _typed(column: Any, kind: str) -> NDArray[Any]:
    if isinstance(column, pl.Series):
        texts: NDArray[Any] = np.array(column.fill_null("").to_list(), dtype=object)
        return texts
    if kind in {"int64", "int32", "bool"}:
        whole: NDArray[Any] = np.nan_to_num(column).astype(kind)
        return whole
    typed: NDArray[Any] = np.asarray(column, dtype=kind)
    return typed


def strip_zipmap(model: onnx.ModelProto) -> tuple[Label, ...]:
    """Puts the plain matrix in place of a list of dictionaries as output; gives the class labels it named."""
    classes: tuple[Label, ...] = ()
    for node in [each for each in model.graph.node if each.op_type == "ZipMap"]:
        classes = _class_labels(node)
        for output in model.graph.output:
            if output.name == node.output[0]:
                output.CopyFrom(onnx.helper.make_tensor_value_info(node.input[0], TensorProto.FLOAT, [None, None]))
        model.graph.node.remove(node)
    return classes


def _class_labels(node: Any) -> tuple[Label, ...]:
    for attribute in node.attribute:
        if attribute.name.startswith("classlabels_strings") or attribute.name == "classlabels_strings":
            return tuple(each.decode() for each in attribute.strings)
        if attribute.name.startswith("classlabels_int") and attribute.ints:
            return tuple(int(each) for each in attribute.ints)
    return ()


def find_classes(model: onnx.ModelProto) -> tuple[Label, ...]:
    """The class labels that some classifier of the graph names, or none."""
    for node in model.graph.node:
        if node.op_type.endswith("Classifier") and (found := _class_labels(node)):
            return found
    return ()


def wire(
    model: onnx.ModelProto, names: Sequence[str], fields: Sequence[InputField], task: Task | None
) -> tuple[Wiring, Task]:
    """How to feed the graph from a sample's columns, and which task its outputs show."""
    known = {each.name for each in model.graph.initializer}
    given = [each for each in model.graph.input if each.name not in known]
    feeds = tuple((each.name, _TYPES.get(each.type.tensor_type.elem_type, "")) for each in given)
    if unknown := [name for name, kind in feeds if not kind]:
        raise ModelRefusedError(f"input {unknown[0]} of the ONNX graph is neither numbers, text nor booleans")
    matrix = len(feeds) == 1 and (len(fields) != 1 or feeds[0][0] not in names)
    if matrix:
        _check_width(given[0], fields)
    label, values, shown = _outputs(model)
    chosen = task or shown
    classifies = chosen in {Task.BINARY, Task.MULTICLASS}
    return Wiring(feeds, matrix, values, label if classifies else None), chosen


def _check_width(given: Any, fields: Sequence[InputField]) -> None:
    if any(each.type is FieldType.TEXT for each in fields):
        raise SampleError("the ONNX graph takes one matrix of numbers, but the sample has text columns")
    dims = given.type.tensor_type.shape.dim
    width = dims[1].dim_value if len(dims) == 2 else 0
    if len(dims) != 2 or (width and width != len(fields)):
        raise SampleError(
            f"the ONNX graph takes {width or 'an unknown number of'} columns, the sample has {len(fields)}"
        )


def _outputs(model: onnx.ModelProto) -> tuple[str | None, str, Task]:
    """The label output, the output with the values, and the task they show."""
    kinds = {each.name: each.type.tensor_type.elem_type for each in model.graph.output}
    labels = [name for name, kind in kinds.items() if kind in {TensorProto.INT64, TensorProto.STRING}]
    values = [name for name, kind in kinds.items() if kind in {TensorProto.FLOAT, TensorProto.DOUBLE}]
    if not values:
        raise ModelRefusedError("the ONNX graph has no output of numbers: export probabilities, not labels alone")
    label = labels[0] if labels else None
    return label, values[-1] if label else values[0], Task.BINARY if label else Task.REGRESSION
