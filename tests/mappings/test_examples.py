"""What the examples beside each mapping promise is what happens, from tables to changes."""

from __future__ import annotations

import json
from importlib.resources import files

from hub.mappings.document import read_document
from hub.mappings.explain import explain
from hub.mappings.spec import spec
from tests.mappings.conftest import MAPPINGS, Example, run_example


def test_each_example_comes_out_as_its_files_say(example: Example) -> None:
    assert run_example(example) == example.expected


def test_each_example_shows_a_record_of_every_fate(example: Example) -> None:
    states = {each["state"] for each in example.expected["records"].values()}
    assert states == {"ready", "outside", "held", "invalid"}
    assert example.expected["changes"]


def test_the_grant_names_nothing_that_the_document_does_not_use(example: Example) -> None:
    compiled = example.compile()
    text = json.dumps(compiled.document.source)
    for connection, grant in compiled.grants.items():
        keys = {each.name: set(each.key) for each in example.entities[connection]}
        for entity, fields in grant.reads.items():
            assert [name for name in fields - keys[entity] if name not in text] == []


def test_each_example_can_be_explained_and_specified(example: Example) -> None:
    compiled = example.compile()
    assert compiled.document.digest in spec(compiled)
    told = explain(compiled, example.now)
    for feature in compiled.features:
        assert f"  {feature}: " in told


def test_every_folder_of_mappings_is_an_example() -> None:
    folders = sorted(each.name for each in files("mappings").iterdir() if each.is_dir() and "_" in each.name[1:])
    assert [each for each in folders if not each.startswith("__")] == sorted(MAPPINGS)


def test_a_mapping_is_named_as_its_folder(example: Example) -> None:
    assert read_document(example.text).mapping == example.name
