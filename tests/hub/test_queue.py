"""The doorbell: carries nothing, is heard on real brokers, and never fails for who rings it."""

from __future__ import annotations

import json
import logging
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from celery import Celery
from kombu import Connection
from redis import Redis

from hub.queue import (
    RING,
    SECONDS_TO_ANSWER,
    SECONDS_TO_CONNECT,
    WANTED,
    QueueError,
    assert_effective,
    hang_up,
    listen,
    make_app,
    ring,
)
from hub.sdk.testing.proxy import Behaviour, FaultProxy
from hub.settings import Settings, load_settings

Make = Callable[[str | None], Celery]
ENVIRONMENT = "hubtest"


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Applications that give their connections back."""
    made: list[Celery] = []

    def make_one(broker_url: str | None) -> Celery:
        made.append(make_app(load_settings(home=tmp_path, broker_url=broker_url, environment=ENVIRONMENT)))
        return made[-1]

    yield make_one
    for each in made:
        hang_up(each)


@pytest.fixture
def pool() -> str:
    """The name of a pool that no other test uses."""
    return f"test-{uuid.uuid4().hex[:10]}"


@pytest.fixture(params=[pytest.param(each, marks=pytest.mark.service(each)) for each in ("redis", "rabbitmq")])
def broker(request: pytest.FixtureRequest, pool: str) -> Iterator[str]:
    """Each real broker; the queue of the pool is removed afterwards."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    yield url
    if request.param == "redis":
        redis = Redis.from_url(url)
        redis.delete(f"hub:{name_of(pool)}", f"hub:{name_of(pool)}-other")
        redis.close()
        return
    with Connection(url) as connection:
        connection.default_channel.queue_delete(name_of(pool))


def name_of(pool: str) -> str:
    return f"hub.{ENVIRONMENT}.{pool}"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_until_heard(app: Celery, pool: str, heard: threading.Semaphore) -> None:
    """Rings until the first ring is heard: before, there may be no queue to ring at. Leaves none behind."""
    for _ in range(30):
        ring(app, pool)
        if heard.acquire(timeout=0.5):
            break
    while heard.acquire(timeout=0.3):
        pass


def test_each_ring_is_heard(make: Make, broker: str, pool: str) -> None:
    heard = threading.Semaphore(0)
    with listen(make(broker), pool, heard.release) as listener:
        assert listener.alive
        caller = make(broker)
        wait_until_heard(caller, pool, heard)
        for _ in range(5):
            assert ring(caller, pool)
        for _ in range(5):
            assert heard.acquire(timeout=15)
        assert not heard.acquire(blocking=False)
    assert not listener.alive


def test_a_ring_while_the_listener_is_away_is_heard_later(make: Make, broker: str, pool: str) -> None:
    heard = threading.Semaphore(0)
    with listen(make(broker), pool, heard.release):
        wait_until_heard(make(broker), pool, heard)
    assert ring(make(broker), pool)
    with listen(make(broker), pool, heard.release):
        assert heard.acquire(timeout=15)


def test_a_listener_hears_its_own_pool_alone(make: Make, broker: str, pool: str) -> None:
    heard = threading.Semaphore(0)
    with listen(make(broker), pool, heard.release):
        caller = make(broker)
        wait_until_heard(caller, pool, heard)
        other = f"{pool}-other"
        assert ring(caller, other)
        assert ring(caller, pool)
        assert heard.acquire(timeout=15)
        assert not heard.acquire(timeout=0.3)


def test_a_failing_callback_does_not_end_the_listening(make: Make, broker: str, pool: str) -> None:
    heard = threading.Semaphore(0)

    def fail() -> None:
        heard.release()
        raise ValueError("the loop of the worker is broken")

    with listen(make(broker), pool, fail) as listener:
        caller = make(broker)
        wait_until_heard(caller, pool, heard)
        assert ring(caller, pool)
        assert heard.acquire(timeout=15)
        assert listener.alive


@pytest.mark.service("redis")
def test_a_ring_carries_nothing(make: Make, redis_url: str, pool: str) -> None:
    assert ring(make(redis_url), pool)
    redis = Redis.from_url(redis_url)
    name = f"hub:{name_of(pool)}"
    (stored,) = redis.lrange(name, 0, -1)
    redis.delete(name)
    redis.close()
    message = json.loads(stored)
    assert message["headers"]["task"] == RING
    assert (message["headers"]["argsrepr"], message["headers"]["kwargsrepr"]) == ("()", "{}")
    assert message["content-type"] == "application/json"


@pytest.mark.service("rabbitmq")
def test_no_queue_but_the_pools_own_is_declared(make: Make, rabbitmq_url: str) -> None:
    """A stock worker declares 28 queues and as many exchanges for delays beside a quorum queue."""
    pool = f"test-{uuid.uuid4().hex[:10]}"
    heard = threading.Semaphore(0)
    with listen(make(rabbitmq_url), pool, heard.release), Connection(rabbitmq_url) as connection:
        wait_until_heard(make(rabbitmq_url), pool, heard)
        with pytest.raises(connection.channel_errors, match="NOT_FOUND"):
            connection.channel().queue_declare("celery_delayed_0", passive=True)
    with Connection(rabbitmq_url) as connection:
        connection.default_channel.queue_delete(name_of(pool))


@pytest.mark.parametrize("scheme", ["redis://127.0.0.1:{}/0", "amqp://guest:guest@127.0.0.1:{}//"])
def test_a_broker_that_is_away_costs_nobody_anything(make: Make, scheme: str, caplog: pytest.LogCaptureFixture) -> None:
    app = make(scheme.format(free_port()))
    began = time.monotonic()
    with caplog.at_level(logging.WARNING, logger="hub.queue"):
        assert [ring(app, "default") for _ in range(50)] == [False] * 50
    assert time.monotonic() - began < 2
    assert len([each for each in caplog.records if each.name == "hub.queue"]) == 1


def test_a_broker_that_comes_back_is_rung_again(make: Make, broker: str, pool: str) -> None:
    app = make(broker)
    app.hub_rope._away_until = time.monotonic() + 3600
    assert not ring(app, pool)
    app.hub_rope._away_until = time.monotonic()
    assert ring(app, pool)


@pytest.mark.parametrize("scheme", ["redis://127.0.0.1:{}/0", "amqp://guest:guest@127.0.0.1:{}//"])
def test_a_listener_bears_a_broker_that_is_away(make: Make, scheme: str) -> None:
    listener = listen(make(scheme.format(free_port())), "default", lambda: None)
    assert listener.alive
    listener.close()
    assert not listener.alive


def test_without_a_broker_nothing_rings_and_nothing_is_heard(make: Make) -> None:
    app = make(None)
    assert not ring(app, "default")
    with listen(app, "default", lambda: None) as listener:
        assert not listener.alive


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("task_acks_late", True),
        ("task_reject_on_worker_lost", True),
        ("worker_prefetch_multiplier", 4),
        ("accept_content", ["json", "pickle"]),
        ("result_backend", "redis://127.0.0.1/1"),
        ("worker_enable_remote_control", True),
        ("task_create_missing_queues", True),
        ("worker_hijack_root_logger", True),
        ("broker_transport_options", {"visibility_timeout": 4}),
    ],
)
def test_a_setting_changed_by_anyone_is_named(make: Make, name: str, value: object) -> None:
    app = make("redis://127.0.0.1/5")
    assert_effective(app)
    app.conf[name] = value
    with pytest.raises(QueueError, match=f"{name} is .*, not "):
        assert_effective(app)


def test_a_task_of_somebody_else_is_named(make: Make) -> None:
    app = make("redis://127.0.0.1/5")

    def work() -> None:
        """Somebody else's."""

    app.task(name="other.work", shared=False)(work)
    with pytest.raises(QueueError, match=r"tasks is .*other\.work"):
        assert_effective(app)


def test_what_is_asked_of_celery_is_known_to_it(make: Make) -> None:
    """A misspelt setting would be stored without a word and change nothing."""
    from celery.app.defaults import NAMESPACES, flatten

    known = {name for name, _ in flatten(NAMESPACES)}
    assert set(WANTED) <= known


def test_settings_without_a_broker_make_an_application_all_the_same(tmp_path: Path) -> None:
    settings: Settings = load_settings(home=tmp_path)
    app = make_app(settings)
    assert_effective(app)
    app.close()


def test_installations_on_one_broker_do_not_hear_each_other(make: Make, broker: str, pool: str, tmp_path: Path) -> None:
    heard = threading.Semaphore(0)
    with listen(make(broker), pool, heard.release):
        caller = make(broker)
        wait_until_heard(caller, pool, heard)
        other = make_app(load_settings(home=tmp_path, broker_url=broker, environment="another"))
        assert ring(other, pool)
        assert not heard.acquire(timeout=0.5)
        assert ring(caller, pool)
        assert heard.acquire(timeout=15)
        hang_up(other)
    if broker.startswith("redis"):
        Redis.from_url(broker).delete(f"hub:hub.another.{pool}")


def test_of_two_applications_in_one_process_each_rings_at_its_own_broker(make: Make, redis_url: str, pool: str) -> None:
    first, last = make(f"redis://127.0.0.1:{free_port()}/0"), make(redis_url)
    assert not ring(first, pool)
    assert ring(last, pool)
    Redis.from_url(redis_url).delete(f"hub:{name_of(pool)}")


class Deafening(FaultProxy):
    """Leaves the connections that stand open on one side alone."""

    def deafen(self) -> None:
        with self._lock:
            for each in self._links:
                each.begin(Behaviour(silent=True))


def through(proxy: FaultProxy, broker: str) -> str:
    return broker.replace(f":{urlsplit(broker).port}", f":{proxy.port}")


def test_a_ring_through_a_connection_that_is_open_on_one_side_alone_is_given_on_another(
    make: Make, broker: str, pool: str
) -> None:
    heard = threading.Semaphore(0)
    with Deafening("127.0.0.1", urlsplit(broker).port or 0) as proxy, listen(make(broker), pool, heard.release):
        caller = make(through(proxy, broker))
        wait_until_heard(caller, pool, heard)
        proxy.deafen()
        began = time.monotonic()
        assert ring(caller, pool)
        assert time.monotonic() - began < SECONDS_TO_CONNECT + 2 * SECONDS_TO_ANSWER + 5
        assert heard.acquire(timeout=15)


def test_a_broker_that_never_answers_holds_nobody_up_for_long(make: Make, broker: str, pool: str) -> None:
    with FaultProxy("127.0.0.1", urlsplit(broker).port or 0) as proxy:
        caller = make(through(proxy, broker))
        ring(caller, pool)
        proxy.behave(Behaviour(silent=True))
        began = time.monotonic()
        assert not ring(caller, pool)
        assert not ring(caller, pool)
        assert time.monotonic() - began < SECONDS_TO_CONNECT + 2 * SECONDS_TO_ANSWER + 5


@pytest.mark.service("redis")
def test_a_ring_that_could_not_be_acknowledged_does_not_leave_the_listener_deaf(
    make: Make, redis_url: str, pool: str
) -> None:
    """With a prefetch of one, a ring that stays unacknowledged keeps every other away, and no error tells."""
    heard = threading.Semaphore(0)
    port = urlsplit(redis_url).port or 0
    with Deafening("127.0.0.1", port) as proxy, listen(make(through(proxy, redis_url)), pool, heard.release):
        caller = make(redis_url)
        wait_until_heard(caller, pool, heard)
        proxy.deafen()
        for _ in range(90):
            ring(caller, pool)
            if heard.acquire(timeout=1):
                return
        pytest.fail("the listener did not hear again")


def test_a_listener_proves_that_it_hears_by_its_own_echo_and_a_deaf_one_cannot(
    make: Make, broker: str, pool: str
) -> None:
    heard = threading.Semaphore(0)
    with Deafening("127.0.0.1", urlsplit(broker).port or 0) as proxy:
        with listen(make(through(proxy, broker)), pool, heard.release) as listener:
            wait_until_heard(make(broker), pool, heard)
            pause, until = threading.Event(), time.monotonic() + 3
            while time.monotonic() < until:
                assert listener.hears(0.5)
                pause.wait(0.1)
            proxy.deafen()
            until = time.monotonic() + 30
            while listener.hears(1.0):
                assert time.monotonic() < until, "a deaf listener was not told apart"
                pause.wait(0.1)
        assert heard.acquire(blocking=False) is False  # an echo wakes nobody


def test_a_broker_that_is_away_makes_no_listener_deaf(make: Make) -> None:
    with listen(make(f"redis://127.0.0.1:{free_port()}/0"), "default", lambda: None) as listener:
        pause, until = threading.Event(), time.monotonic() + 2
        while time.monotonic() < until:
            assert listener.hears(0.2)
            pause.wait(0.1)
    without = listen(make(None), "default", lambda: None)
    assert without.hears(0.0)
