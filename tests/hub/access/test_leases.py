"""Leases: a credential for the work in hand and no longer, told of when it is handed out and when it is over."""

from __future__ import annotations

import time
from typing import Any

import pytest
from sqlalchemy import text

from hub.access.leases import (
    Ending,
    Held,
    Holder,
    LeaseEndedError,
    LeaseRevokedError,
    WorkerRevokedError,
    abandon_leases,
    live_leases,
    revoke,
    sweep,
)
from hub.audit import Action
from hub.runs import RunKind, RunState
from hub.runs.types import Claim
from hub.sdk import Grant, Secret, UnexpectedError
from tests.hub.runs.conftest import far_side, lease_seconds, make_site, model_home, site
from tests.hub.runs.site import ME, Site

__all__ = ["far_side", "lease_seconds", "make_site", "model_home", "site"]
GRANT = Grant(reads={"PERSON": frozenset({"ID"})})


def claimed(site: Site) -> Claim:
    """A slice in the hands of a worker."""
    site.order(RunKind.FULL)
    with site.hub.database.begin() as session:
        claim = site.hub.ledger.claim(session, "default", "test/1", 60)
    assert claim is not None
    return claim


def closed(site: Site) -> list[dict[str, Any]]:
    return [dict(each.event.detail) for each in site.events(Action.LEASE_CLOSE)]


def test_a_run_opens_one_lease_for_each_slice_and_connection_whatever_its_pages(make_site: Any) -> None:
    site = make_site(60, page_rows=5, slices=3)
    run = site.run(RunKind.FULL)
    opened = [each for each in site.events(Action.LEASE_OPEN) if each.event.run == run.id]
    slices = [each.event.detail["slice"] for each in opened]
    assert len(slices) == len(set(slices)) >= 3
    assert {each.event.subject for each in opened} == {"connection:far"}
    over = [each.event.detail for each in site.events(Action.LEASE_CLOSE) if each.event.run == run.id]
    assert sorted(each["lease"] for each in over) == sorted(each.event.detail["lease"] for each in opened)
    assert sum(each["counts"].get("write", 0) for each in over) == 12
    assert all(each.event.digest for each in opened)


def test_nobody_gets_a_lease_on_a_slice_that_is_not_in_its_hands(site: Site) -> None:
    claim, broker = claimed(site), site.hub.connections.leases.broker
    holder = claim.holder
    handed = broker.open(holder, "far", GRANT)
    assert 0 < handed.seconds <= 60
    for strange in (
        Holder("test/2", holder.run, holder.slice, holder.epoch),
        Holder(holder.worker, holder.run, holder.slice, claim.epoch - 1),
        Holder(holder.worker, "no-run", 0, 1),
    ):
        with pytest.raises(LeaseEndedError, match="fenced off"):
            broker.open(strange, "far", GRANT)


def test_a_lease_ends_no_later_than_that_of_the_ledger(site: Site) -> None:
    claim, hub = claimed(site), site.hub
    broker = hub.connections.leases.broker
    with hub.database.begin() as session:
        hub.ledger.beat(session, claim, 3.0)
    handed = broker.open(claim.holder, "far", GRANT)
    assert handed.seconds <= 3
    with hub.database.begin() as session:
        hub.ledger.beat(session, claim, 60.0)
    assert 3 < broker.renew([handed.id])[handed.id] <= 60


def test_a_lease_whose_slice_was_taken_over_is_not_renewed_and_mints_nothing(site: Site) -> None:
    claim, hub = claimed(site), site.hub
    broker = hub.connections.leases.broker
    handed = broker.open(claim.holder, "far", GRANT)
    with hub.database.begin() as session:
        session.execute(text("update slice set epoch = epoch + 1, worker = 'test/9'"))
    with pytest.raises(LeaseEndedError, match="fenced off"):
        broker.token(handed.id, None, None)
    assert broker.renew([handed.id]) == {}
    assert broker.look([handed.id]) == {handed.id: Ending.FENCED}
    assert closed(site)[0]["why"] == "fenced off"


def test_a_lease_whose_slice_was_given_back_is_not_renewed_and_still_tells_what_was_done(site: Site) -> None:
    claim, hub = claimed(site), site.hub
    broker = hub.connections.leases.broker
    handed = broker.open(claim.holder, "far", GRANT)
    with hub.database.begin() as session:
        hub.ledger.release(session, claim)
    assert broker.renew([handed.id]) == {}  # as the heartbeat does that was under way
    assert broker.look([handed.id]) == {}
    with pytest.raises(LeaseEndedError):
        broker.token(handed.id, None, None)
    with pytest.raises(LeaseEndedError):
        broker.open(claim.holder, "far", GRANT)
    broker.close(handed.id, {"write": 4})
    assert (closed(site)[0]["why"], closed(site)[0]["counts"]) == ("done", {"write": 4})


def test_requests_share_a_lease_and_leave_two_events_however_many_they_are(site: Site) -> None:
    before = len(site.events(Action.LEASE_OPEN))
    for _ in range(20):
        with site.hub.connections.open("far", GRANT) as far:
            far.entities(["PERSON"])
    assert len(site.events(Action.LEASE_OPEN)) == before + 1
    site.hub.connections.leases.close()
    assert closed(site)[0]["counts"] == {"entities": 20}
    assert len(site.events(Action.LEASE_CLOSE)) == before + 1


def test_what_was_lent_is_forgotten_with_the_lease(site: Site) -> None:
    leases, holder = site.hub.connections.leases, claimed(site).holder
    site.hub.connections.put_secrets("far", {"password": Secret("planted")}, ME)
    with leases.hold("far", GRANT, holder) as held:
        secret = held.credential.secrets["password"]
        assert secret.reveal() == "planted"
    with pytest.raises(UnexpectedError, match="over"):
        secret.reveal()
    with pytest.raises(LeaseEndedError):
        held.check()


def test_a_worker_that_slept_past_its_lease_has_nothing_left(site: Site) -> None:
    leases = site.hub.connections.leases
    with leases.hold("far", GRANT, claimed(site).holder) as held:
        held.until = time.monotonic() - 0.001
        with pytest.raises(LeaseEndedError, match="expired"):
            held.check("read")


def test_no_call_goes_out_under_a_lease_that_is_over(site: Site) -> None:
    with site.hub.connections.open("far", GRANT) as far:
        for each in site.hub.connections.leases._held.values():
            each.end(Ending.REVOKED)
        with pytest.raises(LeaseRevokedError, match="far was revoked"):
            far.entities()


def held_by(site: Site, worker: str) -> Held:
    site.names += 1
    made = site.hub.connections.leases.hold("far", GRANT, Holder(worker))
    return made.__enter__()


def test_leases_are_revoked_by_worker_by_connection_or_all_at_once(site: Site) -> None:
    hub = site.hub
    one, two = held_by(site, "host/1/requests"), held_by(site, "host/2/requests")
    assert {each.holder.worker for each in live_leases(hub.database)} >= {"host/1/requests", "host/2/requests"}
    assert revoke(hub.database, hub.audit, ME, worker="host/1/requests") == 1
    look = hub.connections.leases.broker.look([one.id, two.id])
    assert look == {one.id: Ending.WORKER}
    assert isinstance(Ending.WORKER.error("far"), WorkerRevokedError)
    revoke(hub.database, hub.audit, ME, connection="far")
    assert hub.connections.leases.broker.look([two.id]) == {two.id: Ending.REVOKED}
    three = held_by(site, "host/3/requests")
    revoke(hub.database, hub.audit, ME)
    assert live_leases(hub.database) == []
    assert hub.connections.leases.broker.look([three.id]) == {three.id: Ending.REVOKED}
    told = [(each.event.subject, each.event.actor) for each in site.events(Action.LEASE_REVOKE)]
    assert told == [("leases", str(ME)), ("connection:far", str(ME)), ("worker:host/1/requests", str(ME))]


def test_a_run_whose_lease_was_revoked_is_held_and_goes_on_when_a_person_says_so(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, check = site.order(RunKind.FULL), Held.check

    def revoked_before_the_second_write(held: Held, what: str | None = None) -> None:
        if what == "write" and held.counts["write"] == 1:
            held.end(Ending.REVOKED)
        check(held, what)

    monkeypatch.setattr(Held, "check", revoked_before_the_second_write)
    found = site.carry(run)
    assert (found.state, site.writes()) == (RunState.HELD, 8)
    assert "was revoked" in str(found.reason)
    assert site.events(Action.RUN_HOLD)[0].event.detail["reason"] == found.reason
    monkeypatch.setattr(Held, "check", check)
    from hub.runs import resume

    resume(site.hub, run, str(ME))
    assert site.carry(run).state is RunState.DONE


def test_the_end_of_a_lease_that_nobody_closed_is_told_once(site: Site) -> None:
    hub = site.hub
    broker = hub.connections.leases.broker
    dead = broker.open(Holder("host/9/default"), "far", GRANT)
    assert abandon_leases(hub.database, "host/9/default") == 1
    assert dead.id not in {each.id for each in live_leases(hub.database)}
    assert sweep(hub.database, hub.audit) == 1
    assert sweep(hub.database, hub.audit) == 0
    assert [each["why"] for each in closed(site) if each["lease"] == dead.id] == ["expired"]


def test_new_secrets_end_the_leases_of_requests_and_no_slice_s(site: Site) -> None:
    hub, claim = site.hub, claimed(site)
    leases = hub.connections.leases
    asked = held_by(site, "host/1/requests")
    with leases.hold("far", GRANT, claim.holder) as sliced:
        hub.connections.put_secrets("far", {"password": Secret("new")}, ME)
        assert leases.broker.look([asked.id, sliced.id]) == {asked.id: Ending.CHANGED}
        with pytest.raises(LeaseEndedError, match="credentials changed"):
            asked.check()
        sliced.check()


def test_the_table_holds_no_secret(site: Site) -> None:
    site.hub.connections.put_secrets("far", {"password": Secret("pl4nted-s3cret")}, ME)
    site.hub.connections.leases.broker.open(Holder("host/1/requests"), "far", GRANT)
    with site.hub.database.read() as session:
        rows = session.execute(text("select * from access_lease")).all()
    assert len(rows) >= 1
    assert "pl4nted" not in repr(rows)
