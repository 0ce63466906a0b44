"""The table of connections: settings in JSON, bound by a keyed digest; secrets are in the vault."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Mapped, Session, mapped_column

from hub.database import Base, JsonDocument


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


def connection(session: Session, name: str) -> ConnectionRow | None:
    """The connection of a name."""
    return session.get(ConnectionRow, name)


def connections(session: Session) -> Sequence[ConnectionRow]:
    """All connections by name."""
    return session.execute(select(ConnectionRow).order_by(ConnectionRow.name)).scalars().all()


def names(session: Session) -> Sequence[str]:
    """The names of all connections."""
    return session.execute(select(ConnectionRow.name)).scalars().all()
