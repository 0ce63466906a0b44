"""Machines whose clock is an hour off, or is put forward and back in the middle of a run, change nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from hub.runs import RunState
from hub.runs.ledger.tables import SliceRow
from tests.hub.runs.site import ME, Site, document
from tests.system.drill import Make, assert_master_property, lone_worker, settled, until, workers

LATE = timedelta(seconds=30)
"""Far less than the hour by which clocks are off here."""
PATIENCE = 120.0
pytestmark = pytest.mark.timeout(400)


@pytest.fixture
def faketime() -> str:
    """The library that tells a process another time; Debian's package `faketime`."""
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    if not found and os.environ.get("HUB_TEST_REQUIRE_SERVICES") == "1":
        pytest.fail("libfaketime is missing, and HUB_TEST_REQUIRE_SERVICES=1")
    if not found:
        pytest.skip("libfaketime is missing; Debian's package faketime has it")
    return str(found[0])


@pytest.fixture
def began() -> Iterator[datetime]:
    """When the test began, by the right clock."""
    return datetime.now(UTC)


def off(faketime: str, by: str) -> dict[str, str]:
    """The variables of a process whose wall clock is off.

    Its monotonic clock is left alone, as no machine puts that one forward or back, and as the library that tells
    another breaks every wait of the interpreter, which hands the kernel a moment by that clock.
    """
    return {"LD_PRELOAD": faketime, "FAKETIME": by, "FAKETIME_DONT_FAKE_MONOTONIC": "1"}


def assert_timed(site: Site, began: datetime) -> None:
    """Whatever was written down happened between the beginning of the test and now."""
    ended = datetime.now(UTC) + LATE
    with site.hub.database.read() as session:
        segments = site.hub.log.segments(session, mapping="risk")
        runs = site.hub.ledger.runs(session)
    moments = [each.at for each in site.hub.audit.events(limit=10_000) if each.at > began - LATE]
    assert len(moments) > len(segments)
    moments += [each.created_at for each in segments]
    moments += [datetime.fromtimestamp((each.id >> 22) / 1000, UTC) for each in segments]
    moments += [each for run in runs for each in (run.created_at, run.started_at, run.finished_at) if each is not None]
    assert min(moments) >= began - LATE
    assert max(moments) <= ended
    days = {f"{began:%Y/%m/%d}", f"{ended:%Y/%m/%d}"}
    assert all(any(day in each.file.path for day in days) for each in segments)


@pytest.mark.service("postgresql", "redis")
def test_workers_an_hour_apart_share_one_run_and_its_times_are_the_databases(
    faketime: str, began: datetime, make_distributed_site: Make, make_site: Make
) -> None:
    site = make_distributed_site(60, slices=4, page_rows=4, poll_seconds=0.2, lease_seconds=5)
    site.publish(document(write=site_write(), run='  schedule: "* * * * *"\n'))
    run = site.order()
    with ExitStack() as stack:
        for by in ("+1h", "-1h"):
            stack.enter_context(lone_worker(site, **off(faketime, by)))
        until(settled(site, run), PATIENCE)
        with site.hub.database.read() as session:
            leases = session.scalars(select(SliceRow.lease_until).where(SliceRow.lease_until.is_not(None))).all()
        assert all(began - LATE < each < datetime.now(UTC) + LATE for each in leases)
    ended = site.look(run)
    assert (ended.state, dict(ended.counts.by)) == (RunState.DONE, {"applied": 60})
    site.hub.mappings.pause("risk", ME, "no more runs by the schedule")
    until(lambda: not site.hub.pending() or site.carry(run))
    site.hub.mappings.resume("risk", ME)
    assert_timed(site, began)
    assert_master_property(site, make_site)


def site_write() -> str:
    """Score and band, with no moment among them."""
    return "  set: { SCORE: score, BAND: band }\n"


def test_a_clock_that_is_put_forward_and_back_in_the_middle_of_a_run_changes_nothing(
    faketime: str, tmp_path: Path, make_site: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = make_site(160, page_rows=2, poll_seconds=0.2, lease_seconds=3, slices=2)
    clock = tmp_path / "clock"
    clock.write_text("+0")
    run = site.order()
    for name, value in {
        "LD_PRELOAD": faketime,
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_CACHE_DURATION": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }.items():
        monkeypatch.setenv(name, value)
    with workers(site, 2) as supervisor:
        for seen, by in ((10, "+1h"), (40, "-1h"), (80, "+0")):
            until(lambda seen=seen: site.writes() >= seen or settled(site, run)(), PATIENCE)  # type: ignore[misc]
            clock.write_text(by)
        until(settled(site, run), PATIENCE)
        assert supervisor.replaced == 0
    for name in ("LD_PRELOAD", "FAKETIME_TIMESTAMP_FILE"):
        monkeypatch.delenv(name)
    ended = site.look(run)
    assert (ended.state, dict(ended.counts.by)) == (RunState.DONE, {"applied": 160})
    assert (site.writes(), site.decisions()) == (160, 160)
    assert_master_property(site, make_site)


def test_a_lease_from_before_the_clock_was_put_back_is_over(make_site: Make) -> None:
    site = make_site(8, lease_seconds=2)
    run = site.order()
    with lone_worker(site, HUB_FAULT="stop:before score"):
        until(lambda: site.look(run).state is RunState.RUNNING)
    with site.hub.database.begin() as session:
        for row in session.scalars(select(SliceRow).where(SliceRow.number == 0)):
            row.worker, row.lease_until = "another machine", datetime.now(UTC) + timedelta(hours=1)
    with workers(site):
        until(settled(site, run), PATIENCE)
    assert site.look(run).state is RunState.DONE
