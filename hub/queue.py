"""The Celery application: rings a queue by name and carries nothing. The ledger in the database is the truth.

Losing the whole broker costs latency only, so a ring never fails for its caller, and a worker looks for work by itself
as well. Each setting below answers a recorded failure of queues that were trusted with more (trust.md, 4.3).
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any, Self

from celery import Celery, Task, bootsteps
from celery.worker import WorkController, state
from celery.worker.consumer import Consumer
from celery.worker.consumer.tasks import Tasks
from kombu.connection import Connection
from kombu.entity import Exchange, Queue

from hub.faults import around
from hub.settings import Settings

RING = "hub.ring"
DEFAULT_POOL = "default"
SECONDS_TO_CONNECT = 2.0
SECONDS_TO_ANSWER = 3.0
"""What a broker may take to answer: a connection that is open on one side alone never does, nor says so."""
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
    "broker_heartbeat": 20,
    "enable_utc": True,
}

_FAIL_FAST: Mapping[str, object] = {"max_retries": 1, "interval_start": 0.0, "interval_step": 0.0}
"""For who rings: the default is to wait for the broker, for ever on RabbitMQ."""

REDIS_OPTIONS: Mapping[str, object] = {
    "global_keyprefix": "hub:",
    "health_check_interval": 10,
    "socket_keepalive": True,
    "socket_connect_timeout": SECONDS_TO_CONNECT,
    "socket_timeout": SECONDS_TO_ANSWER,
    # A ring that could not be acknowledged would fill the prefetch of one for ever, and nobody needs it again.
    "ack_emulation": False,
    **_FAIL_FAST,
}
RABBITMQ_OPTIONS: Mapping[str, object] = {"confirm_publish": True, **_FAIL_FAST}

ECHO = "hub-echo."
"""Begins the name of the queue in which a listener rings for itself."""
ECHO_EXPIRES = 600
"""Seconds after which a broker forgets the own queue of a listener that is gone."""
MOST_MISSED = 2
"""Echoes missed in a row after which a listener is deaf: one alone may be lost with a broker that lost everything."""


class QueueError(Exception):
    """The queue is not set up as the hub needs it; the message names each difference."""


class _Rope:
    """What rings: one connection of an application, made anew where it broke. Safe to share between threads.

    Not Celery's own pool of producers: where a connection is open on one side alone, that waits without end for the
    broker's answer to being closed.
    """

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._lock = threading.Lock()
        self._connection: Connection | None = None
        self._away_until = 0.0
        self._told = False

    def pull(self, place: Queue) -> bool:
        """Whether the broker took a ring for this queue; where it is away none is tried again for a while."""
        if not self._lock.acquire(timeout=SECONDS_TO_ANSWER):
            return False
        try:
            if time.monotonic() < self._away_until:
                return False
            # A connection that was used before may have been lost since, and nobody would have noticed.
            return (self._connection is not None and self._try(place)) or self._try(place, last=True)
        finally:
            self._lock.release()

    def _try(self, place: Queue, *, last: bool = False) -> bool:
        try:
            if self._connection is None:
                self._connection = self._app.connection_for_write()
            # Declared by those who listen alone: RabbitMQ closes the channel of one of two who declare a new quorum
            # queue at the same time, and a ring for a pool that nobody serves has nowhere to wait.
            with around("ring"):
                self._app.tasks[RING].apply_async(
                    queue=place,
                    declare=[],
                    retry=False,
                    expires=60,
                    producer=self._app.amqp.Producer(self._connection.default_channel, auto_declare=False),
                    timeout=SECONDS_TO_ANSWER,
                    confirm_timeout=SECONDS_TO_ANSWER,
                )
        except Exception as error:  # noqa: BLE001  (whatever a broker's driver raises: who rings must not fail for it)
            self.cut()
            if last:
                self._away_until = time.monotonic() + SECONDS_AWAY
                if not self._told:
                    why = type(error).__name__
                    log.warning("the broker does not answer (%s); workers look for work by themselves", why)
                self._told = True
            return False
        self._told = False
        return True

    def cut(self) -> None:
        """Lets go of the connection without a word to the broker, which may never answer."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.collect()  # type: ignore[no-untyped-call]


class _Ring(Task):  # type: ignore[misc]
    """The only task there is. What it calls is set by the worker that listens."""

    name = RING
    abstract = False
    acks_late = False
    ignore_result = True
    on_ring: Callable[[], None] | None = None

    on_echo: Callable[[], None] | None = None

    def run(self) -> None:
        """Wakes whoever listens in this process, or tells it that it hears."""
        own = str(self.request.delivery_info["routing_key"]).startswith(ECHO)
        answer = self.on_echo if own else self.on_ring
        if answer is not None:
            answer()


def make_app(settings: Settings) -> Celery:
    """The application. Without a broker it is made as well, and its rings are heard by nobody."""
    app = Celery("hub", broker=settings.broker_url or "memory://", set_as_current=False, fixups=[])
    app.conf.update(WANTED)
    app.conf.broker_transport_options = dict(_transport_options(settings.broker_url))
    app.hub_environment = settings.environment
    app.conf.task_queues = [queue(app, DEFAULT_POOL)]
    app.conf.task_default_queue = queue(app, DEFAULT_POOL).name
    app.hub_rope = _Rope(app)
    # A class of its own: Celery binds a task's class to its application, and two may live in one process.
    app.register_task(type("Ring", (_Ring,), {})())
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
    rope: _Rope = app.hub_rope
    return _has_broker(app) and rope.pull(queue(app, pool))


def hang_up(app: Celery) -> None:
    """Gives back what rang; harmless when repeated."""
    app.hub_rope.cut()
    app.close()


def listen(app: Celery, pool: str, on_ring: Callable[[], None]) -> Listener:
    """Hears the rings of one pool in a thread of this process until it is closed; `on_ring` must return at once.

    Survives the broker's absence, at the start too. Without a broker it hears nothing.
    """
    assert_effective(app)
    # Without this the tasks of a worker in the process vanish without a log line.
    app.set_default()
    app.tasks[RING].on_ring = on_ring
    return Listener(app, queue(app, pool) if _has_broker(app) else None)


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
        self._app = app
        if heard is None:
            return
        self._own = _own_queue()
        self._asked, self._answered, self._missed = time.monotonic(), True, 0
        app.tasks[RING].on_echo = self._echo
        for each in (heard, self._own):
            app.amqp.queues.select_add(each)
        app.amqp.queues.select([heard.name, self._own.name])
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
        """Whether the thread still runs; that it hears is another matter, see `hears`."""
        return self._thread is not None and self._thread.is_alive()

    def hears(self, patience: float) -> bool:
        """Whether this listener still consumes, to be asked now and then; it rings for itself and waits for the echo.

        False where echoes that the broker took twice in a row did not come back within `patience` seconds each. A
        broker that is away proves nothing, and without one there is nothing to hear.
        """
        if self._thread is None:
            return True
        if not self._thread.is_alive():
            return False
        if time.monotonic() - self._asked >= patience:
            self._missed = 0 if self._answered else self._missed + 1
            if self._missed < MOST_MISSED:
                self._asked, self._answered = time.monotonic(), False
                self._answered = not self._app.hub_rope.pull(self._own) or self._answered
        return self._missed < MOST_MISSED

    def _echo(self) -> None:
        self._answered = True

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


def queue(app: Celery, pool: str) -> Queue:
    """The queue of a pool, reached by the default exchange: bindings of a named one get lost and nobody is told.

    Its name begins with the installation's, so that two on one broker do not answer each other's bells.
    """
    arguments: dict[str, Any] = {}
    if _is_rabbitmq(app.conf.broker_url):
        arguments = {"x-queue-type": "quorum", "x-max-length": 1000, "x-overflow": "drop-head"}
    return _queue(f"hub.{app.hub_environment}.{pool}", queue_arguments=arguments)


def _own_queue() -> Queue:
    return _queue(f"{ECHO}{uuid.uuid4().hex}", expires=ECHO_EXPIRES)


def _queue(name: str, **more: Any) -> Queue:
    exchange = Exchange("")  # type: ignore[no-untyped-call]
    return Queue(name, exchange=exchange, routing_key=name, durable=True, **more)  # type: ignore[no-untyped-call]


def _has_broker(app: Celery) -> bool:
    return not str(app.conf.broker_url).startswith("memory:")


def _is_rabbitmq(broker_url: object) -> bool:
    return str(broker_url).startswith("amqp")


def _transport_options(broker_url: str | None) -> Mapping[str, object]:
    if broker_url is None or broker_url.startswith("memory:"):
        return {}
    return RABBITMQ_OPTIONS if _is_rabbitmq(broker_url) else REDIS_OPTIONS
