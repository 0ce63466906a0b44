"""The tables of leases: who holds what until when, never the credential itself, and what was taken back."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Index, Select, and_, case, delete, func, or_, select, text, update
from sqlalchemy.orm import Mapped, Session, mapped_column

from hub.access.leases.types import Ending, Holder, Lease
from hub.database import Base, JsonDocument, clock, insert_into

LIVE = text("closed_at is null")


class LeaseRow(Base):
    """One lease. `grant` is kept whole, since a token is minted for it; rows that ended are swept after a while.

    `since` is when the first lease was opened that this one goes on from, slice after slice.
    """

    __tablename__ = "access_lease"
    __table_args__ = (Index("ix_access_lease_live", "connection", postgresql_where=LIVE, sqlite_where=LIVE),)

    id: Mapped[str] = mapped_column(primary_key=True)
    connection: Mapped[str]
    worker: Mapped[str]
    run: Mapped[str | None]
    slice: Mapped[int | None]
    epoch: Mapped[int | None]
    grant: Mapped[dict[str, Any]] = mapped_column(JsonDocument)
    digest: Mapped[str]
    minted: Mapped[bool]
    since: Mapped[datetime]
    opened_at: Mapped[datetime]
    not_after: Mapped[datetime]
    closed_at: Mapped[datetime | None]
    ending: Mapped[str | None]
    told: Mapped[bool]


class RevocationRow(Base):
    """That everything handed out up to a moment was taken back: of a connection, of a worker, or without either of all.

    A row of its own, since those of the leases may be locked: by a worker that was frozen in the middle of a renewal.
    """

    __tablename__ = "access_revocation"

    id: Mapped[int] = mapped_column(primary_key=True)
    connection: Mapped[str | None]
    worker: Mapped[str | None]
    at: Mapped[datetime]


TAKEN = (
    select(case((RevocationRow.worker.is_not(None), Ending.WORKER.value), else_=Ending.REVOKED.value))
    .where(
        RevocationRow.at >= LeaseRow.since,
        or_(RevocationRow.connection.is_(None), RevocationRow.connection == LeaseRow.connection),
        or_(RevocationRow.worker.is_(None), RevocationRow.worker == LeaseRow.worker),
    )
    .order_by(RevocationRow.id)
    .limit(1)
    .correlate(LeaseRow)
    .scalar_subquery()
)
"""How a lease was taken back; null where it was not."""
Live = tuple[LeaseRow, Ending | None]
"""A lease that is not closed, and how it was taken back if it was."""


def add(session: Session, lease: Lease, grant: Mapping[str, Any], since: datetime) -> None:
    """A new lease, or one that goes on from another that was opened then."""
    holder = lease.holder
    session.add(
        LeaseRow(
            id=lease.id,
            connection=lease.connection,
            worker=holder.worker,
            run=holder.run,
            slice=holder.slice,
            epoch=holder.epoch,
            grant=dict(grant),
            digest=lease.grant,
            minted=lease.minted,
            since=since,
            opened_at=lease.opened_at,
            not_after=lease.not_after,
            told=False,
        )
    )
    session.flush()


def live(session: Session, ids: Collection[str], *, lock: bool = False) -> list[Live]:
    """Those of some leases that are not closed, whether they have run out or not; in the order of their ids."""
    wanted = select(LeaseRow, TAKEN).where(LeaseRow.id.in_(ids), LeaseRow.closed_at.is_(None)).order_by(LeaseRow.id)
    return _rows(session, wanted.with_for_update(of=LeaseRow) if lock else wanted)


def endings(session: Session, ids: Collection[str]) -> dict[str, Ending]:
    """Those of some leases that are closed or taken back, and those that are not there at all."""
    wanted = select(LeaseRow.id, func.coalesce(LeaseRow.ending, TAKEN).label("ending")).where(LeaseRow.id.in_(ids))
    known = {row.id: row.ending for row in session.execute(wanted)}
    return {
        each: Ending.EXPIRED if known.get(each, "") == "" else Ending(known[each])
        for each in ids
        if known.get(each, "") is not None
    }


def taken_from(session: Session, connection: str, holder: Holder) -> Ending | None:
    """How a lease was taken back that this holder had on the connection for the very slice; None where none was.

    Whoever claims the slice anew does so under another epoch, and is another holder.
    """
    if holder.run is None or not _revoked_of_late(session, connection, holder.worker):
        return None
    same = {"connection": connection, "worker": holder.worker, "run": holder.run}
    mine = [getattr(LeaseRow, name) == value for name, value in same.items()]
    wanted = select(func.coalesce(LeaseRow.ending, TAKEN)).where(
        *mine, LeaseRow.slice == holder.slice, LeaseRow.epoch == holder.epoch
    )
    found = set(session.scalars(wanted)) & {Ending.REVOKED.value, Ending.WORKER.value}
    return Ending(min(found)) if found else None


def _revoked_of_late(session: Session, connection: str, worker: str) -> bool:
    """Whether anything of theirs was taken back: few rows, where those of the leases of a day are many."""
    wanted = select(RevocationRow.id).where(
        or_(RevocationRow.connection.is_(None), RevocationRow.connection == connection),
        or_(RevocationRow.worker.is_(None), RevocationRow.worker == worker),
    )
    return session.execute(wanted.limit(1)).first() is not None


def connection_of(session: Session, lease: str) -> str | None:
    """What a lease is or was on; None where it was forgotten."""
    return session.execute(select(LeaseRow.connection).where(LeaseRow.id == lease)).scalar_one_or_none()


def all_live(session: Session, now: datetime) -> list[Lease]:
    """Every lease that may be used now, oldest first."""
    wanted = select(LeaseRow).where(LeaseRow.closed_at.is_(None), LeaseRow.not_after > now, TAKEN.is_(None))
    return [lease_of(row) for row in session.scalars(wanted.order_by(LeaseRow.opened_at, LeaseRow.id))]


def take_back(session: Session, now: datetime, connection: str | None, worker: str | None) -> int:
    """Ends what was handed out so far, of a connection or a worker where one is named; how many leases. Locks none."""
    wanted = select(func.count()).select_from(LeaseRow).where(LeaseRow.closed_at.is_(None), TAKEN.is_(None))
    if connection is not None:
        wanted = wanted.where(LeaseRow.connection == connection)
    if worker is not None:
        wanted = wanted.where(LeaseRow.worker == worker)
    count = session.execute(wanted).scalar_one()
    session.add(RevocationRow(connection=connection, worker=worker, at=now))
    session.flush()
    return count


def close_where(session: Session, now: datetime, ending: Ending, **same: str | None) -> int:
    """Closes the leases that agree in some columns, their events to be told later; how many there were."""
    mine = and_(LeaseRow.closed_at.is_(None), *(getattr(LeaseRow, name) == value for name, value in same.items()))
    closed = update(LeaseRow).where(mine).values(closed_at=now, ending=ending.value, told=False)
    return session.execute(closed).rowcount  # type: ignore[attr-defined, no-any-return]


def untold(session: Session, now: datetime, most: int, *, lock: bool = True) -> list[Live]:
    """Leases that ran out, were taken back or closed, without an event; locked, past those that others hold."""
    over = (LeaseRow.closed_at.is_not(None)) | (LeaseRow.not_after <= now) | TAKEN.is_not(None)
    wanted = select(LeaseRow, TAKEN).where(over, LeaseRow.told.is_(False)).order_by(LeaseRow.id).limit(most)
    return _rows(session, wanted.with_for_update(of=LeaseRow, skip_locked=True) if lock else wanted)


def forget(session: Session, before: datetime) -> None:
    """Drops the rows of leases that ended long ago: the audit trail keeps what is to be kept."""
    session.execute(delete(LeaseRow).where(LeaseRow.told, LeaseRow.closed_at < before))
    session.execute(delete(RevocationRow).where(RevocationRow.at < before))


def _rows(session: Session, wanted: Select[tuple[LeaseRow, Any]]) -> list[Live]:
    return [(row, None if taken is None else Ending(taken)) for row, taken in session.execute(wanted)]


def holder_of(row: LeaseRow) -> Holder:
    """Who holds a lease."""
    return Holder(row.worker, row.run, row.slice, row.epoch)


def lease_of(row: LeaseRow) -> Lease:
    """A lease as it is listed."""
    ending = None if row.ending is None else Ending(row.ending)
    return Lease(
        row.id,
        row.connection,
        holder_of(row),
        row.digest,
        row.minted,
        row.opened_at,
        row.not_after,
        row.closed_at,
        ending,
    )


class SealingKeyRow(Base):
    """The key that values are sealed to: its public half for anybody, its private half sealed.

    `mac` binds the public half: whoever writes to the database alone must not have secrets sealed to a key of his own.
    """

    __tablename__ = "access_sealing_key"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    public: Mapped[bytes]
    mac: Mapped[bytes]
    sealed: Mapped[bytes]
    created_at: Mapped[datetime]


class OfferRow(Base):
    """A secret that was sealed to the broker and not taken in yet."""

    __tablename__ = "access_offer"

    id: Mapped[int] = mapped_column(primary_key=True)
    connection: Mapped[str]
    name: Mapped[str]
    sealed: Mapped[bytes]
    actor: Mapped[str]
    created_at: Mapped[datetime]


class StoredKey(NamedTuple):
    """The public half with the digest that binds it, and the sealed private half."""

    public: bytes
    mac: bytes
    sealed: bytes


def sealing_key(session: Session) -> StoredKey | None:
    """The key as it is stored."""
    found = session.execute(select(SealingKeyRow.public, SealingKeyRow.mac, SealingKeyRow.sealed)).one_or_none()
    return None if found is None else StoredKey(*found)


def add_sealing_key(session: Session, made: StoredKey) -> None:
    """Stores the key, unless another process was first."""
    values = {"id": 1, **made._asdict(), "created_at": clock()}
    added = insert_into(session, SealingKeyRow).values(values).on_conflict_do_nothing(index_elements=["id"])
    session.execute(added)


def add_offer(session: Session, connection: str, name: str, sealed: bytes, actor: str) -> None:
    """A sealed value for the broker."""
    session.add(OfferRow(connection=connection, name=name, sealed=sealed, actor=actor, created_at=clock()))
    session.flush()


def offers(session: Session, most: int) -> Sequence[OfferRow]:
    """What waits for the broker, in the order it came."""
    return session.scalars(select(OfferRow).order_by(OfferRow.id).limit(most)).all()


def drop_offer(session: Session, number: int) -> None:
    """It was taken in, or never will be."""
    session.execute(delete(OfferRow).where(OfferRow.id == number))
