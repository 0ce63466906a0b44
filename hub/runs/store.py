"""The ledger: runs, their slices and pages, and who holds what; every time in it is the database's own."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import delete, func, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from hub.runs.ledger.claiming import claimable
from hub.runs.ledger.following import Followers
from hub.runs.ledger.pages import Pages
from hub.runs.ledger.runs import Runs
from hub.runs.ledger.slices import Slices
from hub.runs.ledger.tables import BellRow, SliceRow, TickRow
from hub.runs.types import FOLLOWERS


class Ledger(Runs, Slices, Pages, Followers):
    """All queries of the ledger; the caller owns the transaction."""

    def wants_ring(self, session: Session, pool: str, stale: float) -> bool:
        """Whether the bell of a pool should be rung now: not while a ring younger than `stale` seconds is unheard."""
        now = self._database.now(session)
        row = session.get(BellRow, pool)
        if row is not None and row.rung_at > now - timedelta(seconds=stale):
            return False
        try:
            with session.begin_nested():
                session.merge(BellRow(pool=pool, rung_at=now))
        except IntegrityError:
            return False  # rung for the first time by another process between our look and our insert
        return True

    def heard(self, session: Session, pool: str) -> None:
        """A worker of the pool heard the bell."""
        session.execute(delete(BellRow).where(BellRow.pool == pool))

    def tick(self, session: Session, mapping: str, at: datetime, dropped: int) -> bool:
        """Notes a tick, and how many with it were dropped; False where somebody else acted on it already."""
        row = session.get(TickRow, mapping, with_for_update=True, populate_existing=True)
        if row is None:
            try:
                with session.begin_nested():
                    session.add(TickRow(mapping=mapping, at=at, dropped=dropped))
            except IntegrityError:
                return False  # the mapping's first tick, noted by another process between our look and our insert
            return True
        if row.at >= at:
            return False
        row.at, row.dropped = at, row.dropped + dropped
        session.flush()
        return True

    def last_tick(self, session: Session, mapping: str) -> tuple[datetime, int] | None:
        """The last tick acted on, and how many were dropped so far."""
        row = session.get(TickRow, mapping)
        return None if row is None else (row.at, row.dropped)


def abandon_worker(session: Session, worker: str) -> int:
    """Ends the leases of a worker that is known to be dead, attempts left counted; how many slices it held."""
    held = update(SliceRow).where(SliceRow.worker == worker, SliceRow.lease_until.is_not(None))
    return session.execute(held.values(lease_until=None, worker=None)).rowcount  # type: ignore[attr-defined, no-any-return]


def unfollowed(session: Session, now: datetime) -> int:
    """How many slices that follow a live source nobody holds that could be taken up now."""
    waiting = claimable(FOLLOWERS, now, now + timedelta(hours=2)).order_by(None).subquery()
    return session.scalar(select(func.count()).select_from(waiting)) or 0
