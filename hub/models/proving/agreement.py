"""When two answers are the same, and which class is the positive one; knows nothing of scikit-learn."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hub.models.runtimes.answer import Answer
from hub.models.types import Label, ModelRefusedError, Task


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
        gap = np.where(
            (expected == found) | (np.isnan(expected) & np.isnan(found)), 0.0, np.abs(expected - found) / scale
        )
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
    near: NDArray[np.bool_] = np.abs(truth.values[rows, one] - truth.values[rows, two]) <= tolerance
    return np.asarray(one == two) | near


def positive_class(classes: Sequence[Label], task: Task, stated: Label | None) -> Label | None:
    """Whose probability a binary model gives: the one stated, else the second in the estimator's order."""
    if task is not Task.BINARY:
        return None
    if stated is None:
        return classes[1]
    if stated not in classes:
        raise ModelRefusedError(f"the positive class is stated as {stated!r}, but the classes are {list(classes)}")
    return stated
