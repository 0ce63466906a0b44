"""A loaded model: predictions for a frame of features, and the reasons behind each of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from hub.models.runtimes.answer import Answer, Runtime
from hub.models.runtimes.columns import Plan
from hub.models.signature import Inputs, Layout
from hub.models.types import InputField, Signature, Task, Way
from hub.sdk import FieldType

REASON: Final = pl.List(pl.Struct({"feature": pl.String(), "effect": pl.Float64()}))
EDGE: Final = 1e-9
"""Probabilities are kept this far from 0 and 1 before their log-odds are taken."""
STACKED_ROWS: Final = 100_000


@dataclass(frozen=True)
class Linear:
    """A model whose margin is a weighted sum of plan columns; `sign` turns it towards the positive class."""

    plan: Plan
    weights: NDArray[np.float64]
    sign: float


@dataclass(frozen=True)
class Scorer:
    """One model version, ready to score; safe to share between threads."""

    signature: Signature
    runtime: Runtime
    offset: float = 0.0
    linear: Linear | None = None
    way: Way = Way.AS_IS
    _layout: Layout = field(init=False, repr=False)
    _reference: Inputs = field(init=False, repr=False)

    def __post_init__(self) -> None:
        row = {each.name: [each.reference] for each in self.signature.inputs}
        types = {each.name: _column_type(each) for each in self.signature.inputs}
        object.__setattr__(self, "_layout", Layout(self.signature.inputs))
        object.__setattr__(self, "_reference", self._layout.inputs(pl.DataFrame(row, schema=types)))

    def predict(self, features: pl.DataFrame) -> pl.DataFrame:
        """One row per row of `features`, in order; the columns are exactly `signature.outputs()`.

        `features` holds the inputs by name (others are ignored). A row that the model cannot score (a null or a
        category it does not take, an infinite number) gets NaN and null; NaN and infinities that the model itself
        answers are left in place. FeaturesError names a missing input or one of the wrong type.
        """
        inputs, bad = self._inputs(features)
        return self._name(self._answer(inputs), bad)

    def reasons(self, features: pl.DataFrame, n: int) -> pl.Series:
        """Per row up to `n` structs of `feature` and `effect`, the largest effect first, ties in signature order.

        An effect is how far this score moves when the feature takes the place of its reference value (the
        registration sample's median or most frequent value) while all others stay: score as it is, less score with
        the reference. It is in log-odds for classes (of the positive class; of the label, where there are several),
        in the value's own unit for regression, in the anomaly score for anomalies. For linear models this is weight
        times difference, summed over the columns that a feature became, and is exact. Features without effect are
        left out; a row that cannot be scored has no reasons.
        """
        inputs, bad = self._inputs(features)
        effects = self._linear_effects(inputs) if self.linear else self._effects(inputs)
        effects[bad] = 0.0
        return self._list(effects, n)

    def _inputs(self, features: pl.DataFrame) -> tuple[Inputs, NDArray[np.bool_]]:
        inputs = self._layout.inputs(features)
        bad = self._layout.unscorable(inputs)
        return self._layout.settle(inputs, bad), bad

    def _answer(self, inputs: Inputs) -> Answer:
        if inputs.height:
            return self.runtime.run(inputs)
        width = (0, len(self.signature.classes)) if self.signature.classes else (0,)
        return Answer(np.empty(width))

    def _name(self, answer: Answer, bad: NDArray[np.bool_]) -> pl.DataFrame:
        values = answer.values
        if bad.any():
            values = values.copy()
            values[bad] = np.nan
        if self.signature.task is Task.REGRESSION:
            return pl.DataFrame({"value": values})
        if self.signature.task is Task.ANOMALY:
            anomalous = pl.Series("is_anomaly", values < 0).set(pl.Series(~np.isfinite(values)), None)
            return pl.DataFrame({"anomaly_score": -(values + self.offset), "is_anomaly": anomalous})
        codes = answer.labels()
        confidence = values[np.arange(len(values)), codes]
        labels = self._labels(codes, np.asarray(~np.isfinite(values).all(axis=1), dtype=np.bool_))
        if self.signature.task is Task.BINARY:
            positive = np.ascontiguousarray(values[:, self.signature.positive_index])
            return pl.DataFrame({"probability": positive, "label": labels, "confidence": confidence})
        each = {name: np.ascontiguousarray(values[:, at]) for at, name in enumerate(self.signature.probability_names)}
        return pl.DataFrame({"label": labels, "confidence": confidence, **each})

    def _labels(self, codes: NDArray[np.intp], unknown: NDArray[np.bool_]) -> pl.Series:
        classes = self.signature.classes
        if self.signature.label_type is not FieldType.TEXT:
            labels = pl.Series("label", np.array(classes)[codes])
        elif len(codes) == 1:
            labels = pl.Series("label", [str(classes[codes[0]])])
        else:
            labels = pl.Series("label", [str(each) for each in classes]).gather(codes.astype(np.uint32))
        return labels.set(pl.Series(unknown), None) if unknown.any() else labels

    def _margin(self, answer: Answer, codes: NDArray[np.intp]) -> NDArray[np.float64]:
        """The scale on which effects are told."""
        if self.signature.task is Task.REGRESSION:
            return answer.values
        if self.signature.task is Task.ANOMALY:
            return -answer.values
        chosen = np.clip(answer.values[np.arange(len(codes)), codes], EDGE, 1.0 - EDGE)
        odds: NDArray[np.float64] = np.log(chosen / (1.0 - chosen))
        return odds

    def _watched(self, answer: Answer) -> NDArray[np.intp]:
        """The class whose probability is explained, per row."""
        if self.signature.task is Task.BINARY:
            return np.full(len(answer.values), self.signature.positive_index)
        return answer.labels() if self.signature.task is Task.MULTICLASS else np.zeros(len(answer.values), np.intp)

    def _effects(self, inputs: Inputs) -> NDArray[np.float64]:
        """(rows, inputs): the margin as it is, less the margin with each input at its reference, others kept."""
        answer = self._answer(inputs)
        watched = self._watched(answer)
        margin = self._margin(answer, watched)
        effects = np.zeros((inputs.height, len(self.signature.inputs)))
        for at, (place, each) in enumerate(zip(self._layout.places, self.signature.inputs, strict=True)):
            rows = self._moved(inputs, at)
            for start in range(0, len(rows), STACKED_ROWS):
                part = rows[start : start + STACKED_ROWS]
                swapped = self._answer(inputs.take(part).replace(place, each.reference))
                effects[part, at] = margin[part] - self._margin(swapped, watched[part])
        return effects

    def _moved(self, inputs: Inputs, at: int) -> NDArray[np.intp]:
        """The rows whose value of an input is not its reference: only these can have an effect."""
        place = self._layout.places[at]
        if place.text:
            same = inputs.texts[place.at].eq_missing(self._reference.texts[place.at][0]).to_numpy()
        else:
            same = inputs.numbers[:, place.at] == self._reference.numbers[0, place.at]
        return np.flatnonzero(~same)

    def _linear_effects(self, inputs: Inputs) -> NDArray[np.float64]:
        assert self.linear is not None
        plan = self.linear.plan
        moved = (plan.matrix(inputs) - plan.matrix(self._reference)) * (self.linear.weights * self.linear.sign)
        effects = np.zeros((inputs.height, len(self.signature.inputs)))
        order = {place: at for at, place in enumerate(self._layout.places)}
        for at, column in enumerate(plan.columns):
            effects[:, order[column.place]] += moved[:, at]
        return effects

    def _list(self, effects: NDArray[np.float64], n: int) -> pl.Series:
        names = np.array([each.name for each in self.signature.inputs], dtype=object)
        effects = np.where(np.isfinite(effects), effects, 0.0)
        count = min(n, effects.shape[1])
        order = np.argsort(-np.abs(effects), axis=1, kind="stable")[:, :count]
        chosen = np.take_along_axis(effects, order, axis=1)
        flat = pl.DataFrame(
            {
                "row": np.repeat(np.arange(len(effects)), count),
                "feature": pl.Series(names).gather(order.reshape(-1)) if count else pl.Series([], dtype=pl.String),
                "effect": chosen.reshape(-1),
            },
            schema_overrides={"feature": pl.String()},
        )
        listed = (
            flat.filter(pl.col("effect") != 0.0)
            .group_by("row", maintain_order=True)
            .agg(pl.struct("feature", "effect").alias("reasons"))
        )
        rows = pl.DataFrame({"row": np.arange(len(effects))})
        joined = rows.join(listed, on="row", how="left", maintain_order="left").get_column("reasons")
        if not len(joined):
            return pl.Series("reasons", [], REASON)
        return joined.fill_null(pl.lit([], dtype=REASON)).cast(REASON).rechunk()


def _column_type(each: InputField) -> pl.DataType:
    kinds: Mapping[FieldType, pl.DataType] = {FieldType.TEXT: pl.String(), FieldType.BOOLEAN: pl.Boolean()}
    return kinds.get(each.type, pl.Float64())


def open_scorer(parts: Mapping[str, bytes], *, cuda: bool = False) -> Scorer:
    """A scorer from the parts of an artefact whose digest was found right."""
    manifest: dict[str, Any] = json.loads(parts["manifest.json"])
    signature = Signature.from_json(manifest["signature"])
    way = Way(manifest["way"])
    plan = Plan.from_bytes(parts["plan.json"]) if "plan.json" in parts else None
    runtime = _open_runtime(manifest, parts, signature, plan, cuda=cuda)
    linear = None
    if manifest["linear"] is not None and plan is not None:
        sign = -1.0 if signature.task is Task.BINARY and signature.positive_index == 0 else 1.0
        linear = Linear(plan, np.array(manifest["linear"]), sign)
    return Scorer(signature, runtime, manifest["offset"] or 0.0, linear, way)


def _open_runtime(
    manifest: Mapping[str, Any], parts: Mapping[str, bytes], signature: Signature, plan: Plan | None, *, cuda: bool
) -> Runtime:
    task, fields = signature.task, signature.inputs
    if manifest["runtime"] == "onnx":
        from hub.models.runtimes.onnx import Given, Wiring, open_session

        session = open_session(parts["model.onnx"], cuda=cuda)
        return Given(session, Wiring.from_json(manifest["wiring"]), fields, task, signature.classes)
    if plan is not None and "graph.onnx" in parts:
        from hub.models.runtimes.onnx import Converted

        return Converted.of(plan, parts["graph.onnx"], task, cuda=cuda)
    from hub.models.runtimes import sklearn as stored
    from hub.models.runtimes.native import Native

    estimator = stored.load(parts["model.skops"])
    if plan is None:
        native = Native.from_json(manifest["native"])
        return stored.AsIs(estimator, native, fields, task, manifest["by_predict"])
    from hub.models.runtimes.preprocessing import compile_pipeline

    _, rest = compile_pipeline(estimator, fields)
    stored.strip_names(rest)
    return stored.Behind(plan, rest, task, manifest["by_predict"])
