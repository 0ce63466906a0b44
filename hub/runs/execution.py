"""One worker's part: claims a slice, keeps its lease alive, and carries it page by page until it ends or must stop."""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from queue import Full, Queue
from typing import Self, TypeVar

import structlog
from polars.exceptions import PanicException
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from hub.connections import ConnectionsError
from hub.database import Database, DatabaseError, is_transient
from hub.mappings import MappingError, MappingsError, PausedMappingError
from hub.models import ModelError
from hub.runs.installation import Installation
from hub.runs.pages import LimitError, Trip, open_trip, reach, score_page, set_aside
from hub.runs.planning import differences, finish
from hub.runs.store import abandon_worker
from hub.runs.types import (
    LANDING,
    MOST_PARKED,
    MOST_TRIES,
    SHRINK,
    Claim,
    LostLeaseError,
    PageRecord,
    PageState,
    RunError,
    RunKind,
    RunState,
    SliceKind,
    Stage,
)
from hub.sdk import UnauthorizedError, UnavailableError, UnexpectedError

PARKED_BECAUSE = f"carrying this record failed {MOST_TRIES} times on its own"
MOST_DEATHS = 2 * MOST_TRIES
"""How often in a row a record alone may fail, parked or not, before a person is asked."""
MOST_WAITS = 20
"""How often in a row a far side may be unavailable before a person is asked."""
LONGEST_WAIT = 300.0
STAGED_PAGES = 8
"""Pages read, scored or written in one claim of a slice whose model has a pool of its own."""

log = structlog.get_logger(__name__)
T = TypeVar("T")


class Worker:
    """Works for one pool; belongs to one process. `name` tells workers apart in the ledger."""

    def __init__(
        self,
        hub: Installation,
        pool: str,
        name: str,
        *,
        progress: Callable[[], None] = lambda: None,
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        """`progress` is called once a page; `stopping` is asked then, and the slice given back where it says so."""
        self._hub = hub
        self._pool = pool
        self._name = name
        self._progress = progress
        self._stopping = stopping
        self._trips: dict[str, Trip] = {}

    def work(self, run: str | None = None) -> bool:
        """Carries one slice (of `run`, where named) as far as it goes; False where there was nothing to claim."""
        lease = self._hub.settings.lease_seconds
        reach("before claim")
        claim = self._hub.database.retrying(lambda s: self._hub.ledger.claim(s, self._pool, self._name, lease, run))
        if claim is None:
            return False
        reach("after claim")
        self._wake_others()
        told = {"run": claim.run, "slice": claim.number, "stage": claim.stage, "attempt": claim.attempt}
        log.info("slice claimed", worker=self._name, **told)
        try:
            with Heartbeat(self._hub, claim, self._progress) as heartbeat:
                self._carry(claim, heartbeat)
        except LostLeaseError as lost:
            log.warning("slice lost", run=claim.run, slice=claim.number, why=str(lost))
            self._give_up(claim)
        return True

    def _wake_others(self) -> None:
        """One ring wakes one worker; whoever finds more than it can carry passes it on."""
        if self._hub.celery is None:
            return
        with self._hub.database.read() as session:
            more = self._hub.ledger.more(session, self._pool)
        if more:
            self._hub.ring([self._pool])

    def _carry(self, claim: Claim, heartbeat: Heartbeat) -> None:
        try:
            if claim.stage is Stage.SCORE:
                Scoring(self._hub, claim, heartbeat).carry()
                return
            trip = self._trip(claim)
            with trip.travelling():
                claim = self._shrunk(claim)
                Carriage(self._hub, trip, claim, heartbeat, self._stopping).carry()
        except UnavailableError as error:
            self._wait(claim, error.message, error.retry_after)
        except (UnauthorizedError, LimitError, MappingsError, ConnectionsError, ModelError, RunError) as error:
            self._hold(claim, str(error))
        except (MappingError, UnexpectedError) as error:
            self._hold(claim, differences(self._hub, claim.run) or str(error))
        except (LostLeaseError, DatabaseError):
            raise
        except (Exception, PanicException) as error:  # noqa: BLE001  (tried again in parts; what fails alone is parked)
            self._failed(claim, error)

    def _failed(self, claim: Claim, error: BaseException) -> None:
        if is_transient(error):
            raise error
        if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOSPC):
            self._wait(claim, f"this machine is out of {_resource(error)}", None)
            return
        log.error("page failed", run=claim.run, slice=claim.number, attempt=claim.attempt, exc_info=error)
        if claim.attempt > MOST_TRIES + 1:
            self._hold(claim, f"a page failed {claim.attempt} times ({type(error).__name__}); see the log")
            return
        self._hub.database.retrying(lambda s: self._hub.ledger.forgive(s, claim))

    def _trip(self, claim: Claim) -> Trip:
        """The run's trip, made anew where it was resumed under another version. PausedMappingError."""
        trip = self._trips.get(claim.run)
        with self._hub.database.read() as session:
            wanted = self._hub.ledger.version(session, claim.run)
        if trip is None or (trip.run.version, trip.run.model) != wanted:
            self._trips.clear()
            trip = self._trips[claim.run] = open_trip(self._hub, claim.run)
        if trip.run.kind is not RunKind.UNDO and self._hub.mappings.get(trip.run.mapping).paused:
            raise PausedMappingError(
                f"mapping {trip.run.mapping} is paused; `hub mappings resume {trip.run.mapping}` lifts it,"
                f" then `hub runs resume {claim.run}` goes on"
            )
        return trip

    def _shrunk(self, claim: Claim) -> Claim:
        """The claim with smaller pages, where whoever held the slice before failed on its page.

        A write that was under way is blamed first: it is taken up in parts before anything else is read.
        """
        if claim.attempt == 1:
            return claim
        with self._hub.database.read() as session:
            if self._hub.ledger.writing(session, claim):
                return replace(claim, attempt=1)
        if claim.page_rows == 1 or claim.kind is SliceKind.UNDO or claim.stage is not Stage.READ:
            return claim
        rows = max(1, claim.page_rows // SHRINK)
        self._hub.database.retrying(lambda s: self._hub.ledger.shrink(s, claim, rows, claim.page_rows))
        return replace(claim, page_rows=rows, fragile=claim.page_rows, attempt=1)

    def _wait(self, claim: Claim, why: str, seconds: float | None) -> None:
        ledger = self._hub.ledger
        waits = self._hub.database.retrying(lambda s: ledger.wait(s, claim, seconds, LONGEST_WAIT))
        log.warning("slice waits", run=claim.run, slice=claim.number, why=why, waits=waits)
        if waits >= MOST_WAITS:
            self._hold(claim, f"{why}; given up after {waits} tries, `hub runs resume {claim.run}` tries again")

    def _hold(self, claim: Claim, why: str) -> None:
        log.warning("run held", run=claim.run, why=why)
        self._trips.pop(claim.run, None)
        with self._hub.database.begin() as session:
            self._hub.end(session, claim.run, RunState.HELD, why)
        self._give_up(claim)

    def _give_up(self, claim: Claim) -> None:
        self._trips.pop(claim.run, None)
        try:
            with self._hub.database.begin() as session:
                self._hub.ledger.release(session, claim)
        except LostLeaseError:
            log.info("slice already held by another", run=claim.run, slice=claim.number)


class Carriage:
    """One claim's way through its slice."""

    def __init__(
        self, hub: Installation, trip: Trip, claim: Claim, heartbeat: Heartbeat, stopping: Callable[[], bool]
    ) -> None:
        self._stopping = stopping
        self._hub = hub
        self._trip = trip
        self._claim = claim
        self._heartbeat = heartbeat
        self._number = claim.pages

    def carry(self) -> None:
        """Finishes what was left between two commits, then does the claim's stage."""
        self._recover()
        if self._claim.stage is Stage.WRITE:
            self._write()
        elif self._trip.staged:
            self._read_staged()
        else:
            self._read()

    def _lands(self) -> bool:
        """Whether pages are written as they come: not before all are scored, in a run that scores ahead."""
        return not self._trip.run.ahead or self._claim.phase == LANDING

    def _open_pages(self) -> list[PageRecord]:
        with self._hub.database.read() as session:
            return self._hub.ledger.open_pages(session, self._claim)

    def _recover(self) -> None:
        """Pages whose changes are stored and whose results are not: written again from the stored changes.

        What was read before, and not written yet, is where reading goes on.
        """
        for page in self._open_pages():
            if page.state is PageState.DECIDED and self._lands():
                self._heartbeat.check()
                self._trip.land(self._claim, self._trip.recall(page), self._heartbeat.check, repeated=True)
                if self._claim.phase == LANDING and self._stopping():
                    return
            self._number = page.number + 1
            self._claim = replace(self._claim, cursor=page.cursor)

    def _park(self, *, scored: bool = True) -> str | None:
        """The reason to park the record at hand, where it failed on its own too often. LimitError where many did."""
        if scored and (self._claim.page_rows > 1 or self._claim.attempt <= MOST_TRIES):
            return None
        if self._claim.attempt > MOST_DEATHS:
            raise LimitError(
                f"a record failed {self._claim.attempt - 1} times in a row and could not be set aside; see the log"
            )
        with self._hub.database.read() as session:
            row = self._hub.ledger.parked_in_a_row(session, self._claim, MOST_PARKED)
        if row >= MOST_PARKED:
            raise LimitError(
                f"{row} records in a row failed on their own, so the fault is not theirs; see the log, then"
                f" `hub runs resume {self._claim.run}` goes on and `hub runs replay {self._trip.run.mapping}` tries"
                " the parked ones again"
            )
        return PARKED_BECAUSE

    def _read(self) -> None:
        park = self._park()
        ahead = self._trip.run.ahead
        with ThreadPoolExecutor(1, "write") as writer:
            landing: Future[None] | None = None
            pages = self._trip.pages(self._claim, after=self._claim.cursor)
            for load in prefetched(pages, depth=1 if self._claim.fragile <= 0 else 0):
                self._heartbeat.check()
                intent = self._trip.intend(self._claim, self._number, load, park=park, after=landing)
                self._number += 1
                if not ahead:
                    if landing is not None:
                        landing.result()
                    landing = writer.submit(self._trip.land, self._claim, intent, self._heartbeat.check)
                if self._claim.fragile > 0 or park is not None:
                    self._grow(landing, load.rows)
                    return
                if self._stopping():
                    self._pause(landing)
                    return
            if landing is not None:
                landing.result()
        self._end_of_read()

    def _pause(self, landing: Future[None] | None) -> None:
        if landing is not None:
            landing.result()
        with self._hub.database.begin() as session:
            self._hub.ledger.release(session, self._claim)

    def _grow(self, landing: Future[None] | None, rows: int) -> None:
        """After one page of a fragile stretch: back to the ledger, so that the next is claimed at its own size."""
        if landing is not None:
            landing.result()
        left = self._claim.fragile - max(rows, 1)
        size = self._claim.full_page_rows if left <= 0 else self._claim.page_rows
        with self._hub.database.begin() as session:
            self._hub.ledger.release(session, self._claim, fragile=max(0, left), page_rows=size)

    def _end_of_read(self) -> None:
        if self._trip.run.ahead:
            self._leave(stage=Stage.WRITE.value, phase=LANDING, exhausted=True)
        else:
            self._end()

    def _leave(self, **moved: object) -> None:
        with self._hub.database.begin() as session:
            self._hub.ledger.release(session, self._claim, **moved)

    def _end(self) -> None:
        reach("before end")

        def commit(session: Session) -> None:
            self._hub.ledger.release(session, self._claim, stage=Stage.DONE.value, exhausted=True)
            finish(self._hub, session, self._claim.run)

        self._hub.database.retrying(commit)
        reach("after end")

    def _read_staged(self) -> None:
        """Some pages read and stored for the pool that scores; those an earlier claim left are passed on with them."""
        park = self._park()
        read, exhausted = sum(page.state is not PageState.DECIDED for page in self._open_pages()), True
        for load in self._trip.pages(self._claim, after=self._claim.cursor):
            self._heartbeat.check()
            self._trip.store_features(self._claim, self._number, load, park=park)
            self._number += 1
            read += 1
            if self._claim.fragile > 0 or park is not None:
                left = self._claim.fragile - max(load.rows, 1)
                size = self._claim.full_page_rows if left <= 0 else self._claim.page_rows
                self._pass_on(exhausted=False, fragile=max(0, left), page_rows=size)
                return
            if read >= STAGED_PAGES or self._stopping():
                exhausted = False
                break
        if read:
            self._pass_on(exhausted=exhausted)
        else:
            self._end_of_read()

    def _pass_on(self, **moved: object) -> None:
        self._leave(stage=Stage.SCORE.value, pool=self._trip.pool, **moved)
        self._hub.ring([self._trip.pool])

    def _write(self) -> None:
        """Pages that were scored elsewhere: the first commit of each, and the write where it is time for it."""
        if self._claim.attempt > 1 and self._claim.full_page_rows > 1 and self._again_in_parts():
            return
        scored = [page for page in self._open_pages() if page.state is PageState.SCORED]
        for page in scored:
            self._heartbeat.check()
            park = self._park(scored=page.predictions is not None) if page is scored[0] else None
            intent = self._trip.intend_scored(self._claim, page, park=park)
            if self._lands():
                self._trip.land(self._claim, intent, self._heartbeat.check)
        if self._claim.phase == LANDING and self._open_pages():
            self._leave()  # told to stop in the middle of the landing
        elif self._claim.exhausted and self._lands():
            self._end()
        elif self._claim.exhausted:
            self._leave(phase=LANDING)
        else:
            self._leave(stage=Stage.READ.value, pool="default")

    def _again_in_parts(self) -> bool:
        """After a claim that failed on scored pages: they are dropped and read again, smaller."""
        if self._claim.page_rows == 1 or not any(page.state is PageState.SCORED for page in self._open_pages()):
            return False
        read_again(self._hub, self._claim, [PageState.SCORED, PageState.FEATURED])
        return True


class Scoring:
    """One claim of the stage that only scores: needs the ledger, the keys and the model, and no connection."""

    def __init__(self, hub: Installation, claim: Claim, heartbeat: Heartbeat) -> None:
        self._hub = hub
        self._claim = claim
        self._heartbeat = heartbeat

    def carry(self) -> None:
        """Scores the stored pages and passes the slice on; after a failure they are read again in smaller pages."""
        hub, claim = self._hub, self._claim
        if claim.attempt > 1 and claim.page_rows > 1:
            read_again(hub, claim, [PageState.FEATURED])
            return
        with hub.database.read() as session:
            pages = [p for p in hub.ledger.open_pages(session, claim) if p.state is PageState.FEATURED]
        for page in pages:
            self._heartbeat.check()
            if claim.attempt > MOST_TRIES and page is pages[0]:
                set_aside(hub, claim, page)
            else:
                score_page(hub, claim, page)
        with hub.database.begin() as session:
            hub.ledger.release(session, claim, stage=Stage.WRITE.value, pool="default")
        hub.ring(["default"])


def read_again(hub: Installation, claim: Claim, states: list[PageState]) -> None:
    """Drops a slice's pages that stand in these states and gives it back to be read in smaller ones."""
    rows = max(1, claim.page_rows // SHRINK)
    with hub.database.begin() as session:
        hub.ledger.drop_pages(session, claim, states)
        moved = {"page_rows": rows, "fragile": claim.page_rows * STAGED_PAGES, "exhausted": False}
        hub.ledger.release(session, claim, stage=Stage.READ.value, pool="default", **moved)
    hub.ring(["default"])


class Heartbeat:
    """Keeps a lease alive from a thread of its own; it stops when the work makes no progress for too long."""

    def __init__(self, hub: Installation, claim: Claim, progress: Callable[[], None]) -> None:
        self._hub = hub
        self._claim = claim
        self._tell = progress
        self._stop = threading.Event()
        self._lost: Exception | None = None
        self._progress = time.monotonic()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def check(self) -> None:
        """Tells the heartbeat that the work goes on. LostLeaseError where the slice is no longer ours."""
        self._progress = time.monotonic()
        self._tell()
        if self._lost is not None:
            raise self._lost

    def _beat(self) -> None:
        lease = self._hub.settings.lease_seconds
        while not self._stop.wait(lease / 3):
            if time.monotonic() - self._progress > self._hub.settings.record_seconds:
                return
            try:
                with self._hub.database.begin() as session:
                    self._hub.ledger.beat(session, self._claim, lease)
                self._look_for_pause()
            except (LostLeaseError, PausedMappingError) as lost:
                self._lost = lost
                return
            except (DBAPIError, DatabaseError) as error:
                log.warning("heartbeat failed", run=self._claim.run, slice=self._claim.number, why=type(error).__name__)

    def _look_for_pause(self) -> None:
        with self._hub.database.read() as session:
            run = self._hub.ledger.run(session, self._claim.run)
        if run.kind is not RunKind.UNDO and self._hub.mappings.get(run.mapping).paused:
            raise PausedMappingError(
                f"mapping {run.mapping} was paused; `hub mappings resume {run.mapping}` lifts it,"
                f" then `hub runs resume {run.id}` goes on"
            )

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        self._thread.join()


def abandon(database: Database, worker: str) -> int:
    """Ends the leases of a worker whose process is known to be dead; how many slices it held."""
    return database.retrying(lambda session: abandon_worker(session, worker))


def prefetched(items: Iterator[T], depth: int) -> Iterator[T]:
    """The same items, made up to `depth` ahead in a thread of their own, so that reading hides behind the rest."""
    if depth == 0:
        yield from items
        return
    queue: Queue[T | BaseException | None] = Queue(depth)
    stop = threading.Event()

    def fill() -> None:
        try:
            for item in items:
                if not _offer(queue, item, stop):
                    return
        except BaseException as error:  # noqa: BLE001  (raised again in the thread that reads)
            _offer(queue, error, stop)
            return
        _offer(queue, None, stop)

    thread = threading.Thread(target=fill, name="read", daemon=True)
    thread.start()
    try:
        while (item := queue.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stop.set()
        thread.join()


def _offer(queue: Queue[T], item: T, stop: threading.Event) -> bool:
    while not stop.is_set():
        try:
            queue.put(item, timeout=0.1)
        except Full:
            continue
        return True
    return False


def _resource(error: BaseException) -> str:
    return "memory" if isinstance(error, MemoryError) else "disk space"
