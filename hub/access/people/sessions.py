"""Sessions: an opaque cookie, kept as a digest, that ends by rest, by age, by logout or by an administrator."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from datetime import datetime, timedelta

from sqlalchemy.orm import Session

from hub.access.people import store
from hub.access.people.types import ABSOLUTE, IDLE, Login, Opened, Person, Visit
from hub.access.types import Actor, ActorKind
from hub.audit import Action, AuditLog, Event, Outcome
from hub.database import Database
from hub.keys import KeyRing
from hub.sdk import Json

SEEN_NOTED_EVERY = timedelta(minutes=1)
"""How exactly the use of a session is kept; what was not noted counts as rest."""
_TEXT = re.compile(r"[A-Za-z0-9_-]{43}", re.ASCII)


class Sessions:
    """The sessions of one installation; safe to share between threads."""

    def __init__(self, database: Database, keys: KeyRing, audit: AuditLog) -> None:
        self._database = database
        self._keys = keys
        self._audit = audit

    def open(
        self, session: Session, row: store.PersonRow, login: Login, *, before: str | None, detail: Mapping[str, Json]
    ) -> Opened:
        """A new session in the caller's transaction, with its event; the one that the browser had before ends."""
        now = self._database.now(session)
        store.sweep(session, now - IDLE, now - ABSOLUTE, now)
        had = self._found(session, before, now) if before else None
        if had is not None:
            store.end_session(session, had.id)
        text = secrets.token_urlsafe(32)
        made = store.SessionRow(
            id=secrets.token_hex(6),
            digest=self._digest(text),
            person=row.id,
            created_at=now,
            seen_at=now,
            authenticated_at=login.authenticated_at,
            acr=login.acr,
            method=login.method,
        )
        session.add(made)
        row.login_at = now
        session.flush()
        told = {
            **detail,
            "person": row.id,
            "method": login.method,
            "acr": login.acr,
            "instead": had.id if had else None,
        }
        self._audit.record(session, Event(actor_of(row.name), Action.SESSION_OPEN, f"session:{made.id}", detail=told))
        return Opened(text, visit_of(made, row))

    def find(self, text: str) -> Visit | None:
        """The session that a cookie stands for; None where it ended, ran out, or never was."""
        with self._database.read() as session:
            now = self._database.now(session)
            found = self._found(session, text, now)
        if found is not None and found.seen_at <= now - SEEN_NOTED_EVERY:
            with self._database.begin() as session:
                store.touch_session(session, found.id, now)
        return found

    def list_of(self, person: Person) -> list[Visit]:
        """A person's sessions that have not ended, the newest first."""
        with self._database.read() as session:
            now = self._database.now(session)
            row = session.get_one(store.PersonRow, person.id)
            found = [visit_of(each, row) for each in store.sessions_of(session, person.id)]
        return [each for each in found if each.ends_at > now]

    def close(self, visit: Visit, *, actor: str, why: str = "logout") -> None:
        """Ends a session at once; harmless where it has ended."""
        with self._database.begin() as session:
            if store.end_session(session, visit.id):
                detail: dict[str, Json] = {"why": why}
                self._audit.record(session, Event(actor, Action.SESSION_CLOSE, f"session:{visit.id}", detail=detail))

    def refused(self, visit: Visit, why: str) -> None:
        """Notes that a call with this session's cookie was turned away."""
        with self._database.begin() as session:
            event = Event(
                actor_of(visit.person.name),
                Action.ACCESS_DENIED,
                "hub",
                Outcome.DENIED,
                detail={"why": why, "credential": f"session:{visit.id}"},
            )
            self._audit.record(session, event)

    def _found(self, session: Session, text: str, now: datetime) -> Visit | None:
        if not _TEXT.fullmatch(text):
            return None
        found = store.session_of(session, self._digest(text))
        if found is None:
            return None
        visit = visit_of(*found)
        return visit if visit.ends_at > now and visit.person.disabled_at is None else None

    def _digest(self, text: str) -> bytes:
        return self._keys.mac("session", text.encode())


def actor_of(name: str) -> str:
    """A person as the trail writes them."""
    return str(Actor(ActorKind.HUMAN, name))


def person_of(row: store.PersonRow) -> Person:
    """A person as they are stored."""
    return Person(
        id=row.id,
        name=row.name,
        issuer=row.issuer,
        subject=row.subject,
        title=row.title,
        claimed=tuple(row.claimed),
        created_at=row.created_at,
        login_at=row.login_at,
        disabled_at=row.disabled_at,
    )


def visit_of(row: store.SessionRow, person: store.PersonRow) -> Visit:
    """A session as it is stored."""
    return Visit(
        id=row.id,
        person=person_of(person),
        created_at=row.created_at,
        seen_at=row.seen_at,
        ends_at=min(row.seen_at + IDLE, row.created_at + ABSOLUTE),
        login=Login(row.authenticated_at, row.acr, row.method),
    )
