"""Bad weather at the org: every record accounted for, none written twice, every wait kept, and the run says so."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from connectors.salesforce.twin.org.store import Change
from hub.audit import Action
from hub.runs import RunState
from hub.runs.execution.heartbeat import Looks
from hub.sdk import Tally
from hub.sdk.shared import Happening
from hub.worker.supervisor import _variables
from tests.connectors.salesforce.orgs import LeadSite
from tests.system.drill import lone_worker, until, workers

Make = Callable[..., LeadSite]
COLLECTIONS = {"reads": "rest", "writes": "collections"}
BULK = {"reads": "bulk", "writes": "bulk"}
PATIENCE = 100.0
UNLOOKED = 6 * PATIENCE
"""A lease under which nobody looks at the far side's fields meanwhile: each fault is meant for a certain call."""


def settle(site: LeadSite, run: str) -> None:
    """One real worker under the supervisor, until the run goes no further."""
    with workers(site, log_level="error"):  # type: ignore[arg-type]
        until(lambda: site.look(run).state.final or site.look(run).state is RunState.HELD, PATIENCE)


def shown(site: LeadSite, run: str) -> dict[str, Any]:
    """What `hub runs show` answers."""
    environment = {**os.environ, **_variables(site.hub.settings)}
    command = [sys.executable, "-m", "hub.cli", "runs", "show", run, "--json"]
    told = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(told.stdout)
    return found


@pytest.mark.parametrize("as_date", [False, True], ids=["seconds", "date"])
def test_a_storm_costs_time_and_nothing_else(make_org: Make, as_date: bool) -> None:
    site = make_org(1_000, way=COLLECTIONS, page_rows=200, lease_seconds=UNLOOKED)
    site.publish()
    run = site.order()
    control = site.twin.control
    control.forget_calls()
    control.budget(most=250, used=120)
    control.fault("503", retry_after=2.0, as_date=as_date, times=2, skip=3)
    control.fault("429", retry_after=2.0, as_date=as_date, times=1, skip=8)
    control.fault("limit", retry_after=2.0, as_date=as_date, times=1, skip=9)
    control.fault("401", times=2, skip=5)
    control.fault("cut", times=1, only="composite", skip=2)
    control.fault("cut_after", times=1, only="composite", skip=3)
    control.fault("half", times=1, only="query")
    control.lock_rate(0.05)

    settle(site, run)

    ended = site.look(run)
    assert ended.state is RunState.DONE, (ended.reason, ended.counts)
    control.lock_rate(0.0)
    site.assert_all_scored(ended)
    site.assert_waits_kept()
    site.assert_reserve_untouched()
    told = "; ".join(shown(site, run)["happened"])
    assert "for the far side" in told
    assert "logged in anew" in told
    assert "that somebody else had locked" in told
    met = {each["fault"] for each in control.calls()}
    assert {"503", "429", "limit", "401", "cut", "cut_after", "half"} <= met


def test_a_bulk_job_that_ends_half_way_leaves_no_record_behind(make_org: Make) -> None:
    site = make_org(1_000, way=BULK)
    site.publish()
    run = site.order()
    control = site.twin.control
    control.forget_calls()
    control.fail_job(after=400)
    control.lock_rate(0.05)
    control.fault("half", times=1, only="bulk.ingest.close")
    control.fault("503", retry_after=1.0, times=1, only="bulk.ingest.poll")
    control.fault("half", times=1, only="bulk.query.results")
    control.fault("401", times=1, only="bulk.ingest.results")

    settle(site, run)

    ended = site.look(run)
    assert ended.state is RunState.DONE, (ended.reason, ended.counts)
    site.assert_all_scored(ended)
    site.assert_waits_kept()
    told = site.happened(run)
    assert "sent 600 records again that a job of the far side had left unprocessed" in told
    assert "that somebody else had locked" in told


def test_what_a_look_at_the_fields_has_to_put_up_with_in_mid_run_is_told_as_well(make_org: Make) -> None:
    site = make_org(4)
    site.publish()
    run = site.order()
    site.twin.control.fault("401", times=1, only="composite")
    tally = Tally()

    Looks(site.hub, run).look(tally)

    assert tally.drain() == {Happening.LOGGED_IN.value: (1, 1.0)}


@pytest.mark.parametrize("way", [COLLECTIONS, BULK], ids=["collections", "the rest of a job"])
def test_a_lost_answer_that_cannot_be_looked_up_at_once_is_looked_up_before_anything_is_sent_again(
    make_org: Make, way: dict[str, str]
) -> None:
    site = make_org(600, way=way, page_rows=600, lease_seconds=UNLOOKED)
    site.publish()
    run = site.order()
    control = site.twin.control
    control.forget_calls()
    control.fault("cut_after", times=1, only="composite", skip=2)
    control.fault("503", retry_after=0.5, times=4, only="query", skip=1 if way is COLLECTIONS else 0)
    control.fail_job(after=100)
    control.lock_rate(0.05)

    settle(site, run)

    ended = site.look(run)
    assert {each["fault"] for each in control.calls()} == {None, "cut_after", "503"}
    assert ended.state is RunState.DONE, (ended.reason, ended.counts)
    site.assert_all_scored(ended)
    site.assert_waits_kept()


def test_a_newer_write_that_followed_a_lost_answer_is_not_written_over(make_org: Make) -> None:
    site = make_org(3, way=COLLECTIONS, lease_seconds=UNLOOKED)
    site.publish()
    run = site.order()
    chosen = site.leads()[0]["Id"]
    listeners = site.twin.site.org.store.listeners

    def overtake(told: Sequence[Change]) -> None:
        if any(each.record == chosen for each in told):
            listeners.remove(overtake)
            site.twin.control.edit(chosen, {"Score__c": 1})

    listeners.append(overtake)
    site.twin.control.fault("cut_after", times=1, only="composite")

    ended = site.carry(run)

    assert ended.counts.by == {"applied": 2, "conflict": 1}
    assert {each["Id"]: each["Score__c"] for each in site.leads()}[chosen] == 1
    assert site.carry(site.order()).counts.by == {"applied": 1, "skipped": 2}
    assert {each["Id"]: each["Score__c"] for each in site.leads()} == site.wanted(site.leads())
    (_, first) = site.hub.audit.events(action=Action.WRITE_OUTCOME)
    assert first.event.detail["maybe_written"] == 1


def test_a_collection_that_fails_inside_a_call_that_does_not_is_looked_up_and_sent_again(make_org: Make) -> None:
    site = make_org(600, way=COLLECTIONS, page_rows=600, lease_seconds=UNLOOKED)
    site.publish()
    run = site.order()
    control = site.twin.control
    control.forget_calls()
    control.fault("500", times=1, only="part", skip=1)

    ended = site.carry(run)

    assert ended.state is RunState.DONE, (ended.reason, ended.counts)
    site.assert_all_scored(ended)
    written = [each["detail"]["records"] for each in control.calls(kind="composite") if each["detail"].get("records")]
    assert written == [400, 200]


def test_a_bulk_job_whose_worker_is_killed_is_found_again(make_org: Make) -> None:
    site = make_org(600, way=BULK, lease_seconds=3, poll_seconds=0.2)
    site.publish()
    run = site.order()
    control = site.twin.control
    control.forget_calls()
    control.hold_jobs(held=False)
    with lone_worker(site) as first:  # type: ignore[arg-type]
        until(lambda: control.calls(kind="bulk.query.results"), PATIENCE)
        control.hold_jobs()
        until(lambda: control.calls(kind="bulk.ingest.poll"), PATIENCE)
        first.kill()
        first.wait()
    control.hold_jobs(held=False)

    settle(site, run)

    ended = site.look(run)
    assert ended.state is RunState.DONE, (ended.reason, ended.counts)
    site.assert_all_scored(ended)
    assert len(control.calls(kind="bulk.ingest.create")) == 1
    assert len(control.calls(kind="bulk.ingest.upload")) == 1
    assert not [each for each in control.calls(kind="composite") if each["detail"].get("records")]
    assert "took up a job once that had been begun before" in site.happened(run)


def test_a_run_stops_above_the_reserve_and_says_so(make_org: Make) -> None:
    site = make_org(1_000, way=COLLECTIONS, page_rows=100)
    site.publish()
    run = site.order()
    control = site.twin.control
    control.forget_calls()
    control.budget(most=100, used=70)

    ended = site.carry(run)

    assert ended.state is RunState.RUNNING
    assert ended.reason is not None
    assert "of the org's 100 calls of the day are used" in ended.reason
    assert control.summary()["used"] == 79
    assert 0 < ended.counts.by["applied"] < 1_000
    assert "waited once for the far side" in site.happened(run)
    site.assert_reserve_untouched()
