"""Starts worker processes as fresh interpreters and replaces those that die, hang or grow too large."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import psutil
from sqlalchemy.exc import DBAPIError

from hub.database import Database, DatabaseError
from hub.logs import Log
from hub.runs import FOLLOWERS, abandon, unfollowed
from hub.settings import Settings, variable
from hub.worker.naming import IDLE, hub_name, worker_name

START_SECONDS = 60.0
"""What a fresh interpreter may take before its first sign of life."""

STOP_SECONDS = 30.0
"""What a worker may take to finish its page when it is told to stop."""

IDLE_SECONDS = 30.0
"""What a worker with nothing to do may be late for its next look; one that carries has `record_seconds` a step."""

GROWN = 10
"""Signs of life before a worker's memory is judged: one that is too large from the start must still get work done."""

LONGEST_PAUSE = 30.0
LIBRARIES = {
    "POLARS_MAX_THREADS": "1",
    "MALLOC_ARENA_MAX": "2",
    "MALLOC_MMAP_THRESHOLD_": "67108864",
    "MALLOC_TRIM_THRESHOLD_": "536870912",
    "MALLOC_TOP_PAD_": "67108864",
    "ARROW_DEFAULT_MEMORY_POOL": "system",
    "_RJEM_MALLOC_CONF": "narenas:2,dirty_decay_ms:5000,muzzy_decay_ms:0",
}
"""What a worker's libraries are told where its environment says nothing else.

The lanes of a worker keep more than one core busy by themselves: polars' own threads would take turns with them, which
costs some per cent of a run's time. A heap of the C library for each thread, Arrow's own pool, and polars' heaps
(jemalloc's, four for each core) would each keep what their largest page took. But what a buffer of a page gives back at
once the next one asks for anew, and each time every core is interrupted: that takes a tenth of a run's time. So it is
given back once a page (`hub.process.give_back_memory`), and by polars after five seconds.
"""
MOST_FAILED_STARTS = 5
"""Starts in a row that end before the first sign of life, after which `until_idle` gives up."""

log = Log(__name__)


@dataclass
class Child:
    """One worker process, when it last showed life, and whether it was told to go."""

    process: subprocess.Popen[bytes]
    seen: float
    pool: str
    started: bool = False
    idle: bool = False
    signs: int = 0
    told: float | None = None
    reader: threading.Thread = field(init=False)

    def __post_init__(self) -> None:
        self.reader = threading.Thread(target=self._watch, daemon=True)
        self.reader.start()

    def _watch(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.idle = line.strip() == IDLE.encode()
            self.seen, self.started = time.monotonic(), True
            self.signs += 1

    def close(self) -> None:
        """After the end of the process: the thread and the pipes."""
        self.reader.join()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()


class Supervisor:
    """Keeps `settings.workers` processes working for one pool, from `__enter__` to `__exit__`.

    That of the pool `default` starts one more for each live source that nobody follows, up to `settings.followers`.
    """

    def __init__(self, settings: Settings, pool: str = "default", *, until_idle: bool = False) -> None:
        self._settings = settings
        self._pool = pool
        self._until_idle = until_idle
        self._children: list[Child] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="supervisor", daemon=True)
        self._failed_starts = 0
        self._not_before = 0.0
        self._missing = 0
        self._looked = float("-inf")
        self._database = Database(settings)
        self.replaced = 0

    @property
    def pids(self) -> list[int]:
        """The processes at work now."""
        return [each.process.pid for each in self._children]

    def wait(self, seconds: float | None = None) -> bool:
        """Until every worker is done (only with `until_idle`) or the supervisor is stopped; whether it is."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def stop(self) -> None:
        """Lets each worker finish its page, then ends it."""
        self._stop.set()
        self._thread.join()

    def __enter__(self) -> Self:
        self._children = [self._start(self._pool) for _ in range(self._settings.workers)]
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _start(self, pool: str) -> Child:
        command = [sys.executable, "-m", "hub.worker.child", "--pool", pool, "--hub", hub_name(self._settings)]
        if self._until_idle:
            command.append("--until-idle")
        environment = {**LIBRARIES, **os.environ, **_variables(self._settings)}
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)  # noqa: S603
        return Child(process, time.monotonic(), pool)

    def _run(self) -> None:
        while not self._stop.wait(0.25) and (self._children or self._missing):
            try:
                self._look_round()
            except Exception:
                log.exception("supervisor failed")  # and goes on: nobody else looks after its workers
        self._end()
        self._database.close()

    def _look_round(self) -> None:
        for child in list(self._children):
            if not self._look_after(child):
                self._children.remove(child)
        while self._missing and time.monotonic() >= self._not_before:
            if self._one_more(self._pool):
                self._missing -= 1
        now = time.monotonic()
        if now >= self._looked + self._settings.poll_seconds and now >= self._not_before:
            self._looked = now
            if self._pool == "default" and not self._until_idle and self._lacks_follower():
                self._one_more(FOLLOWERS)

    def _one_more(self, pool: str) -> bool:
        """Whether it was started; a machine without memory or process numbers to spare is tried again later."""
        try:
            self._children.append(self._start(pool))
        except OSError as error:
            log.error("worker cannot be started", why=error.strerror)  # noqa: TRY400  (the machine's fault, not ours)
            self._not_before = time.monotonic() + LONGEST_PAUSE
            return False
        return True

    def _lacks_follower(self) -> bool:
        """Whether a live source is followed by nobody, and none of our processes is about to take it up."""
        mine = [each for each in self._children if each.pool == FOLLOWERS]
        if len(mine) >= self._settings.followers or any(each.idle or not each.started for each in mine):
            return False
        try:
            with self._database.read() as session:
                return unfollowed(session, self._database.now(session)) > 0
        except (DBAPIError, DatabaseError):
            return False

    def _look_after(self, child: Child) -> bool:
        """Whether the child goes on; where it does not, one is missing, unless it was done."""
        code = child.process.poll()
        if code is None:
            self._judge(child)
            return True
        if code == 0 and (self._until_idle or child.pool == FOLLOWERS):
            child.close()
            return False
        level = log.info if child.told is not None else log.error
        level("worker ended", pid=child.process.pid, code=code)
        child.close()
        self._free(child)
        self.replaced += 1
        self._failed_starts = 0 if child.started else self._failed_starts + 1
        if self._until_idle and self._failed_starts >= MOST_FAILED_STARTS:
            log.error("workers do not start", tries=self._failed_starts)
            return False
        pause = min(LONGEST_PAUSE, 0.25 * 2.0**self._failed_starts) if self._failed_starts else 0.0
        self._not_before = time.monotonic() + pause
        self._missing += child.pool == self._pool  # who followed is replaced when nobody follows
        return False

    def _free(self, child: Child) -> None:
        """Ends the leases of a dead process, so that nobody waits for them to run out."""
        try:
            abandon(self._database, worker_name(child.process.pid, child.pool))
        except (DBAPIError, DatabaseError) as error:
            log.warning("leases run out by themselves", pid=child.process.pid, why=type(error).__name__)

    def _judge(self, child: Child) -> None:
        now = time.monotonic()
        silent = now - child.seen
        busy = self._settings.record_seconds if child.started else START_SECONDS
        limit = min(busy, IDLE_SECONDS) if child.idle else busy
        if silent > limit + self._settings.poll_seconds * 2:
            log.error("worker hangs", pid=child.process.pid, silent_seconds=round(silent), idle=child.idle)
            child.process.kill()
        elif (
            child.told is None
            and child.signs >= GROWN
            and _memory_mb(child.process.pid) > self._settings.worker_memory_mb
        ):
            log.warning("worker too large", pid=child.process.pid)
            child.told = now
            child.process.terminate()
        elif child.told is not None and now - child.told > STOP_SECONDS + self._settings.record_seconds:
            child.process.kill()

    def _end(self) -> None:
        for child in self._children:
            if child.process.poll() is None:
                child.process.terminate()
        until = time.monotonic() + STOP_SECONDS
        for child in self._children:
            try:
                child.process.wait(max(0.0, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.process.kill()
                child.process.wait()
        for child in self._children:
            child.close()
            self._free(child)


def _variables(settings: Settings) -> dict[str, str]:
    """The settings of this process as variables of a child, so that both are told the same."""
    given = settings.model_dump(mode="json", exclude_none=True)
    named = {name: value for name, value in given.items() if f"{variable(name)}_FILE" not in os.environ}
    return {variable(name): str(value) for name, value in named.items()}


def _memory_mb(pid: int) -> float:
    try:
        return float(psutil.Process(pid).memory_info().rss) / 1024**2
    except psutil.NoSuchProcess:
        return 0.0
