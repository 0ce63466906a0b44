"""Tables of API keys and of secrets: digests of the first, sealed versions of the second."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import Index, bindparam, func, select, update
from sqlalchemy.orm import Mapped, Session, mapped_column

from hub.database import Base, JsonDocument, clock


class TokenRow(Base):
    """One API key: the keyed digest of its secret, never the secret."""

    __tablename__ = "access_token"
    __table_args__ = (Index(None, "name"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    owner: Mapped[str]
    digest: Mapped[bytes]
    scopes: Mapped[list[Any]] = mapped_column(JsonDocument)
    mappings: Mapped[list[Any] | None] = mapped_column(JsonDocument)
    created_by: Mapped[str]
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    last_used_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]


class SecretRow(Base):
    """One version of a secret, or of the reference to it; `sealed` is null once it was destroyed."""

    __tablename__ = "access_secret"

    name: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    kind: Mapped[str]
    sealed: Mapped[bytes | None]
    created_at: Mapped[datetime]
    destroyed_at: Mapped[datetime | None]


class TokenFacts(NamedTuple):
    """What is looked at to know a caller by its key."""

    id: str
    name: str
    owner: str
    digest: bytes
    scopes: list[Any]
    mappings: list[Any] | None
    expires_at: datetime
    last_used_at: datetime | None
    revoked_at: datetime | None


def token_facts(session: Session, ids: Collection[str]) -> dict[str, TokenFacts]:
    """The API keys of some ids, by id, those that ended too."""
    return {row.id: TokenFacts(*row) for row in session.execute(_FACTS, {"ids": list(ids)})}


_FACTS = select(*(getattr(TokenRow, name) for name in TokenFacts._fields)).where(
    TokenRow.id.in_(bindparam("ids", expanding=True))
)


def tokens(session: Session) -> Sequence[TokenRow]:
    """All API keys, oldest first."""
    return session.execute(select(TokenRow).order_by(TokenRow.created_at, TokenRow.id)).scalars().all()


def live_tokens(session: Session, name: str) -> int:
    """How many keys of one name still open the door."""
    wanted = select(func.count()).where(
        TokenRow.name == name, TokenRow.revoked_at.is_(None), TokenRow.expires_at > clock()
    )
    return session.execute(wanted).scalar_one()


def touch_token(session: Session, token_id: str, now: datetime, every: timedelta) -> None:
    """Notes the use of a key, unless somebody has just done so."""
    due = TokenRow.last_used_at.is_(None) | (TokenRow.last_used_at <= now - every)
    session.execute(update(TokenRow).where(TokenRow.id == token_id, due).values(last_used_at=now))


def revoke_token(session: Session, token_id: str) -> bool:
    """Ends a key; false where there is none that lives."""
    ended = update(TokenRow).where(TokenRow.id == token_id, TokenRow.revoked_at.is_(None)).values(revoked_at=clock())
    return session.execute(ended.returning(TokenRow.id)).scalar_one_or_none() is not None


def last_version(session: Session, name: str) -> int:
    """The newest version of a secret, destroyed or not; 0 where there is none."""
    return session.execute(select(func.max(SecretRow.version)).where(SecretRow.name == name)).scalar_one() or 0


def add_secret(session: Session, name: str, version: int, kind: str, sealed: bytes) -> None:
    """A new version of a secret."""
    session.add(SecretRow(name=name, version=version, kind=kind, sealed=sealed, created_at=clock()))
    session.flush()


def secret(session: Session, name: str) -> tuple[int, str, bytes] | None:
    """Version, kind and sealed form of the newest version, unless it was destroyed."""
    wanted = select(SecretRow.version, SecretRow.kind, SecretRow.sealed).where(SecretRow.name == name)
    found = session.execute(wanted.order_by(SecretRow.version.desc()).limit(1)).one_or_none()
    if found is None or found.sealed is None:
        return None
    return found.version, found.kind, found.sealed


def destroy_secret(session: Session, name: str, *, before: int | None = None) -> int:
    """Forgets the sealed form of every version, or of those before one; how many there were."""
    wanted = update(SecretRow).where(SecretRow.name == name, SecretRow.sealed.is_not(None))
    if before is not None:
        wanted = wanted.where(SecretRow.version < before)
    gone = session.execute(wanted.values(sealed=None, destroyed_at=clock()).returning(SecretRow.version))
    return len(gone.all())
