"""Reasons: the inputs whose replacement by the reference value moves this score most."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier, IsolationForest
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import Pipeline

from hub.models import ModelVersion, Registry
from hub.models.scorer import Scorer

Enrol = Callable[..., ModelVersion]
Line = Callable[[object], Pipeline]


def brute_force(scorer: Scorer, row: pl.DataFrame, margin: Callable[[pl.DataFrame], float]) -> dict[str, float]:
    """By the definition: each input set to its reference, one prediction each."""
    whole = margin(scorer.predict(row))
    return {
        each.name: whole
        - margin(scorer.predict(row.with_columns(pl.lit(each.reference).cast(row.schema[each.name]).alias(each.name))))
        for each in scorer.signature.inputs
    }


def log_odds(answer: pl.DataFrame) -> float:
    probability = answer["probability"][0]
    return float(np.log(probability / (1 - probability)))


def as_dict(reasons: list[dict[str, object]]) -> dict[str, float]:
    return {str(each["feature"]): float(each["effect"]) for each in reasons}  # type: ignore[arg-type]


def expected_reasons(effects: dict[str, float], n: int) -> dict[str, float]:
    listed = sorted(((name, effect) for name, effect in effects.items() if effect), key=lambda each: -abs(each[1]))
    return dict(listed[:n])


def test_reasons_of_a_linear_classifier_are_exact(
    sample: pl.DataFrame, truth: np.ndarray, pipeline: Line, enrol: Enrol, registry: Registry
) -> None:
    fitted = pipeline(LogisticRegression()).fit(sample.to_pandas(), truth)
    for positive in (0, 1):
        scorer = registry.load(enrol(fitted, sample.to_pandas(), positive=positive))
        assert scorer.linear is not None
        closed = scorer.reasons(sample.head(30), 18)
        for at in range(30):
            effects = brute_force(scorer, sample[at], log_odds)
            found = as_dict(closed[at].to_list())
            for name, effect in effects.items():
                assert found.get(name, 0.0) == pytest.approx(effect, abs=1e-8)


def test_reasons_of_a_linear_regression_are_weight_times_difference(
    sample: pl.DataFrame, score: np.ndarray, enrol: Enrol, registry: Registry
) -> None:
    numbers = sample.select(pl.col("^number.*$"))
    fitted = LinearRegression().fit(numbers.to_pandas(), score)
    scorer = registry.load(enrol(fitted, numbers.to_pandas()))
    reasons = scorer.reasons(numbers.head(10), 8)
    for at in range(10):
        found = as_dict(reasons[at].to_list())
        for weight, each in zip(fitted.coef_, scorer.signature.inputs, strict=True):
            assert each.reference is not None
            wanted = weight * (numbers[each.name][at] - float(each.reference))
            assert found.get(each.name, 0.0) == pytest.approx(wanted, abs=1e-12)


def test_the_closed_form_and_asking_again_agree(
    sample: pl.DataFrame, truth: np.ndarray, pipeline: Line, enrol: Enrol, registry: Registry
) -> None:
    scorer = registry.load(enrol(pipeline(LogisticRegression()).fit(sample.to_pandas(), truth), sample.to_pandas()))
    asked = replace(scorer, linear=None).reasons(sample, 4)
    closed = scorer.reasons(sample, 4)
    for one, two in zip(asked.to_list(), closed.to_list(), strict=True):
        assert [each["feature"] for each in one] == [each["feature"] for each in two]
        assert [each["effect"] for each in one] == pytest.approx([each["effect"] for each in two], abs=1e-6)


def test_reasons_of_trees_follow_the_definition(
    sample: pl.DataFrame, truth: np.ndarray, pipeline: Line, enrol: Enrol, registry: Registry
) -> None:
    fitted = pipeline(HistGradientBoostingClassifier(max_iter=15)).fit(sample.to_pandas(), truth)
    scorer = registry.load(enrol(fitted, sample.to_pandas()))
    reasons = scorer.reasons(sample.head(25), 3)
    assert reasons.dtype == pl.List(pl.Struct({"feature": pl.String(), "effect": pl.Float64()}))
    for at in range(25):
        wanted = expected_reasons(brute_force(scorer, sample[at], log_odds), 3)
        found = as_dict(reasons[at].to_list())
        assert list(found) == list(wanted)
        assert list(found.values()) == pytest.approx(list(wanted.values()), abs=1e-9)


def test_reasons_of_several_classes_are_those_of_the_label(
    sample: pl.DataFrame, score: np.ndarray, pipeline: Line, enrol: Enrol, registry: Registry
) -> None:
    classes = np.digitize(score, np.quantile(score, [0.3, 0.7]))
    fitted = pipeline(HistGradientBoostingClassifier(max_iter=8)).fit(sample.to_pandas(), classes)
    scorer = registry.load(enrol(fitted, sample.to_pandas()))
    for at in range(10):
        label = scorer.predict(sample[at])["label"][0]

        def margin(answer: pl.DataFrame, label: int = label) -> float:
            probability = answer[f"probability_{label}"][0]
            return float(np.log(probability / (1 - probability)))

        wanted = expected_reasons(brute_force(scorer, sample[at], margin), 2)
        found = as_dict(scorer.reasons(sample[at], 2)[0].to_list())
        assert found == pytest.approx(wanted, abs=1e-9)


def test_reasons_of_an_anomaly_are_in_its_score(
    sample: pl.DataFrame, pipeline: Line, enrol: Enrol, registry: Registry
) -> None:
    fitted = pipeline(IsolationForest(n_estimators=20, random_state=0)).fit(sample.to_pandas())
    scorer = registry.load(enrol(fitted, sample.to_pandas()))
    row = sample.head(1).with_columns(pl.lit(99.0).alias("number 3"))
    wanted = expected_reasons(brute_force(scorer, row, lambda answer: float(answer["anomaly_score"][0])), 3)
    found = as_dict(scorer.reasons(row, 3)[0].to_list())
    assert next(iter(found)) == "number 3"
    assert found == pytest.approx(wanted, abs=1e-12)


def test_ties_stand_in_the_order_of_the_inputs_and_no_effect_is_no_reason(enrol: Enrol, registry: Registry) -> None:
    rows = np.random.default_rng(0).integers(-3, 4, (101, 4)).astype(float)
    rows[50] = 0
    fitted = LinearRegression().fit(rows, rows @ [2.0, 2.0, 2.0, 0.0])
    fitted.coef_ = np.array([2.0, -2.0, 2.0, 0.0])
    sample = pl.DataFrame(np.vstack([rows, -rows]), schema=["d", "c", "b", "a"])
    scorer = registry.load(enrol(fitted, sample))
    reference = {each.name: each.reference for each in scorer.signature.inputs}
    row = pl.DataFrame({name: [float(value) + 1.0] for name, value in reference.items() if value is not None})
    assert scorer.reasons(row, 4)[0].to_list() == [
        {"feature": "d", "effect": 2.0},
        {"feature": "c", "effect": -2.0},
        {"feature": "b", "effect": 2.0},
    ]
    assert scorer.reasons(row, 1)[0].to_list() == [{"feature": "d", "effect": 2.0}]
    assert scorer.reasons(row, 0)[0].to_list() == []


def test_threads_that_share_a_scorer_each_get_their_own_rows(
    make_sample: Callable[..., pl.DataFrame],
    sample: pl.DataFrame,
    truth: np.ndarray,
    pipeline: Line,
    enrol: Enrol,
    registry: Registry,
) -> None:
    fitted = pipeline(HistGradientBoostingClassifier(max_iter=10)).fit(sample.to_pandas(), truth)
    version = enrol(fitted, sample.to_pandas())
    parts = [make_sample(rows=50 + 13 * at, seed=at) for at in range(8)]
    expected = [fitted.predict_proba(each.to_pandas())[:, 1] for each in parts]
    together = threading.Barrier(len(parts))
    wrong: list[int] = []

    def score(at: int) -> None:
        together.wait()
        for _ in range(20):
            scorer = registry.load(version)
            if not np.allclose(scorer.predict(parts[at])["probability"], expected[at], atol=1e-9):
                wrong.append(at)
            if len(scorer.reasons(parts[at].head(5), 2)) != 5:
                wrong.append(at)

    threads = [threading.Thread(target=score, args=(at,)) for at in range(len(parts))]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert wrong == []
