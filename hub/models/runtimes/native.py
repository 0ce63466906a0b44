"""Frames as the fitted estimator knows them: the library, types and null markers of the registration sample."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, Self

import numpy as np
import polars as pl

from hub.models.signature import Inputs, places
from hub.models.types import InputField, SampleError
from hub.sdk import FieldType

Kind = Literal["pandas", "polars", "numpy"]

_PANDAS_TEXT: Final = frozenset({"object", "str", "string"})


def is_pandas(sample: object) -> bool:
    """Whether this is a pandas frame, asked without importing pandas."""
    return type(sample).__module__.split(".")[0] == "pandas"


def to_polars(sample: Any) -> pl.DataFrame:
    """A registration sample as polars; SampleError names a column that holds a mixture."""
    if isinstance(sample, pl.DataFrame):
        return sample
    if isinstance(sample, np.ndarray) and sample.ndim == 2:
        return pl.DataFrame({f"x{at}": _from_array(sample[:, at], f"x{at}") for at in range(sample.shape[1])})
    if not is_pandas(sample) or not hasattr(sample, "columns"):
        raise SampleError(f"the sample is a {type(sample).__name__}: give a polars or pandas DataFrame")
    return pl.DataFrame({str(name): _from_array(_plain(sample[name]), str(name)) for name in sample.columns})


def _plain(series: Any) -> Any:
    """A pandas column as a numpy array, categories and nullable types resolved."""
    if hasattr(series, "cat"):
        series = series.astype(series.cat.categories.dtype if not series.isna().any() else object)
    if str(series.dtype) in {"Int64", "Int32", "Int16", "Int8", "Float64", "Float32"} and series.isna().any():
        return series.to_numpy(dtype=np.float64, na_value=np.nan)
    return series.to_numpy()


def _from_array(values: Any, name: str) -> pl.Series:
    if values.dtype != object:
        if values.dtype.kind == "f":
            return pl.Series(name, values).fill_nan(None)
        return pl.Series(name, values)
    plain = [None if _missing(each) else each for each in values]
    kinds = {type(each) for each in plain if each is not None}
    if kinds <= {bool, np.bool_}:
        return pl.Series(name, plain, dtype=pl.Boolean)
    if all(issubclass(each, str) for each in kinds):
        return pl.Series(name, plain, dtype=pl.String)
    if all(issubclass(each, int | np.integer) and each not in {bool, np.bool_} for each in kinds):
        return pl.Series(name, plain, dtype=pl.Int64)
    try:
        return pl.Series(name, [None if each is None else float(each) for each in plain], dtype=pl.Float64)
    except (TypeError, ValueError):
        listed = ", ".join(sorted(each.__name__ for each in kinds))
        raise SampleError(f"column {name} of the sample mixes {listed}: make it all numbers or all text") from None


def _missing(value: Any) -> bool:
    return (
        value is None or (isinstance(value, float) and value != value) or type(value).__name__ in {"NAType", "NaTType"}
    )


@dataclass(frozen=True)
class Sample:
    """A registration sample: as polars, how it was before, and itself where it was handed in by this process."""

    frame: pl.DataFrame
    native: Native
    given: Any = None

    @classmethod
    def of(cls, given: Any) -> Self:
        """From a polars or pandas frame, or a numpy matrix. SampleError names a column that holds a mixture."""
        return cls(to_polars(given), Native.describe(given), given)


@dataclass(frozen=True)
class Native:
    """How to build the estimator's own frame: its kind, and per input its type there and how it marks a null."""

    kind: Kind
    dtypes: tuple[str, ...]
    categories: tuple[tuple[str, ...], ...]
    none: tuple[bool, ...]

    @classmethod
    def describe(cls, sample: Any) -> Self:
        """What the columns of a sample are, all of them."""
        if isinstance(sample, pl.DataFrame):
            kinds = ("Enum" if isinstance(each, pl.Enum | pl.Categorical) else str(each) for each in sample.dtypes)
            listed = tuple(_polars_categories(each) for each in sample.get_columns())
            return cls("polars", tuple(kinds), listed, (True,) * sample.width)
        if not is_pandas(sample):
            frame = to_polars(sample)
            return cls("numpy", tuple(map(str, frame.dtypes)), ((),) * frame.width, (True,) * frame.width)
        columns = [sample[each] for each in sample.columns]
        return cls(
            "pandas",
            tuple(str(each.dtype) for each in columns),
            tuple(tuple(each.cat.categories.tolist()) if hasattr(each, "cat") else () for each in columns),
            tuple(str(each.dtype) == "object" and any(value is None for value in each) for each in columns),
        )

    def select(self, positions: Sequence[int], *, named: bool) -> Native:
        """These columns in this order; as a plain array where the estimator was fitted without names."""
        return Native(
            self.kind if named else "numpy",
            tuple(self.dtypes[at] for at in positions),
            tuple(self.categories[at] for at in positions),
            tuple(self.none[at] for at in positions),
        )

    @property
    def single(self) -> bool:
        """Whether some number came as a 32-bit float, in which scikit-learn then computes."""
        return any(each in {"float32", "Float32"} for each in self.dtypes)

    def build(self, inputs: Inputs, fields: Sequence[InputField]) -> Any:
        """The frame or array that the estimator takes, rows in order."""
        columns = [inputs.texts[place.at] if place.text else inputs.numbers[:, place.at] for place in places(fields)]
        if self.kind == "numpy":
            return self._array(columns, fields)
        if self.kind == "polars":
            return pl.DataFrame({field.name: self._polars(at, field, columns[at]) for at, field in enumerate(fields)})
        import pandas as pd

        return pd.DataFrame({field.name: self._pandas(at, field, columns[at]) for at, field in enumerate(fields)})

    def _array(self, columns: Sequence[Any], fields: Sequence[InputField]) -> Any:
        if any(each.type is FieldType.TEXT for each in fields):
            wide = np.empty((len(columns[0]), len(fields)), dtype=object)
            for at, column in enumerate(columns):
                wide[:, at] = column.to_list() if isinstance(column, pl.Series) else column
            return wide
        all_single = all(each.lower() == "float32" for each in self.dtypes)
        return np.column_stack(columns).astype(np.float32 if all_single else np.float64)

    def _polars(self, at: int, field: InputField, column: Any) -> pl.Series:
        if field.type is FieldType.TEXT:
            if self.dtypes[at] == "Enum":
                return column.cast(pl.Enum(self.categories[at]), strict=False)  # type: ignore[no-any-return]
            return column  # type: ignore[no-any-return]
        series = pl.Series(field.name, column).fill_nan(None)
        if field.type is FieldType.BOOLEAN:
            return series.cast(pl.Boolean)
        return series.cast(pl.Float32) if self.dtypes[at] == "Float32" else series

    def _pandas(self, at: int, field: InputField, column: Any) -> Any:
        import pandas as pd

        dtype = self.dtypes[at]
        if dtype == "category":
            values = column.to_list() if field.type is FieldType.TEXT else column
            return pd.Categorical(values, categories=list(self.categories[at]))
        if field.type is FieldType.TEXT:
            values = np.array(column.to_list(), dtype=object)
            if dtype == "object":
                if not self.none[at]:
                    values[[each is None for each in values]] = np.nan
                # pandas makes its own string type of objects unless told not to.
                return pd.Series(values, dtype=object)
            return pd.array(values, dtype=dtype if dtype in _PANDAS_TEXT else "str")
        if field.type is FieldType.BOOLEAN:
            null = np.isnan(column)
            if not null.any():
                return column.astype(bool)
            flags = column.astype(bool).astype(object)
            flags[null] = None if self.none[at] else np.nan
            return pd.Series(flags, dtype=object)
        return column.astype(np.float32) if dtype == "float32" else np.ascontiguousarray(column)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "kind": self.kind,
            "dtypes": list(self.dtypes),
            "categories": [list(each) for each in self.categories],
            "none": list(self.none),
        }

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`."""
        return cls(raw["kind"], tuple(raw["dtypes"]), tuple(map(tuple, raw["categories"])), tuple(raw["none"]))


def _polars_categories(series: pl.Series) -> tuple[str, ...]:
    if isinstance(series.dtype, pl.Enum):
        return tuple(series.dtype.categories.to_list())
    return (
        tuple(series.drop_nulls().cast(pl.String).unique().sort()) if isinstance(series.dtype, pl.Categorical) else ()
    )
