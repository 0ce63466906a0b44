"""Preprocessing read as columns gives, bit for bit, the matrix that scikit-learn's own transform gives."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.compose import ColumnTransformer, make_column_selector
from sklearn.feature_selection import SelectKBest, VarianceThreshold
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import (
    Binarizer,
    FunctionTransformer,
    KBinsDiscretizer,
    MaxAbsScaler,
    MinMaxScaler,
    OneHotEncoder,
    OrdinalEncoder,
    RobustScaler,
    StandardScaler,
    TargetEncoder,
)

from hub.models import ModelVersion, Registry, Way
from hub.models.runtimes.columns import Plan
from hub.models.runtimes.preprocessing import UnreadableError, compile_pipeline
from hub.models.signature import Domain, Layout, infer_fields

ROWS = 400


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    draw = np.random.default_rng(7)
    numbers = np.round(draw.normal(5, 2, (ROWS, 3)), 2)
    numbers[draw.random((ROWS, 3)) < 0.1] = np.nan
    text = draw.choice(["red", "green", "blue", "rare", "rarer"], ROWS, p=[0.4, 0.3, 0.27, 0.02, 0.01]).astype(object)
    text[draw.random(ROWS) < 0.1] = np.nan
    full = draw.choice(["north", "south", "west"], ROWS).astype(object)
    code = draw.integers(1, 5, ROWS)
    return pd.DataFrame(
        {"a": numbers[:, 0], "b": numbers[:, 1], "c c": numbers[:, 2], "text": text, "full": full, "code": code}
    )


@pytest.fixture(scope="module")
def target() -> np.ndarray:
    return np.random.default_rng(8).integers(0, 2, ROWS)


NUMBERS = ["a", "b", "c c"]

STEPS = {
    "imputed and scaled": (make_pipeline(SimpleImputer(strategy="median"), StandardScaler()), NUMBERS),
    "indicated": (SimpleImputer(add_indicator=True), NUMBERS),
    "indicated then scaled": (make_pipeline(SimpleImputer(add_indicator=True), StandardScaler()), NUMBERS),
    "centred only": (StandardScaler(with_std=False), NUMBERS),
    "between bounds, clipped": (MinMaxScaler((-1, 1), clip=True), NUMBERS),
    "by the largest": (MaxAbsScaler(), NUMBERS),
    "by quartiles": (RobustScaler(), NUMBERS),
    "logarithm": (
        make_pipeline(SimpleImputer(fill_value=0.0, strategy="constant"), FunctionTransformer(np.square)),
        NUMBERS,
    ),
    "above a bound": (make_pipeline(SimpleImputer(), Binarizer(threshold=5.0)), NUMBERS),
    "one hot with null": (OneHotEncoder(handle_unknown="ignore"), ["text", "full"]),
    "one hot, first dropped": (OneHotEncoder(drop="first"), ["full"]),
    "one hot, rare ones together": (
        OneHotEncoder(min_frequency=0.05, handle_unknown="infrequent_if_exist"),
        ["text", "full"],
    ),
    "one hot of numbers": (OneHotEncoder(handle_unknown="ignore"), ["code"]),
    "one hot, scaled": (make_pipeline(OneHotEncoder(sparse_output=False), StandardScaler()), ["full", "code"]),
    "filled text": (
        make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder(handle_unknown="ignore")),
        ["text"],
    ),
    "text filled with a word": (
        make_pipeline(SimpleImputer(strategy="constant", fill_value="none"), OneHotEncoder(handle_unknown="ignore")),
        ["text"],
    ),
    "ordinal": (OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1), ["text", "full"]),
    "ordinal in a given order": (OrdinalEncoder(categories=[["west", "south", "north"]]), ["full"]),
    "target": (TargetEncoder(), ["full", "code"]),
    "chosen": (make_pipeline(SimpleImputer(), VarianceThreshold()), NUMBERS),
    "chosen by score": (make_pipeline(SimpleImputer(), SelectKBest(k=2)), NUMBERS),
    "united": (make_pipeline(SimpleImputer(), FeatureUnion([("s", StandardScaler()), ("m", MinMaxScaler())])), NUMBERS),
    "as they are": ("passthrough", NUMBERS),
}


@pytest.mark.parametrize("kind", STEPS)
def test_a_step_reads_as_the_matrix_it_makes(kind: str, frame: pd.DataFrame, target: np.ndarray) -> None:
    step, columns = STEPS[kind]
    transformer = ColumnTransformer([("step", step, columns)], remainder="drop", sparse_threshold=0)
    transformer.fit(frame, target)
    fields = infer_fields(pl.from_pandas(frame), list(frame.columns))
    line = Pipeline([("columns", transformer), ("model", LogisticRegression())])
    plan, _ = compile_pipeline(line, fields)
    fresh = frame.sample(ROWS, random_state=1, replace=True)
    expected = np.asarray(transformer.transform(fresh), dtype=np.float64)
    for some in (fresh, fresh.head(1), fresh.head(60)):
        inputs = Layout(fields).inputs(pl.from_pandas(some))
        for each in (plan, Plan.from_bytes(plan.to_bytes())):
            np.testing.assert_array_equal(each.matrix(inputs), expected[: len(some)])


def test_columns_chosen_by_type_slice_mask_and_position_are_the_same_columns(
    frame: pd.DataFrame, target: np.ndarray
) -> None:
    numbers = frame[[*NUMBERS, "code"]]
    choices = [
        make_column_selector(dtype_include=np.number),
        slice(0, 4),
        [True] * 4,
        [0, 1, 2, -1],
        [*NUMBERS, "code"],
    ]
    fields = infer_fields(pl.from_pandas(numbers), list(numbers.columns))
    inputs = Layout(fields).inputs(pl.from_pandas(numbers))
    for choice in choices:
        line = make_pipeline(
            ColumnTransformer([("s", StandardScaler(), choice)]), SimpleImputer(), LogisticRegression()
        )
        line.fit(numbers, target)
        plan, _ = compile_pipeline(line, fields)
        np.testing.assert_array_equal(plan.matrix(inputs), line[:-1].transform(numbers))


def test_what_does_not_read_as_columns_is_named(frame: pd.DataFrame, target: np.ndarray) -> None:
    line = make_pipeline(
        ColumnTransformer([("t", OneHotEncoder(), ["full"]), ("k", KBinsDiscretizer(3), ["code"])]),
        LogisticRegression(),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        line.fit(frame, target)
    fields = infer_fields(pl.from_pandas(frame), ["full", "code"])
    with pytest.raises(UnreadableError, match="KBinsDiscretizer"):
        compile_pipeline(line, fields)


def test_nulls_and_unknown_categories_are_scored_as_the_estimator_does(
    frame: pd.DataFrame, target: np.ndarray, enrol: Callable[..., ModelVersion], registry: Registry
) -> None:
    line = make_pipeline(
        ColumnTransformer(
            [
                ("n", make_pipeline(SimpleImputer(add_indicator=True), StandardScaler()), NUMBERS),
                ("t", OneHotEncoder(handle_unknown="ignore"), ["text", "full"]),
            ]
        ),
        LogisticRegression(),
    ).fit(frame, target)
    version = enrol(line, frame)
    fresh = frame.head(20).assign(a=np.nan, text=["never seen", np.nan] * 10)
    found = registry.load(version).predict(pl.from_pandas(fresh))
    np.testing.assert_allclose(found["probability"], line.predict_proba(fresh)[:, 1], atol=1e-9)
    assert version.way is Way.ONNX, version.tried
    assert not any(each.closed for each in version.signature.inputs)
    assert version.signature.by_name["a"].nullable


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    known=st.lists(st.text(max_size=4), min_size=1, max_size=8, unique=True),
    cells=st.lists(st.none() | st.text(max_size=4), min_size=1, max_size=200),
)
def test_few_rows_and_many_find_the_same_categories(known: list[str], cells: list[str | None]) -> None:
    domain = Domain(known)
    many = domain.codes(pl.Series(cells * 70, dtype=pl.String))
    few = np.concatenate([domain.codes(pl.Series([each], dtype=pl.String)) for each in cells])
    expected = [
        len(known) if each is None else known.index(each) if each in known else len(known) + 1 for each in cells
    ]
    assert few.tolist() == expected
    assert many.tolist() == expected * 70
