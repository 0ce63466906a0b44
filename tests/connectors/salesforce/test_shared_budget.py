"""Three mappings on one org at once, with fewer calls left than they need: one budget, and none of them starves."""

from __future__ import annotations

import os
import signal
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager

import pytest

from hub.sdk import Happening
from hub.worker.supervisor import Supervisor
from tests.connectors.salesforce.orgs import LeadSite
from tests.system.drill import until, workers

Make = Callable[..., LeadSite]
NAMES = ("first", "second", "third")
CALLS, USED, STOP = 300, 90, 237
"""Of the day; three calls above the reserve are set aside for looks. So many pages that a late start costs little."""
FAIR = 1 / 3
"""The least share that the slowest mapping gets of what the fastest gets: calls go to whoever asks, page by page."""


@contextmanager
def _held(supervisor: Supervisor, site: LeadSite) -> Iterator[None]:
    """All workers frozen, none of them in the middle of a transaction, which would keep everybody else out."""
    pids = [each.process.pid for each in supervisor._children]
    _freeze(pids)
    while not _unlocked(site):
        _thaw(pids)
        _freeze(pids)
    try:
        yield
    finally:
        _thaw(pids)


def _freeze(pids: Sequence[int]) -> None:
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
        os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOWAIT)


def _thaw(pids: Sequence[int]) -> None:
    for pid in pids:
        os.kill(pid, signal.SIGCONT)


def _unlocked(site: LeadSite) -> bool:
    with closing(sqlite3.connect(site.hub.settings.home / "hub.db", timeout=0)) as connection:
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return False
    return True


@pytest.mark.timeout(300)
def test_three_mappings_share_what_is_left_and_none_starves(make_org: Make) -> None:
    site = make_org(2_000, way={"reads": "rest", "writes": "collections"}, page_rows=20, lease_seconds=600)
    control = site.twin.control
    for name in NAMES:
        control.add_field("Lead", f"{name}__c double 3,0")
        site.publish(name=name, write=f"  mode: update\n  set: {{ {name}__c: score }}")

    with workers(site, 3, log_level="error", poll_seconds=0.1) as supervisor:  # type: ignore[arg-type]
        until(lambda: all(each.idle for each in supervisor._children), 120)
        # All begin at once: a process that is up some seconds before the others would have spent what there is.
        with _held(supervisor, site):
            runs = [site.order(name) for name in NAMES]
            control.forget_calls()
            control.budget(most=CALLS, used=USED)
        until(lambda: all("calls of the day are used" in (site.look(each).reason or "") for each in runs), 90)

    applied = [site.look(each).counts.by.get("applied", 0) for each in runs]
    # A call whose connection broke before it arrived is one of the day's for us, and unknown to the org.
    made_again = sum(int(site.look(each).happened.get(Happening.REPEATED, (0, 0.0))[0]) for each in runs)
    assert STOP - made_again <= control.summary()["used"] <= STOP
    assert control.calls(kind="login") == []  # all three work by the session that was there, and nobody ends it
    site.assert_reserve_untouched()
    assert all(0 < each < 2_000 for each in applied)
    assert min(applied) >= FAIR * max(applied), applied
    for each in runs:
        assert site.look(each).counts.balanced
        assert "for the far side" in site.happened(each)
