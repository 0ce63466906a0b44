"""What a proof takes and gives, and the way to it: in this process for estimators, in one of its own for files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from hub.models.artefact import sniff
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


def prove(model: Any, sample: Any, wish: Wish) -> Proven:
    """Proves a fitted estimator, or the bytes of a file. ModelRefusedError and SampleError say what to change."""
    if isinstance(model, bytes):
        kind = sniff(model)
        from hub.models.proving.files import prove_file

        return prove_file(kind, model, sample, wish)
    from hub.models.proving.estimators import prove_estimator

    return prove_estimator(model, sample, wish)


def measure(proven: Proven, sample: Any, truth: Any) -> dict[str, float]:
    """The usual measures on the sample, where its truth is given: how good the model is on rows it may have seen."""
    if truth is None:
        return {}
    from sklearn import metrics

    from hub.models.runtimes.native import to_polars
    from hub.models.scorer import open_scorer

    answer = open_scorer(proven.parts).predict(to_polars(sample))
    known = np.asarray(truth.to_list() if hasattr(truth, "to_list") else list(truth))
    if len(known) != answer.height:
        raise SampleError(f"the target has {len(known)} values, the sample {answer.height} rows")
    task = proven.signature.task
    if task is Task.REGRESSION:
        value = answer["value"].to_numpy()
        return {
            "mean_absolute_error": float(metrics.mean_absolute_error(known, value)),
            "r2": float(metrics.r2_score(known, value)),
        }
    if task is Task.ANOMALY:
        return {}
    labels = np.array(answer["label"].to_list())
    found = {"accuracy": float((labels == known).mean())}
    if task is Task.BINARY:
        positive = known == proven.signature.positive
        probability = answer["probability"].to_numpy()
        found["brier"] = float(np.mean((probability - positive) ** 2))
        if 0 < positive.sum() < len(positive):
            found["roc_auc"] = float(metrics.roc_auc_score(positive, probability))
    return found
