"""The lease broker: the one place that opens credentials, and hands them to who holds the work for as long as that."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Mapping
from datetime import datetime, timedelta

from sqlalchemy.orm import Session

from hub.access.leases import store
from hub.access.leases.types import Credentials, Ending, Fence, Handed, Holder, Lease, LeaseEndedError
from hub.access.types import AccessError, Actor
from hub.audit import Action, AuditLog, Event, Outcome
from hub.database import Database
from hub.sdk import Grant, Json, Token

KEPT = timedelta(days=1)
"""How long the row of a lease that ended is kept."""
SWEPT = 200


class LeaseBroker:
    """`Broker` over the hub's own database; safe to share between threads. It keeps nothing in memory.

    `fence` tells whether a slice is still its holder's; without one, leases of slices are as long as those of requests.
    """

    def __init__(
        self,
        database: Database,
        audit: AuditLog,
        credentials: Credentials,
        *,
        seconds: float = 60.0,
        fence: Fence = lambda _session, _holder: float("inf"),
    ) -> None:
        self._database = database
        self._audit = audit
        self._credentials = credentials
        self._seconds = seconds
        self._fence = fence

    def open(self, holder: Holder, connection: str, grant: Grant) -> Handed:
        """As `Broker.open`: one row and one event."""
        with self._database.read() as session:  # a secret may be kept by a service, which takes its time
            credential = self._credentials.credential(session, connection)
        with self._database.begin() as session:
            if (taken := store.taken_from(session, connection, holder)) is not None:
                raise taken.error(connection)
            lease = self._opened(session, holder, connection, (grant.digest(), grant.to_json()), credential.minted)
            return Handed(lease.id, (lease.not_after - lease.opened_at).total_seconds(), credential)

    def turn(self, lease: str, holder: Holder, counts: Mapping[str, int]) -> tuple[str, float]:
        """As `Broker.turn`."""
        with self._database.begin() as session:
            now = self._database.now(session)
            row = self._living(session, lease, now, lock=True)
            self._close(session, row, now, Ending.RENEWED, counts)
            fresh = self._opened(session, holder, row.connection, (row.digest, row.grant), row.minted, row.since)
            return fresh.id, (fresh.not_after - fresh.opened_at).total_seconds()

    def renew(self, leases: Collection[str]) -> Mapping[str, float]:
        """As `Broker.renew`."""
        left: dict[str, float] = {}
        with self._database.begin() as session:
            now = self._database.now(session)
            for row, taken in store.live(session, leases, lock=True):
                seconds = self._left(session, store.holder_of(row))
                if taken is not None:
                    self._close(session, row, now, taken, {})
                elif seconds is None:
                    self._close(session, row, now, Ending.FENCED, {})
                elif seconds > 0:
                    row.not_after, left[row.id] = now + timedelta(seconds=seconds), seconds
        return left

    def look(self, leases: Collection[str]) -> Mapping[str, Ending]:
        """As `Broker.look`."""
        with self._database.read() as session:
            return store.endings(session, leases)

    def close(self, lease: str, counts: Mapping[str, int]) -> None:
        """As `Broker.close`."""
        with self._database.begin() as session:
            for row, taken in store.live(session, [lease], lock=True):
                self._close(session, row, self._database.now(session), taken or Ending.DONE, counts)

    def token(self, lease: str, refused: str | None, seconds: float | None) -> Token:
        """As `Broker.token`; the exchange with the far side is made here."""
        with self._database.read() as session:
            row = self._living(session, lease, self._database.now(session))
            connection, grant = row.connection, Grant.from_json(row.grant)
            if (ending := self._over(self._left(session, store.holder_of(row)))) is not None:
                raise ending.error(connection)
        return self._credentials.token(connection, grant, refused, seconds)

    def _opened(
        self,
        session: Session,
        holder: Holder,
        connection: str,
        grant: tuple[str, Mapping[str, Json]],
        minted: bool,
        since: datetime | None = None,
    ) -> Lease:
        seconds = self._left(session, holder)
        if (ending := self._over(seconds)) is not None:
            raise ending.error(connection)
        assert seconds is not None
        now = self._database.now(session)
        until = now + timedelta(seconds=seconds)
        lease = Lease(secrets.token_hex(12), connection, holder, grant[0], minted, now, until, None, None)
        store.add(session, lease, grant[1], since or now)
        told: dict[str, Json] = {"lease": lease.id, "seconds": round(seconds, 1), "minted": minted}
        _record(self._audit, session, Action.LEASE_OPEN, lease, told)
        return lease

    def _left(self, session: Session, holder: Holder) -> float | None:
        if holder.run is None:
            return self._seconds
        left = self._fence(session, holder)
        return None if left is None else min(left, self._seconds)

    @staticmethod
    def _over(left: float | None) -> Ending | None:
        if left is None:
            return Ending.FENCED
        return None if left > 0 else Ending.EXPIRED

    def _living(self, session: Session, lease: str, now: datetime, *, lock: bool = False) -> store.LeaseRow:
        for row, taken in store.live(session, [lease], lock=lock):
            if taken is None and row.not_after > now:
                return row
            raise (taken or Ending.EXPIRED).error(row.connection)
        connection = store.connection_of(session, lease)
        if connection is None:
            raise LeaseEndedError("the lease is over, long since")
        raise store.endings(session, [lease])[lease].error(connection)

    def _close(
        self, session: Session, row: store.LeaseRow, at: datetime, ending: Ending, counts: Mapping[str, int]
    ) -> None:
        _close(self._audit, session, row, at, ending, counts)


def _close(
    audit: AuditLog, session: Session, row: store.LeaseRow, at: datetime, ending: Ending, counts: Mapping[str, int]
) -> None:
    row.closed_at, row.ending, row.told = at, ending.value, True
    told: dict[str, Json] = {"lease": row.id, "why": ending.value, "counts": dict(counts)}
    _record(audit, session, Action.LEASE_CLOSE, store.lease_of(row), told)


def _record(audit: AuditLog, session: Session, action: Action, lease: Lease, told: dict[str, Json]) -> None:
    holder = lease.holder
    if holder.slice is not None:
        told |= {"slice": holder.slice, "epoch": holder.epoch}
    subject, actor = f"connection:{lease.connection}", f"service:{holder.worker}"
    audit.record(session, Event(actor, action, subject, Outcome.DONE, holder.run, lease.grant, told))


def sweep(database: Database, audit: AuditLog) -> int:
    """Records the end of leases that nobody closed, and forgets those that ended long ago; how many there were."""
    with database.read() as session:
        if not store.untold(session, database.now(session), 1, lock=False):
            return 0
    with database.begin() as session:
        now = database.now(session)
        rows = store.untold(session, now, SWEPT)
        for row, taken in rows:
            ending = (taken or Ending.EXPIRED) if row.ending is None else Ending(row.ending)
            _close(audit, session, row, row.closed_at or now, ending, {})
        store.forget(session, now - KEPT)
        return len(rows)


def live_leases(database: Database) -> list[Lease]:
    """Every lease that may be used now, oldest first."""
    with database.read() as session:
        return store.all_live(session, database.now(session))


def revoke(
    database: Database, audit: AuditLog, actor: Actor, *, connection: str | None = None, worker: str | None = None
) -> int:
    """Takes leases back, of a connection or a worker, or all of them; how many there were.

    Their holders notice within two seconds, and are ended where they do not let go. Nobody is waited for: what is kept
    is that they were taken back, and whoever holds one in the middle of something finds that next.
    """
    if connection is not None and worker is not None:
        raise AccessError("revoke the leases of a connection or of a worker, not of both at once")
    with database.begin() as session:
        return recall(session, database, audit, actor, connection=connection, worker=worker)


def recall(
    session: Session,
    database: Database,
    audit: AuditLog,
    actor: Actor,
    *,
    connection: str | None = None,
    worker: str | None = None,
) -> int:
    """As `revoke`, in a transaction of the caller's: with whatever makes it necessary, or not at all."""
    count = store.take_back(session, database.now(session), connection, worker)
    subject = f"connection:{connection}" if connection else f"worker:{worker}" if worker else "leases"
    told: dict[str, Json] = {"leases": count}
    audit.record(session, Event(str(actor), Action.LEASE_REVOKE, subject, detail=told))
    return count


def retire(session: Session, database: Database, connection: str, *, slices: bool = False) -> None:
    """Ends the leases under which requests are answered, with `slices` all: what the connection opens with changed."""
    same: dict[str, str | None] = {} if slices else {"run": None}
    store.close_where(session, database.now(session), Ending.CHANGED, connection=connection, **same)


def abandon_leases(database: Database, worker: str) -> int:
    """Ends the leases of a worker whose process is known to be dead; how many it held."""

    def end(session: Session) -> int:
        return store.close_where(session, database.now(session), Ending.EXPIRED, worker=worker)

    return database.retrying(end, repeatable=True)
