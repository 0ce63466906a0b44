"""Tables of clients and of the assertions that were seen."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import Index, bindparam, delete, func, select, update
from sqlalchemy.orm import Mapped, Session, mapped_column

from hub.database import Base, JsonDocument, clock, insert_into


class ClientRow(Base):
    """A client: the keyed digest of its secret, its public keys, or the name in its certificate."""

    __tablename__ = "access_client"
    __table_args__ = (Index(None, "name"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    owner: Mapped[str]
    method: Mapped[str]
    digest: Mapped[bytes | None]
    jwks: Mapped[dict[str, Any] | None] = mapped_column(JsonDocument)
    subject: Mapped[str | None]
    scopes: Mapped[list[Any]] = mapped_column(JsonDocument)
    resources: Mapped[list[Any] | None] = mapped_column(JsonDocument)
    addresses: Mapped[list[Any]] = mapped_column(JsonDocument)
    created_by: Mapped[str]
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    last_used_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]


class AssertionRow(Base):
    """That an assertion of a client was used; kept until it ends by itself."""

    __tablename__ = "access_assertion"
    __table_args__ = (Index(None, "until"),)

    digest: Mapped[bytes] = mapped_column(primary_key=True)
    until: Mapped[datetime]


class ClientFacts(NamedTuple):
    """A client as it was read."""

    id: str
    name: str
    owner: str
    method: str
    digest: bytes | None
    jwks: dict[str, Any] | None
    subject: str | None
    scopes: list[Any]
    resources: list[Any] | None
    addresses: list[Any]
    created_at: datetime
    expires_at: datetime
    last_used_at: datetime | None
    revoked_at: datetime | None


def clients(session: Session, ids: Collection[str] | None = None) -> list[ClientFacts]:
    """The clients of some ids, or all, oldest first."""
    wanted = _FACTS.order_by(ClientRow.created_at, ClientRow.id) if ids is None else _SOME
    return [ClientFacts(*each) for each in session.execute(wanted, {} if ids is None else {"ids": list(ids)})]


_FACTS = select(*(getattr(ClientRow, name) for name in ClientFacts._fields))
_SOME = _FACTS.where(ClientRow.id.in_(bindparam("ids", expanding=True)))


def live_clients(session: Session, name: str) -> int:
    """How many clients of one name can still get a token."""
    wanted = select(func.count()).where(
        ClientRow.name == name, ClientRow.revoked_at.is_(None), ClientRow.expires_at > clock()
    )
    return session.execute(wanted).scalar_one()


def revoke_client(session: Session, client: str) -> bool:
    """Ends a client; false where there is none that lives."""
    ended = update(ClientRow).where(ClientRow.id == client, ClientRow.revoked_at.is_(None)).values(revoked_at=clock())
    return session.execute(ended.returning(ClientRow.id)).scalar_one_or_none() is not None


def touch_client(session: Session, client: str, now: datetime, every: timedelta) -> None:
    """Notes the use of a client, unless somebody has just done so."""
    due = ClientRow.last_used_at.is_(None) | (ClientRow.last_used_at <= now - every)
    session.execute(update(ClientRow).where(ClientRow.id == client, due).values(last_used_at=now))


def use_assertion(session: Session, digest: bytes, until: datetime, now: datetime) -> bool:
    """Remembers an assertion, and forgets those that have ended; false where it was used before."""
    session.execute(delete(AssertionRow).where(AssertionRow.until < now))
    made = insert_into(session, AssertionRow).values(digest=digest, until=until).on_conflict_do_nothing()
    return session.execute(made.returning(AssertionRow.digest)).one_or_none() is not None
