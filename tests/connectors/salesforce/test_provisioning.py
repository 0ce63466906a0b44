"""Score fields are made once and granted, whatever stands of them already and whoever sees it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from connectors.salesforce.connector import SalesforceConnector
from connectors.salesforce.rights import PERMISSION_SET
from hub.cli.demo.crm import opened
from hub.sdk import Context, Field, FieldType, RejectedError
from hub.worker.supervisor import _variables
from tests.connectors.salesforce.harness import TwinHarness
from tests.connectors.salesforce.orgs import LeadSite, document

SCORE = Field("Score__c", FieldType.INTEGER, writable=True)
BAND = Field("Score_Band__c", FieldType.TEXT, writable=True, length=40)
SET = f"SELECT Id FROM PermissionSet WHERE Name = '{PERMISSION_SET}'"


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[TwinHarness]:
    made = TwinHarness(tmp_path)
    try:
        yield made
    finally:
        made.close()


def provision(harness: TwinHarness, *fields: Field) -> list[str]:
    """Makes the fields; the methods of the calls that wrote something, with what they wrote to."""
    control = harness.twin.control
    with SalesforceConnector(harness.config(), Context()) as connector:
        provisioner = connector.provisioner()
        assert provisioner is not None
        control.forget_calls()
        provisioner.provision("Lead", fields)
    return written(harness)


def written(harness: TwinHarness | LeadSite) -> list[str]:
    """The calls of the set-up that wrote, since they were forgotten."""
    kinds = ("CustomField", "PermissionSet", "ObjectPermissions", "FieldPermissions")
    calls = [each for each in harness.twin.control.calls() if each["method"] != "GET"]
    paths = [f"{each['method']} {each['path'].rpartition('sobjects/')[2]}" for each in calls]
    return [each for each in paths if each.partition(" ")[2].startswith(kinds)]


def editable(harness: TwinHarness) -> set[str]:
    """The fields that the login may write, by describe."""
    with SalesforceConnector(harness.config(), Context()) as connector:
        (lead,) = connector.entities(["Lead"])
    return {each.name for each in lead.fields if each.writable}


def test_a_second_time_writes_nothing(harness: TwinHarness) -> None:
    first = provision(harness, SCORE, BAND)
    assert first.count("POST CustomField") == 2
    assert first.count("POST FieldPermissions") == 2
    assert {SCORE.name, BAND.name} <= editable(harness)
    assert provision(harness, SCORE, BAND) == []
    more = provision(harness, SCORE, BAND, Field("Scored_At__c", FieldType.INSTANT, writable=True))
    assert more == ["POST CustomField", "POST FieldPermissions"]


def test_a_right_that_stands_and_is_too_little_is_widened(harness: TwinHarness) -> None:
    provision(harness, SCORE)
    admin: Any = opened(harness.twin.described(), "admin")
    (owner,) = admin.query(SET)["records"]
    (granted,) = admin.query(f"SELECT Id FROM FieldPermissions WHERE ParentId = '{owner['Id']}'")["records"]
    admin.FieldPermissions.update(granted["Id"], {"PermissionsEdit": False})
    assert SCORE.name not in editable(harness)
    assert provision(harness, SCORE) == [f"PATCH FieldPermissions/{granted['Id']}"]
    assert SCORE.name in editable(harness)


def test_a_field_that_stands_unseen_is_granted_and_not_made(harness: TwinHarness) -> None:
    """It is told neither by describe, which hides it, nor by name among the custom fields."""
    harness.twin.control.add_field("Lead", "Score__c double 18,0", open_to_all=False)
    assert SCORE.name not in editable(harness)
    assert "POST FieldPermissions" in provision(harness, SCORE)
    assert SCORE.name in editable(harness)


def test_a_field_that_stands_with_another_type_is_refused_before_anything_is_made(harness: TwinHarness) -> None:
    harness.twin.control.add_field("Lead", "Score__c date")
    with pytest.raises(RejectedError, match="stands with type date"):
        provision(harness, BAND, SCORE)
    assert written(harness) == []


def test_a_plan_is_shown_first_and_makes_nothing_and_what_was_made_is_not_made_again(
    make_org: Callable[..., LeadSite], tmp_path: Path
) -> None:
    site = make_org(3, way={"provision": True})
    site.twin.control.set_profile("System Administrator")  # which making fields takes
    mapping = tmp_path / "mapping.yaml"
    more = {"Score__c: score": "Points__c: score", "Band__c: band": "Band__c: band, Heat__c: band"}
    text = document()
    for old, new in more.items():
        text = text.replace(old, new)
    mapping.write_text(text, encoding="utf-8")

    def asked(*more: str) -> tuple[Any, list[str]]:
        site.twin.control.forget_calls()
        environment = {**os.environ, **_variables(site.hub.settings)}
        words = ("connections", "provision", "crm", "Lead", "--mapping", str(mapping), "--json", *more)
        line = [sys.executable, "-m", "hub.cli", *words]
        done = subprocess.run(line, env=environment, capture_output=True, text=True, check=True)
        return json.loads(done.stdout), written(site)

    planned, calls = asked("--plan")
    assert ({each["name"] for each in planned["planned"]}, calls) == ({"Points__c", "Heat__c"}, [])
    made, calls = asked()
    assert made == {"entity": "Lead", "made": planned["planned"], "granted": planned["granted"]}
    assert planned["granted"].startswith("permission set Hub_Scores, assigned to ")
    assert planned["granted"].endswith(": read and edit Lead, and of it Points__c, Heat__c")
    assert (calls.count("POST CustomField"), calls.count("POST FieldPermissions")) == (2, 2)
    assert asked("--plan") == ({"entity": "Lead", "planned": [], "granted": ""}, [])
    assert asked() == ({"entity": "Lead", "made": [], "granted": ""}, [])
