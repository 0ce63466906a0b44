"""The tables of connections: settings in JSON, bound by a keyed digest, and what the workers of one share."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, delete, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Mapped, Session, mapped_column

from hub.database import Base, JsonDocument
from hub.sdk.shared import RETRIES


class ConnectionRow(Base):
    """One connection. `mac` binds name, connector and settings, so that a stored password goes nowhere else."""

    __tablename__ = "connection"

    name: Mapped[str] = mapped_column(primary_key=True)
    connector: Mapped[str]
    settings: Mapped[dict[str, Any]] = mapped_column(JsonDocument)
    secrets: Mapped[list[Any]] = mapped_column(JsonDocument)
    mac: Mapped[bytes]
    paused: Mapped[bool]
    created_by: Mapped[str]
    created_at: Mapped[datetime]


class SharedRow(Base):
    """What all workers of one connection share: `token` is sealed, `minting_until` is the turn of who logs in."""

    __tablename__ = "connection_shared"

    name: Mapped[str] = mapped_column(primary_key=True)
    token: Mapped[bytes | None]
    token_number: Mapped[int]
    minting_until: Mapped[datetime | None]
    wait_until: Mapped[datetime | None]
    budget_most: Mapped[int | None]
    budget_used: Mapped[int]
    budget_at: Mapped[datetime | None]
    retries: Mapped[int]


def connection(session: Session, name: str) -> ConnectionRow | None:
    """The connection of a name."""
    return session.get(ConnectionRow, name)


def connections(session: Session) -> Sequence[ConnectionRow]:
    """All connections by name."""
    return session.execute(select(ConnectionRow).order_by(ConnectionRow.name)).scalars().all()


def names(session: Session) -> Sequence[str]:
    """The names of all connections."""
    return session.execute(select(ConnectionRow.name)).scalars().all()


def shared(session: Session, name: str) -> SharedRow:
    """What a connection's workers share, locked until the end of the transaction; made where it is not there yet."""
    row = session.get(SharedRow, name, with_for_update=True, populate_existing=True)
    if row is not None:
        return row
    fresh = SharedRow(name=name, token_number=0, budget_used=0, retries=RETRIES)
    try:
        with session.begin_nested():
            session.add(fresh)
    except IntegrityError:  # another worker was first
        return session.get_one(SharedRow, name, with_for_update=True, populate_existing=True)
    return fresh


def look(session: Session, name: str) -> SharedRow | None:
    """As `shared`, without a lock."""
    return session.get(SharedRow, name)


def forget_shared(session: Session, name: str) -> None:
    """Drops what the workers of a removed connection shared."""
    session.execute(delete(SharedRow).where(_of(name)))


def forget_token(session: Session, name: str) -> None:
    """Drops the tokens of a connection whose credentials changed."""
    session.execute(update(SharedRow).where(_of(name)).values(token=None))


def _of(name: str) -> ColumnElement[bool]:
    """The row of a connection, and those of its tokens for other scopes, whose names go on after a slash."""
    return or_(SharedRow.name == name, SharedRow.name.startswith(f"{name}/", autoescape=True))
