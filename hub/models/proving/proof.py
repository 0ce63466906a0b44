"""What a proof takes and gives, and the way to it: in this process for estimators, in one of its own for files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl

from hub.models.artefact import sniff
from hub.models.runtimes.native import Sample
from hub.models.types import Label, SampleError, Signature, Task, Way


@dataclass(frozen=True)
class Wish:
    """What the person who registers states; None is found out."""

    task: Task | None = None
    positive: Label | None = None
    tolerance: float = 1e-6


@dataclass(frozen=True)
class Proven:
    """A model ready to be stored: the parts of its artefact, and what the proof showed."""

    parts: Mapping[str, bytes]
    signature: Signature
    runtime: str
    way: Way
    largest_difference: float
    rows_compared: int
    tried: Mapping[str, str]
    measured: Mapping[str, float]


def prove(model: Any, given: Any, truth: Any, wish: Wish) -> Proven:
    """Proves a fitted estimator here, or the bytes of a file in a process of its own.

    `given` is the sample as it was handed in, `truth` the target's values or None. ModelRefusedError and SampleError
    say what to change.
    """
    sample = Sample.of(given)
    known = None if truth is None else pl.Series("truth", list(truth))
    if known is not None and len(known) != sample.frame.height:
        raise SampleError(f"the target has {len(known)} values, the sample {sample.frame.height} rows")
    if isinstance(model, bytes):
        sniff(model)
        from hub.models.proving.isolation import prove_apart

        return prove_apart(model, sample, known, wish)
    from hub.models.proving.estimators import prove_estimator

    return with_measures(prove_estimator(model, sample, wish), sample, known)


def prove_file(content: bytes, sample: Sample, truth: pl.Series | None, wish: Wish) -> Proven:
    """Parses and proves a file in this process, which must be one that may die."""
    if sniff(content) == "onnx":
        from hub.models.proving.graphs import prove_graph

        return with_measures(prove_graph(content, sample, wish), sample, truth)
    from hub.models.proving.estimators import prove_estimator
    from hub.models.runtimes.sklearn import load

    return with_measures(prove_estimator(load(content), sample, wish), sample, truth)


def with_measures(proven: Proven, sample: Sample, truth: pl.Series | None) -> Proven:
    """With the usual measures on the sample, where its truth is given: on rows that the model may have seen."""
    if truth is None or proven.signature.task is Task.ANOMALY:
        return proven
    from hub.models.scorer import open_scorer

    answer = open_scorer(proven.parts).predict(sample.frame)
    measured = _errors(answer, truth) if proven.signature.task is Task.REGRESSION else _hits(answer, truth, proven)
    return replace(proven, measured=measured)


def _errors(answer: pl.DataFrame, truth: pl.Series) -> dict[str, float]:
    known, found = truth.cast(pl.Float64).to_numpy(), answer["value"].to_numpy()
    spread = float(((known - known.mean()) ** 2).sum())
    error = {"mean_absolute_error": float(np.abs(known - found).mean())}
    return {**error, "r2": 1.0 - float(((known - found) ** 2).sum()) / spread} if spread else error


def _hits(answer: pl.DataFrame, truth: pl.Series, proven: Proven) -> dict[str, float]:
    from sklearn.metrics import roc_auc_score

    known = np.array(truth.to_list(), dtype=object)
    found = {"accuracy": float(np.mean([one == two for one, two in zip(answer["label"], known, strict=True)]))}
    if proven.signature.task is Task.BINARY:
        positive = known == proven.signature.positive
        probability = answer["probability"].to_numpy()
        found["brier"] = float(np.mean((probability - positive) ** 2))
        if 0 < positive.sum() < len(positive):
            found["roc_auc"] = float(roc_auc_score(positive.astype(int), probability))
    return {name: value for name, value in found.items() if np.isfinite(value)}
