"""Tables of people, their sessions, logins under way, the one local account, and failed attempts."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Index, UniqueConstraint, delete, select, update
from sqlalchemy.orm import Mapped, Session, mapped_column

from hub.database import Base, JsonDocument, insert_into


class PersonRow(Base):
    """One person. Issuer and subject are who they are; the name was free when they first came, and stays theirs."""

    __tablename__ = "access_person"
    __table_args__ = (UniqueConstraint("name"), UniqueConstraint("issuer", "subject"))

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    issuer: Mapped[str]
    subject: Mapped[str]
    title: Mapped[str]
    claimed: Mapped[list[Any]] = mapped_column(JsonDocument)
    created_at: Mapped[datetime]
    login_at: Mapped[datetime | None]
    disabled_at: Mapped[datetime | None]


class SessionRow(Base):
    """One session: the keyed digest of its cookie, never the cookie."""

    __tablename__ = "access_session"
    __table_args__ = (UniqueConstraint("digest"), Index(None, "person"))

    id: Mapped[str] = mapped_column(primary_key=True)
    digest: Mapped[bytes]
    person: Mapped[str]
    created_at: Mapped[datetime]
    seen_at: Mapped[datetime]
    authenticated_at: Mapped[datetime | None]
    acr: Mapped[str | None]
    method: Mapped[str]


class SignInRow(Base):
    """A login under way at the provider: what its answer must match, sealed; taken out once."""

    __tablename__ = "access_signin"

    digest: Mapped[bytes] = mapped_column(primary_key=True)
    sealed: Mapped[bytes]
    expires_at: Mapped[datetime]


class LocalRow(Base):
    """Password (argon2id, sealed) and TOTP secret (sealed) of a local account; `step` is the last code's, used up."""

    __tablename__ = "access_local"

    person: Mapped[str] = mapped_column(primary_key=True)
    password: Mapped[bytes]
    totp: Mapped[bytes]
    step: Mapped[int]


class SetupRow(Base):
    """The setup secret that was printed last, as a keyed digest, and the TOTP secret of the account it will make."""

    __tablename__ = "access_setup"

    digest: Mapped[bytes] = mapped_column(primary_key=True)
    totp: Mapped[bytes]
    expires_at: Mapped[datetime]


class AttemptRow(Base):
    """Failed logins of one account or address, which the name is a keyed digest of."""

    __tablename__ = "access_attempt"

    name: Mapped[bytes] = mapped_column(primary_key=True)
    failures: Mapped[int]
    at: Mapped[datetime]


def people(session: Session) -> Sequence[PersonRow]:
    """Everybody, by name."""
    return session.execute(select(PersonRow).order_by(PersonRow.name)).scalars().all()


def person_of(session: Session, issuer: str, subject: str) -> PersonRow | None:
    """Who an issuer calls by this subject."""
    wanted = select(PersonRow).where(PersonRow.issuer == issuer, PersonRow.subject == subject)
    return session.execute(wanted).scalar_one_or_none()


def person_named(session: Session, name: str) -> PersonRow | None:
    """Whom the trail calls so."""
    return session.execute(select(PersonRow).where(PersonRow.name == name)).scalar_one_or_none()


def session_of(session: Session, digest: bytes) -> tuple[SessionRow, PersonRow] | None:
    """The session of a cookie, with whose it is."""
    wanted = select(SessionRow, PersonRow).join(PersonRow, PersonRow.id == SessionRow.person)
    found = session.execute(wanted.where(SessionRow.digest == digest)).one_or_none()
    return None if found is None else (found[0], found[1])


def sessions_of(session: Session, person: str) -> Sequence[SessionRow]:
    """A person's sessions, the newest first."""
    wanted = select(SessionRow).where(SessionRow.person == person)
    return session.execute(wanted.order_by(SessionRow.created_at.desc(), SessionRow.id)).scalars().all()


def touch_session(session: Session, session_id: str, now: datetime) -> None:
    """Notes that a session was used."""
    session.execute(update(SessionRow).where(SessionRow.id == session_id).values(seen_at=now))


def end_session(session: Session, session_id: str) -> bool:
    """Ends one session; false where it had ended."""
    gone = delete(SessionRow).where(SessionRow.id == session_id)
    return session.execute(gone.returning(SessionRow.id)).one_or_none() is not None


def end_sessions(session: Session, person: str) -> int:
    """Ends all sessions of a person; how many there were."""
    return len(session.execute(delete(SessionRow).where(SessionRow.person == person).returning(SessionRow.id)).all())


def sweep(session: Session, idle_since: datetime, created_before: datetime, now: datetime) -> None:
    """Forgets sessions that ran out and logins that nobody came back from."""
    over = (SessionRow.seen_at <= idle_since) | (SessionRow.created_at <= created_before)
    session.execute(delete(SessionRow).where(over))
    forget_signins(session, now)


def forget_signins(session: Session, now: datetime) -> None:
    """Forgets logins that nobody came back from."""
    session.execute(delete(SignInRow).where(SignInRow.expires_at <= now))


def take_signin(session: Session, digest: bytes, now: datetime) -> bytes | None:
    """Takes a login under way out, once; None where there is none that still counts."""
    taken = delete(SignInRow).where(SignInRow.digest == digest).returning(SignInRow.sealed, SignInRow.expires_at)
    found = session.execute(taken).one_or_none()
    return found.sealed if found is not None and found.expires_at > now else None


def setup_of(session: Session, digest: bytes, now: datetime) -> SetupRow | None:
    """The setup secret with this digest, while it counts."""
    wanted = select(SetupRow).where(SetupRow.digest == digest, SetupRow.expires_at > now)
    return session.execute(wanted).scalar_one_or_none()


def take_setup(session: Session, digest: bytes) -> bool:
    """Uses a setup secret up, and every other; false where somebody has just done so."""
    gone = session.execute(delete(SetupRow).returning(SetupRow.digest)).scalars().all()
    return digest in gone


def forget_setups(session: Session) -> int:
    """No setup secret counts any more; how many there were."""
    return len(session.execute(delete(SetupRow).returning(SetupRow.digest)).all())


def forget_local(session: Session, person: str) -> None:
    """Destroys the password and the TOTP secret of a local account."""
    session.execute(delete(LocalRow).where(LocalRow.person == person))


def use_step(session: Session, person: str, step: int) -> bool:
    """Uses up the code of a step; false where that one or a later one was used already."""
    used = update(LocalRow).where(LocalRow.person == person, LocalRow.step < step).values(step=step)
    return session.execute(used.returning(LocalRow.person)).one_or_none() is not None


def attempts(session: Session, names: Sequence[bytes]) -> dict[bytes, tuple[int, datetime]]:
    """Failures and the last of them, by name."""
    wanted = select(AttemptRow.name, AttemptRow.failures, AttemptRow.at).where(AttemptRow.name.in_(names))
    return {name: (failures, at) for name, failures, at in session.execute(wanted.with_for_update())}


def count_attempt(session: Session, name: bytes, now: datetime) -> None:
    """One more failure of an account or address."""
    row = insert_into(session, AttemptRow).values(name=name, failures=1, at=now)
    more = {"failures": AttemptRow.failures + 1, "at": now}
    session.execute(row.on_conflict_do_update(index_elements=["name"], set_=more))


def set_attempts(session: Session, name: bytes, failures: int) -> None:
    """So many failures are left to count."""
    session.execute(update(AttemptRow).where(AttemptRow.name == name).values(failures=failures))


def forget_attempts(session: Session, before: datetime) -> None:
    """Forgets failures that lie too far back to count."""
    session.execute(delete(AttemptRow).where(AttemptRow.at <= before))
