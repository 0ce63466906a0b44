"""The examples beside a mapping: what holds is counted, what does not is named, what cannot be run is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hub.mappings.pipeline.examples import ExampleError, run_examples
from hub.mappings.types import Compiled
from tests.hub.mappings.pipeline.builder import Draft, Look


@pytest.fixture
def compiled() -> Compiled:
    """The lead mapping with a lookup and a passenger."""
    return Draft(
        where="Converted = false",
        lookups={"orders": Look({"Domain": "Email"}, aggregate={"spent": "sum(Amount)"})},
        features={"company_size": "coalesce(orders.spent, 0)", "industry": "Industry"},
        hold="probability > 0.95",
        with_={"Why": "reasons(2)", "ScoredAt": "scored_at"},
    ).compile()


def contents() -> dict[str, Any]:
    lead = ["Id", "Converted", "Email", "Score", "Industry"]
    return {
        "tables": {
            "crm": {
                "Lead": {
                    "fields": {name: {} for name in lead},
                    "records": [
                        ["a", False, "x.de", 10, "Retail"],
                        ["b", True, None, None, None],
                        ["c", False, None, 40, None],
                        ["d", False, None, None, None],
                    ],
                },
                "Account": {
                    "fields": {"No": {}, "Domain": {}, "Amount": {}},
                    "records": [[1, "x.de", "12.50"], [2, "y.de", "3"], [3, "x.de", "1"], [4, "x.de", None]],
                },
            }
        },
        "model": {
            "now": "2026-06-15T12:00:00+00:00",
            "answers": {
                "a": {
                    "outputs": {"probability": 0.834, "label": "yes", "confidence": 0.834},
                    "reasons": [{"feature": "company_size", "effect": 0.5}],
                },
                "c": {"outputs": {"probability": 0.4}},
                "d": {"outputs": {"probability": 0.99}},
            },
        },
        "expected": {
            "records": {
                "b": {"state": "outside"},
                "a": {"state": "ready", "company_size": 13.5, "industry": "Retail", "score": 83.0, "_because": None},
                "c": {"state": "ready", "company_size": 0.0, "industry": None, "score": 40.0, "_because": None},
                "d": {"state": "held", "reason": "held for a person, as decide.hold says"},
            },
            "changes": [
                {"key": {"Id": "a"}, "Score": 83, "Why": "Company size (+)", "ScoredAt": "2026-06-15T12:00:00+00:00"}
            ],
        },
    }


@pytest.fixture
def run(tmp_path: Path, compiled: Compiled) -> Callable[[dict[str, Any]], list[str]]:
    """Runs the examples of a folder with these contents; None leaves a file out."""

    def run(files: dict[str, Any]) -> list[str]:
        for name, content in files.items():
            text = content if isinstance(content, str) else json.dumps(content)
            if content is not None:
                (tmp_path / f"{name}.json").write_text(text, "utf-8")
        return run_examples(compiled, tmp_path)

    return run


Run = Callable[[dict[str, Any]], list[str]]


def test_examples_that_hold_are_named_by_their_keys(run: Run) -> None:
    assert sorted(run(contents())) == ["a", "b", "c", "d"]


@pytest.mark.parametrize(
    ("path", "value", "sentence"),
    [
        (("records", "a", "company_size"), 13, "records.a.company_size is 13.5, expected 13"),
        (("records", "b", "state"), "ready", "records.b.state is outside, expected ready"),
        (("records", "e"), {}, "records.e is missing"),
        (("changes", 0, "Score"), 84, r"changes\[0\].Score is 83, expected 84"),
        (("changes",), [], "changes is 1, expected 0"),
    ],
)
def test_each_difference_is_named_by_its_place(run: Run, path: tuple[Any, ...], value: Any, sentence: str) -> None:
    files = contents()
    inner = files["expected"]
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = value

    with pytest.raises(ExampleError, match=f"^the examples do not hold: {sentence}$"):
        run(files)


def test_a_record_that_nobody_promised_is_a_difference(run: Run) -> None:
    files = contents()
    del files["expected"]["records"]["c"]

    with pytest.raises(ExampleError, match=r"records\.c is not promised"):
        run(files)


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        ({"tables": None}, "the examples lack tables.json"),
        ({"expected": "{\n nope }"}, "expected.json, line 2: not JSON"),
        ({"expected": "[]"}, "expected.json: expected an object"),
        ({"model": {"now": "2026-06-15", "answers": {}}}, "model.json: now needs a zone"),
        ({"model": {"answers": {}}}, "the examples are not as their guide says: KeyError 'now'"),
        ({"model": {"now": "2026-06-15T12:00:00+00:00", "answers": {}}}, "model.json: answers has none for a"),
        (
            {"tables": {"crm": {"Lead": {"fields": {"Id": {}, "Score": {}}, "records": [["a", "many"]]}}}},
            "'many' is no integer, which Score holds",
        ),
    ],
)
def test_examples_that_cannot_be_run_are_refused_in_one_sentence(
    run: Run, files: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ExampleError, match=f"^{sentence}"):
        run({**contents(), **files})
