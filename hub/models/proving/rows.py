"""The rows on which a way of computing a model must prove itself, the awkward ones made on purpose."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from hub.models.runtimes.columns import Number, Plan
from hub.models.signature import Inputs, Place, places
from hub.models.types import InputField

MAX_SAMPLE: Final = 50_000
MAX_SPLITS: Final = 4_000
MIXED: Final = 2_000
EACH: Final = 20
UNKNOWN: Final = "\u2205 never seen"

_INVERSES: Final[Mapping[str, Callable[[float, float], float]]] = {
    "sub": lambda value, by: value + by,
    "add": lambda value, by: value - by,
    "mul": lambda value, by: value / by if by else value,
    "div": lambda value, by: value * by,
    "fill": lambda value, _: value,
    "log1p": lambda value, _: float(np.expm1(value)),
    "log": lambda value, _: float(np.exp(value)),
    "sqrt": lambda value, _: value * value,
}


def pull_back(plan: Plan, splits: Iterable[tuple[int, float]]) -> list[tuple[Place, float]]:
    """Split thresholds on plan columns as values of the inputs behind them, each once; at most a few thousand."""
    found: set[tuple[Place, float]] = set()
    for at, value in splits:
        column = plan.columns[at] if at < len(plan.columns) else None
        if not isinstance(column, Number) or any(name not in _INVERSES for name, _ in column.steps):
            continue
        with np.errstate(all="ignore"):
            for name, by in reversed(column.steps):
                value = _INVERSES[name](value, by)
        if np.isfinite(value):
            found.add((column.place, value))
    listed = sorted(found, key=lambda each: (each[0].at, each[1]))
    if len(listed) <= MAX_SPLITS:
        return listed
    return [listed[at] for at in np.linspace(0, len(listed) - 1, MAX_SPLITS).astype(int)]


def around(value: float) -> list[float]:
    """A threshold, its neighbours in 64 and in 32 bits: where a rounding falls on the other side."""
    narrow = np.float32(value)
    return [
        value,
        float(np.nextafter(value, np.inf)),
        float(np.nextafter(value, -np.inf)),
        float(narrow),
        float(np.nextafter(narrow, np.float32(np.inf))),
        float(np.nextafter(narrow, np.float32(-np.inf))),
    ]


def verification_rows(sample: Inputs, fields: Sequence[InputField], splits: Sequence[tuple[Place, float]]) -> Inputs:
    """The sample; its values mixed anew; values on and beside every split; extremes, nulls and unknown categories."""
    seeded = np.random.default_rng(0)
    kept = sample.take(np.arange(min(sample.height, MAX_SAMPLE)))
    parts = [kept, _mixed(kept, seeded)]
    if splits:
        parts.append(_on_splits(kept, splits, seeded))
    few = kept.take(seeded.integers(0, kept.height, EACH).astype(np.intp))
    for place, each in zip(places(fields), fields, strict=True):
        if each.nullable:
            parts.append(few.replace(place, None))
        if place.text:
            parts += [few.replace(place, text) for text in (UNKNOWN, "") if not each.closed]
        elif each.minimum is not None and each.maximum is not None:
            span = each.maximum - each.minimum
            beyond = (each.minimum, each.maximum, each.minimum - span, each.maximum + span, 0.0)
            parts += [few.replace(place, value) for value in beyond]
    return Inputs.stack(parts)


def _mixed(sample: Inputs, seeded: np.random.Generator) -> Inputs:
    def draw() -> NDArray[np.intp]:
        return seeded.integers(0, sample.height, MIXED).astype(np.intp)

    numbers = np.empty((MIXED, sample.numbers.shape[1]), order="F")
    for at in range(numbers.shape[1]):
        numbers[:, at] = sample.numbers[draw(), at]
    return Inputs(numbers, tuple(each.gather(pl.Series(draw())) for each in sample.texts))


def _on_splits(sample: Inputs, splits: Sequence[tuple[Place, float]], seeded: np.random.Generator) -> Inputs:
    pairs = [(place.at, near) for place, value in splits for near in around(value)]
    rows = sample.take(seeded.integers(0, sample.height, len(pairs)).astype(np.intp))
    numbers = rows.numbers.copy()
    numbers[np.arange(len(pairs)), [at for at, _ in pairs]] = [value for _, value in pairs]
    return Inputs(numbers, rows.texts)
