"""One claim's way through its slice: what was left between two commits first, then page by page."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import replace

from sqlalchemy.orm import Session

from hub.runs.execution.flow import Flow
from hub.runs.execution.heartbeat import Heartbeat, Looks
from hub.runs.execution.lanes import Lanes, made_by
from hub.runs.execution.staged import STAGED_PAGES, read_again
from hub.runs.installation import Installation
from hub.runs.pages import Intent, LimitError, Load, Ready, Trip
from hub.runs.planning.planning import finish
from hub.runs.types import LANDING, MOST_PARKED, MOST_TRIES, Claim, PageRecord, PageState, Stage

PARKED_BECAUSE = f"carrying this record failed {MOST_TRIES} times on its own"
MOST_DEATHS = 2 * MOST_TRIES
"""How often in a row a record alone may fail, parked or not, before a person is asked."""


class Carriage:
    """One claim's way through its slice."""

    def __init__(
        self,
        hub: Installation,
        trip: Trip,
        claim: Claim,
        watch: tuple[Heartbeat, Looks],
        lanes: Lanes,
        stopping: Callable[[], bool],
    ) -> None:
        self._lanes = lanes
        self._stopping = stopping
        self._hub = hub
        self._trip = trip
        self._claim = claim
        self._heartbeat, self._looks = watch
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
                self._land(self._trip.recall(page), repeated=True)
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
        alone = self._claim.fragile > 0 or park is not None
        lands = not self._trip.run.ahead
        flow = Flow(self._trip, self._claim, self._lanes, self._heartbeat.check, lands=lands)
        with closing(made_by(self._lanes.reading, self._made_ready(park), ahead=not alone)) as pages, flow:
            for page in pages:
                self._heartbeat.check()
                self._looks.look(self._trip.tally)
                flow.meet(page.hashes)
                flow.put(self._number, page, self._trip.judge(page, park=park))
                self._number += 1
                if alone or self._stopping():
                    flow.settle()
                    self._leave(**(self._grown(page.load.rows) if alone else {}))
                    return
            flow.settle()
        self._end_of_read()

    def _loads(self) -> Generator[Load]:
        return self._trip.pages(self._claim, after=self._claim.cursor)

    def _made_ready(self, park: str | None) -> Generator[Ready]:
        """Each page with what can be made of it where it is read: the thread that judges has the most to do."""
        with closing(self._loads()) as loads:
            for load in loads:
                yield self._trip.make_ready(load, park=park)

    def _land(self, intent: Intent, *, repeated: bool = False) -> None:
        landing = self._lanes.writing.submit(
            self._trip.land, self._claim, intent, self._heartbeat.check, repeated=repeated
        )
        landing.result()

    def _grown(self, rows: int) -> dict[str, int]:
        """After one page of a fragile stretch: back to the ledger, so that the next is claimed at its own size."""
        left = self._claim.fragile - max(rows, 1)
        return {
            "fragile": max(0, left),
            "page_rows": self._claim.full_page_rows if left <= 0 else self._claim.page_rows,
        }

    def _end_of_read(self) -> None:
        if self._trip.run.ahead:
            self._leave(stage=Stage.WRITE.value, phase=LANDING, exhausted=True)
        else:
            self._end()

    def _leave(self, **moved: object) -> None:
        with self._hub.database.begin() as session:
            self._hub.ledger.release(session, self._claim, **moved)

    def _end(self) -> None:
        told = self._trip.drain()

        def commit(session: Session) -> None:
            self._hub.ledger.release(session, self._claim, stage=Stage.DONE.value, exhausted=True)
            self._hub.ledger.put_up_with(session, self._claim.run, told)
            finish(self._hub, session, self._claim.run)

        self._hub.database.retrying(commit, repeatable=True)  # a run that has ended is not ended twice

    def _read_staged(self) -> None:
        """Some pages read and stored for the pool that scores; those an earlier claim left are passed on with them."""
        park = self._park()
        read, exhausted = sum(page.state is not PageState.DECIDED for page in self._open_pages()), True
        with closing(made_by(self._lanes.reading, self._loads(), ahead=False)) as loads:
            for load in loads:
                self._heartbeat.check()
                self._trip.store_features(self._claim, self._number, load, park=park)
                self._number += 1
                read += 1
                if self._claim.fragile > 0 or park is not None:
                    self._pass_on(exhausted=False, **self._grown(load.rows))
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
                self._land(intent)
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
