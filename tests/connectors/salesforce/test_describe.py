"""What describe says of compound, polymorphic, long and calculated fields and of closed lists; and their values."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from connectors.salesforce.config import SalesforceConfig
from connectors.salesforce.connector import SalesforceConnector
from connectors.salesforce.twin import Twin
from hub.sdk import Context, Entity, FieldType, Secret, Selection

FORMULA = {"calculated": True, "calculatedFormula": "TODAY() - DATEVALUE(CreatedDate)"}
STORY = ("日本 'quoted', \"twice\"\nand a line " * 2_000)[:32_000].strip()


@pytest.fixture(scope="module")
def twin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Twin]:
    with Twin(tmp_path_factory.mktemp("twin")) as made:
        control = made.control
        control.add_field("Lead", "Story__c textarea 32000")
        control.add_field("Lead", "Age__c double 18,0 fixed")
        control.change_field("Lead", "Age__c", FORMULA)
        control.add_field("Lead", "Band__c picklist 40 restricted =Hot|Warm|Cold")
        listed = [
            {"value": each, "label": each, "active": each != "Warm", "defaultValue": False}
            for each in ("Hot", "Warm", "Cold")
        ]
        control.change_field("Lead", "Band__c", {"picklistValues": listed})
        control.add_field("Lead", "Free__c picklist 40 =Hot|Cold")
        control.add_field("Lead", "Speaks__c multipicklist 200 =de|en|fr")
        yield made


def connector(twin: Twin, **way: Any) -> SalesforceConnector:
    told = twin.described()
    config = SalesforceConfig(
        host=twin.host,
        login="client_credentials",
        client_id=told["consumer_key"],
        client_secret=Secret(told["consumer_secret"]),
        authority=str(twin.authority),
        private=True,
        objects=("Contact", "Lead", "Task"),
        **way,
    )
    return SalesforceConnector(config, Context())


@pytest.fixture(scope="module")
def known(twin: Twin) -> dict[str, Entity]:
    with connector(twin) as one:
        return {each.name: each for each in one.entities()}


def paths(entity: Entity) -> set[str]:
    return {each.name.partition(".")[0] for each in entity.fields if "." in each.name}


def test_a_compound_field_is_its_parts_and_what_is_made_of_them_is_read_and_never_written(
    known: dict[str, Entity],
) -> None:
    lead = known["Lead"].by_name
    assert "Address" not in lead
    assert {each: lead[each].writable for each in ("Street", "City", "PostalCode", "FirstName", "LastName")} == {
        "Street": True,
        "City": True,
        "PostalCode": True,
        "FirstName": True,
        "LastName": True,
    }
    assert (lead["Name"].type, lead["Name"].writable) == (FieldType.TEXT, False)


def test_a_reference_to_one_object_leads_to_its_fields_and_a_polymorphic_one_is_an_id(known: dict[str, Entity]) -> None:
    assert {"Account", "ReportsTo"} <= paths(known["Contact"])
    industry = known["Contact"].by_name["Account.Industry"]
    assert (industry.writable, industry.derived, industry.nullable) == (False, True, True)
    task = known["Task"]
    assert paths(task) & {"Who", "What", "Owner"} == set()
    assert {(task.by_name[each].type, task.by_name[each].length) for each in ("WhoId", "WhatId", "OwnerId")} == {
        (FieldType.TEXT, 18)
    }


def test_what_is_calculated_or_the_systems_own_is_not_written(known: dict[str, Entity]) -> None:
    lead = known["Lead"].by_name
    assert (lead["Age__c"].type, lead["Age__c"].derived, lead["Age__c"].writable) == (FieldType.REAL, True, False)
    assert {lead[each].writable for each in ("Id", "CreatedDate", "CreatedById", "SystemModstamp")} == {False}
    assert lead["IsConverted"].writable is False  # which may be created, and not updated


def test_a_closed_list_holds_its_active_values_and_an_open_one_takes_any(known: dict[str, Entity]) -> None:
    lead = known["Lead"].by_name
    assert (lead["Band__c"].values, lead["Free__c"].values) == (("Hot", "Cold"), ())
    assert lead["Speaks__c"].type is FieldType.TEXT


def test_a_long_text_has_its_length_and_is_not_asked_for_by_value(known: dict[str, Entity]) -> None:
    story = known["Lead"].by_name["Story__c"]
    assert (story.type, story.length, story.operators) == (FieldType.TEXT, 32_000, frozenset())


@pytest.mark.parametrize("way", ["rest", "bulk"])
def test_their_values_are_read_by_both_ways(twin: Twin, way: str) -> None:
    control = twin.control
    [account] = control.create("Account", [{"Name": "A", "Industry": "Energy"}])
    [contact] = control.create("Contact", [{"LastName": "C", "AccountId": account}])
    person = {"FirstName": "Ada", "LastName": "L", "Company": "C"}
    [lead] = control.create("Lead", [{**person, "City": "Oslo", "Story__c": STORY, "Speaks__c": "de;fr"}])
    tasks = control.create("Task", [{"Subject": "S", "WhoId": each} for each in (lead, contact)])
    wanted = {
        "Lead": (lead, {"Name": "Ada L", "City": "Oslo", "Story__c": STORY, "Speaks__c": "de;fr", "Age__c": 0.0}),
        "Contact": (contact, {"Account.Industry": "Energy", "AccountId": account}),
        "Task": (tasks[1], {"WhoId": contact}),
    }
    with connector(twin, reads=way) as one:
        for entity, (key, values) in wanted.items():
            read = [
                row
                for page in one.source().read(Selection(entity, ("Id", *values)))
                for row in page.frame.iter_rows(named=True)
                if row["Id"] == key
            ]
            assert [{name: row[name] for name in values} for row in read] == [values]
    assert bool(control.calls(kind="bulk.query.create")) is (way == "bulk")
    control.forget_calls()
