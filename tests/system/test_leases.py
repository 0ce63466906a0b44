"""Real worker processes and their leases: revoked under them, killed with them, run out while they are frozen."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest
from sqlalchemy import func, select

from hub.access.leases import Lease, LeaseEndedError, live_leases, revoke
from hub.runs import RunKind, RunState
from hub.runs.ledger.tables import SliceRow
from hub.worker.child import DISMISSED
from tests.hub.runs.site import ME, Site
from tests.system.drill import Make, calm, frozen, lone_worker, send, until, workers

pytestmark = pytest.mark.timeout(300)
WITHIN = 5.0
"""Seconds after which a mass revoke has taken effect in every running worker."""


def leased(site: Site) -> list[Lease]:
    """The leases of slices."""
    return [each for each in live_leases(site.hub.database) if each.holder.run is not None]


def at_work(site: Site) -> bool:
    """Whether a worker still holds a slice: the second may notice after the first has held the run."""
    with site.hub.database.read() as session:
        return session.scalar(select(func.count()).where(SliceRow.worker.is_not(None))) != 0


def test_a_mass_revoke_takes_effect_within_five_seconds(make_any_site: Make) -> None:
    site = make_any_site(4000, page_rows=5, slices=2, lease_seconds=60)
    run = site.order(RunKind.FULL)
    with workers(site, 2):
        until(lambda: leased(site) and site.writes() > 0)
        since = time.monotonic()
        assert revoke(site.hub.database, site.hub.audit, ME) >= 1
        until(lambda: site.look(run).state is RunState.HELD)
        assert time.monotonic() - since < WITHIN
        assert "was revoked" in str(site.look(run).reason)
        until(lambda: not leased(site) and not at_work(site))
        assert time.monotonic() - since < WITHIN
        stood = site.writes()
        assert 0 < stood < 4000
    assert site.writes() == stood


def test_a_worker_that_hangs_in_a_call_is_ended_within_five_seconds(make_any_site: Make, tmp_path: Path) -> None:
    site = make_any_site(12, page_rows=5, lease_seconds=60)
    site.order(RunKind.FULL)
    reached = tmp_path / "reached"
    with lone_worker(site, HUB_FAULT=f"note:{reached};hang:before write") as child:
        until(lambda: reached.exists() and "before write" in reached.read_text("utf-8").splitlines())
        assert leased(site)
        since = time.monotonic()
        revoke(site.hub.database, site.hub.audit, ME, connection="far")
        assert child.wait(10) == DISMISSED
        assert time.monotonic() - since < WITHIN
    assert site.writes() == 0


def test_a_worker_whose_leases_were_revoked_goes_and_another_does_its_work(make_any_site: Make) -> None:
    site = make_any_site(2000, page_rows=5, lease_seconds=60)
    run = site.order(RunKind.FULL)
    with lone_worker(site, HUB_FAULT="stop:before score") as child:
        until(lambda: frozen(child.pid))
        (lease,) = leased(site)
        revoke(site.hub.database, site.hub.audit, ME, worker=lease.holder.worker)
        send(child.pid, signal.SIGCONT)
        assert child.wait(20) == DISMISSED
    calm(site)
    assert site.look(run).state is RunState.DONE


def test_the_lease_of_a_killed_worker_dies_with_it(make_any_site: Make) -> None:
    site = make_any_site(12, page_rows=5, lease_seconds=2, poll_seconds=0.2)
    site.order(RunKind.FULL)
    with lone_worker(site, HUB_FAULT="hang:before score") as child:
        (lease,) = until(lambda: leased(site))
        send(child.pid, signal.SIGKILL)
        child.wait()
        until(lambda: not leased(site), 5)
    with pytest.raises(LeaseEndedError):
        site.hub.connections.leases.broker.token(lease.id, None, None)


def test_a_frozen_worker_wakes_to_a_lease_that_is_over(make_any_site: Make) -> None:
    site = make_any_site(12, page_rows=5, lease_seconds=1, poll_seconds=0.2)
    run = site.order(RunKind.FULL)
    with lone_worker(site, HUB_FAULT="stop:before score") as child:
        until(lambda: frozen(child.pid))
        (lease,) = leased(site)
        until(lambda: not leased(site), 5)
        broker = site.hub.connections.leases.broker
        with pytest.raises(LeaseEndedError):
            broker.token(lease.id, None, None)
        until(lambda: site.carry(run).state is RunState.DONE)
        written = site.writes()
        send(child.pid, signal.SIGCONT)
        assert child.wait(60) == 0
        assert lease.id not in {each.id for each in live_leases(site.hub.database)}
    assert site.writes() == written == 12
