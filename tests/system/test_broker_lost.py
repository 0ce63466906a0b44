"""Brokers lose everything, stop, and are never there: that costs waiting, at most a poll interval and a lease."""

from __future__ import annotations

import os
import threading
import uuid
from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest
from kombu import Connection

from hub.runs import Run, RunKind, RunState
from hub.sdk.testing.proxy import Behaviour, FaultProxy
from hub.worker import Supervisor
from tests.conftest import RABBITMQ
from tests.hub.runs.site import Site
from tests.system.drill import Make, Mutator, assert_master_property, describe, runs, settled, until, workers
from tests.system.servers import RedisServer, again_and_again, free_port, own_redis

pytestmark = pytest.mark.timeout(300)

LEASE, POLL = 30.0, 3.0
BOUND = timedelta(seconds=1.2 * POLL + LEASE)
"""Looks are spread by a fifth; far above what a busy machine adds to a look that is due."""
STOPPED = float(os.environ.get("HUB_TEST_BROKER_STOPPED", "20"))
"""Seconds for which Redis is stopped: four rounds of its client's back-off. 60 is the full drill."""


def flushed(broker: RedisServer) -> None:
    """All that it holds is gone, every three seconds."""
    with again_and_again(broker.flush, 3.0) as done:
        until(lambda: len(done) >= 4)


def stopped(broker: RedisServer) -> None:
    """It does not answer for a while."""
    broker.end()
    threading.Event().wait(STOPPED)
    broker.start()


def restarted(broker: RedisServer) -> None:
    """It comes back at once and knows nothing."""
    for _ in range(3):
        broker.end()
        broker.start()


def name() -> str:
    """An installation's own: two tests on one broker do not hear each other."""
    return f"t{uuid.uuid4().hex[:9]}"


def waited(run: Run) -> timedelta:
    """For how long nobody took a run up, by the ledger's clock."""
    assert run.started_at is not None, describe(run)
    return run.started_at - run.created_at


def all_started(supervisor: Supervisor) -> bool:
    return all(each.started for each in supervisor._children)


def order_again_and_again(site: Site, while_: threading.Thread) -> None:
    """One run after the other while that goes on, and one more."""
    while True:
        last = not while_.is_alive()
        until(settled(site, site.order(RunKind.FULL)), 100)
        if last:
            return


@pytest.mark.parametrize("fault", [flushed, stopped, restarted])
def test_whatever_becomes_of_redis_runs_are_delayed_and_no_more(
    fault: Callable[[RedisServer], None], make_site: Make
) -> None:
    with own_redis() as broker:
        site = make_site(
            24, slices=2, page_rows=4, lease_seconds=LEASE, poll_seconds=POLL, broker_url=broker.url, environment=name()
        )
        with Mutator(site, 1, membership=False), workers(site, 2) as supervisor:
            until(lambda: all_started(supervisor))
            harm = threading.Thread(target=fault, args=(broker,))
            harm.start()
            order_again_and_again(site, harm)
            harm.join()
        assert supervisor.replaced == 0
    for each in runs(site):
        assert each.state in (RunState.DONE, RunState.DONE_WITH_REJECTS), describe(each)
        assert waited(each) <= BOUND, describe(each)
    assert_master_property(site, make_site)


def test_workers_find_the_work_by_themselves_where_there_is_no_broker(make_site: Make) -> None:
    url = f"redis://127.0.0.1:{free_port()}/0"
    site = make_site(20, slices=2, page_rows=4, lease_seconds=LEASE, poll_seconds=POLL, broker_url=url)
    with workers(site, 2) as supervisor:
        until(lambda: all_started(supervisor))
        until(settled(site, site.order()))
    assert supervisor.replaced == 0
    (run,) = runs(site)
    assert (run.state, waited(run) <= BOUND) == (RunState.DONE, True)
    assert_master_property(site, make_site)


@pytest.fixture
def rabbitmq() -> Iterator[tuple[FaultProxy, str, str]]:
    """A proxy before RabbitMQ, its URL, and the name of an installation whose queue is deleted afterwards."""
    environment = name()
    with FaultProxy("127.0.0.1", 5672) as proxy:
        yield proxy, RABBITMQ.replace(":5672", f":{proxy.port}"), environment
    with Connection(RABBITMQ) as connection:
        connection.default_channel.queue_delete(queue_of(environment))


def queue_of(environment: str) -> str:
    return f"hub.{environment}.default"


@pytest.mark.service("rabbitmq")
def test_a_run_rung_through_rabbitmq_survives_its_queue_and_its_connections(
    rabbitmq: tuple[FaultProxy, str, str], make_site: Make
) -> None:
    proxy, url, environment = rabbitmq
    site = make_site(
        24, slices=2, page_rows=4, lease_seconds=LEASE, poll_seconds=POLL, broker_url=url, environment=environment
    )
    with Connection(RABBITMQ) as connection, Mutator(site, 1, membership=False), workers(site, 2) as supervisor:
        until(lambda: all_started(supervisor))
        channel = connection.default_channel
        for harm in (
            lambda: channel.queue_purge(queue_of(environment)),
            lambda: channel.queue_delete(queue_of(environment)),
            proxy.reset,
        ):
            until(lambda: listeners(environment) == 2)
            run = site.order(RunKind.FULL)
            until(lambda run=run: site.look(run).state is not RunState.QUEUED)
            harm()
            until(settled(site, run), 100)
        until(lambda: listeners(environment) == 2)
        assert supervisor.replaced == 0
    for each in runs(site):
        assert each.state in (RunState.DONE, RunState.DONE_WITH_REJECTS), describe(each)
        assert waited(each) <= BOUND, describe(each)
    assert_master_property(site, make_site)


class Deafening(FaultProxy):
    """Leaves connections open on one side alone: those that stand now, none that come later."""

    def deafen(self) -> None:
        """From now on nothing comes through them, and nobody is told."""
        with self._lock:
            for each in self._links:
                each.begin(Behaviour(silent=True))


@pytest.mark.service("rabbitmq")
def test_a_worker_that_consumes_no_more_is_noticed_and_replaced(
    rabbitmq: tuple[FaultProxy, str, str], make_site: Make
) -> None:
    _, _, environment = rabbitmq
    with Deafening("127.0.0.1", 5672) as proxy:
        url = RABBITMQ.replace(":5672", f":{proxy.port}")
        site = make_site(
            12, lease_seconds=60, poll_seconds=0.5, record_seconds=600, broker_url=url, environment=environment
        )
        with workers(site, 1) as supervisor:
            until(lambda: all_started(supervisor))
            (first,) = supervisor.pids
            until(lambda: listeners(environment) == 1)
            proxy.deafen()
            until(lambda: supervisor.replaced, 100)
            (second,) = until(lambda: [each for each in supervisor.pids if each != first])
            assert second != first
            until(settled(site, site.order()))
        assert supervisor.replaced == 1
        assert_master_property(site, make_site)


def listeners(environment: str) -> int:
    """How many workers listen at the installation's queue, as RabbitMQ knows it."""
    with Connection(RABBITMQ) as connection:
        try:
            return int(connection.channel().queue_declare(queue_of(environment), passive=True).consumer_count)
        except connection.channel_errors:
            return 0
