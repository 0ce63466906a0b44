"""A followed mapping whose place in the event stream is no longer kept: what was lost is found, once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hub.runs import RunKind, RunState, keep_following
from tests.connectors.salesforce.followed import FOLLOWS, batches, following, written
from tests.connectors.salesforce.orgs import LeadSite
from tests.connectors.salesforce.test_storms import shown
from tests.system.drill import work_by_turns

Make = Callable[..., LeadSite]
KEEPALIVE = 271.0
"""Seconds after which a quiet stream has said that it is alive, and where it is."""


def work(site: LeadSite, over: Callable[[], Any]) -> None:
    """Workers until `over`, of names that nobody had before."""
    site.names += 1
    work_by_turns(site.hub, f"test/{site.names}", over)


def test_edits_whose_events_were_lost_with_the_place_are_found_by_one_run_and_written_once(make_org: Make) -> None:
    site = make_org(20, way={"events": True})
    site.publish(**FOLLOWS)
    control, counted = site.twin.control, written(site)
    other, lead = (each["Id"] for each in site.leads()[:2])
    keep_following(site.hub)

    def begun() -> bool:
        control.edit(other, {"City": f"Town {len(control.calls())}"})  # a field that no mapping reads
        return bool(batches(site) and batches(site)[0].state.final)

    work(site, begun)
    control.edit(lead, {"NumberOfEmployees": 77})
    control.forget_events()
    work(site, lambda: following(site).happened)  # whoever follows stops, before there is a place again
    assert len(batches(site)) == 1

    def found() -> bool:
        control.advance(KEEPALIVE)
        return len(batches(site)) > 1 and batches(site)[-1].state.final

    work(site, found)
    now = len(control.calls(kind="pubsub.subscribe"))
    work(site, lambda: len(control.calls(kind="pubsub.subscribe")) > now)
    first, second = batches(site)
    assert (first.kind, first.counts["applied"]) == (RunKind.FULL, 20)
    assert (second.kind, second.state, second.actor) == (RunKind.INCREMENTAL, RunState.DONE, "service:follower")
    assert second.counts["applied"] == 1
    assert (counted[lead], counted.total()) == (2, 21)
    assert {each["Id"]: each["Score__c"] for each in site.leads()} == site.wanted(site.leads())
    assert shown(site, following(site).id)["happened"] == [
        "heard once that changes may never be told, and had a run look for them"
    ]
