"""What the examples beside each shipped mapping promise is what happens, and each can be explained and signed."""

from __future__ import annotations

import json
import re
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from connectors.sql.config import SqlConfig
from connectors.sql.connector import SqlConnector
from hub.mappings import explain, run_examples, spec
from hub.sdk import Context
from tests.mappings.tables import MAPPINGS, folder, shipped, systems

NOW = datetime(2026, 3, 2, tzinfo=UTC)


@pytest.mark.parametrize("name", MAPPINGS)
def test_each_example_comes_out_as_it_says(name: str) -> None:
    assert len(run_examples(shipped(name), folder(name) / "examples")) >= 6


@pytest.mark.parametrize("name", MAPPINGS)
def test_the_examples_show_a_record_of_every_fate(name: str) -> None:
    expected = json.loads((folder(name) / "examples" / "expected.json").read_text("utf-8"))
    assert {each["state"] for each in expected["records"].values()} == {"ready", "outside", "held", "invalid"}
    assert expected["changes"]


@pytest.mark.parametrize("name", MAPPINGS)
def test_the_grant_names_nothing_that_the_document_does_not_use(name: str) -> None:
    compiled = shipped(name)
    text = json.dumps(compiled.document.source)
    for connection, grant in compiled.grants.items():
        keys = {each.name: set(each.key) for each in systems(name)[connection]}
        for entity, fields in grant.reads.items():
            assert [each for each in fields - keys[entity] if each not in text] == []


@pytest.mark.parametrize("name", MAPPINGS)
def test_each_mapping_can_be_explained_and_signed(name: str) -> None:
    compiled = shipped(name)
    assert compiled.document.mapping == name
    assert compiled.document.digest in spec(compiled)
    told = explain(compiled, NOW)
    assert all(f"  {feature}: " in told for feature in compiled.features)


def test_every_shipped_mapping_is_tried_here() -> None:
    found = {each.name for each in folder(MAPPINGS[0]).parent.iterdir() if (each / "mapping.yaml").is_file()}  # type: ignore[attr-defined]
    assert found == set(MAPPINGS)


def test_the_tables_of_the_clinic_s_guide_are_those_the_mapping_fits(tmp_path: Path) -> None:
    """The statements in the guide make a database that the connector describes and the mapping compiles against."""
    guide = (folder("patient_risk") / "README.md").read_text("utf-8")
    path = tmp_path / "clinic.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript("\n".join(re.findall(r"^    .*", guide, re.MULTILINE)))
    config = SqlConfig(dialect="sqlite", path=str(path), changed_by={"PATIENT": ("LAST_UPD",)})
    with SqlConnector(config, Context()) as connector:
        found = connector.entities()
    compiled = shipped("patient_risk", {"clinic": found})
    assert compiled.lineage == shipped("patient_risk").lineage
    assert compiled.grants == shipped("patient_risk").grants
    types = {each.name: each.type for each in compiled.source.fields}
    assert types == {each.name: each.type for each in systems("patient_risk")["clinic"][0].fields}
