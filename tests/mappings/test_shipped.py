"""What the examples beside each shipped mapping promise is what happens, and each can be explained and signed."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from importlib.resources import files

import pytest

from hub.mappings.explanation import explain
from hub.mappings.pipeline import read_example, run_examples
from hub.mappings.specification import spec
from tests.mappings.tables import MAPPINGS, SYSTEMS, shipped


def examples_of(name: str) -> dict[str, str]:
    """The example files of a mapping, by name."""
    found = (files("mappings") / name / "examples").iterdir()
    return {each.name: each.read_text("utf-8") for each in found if each.name.endswith(".json")}


@pytest.mark.parametrize("name", MAPPINGS)
def test_each_example_comes_out_as_it_says(name: str) -> None:
    read = [read_example(f"{name}/{file}", text) for file, text in examples_of(name).items()]
    assert run_examples(shipped(name), read) == []


@pytest.mark.parametrize("name", MAPPINGS)
def test_the_examples_show_a_record_of_every_fate(name: str) -> None:
    expected = [each for text in examples_of(name).values() for each in json.loads(text)["expect"]]
    assert {each["state"] for each in expected} == {"ready", "outside", "held", "invalid"}
    assert any(each.get("changes") for each in expected)
    assert len(expected[0]["features"]) == len(shipped(name).features)


@pytest.mark.parametrize("name", MAPPINGS)
def test_the_grant_names_nothing_that_the_document_does_not_use(name: str) -> None:
    compiled = shipped(name)
    text = json.dumps(compiled.document.source)
    for connection, grant in compiled.grants.items():
        keys = {each.name: set(each.key) for each in SYSTEMS[connection]}
        for entity, fields in grant.reads.items():
            assert [each for each in fields - keys[entity] if each not in text] == []


@pytest.mark.parametrize("name", MAPPINGS)
def test_each_mapping_can_be_explained_and_signed(name: str) -> None:
    compiled = shipped(name)
    assert compiled.document.mapping == name
    assert compiled.document.digest in spec(compiled)
    told = explain(compiled, datetime(2026, 3, 2, tzinfo=UTC))
    assert all(f"  {feature}: " in told for feature in compiled.features)


def test_every_shipped_mapping_is_tried_here() -> None:
    folders = {each.name for each in files("mappings").iterdir() if (each / "mapping.yaml").is_file()}
    assert folders == set(MAPPINGS)
