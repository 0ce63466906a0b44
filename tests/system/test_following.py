"""Followed mappings with real workers: whoever follows dies at every named point, freezes, and is replaced."""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import pytest

from hub.runs import RunKind, RunState, keep_following
from tests.hub.runs.site import ME, Site
from tests.hub.runs.test_following import FOLLOWS, batches, edit, following, settle, work, writes_of
from tests.system.drill import (
    DIED,
    Make,
    assert_master_property,
    carry_until_fault,
    frozen,
    lone_worker,
    runs,
    send,
    until,
    workers,
)

pytestmark = pytest.mark.timeout(300)


def _told_of_two(site: Site, turn: int = 1) -> Callable[[], bool]:
    edit(site, "000003", 170.0 - 75.0 * turn)
    edit(site, "000004", 171.0 - 75.0 * turn)
    return lambda: writes_of(site, "000003") > turn and writes_of(site, "000004") > turn


def _told_with_a_gap(site: Site, turn: int) -> Callable[[], bool]:
    both = _told_of_two(site, turn)
    site.ask("delete from TOLD where NO <= (select max(NO) from TOLD where ID = '000003')")
    return lambda: both() and batches(site)[-1].state.final


def _paused(site: Site, turn: int) -> Callable[[], bool]:
    both = _told_of_two(site, turn)
    work(site, both)
    run = following(site).id
    site.hub.mappings.pause("risk", ME, "a test")
    return lambda: site.look(run).state.final


@dataclass(frozen=True)
class Followed:
    """Some commits and calls, and what happens to a followed mapping before a worker meets them."""

    names: tuple[str, ...]
    happens: Callable[[Site, int], Callable[[], bool]]


CASES = {
    "an edit": Followed(
        (
            "commit of Worker.work",
            "open",
            "follow",
            "score",
            "file",
            "rename",
            "commit of Trip.store.commit",
            "commit of Sending.send._enter",
            "write",
            "commit of Trip.settle",
            "acknowledge",
            "commit of Following._move_on",
        ),
        _told_of_two,
    ),
    "a gap": Followed(
        ("commit of Following._move_on", "commit of planning.add_run", "commit of Carriage._leave"), _told_with_a_gap
    ),
    "a pause": Followed(("commit of Carriage._end.commit", "close"), _paused),
}
POINTS = [pytest.param(case, name, id=f"{label}: {name}") for label, case in CASES.items() for name in case.names]


def follower_at_work(site: Site) -> int | None:
    """The process that follows now; a spare one may stand by."""
    with site.hub.database.read() as session:
        held = [each.split("/") for each in site.hub.ledger.holders(session)]
    return next((int(pid) for _, pid, pool in held if pool == "follow"), None)


@pytest.fixture
def followed(make_any_site: Make) -> Site:
    """Twelve persons on either backend, followed and reconciled, with nobody at work."""
    site = make_any_site(12, parts=FOLLOWS, connector="telling", page_rows=5, lease_seconds=60)
    keep_following(site.hub)
    settle(site)
    return site


def assert_each_edit_was_one_write(site: Site, make_site: Make) -> None:
    """Ends what follows, so that its counts are final, then looks at all that must hold of runs."""
    run = following(site)
    if not run.state.final:
        site.hub.mappings.pause("risk", ME, "the end of a test")
        work(site, lambda: site.look(run.id).state.final)
    site.hub.mappings.resume("risk", ME)
    assert all(each.counts.balanced for each in (*batches(site), following(site)))
    assert_master_property(site, partial(make_site, connector="telling"))


@pytest.mark.parametrize(("case", "name"), POINTS)
def test_whoever_follows_next_finishes_what_a_dead_worker_began(
    case: Followed, name: str, followed: Site, make_site: Make
) -> None:
    for turn, when in enumerate(("before", "after"), start=1):
        over = case.happens(followed, turn)
        assert carry_until_fault(followed, f"exit:{when} {name}", "follow") == DIED, when
        work(followed, over)
        assert [writes_of(followed, f"00000{each}") for each in (3, 4, 5)] == [1 + turn, 1 + turn, 1], when
        if followed.hub.mappings.get("risk").paused:
            followed.hub.mappings.resume("risk", ME)
            keep_following(followed.hub)
    assert_each_edit_was_one_write(followed, make_site)


def test_what_a_dead_follower_left_between_two_commits_is_finished_before_another_run_begins(
    followed: Site, make_site: Make
) -> None:
    over = _told_of_two(followed)
    assert carry_until_fault(followed, "exit:before write", "follow") == DIED
    full = followed.order(RunKind.FULL)
    assert followed.carry(full).state is RunState.QUEUED
    light = followed.worker()
    until(lambda: not light.work() and followed.look(full).state.final)  # with nobody who follows about
    assert (over(), followed.look(full).counts["applied"]) == (True, 0)
    with followed.hub.database.read() as session:
        told = followed.hub.ledger.totals(session, followed.hub.database.now(session)).followed["risk"]
    assert sum(told.lags.counts) == 1  # the page remembered when it was told of
    assert_each_edit_was_one_write(followed, make_site)


def test_a_frozen_follower_is_replaced_and_writes_nothing_when_it_wakes(make_any_site: Make, make_site: Make) -> None:
    site = make_any_site(12, parts=FOLLOWS, connector="telling", lease_seconds=3, poll_seconds=0.3)
    with workers(site, 1, followers=2):
        until(lambda: [each for each in runs(site) if each.kind is RunKind.FOLLOW])
        run = following(site).id
        until(lambda: batches(site) and batches(site)[0].state is RunState.DONE)
        first = until(lambda: follower_at_work(site))
        edit(site, "000003", 95.0)
        until(lambda: site.look(run).counts["applied"] == 1)  # and no lock of SQLite's is held
        send(first, signal.SIGSTOP)
        until(lambda: frozen(first))
        edit(site, "000004", 96.0)
        until(lambda: writes_of(site, "000004") == 2)
        send(first, signal.SIGCONT)
        edit(site, "000005", 97.0)
        until(lambda: writes_of(site, "000005") == 2)
        until(lambda: site.look(run).counts["applied"] == 3)
    assert [writes_of(site, f"00000{each}") for each in (3, 4, 5)] == [2, 2, 2]
    assert_each_edit_was_one_write(site, make_site)


def test_a_follower_that_froze_in_a_page_is_fenced_off_by_the_run_that_went_on(
    make_any_site: Make, make_site: Make
) -> None:
    site = make_any_site(12, parts=FOLLOWS, connector="telling", lease_seconds=3, poll_seconds=0.3)
    keep_following(site.hub)
    settle(site)
    over = _told_of_two(site)
    with lone_worker(site, "follow", HUB_FAULT="stop:before file") as child:
        until(lambda: frozen(child.pid))
        full, light = site.order(RunKind.FULL), site.worker()
        until(lambda: not light.work() and site.look(full).state.final)
        assert (over(), site.look(full).counts["applied"]) == (True, 2)
        child.send_signal(signal.SIGCONT)
        until(lambda: following(site).counts["skipped"] == 2)
    assert [writes_of(site, f"00000{each}") for each in (3, 4, 5)] == [2, 2, 1]
    assert_each_edit_was_one_write(site, make_site)
