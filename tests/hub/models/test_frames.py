"""Estimators fitted on pandas, polars or numpy get frames of that kind, types and null markers as they knew them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import KBinsDiscretizer, OneHotEncoder, OrdinalEncoder, StandardScaler

from hub.models import FeaturesError, ModelVersion, Registry, SampleError, Way
from hub.sdk import FieldType

Enrol = Callable[..., ModelVersion]
ROWS = 300


@pytest.fixture
def table() -> dict[str, object]:
    draw = np.random.default_rng(5)
    return {
        "age": draw.integers(18, 90, ROWS),
        "income": np.round(draw.normal(40, 9, ROWS), 1),
        "smoker": draw.random(ROWS) < 0.3,
        "city": draw.choice(["Ulm", "Köln", "São Paulo"], ROWS),
    }


@pytest.fixture
def outcome(table: dict[str, object]) -> np.ndarray:
    return (np.asarray(table["income"]) + 5 * np.asarray(table["smoker"]) > 40).astype(int)


def mixed() -> ColumnTransformer:
    return ColumnTransformer(
        [
            ("n", StandardScaler(), ["age", "income"]),
            ("b", "passthrough", ["smoker"]),
            ("c", OneHotEncoder(handle_unknown="ignore", sparse_output=False), ["city"]),
        ]
    )


def opaque() -> ColumnTransformer:
    """Preprocessing that has no reading as columns."""
    return ColumnTransformer(
        [
            ("n", KBinsDiscretizer(4, quantile_method="averaged_inverted_cdf"), ["age", "income"]),
            ("c", OneHotEncoder(handle_unknown="ignore"), ["city", "smoker"]),
        ]
    )


KINDS: dict[str, Callable[[dict[str, object]], object]] = {
    "pandas": pd.DataFrame,
    "pandas with objects": lambda table: pd.DataFrame(table).astype({"city": object}),
    "pandas with categories": lambda table: pd.DataFrame(table).astype({"city": "category"}),
    "pandas, nullable types": lambda table: pd.DataFrame(table).astype({"age": "Int64", "income": "Float64"}),
    "pandas, 32 bits": lambda table: pd.DataFrame(table).astype({"income": "float32"}),
    "polars": pl.DataFrame,
    "polars with an enumeration": lambda table: pl.DataFrame(table).cast(
        {"city": pl.Enum(["Köln", "São Paulo", "Ulm"])}
    ),
    "polars, 32 bits": lambda table: pl.DataFrame(table).cast({"income": pl.Float32}),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("preprocess", [mixed, opaque], ids=["readable", "opaque"])
def test_any_kind_of_frame_is_scored_as_the_estimator_does(
    kind: str,
    preprocess: Callable[[], ColumnTransformer],
    table: dict[str, object],
    outcome: np.ndarray,
    enrol: Enrol,
    registry: Registry,
) -> None:
    frame = KINDS[kind](table)
    line = make_pipeline(preprocess(), LogisticRegression(max_iter=2000)).fit(frame, outcome)
    version = enrol(line, frame)
    found = registry.load(version).predict(pl.DataFrame(table))
    np.testing.assert_allclose(found["probability"], line.predict_proba(frame)[:, 1], atol=1e-6, rtol=0)
    assert (version.way is Way.AS_IS) == (preprocess is opaque or "32" in kind), version.tried


@pytest.mark.parametrize("missing", [None, np.nan], ids=["None", "NaN"])
def test_a_null_text_is_the_null_that_the_estimator_knows(
    missing: object, table: dict[str, object], outcome: np.ndarray, enrol: Enrol, registry: Registry
) -> None:
    frame = pd.DataFrame(table).astype({"city": object})
    frame.loc[::7, "city"] = missing
    line = make_pipeline(opaque(), LogisticRegression(max_iter=2000)).fit(frame, outcome)
    version = enrol(line, frame)
    cities = [None if each % 7 == 0 else city for each, city in enumerate(pl.Series(table["city"]))]
    found = registry.load(version).predict(pl.DataFrame({**table, "city": cities}))
    np.testing.assert_allclose(found["probability"], line.predict_proba(frame)[:, 1], atol=1e-6)
    assert version.signature.by_name["city"].nullable


def test_native_categories_of_boosting_are_scored_as_they_are(
    table: dict[str, object], outcome: np.ndarray, enrol: Enrol, registry: Registry
) -> None:
    frame = pd.DataFrame(table).astype({"city": "category"})
    boosted = HistGradientBoostingClassifier(max_iter=20, categorical_features="from_dtype").fit(frame, outcome)
    version = enrol(boosted, frame)
    fresh = pl.DataFrame(table).with_columns(city=pl.when(pl.col("age") > 80).then(None).otherwise("city"))
    native = frame.assign(city=pd.Categorical(fresh["city"].to_list(), categories=frame["city"].cat.categories))
    found = registry.load(version).predict(fresh)
    np.testing.assert_allclose(found["probability"], boosted.predict_proba(native)[:, 1], atol=1e-12)


def test_texts_in_a_numpy_matrix_are_taken(
    table: dict[str, object], outcome: np.ndarray, enrol: Enrol, registry: Registry
) -> None:
    frame = pl.DataFrame(table).select("city", "age")
    matrix = np.array(frame.rows(), dtype=object)
    line = make_pipeline(
        ColumnTransformer([("c", OrdinalEncoder(), [0]), ("n", StandardScaler(), [1])]),
        HistGradientBoostingClassifier(max_iter=10),
    ).fit(matrix, outcome)
    version = enrol(line, frame)
    found = registry.load(version).predict(frame)
    np.testing.assert_allclose(found["probability"], line.predict_proba(matrix)[:, 1], atol=1e-9)
    assert version.signature.by_name["city"].closed


def test_the_signature_is_what_the_sample_shows(table: dict[str, object], outcome: np.ndarray, enrol: Enrol) -> None:
    frame = pd.DataFrame(table)
    version = enrol(make_pipeline(mixed(), LogisticRegression()).fit(frame, outcome), frame)
    age, income, smoker, city = (version.signature.by_name[each] for each in ("age", "income", "smoker", "city"))
    assert [each.type for each in (age, income, smoker, city)] == [
        FieldType.INTEGER,
        FieldType.REAL,
        FieldType.BOOLEAN,
        FieldType.TEXT,
    ]
    assert (age.minimum, age.maximum) == (float(frame["age"].min()), float(frame["age"].max()))
    assert city.categories == ("Köln", "São Paulo", "Ulm")
    assert city.reference == frame["city"].mode()[0]
    assert isinstance(age.reference, int)
    assert abs(age.reference - frame["age"].median()) <= 1
    assert not age.nullable
    assert not city.closed


def test_rows_that_cannot_be_scored_get_no_score_and_leave_the_others_alone(
    table: dict[str, object], outcome: np.ndarray, enrol: Enrol, registry: Registry
) -> None:
    frame = pd.DataFrame(table)
    encoder = ColumnTransformer([("n", "passthrough", ["age", "income"]), ("c", OneHotEncoder(), ["city"])])
    line = make_pipeline(encoder, LogisticRegression(max_iter=2000)).fit(frame[["age", "income", "city"]], outcome)
    scorer = registry.load(enrol(line, frame))
    good = pl.DataFrame(table).head(100)
    bad = good.head(6).with_columns(
        pl.Series("age", [None, 30, 30, 30, 30, 30], dtype=pl.Int64),
        pl.Series("income", [1.0, float("nan"), float("inf"), 1e300, 1.0, 1.0]),
        pl.Series("city", ["Ulm", "Ulm", "Ulm", "Ulm", "Paris", None]),
    )
    found = scorer.predict(pl.concat([bad, good]))
    assert found["probability"][:6].is_nan().all()
    assert found["label"][:6].null_count() == 6
    assert found["confidence"][:6].is_nan().all()
    np.testing.assert_allclose(
        found["probability"][6:], line.predict_proba(good.select("age", "income", "city").to_pandas())[:, 1], atol=1e-9
    )
    assert scorer.reasons(bad, 3).list.len().to_list() == [0] * 6


def test_a_sample_without_a_column_is_refused_by_name(
    table: dict[str, object], outcome: np.ndarray, enrol: Enrol
) -> None:
    frame = pd.DataFrame(table)
    line = make_pipeline(mixed(), LogisticRegression()).fit(frame, outcome)
    with pytest.raises(SampleError, match=r"lacks smoker, city"):
        enrol(line, frame.drop(columns=["smoker", "city"]))
    with pytest.raises(SampleError, match="empty"):
        enrol(line, frame.head(0))
    with pytest.raises(SampleError, match="column city of the sample is empty"):
        enrol(line, frame.assign(city=pd.Series([None] * ROWS, dtype=object)))
    with pytest.raises(SampleError, match="column city of the sample mixes int, str"):
        enrol(line, frame.assign(city=pd.Series([1, "a"] * (ROWS // 2), dtype=object)))
    with pytest.raises(SampleError, match="column age of the sample is Date"):
        enrol(line, pl.DataFrame(table).with_columns(age=pl.date(2020, 1, 1)))
    with pytest.raises(SampleError, match="polars or pandas"):
        enrol(line, {"age": [1]})


def test_features_without_an_input_or_of_another_type_are_refused_by_name(
    table: dict[str, object], outcome: np.ndarray, enrol: Enrol, registry: Registry
) -> None:
    frame = pd.DataFrame(table)
    scorer = registry.load(enrol(make_pipeline(mixed(), LogisticRegression()).fit(frame, outcome), frame))
    good = pl.DataFrame(table)
    with pytest.raises(FeaturesError, match="lack age, city"):
        scorer.predict(good.drop("age", "city"))
    with pytest.raises(FeaturesError, match="input age is integer, but the feature is String"):
        scorer.predict(good.with_columns(pl.col("age").cast(pl.String)))
    with pytest.raises(FeaturesError, match="input city is text, but the feature is Int64"):
        scorer.predict(good.with_columns(city=pl.lit(1, pl.Int64)))
    empty = scorer.predict(good.head(0))
    assert empty.schema == scorer.predict(good).schema
    assert empty.height == 0
    assert len(scorer.reasons(good.head(0), 3)) == 0
