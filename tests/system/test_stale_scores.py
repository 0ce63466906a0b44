"""A score that came too late never overwrites what is newer, and an answer that got lost is looked up, not repeated."""

from __future__ import annotations

import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from sqlalchemy import URL

from hub.audit import Action
from hub.runs import RunKind, RunState
from hub.sdk.testing.proxy import Behaviour, FaultProxy
from tests.hub.runs.site import Site, document
from tests.system.drill import assert_master_property, lone_worker, settled, until, workers
from tests.system.far_databases import Server, site_on

Make = Callable[..., Site]
ELSEWHERE = """  connection: far
  entity: NOTE
  key: { PERSON_ID: ID }
  set: { SCORE: score, BAND: band }
"""


@contextmanager
def frozen(site: Site, fault: str) -> Iterator[subprocess.Popen[bytes]]:
    """A worker process that froze where the fault says; ended with the block."""
    with lone_worker(site, HUB_FAULT=fault) as child:
        until(lambda: psutil.Process(child.pid).status() == psutil.STATUS_STOPPED)
        yield child


def worked(site: Site, run: str) -> None:
    """Real workers carry the run as far as it goes."""
    with workers(site) as supervisor:
        until(settled(site, run))
        assert supervisor.replaced == 0


def test_a_record_edited_between_read_and_write_is_a_conflict_and_rescored_by_the_next_run(make_site: Make) -> None:
    site = make_site(12, lease_seconds=60, poll_seconds=0.2)
    run = site.order()
    with frozen(site, "stop:before write@000003"):
        site.ask("update PERSON set X = 91.0, STAMP = '2026-02-02 12:00:00' where ID = '000003'")
    worked(site, run)
    found = site.look(run)
    assert (found.state, dict(found.counts.by)) == (RunState.DONE_WITH_REJECTS, {"applied": 11, "conflict": 1})
    assert site.scores()["000003"] == (None, None)  # nothing of the stale score
    assert site.standing("000003")["state"] == "conflict"
    run = site.order()
    worked(site, run)
    assert dict(site.look(run).counts.by) == {"skipped": 11, "applied": 1}
    assert site.scores()["000003"][1] == "High"
    assert (site.writes(), site.decisions()) == (12, 13)
    assert_master_property(site, make_site)


@pytest.mark.parametrize("elsewhere", [False, True], ids=["in place", "another entity"])
def test_a_worker_frozen_past_its_lease_writes_nothing_stale_when_it_thaws(elsewhere: bool, make_site: Make) -> None:
    site = make_site(8, lease_seconds=3, poll_seconds=0.2)
    if elsewhere:  # a row whose score nothing on the far side guards: what holds is the margin of the lease alone
        site.publish(document(write=ELSEWHERE, mode="upsert"))
    run = site.order()
    with frozen(site, "stop:before write") as child:
        worked(site, run)  # another worker, once the lease has run out
        assert site.look(run).state is RunState.DONE
        first = [list(each) for each in _held(site, elsewhere)]
        site.ask("update PERSON set X = 99.0 - X, STAMP = '2026-02-02 12:00:00'")
        newer = site.order(RunKind.FULL)
        worked(site, newer)
        assert site.look(newer).state is RunState.DONE
        second = _held(site, elsewhere)
        assert first != second
        site.ask("delete from WRITES")
        events = len(site.events(Action.WRITE_OUTCOME))
        child.send_signal(signal.SIGCONT)
        assert child.wait(30) == 0
    assert _held(site, elsewhere) == second
    assert site.writes() == 0
    assert len(site.events(Action.WRITE_OUTCOME)) == events
    assert {site.look(each).state for each in (run, newer)} == {RunState.DONE}
    again = site.order()
    worked(site, again)
    assert dict(site.look(again).counts.by) == {"skipped": 8}


def _held(site: Site, elsewhere: bool) -> list[Any]:
    table, key = ("NOTE", "PERSON_ID") if elsewhere else ("PERSON", "ID")
    return site.ask(f"select {key}, SCORE, BAND from {table} order by {key}")


@pytest.mark.parametrize(
    "product",
    [
        pytest.param("postgresql", marks=pytest.mark.service("postgresql")),
        pytest.param("mariadb", marks=pytest.mark.service("mariadb")),
    ],
)
def test_an_answer_lost_after_the_commit_is_read_back_and_nothing_is_sent_again(
    product: str, tmp_path: Path, model_home: Path, request: pytest.FixtureRequest
) -> None:
    url: URL = request.getfixturevalue(f"{product}_url")
    port = url.port or {"postgresql": 5432, "mariadb": 3306}[product]
    proxy = FaultProxy(str(url.host), port)
    try:
        with site_on(
            Server(url), tmp_path / "hub", model_home, 20, port=proxy.port, poll_seconds=0.2, slices=1
        ) as site:
            run = site.order()
            proxy.behave(Behaviour(cut_at=b"COMMIT", answered=True))
            mend = threading.Thread(target=_after_the_cut, args=(proxy,))
            mend.start()
            worked(site, run)
            mend.join()
            found = site.look(run)
            assert (found.state, dict(found.counts.by)) == (RunState.DONE, {"applied": 20})
            assert proxy.cuts >= 1
            assert (site.writes(), site.decisions()) == (20, 20)
            intents, outcomes = (len(site.events(each)) for each in (Action.WRITE_INTENT, Action.WRITE_OUTCOME))
            assert intents == outcomes == 3
    finally:
        proxy.close()


def _after_the_cut(proxy: FaultProxy) -> None:
    pause, end = threading.Event(), time.monotonic() + 40
    while not proxy.cuts and time.monotonic() < end:
        pause.wait(0.005)
    proxy.behave(Behaviour())
