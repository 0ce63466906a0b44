"""The Celery application: rings a queue by name and carries nothing. The ledger in the database is the truth.

Losing the whole broker costs latency only, so a ring never fails for its caller, and a worker looks for work by itself
as well. Each setting below answers a recorded failure of queues that were trusted with more (trust.md, 4.3).
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

from celery import Celery, Task, bootsteps
from celery.worker import WorkController, state
from celery.worker.consumer import Consumer
from celery.worker.consumer.tasks import Tasks
from kombu.entity import Exchange, Queue
from kombu.exceptions import KombuError
from kombu.exceptions import OperationalError as BrokerError

from hub.faults import around
from hub.settings import Settings

RING = "hub.ring"
PREFIX = "hub."
DEFAULT_POOL = "default"
SECONDS_TO_CONNECT = 2.0
SECONDS_AWAY = 5.0
"""After a ring that failed none is tried for so long: a caller must not pay for a broker that is away each time."""

log = logging.getLogger(__name__)

WANTED: Mapping[str, object] = {
    "task_acks_late": False,
    "task_reject_on_worker_lost": False,
    "task_ignore_result": True,
    "task_store_errors_even_if_ignored": False,
    "task_publish_retry": False,
    "task_serializer": "json",
    "result_serializer": "json",
    "accept_content": ["json"],
    "result_backend": None,
    "task_create_missing_queues": False,
    "task_default_queue": PREFIX + DEFAULT_POOL,
    "task_default_exchange": "",
    "task_send_sent_event": False,
    "task_remote_tracebacks": False,
    "worker_prefetch_multiplier": 1,
    "worker_concurrency": 1,
    "worker_enable_remote_control": False,
    "worker_send_task_events": False,
    "worker_hijack_root_logger": False,
    "worker_redirect_stdouts": False,
    "worker_cancel_long_running_tasks_on_connection_loss": False,
    "broker_connection_retry": True,
    "broker_connection_retry_on_startup": True,
    "broker_connection_max_retries": None,
    "broker_connection_timeout": SECONDS_TO_CONNECT,
    "enable_utc": True,
}

_FAIL_FAST: Mapping[str, object] = {"max_retries": 1, "interval_start": 0.0, "interval_step": 0.0}
"""For who rings: the default is to wait for the broker, for ever on RabbitMQ."""

REDIS_OPTIONS: Mapping[str, object] = {
    "global_keyprefix": "hub:",
    "health_check_interval": 25,
    "socket_keepalive": True,
    "socket_connect_timeout": SECONDS_TO_CONNECT,
    "socket_timeout": 30.0,
    **_FAIL_FAST,
}
RABBITMQ_OPTIONS: Mapping[str, object] = {"confirm_publish": True, **_FAIL_FAST}


class QueueError(Exception):
    """The queue is not set up as the hub needs it; the message names each difference."""


@dataclass
class _Away:
    """Since when the broker is away, as far as those who ring can tell; the log is told once."""

    until: float = 0.0
    told: bool = False


class _Ring(Task):  # type: ignore[misc]
    """The only task there is. What it calls is set by the worker that listens."""

    name = RING
    abstract = False
    acks_late = False
    ignore_result = True
    on_ring: Callable[[], None] | None = None

    def run(self) -> None:
        """Wakes whoever listens in this process."""
        if self.on_ring is not None:
            self.on_ring()


def make_app(settings: Settings) -> Celery:
    """The application. Without a broker it is made as well, and its rings are heard by nobody."""
    app = Celery("hub", broker=settings.broker_url or "memory://", set_as_current=False, fixups=[])
    app.conf.update(WANTED)
    app.conf.broker_transport_options = dict(_transport_options(settings.broker_url))
    app.conf.task_queues = [queue(settings.broker_url, DEFAULT_POOL)]
    app.hub_away = _Away()
    app.register_task(_Ring())
    app.finalize()
    return app


def assert_effective(app: Celery) -> None:
    """QueueError naming each setting that is in effect otherwise than wanted, whoever changed it."""
    ring_task = app.tasks[RING]
    wanted = {
        **WANTED,
        "broker_transport_options": dict(_transport_options(app.conf.broker_url)),
        f"{RING}.acks_late": False,
        f"{RING}.ignore_result": True,
        "tasks": [RING],
    }
    effective = {
        **{name: app.conf[name] for name in WANTED},
        "broker_transport_options": app.conf.broker_transport_options,
        f"{RING}.acks_late": ring_task.acks_late,
        f"{RING}.ignore_result": ring_task.ignore_result,
        "tasks": [name for name in app.tasks if not name.startswith("celery.")],
    }
    differing = [
        f"{name} is {effective[name]!r}, not {wanted[name]!r}" for name in wanted if effective[name] != wanted[name]
    ]
    if differing:
        raise QueueError(f"Celery is not set up as the hub needs it: {'; '.join(differing)}")


def ring(app: Celery, pool: str) -> bool:
    """Tells the workers of a pool that there may be work. False where the broker is away, or where there is none.

    Carries nothing and never raises; lost where nobody has listened to that pool before. That at most one ring per pool
    is on its way is kept by the caller's flag row.
    """
    away: _Away = app.hub_away
    if not _has_broker(app) or time.monotonic() < away.until:
        return False
    try:
        # Declared by those who listen alone: RabbitMQ closes the channel of one of two who declare a new quorum queue
        # at the same time, and a ring for a pool that nobody serves has nowhere to wait.
        with around("ring"):
            app.tasks[RING].apply_async(queue=queue(app.conf.broker_url, pool), declare=[], retry=False, expires=60)
    except (BrokerError, KombuError, OSError) as error:
        if not away.told:
            log.warning("the broker does not answer (%s); workers look for work by themselves", type(error).__name__)
        away.told, away.until = True, time.monotonic() + SECONDS_AWAY
        return False
    away.told = False
    return True


def listen(app: Celery, pool: str, on_ring: Callable[[], None]) -> Listener:
    """Hears the rings of one pool in a thread of this process until it is closed; `on_ring` must return at once.

    Survives the broker's absence, at the start too. Without a broker it hears nothing.
    """
    assert_effective(app)
    # Without this the tasks of a worker in the process vanish without a log line.
    app.set_default()
    app.tasks[RING].on_ring = on_ring
    return Listener(app, queue(app.conf.broker_url, pool) if _has_broker(app) else None)


class _Tick(bootsteps.StartStopStep):  # type: ignore[misc]
    """Wakes the loop of the consumer often enough that it sees when it is to stop, whatever the broker does."""

    requires = (Tasks,)

    def start(self, consumer: Any) -> None:
        """Begins with every new connection: a lost one takes its timers along."""
        consumer.timer.call_repeatedly(0.25, lambda: None)


class _RingConsumer(Consumer):  # type: ignore[misc]
    """Celery's consumer without the steps that talk to other workers or declare queues for delays."""

    class Blueprint(Consumer.Blueprint):  # type: ignore[misc]
        """Connect, consume, loop."""

        default_steps = (
            "celery.worker.consumer.connection:Connection",
            "celery.worker.consumer.tasks:Tasks",
            _Tick,
            "celery.worker.consumer.consumer:Evloop",
        )


class Listener:
    """A Celery worker on its `threads` pool inside this process, without gossip, mingle, events or remote control.

    One at a time in a process, as Celery keeps the state of a worker in its module.
    """

    def __init__(self, app: Celery, heard: Queue | None) -> None:
        self._thread: threading.Thread | None = None
        if heard is None:
            return
        app.amqp.queues.select_add(heard)
        app.amqp.queues.select([heard.name])
        worker = WorkController(
            app=app,
            hostname=f"{heard.name}@localhost",
            pool_cls="threads",
            consumer_cls=_RingConsumer,
            concurrency=1,
            without_gossip=True,
            without_mingle=True,
            without_heartbeat=True,
            task_events=False,
        )
        self._thread = threading.Thread(target=worker.start, name=f"listen-{heard.name}", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether the thread still runs; that it hears is proven by the work found, never assumed."""
        return self._thread is not None and self._thread.is_alive()

    def close(self, timeout: float = 10.0) -> None:
        """Stops listening; harmless when repeated."""
        if self._thread is None:
            return
        # The worker stops itself, in its own thread: a connection to RabbitMQ does not bear two.
        state.should_stop = 0
        self._thread.join(timeout)
        state.should_stop = None
        self._thread = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def queue(broker_url: str | None, pool: str) -> Queue:
    """The queue of a pool, reached by the default exchange: bindings of a named one get lost and nobody is told."""
    arguments: dict[str, Any] = {}
    if broker_url is not None and broker_url.startswith("amqp"):
        arguments = {"x-queue-type": "quorum", "x-max-length": 1000, "x-overflow": "drop-head"}
    name = PREFIX + pool
    exchange = Exchange("")  # type: ignore[no-untyped-call]
    return Queue(  # type: ignore[no-untyped-call]
        name, exchange=exchange, routing_key=name, durable=True, queue_arguments=arguments
    )


def _has_broker(app: Celery) -> bool:
    return not str(app.conf.broker_url).startswith("memory:")


def _transport_options(broker_url: str | None) -> Mapping[str, object]:
    if broker_url is None or broker_url.startswith("memory:"):
        return {}
    return RABBITMQ_OPTIONS if broker_url.startswith("amqp") else REDIS_OPTIONS
