"""The tables of approvals: what was asked for, who had a part in it, the one decision about it, and broken glasses.

A person has one part in an approval, which the key of `access_approval_party` holds: whoever worked on it cannot come
in once more as who decides, and a decision is that of a party whose part is to decide. Who broke the glass has another
part, and thus cannot confirm it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import (
    CheckConstraint,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Text,
    UniqueConstraint,
    exists,
    func,
    select,
    update,
)
from sqlalchemy.orm import Mapped, Session, mapped_column

from hub.database import Base, JsonDocument

AUTHOR, EDITOR, DECIDER = "author", "editor", "decider"


class ApprovalRow(Base):
    """Something that was asked for, with its frozen content, which the digest is the hash of."""

    __tablename__ = "access_approval"
    __table_args__ = (Index(None, "kind", "subject"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str]
    subject: Mapped[str]
    digest: Mapped[str]
    content: Mapped[dict[str, Any]] = mapped_column(JsonDocument)
    reason: Mapped[str] = mapped_column(Text)
    requested_by: Mapped[str]
    requested_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    voided_at: Mapped[datetime | None]
    used_at: Mapped[datetime | None]


class PartyRow(Base):
    """A person and the one part that he has in an approval."""

    __tablename__ = "access_approval_party"
    __table_args__ = (
        UniqueConstraint("approval", "person", "part"),
        CheckConstraint("part IN ('author', 'editor', 'decider')", name="part"),
    )

    approval: Mapped[str] = mapped_column(ForeignKey("access_approval.id"), primary_key=True)
    person: Mapped[str] = mapped_column(primary_key=True)
    part: Mapped[str]


class DecisionRow(Base):
    """What was decided; the primary key lets there be one, the reference lets only a party decide that did no more."""

    __tablename__ = "access_approval_decision"
    __table_args__ = (
        ForeignKeyConstraint(
            ["approval", "person", "part"],
            ["access_approval_party.approval", "access_approval_party.person", "access_approval_party.part"],
        ),
        CheckConstraint("part = 'decider'", name="part"),
    )

    approval: Mapped[str] = mapped_column(primary_key=True)
    person: Mapped[str]
    part: Mapped[str]
    actor: Mapped[str]
    approved: Mapped[bool]
    reason: Mapped[str] = mapped_column(Text)
    at: Mapped[datetime]
    mac: Mapped[bytes]


class GlassRow(Base):
    """That a person let an approval through alone; `told_at`: when the trail was told that nobody had confirmed it."""

    __tablename__ = "access_approval_glass"
    __table_args__ = (
        ForeignKeyConstraint(
            ["approval", "person", "part"],
            ["access_approval_party.approval", "access_approval_party.person", "access_approval_party.part"],
        ),
        CheckConstraint("part IN ('author', 'editor')", name="part"),
    )

    approval: Mapped[str] = mapped_column(primary_key=True)
    person: Mapped[str]
    part: Mapped[str]
    actor: Mapped[str]
    reason: Mapped[str] = mapped_column(Text)
    at: Mapped[datetime]
    mac: Mapped[bytes]
    told_at: Mapped[datetime | None]


_UNDECIDED = ~exists().where(DecisionRow.approval == GlassRow.approval)


def approval(session: Session, approval_id: str, *, lock: bool = False) -> ApprovalRow | None:
    """One approval; locked until the end of the transaction where asked."""
    return session.get(ApprovalRow, approval_id, with_for_update=lock or None, populate_existing=lock)


def approvals(session: Session, kind: str | None = None, subject: str | None = None) -> Sequence[ApprovalRow]:
    """Approvals, newest first: of one kind, about one subject, or all."""
    wanted = select(ApprovalRow).order_by(ApprovalRow.requested_at.desc(), ApprovalRow.id)
    if kind is not None:
        wanted = wanted.where(ApprovalRow.kind == kind)
    if subject is not None:
        wanted = wanted.where(ApprovalRow.subject == subject)
    return session.execute(wanted).scalars().all()


def parties(session: Session, approval_id: str) -> Mapping[str, str]:
    """The part of each person in an approval."""
    wanted = select(PartyRow.person, PartyRow.part).where(PartyRow.approval == approval_id).order_by(PartyRow.person)
    return {row.person: row.part for row in session.execute(wanted)}


def decision(session: Session, approval_id: str) -> DecisionRow | None:
    """The decision about an approval."""
    return session.get(DecisionRow, approval_id)


def glass(session: Session, approval_id: str) -> GlassRow | None:
    """The glass that was broken for an approval."""
    return session.get(GlassRow, approval_id)


def unconfirmed(session: Session) -> int:
    """How many broken glasses nobody has decided about."""
    wanted = select(func.count()).select_from(GlassRow).where(_UNDECIDED)
    return session.execute(wanted).scalar_one()


def overdue(session: Session, before: datetime) -> Sequence[tuple[ApprovalRow, GlassRow]]:
    """Those among them that were broken before a moment, and that the trail was not told of yet."""
    late = _UNDECIDED & GlassRow.told_at.is_(None) & (GlassRow.at <= before)
    wanted = select(ApprovalRow, GlassRow).join(GlassRow, GlassRow.approval == ApprovalRow.id).where(late)
    return [(row[0], row[1]) for row in session.execute(wanted.order_by(GlassRow.at))]


def note_told(session: Session, approval_id: str, now: datetime) -> bool:
    """Notes that the trail is told of it; False where somebody else just did."""
    untold = (GlassRow.approval == approval_id) & GlassRow.told_at.is_(None)
    noted = update(GlassRow).where(untold).values(told_at=now)
    return session.execute(noted.returning(GlassRow.approval)).scalar_one_or_none() is not None


def take(session: Session, approval_id: str, now: datetime) -> bool:
    """Uses an approval up; False where somebody else just did, or what was asked for was changed meanwhile."""
    stands = ApprovalRow.used_at.is_(None) & ApprovalRow.voided_at.is_(None) & (ApprovalRow.expires_at > now)
    taken = update(ApprovalRow).where(ApprovalRow.id == approval_id, stands).values(used_at=now)
    return session.execute(taken.returning(ApprovalRow.id)).scalar_one_or_none() is not None
