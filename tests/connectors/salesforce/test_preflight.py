"""An org that does not fit: said before anything is written, field by field, with what to ask the administrator for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from hub.runs import PreflightError
from tests.connectors.salesforce.orgs import LeadSite, document

Make = Callable[..., LeadSite]
PATH = "ConvertedAccount.NumberOfEmployees"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            lambda control: control.hide("Lead.Score__c"),
            ["write.set.Score__c", "has no field Score__c", "then ask its administrator for the right to read it"],
        ),
        (
            lambda control: control.hide("Lead.NumberOfEmployees"),
            ["unknown field NumberOfEmployees", "then ask its administrator for the right to read it"],
        ),
        (
            lambda control: control.read_only("Lead.Score__c"),
            ["Score__c of Lead is read-only", "ask its administrator for the right to edit Lead.Score__c"],
        ),
        (
            lambda control: control.change_field("Lead", "Band__c", {"type": "string", "length": 3}),
            ["'Cold' is longer than the 3 characters that Band__c holds", "ask its administrator for a longer field"],
        ),
        (
            lambda control: control.change_field(
                "Lead", "Band__c", {"picklistValues": [{"value": "Hot", "label": "Hot", "active": True}]}
            ),
            ["Band__c does not take 'Cold', only Hot", "ask its administrator for this value"],
        ),
        (
            lambda control: control.revoke("Lead", ["edit"]),
            ["Lead of connection crm is read-only", "ask its administrator for the right to update Lead"],
        ),
    ],
    ids=["hidden target", "hidden feature", "read-only", "too short", "picklist", "object"],
)
def test_what_does_not_fit_is_named_before_anything_is_written(
    make_org: Make, change: Callable[[Any], object], told: list[str]
) -> None:
    site = make_org(5)
    site.publish()
    control = site.twin.control
    control.forget_calls()
    change(control)

    with pytest.raises(PreflightError) as refused:
        site.order()

    for each in told:
        assert each in str(refused.value)
    assert site.written() == 0
    with site.hub.database.read() as session:
        assert site.hub.ledger.runs(session) == []


def test_a_parents_field_that_is_hidden_is_named_by_its_path(make_org: Make) -> None:
    site = make_org(5)
    site.publish(document().replace('"coalesce(NumberOfEmployees, 0)"', f"'coalesce(\"{PATH}\", 0)'"))
    ended = site.carry(site.order())
    assert ended.counts.by == {"applied": 5}
    site.twin.control.forget_calls()
    site.twin.control.hide("Account.NumberOfEmployees")

    with pytest.raises(PreflightError) as refused:
        site.order()

    assert PATH in str(refused.value)
    assert site.written() == 0


def test_a_field_hidden_while_the_run_waits_holds_it_before_anything_is_written(make_org: Make) -> None:
    site = make_org(5)
    site.publish()
    run = site.order()
    site.twin.control.forget_calls()
    site.twin.control.hide("Lead.Score__c")

    held = site.carry(run)

    assert held.state.value == "held"
    assert held.reason is not None
    assert "Score__c" in held.reason
    assert site.written() == 0


def test_an_object_that_cannot_be_filtered_by_a_stamp_offers_no_reading_of_changes_by_it(make_org: Make) -> None:
    site = make_org()

    def offered() -> tuple[str, ...]:
        [lead] = site.hub.connections.entities("crm", ["Lead"])
        return lead.changed_by

    # Not `CreatedDate`, which never moves: a reading by it would miss every change.
    assert offered() == ("SystemModstamp", "LastModifiedDate")
    site.twin.control.change_field("Lead", "SystemModstamp", {"filterable": False})
    assert "SystemModstamp" not in offered()


def test_a_run_does_not_ask_for_the_name_of_its_login_and_a_check_by_people_does(make_org: Make) -> None:
    site = make_org(5)
    control = site.twin.control
    site.publish()
    control.forget_calls()

    site.carry(site.order())

    assert not control.calls(kind="login.userinfo")
    assert site.hub.connections.check("crm").identity.endswith("@twin.example")
    assert len(control.calls(kind="login.userinfo")) == 1
