"""Workers that live and do nothing, or much to no end: each is noticed, and replaced or a person is asked."""

from __future__ import annotations

import signal

import pytest
from sqlalchemy import text

from hub.runs import RunState
from hub.runs.execution.carriage import Carriage
from hub.runs.execution.worker import MOST_TURNS
from hub.runs.types import LostLeaseError
from tests.hub.runs.site import Site
from tests.system.drill import Make, assert_master_property, send, settled, until, workers

pytestmark = pytest.mark.timeout(300)


def lease_of(site: Site) -> str | None:
    """Until when the run's slice is held, as the ledger has it."""
    with site.hub.database.read() as session:
        found = session.execute(text("select max(lease_until) from slice")).scalar_one()
    return None if found is None else str(found)


def test_an_idle_worker_that_is_frozen_is_replaced_long_before_a_step_of_work_would_be_cut(
    make_site: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hub.worker.supervisor.IDLE_SECONDS", 3.0)
    site = make_site(12, lease_seconds=60, poll_seconds=0.5, record_seconds=3000)
    with workers(site, 1) as supervisor:
        until(lambda: supervisor._children[0].idle)
        (first,) = supervisor.pids
        send(first, signal.SIGSTOP)
        until(lambda: supervisor.replaced)
        until(lambda: supervisor.pids and first not in supervisor.pids)
        until(settled(site, site.order()))
        assert supervisor.replaced == 1
    assert_master_property(site, make_site)


def test_a_worker_whose_work_is_stuck_while_its_heartbeat_beats_is_replaced(
    make_site: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = make_site(12, lease_seconds=3, poll_seconds=0.5, record_seconds=10)
    run = site.order()
    monkeypatch.setenv("HUB_FAULT", "hang:before score")
    with workers(site, 1) as supervisor:
        first = until(lambda: lease_of(site))
        monkeypatch.delenv("HUB_FAULT")
        until(lambda: lease_of(site) not in (first, None))  # the lease is kept alive, though nothing moves
        assert supervisor.replaced == 0
        until(lambda: supervisor.replaced)
        until(settled(site, run))
        assert supervisor.replaced == 1
    assert site.look(run).state is RunState.DONE
    assert_master_property(site, make_site)


def test_a_slice_that_is_taken_up_and_given_back_without_end_is_shown_to_a_person(
    make_site: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = make_site(12)
    run = site.order()
    with monkeypatch.context() as broken:

        def lose(_: Carriage) -> None:
            raise LostLeaseError("it seems to be held by another")

        broken.setattr(Carriage, "carry", lose)
        found = site.carry(run)
    assert found.state is RunState.HELD
    assert found.reason is not None
    assert f"taken up {MOST_TURNS} times" in found.reason
