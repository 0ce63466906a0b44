"""The supervisor replaces what dies, hangs or grows, and nothing outlives it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import psutil
import pytest

from hub.runs import RunState
from hub.runs.installation import Installation
from hub.worker import Supervisor
from tests.hub.runs.conftest import far_side, lease_seconds, make_site, model_home
from tests.hub.runs.site import Site

__all__ = ["far_side", "lease_seconds", "make_site", "model_home"]
Make = Callable[..., Site]


def until(what: Callable[[], object], seconds: float = 150) -> Any:
    """What `what` answers as soon as that is something; other processes are waited for, so the real clock is."""
    pause, end = threading.Event(), time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < end, "it did not come to pass"
        pause.wait(0.1)
    return found


def ended(site: Site, run: str) -> Callable[[], bool]:
    return lambda: site.look(run).state.final or site.look(run).state is RunState.HELD


@pytest.fixture(autouse=True)
def _no_child_left() -> Iterator[None]:
    yield
    left = [each for each in psutil.Process().children(recursive=True) if "hub.worker.child" in each.cmdline()]
    assert left == []


def test_workers_are_fresh_interpreters_and_one_that_is_killed_is_replaced_and_its_slice_freed(make_site: Make) -> None:
    site = make_site(lease_seconds=60, poll_seconds=0.2)
    with Supervisor(site.hub.settings) as supervisor:
        first = supervisor.pids[0]
        run = site.order()
        until(ended(site, run))
        command = psutil.Process(first).cmdline()
        assert command[:3] == [sys.executable, "-m", "hub.worker.child"]
        os.kill(first, signal.SIGKILL)
        [second] = until(lambda: [each for each in supervisor.pids if each != first])
        assert supervisor.replaced == 1
    assert not psutil.pid_exists(second)
    assert site.look(run).state is RunState.DONE


def test_a_record_that_kills_its_process_is_parked_after_three_and_the_rest_pass(
    make_site: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = make_site(lease_seconds=60, poll_seconds=0.2)
    run = site.order()
    monkeypatch.setenv("HUB_FAULT", "exit:before score@000004")
    with Supervisor(site.hub.settings, until_idle=True) as supervisor:
        assert supervisor.wait(200)
        # Once in a page of eight, three times alone; nobody waited for a lease of a minute to run out.
        assert supervisor.replaced == 4
    found = site.look(run)
    assert (found.state, dict(found.counts.by)) == (RunState.DONE_WITH_REJECTS, {"applied": 19, "parked": 1})


def test_a_worker_that_hangs_is_replaced(make_site: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    site = make_site(lease_seconds=60, poll_seconds=0.2, record_seconds=8)
    run = site.order()
    monkeypatch.setenv("HUB_FAULT", "hang:after commit of Worker.work")
    with Supervisor(site.hub.settings) as supervisor:
        first = supervisor.pids[0]
        until(lambda: supervisor.replaced)
        monkeypatch.delenv("HUB_FAULT")
        assert first not in supervisor.pids
        until(ended(site, run))
    assert site.look(run).state is RunState.DONE


def test_a_worker_that_grows_too_large_is_replaced_after_its_page(make_site: Make) -> None:
    site = make_site(poll_seconds=0.2, worker_memory_mb=200)
    run = site.order()
    with Supervisor(site.hub.settings) as supervisor:
        until(ended(site, run))
        until(lambda: supervisor.replaced)
    assert site.look(run).state is RunState.DONE


def test_a_worker_ends_after_its_page_when_told_to_and_with_its_supervisor(make_site: Make) -> None:
    site = make_site(poll_seconds=1)
    from hub.worker.supervisor import _variables

    environment = {**os.environ, **_variables(site.hub.settings)}
    for told in (True, False):
        child = subprocess.Popen(
            [sys.executable, "-m", "hub.worker.child", "--pool", "default"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
        )
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdout.readline()
        if told:
            child.send_signal(signal.SIGTERM)
        child.stdin.close()
        assert child.wait(20) == 0
        child.stdout.close()


@pytest.mark.service("redis")
def test_a_ring_wakes_an_idle_worker_at_once_and_a_lost_one_costs_only_time(make_site: Make, redis_url: str) -> None:
    site = make_site(lease_seconds=300, poll_seconds=250, broker_url=redis_url)
    with Supervisor(site.hub.settings) as supervisor:
        until(lambda: all(each.started for each in supervisor._children))
        until(lambda: not _waiting(site.hub))
        threading.Event().wait(3)  # the worker has looked by itself and found nothing; it looks again in four minutes
        started = time.monotonic()
        run = site.order()
        until(ended(site, run), 20)
        assert time.monotonic() - started < 20
    assert site.look(run).state is RunState.DONE


def _waiting(hub: Installation) -> bool:
    return hub.pending()


def test_a_broker_that_is_away_loses_nothing(make_site: Make) -> None:
    site = make_site(broker_url="redis://127.0.0.1:1/0")
    run = site.order()
    with site.hub.database.read() as session:
        assert site.hub.ledger.more(session, "default")
    with site.hub.database.begin() as session:  # the next ring need not wait for the one that nobody can hear
        assert site.hub.ledger.wants_ring(session, "default", 30)
    assert site.carry(run).state is RunState.DONE
