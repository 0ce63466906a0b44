"""The ledger: who may hold what, in which order, until when; on both databases that can keep it."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import func, insert, select
from sqlalchemy.event import listen
from sqlalchemy.orm import Session

from hub.database import Database
from hub.keys import KeyRing, open_ring
from hub.runs import Counts, RunError, RunKind, RunState
from hub.runs.ledger.runs import LEAST_WRITTEN
from hub.runs.ledger.tables import RunRow, SliceRow
from hub.runs.store import Ledger, abandon_worker
from hub.runs.types import (
    Claim,
    LostLeaseError,
    PageRecord,
    PageState,
    RunPlan,
    SliceKind,
    SlicePlan,
    Stage,
)
from hub.settings import load_settings

AT = datetime(2026, 3, 1, tzinfo=UTC)


class ClockedLedger(Ledger):
    """The ledger on a database whose clock the test turns."""

    def __init__(self, database: Database, keys: KeyRing) -> None:
        super().__init__(database, keys)
        self.now = AT
        database.now = lambda _session: self.now  # type: ignore[method-assign]
        self.database = database

    def pass_(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    def put(self, mapping: str = "risk", phases: tuple[int, ...] = (0,), **more: object) -> str:
        plan = RunPlan(mapping, "v" * 64, "m" * 64, RunKind.FULL, "human:anna", AT, **more)  # type: ignore[arg-type]
        slices = [SlicePlan(SliceKind.READ, phase, selection="{}", page_rows=8) for phase in phases]
        return self.database.retrying(lambda s: self.add(s, plan, slices, "default"))

    def take(self, worker: str = "w1", pool: str = "default", lease: float = 10) -> Claim | None:
        return self.database.retrying(lambda s: self.claim(s, pool, worker, lease))

    def done(self, claim: Claim) -> None:
        self.database.retrying(lambda s: self.release(s, claim, stage=Stage.DONE.value))

    def page(self, claim: Claim, state: PageState = PageState.DECIDED, number: int = 0) -> None:
        page = PageRecord(claim.run, claim.number, number, state, None, str(number), Counts(1, {"applied": 1}))
        self.database.retrying(lambda s: self.put_page(s, claim, page))

    def move(self, run: str, state: RunState) -> bool:
        return self.database.retrying(lambda s: self.set_state(s, run, state, "why"))


@pytest.fixture
def ledger(any_database: Database, tmp_path: Path) -> ClockedLedger:
    """An empty ledger on each database."""
    keys = open_ring(load_settings(home=tmp_path), any_database)
    return ClockedLedger(any_database, keys)


def held(claim: Claim | None) -> Claim:
    assert claim is not None
    return claim


def test_a_slice_has_one_holder_until_its_lease_runs_out_and_the_old_epoch_cannot_write(ledger: ClockedLedger) -> None:
    ledger.put()
    first = held(ledger.take("w1"))
    assert ledger.take("w2") is None
    ledger.pass_(11)
    second = held(ledger.take("w2"))
    assert (second.epoch, second.attempt) == (first.epoch + 1, first.attempt + 1)
    for refused in (
        lambda s: ledger.beat(s, first, 10),
        lambda s: ledger.advance(s, first, Counts(1, {"applied": 1})),
        lambda s: ledger.release(s, first),
        lambda s: ledger.wait(s, first, None, 300),
    ):
        with pytest.raises(LostLeaseError):
            ledger.database.retrying(refused)
    with pytest.raises(LostLeaseError):
        ledger.page(first)
    ledger.page(second)


def test_a_heartbeat_keeps_a_lease(ledger: ClockedLedger) -> None:
    ledger.put()
    claim = held(ledger.take())
    for _ in range(5):
        ledger.pass_(6)
        ledger.database.retrying(lambda s: ledger.beat(s, claim, 10))
        assert ledger.take("w2") is None


def test_threads_that_claim_at_once_never_share_a_slice(ledger: ClockedLedger) -> None:
    ledger.put(phases=(0,) * 12)
    taken: list[int] = []
    start = threading.Barrier(4)

    def claim_all(name: str) -> None:
        start.wait()
        while (claim := ledger.take(name)) is not None:
            taken.append(claim.number)

    threads = [threading.Thread(target=claim_all, args=(f"w{each}",)) for each in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert sorted(taken) == list(range(12))


def test_a_phase_starts_when_every_slice_before_it_is_done(ledger: ClockedLedger) -> None:
    ledger.put(phases=(0, 0, 1))
    first, second = held(ledger.take("w1")), held(ledger.take("w2"))
    assert ledger.take("w3") is None
    ledger.done(first)
    assert ledger.take("w3") is None
    ledger.done(second)
    assert held(ledger.take("w3")).number == 2


def test_a_mapping_has_one_active_run_and_requests_beside_it(ledger: ClockedLedger) -> None:
    run = ledger.put()
    with pytest.raises(RunError, match=f"already has an active run, {run}, queued; cancel it"):
        ledger.put()
    ledger.put(mapping="other")
    request = RunPlan("risk", "v", "m", RunKind.REQUEST, "human:anna", AT)
    ledger.database.retrying(lambda s: ledger.add(s, request, [], "default"))
    assert ledger.move(run, RunState.HELD)
    with pytest.raises(RunError, match=f"{run}, held: why; cancel it"):
        ledger.put()
    assert ledger.move(run, RunState.CANCELLED)
    ledger.put()


def test_a_run_that_was_ended_is_not_claimed_and_what_was_sent_is_still_recorded(ledger: ClockedLedger) -> None:
    run = ledger.put(phases=(0, 0))
    claim = held(ledger.take())
    ledger.page(claim)
    assert ledger.move(run, RunState.CANCELLED)
    assert not ledger.move(run, RunState.DONE)
    assert ledger.take() is None
    with pytest.raises(LostLeaseError):
        ledger.page(claim, number=1)
    ledger.page(claim, PageState.WRITTEN)
    ledger.database.retrying(lambda s: ledger.advance(s, claim, Counts(1, {"applied": 1})))
    with ledger.database.read() as session:
        assert ledger.run(session, run).counts == Counts(1, {"applied": 1})


def test_resuming_fences_off_whoever_has_not_noticed_the_hold(ledger: ClockedLedger) -> None:
    run = ledger.put()
    claim = held(ledger.take())
    ledger.move(run, RunState.HELD)
    assert ledger.database.retrying(lambda s: ledger.resume(s, run, None, False))
    with pytest.raises(LostLeaseError):
        ledger.page(claim)
    assert held(ledger.take("w2")).attempt == 1


def test_a_dead_worker_s_slices_are_free_at_once_and_the_attempt_stays_counted(ledger: ClockedLedger) -> None:
    ledger.put()
    held(ledger.take("w1"))
    assert ledger.database.retrying(lambda s: abandon_worker(s, "w1")) == 1
    assert held(ledger.take("w2")).attempt == 2


def test_the_limit_of_changes_is_never_crossed(ledger: ClockedLedger) -> None:
    run = ledger.put(changed_limit=10)
    spend = [ledger.database.retrying(lambda s, n=n: ledger.spend(s, run, n)) for n in (6, 5, 4, 1)]  # type: ignore[misc]
    assert spend == [True, False, True, False]
    with ledger.database.read() as session:
        assert ledger.run(session, run).changed == 10


def test_rejects_are_judged_over_the_last_thousand_written(ledger: ClockedLedger) -> None:
    run = ledger.put(rejected_limit=0.05)

    def judge(written: int, rejected: int) -> float | None:
        return ledger.database.retrying(lambda s: ledger.judge(s, run, written, rejected))

    assert judge(3, 1) is None  # one of three: as a share of the least, 1 %
    assert judge(LEAST_WRITTEN, 0) is None
    assert judge(2000, 60) is None
    assert judge(500, 50) is None  # 110 of 2,500, the last page not enough alone
    assert judge(500, 50) == pytest.approx(0.1)


def test_a_wait_doubles_and_a_step_forward_forgets_it(ledger: ClockedLedger) -> None:
    ledger.put()
    for waits, seconds in ((1, 2), (2, 4), (3, 8)):
        claim = held(ledger.take())
        assert claim.attempt == 1
        told = ledger.database.retrying(lambda s, c=claim: ledger.wait(s, c, None, 300))  # type: ignore[misc]
        assert told == (seconds, waits)
        ledger.pass_(seconds - 0.5)
        assert ledger.take() is None
        ledger.pass_(1)
    claim = held(ledger.take())
    ledger.database.retrying(lambda s: ledger.advance(s, claim, Counts(1, {"applied": 1})))
    assert ledger.database.retrying(lambda s: ledger.wait(s, claim, 1.5, 300)) == (1.5, 1)


def test_slices_are_claimed_by_the_pool_they_wait_for(ledger: ClockedLedger) -> None:
    run = ledger.put()
    claim = held(ledger.take())
    ledger.database.retrying(lambda s: ledger.release(s, claim, stage=Stage.SCORE.value, pool="gpu"))
    assert ledger.take() is None
    assert held(ledger.take(pool="gpu")).stage is Stage.SCORE
    with ledger.database.read() as session:
        assert ledger.pools(session, run) == ["gpu"]


def test_one_of_several_processes_acts_on_a_tick(ledger: ClockedLedger) -> None:
    acted: list[bool] = []
    start = threading.Barrier(4)

    def act() -> None:
        start.wait()
        acted.append(ledger.database.retrying(lambda s: ledger.tick(s, "risk", AT, 1)))

    threads = [threading.Thread(target=act) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert sorted(acted) == [False, False, False, True]
    with ledger.database.read() as session:
        assert ledger.last_tick(session, "risk") == (AT, 1)


def test_a_bell_is_rung_once_until_it_is_heard_or_stale(ledger: ClockedLedger) -> None:
    def wants() -> bool:
        return ledger.database.retrying(lambda s: ledger.wants_ring(s, "default", 30))

    assert [wants(), wants()] == [True, False]
    ledger.database.retrying(lambda s: ledger.heard(s, "default"))
    assert wants()
    ledger.pass_(31)
    assert wants()


def test_parked_pages_are_counted_from_the_last_one_back(ledger: ClockedLedger) -> None:
    ledger.put()
    claim = held(ledger.take())
    for number, outcome in enumerate(("parked", "applied", "parked", "parked")):
        page = PageRecord(claim.run, 0, number, PageState.WRITTEN, None, None, Counts(1, {outcome: 1}))
        ledger.database.retrying(lambda s, p=page: ledger.put_page(s, claim, p))  # type: ignore[misc]
    with ledger.database.read() as session:
        assert ledger.parked_in_a_row(session, claim, 10) == 2


def test_an_ended_run_keeps_what_its_slices_added_up_to_and_not_the_slices(ledger: ClockedLedger) -> None:
    run = ledger.put(phases=(0, 0))
    ledger.pass_(0.000_001)
    other = ledger.put("other")
    claim = held(ledger.take())
    assert claim.run == run  # the older one, if by a millionth of a second
    ledger.page(claim, PageState.WRITTEN)
    ledger.database.retrying(lambda s: ledger.advance(s, claim, Counts(3, {"applied": 2, "rejected": 1})))
    ledger.move(run, RunState.CANCELLED)

    def sum_up() -> int:
        return ledger.database.retrying(lambda s: ledger.sum_up(s, ledger.now - timedelta(seconds=1)))

    ledger.pass_(5)
    assert sum_up() == 0  # a page is there, and a worker may still tell what came of it
    ledger.database.retrying(lambda s: ledger.forget_pages(s, run))
    assert sum_up() == 0
    ledger.pass_(60)
    with ledger.database.read() as session:
        before = ledger.run(session, run), ledger.slices(session, run), ledger.totals(session, ledger.now).records
    assert sum_up() == 1
    assert sum_up() == 0
    with ledger.database.read() as session:
        assert (ledger.run(session, run), ledger.slices(session, run)) == before[:2]
        assert (
            ledger.totals(session, ledger.now).records == before[2] == {("risk", "applied"): 2, ("risk", "rejected"): 1}
        )
        assert session.scalar(select(func.count()).select_from(SliceRow)) == 1
    assert held(ledger.take()).run == other


@pytest.mark.service("postgresql")
def test_a_claim_looks_at_no_run_that_has_ended(postgresql_url: str, tmp_path: Path) -> None:
    database = Database(postgresql_url)
    database.create_all()
    ledger = ClockedLedger(database, open_ring(load_settings(home=tmp_path), database))
    first = ledger.put()
    ledger.done(held(ledger.take()))
    ledger.move(first, RunState.DONE)
    with database.begin() as session:
        row = session.get_one(RunRow, first)
        past = {each.name: getattr(row, each.name) for each in RunRow.__table__.columns}
        session.execute(insert(RunRow), [{**past, "id": f"{number:06}"} for number in range(3_000)])
    ledger.put()
    looked = "explain (analyze, format json) "
    with database.engine.connect() as connection:
        connection.exec_driver_sql("analyze")
        seen = []
        listen(connection, "before_cursor_execute", lambda _c, _u, sql, args, *_: seen.append((sql, args)))
        with Session(connection) as session:
            assert ledger.claim(session, "default", "w1", 10) is not None
            session.rollback()
        sql, arguments = next(each for each in seen if "SKIP LOCKED" in each[0])
        plan = connection.exec_driver_sql(looked + sql, arguments).scalar_one()
    database.close()
    nodes = [plan[0]["Plan"]]
    for each in nodes:
        nodes += each.get("Plans", [])
    assert max(each["Actual Rows"] + each.get("Rows Removed by Filter", 0) for each in nodes) <= 2
    assert "ix_run_going" in {each.get("Index Name") for each in nodes}
