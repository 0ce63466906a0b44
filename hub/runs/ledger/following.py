"""The ledger's runs that follow a live source: where each stands, what it owes, and whom it gives way to."""

from __future__ import annotations

from sqlalchemy import and_, select, update
from sqlalchemy.orm import Session

from hub.runs.ledger.claiming import GOING_STATES
from hub.runs.ledger.part import LedgerPart
from hub.runs.ledger.tables import RunRow, SliceRow
from hub.runs.types import Claim, LeftOff, LostLeaseError, RunKind, RunState


class Followers(LedgerPart):
    """Queries about runs that follow."""

    def is_held(self, session: Session, run: str) -> bool:
        """Whether a worker has a lease on a slice of the run."""
        leased = and_(SliceRow.run == run, SliceRow.lease_until > self._database.now(session))
        return session.scalar(select(SliceRow.number).where(leased).limit(1)) is not None

    def left_off(self, session: Session, mapping: str) -> LeftOff | None:
        """Where the newest run that followed the mapping's live source stands or stood; None where there was none."""
        mine = select(RunRow).where(RunRow.mapping == mapping, RunRow.kind == RunKind.FOLLOW.value)
        row = session.scalars(mine.order_by(RunRow.created_at.desc(), RunRow.id.desc()).limit(1)).one_or_none()
        if row is None:
            return None
        at = session.get(SliceRow, (row.id, 0), populate_existing=True)
        cursor, owed = (at.cursor, at.subject) if at is not None else (row.head, (row.summed or {}).get("owed", ()))
        return LeftOff(row.id, row.version, RunState(row.state), row.created_at, self._open(cursor), tuple(owed))

    def waits_beside(self, session: Session, run: str) -> bool:
        """Whether another run of the mapping would go on, which what follows it gives way to. LostLeaseError: ended."""
        mapping, state = session.execute(select(RunRow.mapping, RunRow.state).where(RunRow.id == run)).one()
        if state != RunState.RUNNING.value:
            raise LostLeaseError(f"run {run} is {state}")
        other = select(RunRow.id).where(RunRow.active == mapping, RunRow.state.in_(GOING_STATES))
        return session.scalar(other) is not None

    def move_on(self, session: Session, claim: Claim, cursor: str | None) -> None:
        """Moves a slice that follows behind a page without records.

        Without a cursor the far side has none yet, and whatever stood there is no longer a place to go on from.
        A failed attempt stays counted: the page that failed may be the next one.
        """
        row = self._held(session, claim)
        if row.waits:
            session.execute(update(RunRow).where(RunRow.id == claim.run).values(reason=None))
        row.waits, row.turns = 0, 0
        row.cursor = self._seal(cursor)
        session.flush()

    def owe(self, session: Session, claim: Claim, why: str) -> None:
        """Notes why another run of the mapping is due beside what follows."""
        row = self._held(session, claim, settling=True)
        if why not in row.subject:
            row.subject = [*row.subject, why]
            session.flush()

    def owed(self, session: Session, run: str) -> tuple[str, ...]:
        """Why another run is due before what follows can answer for every record; empty where it can."""
        return tuple(session.scalars(select(SliceRow.subject).where(SliceRow.run == run)).one())

    def settle_debt(self, session: Session, run: str) -> None:
        """The run that is owed is ordered."""
        session.execute(update(SliceRow).where(SliceRow.run == run).values(subject=[]))
        session.execute(update(RunRow).where(RunRow.id == run).values(reason=None))

    def tell(self, session: Session, run: str, reason: str) -> None:
        """Says beside a run that goes on what is amiss with it."""
        going = and_(RunRow.id == run, RunRow.state.in_(GOING_STATES))
        session.execute(update(RunRow).where(going).values(reason=reason))
