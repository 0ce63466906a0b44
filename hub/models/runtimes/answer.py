"""The raw answer of every runtime, before it gets the names of a task's outputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from hub.models.signature import Inputs
from hub.models.types import Task


@dataclass(frozen=True)
class Answer:
    """One row per input row.

    `values` are class probabilities (rows, classes), a regression's values (rows,), or an anomaly model's decision
    (rows,), negative where anomalous. `codes` are the positions of the labels where the estimator chooses them
    otherwise than by the highest probability.
    """

    values: NDArray[np.float64]
    codes: NDArray[np.intp] | None = None

    def labels(self) -> NDArray[np.intp]:
        """The position of each row's label among the classes; of equal probabilities, the first."""
        return self.values.argmax(axis=1) if self.codes is None else self.codes


class Runtime(Protocol):
    """Computes a model; shared by threads."""

    def run(self, inputs: Inputs) -> Answer:
        """The answers to these rows, in order."""
        ...


def ask(estimator: Any, native: Any, task: Task, *, by_predict: bool = False) -> Answer:
    """What a fitted scikit-learn estimator says about its own kind of frame."""
    if task is Task.REGRESSION:
        return Answer(np.asarray(estimator.predict(native), dtype=np.float64).reshape(len(native)))
    if task is Task.ANOMALY:
        return Answer(np.asarray(estimator.decision_function(native), dtype=np.float64).reshape(len(native)))
    values = np.asarray(estimator.predict_proba(native), dtype=np.float64)
    if not by_predict:
        return Answer(values)
    order = {each: at for at, each in enumerate(estimator.classes_.tolist())}
    chosen = [order[each] for each in np.asarray(estimator.predict(native)).tolist()]
    return Answer(values, np.array(chosen, dtype=np.intp))
