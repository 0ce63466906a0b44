"""The tables of mappings: versions by digest, which one is published, whose a target field is, how far runs came."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Index, Row, Text, UniqueConstraint, bindparam, delete, func, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from hub.database import Base, JsonDocument
from hub.mappings.types import MappingState, Taken


class MappingRow(Base):
    """One mapping: the number of the version that runs, and whether it is paused."""

    __tablename__ = "mapping"

    name: Mapped[str] = mapped_column(primary_key=True)
    published: Mapped[int | None]
    paused: Mapped[bool]
    pause_reason: Mapped[str | None]


class MappingVersionRow(Base):
    """One document by its digest. Once it has a number, text, grants and people are bound by `mac` and never change.

    `owner` is the person who answers for the author, and so may not approve.
    """

    __tablename__ = "mapping_version"
    __table_args__ = (
        UniqueConstraint("mapping", "digest"),
        UniqueConstraint("mapping", "number"),
        Index(None, "model_name"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    mapping: Mapped[str]
    digest: Mapped[str]
    number: Mapped[int | None]
    state: Mapped[MappingState]
    text: Mapped[str] = mapped_column(Text)
    model_name: Mapped[str]
    model_use: Mapped[str]
    grants: Mapped[dict[str, Any] | None] = mapped_column(JsonDocument)
    author: Mapped[str]
    owner: Mapped[str]
    submitted_at: Mapped[datetime]
    previewed_by: Mapped[str | None]
    previewed_at: Mapped[datetime | None]
    approved_by: Mapped[str | None]
    approved_at: Mapped[datetime | None]
    published_by: Mapped[str | None]
    published_at: Mapped[datetime | None]
    mac: Mapped[bytes | None]


class MappingTargetRow(Base):
    """A target field of a published mapping; the primary key is what lets no second one have it."""

    __tablename__ = "mapping_target"
    __table_args__ = (Index(None, "mapping"),)

    connection: Mapped[str] = mapped_column(primary_key=True)
    entity: Mapped[str] = mapped_column(primary_key=True)
    field: Mapped[str] = mapped_column(primary_key=True)
    mapping: Mapped[str]


class MappingWatermarkRow(Base):
    """How far the last complete run of a mapping read."""

    __tablename__ = "mapping_watermark"

    mapping: Mapped[str] = mapped_column(primary_key=True)
    digest: Mapped[str]
    cursor: Mapped[str | None] = mapped_column(Text)
    at: Mapped[datetime]
    full_at: Mapped[datetime | None]


def mapping(session: Session, name: str, *, lock: bool = False) -> MappingRow | None:
    """The mapping of a name; locked until the end of the transaction where asked."""
    return session.get(MappingRow, name, with_for_update=lock or None)


def mappings(session: Session) -> Sequence[MappingRow]:
    """All mappings by name."""
    return session.execute(select(MappingRow).order_by(MappingRow.name)).scalars().all()


def names(session: Session) -> Sequence[str]:
    """The names of all mappings."""
    return session.execute(select(MappingRow.name).order_by(MappingRow.name)).scalars().all()


def version(
    session: Session, name: str, *, digest: str | None = None, number: int | None = None
) -> MappingVersionRow | None:
    """One version of a mapping, by digest or number."""
    wanted = select(MappingVersionRow).where(MappingVersionRow.mapping == name)
    if digest is not None:
        wanted = wanted.where(MappingVersionRow.digest == digest)
    if number is not None:
        wanted = wanted.where(MappingVersionRow.number == number)
    return session.execute(wanted).scalar_one_or_none()


def serving(session: Session, name: str) -> Row[bool, int | None, str, bytes | None, str, str] | None:
    """What tells whether a mapping still is what it was: `paused number digest mac model_name model_use`."""
    return session.execute(_SERVING, {"name": name}).one_or_none()


_SERVING = select(
    MappingRow.paused,
    MappingVersionRow.number,
    MappingVersionRow.digest,
    MappingVersionRow.mac,
    MappingVersionRow.model_name,
    MappingVersionRow.model_use,
).where(
    MappingRow.name == bindparam("name"),
    MappingVersionRow.mapping == MappingRow.name,
    MappingVersionRow.number == MappingRow.published,
)


def versions(session: Session, name: str) -> Sequence[MappingVersionRow]:
    """All versions of a mapping, oldest first."""
    wanted = select(MappingVersionRow).where(MappingVersionRow.mapping == name)
    return session.execute(wanted.order_by(MappingVersionRow.id)).scalars().all()


def granted(session: Session, of: tuple[str, str] | None) -> Sequence[MappingVersionRow]:
    """Versions that were published or handed in, newest first; of one mapping the one of a digest."""
    wanted = select(MappingVersionRow).where(MappingVersionRow.grants.is_not(None))
    if of is not None:
        wanted = wanted.where(MappingVersionRow.mapping == of[0], MappingVersionRow.digest == of[1])
    return session.execute(wanted.order_by(MappingVersionRow.id.desc())).scalars().all()


def editors(session: Session, name: str) -> Sequence[str]:
    """Who handed in a version since the one that runs: each later one is an edit of those before it."""
    live = (
        select(MappingVersionRow.id)
        .join(
            MappingRow,
            (MappingRow.name == MappingVersionRow.mapping) & (MappingRow.published == MappingVersionRow.number),
        )
        .where(MappingVersionRow.mapping == name)
    )
    later = MappingVersionRow.id > func.coalesce(live.scalar_subquery(), 0)
    wanted = select(MappingVersionRow.owner).where(MappingVersionRow.mapping == name, later)
    return session.execute(wanted.distinct()).scalars().all()


def next_number(session: Session, name: str) -> int:
    """The number of the next published version."""
    highest = select(func.max(MappingVersionRow.number)).where(MappingVersionRow.mapping == name)
    return (session.execute(highest).scalar_one() or 0) + 1


def targets(session: Session) -> Taken:
    """Who owns which target field."""
    return {
        (each.connection, each.entity, each.field): each.mapping for each in session.scalars(select(MappingTargetRow))
    }


def take_targets(session: Session, name: str, wanted: Iterable[tuple[str, str, str]]) -> None:
    """These and no others from now on. IntegrityError where another mapping has one."""
    session.execute(delete(MappingTargetRow).where(MappingTargetRow.mapping == name))
    for connection, entity, field in wanted:
        session.add(MappingTargetRow(connection=connection, entity=entity, field=field, mapping=name))
    session.flush()


def users_of_model(session: Session, model: str) -> Sequence[tuple[str, str]]:
    """The published mappings that use a model, and by which alias or number."""
    wanted = select(MappingVersionRow.mapping, MappingVersionRow.model_use).join(
        MappingRow,
        (MappingRow.name == MappingVersionRow.mapping) & (MappingRow.published == MappingVersionRow.number),
    )
    return [(name, use) for name, use in session.execute(wanted.where(MappingVersionRow.model_name == model))]


def watermark(session: Session, name: str) -> MappingWatermarkRow | None:
    """How far the last complete run read."""
    return session.get(MappingWatermarkRow, name)
