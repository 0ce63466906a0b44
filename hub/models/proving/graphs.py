"""Proof of a given ONNX graph: it is its own truth, so what is proven is that it is safe, whole and row by row."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl

from hub.models.proving.agreement import difference, positive_class
from hub.models.proving.proof import Proven, Wish
from hub.models.proving.rows import verification_rows
from hub.models.runtimes.native import Sample
from hub.models.runtimes.onnx import Given, Wiring, find_classes, open_session, read_graph, strip_zipmap, wire
from hub.models.signature import Inputs, Layout, infer_fields
from hub.models.types import InputField, Label, ModelRefusedError, SampleError, Signature, Task, Way
from hub.sdk import FieldType


def prove_graph(content: bytes, sample: Sample, wish: Wish) -> Proven:
    """Checks the graph, draws its signature from the sample, and tries it. ModelRefusedError and SampleError."""
    model = read_graph(content)
    classes = strip_zipmap(model) or find_classes(model)
    names = _match(model, sample.frame)
    fields = infer_fields(sample.frame, names)
    wiring, task = wire(model, names, fields, wish.task)
    fields = _feedable(fields, wiring)
    content = model.SerializeToString()
    layout = Layout(fields)
    seen = layout.inputs(sample.frame)
    given = Given(open_session(content), wiring, fields, task, classes)
    given = _settle_classes(given, seen)
    rows = verification_rows(seen, fields, [])
    rows = layout.settle(rows, layout.unscorable(rows))
    largest = _row_by_row(given, rows, wish.tolerance)
    signature = Signature(given.task, fields, given.classes, positive_class(given.classes, given.task, wish.positive))
    manifest = {
        "format": 1,
        "runtime": "onnx",
        "way": Way.ONNX.value,
        "signature": signature.to_json(),
        "wiring": given.wiring.to_json(),
        "offset": None,
        "linear": None,
    }
    parts = {"manifest.json": json.dumps(manifest).encode(), "model.onnx": content}
    return Proven(parts, signature, "onnx", Way.ONNX, largest, rows.height, {}, {})


def _match(model: Any, frame: pl.DataFrame) -> list[str]:
    """The sample's columns in the order of the graph's inputs; all of them where the graph takes one matrix."""
    known = {each.name for each in model.graph.initializer}
    inputs = [each.name for each in model.graph.input if each.name not in known]
    if len(inputs) == 1 and inputs[0] not in frame.columns:
        return list(frame.columns)
    # Exporters write `monthly charges` as `monthly_charges`.
    plain = {re.sub(r"\W", "_", each): each for each in frame.columns}
    found = [each if each in frame.columns else plain.get(each, "") for each in inputs]
    if missing := [name for name, column in zip(inputs, found, strict=True) if not column]:
        raise SampleError(f"the sample lacks {', '.join(missing[:10])}, which the ONNX graph takes as input")
    return found


def _feedable(fields: Sequence[InputField], wiring: Wiring) -> tuple[InputField, ...]:
    """Nulls are taken where the sample has them and the graph's type can hold one. SampleError for another type."""
    kinds = [wiring.feeds[0][1]] * len(fields) if wiring.matrix else [kind for _, kind in wiring.feeds]
    for each, kind in zip(fields, kinds, strict=True):
        if (kind == "text") != (each.type is FieldType.TEXT):
            raise SampleError(f"column {each.name} of the sample is {each.type}, but the ONNX graph takes {kind}")
        if each.nullable and kind in {"int64", "int32", "bool"}:
            raise SampleError(f"column {each.name} of the sample has nulls, but the ONNX graph takes {kind}")
    return tuple(fields)


def _settle_classes(given: Given, sample: Inputs) -> Given:
    """Tries the graph on the sample: how many classes it has, and whether its labels need to be asked for."""
    few = sample.take(np.arange(min(sample.height, 200)))
    plain = replace(given, wiring=replace(given.wiring, label=None))
    try:
        values = plain.run(few).values
    except Exception as error:
        raise SampleError(f"the ONNX graph cannot score the sample ({type(error).__name__})") from error
    if not np.isfinite(values).any():
        raise SampleError("the ONNX graph answers no number on any row of the sample")
    if given.task in {Task.REGRESSION, Task.ANOMALY}:
        return plain
    width = values.shape[1]
    classes: tuple[Label, ...] = given.classes or tuple(range(width))
    if len(classes) != width:
        raise ModelRefusedError(f"the ONNX graph names {len(classes)} classes but gives {width} probabilities")
    task = Task.BINARY if width == 2 else Task.MULTICLASS
    if values.min() < -1e-6 or values.max() > 1 + 1e-6:
        raise ModelRefusedError("the ONNX graph gives scores outside of 0 and 1: export probabilities")
    if given.wiring.label is None:
        return replace(plain, classes=classes, task=task)
    try:
        answer = replace(given, classes=classes, task=task).run(sample)
    except KeyError:
        raise ModelRefusedError("the ONNX graph answers labels that are not among its classes") from None
    chooses = bool((answer.labels() != answer.values.argmax(axis=1)).any())
    return replace(given if chooses else plain, classes=classes, task=task)


def _row_by_row(given: Given, rows: Inputs, tolerance: float) -> float:
    """A row's answer must not hang on the rows beside it: the same rows, turned round and one by one."""
    whole = given.run(rows)
    turned = given.run(rows.take(np.arange(rows.height)[::-1]))
    again = replace(turned, values=turned.values[::-1], codes=None if turned.codes is None else turned.codes[::-1])
    largest, agrees = difference(whole, again, given.task, tolerance)
    for at in range(min(5, rows.height)):
        one = given.run(rows.take(np.array([at])))
        part = replace(whole, values=whole.values[[at]], codes=None if whole.codes is None else whole.codes[[at]])
        gap, alike = difference(part, one, given.task, tolerance)
        largest, agrees = max(largest, gap), agrees and alike
    if not agrees:
        raise ModelRefusedError("the ONNX graph answers a row differently when other rows stand beside it")
    return largest
