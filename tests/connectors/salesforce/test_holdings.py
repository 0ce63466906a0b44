"""The permission set that is planned is exactly enough in an org, and what a login holds beyond it is named."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from connectors.salesforce.connector import SalesforceConnector
from connectors.salesforce.twin.org.org import ADMINISTRATOR, MINIMUM
from hub.cli.demo.crm import opened
from hub.sdk import Context, Grant, Mode, RightsReport, Selection
from tests.connectors.salesforce.harness import TwinHarness

NAMESPACE = "{http://soap.sforce.com/2006/04/metadata}"
PARENT = "ConvertedAccount.Industry"
GRANT = Grant(
    reads={"Lead": frozenset({"Id", "Company", "NumberOfEmployees", "SystemModstamp", "Note__c", PARENT})},
    writes={"Lead": frozenset({"Note__c"})},
    modes={"Lead": frozenset({Mode.UPDATE})},
)


class Narrow:
    """An org whose integration user has the least profile and the permission set that was planned."""

    def __init__(self, harness: TwinHarness) -> None:
        self.harness = harness
        self._config = harness.config()
        with self.open() as connector:
            self.plan = connector.plan(GRANT, login="hub@acme.example")
        told = harness.twin.described()
        self.admin = opened(told, "admin")
        user = next(iter(self.admin.query("SELECT Id FROM User WHERE Alias = 'integrat'")["records"]))["Id"]
        self.parent = self.admin.PermissionSet.create({"Name": "Planned", "Label": "Planned"})["id"]
        self.admin.PermissionSetAssignment.create({"PermissionSetId": self.parent, "AssigneeId": user})
        self._deploy()
        harness.twin.control.set_profile(MINIMUM)

    def _deploy(self) -> None:
        for each in ET.fromstring(self.plan):
            values = {part.tag.removeprefix(NAMESPACE): part.text for part in each}
            kind = each.tag.removeprefix(NAMESPACE)
            if kind == "objectPermissions":
                self.allow(
                    str(values["object"]),
                    **{
                        f"Permissions{right}": values[f"allow{right}"] == "true"
                        for right in ("Create", "Delete", "Edit", "Read")
                    },
                    PermissionsModifyAllRecords=values["modifyAllRecords"] == "true",
                    PermissionsViewAllRecords=values["viewAllRecords"] == "true",
                )
            elif kind == "fieldPermissions":
                field = str(values["field"])
                rights = {"PermissionsRead": True, "PermissionsEdit": values["editable"] == "true"}
                self.admin.FieldPermissions.create(
                    {"ParentId": self.parent, "SobjectType": field.partition(".")[0], "Field": field, **rights}
                )

    def allow(self, entity: str, **rights: bool) -> None:
        """An administrator gives rights on an object."""
        self.admin.ObjectPermissions.create({"ParentId": self.parent, "SobjectType": entity, **rights})

    def verify(self) -> RightsReport:
        with self.open() as connector:
            return connector.verify(GRANT)

    def open(self) -> SalesforceConnector:
        """A connection that gives nothing back of what a test took away."""
        return SalesforceConnector(self._config, Context())


@pytest.fixture
def narrow(tmp_path: Path) -> Iterator[Narrow]:
    harness = TwinHarness(tmp_path)
    try:
        yield Narrow(harness)
    finally:
        harness.close()


def test_what_is_planned_is_exactly_enough(narrow: Narrow) -> None:
    assert "hub@acme.example" in narrow.plan
    report = narrow.verify()
    assert (report.missing, report.excess, report.untold) == ((), (), ())
    with narrow.open() as connector:
        source = connector.source()
        assert source is not None
        pages = list(source.read(Selection("Lead", tuple(sorted(GRANT.reads["Lead"])))))
    assert all(set(GRANT.reads["Lead"]) <= set(each.frame.columns) for each in pages)


def test_what_is_held_beyond_the_plan_is_named(narrow: Narrow) -> None:
    narrow.allow("Contact", PermissionsRead=True, PermissionsEdit=True)
    assert narrow.verify().excess == ("edit Contact", "read Contact")
    narrow.harness.twin.control.set_profile(ADMINISTRATOR)
    excess = narrow.verify().excess
    assert {"Modify All Data", "Customize Application", "delete Lead", "create Lead"} <= set(excess)
    fields = next(each for each in excess if each.startswith("edit fields of Lead: "))
    assert "Email" in fields
    assert "Note__c" not in fields


def test_what_is_taken_away_is_missed_by_name(narrow: Narrow) -> None:
    control: Any = narrow.harness.twin.control
    control.hide("Lead.Note__c")
    assert narrow.verify().missing == ("read Lead.Note__c", "update Lead.Note__c")
    control.restore("Lead.Note__c")
    control.revoke("Lead", ["edit"])
    assert "update Lead" in narrow.verify().missing
    control.revoke("Lead", ["read", "edit"])
    assert narrow.verify().missing == ("read Lead",)
    control.restore("Lead")
    control.hide("Account.Industry")
    assert narrow.verify().missing == (f"read Lead.{PARENT}",)
