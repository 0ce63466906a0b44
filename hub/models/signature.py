"""What a model takes: drawn from the registration sample, and held against every frame that is to be scored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from hub.models.types import FeaturesError, InputField, Reference, SampleError
from hub.sdk import FieldType

LARGEST: Final = float(np.finfo(np.float32).max)
"""Beyond this scikit-learn's trees refuse a number, so the hub does for every model: such a row is invalid."""

MAX_CATEGORIES: Final = 10_000
FEW: Final = 64
"""Up to so many rows a dictionary finds categories faster than polars does."""


@dataclass(frozen=True)
class Inputs:
    """Features in signature order: numbers and booleans as one float64 matrix (NaN is null), texts as String series."""

    numbers: NDArray[np.float64]
    texts: tuple[pl.Series, ...]

    @property
    def height(self) -> int:
        return int(self.numbers.shape[0])

    def take(self, rows: NDArray[np.intp]) -> Inputs:
        """These rows, in this order."""
        return Inputs(self.numbers[rows], tuple(each.gather(rows) for each in self.texts))

    def replace(self, place: Place, value: Reference) -> Inputs:
        """The same rows with one input set to one value (None: null)."""
        if place.text:
            filled = pl.repeat(value, self.height, dtype=pl.String, eager=True)
            return Inputs(self.numbers, (*self.texts[: place.at], filled, *self.texts[place.at + 1 :]))
        numbers = self.numbers.copy()
        numbers[:, place.at] = np.nan if value is None else float(value)
        return Inputs(numbers, self.texts)

    @staticmethod
    def stack(parts: Sequence[Inputs]) -> Inputs:
        """All rows, one part after the other."""
        texts = zip(*(each.texts for each in parts), strict=True)
        return Inputs(np.concatenate([each.numbers for each in parts]), tuple(pl.concat(list(each)) for each in texts))


@dataclass(frozen=True, slots=True)
class Place:
    """Where an input stands in `Inputs`: which text, or which column of the numbers."""

    text: bool
    at: int


def places(fields: Sequence[InputField]) -> tuple[Place, ...]:
    """The place of each input, in signature order."""
    found: list[Place] = []
    counts = {True: 0, False: 0}
    for each in fields:
        text = each.type is FieldType.TEXT
        found.append(Place(text, counts[text]))
        counts[text] += 1
    return tuple(found)


class Domain:
    """A list of known texts, and where in it the texts of a column stand."""

    def __init__(self, texts: Sequence[str]) -> None:
        self.count = len(texts)
        self._order: dict[str | None, int] = {each: at for at, each in enumerate(texts)}
        self._order[None] = self.count
        self._enum = pl.Enum(texts)

    def codes(self, series: pl.Series) -> NDArray[np.intp]:
        """The position of each text in the list; `count` for a null, `count` + 1 for what is not in it."""
        if len(series) <= FEW:
            get, unknown = self._order.get, self.count + 1
            return np.array([get(each, unknown) for each in series.to_list()], dtype=np.intp)
        found = series.cast(self._enum, strict=False).to_physical().to_numpy()
        if found.dtype.kind == "u":
            return found.astype(np.intp)
        known = ~np.isnan(found)
        codes = np.full(len(found), self.count + 1, dtype=np.intp)
        codes[known] = found[known].astype(np.intp)
        if series.null_count():
            codes[series.is_null().to_numpy()] = self.count
        return codes


class Layout:
    """A signature's inputs made ready to receive frames: built once per model, shared by threads."""

    def __init__(self, fields: Sequence[InputField]) -> None:
        self.fields = tuple(fields)
        self.places = places(fields)
        pairs = list(zip(self.places, self.fields, strict=True))
        self._width = sum(not place.text for place in self.places)
        self._strict = [place.at for place, each in pairs if not place.text and not each.nullable]
        self._required = [place.at for place, each in pairs if place.text and not each.nullable]
        self._closed = [(place.at, Domain(each.categories)) for place, each in pairs if place.text and each.closed]

    def inputs(self, frame: pl.DataFrame) -> Inputs:
        """A frame's columns cast as the signature says. FeaturesError names what is missing or of a wrong type."""
        present = set(frame.columns)
        if missing := [each.name for each in self.fields if each.name not in present]:
            raise FeaturesError(f"the features lack {_listed(missing)}, which the model takes as input")
        numbers = np.empty((frame.height, self._width), np.float64, order="F")
        texts: list[pl.Series] = []
        for place, each in zip(self.places, self.fields, strict=True):
            series = frame.get_column(each.name)
            if place.text:
                texts.append(_text(series, each))
            else:
                numbers[:, place.at] = _number(series, each).to_numpy()
        return Inputs(numbers, tuple(texts))

    def unscorable(self, inputs: Inputs) -> NDArray[np.bool_]:
        """Rows the model cannot score: null where it takes none, a value outside a closed list, a number too large."""
        with np.errstate(invalid="ignore"):
            bad = np.asarray((np.abs(inputs.numbers) > LARGEST).any(axis=1), dtype=np.bool_)
        if self._strict:
            bad |= np.isnan(inputs.numbers[:, self._strict]).any(axis=1)
        for at in self._required:
            if inputs.texts[at].null_count():
                bad |= inputs.texts[at].is_null().to_numpy()
        for at, domain in self._closed:
            bad |= domain.codes(inputs.texts[at]) > domain.count
        return bad

    def settle(self, inputs: Inputs, bad: NDArray[np.bool_]) -> Inputs:
        """The same rows, bad ones replaced by the reference row, so that the good ones are scored in one go."""
        if not bad.any():
            return inputs
        numbers = inputs.numbers.copy()
        texts = list(inputs.texts)
        mask = pl.Series(bad)
        for place, each in zip(self.places, self.fields, strict=True):
            if place.text:
                filler = pl.repeat(each.reference, inputs.height, dtype=pl.String, eager=True)
                texts[place.at] = filler.zip_with(mask, texts[place.at])
            else:
                numbers[bad, place.at] = np.nan if each.reference is None else float(each.reference)
        return Inputs(numbers, tuple(texts))


def _text(series: pl.Series, field: InputField) -> pl.Series:
    if series.dtype == pl.String:
        return series
    if isinstance(series.dtype, pl.Categorical | pl.Enum | pl.Null):
        return series.cast(pl.String)
    raise FeaturesError(f"input {field.name} is text, but the feature is {series.dtype}: cast it to text")


def _number(series: pl.Series, field: InputField) -> pl.Series:
    if series.dtype == pl.Float64:
        return series
    if series.dtype.is_numeric() or isinstance(series.dtype, pl.Boolean | pl.Null):
        return series.cast(pl.Float64)
    raise FeaturesError(f"input {field.name} is {field.type}, but the feature is {series.dtype}: cast it to a number")


def infer_fields(sample: pl.DataFrame, names: Sequence[str]) -> tuple[InputField, ...]:
    """The inputs as a sample shows them: type, range, categories, reference value; null-taking is as yet unknown."""
    if missing := [each for each in names if each not in sample.columns]:
        raise SampleError(f"the sample lacks {_listed(missing)}, which the model was fitted on")
    if sample.height == 0:
        raise SampleError("the sample is empty: give some rows that the model was fitted on")
    return tuple(_infer_field(sample.get_column(name)) for name in names)


def _infer_field(series: pl.Series) -> InputField:
    values = series.drop_nulls()
    if values.dtype.is_float():
        values = values.drop_nans()
    if values.is_empty():
        raise SampleError(f"column {series.name} of the sample is empty: give rows in which it has values")
    nullable = len(values) < len(series)
    if values.dtype == pl.Boolean:
        return InputField(series.name, FieldType.BOOLEAN, nullable, reference=bool(_mode(values)))
    if values.dtype.is_numeric():
        integer = values.dtype.is_integer()
        number = values.cast(pl.Float64)
        # The lower median is a value that was seen, and an integer where all are.
        middle: Any = number.quantile(0.5, "lower")
        low, high = number.min(), number.max()
        assert isinstance(low, float)
        assert isinstance(high, float)
        kind = FieldType.INTEGER if integer else FieldType.REAL
        return InputField(series.name, kind, nullable, low, high, reference=int(middle) if integer else float(middle))
    if isinstance(values.dtype, pl.String | pl.Categorical | pl.Enum):
        texts = values.cast(pl.String)
        seen = tuple(texts.unique().sort().head(MAX_CATEGORIES).to_list())
        return InputField(series.name, FieldType.TEXT, nullable, categories=seen, reference=str(_mode(texts)))
    raise SampleError(
        f"column {series.name} of the sample is {series.dtype}: a model takes numbers, text and booleans; "
        "turn it into one of these before fitting"
    )


def _mode(values: pl.Series) -> Any:
    counts = values.value_counts(name="n").sort(["n", values.name], descending=[True, False])
    return counts.get_column(values.name)[0]


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:10])
    return f"{shown} and {len(names) - 10} more" if len(names) > 10 else shown
