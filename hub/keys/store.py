"""The one row that ties a database to its key: the sealed root from which all keyed digests derive."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import select, update
from sqlalchemy.orm import Mapped, Session, mapped_column

from hub.database import Base, clock, insert_into

ONLY = 1


class KeyRootRow(Base):
    """Sealed under the key-encryption key; that it opens is the proof that the key is the right one."""

    __tablename__ = "key_root"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    sealed: Mapped[bytes]
    created_at: Mapped[datetime]


def load_root(session: Session) -> bytes | None:
    """The sealed root, or None before the first start."""
    return session.execute(select(KeyRootRow.sealed).where(KeyRootRow.id == ONLY)).scalar_one_or_none()


def add_root(session: Session, sealed: bytes) -> None:
    """Stores the root, unless another process was first."""
    values = {"id": ONLY, "sealed": sealed, "created_at": clock()}
    session.execute(insert_into(session, KeyRootRow).values(values).on_conflict_do_nothing(index_elements=["id"]))


def replace_root(session: Session, sealed: bytes) -> None:
    """Puts the root as wrapped under a new version of the key in place of the old."""
    session.execute(update(KeyRootRow).where(KeyRootRow.id == ONLY).values(sealed=sealed))
