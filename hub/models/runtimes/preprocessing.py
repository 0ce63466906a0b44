"""Fitted scikit-learn preprocessing read as columns; what cannot be read stays with the estimator behind it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
from sklearn.compose import ColumnTransformer
from sklearn.feature_selection import SelectorMixin
from sklearn.impute import MissingIndicator, SimpleImputer
from sklearn.pipeline import FeatureUnion, Pipeline
from sklearn.preprocessing import (
    Binarizer,
    FunctionTransformer,
    MaxAbsScaler,
    MinMaxScaler,
    OneHotEncoder,
    OrdinalEncoder,
    RobustScaler,
    StandardScaler,
    TargetEncoder,
)

from hub.models.runtimes.columns import UFUNCS, Column, Lookup, Number, Plan, Step, Text
from hub.models.signature import places
from hub.models.types import InputField

MAX_TABLE: Final = 2_000_000


class UnreadableError(Exception):
    """A step that has no reading as columns; the message names it."""


def compile_pipeline(estimator: Any, fields: Sequence[InputField]) -> tuple[Plan, Any]:
    """The longest part of the preprocessing that reads as columns, and the fitted rest.

    UnreadableError names the step at which texts are left over.
    """
    columns: list[Column] = [Text(place) if place.text else Number(place) for place in places(fields)]
    names: Sequence[str] = [each.name for each in fields]
    steps = list(estimator.steps) if isinstance(estimator, Pipeline) else [("", estimator)]
    stopped = type(steps[0][1]).__name__
    while len(steps) > 1:
        try:
            columns = read_step(steps[0][1], columns, names)
        except UnreadableError as error:
            stopped = str(error)
            break
        names = ()
        steps.pop(0)
    if sum(len(each.values) for each in columns if isinstance(each, Lookup)) > MAX_TABLE:
        raise UnreadableError("too many categories")
    ready = [each for each in columns if not isinstance(each, Text)]
    if len(ready) < len(columns) or not ready:
        raise UnreadableError(stopped)
    return Plan.of(ready), steps[0][1] if len(steps) == 1 else Pipeline(steps)


def read_step(step: Any, columns: list[Column], names: Sequence[str]) -> list[Column]:
    """The columns that a fitted transformer makes of these. UnreadableError where they do not say."""
    if step is None or (isinstance(step, str) and step == "passthrough"):
        return columns
    if isinstance(step, Pipeline):
        for _, inner in step.steps:
            columns = read_step(inner, columns, names)
            names = ()
        return columns
    if isinstance(step, ColumnTransformer):
        return _read_column_transformer(step, columns, names)
    if isinstance(step, FeatureUnion):
        if step.transformer_weights:
            raise UnreadableError("FeatureUnion with weights")
        return [each for _, inner in step.transformer_list for each in _branch(inner, columns, names)]
    if isinstance(step, SelectorMixin):
        return [each for each, kept in zip(columns, step.get_support(), strict=True) if kept]
    # Only the exact class: a subclass may transform differently.
    reader = _READERS.get(type(step))
    if reader is None:
        raise UnreadableError(type(step).__name__)
    return reader(step, columns)


def _branch(step: Any, columns: list[Column], names: Sequence[str]) -> list[Column]:
    return [] if isinstance(step, str) and step == "drop" else read_step(step, columns, names)


def _read_column_transformer(step: Any, columns: list[Column], names: Sequence[str]) -> list[Column]:
    out: list[Column] = []
    for _, inner, wanted in step.transformers_:
        chosen = _positions(wanted, names, len(columns))
        if chosen:
            out += _branch(inner, [columns[at] for at in chosen], [names[at] for at in chosen] if names else ())
    return out


def _positions(wanted: Any, names: Sequence[str], width: int) -> list[int]:
    if isinstance(wanted, slice):
        if isinstance(wanted.start, str) or isinstance(wanted.stop, str):
            raise UnreadableError("a slice of names")
        return list(range(width))[wanted]
    if isinstance(wanted, str) or np.isscalar(wanted):
        raise UnreadableError("a single column given as one dimension")
    listed = list(wanted)
    if listed and all(isinstance(each, bool | np.bool_) for each in listed):
        return [at for at, kept in enumerate(listed) if kept]
    try:
        return [names.index(each) if isinstance(each, str) else int(each) % width for each in listed]
    except (TypeError, ValueError):
        raise UnreadableError("a choice of columns that is neither names nor positions") from None


def _then(column: Column, *steps: Step) -> Column:
    if isinstance(column, Text):
        raise UnreadableError("arithmetic on text")
    return column.then(*steps)


def _per_column(columns: list[Column], *steps: tuple[str, Any]) -> list[Column]:
    """The same steps for every column, each with its own number."""
    present = [(name, by) for name, by in steps if by is not None]
    return [_then(each, *((name, float(by[at])) for name, by in present)) for at, each in enumerate(columns)]


def _standard(step: Any, columns: list[Column]) -> list[Column]:
    return _per_column(
        columns, ("sub", step.mean_ if step.with_mean else None), ("div", step.scale_ if step.with_std else None)
    )


def _robust(step: Any, columns: list[Column]) -> list[Column]:
    return _per_column(
        columns,
        ("sub", step.center_ if step.with_centering else None),
        ("div", step.scale_ if step.with_scaling else None),
    )


def _min_max(step: Any, columns: list[Column]) -> list[Column]:
    scaled = _per_column(columns, ("mul", step.scale_), ("add", step.min_))
    if not step.clip:
        return scaled
    low, high = step.feature_range
    return [_then(each, ("max", float(low)), ("min", float(high))) for each in scaled]


def _max_abs(step: Any, columns: list[Column]) -> list[Column]:
    if getattr(step, "clip", False):
        raise UnreadableError("MaxAbsScaler with clip")
    return _per_column(columns, ("div", step.scale_))


def _binarizer(step: Any, columns: list[Column]) -> list[Column]:
    return [_then(each, ("above", float(step.threshold))) for each in columns]


def _function(step: Any, columns: list[Column]) -> list[Column]:
    if step.func is None:
        return columns
    name = {"absolute": "abs"}.get(getattr(step.func, "__name__", ""), getattr(step.func, "__name__", ""))
    if step.func is not UFUNCS.get(name) or step.kw_args:
        raise UnreadableError("FunctionTransformer")
    return [_then(each, (name, 0.0)) for each in columns]


def _indicator(step: Any, columns: list[Column]) -> list[Column]:
    out: list[Column] = []
    for at in step.features_:
        each = columns[at]
        if isinstance(each, Text):
            raise UnreadableError("MissingIndicator on text")
        out.append(each.then(("null", 0.0)))
    return out


def _missing_is_nan(value: Any) -> bool:
    return isinstance(value, float) and value != value


def _imputer(step: Any, columns: list[Column]) -> list[Column]:
    out: list[Column] = []
    for each, fill in zip(columns, step.statistics_, strict=True):
        if isinstance(each, Text):
            if step.missing_values is not None and not _missing_is_nan(step.missing_values):
                raise UnreadableError("SimpleImputer of a given text")
            if not isinstance(fill, str) or each.fill is not None:
                raise UnreadableError("SimpleImputer without a text to put")
            out.append(Text(each.place, fill))
        elif not _missing_is_nan(step.missing_values):
            raise UnreadableError("SimpleImputer of a given number")
        elif _missing_is_nan(fill):
            # scikit-learn drops a column in which it saw no value at all, unless told to keep it.
            raise UnreadableError("SimpleImputer on an empty column")
        else:
            out.append(each.then(("fill", float(fill))))
    if step.add_indicator:
        out += _indicator(step.indicator_, columns)
    return out


def _categories(column: Column, categories: Any) -> tuple[tuple[Any, ...], int | None]:
    """The categories other than null, as plain values, and where null stands among the encoder's own."""
    null = [at for at, each in enumerate(categories) if each is None or _missing_is_nan(each)]
    plain = tuple(each.item() if hasattr(each, "item") else each for each in np.delete(np.asarray(categories), null))
    if isinstance(column, Text):
        if not all(isinstance(each, str) for each in plain):
            raise UnreadableError("categories that are no text")
    elif not isinstance(column, Number) or column.steps:
        raise UnreadableError("an encoder behind arithmetic")
    elif not all(isinstance(each, int | float) for each in plain):
        raise UnreadableError("categories that are no numbers")
    return plain, null[0] if null else None


def _encode(column: Column, categories: Any, known: np.ndarray[Any, Any], unknown: Any) -> list[Column]:
    """Look-ups from a table with one row per category of the encoder and one for what it does not know."""
    assert not isinstance(column, Lookup)
    plain, null = _categories(column, categories)
    listed = list(categories)
    rows = [known[listed.index(each)] for each in plain]
    absent = unknown if null is None else known[null]
    if isinstance(column, Text) and column.fill is not None:
        absent = known[listed.index(column.fill)] if column.fill in listed else unknown
    table = np.array([*rows, absent, unknown], dtype=np.float64)
    if table.size > MAX_TABLE:
        raise UnreadableError("too many categories")
    return [Lookup(column.place, plain, tuple(table[:, at].tolist())) for at in range(table.shape[1])]


def _one_hot(step: Any, columns: list[Column]) -> list[Column]:
    out: list[Column] = []
    for at, (column, categories) in enumerate(zip(columns, step.categories_, strict=True)):
        infrequent = getattr(step, "_default_to_infrequent_mappings", None)
        mapping = infrequent[at] if getattr(step, "_infrequent_enabled", False) and infrequent else None
        group = np.arange(len(categories)) if mapping is None else np.asarray(mapping)
        width = int(group.max()) + 1
        known = np.eye(width)[group]
        unknown = np.zeros(width)
        if step.handle_unknown in {"infrequent_if_exist", "warn"} and mapping is not None:
            unknown = np.eye(width)[width - 1]
        dropped = None if step.drop_idx_ is None else step.drop_idx_[at]
        if dropped is not None:
            cut = int(group[int(dropped)])
            known, unknown = np.delete(known, cut, axis=1), np.delete(unknown, cut)
        out += _encode(column, categories, known, unknown)
    return out


def _ordinal(step: Any, columns: list[Column]) -> list[Column]:
    if getattr(step, "_infrequent_enabled", False):
        raise UnreadableError("OrdinalEncoder with infrequent categories")
    out: list[Column] = []
    for column, categories in zip(columns, step.categories_, strict=True):
        known = np.arange(len(categories), dtype=np.float64)
        null = [at for at, each in enumerate(categories) if each is None or _missing_is_nan(each)]
        known[null] = step.encoded_missing_value
        # Without a value for the unknown the estimator refuses it, so no such row comes here.
        unknown = np.nan if step.unknown_value is None else float(step.unknown_value)
        out += _encode(column, categories, known[:, None], np.array([unknown]))
    return out


def _target(step: Any, columns: list[Column]) -> list[Column]:
    if step.target_type_ == "multiclass":
        raise UnreadableError("TargetEncoder of several classes")
    out: list[Column] = []
    for column, categories, encodings in zip(columns, step.categories_, step.encodings_, strict=True):
        out += _encode(column, categories, np.asarray(encodings)[:, None], np.array([step.target_mean_]))
    return out


_READERS: Final[Mapping[type, Callable[[Any, list[Column]], list[Column]]]] = {
    StandardScaler: _standard,
    RobustScaler: _robust,
    MinMaxScaler: _min_max,
    MaxAbsScaler: _max_abs,
    Binarizer: _binarizer,
    FunctionTransformer: _function,
    MissingIndicator: _indicator,
    SimpleImputer: _imputer,
    OneHotEncoder: _one_hot,
    OrdinalEncoder: _ordinal,
    TargetEncoder: _target,
}
