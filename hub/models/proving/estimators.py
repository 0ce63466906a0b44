"""Proof at registration: which way of computing a model equals the fitted estimator on the user's own rows."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from hub.models.proving import facts
from hub.models.proving.agreement import difference, positive_class
from hub.models.proving.proof import Proven, Wish
from hub.models.proving.rows import UNKNOWN, pull_back, verification_rows
from hub.models.runtimes.answer import Answer, Runtime, ask
from hub.models.runtimes.native import Native, Sample
from hub.models.signature import Inputs, Layout, Place, infer_fields, places
from hub.models.types import InputField, ModelRefusedError, SampleError, Signature, Task, Way

PROBED_ROWS = 20


@dataclass(frozen=True)
class _Case:
    """A fitted estimator, how it is asked, and what is known of its inputs so far."""

    estimator: Any
    native: Native
    task: Task
    fields: tuple[InputField, ...]
    by_predict: bool = False

    def truth(self, inputs: Inputs) -> Answer:
        """What every way is held against."""
        frame = self.native.build(inputs, self.fields)
        return ask(self.estimator, frame, self.task, by_predict=self.by_predict)


def prove_estimator(estimator: Any, sample: Sample, wish: Wish) -> Proven:
    """Stores a fitted estimator and finds its best proven way. ModelRefusedError and SampleError say what to change."""
    estimator = getattr(estimator, "best_estimator_", estimator)
    facts.check_fitted(estimator)
    task = facts.find_task(estimator, wish.task)
    names = facts.input_names(estimator, sample.frame)
    fields = infer_fields(sample.frame, names)
    positions = [sample.frame.get_column_index(each) for each in names]
    native = sample.native.select(positions, named=hasattr(estimator, "feature_names_in_"))
    # Estimators warn of what is probed on purpose: unknown categories, columns without names.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        inputs = Layout(fields).inputs(sample.frame)
        case = _question(_Case(estimator, native, task, fields), inputs)
        if sample.given is not None and native.kind != "numpy":
            _check_frames(case, sample.given[names], inputs)
        return _prove(case, inputs, wish)


def _check_frames(case: _Case, given: Any, inputs: Inputs) -> None:
    """The frame built for the estimator must mean to it what the one handed in does."""
    direct = ask(case.estimator, given, case.task, by_predict=case.by_predict)
    largest, agrees = difference(direct, case.truth(inputs), case.task, 1e-9)
    if not agrees:
        raise SampleError(
            f"the model scores the sample differently by {largest:.3g} once its columns are plain numbers and texts: "
            "give numbers as float64 and texts as str, and fit the model on these"
        )


def _question(case: _Case, sample: Inputs) -> _Case:
    """Finds out, by asking, which inputs may be null or never seen, and how labels are chosen."""
    few = sample.take(np.arange(min(sample.height, PROBED_ROWS)))
    try:
        case.truth(few)
    except Exception as error:
        raise SampleError(f"the model cannot score the sample ({type(error).__name__}): {error}") from error
    found = []
    for place, each in zip(places(case.fields), case.fields, strict=True):
        nullable = each.nullable or _scores(case, few.replace(place, None))
        closed = place.text and not _scores(case, few.replace(place, UNKNOWN))
        found.append(replace(each, nullable=nullable, closed=closed))
    case = replace(case, fields=tuple(found))
    if case.task not in {Task.BINARY, Task.MULTICLASS}:
        return case
    answer = replace(case, by_predict=True).truth(sample)
    return replace(case, by_predict=bool((answer.labels() != answer.values.argmax(axis=1)).any()))


def _scores(case: _Case, inputs: Inputs) -> bool:
    try:
        return bool(np.isfinite(case.truth(inputs).values).all())
    except Exception:  # noqa: BLE001  (any refusal is the answer)
        return False


def _prove(case: _Case, sample: Inputs, wish: Wish) -> Proven:
    from hub.models.runtimes import sklearn as stored

    content = stored.dump(case.estimator)
    loaded = stored.load(content)
    tried: dict[str, str] = {}
    candidates = _candidates(case, content, tried)
    as_is = stored.AsIs(loaded, case.native, case.fields, case.task, case.by_predict)
    layout = Layout(case.fields)
    rows = verification_rows(sample, case.fields, candidates[0].splits if candidates else [])
    rows = layout.settle(rows, layout.unscorable(rows))
    expected = case.truth(rows)
    if not np.isfinite(expected.values).any():
        raise SampleError("the model answers no number on any row of the sample")
    for each in [*candidates, Candidate(Way.AS_IS, as_is, {}, [])]:
        largest, why_not = _compare(each.runtime, rows, expected, case.task, wish.tolerance)
        if not why_not:
            signature = _signature(case, wish)
            manifest = {
                "format": 1,
                "runtime": "sklearn",
                "way": each.way.value,
                "signature": signature.to_json(),
                "native": case.native.to_json(),
                "by_predict": case.by_predict,
                "offset": _offset(case),
                "linear": facts.linear_weights(loaded, each.parts, case.task),
            }
            parts = {"manifest.json": json.dumps(manifest).encode(), "model.skops": content, **each.parts}
            return Proven(parts, signature, "sklearn", each.way, largest, rows.height, tried, {})
        tried[each.way.value] = why_not
    raise ModelRefusedError(
        f"the model read back from its file {tried[Way.AS_IS.value]}: fit it with the installed scikit-learn"
    )


def _signature(case: _Case, wish: Wish) -> Signature:
    classifies = case.task in {Task.BINARY, Task.MULTICLASS}
    classes = facts.plain_classes(case.estimator) if classifies else ()
    return Signature(case.task, case.fields, classes, positive_class(classes, case.task, wish.positive))


def _offset(case: _Case) -> float | None:
    """What scikit-learn takes off its anomaly score to get the decision."""
    if case.task is not Task.ANOMALY:
        return None
    return float(np.ravel(getattr(facts.last_step(case.estimator), "offset_", 0.0))[0])


def _compare(runtime: Runtime, rows: Inputs, expected: Answer, task: Task, tolerance: float) -> tuple[float, str]:
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


def _candidates(case: _Case, content: bytes, tried: dict[str, str]) -> list[Candidate]:
    """The faster ways there are, fastest first; `tried` is told why there are no others."""
    from hub.models.runtimes import sklearn as stored
    from hub.models.runtimes.convert import InconvertibleError, thresholds, to_graph
    from hub.models.runtimes.onnx import Converted
    from hub.models.runtimes.preprocessing import UnreadableError, compile_pipeline

    if case.native.single:
        tried[Way.COLUMNS.value] = "the sample has 32-bit numbers, in which scikit-learn computes and columns do not"
        return []
    try:
        # From a copy of its own, since names are taken off what stands behind the columns.
        plan, rest = compile_pipeline(stored.load(content), case.fields)
    except UnreadableError as error:
        tried[Way.COLUMNS.value] = f"no reading as columns: {error}"
        return []
    stored.strip_names(rest)
    splits = pull_back(plan, thresholds(rest))
    parts = {"plan.json": plan.to_bytes()}
    behind = Candidate(Way.COLUMNS, stored.Behind(plan, rest, case.task, case.by_predict), parts, splits)
    if case.by_predict:
        tried[Way.ONNX.value] = "the estimator chooses labels otherwise than by the highest probability"
        return [behind]
    try:
        graph = to_graph(rest, case.task, len(plan.columns))
        runtime = Converted.of(plan, graph, case.task)
    except InconvertibleError as error:
        tried[Way.ONNX.value] = f"no graph: {error}"
        return [behind]
    except Exception as error:  # noqa: BLE001  (ONNX Runtime refuses a graph with errors of its own; kept)
        tried[Way.ONNX.value] = f"the graph does not open: {type(error).__name__}"
        return [behind]
    return [Candidate(Way.ONNX, runtime, {**parts, "graph.onnx": graph}, splits), behind]
