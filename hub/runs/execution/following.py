"""One claim's way along a live source: what it tells is carried as pages of any run are, until somebody else's turn."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from threading import Event
from typing import Final, TypeAlias

from sqlalchemy.orm import Session

from hub.runs.execution.carriage import Carriage
from hub.runs.execution.heartbeat import Heartbeat, Looks
from hub.runs.execution.lanes import Lanes
from hub.runs.following import GAP, has_ended, keep_following, order_owed
from hub.runs.installation import Installation
from hub.runs.pages import Intent, Load, Trip
from hub.runs.types import STAYED_OPEN, Claim, PageState
from hub.sdk import Happening

LOOK_SECONDS = 0.5
"""How long a run that waits for this one to give way may wait while nothing comes."""
QUIET_SECONDS = 2.0
"""After so long without a record, whatever ended the process of whoever followed before was not in what comes next."""
SILENT_SECONDS = 30.0
"""A live source that says nothing for so long breaks its word of a page every ten seconds; its thread may hang."""
OWED_SECONDS = 30.0
"""After a run that is owed could not be ordered, that is tried again."""
OPEN_SECONDS = 10.0
"""How long answers may stay open before another run looks into them: what hindered them may be over by then."""

_END: Final = object()
Step: TypeAlias = Callable[[], None]


class Following(Carriage):
    """One claim of the slice that follows; gives it back for others of its mapping, and ends it with its reason."""

    def __init__(
        self,
        hub: Installation,
        trip: Trip,
        claim: Claim,
        watch: tuple[Heartbeat, Looks],
        lanes: Lanes,
        stopping: Callable[[], bool],
        *,
        stays: bool = True,
    ) -> None:
        """Without `stays` only what was left between two commits is finished."""
        super().__init__(hub, trip, claim, watch, lanes, stopping)
        self._stays = stays
        self._quiet_since = time.monotonic()
        self._checked = self._ordered = float("-inf")
        self._open_since: float | None = None
        self._begun = False

    def carry(self) -> None:
        """Finishes what was left between two commits, then follows."""
        self._recover()
        if not self._stays:
            self._leave()
            return
        step = self._next_step() or self._follow()
        step()

    def _recover(self) -> None:
        for page in self._open_pages():
            assert page.state is PageState.DECIDED
            self._heartbeat.check()
            trip, intent = self._trip.recalled(page)
            self._write_out(trip, intent, repeated=True)
            self._number = page.number + 1
            self._claim = replace(self._claim, cursor=page.cursor)

    def _follow(self) -> Step:
        """Carries what comes until something else is to be done, after the stream is given back."""
        with self._arriving() as arriving:
            for load in arriving:
                if load is not None and load.rows:
                    self._take(load)
                elif load is not None:
                    self._move_on(load)
                if (step := self._next_step()) is not None:
                    return step
        return self._leave

    def _take(self, load: Load) -> None:
        """One page, with both its commits, at its own logical time."""
        hub, park = self._hub, self._park()
        with hub.database.read() as session:
            trip = self._trip.later(hub.database.now(session))
        page = trip.make_ready(load, park=park)
        intent = trip.store(self._claim, self._number, load, trip.judge(page, park=park), page.hashes)
        self._write_out(trip, intent)
        self._number += 1
        left = max(0, self._claim.fragile - load.rows)
        self._claim = replace(self._claim, cursor=load.cursor, attempt=1, fragile=left)
        self._quiet_since = time.monotonic()

    def _write_out(self, trip: Trip, intent: Intent, *, repeated: bool = False) -> None:
        check = self._heartbeat.check
        self._lanes.writing.submit(trip.land, self._claim, intent, check, repeated=repeated).result()

    def _move_on(self, load: Load) -> None:
        """A page without records: a newer cursor, or the word that some changes may never be told."""
        if load.gap or not self._begun or load.cursor != self._claim.cursor:
            missed = load.gap and not {*self._owed()} - {STAYED_OPEN}
            self._hub.database.retrying(lambda s: self._store_place(s, load.cursor, missed=missed), repeatable=True)
            self._claim, self._begun = replace(self._claim, cursor=load.cursor), True

    def _store_place(self, session: Session, cursor: str | None, *, missed: bool) -> None:
        ledger, claim = self._hub.ledger, self._claim
        ledger.move_on(session, claim, cursor)
        if missed:
            ledger.owe(session, claim, GAP)
            ledger.put_up_with(session, claim.run, {Happening.MISSED.value: (1, 1.0)})

    def _owed(self) -> tuple[str, ...]:
        with self._hub.database.read() as session:
            return self._hub.ledger.owed(session, self._claim.run)

    def _next_step(self) -> Step | None:
        """What is to be done instead of following on. LostLeaseError where the run was ended."""
        with self._hub.database.read() as session:
            others = self._hub.ledger.waits_beside(session, self._claim.run)
        if others or self._stopping():
            return self._leave
        now = time.monotonic()
        if now - self._checked < LOOK_SECONDS:
            return None
        self._checked = now
        self._trip.look_for_pause()
        if has_ended(self._hub, self._trip.run, self._number):
            return self._begin_anew
        self._settle_debt(now)
        claim = self._claim
        passed = claim.attempt == 1 and not claim.fragile
        shy = claim.attempt > 1 or claim.page_rows < claim.full_page_rows
        if shy and (passed or now - self._quiet_since >= QUIET_SECONDS):
            return partial(self._leave, fragile=0, page_rows=claim.full_page_rows)
        return None

    def _begin_anew(self) -> None:
        self._end()
        keep_following(self._hub)

    def _settle_debt(self, now: float) -> None:
        """Orders the run that is owed, once there is a cursor that it comes after; then the debt is met."""
        if self._claim.cursor is None or now - self._ordered < OWED_SECONDS or not (owed := self._owed()):
            return
        if owed == (STAYED_OPEN,):
            self._open_since = now if self._open_since is None else self._open_since
            if now - self._open_since < OPEN_SECONDS:
                return
        self._ordered, self._open_since = now, None
        order_owed(self._hub, self._trip.run, owed)

    @contextmanager
    def _arriving(self) -> Iterator[Generator[Load | None]]:
        """Each page as it comes, and None now and then while none does; the stream is given back at the end."""
        over, thread = Event(), self._lanes.reading
        pages = self._trip.follow(self._claim, self._claim.cursor, over.is_set)
        coming: list[Future[Load | object]] = []

        def arriving() -> Generator[Load | None]:
            since = time.monotonic()
            coming.append(thread.submit(next, pages, _END))
            while True:
                if time.monotonic() - since < SILENT_SECONDS:
                    self._heartbeat.check()
                if not wait(coming, LOOK_SECONDS).done:
                    yield None
                    continue
                item = coming.pop().result()
                if item is _END:
                    return
                assert isinstance(item, Load)
                yield item
                since = time.monotonic()
                coming.append(thread.submit(next, pages, _END))

        try:
            yield arriving()
        finally:
            over.set()
            for each in coming:
                each.exception()
            thread.submit(pages.close).result()
