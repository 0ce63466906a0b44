"""Provisioning by REST: a field that is made is seen by nobody until a permission set grants it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from connectors.salesforce.twin import Twin
from tests.connectors.salesforce.twin.conftest import Rest

TOOLING = "tooling/sobjects/CustomField"
MINIMUM = "Minimum Access - API Only Integrations"


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Twin]:
    """A twin of the test's own."""
    with Twin(tmp_path / "twin", records=5) as made:
        yield made


def make(rest: Rest, name: str, **metadata: Any) -> str:
    """A custom field; its id."""
    answer = rest("POST", TOOLING, json={"FullName": name, "Metadata": {"label": "Own", **metadata}})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def grant(rest: Rest, user: str, *fields: str, objects: dict[str, list[str]] | None = None) -> str:
    """A permission set for a user; its id."""
    name = rest("POST", "sobjects/PermissionSet", json={"Name": "Hub", "Label": "Hub"}).json()["id"]
    for entity, actions in (objects or {}).items():
        given = {f"Permissions{each}": True for each in actions}
        made = rest("POST", "sobjects/ObjectPermissions", json={"ParentId": name, "SobjectType": entity, **given})
        assert made.status_code == 201, made.text
    for each in fields:
        given = {"ParentId": name, "SobjectType": each.split(".")[0], "Field": each}
        made = rest(
            "POST", "sobjects/FieldPermissions", json={**given, "PermissionsRead": True, "PermissionsEdit": True}
        )
        assert made.status_code == 201, made.text
    rest("POST", "sobjects/PermissionSetAssignment", json={"PermissionSetId": name, "AssigneeId": user})
    return str(name)


def test_a_new_field_is_seen_once_it_is_granted(fresh: Twin) -> None:
    rest = Rest(fresh)
    lead = fresh.control.create("Lead", [{"LastName": "L", "Company": "C"}])[0]
    made = make(rest, "Lead.Score__c", type="Number", precision=3, scale=0)
    assert rest.refused("PATCH", f"sobjects/Lead/{lead}", json={"Score__c": 5}) == (400, "INVALID_FIELD")
    name = grant(rest, fresh.site.org.users["integration"], "Lead.Score__c")
    assert rest("PATCH", f"sobjects/Lead/{lead}", json={"Score__c": 5}).status_code == 204
    assert fresh.control.read(lead)["Score__c"] == 5
    read = rest("GET", f"{TOOLING}/{made}").json()
    assert (read["FullName"], read["DeveloperName"], read["TableEnumOrId"]) == ("Lead.Score__c", "Score", "Lead")
    assert read["Metadata"]["precision"] == 3
    text = "SELECT Id, DeveloperName FROM CustomField WHERE TableEnumOrId = 'Lead' AND DeveloperName = 'Score'"
    assert rest("GET", "tooling/query", params={"q": text}).json()["records"][0]["Id"] == made
    text = f"SELECT Field, PermissionsEdit FROM FieldPermissions WHERE ParentId = '{name}'"
    assert rest("GET", "query", params={"q": text}).json()["records"][0]["Field"] == "Lead.Score__c"


def test_each_kind_of_score_field_is_described_as_it_was_made(fresh: Twin) -> None:
    rest = Rest(fresh)
    values = {"value": [{"fullName": each, "default": False} for each in ("Hot", "Warm")]}
    given: dict[str, dict[str, Any]] = {
        "Score__c": {"type": "Number", "precision": 5, "scale": 2},
        "Band__c": {"type": "Picklist", "valueSet": {"restricted": True, "valueSetDefinition": values}},
        "Reasons__c": {"type": "LongTextArea", "length": 2000, "visibleLines": 3},
        "Scored_At__c": {"type": "DateTime"},
        "Receipt__c": {"type": "Url"},
        "Model__c": {"type": "Text", "length": 40},
        "Hot__c": {"type": "Checkbox", "defaultValue": "false"},
    }
    for name, metadata in given.items():
        make(rest, f"Lead.{name}", **metadata)
    grant(rest, fresh.site.org.users["integration"], *(f"Lead.{name}" for name in given))
    described = {each["name"]: each for each in rest("GET", "sobjects/Lead/describe").json()["fields"]}
    assert {name: (described[name]["type"], described[name]["soapType"]) for name in given} == {
        "Score__c": ("double", "xsd:double"),
        "Band__c": ("picklist", "xsd:string"),
        "Reasons__c": ("textarea", "xsd:string"),
        "Scored_At__c": ("datetime", "xsd:dateTime"),
        "Receipt__c": ("url", "xsd:string"),
        "Model__c": ("string", "xsd:string"),
        "Hot__c": ("boolean", "xsd:boolean"),
    }
    assert (described["Score__c"]["precision"], described["Score__c"]["scale"]) == (5, 2)
    assert [each["value"] for each in described["Band__c"]["picklistValues"]] == ["Hot", "Warm"]
    assert described["Reasons__c"]["filterable"] is False
    assert all(described[name]["custom"] and described[name]["updateable"] for name in given)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "a field that is there": (
        {"FullName": "Lead.Score__c", "Metadata": {"label": "S", "type": "Date"}},
        "DUPLICATE_DEVELOPER_NAME",
    ),
    "an object that is not there": (
        {"FullName": "Nothing.Score__c", "Metadata": {"label": "S", "type": "Date"}},
        "INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST",
    ),
    "a name that does not end as it must": ({"FullName": "Lead.Score", "Metadata": {"label": "S"}}, "INVALID_INPUT"),
    "a name with two underscores": ({"FullName": "Lead.A__b__c", "Metadata": {"label": "S"}}, "INVALID_INPUT"),
    "no metadata": ({"FullName": "Lead.Other__c"}, "REQUIRED_FIELD_MISSING"),
    "no label": ({"FullName": "Lead.Other__c", "Metadata": {"type": "Date"}}, "FIELD_INTEGRITY_EXCEPTION"),
    "no precision": (
        {"FullName": "Lead.Other__c", "Metadata": {"label": "S", "type": "Number"}},
        "FIELD_INTEGRITY_EXCEPTION",
    ),
    "a text of 256": (
        {"FullName": "Lead.Other__c", "Metadata": {"label": "S", "type": "Text", "length": 256}},
        "FIELD_INTEGRITY_EXCEPTION",
    ),
    "a picklist of nothing": (
        {"FullName": "Lead.Other__c", "Metadata": {"label": "S", "type": "Picklist"}},
        "FIELD_INTEGRITY_EXCEPTION",
    ),
}


@pytest.mark.parametrize(("given", "code"), REFUSED.values(), ids=REFUSED)
def test_a_field_that_cannot_be_is_refused(rest: Rest, given: dict[str, Any], code: str) -> None:
    assert rest.refused("POST", TOOLING, json=given) == (400, code)


def test_a_grant_of_what_is_not_there_is_refused(rest: Rest) -> None:
    name = rest("POST", "sobjects/PermissionSet", json={"Name": "Own", "Label": "Own"}).json()["id"]
    bad = "INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST"
    of = {"ParentId": name, "SobjectType": "Lead"}
    for field in ("Lead.Nothing__c", "Lead.LastName", "Contact.Email"):
        assert rest.refused("POST", "sobjects/FieldPermissions", json={**of, "Field": field}) == (400, bad)
    edit = {**of, "PermissionsEdit": True}
    assert rest.refused("POST", "sobjects/ObjectPermissions", json=edit) == (400, "FIELD_INTEGRITY_EXCEPTION")
    given = {**of, "Field": "Lead.City", "PermissionsRead": True}
    assert rest("POST", "sobjects/FieldPermissions", json=given).status_code == 201
    assert rest.refused("POST", "sobjects/FieldPermissions", json=given) == (400, "DUPLICATE_VALUE")
    assert rest.refused("POST", "sobjects/PermissionSet", json={"Name": "own", "Label": "O"}) == (
        400,
        "DUPLICATE_VALUE",
    )


def test_a_user_of_the_least_profile_may_do_what_was_granted_and_nothing_else(fresh: Twin) -> None:
    lead = fresh.control.create("Lead", [{"LastName": "L", "Company": "C", "Title": "CEO"}])[0]
    fresh.control.add_field("Lead", "Score__c double 3,0")
    user = fresh.site.org.users["integration"]
    granted = ("Lead.Score__c", "Lead.Industry")
    grant(Rest(fresh, user="admin"), user, *granted, objects={"Lead": ["Read", "Edit"]})
    fresh.control.set_profile(MINIMUM)
    rest = Rest(fresh)
    described = rest("GET", "sobjects/Lead/describe").json()
    assert (described["createable"], described["updateable"], described["deletable"]) == (False, True, False)
    names = {each["name"] for each in described["fields"]}
    # What an object cannot be without is seen along with it; the rest is not.
    assert {"Id", "LastName", "Company", "Status", "Score__c", "Industry", "SystemModstamp"} <= names
    assert names & {"Title", "Email", "City", "Description"} == set()
    assert rest("PATCH", f"sobjects/Lead/{lead}", json={"Score__c": 5}).status_code == 204
    assert rest.refused("PATCH", f"sobjects/Lead/{lead}", json={"Title": "x"}) == (400, "INVALID_FIELD")
    assert rest.refused("GET", "sobjects/Contact/describe") == (404, "NOT_FOUND")
    assert rest.refused("POST", TOOLING, json={"FullName": "Lead.X__c"}) == (403, "INSUFFICIENT_ACCESS")
    code = "CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY"
    assert rest.refused("POST", "sobjects/PermissionSet", json={"Name": "X", "Label": "X"}) == (400, code)


def test_a_field_is_changed_and_taken_away(fresh: Twin) -> None:
    rest = Rest(fresh)
    made = make(rest, "Lead.Note__c", type="Text", length=20)
    grant(rest, fresh.site.org.users["integration"], "Lead.Note__c")
    longer = {"Metadata": {"label": "Note", "type": "Text", "length": 80}}
    assert rest("PATCH", f"{TOOLING}/{made}", json=longer).status_code == 204
    described = {each["name"]: each for each in rest("GET", "sobjects/Lead/describe").json()["fields"]}
    assert described["Note__c"]["length"] == 80
    other = {"Metadata": {"label": "Note", "type": "Date"}}
    assert rest.refused("PATCH", f"{TOOLING}/{made}", json=other) == (400, "FIELD_INTEGRITY_EXCEPTION")
    assert rest("DELETE", f"{TOOLING}/{made}").status_code == 204
    assert rest.refused("GET", "query?q=SELECT+Note__c+FROM+Lead") == (400, "INVALID_FIELD")
    assert rest.refused("GET", f"{TOOLING}/{made}") == (404, "NOT_FOUND")
