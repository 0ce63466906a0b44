"""The tables of the models room: versions, the sealed parts of their artefacts, aliases and what they pointed at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, ForeignKeyConstraint, Index, UniqueConstraint, delete, func, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from hub.database import Base, JsonDocument
from hub.models.types import ModelVersion, Signature, Way


class ModelVersionRow(Base):
    """One immutable version. A removed one keeps its row, so that its number is never given again."""

    __tablename__ = "model_version"
    __table_args__ = (UniqueConstraint("name", "number"), Index(None, "digest"))

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    number: Mapped[int]
    digest: Mapped[str]
    runtime: Mapped[str]
    way: Mapped[str]
    signature: Mapped[Any] = mapped_column(JsonDocument)
    largest_difference: Mapped[float]
    rows_compared: Mapped[int]
    tolerance: Mapped[float]
    tried: Mapped[Any] = mapped_column(JsonDocument)
    metrics: Mapped[Any] = mapped_column(JsonDocument)
    owner: Mapped[str]
    note: Mapped[str]
    pool: Mapped[str]
    created_at: Mapped[datetime]
    removed_at: Mapped[datetime | None]


class ModelPartRow(Base):
    """A piece of a version's artefact, sealed; many machines read it here and need no shared disk."""

    __tablename__ = "model_part"

    version_id: Mapped[int] = mapped_column(ForeignKey("model_version.id", ondelete="CASCADE"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    sealed: Mapped[bytes]


class ModelAliasRow(Base):
    """Which version a name within a model means now."""

    __tablename__ = "model_alias"
    __table_args__ = (ForeignKeyConstraint(["name", "number"], ["model_version.name", "model_version.number"]),)

    name: Mapped[str] = mapped_column(primary_key=True)
    alias: Mapped[str] = mapped_column(primary_key=True)
    number: Mapped[int]


class ModelAliasChangeRow(Base):
    """What an alias was pointed at, in order: what a rollback goes back along."""

    __tablename__ = "model_alias_change"
    __table_args__ = (Index(None, "name", "alias"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    alias: Mapped[str]
    number: Mapped[int]
    previous: Mapped[int | None]
    rollback: Mapped[bool]
    actor: Mapped[str]
    at: Mapped[datetime]


def next_number(session: Session, name: str) -> int:
    """The number after the highest ever given; removed versions keep theirs."""
    highest = session.execute(select(func.max(ModelVersionRow.number)).where(ModelVersionRow.name == name)).scalar()
    return (highest or 0) + 1


def add_version(session: Session, version: ModelVersion) -> int:
    """Stores a version; returns the id that its parts refer to."""
    row = ModelVersionRow(
        name=version.name,
        number=version.number,
        digest=version.digest,
        runtime=version.runtime,
        way=version.way.value,
        signature=version.signature.to_json(),
        largest_difference=version.largest_difference,
        rows_compared=version.rows_compared,
        tolerance=version.tolerance,
        tried=dict(version.tried),
        metrics=dict(version.metrics),
        owner=version.owner,
        note=version.note,
        pool=version.pool,
        created_at=version.created_at,
        removed_at=None,
    )
    session.add(row)
    session.flush()
    return row.id


def add_part(session: Session, version_id: int, position: int, sealed: bytes) -> None:
    """Stores one sealed piece."""
    session.add(ModelPartRow(version_id=version_id, position=position, sealed=sealed))
    session.flush()


def find_parts(session: Session, name: str, number: int) -> list[bytes]:
    """The sealed pieces of a version, in order."""
    query = (
        select(ModelPartRow.sealed)
        .join(ModelVersionRow, ModelVersionRow.id == ModelPartRow.version_id)
        .where(ModelVersionRow.name == name, ModelVersionRow.number == number)
        .order_by(ModelPartRow.position)
    )
    return list(session.execute(query).scalars())


def find_versions(
    session: Session, *, name: str | None = None, number: int | None = None, digest: str | None = None
) -> list[ModelVersion]:
    """The versions that match everything given and were not removed, by name and number, with their aliases."""
    query = select(ModelVersionRow).where(ModelVersionRow.removed_at.is_(None))
    if name is not None:
        query = query.where(ModelVersionRow.name == name)
    if number is not None:
        query = query.where(ModelVersionRow.number == number)
    if digest is not None:
        query = query.where(ModelVersionRow.digest == digest)
    rows = session.execute(query.order_by(ModelVersionRow.name, ModelVersionRow.number)).scalars().all()
    aliases = _aliases(session, name)
    return [_version(each, aliases.get((each.name, each.number), [])) for each in rows]


def _aliases(session: Session, name: str | None) -> Mapping[tuple[str, int], list[str]]:
    query = select(ModelAliasRow).order_by(ModelAliasRow.alias)
    found: dict[tuple[str, int], list[str]] = {}
    for each in session.execute(query if name is None else query.where(ModelAliasRow.name == name)).scalars():
        found.setdefault((each.name, each.number), []).append(each.alias)
    return found


def _version(row: ModelVersionRow, aliases: Sequence[str]) -> ModelVersion:
    return ModelVersion(
        name=row.name,
        number=row.number,
        digest=row.digest,
        signature=Signature.from_json(row.signature),
        runtime=row.runtime,
        way=Way(row.way),
        largest_difference=row.largest_difference,
        rows_compared=row.rows_compared,
        tolerance=row.tolerance,
        metrics=row.metrics,
        owner=row.owner,
        note=row.note,
        pool=row.pool,
        created_at=row.created_at,
        tried=row.tried,
        aliases=tuple(aliases),
    )


def find_alias(session: Session, name: str, alias: str, *, lock: bool = False) -> int | None:
    """The number an alias points at; `lock` holds it until the transaction ends."""
    query = select(ModelAliasRow.number).where(ModelAliasRow.name == name, ModelAliasRow.alias == alias)
    return session.execute(query.with_for_update() if lock else query).scalar_one_or_none()


def point_alias(
    session: Session, name: str, alias: str, number: int, *, actor: str, at: datetime, rollback: bool = False
) -> int | None:
    """Points an alias at a version and remembers it; returns the number it pointed at before."""
    previous = find_alias(session, name, alias, lock=True)
    session.merge(ModelAliasRow(name=name, alias=alias, number=number))
    change = ModelAliasChangeRow(
        name=name, alias=alias, number=number, previous=previous, rollback=rollback, actor=actor, at=at
    )
    session.add(change)
    session.flush()
    return previous


def find_changes(session: Session, name: str, alias: str) -> list[tuple[int, bool]]:
    """What an alias was pointed at and whether by a rollback, oldest first."""
    query = (
        select(ModelAliasChangeRow.number, ModelAliasChangeRow.rollback)
        .where(ModelAliasChangeRow.name == name, ModelAliasChangeRow.alias == alias)
        .order_by(ModelAliasChangeRow.id)
    )
    return [(number, rollback) for number, rollback in session.execute(query)]


def drop_version(session: Session, name: str, number: int, at: datetime) -> None:
    """Deletes a version's bytes and marks it removed; its number and digest stay known."""
    row = session.execute(
        select(ModelVersionRow).where(ModelVersionRow.name == name, ModelVersionRow.number == number)
    ).scalar_one()
    row.removed_at = at
    session.execute(delete(ModelPartRow).where(ModelPartRow.version_id == row.id))
    session.flush()
