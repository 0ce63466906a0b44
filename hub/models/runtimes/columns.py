"""Preprocessing as look-ups and column operations: numbers in vector arithmetic, categories as rows of a table."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from hub.models.signature import Domain, Inputs, Place

Floats: TypeAlias = NDArray[np.float64]
Step: TypeAlias = tuple[str, float]

UFUNCS: Final[Mapping[str, Callable[[Floats], Floats]]] = {
    name: getattr(np, name)
    for name in ("log", "log1p", "log2", "log10", "sqrt", "cbrt", "exp", "expm1", "abs", "square", "tanh")
}


_STEPS: Final[Mapping[str, Callable[[Floats, Any], Floats]]] = {
    "fill": lambda values, by: np.where(np.isnan(values), by, values),
    "sub": np.subtract,
    "add": np.add,
    "mul": np.multiply,
    "div": np.divide,
    "min": np.minimum,
    "max": np.maximum,
    "null": lambda values, _: np.isnan(values).astype(np.float64),
    "above": lambda values, by: (values > by).astype(np.float64),
}


def apply_step(values: Floats, name: str, by: Any) -> Floats:
    """One arithmetic step of scikit-learn on columns; `by` is a number, or one per column."""
    if name in UFUNCS:
        with np.errstate(all="ignore"):
            return UFUNCS[name](values)
    return _STEPS[name](values, by)


@dataclass(frozen=True)
class Number:
    """A column that is arithmetic over one number."""

    place: Place
    steps: tuple[Step, ...] = ()

    def then(self, *steps: Step) -> Number:
        """The same column, further transformed."""
        return Number(self.place, self.steps + steps)


@dataclass(frozen=True)
class Lookup:
    """A column whose value depends on which category a cell holds: one value per category, then null, then unknown."""

    place: Place
    categories: tuple[Any, ...]
    values: tuple[float, ...]

    def then(self, *steps: Step) -> Lookup:
        """The same column, further transformed: its few values are, not its rows."""
        values = np.array(self.values, dtype=np.float64)
        for name, by in steps:
            values = apply_step(values, name, by)
        return Lookup(self.place, self.categories, tuple(values.tolist()))


@dataclass(frozen=True)
class Text:
    """A text column that no encoder has turned into numbers yet; `fill` replaces a null."""

    place: Place
    fill: str | None = None


Column: TypeAlias = Number | Lookup | Text


@dataclass(frozen=True)
class _Arithmetic:
    sources: NDArray[np.intp]
    names: tuple[str, ...]
    by: Floats
    targets: NDArray[np.intp] | slice


@dataclass(frozen=True)
class _Table:
    place: Place
    categories: tuple[Any, ...]
    domain: Domain | _Numbers
    table: Floats
    targets: NDArray[np.intp] | slice

    def codes(self, inputs: Inputs) -> NDArray[np.intp]:
        """Which row of the table each input row takes."""
        if isinstance(self.domain, Domain):
            return self.domain.codes(inputs.texts[self.place.at])
        return self.domain.codes(inputs.numbers[:, self.place.at])


class _Numbers:
    """A list of known numbers, as `Domain` is of texts."""

    def __init__(self, numbers: Sequence[float]) -> None:
        self._count = len(numbers)
        known = np.array(numbers, dtype=np.float64)
        self._order = np.argsort(known)
        self._sorted = known[self._order]

    def codes(self, values: Floats) -> NDArray[np.intp]:
        """The position of each number in the list; the count for NaN, one more for what is not in it."""
        at = np.minimum(np.searchsorted(self._sorted, values), self._count - 1)
        codes = np.where(self._sorted[at] == values, self._order[at], self._count + 1)
        codes[np.isnan(values)] = self._count
        return codes


@dataclass(frozen=True)
class Plan:
    """Columns grouped into as few array operations as they need; `columns` keeps what each of them is."""

    columns: tuple[Number | Lookup, ...]
    arithmetic: tuple[_Arithmetic, ...]
    tables: tuple[_Table, ...]

    @classmethod
    def of(cls, columns: Sequence[Number | Lookup]) -> Self:
        """Groups columns with the same steps, and columns that look up the same categories of the same input."""
        numbers: dict[tuple[str, ...], list[int]] = {}
        lookups: dict[tuple[Place, tuple[Any, ...]], list[int]] = {}
        for at, each in enumerate(columns):
            if isinstance(each, Number):
                numbers.setdefault(tuple(name for name, _ in each.steps), []).append(at)
            else:
                lookups.setdefault((each.place, each.categories), []).append(at)
        arithmetic = tuple(
            _Arithmetic(
                np.array([columns[at].place.at for at in targets], dtype=np.intp),
                names,
                np.array([[by for _, by in _steps(columns[at])] for at in targets], dtype=np.float64).T,
                _slice(targets),
            )
            for names, targets in numbers.items()
        )
        tables = tuple(
            _Table(
                place,
                categories,
                Domain(categories) if place.text else _Numbers(categories),
                np.array([_values(columns[at]) for at in targets], dtype=np.float64).T.copy(),
                _slice(targets),
            )
            for (place, categories), targets in lookups.items()
        )
        return cls(tuple(columns), arithmetic, tables)

    def matrix(self, inputs: Inputs) -> Floats:
        """What the pipeline's own transform gives on these rows: (rows, columns), float64, C order."""
        (whole,) = self.parts(inputs, max(inputs.height, 1))
        return whole

    def parts(self, inputs: Inputs, rows: int) -> Iterator[Floats]:
        """The matrix in parts of at most so many rows, at least one, each good until the next is asked for."""
        codes = [each.codes(inputs) for each in self.tables]
        out = np.empty((min(rows, inputs.height), len(self.columns)), dtype=np.float64)
        for at in range(0, max(inputs.height, 1), rows):
            numbers = inputs.numbers[at : at + rows]
            part = out[: len(numbers)]
            for group in self.arithmetic:
                block = numbers[:, group.sources]
                for name, by in zip(group.names, group.by, strict=True):
                    block = apply_step(block, name, by)
                part[:, group.targets] = block
            for each, taken in zip(self.tables, codes, strict=True):
                part[:, each.targets] = each.table.take(taken[at : at + rows], axis=0)
            yield part

    def to_bytes(self) -> bytes:
        """The plan as JSON; floats keep every bit."""
        described = [
            {"text": each.place.text, "at": each.place.at, "steps": [list(step) for step in each.steps]}
            if isinstance(each, Number)
            else {
                "text": each.place.text,
                "at": each.place.at,
                "lookup": _group(self.tables, each),
                "values": each.values,
            }
            for each in self.columns
        ]
        listed = [list(each.categories) for each in self.tables]
        return json.dumps({"columns": described, "categories": listed}).encode()

    @classmethod
    def from_bytes(cls, content: bytes) -> Self:
        """The inverse of `to_bytes`."""
        raw = json.load(io.BytesIO(content))
        categories = [tuple(each) for each in raw["categories"]]
        columns: list[Number | Lookup] = []
        for each in raw["columns"]:
            place = Place(each["text"], each["at"])
            if "steps" in each:
                columns.append(Number(place, tuple((name, by) for name, by in each["steps"])))
            else:
                columns.append(Lookup(place, categories[each["lookup"]], tuple(each["values"])))
        return cls.of(columns)


def _group(tables: Sequence[_Table], column: Lookup) -> int:
    return next(
        at for at, each in enumerate(tables) if each.place == column.place and each.categories == column.categories
    )


def _steps(column: Column) -> tuple[Step, ...]:
    assert isinstance(column, Number)
    return column.steps


def _values(column: Column) -> tuple[float, ...]:
    assert isinstance(column, Lookup)
    return column.values


def _slice(targets: Sequence[int]) -> slice | NDArray[np.intp]:
    first, last = targets[0], targets[-1]
    return slice(first, last + 1) if last - first + 1 == len(targets) else np.array(targets, dtype=np.intp)
