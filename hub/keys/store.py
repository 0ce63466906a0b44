"""What ties a database to its key: the sealed root, the working keys, the keys that sign, and the floors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Column, LargeBinary, Table, column, func, inspect, literal, select, table, update
from sqlalchemy.orm import Mapped, Session, mapped_column

from hub.database import Base, Blob, JsonDocument, clock, insert_into
from hub.keys.types import DIRECTLY, directly

ONLY = 1
ROOT_IDENTITY = {"kind": "root", "format": "1"}


class KeyRootRow(Base):
    """Sealed under the key-encryption key; that it opens is the proof that the key is the right one.

    `floors` are the least versions that may still be used, by the id of the key.
    """

    __tablename__ = "key_root"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    sealed: Mapped[bytes] = mapped_column(Blob, info=directly(lambda _: ROOT_IDENTITY))
    floors: Mapped[dict[str, int]] = mapped_column(JsonDocument)
    created_at: Mapped[datetime]
    rotated_at: Mapped[datetime]


class WorkingKeyRow(Base):
    """A key that values are sealed under, itself sealed under the key-encryption key."""

    __tablename__ = "working_key"

    version: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    sealed: Mapped[bytes] = mapped_column(
        Blob, info=directly(lambda row: {"kind": "working-key", "version": str(row["version"])})
    )
    created_at: Mapped[datetime]


class SigningKeyRow(Base):
    """A key that signs for one purpose; its private half sealed and bound to the public one."""

    __tablename__ = "signing_key"

    purpose: Mapped[str] = mapped_column(primary_key=True)
    public: Mapped[bytes]
    sealed: Mapped[bytes]
    created_at: Mapped[datetime]


class Root(NamedTuple):
    """The sealed root, and the floors."""

    sealed: bytes
    floors: Mapping[str, int]
    rotated_at: datetime


def load_root(session: Session, *, lock: bool = False) -> Root | None:
    """The root, or None before the first start; with `lock`, nobody else rotates until the transaction ends."""
    wanted = select(KeyRootRow.sealed, KeyRootRow.floors, KeyRootRow.rotated_at).where(KeyRootRow.id == ONLY)
    found = session.execute(wanted.with_for_update() if lock else wanted).one_or_none()
    return None if found is None else Root(*found)


def add_root(session: Session, sealed: bytes, working: bytes) -> None:
    """Stores the root and the first working key, unless another process was first."""
    values = {"id": ONLY, "sealed": sealed, "floors": {}, "created_at": clock(), "rotated_at": clock()}
    added = insert_into(session, KeyRootRow).values(values).on_conflict_do_nothing(index_elements=["id"])
    if session.execute(added.returning(KeyRootRow.id)).scalar_one_or_none() is not None:
        add_working_key(session, 1, working)


def replace_root(session: Session, sealed: bytes) -> None:
    """Puts the root as wrapped under a new version of the key in place of the old."""
    session.execute(update(KeyRootRow).where(KeyRootRow.id == ONLY).values(sealed=sealed, rotated_at=clock()))


def set_floors(session: Session, floors: Mapping[str, int]) -> None:
    """The least versions that may be used from now on."""
    session.execute(update(KeyRootRow).where(KeyRootRow.id == ONLY).values(floors=dict(floors)))


def add_working_key(session: Session, version: int, sealed: bytes) -> None:
    """One more working key."""
    session.add(WorkingKeyRow(version=version, sealed=sealed, created_at=clock()))
    session.flush()


def newest_working_key(session: Session) -> int:
    """The version that seals from now on."""
    return session.execute(select(func.max(WorkingKeyRow.version))).scalar_one() or 0


def working_key(session: Session, version: int) -> bytes | None:
    """A working key, sealed."""
    return session.execute(select(WorkingKeyRow.sealed).where(WorkingKeyRow.version == version)).scalar_one_or_none()


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


def replace_signing_key(session: Session, purpose: str, public: bytes, sealed: bytes) -> None:
    """Puts another key in the place of a purpose's."""
    values = {"public": public, "sealed": sealed, "created_at": clock()}
    session.execute(update(SigningKeyRow).where(SigningKeyRow.purpose == purpose).values(values))


# --- everything that the key-encryption key wraps, in whatever room ---------------------------------------------------


class Place(NamedTuple):
    """One sealed value: where it stands, and what it is bound to."""

    column: Column[Any]
    key: Mapping[str, Any]
    sealed: bytes
    identity: Mapping[str, str]


def wrapped_columns() -> list[Column[Any]]:
    """The columns that say they are sealed directly under the key-encryption key, of the stores imported so far."""
    return [each for stored in Base.metadata.sorted_tables for each in stored.columns if DIRECTLY in each.info]


def places(session: Session, wrapped: Column[Any]) -> Iterator[Place]:
    """Every value of one such column, in the order of its table's key."""
    stored = wrapped.table
    keys = list(stored.primary_key.columns)
    wanted = select(*stored.columns).where(wrapped.is_not(None)).order_by(*keys)
    for row in session.execute(wanted).mappings():
        told = {each.name: row[each] for each in stored.columns}
        identity = wrapped.info[DIRECTLY](told)
        yield Place(wrapped, {each.name: told[each.name] for each in keys}, told[wrapped.name], identity)


def replace(session: Session, place: Place, sealed: bytes) -> bool:
    """Puts the value as wrapped anew in place; false where somebody else has put another there meanwhile."""
    stored = place.column.table
    assert isinstance(stored, Table)
    held = [stored.c[name] == value for name, value in place.key.items()]
    changed = update(stored).where(*held, place.column == place.sealed).values({place.column.name: sealed})
    return bool(session.execute(changed.returning(*stored.primary_key.columns)).first())


def holds_sealed_values(session: Session, magic: bytes) -> str | None:
    """The name of a table that holds a sealed value, whichever room it belongs to; None where there is none."""
    connection = session.connection()
    for (_, name), columns in inspect(connection).get_multi_columns().items():
        for each in columns:
            if not isinstance(each["type"], LargeBinary):
                continue
            begins = func.substr(column(each["name"]), 1, len(magic), type_=Blob) == magic
            if connection.execute(select(literal(1)).select_from(table(name)).where(begins).limit(1)).first():
                return name
    return None
