"""A mapping's examples: what holds is silent, what does not is named, what cannot be run is refused."""

from __future__ import annotations

import json
from typing import Any

import polars as pl
import pytest

from hub.mappings.pipeline.examples import ExampleError, read_example, run_examples
from hub.mappings.types import Compiled
from tests.hub.mappings.pipeline.builder import Draft, Look, predicted

LOOK = Look({"Domain": "Email"}, aggregate={"spent": "sum(Amount)"})


def compiled() -> Compiled:
    return Draft(
        where="Converted = false",
        lookups={"orders": LOOK},
        features={"company_size": "coalesce(orders.spent, 0)", "industry": "Industry"},
        with_={"ScoredAt": "scored_at"},
    ).compile()


def example(**changes: Any) -> dict[str, Any]:
    return {
        "now": "2026-06-15T12:00:00+00:00",
        "records": [
            {"Id": "a", "Converted": False, "Email": "x.de", "Score": 10, "Industry": "Retail"},
            {"Id": "b", "Converted": True},
            {"Id": "c", "Converted": False, "Score": 40},
        ],
        "lookups": {
            "orders": [{"No": 1, "Domain": "x.de", "Amount": "12.50"}, {"No": 2, "Domain": "y.de", "Amount": 3}]
        },
        "predictions": [{"probability": 0.834}, {}, {"probability": 0.4}],
        "expect": [
            {
                "state": "ready",
                "features": {"company_size": 12.5, "industry": "Retail"},
                "changes": {"Score": 83, "ScoredAt": "2026-06-15T14:00:00+02:00"},
            },
            {"state": "outside", "changes": None},
            {"state": "ready", "reason": None, "features": {"company_size": 0, "industry": None}, "changes": None},
        ],
        **changes,
    }


def differences(raw: dict[str, Any], **more: Any) -> list[str]:
    return run_examples(compiled(), [read_example("hot.json", json.dumps(raw))], **more)


def test_an_example_that_holds_says_nothing() -> None:
    assert differences(example()) == []


@pytest.mark.parametrize(
    ("at", "expect", "sentence"),
    [
        (0, {"features": {"company_size": 13}}, "record 1: feature company_size is 12.5, expected 13"),
        (0, {"changes": {"Score": 84}}, "record 1: Score is 83, expected 84"),
        (0, {"changes": None}, "record 1: a change is written, expected none"),
        (1, {"state": "ready"}, "record 2: the state is outside, expected ready"),
        (2, {"changes": {"Score": 40}}, "record 3: no change is written, expected one"),
        (2, {"reason": "late"}, "record 3: the reason is None, expected 'late'"),
    ],
)
def test_each_difference_is_one_sentence(at: int, expect: dict[str, Any], sentence: str) -> None:
    raw = example()
    raw["expect"][at] = expect

    assert differences(raw) == [f"hot.json, {sentence}"]


def test_without_predictions_the_model_is_asked_with_the_features() -> None:
    seen: list[pl.DataFrame] = []

    def predict(features: pl.DataFrame) -> pl.DataFrame:
        seen.append(features)
        return predicted(0.834, 0.4)

    raw = example()
    del raw["predictions"]

    assert differences(raw, predict=predict) == []
    assert seen[0].to_dict(as_series=False) == {"company_size": [12.5, 0.0], "industry": ["Retail", None]}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"records": [{"Id": "a"}]}, "hot.json: expect has 3 entries for 1 records"),
        ({"now": "2026-06-15"}, "hot.json: now needs a zone"),
        ({"now": 5}, "hot.json: now is a moment"),
        ({"other": 1}, "hot.json: an example is an object"),
        ({"records": [{"Idd": "a"}, {}, {}]}, "hot.json: Lead has no field Idd"),
        (
            {"records": [{"Id": "a", "Employees": "many"}, {}, {}]},
            "hot.json: 'many' is no integer, which Employees holds",
        ),
        ({"predictions": [{"chance": 1}, {}, {"chance": 1}]}, "hot.json: the model has no output chance"),
        ({"predictions": []}, "hot.json: 0 predictions for 3 records"),
        ({"expect": [{"change": 1}, {}, {}]}, "hot.json, record 1: expect takes"),
        ({"expect": [{"features": {"size": 1}}, {}, {}]}, "hot.json: the mapping has no feature size"),
        ({"expect": [{"changes": {"Band": "Hot"}}, {}, {}]}, "hot.json: the mapping does not write Band"),
    ],
)
def test_an_example_that_cannot_be_run_is_refused_in_one_sentence(change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ExampleError, match=f"^{sentence}"):
        differences(example(**change))


def test_text_that_is_no_json_is_refused_with_its_line() -> None:
    with pytest.raises(ExampleError, match=r"^hot\.json, line 2: not JSON"):
        read_example("hot.json", "{\n nope }")
