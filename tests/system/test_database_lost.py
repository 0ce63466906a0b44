"""PostgreSQL dies at any moment, at COMMIT above all: workers look up what was stored and go on, none is restarted."""

from __future__ import annotations

import random
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import DBAPIError

from hub.audit import Action
from hub.connections.guard import GuardedDestination
from hub.database import DatabaseError
from hub.runs import Run, RunKind, RunState, Worker
from hub.sdk.testing.proxy import Behaviour, FaultProxy
from tests.hub.runs.conftest import register
from tests.hub.runs.site import Site
from tests.system.drill import Mutator, assert_master_property, describe, runs, settled, until, workers
from tests.system.servers import PostgresqlServer, own_postgresql

pytestmark = pytest.mark.timeout(300)

Make = Callable[..., Site]
COMMITS = {
    "claim": "Worker.work",
    "first commit": "Trip.store.commit",
    "start of the write": "Sending.send._enter",
    "second commit": "Trip.settle",
    "end": "Carriage._end.commit",
}
"""The commits of a run's way, by the name of their fault point."""


LONG = 100.0
"""Seconds a run may take that loses its database again and again, on a machine with other things to do."""


@dataclass
class Cluster:
    """A cluster of the tests' own, with a database that has the models registered."""

    server: PostgresqlServer
    home: Path
    made: int = 0

    def copy(self) -> str:
        """A database of its own with the models in it; its name."""
        self.made += 1
        self.server.execute(f"create database site{self.made} template models")
        return f"site{self.made}"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Started once; whoever kills it starts it again."""
    with own_postgresql() as server:
        server.execute("create database models")
        home = tmp_path_factory.mktemp("models")
        register(home, server.url("models"))
        yield Cluster(server, home)


@pytest.fixture
def make_lost_site(cluster: Cluster, make_site: Make, tmp_path: Path) -> Make:
    """As `make_site`, on the tests' own cluster; `through` is the port of a proxy before it."""

    def make(records: int = 20, *, through: int | None = None, **more: Any) -> Site:
        home = tmp_path / f"pg{cluster.made}"
        shutil.copytree(cluster.home, home)
        url = cluster.server.url(cluster.copy(), through)
        return make_site(records, home=home, database_url=url, **more)

    return make


class CommitProxy(FaultProxy):
    """Cuts one connection at its next COMMIT when armed, and does `beside` at that moment."""

    def __init__(self, port: int, beside: Callable[[], object] = lambda: None) -> None:
        super().__init__("127.0.0.1", port)
        self.beside = beside

    def arm(self, *, answered: bool) -> None:
        """The next COMMIT, which the server does (`answered`) or does not see, is never answered."""
        self.behave(Behaviour(cut_at=b"COMMIT", answered=answered))

    def _cut(self) -> None:
        super()._cut()
        self.behave(Behaviour())
        self.beside()


@contextmanager
def armed_at(place: str, act: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Acts once, when a worker of this process reaches a named point for the first time."""
    left = [act]

    def reach(point: str) -> None:
        if point == place and left:
            left.pop()()

    with monkeypatch.context() as patched:
        patched.setenv("HUB_FAULT", "raise:nowhere")  # points have names while something is armed
        patched.setattr("hub.database.reach", reach)
        yield


@pytest.mark.parametrize("answered", [True, False], ids=["stored", "lost"])
@pytest.mark.parametrize("commit", COMMITS)
def test_a_connection_cut_at_commit_is_looked_up_and_the_run_goes_on(
    commit: str,
    answered: bool,
    cluster: Cluster,
    make_lost_site: Make,
    make_site: Make,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with CommitProxy(cluster.server.port) as proxy:
        site = make_lost_site(12, through=proxy.port, page_rows=20, lease_seconds=600)
        run = site.order()
        with armed_at(f"before commit of {COMMITS[commit]}", partial(proxy.arm, answered=answered), monkeypatch):
            found = site.carry(
                run
            )  # one worker, to the end, without an error: the lease of ten minutes is still its own
        assert proxy.cuts == 1
        assert (found.state, dict(found.counts.by)) == (RunState.DONE, {"applied": 12})
        assert site.decisions() == site.writes() == 12
        assert_master_property(site, make_site)


def assert_known_of_the_first_try(site: Site, found: Run, make_site: Make) -> None:
    """All twelve were written by it; one is refused now, since it was deleted meanwhile, and said to be in doubt."""
    assert dict(found.counts.by) == {"applied": 11, "rejected": 1}
    assert site.writes() == 12
    told = [each.event.detail.get("maybe_written") for each in site.events(Action.WRITE_OUTCOME)]
    assert told == [1]
    assert_master_property(site, make_site)


def test_a_second_try_whose_start_was_never_stored_still_knows_of_the_first(
    cluster: Cluster, make_lost_site: Make, make_site: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The try that is made smaller after a failure counts as the first of its size: a lost commit must not look so."""
    write = GuardedDestination.write
    with CommitProxy(cluster.server.port) as proxy:
        site = make_lost_site(12, through=proxy.port, page_rows=20, lease_seconds=600)
        run, worker = site.order(), site.worker()

        def lose_the_answer(self: GuardedDestination, changes: Any, **more: Any) -> Any:
            write(self, changes, **more)
            raise RuntimeError("lost after the write")

        with monkeypatch.context() as patched:
            patched.setattr(GuardedDestination, "write", lose_the_answer)
            worker.work(run)
        site.ask("delete from PERSON where ID = '000011'")
        with armed_at(
            f"before commit of {COMMITS['start of the write']}", partial(proxy.arm, answered=False), monkeypatch
        ):
            found = site.carry(run, worker)
        assert proxy.cuts == 1
        assert_known_of_the_first_try(site, found, make_site)


def test_a_worker_whose_database_stays_away_after_its_write_still_knows_of_it(
    cluster: Cluster, make_lost_site: Make, make_site: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = make_lost_site(12, page_rows=20, lease_seconds=600)
    run, worker = site.order(), site.worker()
    place = f"before commit of {COMMITS['second commit']}"
    with armed_at(place, cluster.server.kill, monkeypatch), pytest.raises((DBAPIError, DatabaseError)):
        work_on(worker)
    site.ask("delete from PERSON where ID = '000011'")
    cluster.server.start()
    assert_known_of_the_first_try(site, site.carry(run, worker), make_site)


def test_a_worker_whose_database_stays_away_goes_on_with_what_it_held_and_no_record_is_blamed(
    cluster: Cluster, make_lost_site: Make, make_site: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = make_lost_site(12, page_rows=20, lease_seconds=600)
    run = site.order()
    worker = site.worker()
    way = ["after claim", "before first commit", "after first commit", "before start of the write"]
    for when, _, commit in (each.partition(" ") for each in [*way, "after start of the write", "before second commit"]):
        place = f"{when} commit of {COMMITS[commit]}"
        with armed_at(place, cluster.server.kill, monkeypatch), pytest.raises((DBAPIError, DatabaseError)):
            work_on(worker)
        cluster.server.start()
    found = site.carry(run, worker)
    assert (found.state, dict(found.counts.by)) == (RunState.DONE, {"applied": 12})
    assert site.decisions() == site.writes() == 12
    assert_master_property(site, make_site)


def work_on(worker: Worker) -> None:
    while worker.work():
        pass


@pytest.mark.parametrize("seed", [1])
def test_workers_go_on_without_restart_however_often_postgresql_is_killed(
    seed: int, cluster: Cluster, make_lost_site: Make, make_site: Make
) -> None:
    chance = random.Random(seed)
    site = make_lost_site(
        60, slices=3, page_rows=4, lease_seconds=5, poll_seconds=0.3, parts={"read": "  leaves: clear\n"}
    )
    with Mutator(site, seed), workers(site, 2) as supervisor:
        until(lambda: all(each.started for each in supervisor._children))
        pids = supervisor.pids
        run = site.order(RunKind.FULL)
        for _ in range(4):
            threading.Event().wait(chance.uniform(0.05, 1.0))
            cluster.server.kill()
            cluster.server.start()
            if again(settled(site, run)):
                run = again(lambda: site.order(RunKind.FULL))
        until(lambda: again(settled(site, run)), LONG)
        assert (supervisor.pids, supervisor.replaced) == (pids, 0)
    for each in runs(site):  # what a colleague edited or deleted meanwhile is a conflict or rejected, and no more
        assert each.state in (RunState.DONE, RunState.DONE_WITH_REJECTS), describe(each)
        assert not any(each.counts[name] for name in ("parked", "unknown", "held", "invalid")), describe(each)
    assert_master_property(site, make_site)


@pytest.mark.parametrize("answered", [True, False], ids=["stored", "lost"])
def test_a_server_that_dies_exactly_at_commit_costs_only_time(
    answered: bool, cluster: Cluster, make_lost_site: Make, make_site: Make
) -> None:
    dead = threading.Event()

    def die() -> None:
        cluster.server.kill()
        dead.set()

    with CommitProxy(cluster.server.port, die) as proxy:
        site = make_lost_site(40, through=proxy.port, page_rows=4, lease_seconds=5, poll_seconds=0.3)
        with workers(site, 2) as supervisor:
            until(lambda: all(each.started for each in supervisor._children))
            pids = supervisor.pids
            run = site.order()
            until(lambda: site.writes())
            proxy.arm(answered=answered)
            until(dead.is_set)
            cluster.server.start()
            until(lambda: again(settled(site, run)))
            assert (supervisor.pids, supervisor.replaced) == (pids, 0)
        assert site.look(run).state is RunState.DONE, site.look(run)
        assert_master_property(site, make_site)


def again(what: Callable[[], Any]) -> Any:
    """What it answers, asked until the hub's database does."""
    found: list[Any] = []

    def ask() -> bool:
        with suppress(DBAPIError, DatabaseError):
            found.append(what())
        return bool(found)

    until(ask)
    return found[0]
