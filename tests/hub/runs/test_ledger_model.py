"""The ledger against a model of what it promises, whatever workers, people and the clock do in whatever order.

Workers take slices, die, sleep past their leases and come back with claims that are theirs no longer.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from hub.database import Database
from hub.keys import open_ring
from hub.runs import Counts, RunError, RunKind, RunState
from hub.runs.ledger.tables import BellRow, PageRow, RunRow, SliceRow, TickRow
from hub.runs.store import Ledger, abandon_worker
from hub.runs.types import Claim, LostLeaseError, PageRecord, PageState, RunPlan, SliceKind, SlicePlan, Stage
from hub.settings import load_settings
from tests.clocks import SetClock

START = datetime(2026, 3, 1, tzinfo=UTC)
LEASE = 10.0
LIMIT = 40
WORKERS = ("w1", "w2", "w3")
MAPPINGS = st.sampled_from(["risk", "churn"])
STALE = 30.0


@dataclass
class Part:
    """What is known of a slice."""

    phase: int
    epoch: int = 0
    attempt: int = 0
    waits: int = 0
    pages: int = 0
    read: int = 0
    done: bool = False
    worker: str | None = None
    lease_until: datetime | None = None
    not_before: datetime | None = None


@dataclass
class Whole:
    """What is known of a run; `parts` are its slices."""

    mapping: str
    at: datetime
    parts: list[Part]
    state: RunState = RunState.QUEUED
    spent: int = 0

    def may_take(self, now: datetime) -> list[int]:
        """The slices that may be claimed, in order."""
        if self.state not in (RunState.QUEUED, RunState.RUNNING):
            return []
        phase = min((each.phase for each in self.parts if not each.done), default=None)
        free = [
            number
            for number, each in enumerate(self.parts)
            if not each.done
            and each.phase == phase
            and (each.lease_until is None or each.lease_until < now)
            and (each.not_before is None or each.not_before <= now)
        ]
        return sorted(free, key=lambda number: (self.parts[number].phase, number))


@dataclass
class Known:
    """The model: what the ledger must say."""

    runs: dict[str, Whole] = field(default_factory=dict)
    hands: dict[str, Claim] = field(default_factory=dict)
    """What each worker believes it holds."""
    rung: dict[str, datetime] = field(default_factory=dict)
    ticks: dict[str, tuple[datetime, int]] = field(default_factory=dict)


def held(machine: LedgerMachine) -> bool:
    """Whether somebody believes that it holds a slice."""
    return bool(machine.known.hands)


class LedgerMachine(RuleBasedStateMachine):
    """Drives a ledger and its model side by side."""

    def __init__(self, database: Database, ledger: Ledger) -> None:
        super().__init__()
        self.database, self.ledger = database, ledger
        self.clock = database.clock = SetClock(START)
        self.known = Known()
        with database.begin() as session:
            for table in (PageRow, SliceRow, RunRow, BellRow, TickRow):
                session.execute(delete(table))

    @initialize()
    def begin(self) -> None:
        self._start("risk", [0, 0, 1, 2])

    # -- people ------------------------------------------------------------------------------------------------------

    @rule(mapping=MAPPINGS, phases=st.lists(st.integers(0, 2), min_size=1, max_size=4).map(sorted))
    def start(self, mapping: str, phases: list[int]) -> None:
        self._start(mapping, phases)

    def _start(self, mapping: str, phases: list[int]) -> None:
        plan = RunPlan(mapping, "v" * 64, "m" * 64, RunKind.FULL, "human:anna", self.clock.moment, changed_limit=LIMIT)
        slices = [SlicePlan(SliceKind.READ, phase, selection="{}", page_rows=8) for phase in phases]
        self.clock.pass_(seconds=0.001)  # runs of one moment are told apart by nothing
        active = any(each.mapping == mapping and not each.state.final for each in self.known.runs.values())
        if active:
            with pytest.raises(RunError):
                self.database.retrying(lambda s: self.ledger.add(s, plan, slices, "default"))
            return
        run = self.database.retrying(lambda s: self.ledger.add(s, plan, slices, "default"))
        self.known.runs[run] = Whole(mapping, self.clock.moment, [Part(each) for each in phases])

    @rule(data=st.data(), state=st.sampled_from([RunState.HELD, RunState.CANCELLED, RunState.STOPPED]))
    def end(self, data: st.DataObject, state: RunState) -> None:
        run = data.draw(st.sampled_from(sorted(self.known.runs)))
        whole = self.known.runs[run]
        moved = self.database.retrying(lambda s: self.ledger.set_state(s, run, state, "why"))
        assert moved is (not whole.state.final and whole.state is not state)
        whole.state = state if moved else whole.state

    @rule(data=st.data())
    def resume(self, data: st.DataObject) -> None:
        run = data.draw(st.sampled_from(sorted(self.known.runs)))
        whole = self.known.runs[run]
        went = self.database.retrying(lambda s: self.ledger.resume(s, run, None, raise_limit=False))
        assert went is (whole.state is RunState.HELD)
        if went:
            whole.state = RunState.RUNNING
            for each in whole.parts:
                each.epoch, each.attempt, each.waits = each.epoch + 1, 0, 0
                each.lease_until = each.not_before = None

    # -- time --------------------------------------------------------------------------------------------------------

    @rule(seconds=st.sampled_from([0.5, LEASE / 2, LEASE + 0.1, 40.0, 400.0]))
    def pass_time(self, seconds: float) -> None:
        self.clock.pass_(seconds=seconds)

    # -- workers -----------------------------------------------------------------------------------------------------

    @precondition(lambda self: len(self.known.hands) < len(WORKERS))
    @rule()
    def claim(self) -> None:
        self._claim(next(each for each in WORKERS if each not in self.known.hands))

    @precondition(held)
    @rule(data=st.data())
    def oversleep(self, data: st.DataObject) -> None:
        """A worker freezes past its lease, others take what there is, and it comes back with its old claim."""
        sleeper = self._one(data)
        self.clock.pass_(seconds=LEASE + 1)
        for each in WORKERS:
            if each != sleeper and each not in self.known.hands:
                self._claim(each)

    def _one(self, data: st.DataObject) -> str:
        """One of those who believe that they hold a slice."""
        return data.draw(st.sampled_from(sorted(self.known.hands)))

    def _claim(self, worker: str) -> Claim | None:
        now = self.clock.moment
        wanted = [
            (run, number)
            for run, whole in sorted(self.known.runs.items(), key=lambda item: item[1].at)
            for number in whole.may_take(now)
        ]
        claim = self.database.retrying(lambda s: self.ledger.claim(s, "default", worker, LEASE))
        if claim is None:
            assert wanted == []
            return None
        assert (claim.run, claim.number) == wanted[0]
        whole = self.known.runs[claim.run]
        part = whole.parts[claim.number]
        assert (claim.epoch, claim.attempt, claim.pages) == (part.epoch + 1, part.attempt + 1, part.pages)
        part.epoch, part.attempt, part.worker = claim.epoch, claim.attempt, worker
        part.lease_until = now + timedelta(seconds=LEASE)
        whole.state = RunState.RUNNING
        self.known.hands[worker] = claim
        return claim

    def _act(
        self,
        worker: str,
        work: Callable[[Session, Claim], object],
        then: Callable[[Part, Whole], None],
        *,
        running: bool = False,
    ) -> None:
        """Does something under a worker's claim; it must be refused, and change nothing, where the claim is old."""
        claim = self.known.hands.get(worker)
        if claim is None:
            return
        whole = self.known.runs[claim.run]
        part = whole.parts[claim.number]
        if claim.epoch == part.epoch and (not running or whole.state is RunState.RUNNING):
            self.database.retrying(lambda s: work(s, claim))
            then(part, whole)
            return
        with pytest.raises(LostLeaseError):
            self.database.retrying(lambda s: work(s, claim))
        self.known.hands.pop(worker)

    @precondition(held)
    @rule(data=st.data())
    def beat(self, data: st.DataObject) -> None:
        worker = self._one(data)

        def then(part: Part, _: Whole) -> None:
            part.lease_until = self.clock.moment + timedelta(seconds=LEASE)

        self._act(worker, lambda s, claim: self.ledger.beat(s, claim, LEASE), then, running=True)

    @precondition(held)
    @rule(data=st.data())
    def decide_a_page(self, data: st.DataObject) -> None:
        worker = self._one(data)

        def work(session: Session, claim: Claim) -> None:
            self.ledger.put_page(session, claim, self._page(claim, PageState.DECIDED))

        self._act(worker, work, lambda _part, _whole: None, running=True)

    @precondition(held)
    @rule(data=st.data())
    def land_a_page(self, data: st.DataObject) -> None:
        worker = self._one(data)

        def work(session: Session, claim: Claim) -> None:
            page = self._page(claim, PageState.WRITTEN)
            self.ledger.put_page(session, claim, page)
            self.ledger.advance(session, claim, page.counts, cursor=page.cursor, pages=page.number + 1)

        def then(part: Part, _: Whole) -> None:
            part.read, part.pages, part.attempt, part.waits = part.read + 3, part.pages + 1, 1, 0

        self._act(worker, work, then)

    def _page(self, claim: Claim, state: PageState) -> PageRecord:
        number = self.known.runs[claim.run].parts[claim.number].pages
        counts = Counts(3, {"applied": 2, "skipped": 1})
        return PageRecord(claim.run, claim.number, number, state, None, str(number), counts)

    @precondition(held)
    @rule(data=st.data(), size=st.integers(1, 8))
    def shrink(self, data: st.DataObject, size: int) -> None:
        worker = self._one(data)

        def then(part: Part, _: Whole) -> None:
            part.attempt = 1

        self._act(worker, lambda s, claim: self.ledger.shrink(s, claim, size, 8), then)

    @precondition(held)
    @rule(data=st.data())
    def forgive(self, data: st.DataObject) -> None:
        worker = self._one(data)

        def then(part: Part, _: Whole) -> None:
            part.lease_until = part.worker = None
            self.known.hands.pop(worker)

        self._act(worker, lambda s, claim: self.ledger.forgive(s, claim), then)

    @precondition(held)
    @rule(data=st.data())
    def give_back(self, data: st.DataObject) -> None:
        worker = self._one(data)

        def then(part: Part, _: Whole) -> None:
            part.lease_until, part.worker, part.attempt = None, None, 0
            self.known.hands.pop(worker)

        self._act(worker, lambda s, claim: self.ledger.release(s, claim), then)

    @precondition(held)
    @rule(data=st.data(), seconds=st.sampled_from([None, 5.0]))
    def wait(self, data: st.DataObject, seconds: float | None) -> None:
        worker = self._one(data)

        def then(part: Part, _: Whole) -> None:
            part.waits += 1
            pause = min(300.0, 2.0**part.waits) if seconds is None else seconds
            part.not_before = self.clock.moment + timedelta(seconds=pause)
            part.lease_until, part.worker, part.attempt = None, None, 0
            self.known.hands.pop(worker)

        self._act(worker, lambda s, claim: self.ledger.wait(s, claim, seconds, 300.0), then, running=True)

    @precondition(held)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        worker = self._one(data)
        self._finish(worker)

    def _finish(self, worker: str) -> None:
        def work(session: Session, claim: Claim) -> None:
            self.ledger.release(session, claim, stage=Stage.DONE.value)
            self.ledger.lock_run(session, claim.run)
            if not self.ledger.unfinished(session, claim.run):
                self.ledger.set_state(session, claim.run, RunState.DONE)

        def then(part: Part, whole: Whole) -> None:
            part.done, part.lease_until, part.worker, part.attempt = True, None, None, 0
            self.known.hands.pop(worker)
            if all(each.done for each in whole.parts) and not whole.state.final:
                whole.state = RunState.DONE

        self._act(worker, work, then)

    @precondition(held)
    @rule(data=st.data(), noticed=st.booleans())
    def die(self, data: st.DataObject, *, noticed: bool) -> None:
        """`noticed`: whoever started the process ends its leases."""
        worker = self._one(data)
        self.known.hands.pop(worker, None)
        if noticed:
            self.database.retrying(lambda s: abandon_worker(s, worker))
            for whole in self.known.runs.values():
                for part in whole.parts:
                    if part.worker == worker and part.lease_until is not None:
                        part.lease_until = part.worker = None

    # -- what is counted ---------------------------------------------------------------------------------------------

    @rule(data=st.data(), changed=st.integers(1, 15))
    def spend(self, data: st.DataObject, changed: int) -> None:
        run = data.draw(st.sampled_from(sorted(self.known.runs)))
        whole = self.known.runs[run]
        within = self.database.retrying(lambda s: self.ledger.spend(s, run, changed))
        assert within is (whole.spent + changed <= LIMIT)
        whole.spent += changed if within else 0

    @rule(pool=st.sampled_from(["default", "gpu"]), heard=st.booleans())
    def ring(self, pool: str, *, heard: bool) -> None:
        now = self.clock.moment
        wanted = self.database.retrying(lambda s: self.ledger.wants_ring(s, pool, STALE))
        before = self.known.rung.get(pool)
        assert wanted is (before is None or before <= now - timedelta(seconds=STALE))
        self.known.rung[pool] = now if wanted or before is None else before
        if heard:
            self.database.retrying(lambda s: self.ledger.heard(s, pool))
            del self.known.rung[pool]

    @rule(mapping=MAPPINGS, minutes=st.integers(0, 3), dropped=st.integers(0, 2))
    def tick(self, mapping: str, minutes: int, dropped: int) -> None:
        at = START + timedelta(minutes=minutes)
        before = self.known.ticks.get(mapping)
        first = self.database.retrying(lambda s: self.ledger.tick(s, mapping, at, dropped))
        assert first is (before is None or before[0] < at)
        if first:
            self.known.ticks[mapping] = (at, dropped + (before[1] if before else 0))

    # -- what must hold ----------------------------------------------------------------------------------------------

    @invariant()
    def the_ledger_says_what_the_model_says(self) -> None:
        with self.database.read() as session:
            states = {row.id: (row.mapping, row.state, row.changed) for row in session.scalars(select(RunRow))}
            rows = {(row.run, row.number): row for row in session.scalars(select(SliceRow))}
            counted = {run: self.ledger.counts(session, run) for run in states}
        assert states == {
            run: (whole.mapping, whole.state.value, whole.spent) for run, whole in self.known.runs.items()
        }
        for run, whole in self.known.runs.items():
            assert counted[run].balanced
            assert counted[run].read == sum(part.read for part in whole.parts)
            for number, part in enumerate(whole.parts):
                row = rows.pop((run, number))
                told = (row.epoch, row.attempt, row.waits, row.pages, row.stage == "done", row.lease_until)
                assert told == (part.epoch, part.attempt, part.waits, part.pages, part.done, part.lease_until)
        assert rows == {}  # no slice but those of the runs, and each of theirs is there

    @invariant()
    def a_slice_has_one_holder_and_a_mapping_one_run(self) -> None:
        valid = [
            (claim.run, claim.number)
            for claim in self.known.hands.values()
            if claim.epoch == self.known.runs[claim.run].parts[claim.number].epoch
        ]
        assert len(valid) == len(set(valid))
        going = [whole.mapping for whole in self.known.runs.values() if not whole.state.final]
        assert len(going) == len(set(going))

    def teardown(self) -> None:
        """Then all is calm: every slice of every run that may go on is found and carried to its end, in order."""
        self.known.hands.clear()
        for run, whole in self.known.runs.items():
            if whole.state is RunState.HELD:
                with suppress(LostLeaseError):
                    self.database.retrying(lambda s, r=run: self.ledger.resume(s, r, None, raise_limit=False))  # type: ignore[misc]
                whole.state = RunState.RUNNING
                for each in whole.parts:
                    each.epoch, each.attempt, each.waits = each.epoch + 1, 0, 0
                    each.lease_until = each.not_before = None
        self.clock.pass_(seconds=1_000)
        while self._claim("w9") is not None:
            self._finish("w9")
        self.the_ledger_says_what_the_model_says()
        assert all(whole.state.final for whole in self.known.runs.values())


def test_whatever_happens_the_ledger_keeps_its_promises(any_database: Database, tmp_path: Path) -> None:
    keys = open_ring(load_settings(home=tmp_path), any_database)
    ledger = Ledger(any_database, keys)
    few = settings(max_examples=20, stateful_step_count=40, suppress_health_check=list(HealthCheck))
    run_state_machine_as_test(lambda: LedgerMachine(any_database, ledger), settings=few)
