"""One worker process: hears the bell or looks by itself, and carries slices until it is told to stop.

Started by the supervisor as `python -m hub.worker.child`; every line on its standard output is a sign of life, `IDLE`
before it waits for work, and the end of its standard input means that the supervisor is gone.
"""

from __future__ import annotations

import argparse
import errno
import gc
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from sqlalchemy.exc import DBAPIError

from hub.access.leases import BrokerAwayError, Held, sweep
from hub.database import DatabaseError, lacks_space
from hub.keys import SealedError
from hub.logs import Log, configure
from hub.process import guard_memory
from hub.runs import FOLLOWERS, Installation, Worker, keep_following, keep_up, open_installation, tick
from hub.settings import load_settings
from hub.worker.naming import IDLE, worker_name

STARVED = 3
"""The exit status of a worker that ran out of memory, so that a fresh one takes its place."""

DISMISSED = 77
"""The exit status of a worker whose credentials somebody took away."""

SEAL_SECONDS = 1.0
"""How often the audit trail is sealed, where it grew."""

STOP_SECONDS = 10.0
"""What a look at the schedules may take to end."""

ECHO_POLLS = 6
"""Looks for work after which a worker has heard its own ring, or is deaf."""
LEAST_ECHO_SECONDS = 3.0
SPARE_SECONDS = 60.0
"""A process that follows ends when it has had nothing to follow for so long; the supervisor starts another in need."""
DEAF = 70
"""The exit status of a worker that heard none of its own rings: alive, and of no use to who rings."""

log = Log(__name__)


def main() -> None:
    """Works for one pool until SIGTERM or the end of standard input."""
    guard_memory()
    parser = argparse.ArgumentParser(description="One worker process; started by `hub worker`.")
    parser.add_argument("--pool", required=True)
    parser.add_argument("--hub", default="", help="Whose worker it is; for who looks at the list of processes.")
    parser.add_argument("--until-idle", action="store_true")
    arguments = parser.parse_args()
    settings = load_settings()
    configure(settings, process=f"worker {arguments.pool}")
    stop, bell = threading.Event(), threading.Event()

    def end(*_: object) -> None:
        stop.set()
        bell.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    threading.Thread(target=_end_with_supervisor, daemon=True).start()
    with open_installation(settings) as hub:
        hub.open_rooms()
        hub.connections.leases.overdue = _go
        gc.collect()
        gc.freeze()  # a full collection over the imported libraries costs 80 ms in the middle of a page
        with _listening(hub, arguments.pool, bell) as hears, _ticking(hub, stop, bell), _sealing(hub, stop):
            _loop(hub, arguments.pool, stop, bell, hears, until_idle=arguments.until_idle)


def _loop(
    hub: Installation,
    pool: str,
    stop: threading.Event,
    bell: threading.Event,
    hears: Callable[[], bool],
    *,
    until_idle: bool,
) -> None:
    name, busy = worker_name(os.getpid(), pool), time.monotonic()
    worker = Worker(hub, pool, name, progress=alive, stopping=stop.is_set)
    log.info("worker ready", worker=name)
    while not stop.is_set():
        alive()
        bell.clear()

        def carry() -> bool:
            nonlocal busy
            while not stop.is_set() and not worker.starved and not worker.dismissed and worker.work():
                alive()
                busy = time.monotonic()
            if worker.starved:
                sys.exit(STARVED)
            if worker.dismissed:
                sys.exit(DISMISSED)
            if until_idle:
                return not hub.pending()
            if not stop.is_set():
                keep_up(hub)
            return pool == FOLLOWERS and time.monotonic() - busy > SPARE_SECONDS

        if _despite_absence(carry):
            return
        if not hears():
            log.error("worker is deaf", worker=name)
            sys.exit(DEAF)
        pause = hub.settings.poll_seconds * random.uniform(0.8, 1.2)  # noqa: S311  (spreads the looks of many workers)
        say(IDLE)
        bell.wait(min(pause, 0.2) if until_idle else pause)


def _go(held: Held) -> None:
    """Ends the process, in the middle of whatever it does: its slice is fenced, and others take it up."""
    log.error("a revoked lease was not given back", connection=held.connection, lease=held.id)
    os._exit(DISMISSED)


def alive() -> None:
    """Tells the supervisor that this process moves."""
    say(f"{time.monotonic():.3f}")


def say(line: str) -> None:
    """One line to the supervisor."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _despite_absence(work: Callable[[], bool]) -> bool:
    """What `work` answers; False where the hub's database or its lease broker is away, which passes."""
    try:
        return work()
    except (DBAPIError, DatabaseError) as error:
        why = "its disk is full" if lacks_space(error) else type(error).__name__
        log.warning("the hub's database is away", why=why)
        return False
    except BrokerAwayError as error:
        log.warning("the lease broker is away", why=str(error))
        return False
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        log.warning("the hub's folder is full", why=error.strerror)
        return False


@contextmanager
def _listening(hub: Installation, pool: str, bell: threading.Event) -> Iterator[Callable[[], bool]]:
    """While open, a ring for the pool sets the bell; answers whether it can be heard.

    The settings in effect are asserted before the first.
    """
    if hub.celery is None:
        yield lambda: True
        return
    from hub.queue import listen

    patience = max(LEAST_ECHO_SECONDS, ECHO_POLLS * hub.settings.poll_seconds)
    rung = threading.Event()

    def ring() -> None:
        bell.set()
        rung.set()

    def heard() -> bool:
        hub.unring(pool)
        return True

    with _beside("heard", rung, lambda: _despite_absence(heard)), listen(hub.celery, pool, ring) as listener:
        yield lambda: listener.hears(patience)


@contextmanager
def _beside(name: str, wanted: threading.Event, work: Callable[[], object]) -> Iterator[None]:
    """While open, does `work` in a thread of its own each time it is wanted: who wants it does not wait for it."""
    over = threading.Event()

    def run() -> None:
        while wanted.wait() and not over.is_set():
            wanted.clear()
            work()

    thread = threading.Thread(target=_or_end(run), name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        wanted.set()
        thread.join(STOP_SECONDS)


def _or_end(run: Callable[[], None]) -> Callable[[], None]:
    """The same, ending the process where it fails: a worker that lost one of its threads looks alive and is not."""

    def guarded() -> None:
        try:
            run()
        except BaseException:
            log.exception("a thread of the worker failed", thread=threading.current_thread().name)
            os._exit(1)

    return guarded


@contextmanager
def _ticking(hub: Installation, stop: threading.Event, bell: threading.Event) -> Iterator[None]:
    """While open, schedules are looked at from a thread of their own: one long slice must not hold up the others."""

    tried: dict[str, float] = {}

    def look() -> bool:
        sweep(hub.database, hub.audit)
        if tick(hub) or keep_following(hub, tried):
            bell.set()
        return False

    with _again("schedule", hub.settings.poll_seconds, look, stop):
        yield


@contextmanager
def _sealing(hub: Installation, stop: threading.Event) -> Iterator[None]:
    """While open, what was audited is sealed every second, by one of all workers; now and then a checkpoint leaves."""
    leaves = threading.Event()

    def look() -> bool:
        try:
            if hub.sealed.seal(apart=timedelta(seconds=SEAL_SECONDS * 0.7)) is not None:
                leaves.set()
        except SealedError as error:  # what it was asked to carry does not hang on this key
            log.warning("the audit trail cannot be sealed: its signing key does not open", why=str(error))
        return False

    def push() -> bool:
        hub.anchoring.push()
        return False

    with _beside("anchor", leaves, lambda: _despite_absence(push)), _again("seal", SEAL_SECONDS, look, stop):
        yield


@contextmanager
def _again(name: str, seconds: float, work: Callable[[], bool], stop: threading.Event) -> Iterator[None]:
    """While open and nobody says stop, does `work` every so many seconds in a thread of its own."""
    over = threading.Event()

    def run() -> None:
        while not over.is_set() and not stop.is_set():
            _despite_absence(work)
            over.wait(seconds * random.uniform(0.8, 1.2))  # noqa: S311  (spreads the looks)

    thread = threading.Thread(target=_or_end(run), name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(STOP_SECONDS)


def _end_with_supervisor() -> None:
    # Not through sys.stdin: its lock, held by this thread, would end the interpreter with a fatal error.
    while os.read(0, 1024):
        pass
    os._exit(0)


if __name__ == "__main__":
    main()
