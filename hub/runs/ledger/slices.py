"""The ledger's slices: who claims one, for how long, and how it moves on."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import and_, func, or_, select, update
from sqlalchemy.orm import Session

from hub.access.leases import Holder
from hub.runs.ledger.claiming import BESIDE, FOLLOWING, GOING_STATES, claimable
from hub.runs.ledger.part import LedgerPart
from hub.runs.ledger.tables import PageRow, RunRow, SliceRow, claim_of, told_of
from hub.runs.types import Claim, Counts, LostLeaseError, RunKind, RunState, Stage
from hub.sdk.shared import Told, together


class Slices(LedgerPart):
    """Queries about slices and their leases."""

    def claim(self, session: Session, pool: str, worker: str, lease: float, run: str | None = None) -> Claim | None:
        """Takes the next slice of a pool (of `run`, where named) that nobody holds, under a new epoch; None: none left.

        The attempt is counted before the work starts, so that a crash is counted too.
        """
        now = self._database.now(session)
        longest = now + timedelta(seconds=2 * lease)
        stale = select(FOLLOWING.id).where(FOLLOWING.following == RunRow.mapping).scalar_subquery()
        query = claimable(pool, now, longest).add_columns(RunRow.state, RunRow.kind, stale).limit(1)
        if run is not None:
            query = query.where(SliceRow.run == run)
        if not self._database.sqlite:
            query = query.with_for_update(skip_locked=True, of=SliceRow)
        found = session.execute(query).one_or_none()
        if found is None:
            return None
        row, state, kind, following = found
        if following is not None and kind not in BESIDE:
            # Whoever held it and slept beyond the lease may not go on beside this run.
            held = and_(SliceRow.run == following, SliceRow.worker.is_not(None))
            fenced = update(SliceRow).where(held).values(epoch=SliceRow.epoch + 1, worker=None, lease_until=None)
            session.execute(fenced)
        row.epoch += 1
        row.attempt += 1
        row.turns += 1
        row.worker, row.lease_until = worker, now + timedelta(seconds=lease)
        session.flush()
        if state == RunState.QUEUED.value:
            started = update(RunRow).where(RunRow.id == row.run, RunRow.state == state)
            session.execute(started.values(state=RunState.RUNNING.value, started_at=now))
        claim = claim_of(row)
        return replace(claim, selection=self._open(claim.selection), cursor=self._open(claim.cursor))

    def holds(self, session: Session, claim: Claim) -> bool:
        """Whether a claim took place, as the one who made it asks who did not hear the answer of the commit."""
        row = session.get(SliceRow, (claim.run, claim.number), with_for_update=True, populate_existing=True)
        return row is not None and row.epoch == claim.epoch

    def left(self, session: Session, holder: Holder) -> float | None:
        """Seconds left of the lease on a slice, 0 where the holder gave it back; None where others took it since."""
        mine = and_(SliceRow.run == holder.run, SliceRow.number == holder.slice, SliceRow.epoch == holder.epoch)
        row = session.execute(select(SliceRow.worker, SliceRow.lease_until).where(mine)).one_or_none()
        if row is None or row.worker not in (holder.worker, None):
            return None
        return 0.0 if row.lease_until is None else (row.lease_until - self._database.now(session)).total_seconds()

    def version_of(self, session: Session, run: str) -> tuple[str, str] | None:
        """The mapping of a run and the digest of its version; None where there is no such run."""
        row = session.execute(select(RunRow.mapping, RunRow.version).where(RunRow.id == run)).one_or_none()
        return None if row is None else (row.mapping, row.version)

    def put_back(self, session: Session, worker: str) -> int:
        """Frees what a live worker holds since the database went away under it; how many slices that is.

        Neither the attempt nor the try of a page counts: whoever lost the database has not failed at its records.
        """
        mine = and_(SliceRow.worker == worker, SliceRow.lease_until.is_not(None))
        held = session.execute(select(SliceRow.run, SliceRow.number).where(mine).with_for_update()).all()
        for run, number in held:
            tried = and_(PageRow.run == run, PageRow.slice == number, PageRow.tries > 0)
            session.execute(update(PageRow).where(tried).values(tries=PageRow.tries - 1, sent=True))
        session.execute(
            update(SliceRow).where(mine).values(lease_until=None, worker=None, attempt=SliceRow.attempt - 1)
        )
        return len(held)

    def beat(self, session: Session, claim: Claim, lease: float) -> datetime:
        """Extends the lease; its new end. LostLeaseError where the slice is no longer ours or its run was ended."""
        until = self._database.now(session) + timedelta(seconds=lease)
        self._touch(session, claim, {"lease_until": until})
        state = session.scalar(select(RunRow.state).where(RunRow.id == claim.run))
        if state != RunState.RUNNING.value:
            raise LostLeaseError(f"run {claim.run} is {state}")
        return until

    def advance(self, session: Session, claim: Claim, counts: Counts, **moved: Any) -> None:
        """Moves a slice on after a page: adds counts, sets what moved, and forgets failed attempts."""
        row = self._held(session, claim, settling=True)
        row.counts = dict((Counts.from_json(row.counts) + counts).to_json())  # type: ignore[arg-type]
        if row.waits:
            going = and_(RunRow.id == claim.run, RunRow.state == RunState.RUNNING.value)
            session.execute(update(RunRow).where(going).values(reason=None))
        row.attempt, row.waits, row.turns = 1, 0, 0
        for name, value in moved.items():
            setattr(row, name, self._seal(value) if name == "cursor" else value)
        session.flush()

    def release(self, session: Session, claim: Claim, **moved: Any) -> None:
        """Gives the slice back without counting the attempt against it; what `moved` to another stage has come on."""
        moved |= {"turns": 0} if "stage" in moved else {}
        self._touch(session, claim, {"lease_until": None, "worker": None, "attempt": 0, **moved})

    def wait(
        self,
        session: Session,
        claim: Claim,
        seconds: float | None,
        longest: float,
        why: str | None = None,
        **moved: object,
    ) -> tuple[float, int]:
        """Gives the slice back for so long, or for twice as long each time; how long, and how often in a row it waited.

        The run says why until a slice of it moves on.
        """
        row = self._held(session, claim)
        row.waits += 1
        session.execute(update(RunRow).where(RunRow.id == claim.run).values(reason=why))
        for name, value in moved.items():
            setattr(row, name, value)
        row.attempt, row.worker, row.lease_until = 0, None, None
        pause = min(longest, 2.0 ** min(row.waits, 30)) if seconds is None else seconds
        row.not_before = self._database.now(session) + timedelta(seconds=pause)
        session.flush()
        return pause, row.waits

    def put_up_with(self, session: Session, run: str, told: Told) -> None:
        """Adds to what a run had to put up with at its far sides."""
        if not told:
            return
        row = session.get_one(RunRow, run, with_for_update=True, populate_existing=True)
        row.happened = {name: list(each) for name, each in together(told_of(row.happened), told).items()}

    def shrink(self, session: Session, claim: Claim, page_rows: int, fragile: int) -> None:
        """Makes the next pages smaller, after a page failed; `fragile` records on, they may grow again."""
        self._touch(session, claim, {"page_rows": page_rows, "fragile": fragile, "attempt": 1})

    def forgive(self, session: Session, claim: Claim) -> None:
        """Ends a lease after a failure and leaves the attempt counted."""
        self._touch(session, claim, {"lease_until": None, "worker": None})

    def version(self, session: Session, run: str) -> tuple[str, str]:
        """The digests of mapping and model under which a run is carried now."""
        version, model = session.execute(select(RunRow.version, RunRow.model).where(RunRow.id == run)).one()
        return version, model

    def beside(self, session: Session, run: str) -> bool:
        """Whether other runs of the same mapping went on at some time while this one does."""
        mine = session.get_one(RunRow, run)
        others = select(RunRow.id).where(
            RunRow.mapping == mine.mapping,
            RunRow.id != run,
            or_(RunRow.finished_at.is_(None), RunRow.finished_at >= mine.created_at),
        )
        return session.scalar(others.limit(1)) is not None

    def active_at(self, session: Session, mapping: str, at: datetime) -> bool:
        """Whether a run of the mapping, requests and following aside, went on at that moment."""
        query = select(RunRow.id).where(
            RunRow.mapping == mapping,
            RunRow.kind.not_in(BESIDE),
            RunRow.created_at <= at,
            or_(RunRow.finished_at.is_(None), RunRow.finished_at > at),
        )
        return session.scalar(query.limit(1)) is not None

    def more(self, session: Session, pool: str) -> bool:
        """Whether a slice of the pool waits that nobody holds."""
        now = self._database.now(session)
        return session.scalar(claimable(pool, now, now + timedelta(hours=2)).limit(1)) is not None

    def lock_run(self, session: Session, run: str) -> None:
        """Keeps others from ending the run until the transaction does: of two last slices one must see the other."""
        session.get_one(RunRow, run, with_for_update=True, populate_existing=True)

    def unfinished(self, session: Session, run: str) -> int:
        """Slices of a run that are not done."""
        query = select(func.count()).select_from(SliceRow)
        return session.scalar(query.where(SliceRow.run == run, SliceRow.stage != Stage.DONE.value)) or 0

    def pending(self, session: Session) -> bool:
        """Whether some run can still go on without a person, and to an end: following has none."""
        ends = RunRow.kind != RunKind.FOLLOW.value
        return session.scalar(select(RunRow.id).where(RunRow.state.in_(GOING_STATES), ends).limit(1)) is not None

    def waiting_since(self, session: Session, pool: str) -> datetime | None:
        """Since when the oldest run that nobody works on has had work for this pool."""
        mine = select(SliceRow.run).where(SliceRow.pool == pool, SliceRow.run == RunRow.id).exists()
        return session.scalar(select(func.min(RunRow.created_at)).where(RunRow.state == RunState.QUEUED.value, mine))

    def holders(self, session: Session) -> list[str]:
        """The workers that hold a slice under a lease that has not run out."""
        held = and_(SliceRow.worker.is_not(None), SliceRow.lease_until > self._database.now(session))
        return sorted(session.scalars(select(SliceRow.worker).where(held).distinct()))

    def pools(self, session: Session, run: str) -> list[str]:
        """The pools that the unfinished slices of a run wait for."""
        query = select(SliceRow.pool).where(SliceRow.run == run, SliceRow.stage != Stage.DONE.value).distinct()
        return sorted(session.scalars(query))
