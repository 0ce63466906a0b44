"""How scores are written to an org: by which way, past which rules, and beside whom."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from connectors.salesforce.config import SalesforceConfig
from hub.runs import RunState
from hub.sdk import Secret
from tests.connectors.salesforce.orgs import LeadSite
from tests.connectors.salesforce.test_storms import BULK, COLLECTIONS, PATIENCE
from tests.system.drill import lone_worker, until

Make = Callable[..., LeadSite]
DUPLICATES = {"fields": ["Score__c"]}
"""A rule that looks at the very field that is written, so that each write meets it."""


@pytest.mark.parametrize(("records", "jobs"), [(2_000, 0), (2_001, 1)])
def test_from_2001_records_on_a_page_is_written_in_bulk(make_org: Make, records: int, jobs: int) -> None:
    site = make_org(records, page_rows=5_000)
    site.publish()

    ended = site.carry(site.order())

    assert ended.state is RunState.DONE, (ended.reason, ended.counts)
    assert len(site.twin.control.calls(kind="bulk.ingest.create")) == jobs
    site.assert_all_scored(ended)


def test_records_of_a_job_that_somebody_aborts_are_written_all_the_same(make_org: Make) -> None:
    site = make_org(300, way=BULK, lease_seconds=10, poll_seconds=0.2)
    site.publish()
    run = site.order()
    control, jobs = site.twin.control, site.twin.site.jobs
    control.forget_calls()
    with lone_worker(site):  # type: ignore[arg-type]
        until(lambda: control.calls(kind="bulk.query.results"), PATIENCE)
        control.hold_jobs()
        until(lambda: control.calls(kind="bulk.ingest.poll"), PATIENCE)
        [job] = jobs.all("ingest")
        jobs.change(job["id"], state="Aborted")
        control.hold_jobs(held=False)
        until(lambda: site.look(run).state.final, PATIENCE)

    ended = site.look(run)
    assert ended.state is RunState.DONE, (ended.reason, ended.counts)
    site.assert_all_scored(ended)
    assert "sent 300 records again that a job of the far side had left unprocessed" in site.happened(run)


@pytest.mark.parametrize("way", [COLLECTIONS, BULK], ids=["collections", "bulk"])
def test_a_duplicate_rule_that_alerts_is_passed_where_the_connection_says_so(
    make_org: Make, way: dict[str, str]
) -> None:
    site = make_org(10, way=way)
    control = site.twin.control
    past, *leads = site.leads()
    wanted = site.wanted(leads)
    taken = wanted[leads[0]["Id"]]
    control.shift(past["Id"], {"IsConverted": 1, "Score__c": taken})
    control.rule("duplicates", "Lead", "same", {**DUPLICATES, "action": "alert"})
    site.publish()
    run = site.order()
    control.forget_calls()

    ended = site.carry(run)

    assert (ended.state, ended.counts.by) == (RunState.DONE, {"applied": 9}), ended.reason
    assert {each["Id"]: each["Score__c"] for each in site.leads() if each["Id"] in wanted} == wanted
    # No header passes alerts in a bulk job: what it refused goes again by collections.
    alike = sum(score == taken for score in wanted.values())
    sent = sum(each["detail"].get("records", 0) for each in control.calls(kind="composite"))
    assert sent == (alike if way is BULK else 9)
    assert "locked" not in site.happened(run)


@pytest.mark.parametrize("by", [COLLECTIONS, BULK], ids=["collections", "bulk"])
@pytest.mark.parametrize(("action", "way"), [("block", {}), ("alert", {"pass_alerts": False})])
def test_a_duplicate_rule_that_blocks_rejects_its_records_with_the_reason(
    make_org: Make, action: str, way: dict[str, Any], by: dict[str, str]
) -> None:
    site = make_org(10, way={**by, **way})
    past, *leads = site.leads()
    wanted = site.wanted(leads)
    taken = wanted[leads[0]["Id"]]
    site.twin.control.shift(past["Id"], {"IsConverted": 1, "Score__c": taken})
    site.twin.control.rule("duplicates", "Lead", "same", {**DUPLICATES, "action": action})
    site.publish()

    ended = site.carry(site.order())

    refused = {name for name, score in wanted.items() if score == taken}
    assert ended.state is RunState.DONE_WITH_REJECTS, (ended.reason, ended.counts)
    assert ended.counts.balanced
    assert ended.counts.by["rejected"] == len(refused)
    kept = {each["Id"] for each in site.leads() if each["Score__c"] is None}
    assert kept == refused


CONTACTS = """
format: 1
mapping: contacts
title: Contact score
owner: tests
purpose: Score contacts of few accounts
read: { connection: crm, entity: Contact }
features: { x: "1", y: "1" }
model: { name: risk }
decide: { score: "round(100 * probability)" }
write: { mode: update, set: { Score__c: score } }
"""


def test_children_of_one_parent_are_sent_side_by_side_and_take_no_lock_from_each_other(make_org: Make) -> None:
    site = make_org(0, way={**BULK, "objects": ["Contact"]})
    control = site.twin.control
    control.add_field("Contact", "Score__c double 3,0")
    parents = control.create("Account", [{"Name": f"M{n}"} for n in range(4)])
    control.create("Contact", [{"LastName": "D", "AccountId": parents[n % 4]} for n in range(200)])
    control.batches(50, side_by_side=True)
    site.publish(CONTACTS)

    run = site.order("contacts")
    ended = site.carry(run)

    assert ended.state is RunState.DONE, (ended.reason, ended.counts)
    assert ended.counts.by == {"applied": 200}
    assert len(control.calls(kind="bulk.ingest.create")) == 1
    assert "locked" not in site.happened(run)


def test_the_lightning_host_is_refused_before_a_login() -> None:
    given: dict[str, Any] = {"login": "client_credentials", "client_id": "k", "client_secret": Secret("s")}
    with pytest.raises(ValueError, match=r"Lightning host are not valid for the API; use the my\.salesforce\.com one"):
        SalesforceConfig(host="acme.lightning.force.com", **given)
    assert SalesforceConfig(host="acme.my.salesforce.com", **given).host == "acme.my.salesforce.com"
