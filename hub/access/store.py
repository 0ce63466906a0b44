"""Tables of API keys and of secrets: digests of the first, sealed versions of the second."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import Index, bindparam, delete, func, select, update
from sqlalchemy.orm import Mapped, Session, mapped_column

from hub.database import Base, Blob, JsonDocument, clock
from hub.keys import directly


class TokenRow(Base):
    """One API key: the keyed digest of its secret, never the secret."""

    __tablename__ = "access_token"
    __table_args__ = (Index(None, "name"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    owner: Mapped[str]
    digest: Mapped[bytes]
    scopes: Mapped[list[Any]] = mapped_column(JsonDocument)
    resources: Mapped[list[Any] | None] = mapped_column(JsonDocument)
    addresses: Mapped[list[Any]] = mapped_column(JsonDocument)
    created_by: Mapped[str]
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    last_used_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]


class RoleRow(Base):
    """That an actor holds a role; `resource` is `mapping:lead_score`, or empty for everything."""

    __tablename__ = "access_role"

    actor: Mapped[str] = mapped_column(primary_key=True)
    role: Mapped[str] = mapped_column(primary_key=True)
    resource: Mapped[str] = mapped_column(primary_key=True)
    granted_by: Mapped[str]
    granted_at: Mapped[datetime]


class SecretRow(Base):
    """One version of a secret, or of the reference to it; `sealed` is null once it was destroyed.

    `readable_until` is when a version that was replaced stops to open.
    """

    __tablename__ = "access_secret"

    name: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    kind: Mapped[str]
    sealed: Mapped[bytes | None] = mapped_column(
        Blob, info=directly(lambda row: secret_identity(row["name"], row["version"], row["kind"]))
    )
    created_at: Mapped[datetime]
    readable_until: Mapped[datetime | None]
    destroyed_at: Mapped[datetime | None]


class StoredSecret(NamedTuple):
    """One version of a secret as it is kept."""

    version: int
    kind: str
    sealed: bytes


class TokenFacts(NamedTuple):
    """What is looked at to know a caller by its key."""

    id: str
    name: str
    owner: str
    digest: bytes
    scopes: list[Any]
    resources: list[Any] | None
    addresses: list[Any]
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


def roles(session: Session, actor: str | None = None) -> Sequence[RoleRow]:
    """The roles of one actor, or of all."""
    wanted = select(RoleRow).order_by(RoleRow.actor, RoleRow.role, RoleRow.resource)
    if actor is not None:
        wanted = wanted.where(RoleRow.actor == actor)
    return session.execute(wanted).scalars().all()


def remove_role(session: Session, actor: str, role: str, resource: str) -> bool:
    """Takes a role away; false where it was not held."""
    held = (RoleRow.actor == actor, RoleRow.role == role, RoleRow.resource == resource)
    return session.execute(delete(RoleRow).where(*held).returning(RoleRow.role)).one_or_none() is not None


def last_version(session: Session, name: str) -> int:
    """The newest version of a secret, destroyed or not; 0 where there is none."""
    return session.execute(select(func.max(SecretRow.version)).where(SecretRow.name == name)).scalar_one() or 0


def add_secret(session: Session, name: str, version: int, kind: str, sealed: bytes) -> None:
    """A new version of a secret."""
    session.add(SecretRow(name=name, version=version, kind=kind, sealed=sealed, created_at=clock()))
    session.flush()


def moment(session: Session) -> datetime:
    """Now, by the database's clock."""
    return session.execute(select(clock())).scalar_one()


def replace_secret(session: Session, name: str, version: int, until: datetime) -> None:
    """Every version before this one opens no longer than until then."""
    older = update(SecretRow).where(
        SecretRow.name == name, SecretRow.version < version, SecretRow.readable_until.is_(None)
    )
    session.execute(older.values(readable_until=until))


def secret(session: Session, name: str, version: int | None = None) -> StoredSecret | None:
    """The newest version, or the one that is named, unless it was destroyed or its time is over."""
    newest = select(func.max(SecretRow.version)).where(SecretRow.name == name).scalar_subquery()
    wanted = select(SecretRow.version, SecretRow.kind, SecretRow.sealed).where(
        SecretRow.name == name,
        SecretRow.version == (newest if version is None else version),
        SecretRow.sealed.is_not(None),
        SecretRow.readable_until.is_(None) | (SecretRow.readable_until > clock()),
    )
    found = session.execute(wanted).one_or_none()
    if found is None or found.sealed is None:
        return None
    return StoredSecret(found.version, found.kind, found.sealed)


def destroy_secret(session: Session, name: str) -> int:
    """Forgets the sealed form of every version; how many there were."""
    wanted = update(SecretRow).where(SecretRow.name == name, SecretRow.sealed.is_not(None))
    gone = session.execute(wanted.values(sealed=None, destroyed_at=clock()).returning(SecretRow.version))
    return len(gone.all())


def overdue_secrets(session: Session) -> bool:
    """Whether some version is past its time and still there."""
    wanted = select(SecretRow.version).where(SecretRow.sealed.is_not(None), SecretRow.readable_until <= clock())
    return session.execute(wanted.limit(1)).first() is not None


def destroy_overdue(session: Session) -> list[tuple[str, int]]:
    """Forgets the sealed form of every version whose time is over; name and version of each."""
    wanted = update(SecretRow).where(SecretRow.sealed.is_not(None), SecretRow.readable_until <= clock())
    changed = wanted.values(sealed=None, destroyed_at=clock()).returning(SecretRow.name, SecretRow.version)
    return [(row.name, row.version) for row in session.execute(changed)]


def secret_identity(name: str, version: int, kind: str) -> dict[str, str]:
    """What a stored secret is bound to."""
    return {"table": "access_secret", "name": name, "version": str(version), "kind": kind}
