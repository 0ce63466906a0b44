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


class SigningKeyRow(Base):
    """A key that signs for one purpose; its private half sealed and bound to the public one."""

    __tablename__ = "signing_key"

    purpose: Mapped[str] = mapped_column(primary_key=True)
    public: Mapped[bytes]
    sealed: Mapped[bytes]
    created_at: Mapped[datetime]


def load_signing_key(session: Session, purpose: str) -> tuple[bytes, bytes] | None:
    """The public and the sealed private half."""
    wanted = select(SigningKeyRow.public, SigningKeyRow.sealed).where(SigningKeyRow.purpose == purpose)
    found = session.execute(wanted).one_or_none()
    return None if found is None else (found.public, found.sealed)


def add_signing_key(session: Session, purpose: str, public: bytes, sealed: bytes) -> None:
    """Stores a key, unless another process was first."""
    values = {"purpose": purpose, "public": public, "sealed": sealed, "created_at": clock()}
    added = insert_into(session, SigningKeyRow).values(values).on_conflict_do_nothing(index_elements=["purpose"])
    session.execute(added)
