"""Bitmaps of change events, on the documented form: `0x…` for plain fields, `7-0x…` for the parts of a compound one."""

from __future__ import annotations

from datetime import UTC, datetime
from io import BytesIO
from typing import Any

import pytest
from fastavro import parse_schema, schemaless_writer

from connectors.salesforce.events.headers import Header

TEXTS = {"type": "array", "items": "string"}
ADDRESS = {
    "type": "record",
    "name": "Address",
    "fields": [{"name": name, "type": ["null", "string"]} for name in ("Street", "City", "Country")],
}
PLACE = {
    "type": "record",
    "name": "Location",
    "fields": [{"name": name, "type": ["null", "double"]} for name in ("Latitude", "Longitude")],
}
HEADER = {
    "type": "record",
    "name": "ChangeEventHeader",
    "fields": [
        {"name": "entityName", "type": "string"},
        {"name": "recordIds", "type": TEXTS},
        {"name": "changeType", "type": "string"},
        {"name": "commitUser", "type": "string"},
        {"name": "commitTimestamp", "type": "long"},
        {"name": "changedFields", "type": TEXTS},
    ],
}
SCHEMA: Any = parse_schema(
    {
        "type": "record",
        "name": "AccountChangeEvent",
        "namespace": "com.sforce.eventbus",
        "fields": [
            {"name": "ChangeEventHeader", "type": HEADER},
            *({"name": name, "type": ["null", "string"]} for name in ("Name", "Type", "ParentId")),
            {"name": "BillingAddress", "type": ["null", ADDRESS]},
            {"name": "ShippingAddress", "type": ["null", "Address"]},
            *({"name": f"Field{number}__c", "type": ["null", "string"]} for number in range(6, 20)),
            {"name": "Place__c", "type": ["null", PLACE]},
        ],
    }
)


def header(*bitmaps: str, kind: str = "UPDATE", user: str = "005000000000001AAA") -> Header:
    told: dict[str, Any] = {
        "entityName": "Account",
        "recordIds": ["001000000000001AAA"],
        "changeType": kind,
        "commitUser": user,
    }
    told |= {"commitTimestamp": 1_764_000_000_250, "changedFields": list(bitmaps)}
    out = BytesIO()
    schemaless_writer(out, SCHEMA, {"ChangeEventHeader": told})
    return Header.of(out.getvalue(), SCHEMA)


@pytest.mark.parametrize(
    ("bitmap", "moved"),
    [
        ("0x02", {"Name"}),
        ("0x0C", {"Type", "ParentId"}),
        ("0x0102", {"Name", "Field8__c"}),
        ("0x080000", {"Field19__c"}),
    ],
)
def test_the_lowest_bit_is_the_first_field_of_the_schema(bitmap: str, moved: set[str]) -> None:
    assert header(bitmap).moved == moved


def test_the_moment_of_the_commit_is_in_milliseconds() -> None:
    assert header("0x02").at == datetime(2025, 11, 24, 16, 0, 0, 250_000, UTC)


def test_parts_of_compound_fields_are_the_fields_that_queries_name() -> None:
    found = header("0x02", "4-0x02", "5-0x05", "20-0x01")
    assert {"Name", "BillingCity", "ShippingStreet", "ShippingCountry", "Place__Latitude__s"} <= found.moved
    assert {"BillingStreet", "ShippingCity", "Place__Longitude__s", "Type"}.isdisjoint(found.moved)


@pytest.mark.parametrize(
    ("wanted", "touched"),
    [
        (["Type"], False),
        (["Name"], True),
        (["BillingStreet", "ShippingCity"], False),
        (["BillingCity"], True),
        (["Parent.Industry"], False),
        (["Owner.Name"], True),  # no event tells of the reference, so it may have moved
        (["Formula__c"], True),
        ([], False),
    ],
)
def test_an_event_touches_what_it_may_have_moved(wanted: list[str], touched: bool) -> None:
    assert header("0x02", "4-0x02").touches(wanted) == touched


def test_a_parents_fields_move_with_the_reference() -> None:
    assert header("0x08").touches(["Parent.Industry"])


def test_what_is_no_update_touches_everything() -> None:
    assert all(header(kind=kind).touches(["Type"]) for kind in ("CREATE", "UNDELETE", "GAP_UPDATE", "GAP_CREATE"))


def test_a_gap_is_nobodys_own() -> None:
    assert header("0x02").made_by("005000000000001")
    assert not header("0x02", kind="GAP_UPDATE").made_by("005000000000001")


@pytest.mark.parametrize("payload", [b"", b"\x00", b"\xff" * 40])
def test_bytes_of_no_event_are_an_error_and_not_a_header(payload: bytes) -> None:
    with pytest.raises((ValueError, LookupError, EOFError, TypeError)):
        Header.of(payload, SCHEMA)
