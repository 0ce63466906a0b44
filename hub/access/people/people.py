"""The people of one installation: who there is, what they may, and how an administrator ends them."""

from __future__ import annotations

from hub.access.people import store
from hub.access.people.attempts import Attempts
from hub.access.people.local import LocalAccounts
from hub.access.people.oidc import Provider, ProviderSettings, SignIn
from hub.access.people.sessions import Sessions, actor_of, person_of
from hub.access.people.types import FRESH, Guest, Person, StaleLoginError, Visit
from hub.access.roles import Roles
from hub.access.types import ALL_ROLES, WHOLE, AccessError, Actor, Resource, Rights
from hub.audit import Action, AuditLog, Event
from hub.database import Database
from hub.keys import KeyRing
from hub.sdk import Json


class People:
    """Safe to share between threads. `signin` is None where no identity provider is configured."""

    def __init__(
        self,
        database: Database,
        keys: KeyRing,
        audit: AuditLog,
        roles: Roles,
        provider: ProviderSettings | None = None,
    ) -> None:
        self._database = database
        self._audit = audit
        self._roles = roles
        self._acr = provider.step_up_acr if provider is not None else None
        for each in provider.roles.values() if provider is not None else ():
            claimed_rights(each)
        attempts = Attempts(database, keys)
        self.sessions = Sessions(database, keys, audit)
        self.local = LocalAccounts(database, keys, audit, self.sessions, attempts)
        self.signin: SignIn | None = None
        if provider is not None:
            wire = Provider(provider)
            self.signin = SignIn(database, keys, audit, self.sessions, self.local, attempts, wire)

    def enter(self, text: str) -> Guest | None:
        """Whom a session's cookie stands for, with the rights of this moment; None where it stands for nobody."""
        visit = self.sessions.find(text)
        return None if visit is None else self.guest(visit)

    def guest(self, visit: Visit) -> Guest:
        """A visit as a caller: the roles that the login brought, and those that the hub has given."""
        caller = self._roles.caller(visit.person.name, credential=f"session:{visit.id}")
        rights = caller.rights
        for each in visit.person.claimed:
            rights = rights.joined(claimed_rights(each))
        return Guest(visit, type(caller)(caller.actor, caller.owner, rights, caller.credential))

    def require_fresh(self, guest: Guest) -> None:
        """StaleLoginError, with its event, unless they proved a moment ago who they are, as strongly as is configured.

        A cookie that was left behind, or taken, decides nothing.
        """
        with self._database.read() as session:
            now = self._database.now(session)
        acr = self._acr if guest.visit.person.issuer else None
        if not guest.visit.proven_within(FRESH, now, acr):
            self.sessions.refused(guest.visit, "login is not fresh")
            raise StaleLoginError("prove anew who you are, then decide; a login counts for this for five minutes")

    def list_people(self) -> list[Person]:
        """Everybody who ever logged in, by name."""
        with self._database.read() as session:
            return [person_of(each) for each in store.people(session)]

    def disable(self, name: str, *, actor: Actor) -> int:
        """Lets a person in no more and ends their sessions at once; how many there were."""
        with self._database.begin() as session:
            row = _known(store.person_named(session, name), name)
            if row.disabled_at is not None:
                raise AccessError(f"{name} is disabled already")
            row.disabled_at = self._database.now(session)
            ended = store.end_sessions(session, row.id)
            self._audit.record(
                session, Event(str(actor), Action.PERSON_DISABLE, actor_of(name), detail={"sessions": ended})
            )
            return ended

    def enable(self, name: str, *, actor: Actor) -> None:
        """Lets a person in again. AccessError where they are not disabled, or have no way to log in any more."""
        with self._database.begin() as session:
            row = _known(store.person_named(session, name), name)
            if row.disabled_at is None:
                raise AccessError(f"{name} is not disabled")
            if not row.issuer and session.get(store.LocalRow, row.id) is None:
                raise AccessError(f"{name} logged in with a password that is gone; the identity provider logs in now")
            row.disabled_at = None
            self._audit.record(session, Event(str(actor), Action.PERSON_ENABLE, actor_of(name)))

    def end_sessions(self, name: str, *, actor: Actor) -> int:
        """Ends all sessions of a person at once; how many there were."""
        with self._database.begin() as session:
            row = _known(store.person_named(session, name), name)
            ended = store.end_sessions(session, row.id)
            detail: dict[str, Json] = {"why": "ended by an administrator", "sessions": ended}
            self._audit.record(session, Event(str(actor), Action.SESSION_CLOSE, actor_of(name), detail=detail))
            return ended


def claimed_rights(text: str) -> Rights:
    """The rights of `ROLE` or `ROLE RESOURCE`. AccessError where the text is neither."""
    role, _, resource = text.partition(" ")
    if role not in ALL_ROLES:
        raise AccessError(f"HUB_OIDC_ROLES: there is no role {role}; the roles are {', '.join(ALL_ROLES)}")
    if resource and ALL_ROLES[role].scopes & WHOLE:
        raise AccessError(f"HUB_OIDC_ROLES: the role {role} is over the whole hub and cannot be held for {resource}")
    return Rights.of(ALL_ROLES[role].scopes, [Resource.parse(resource)] if resource else None)


def _known(row: store.PersonRow | None, name: str) -> store.PersonRow:
    if row is None:
        raise AccessError(f"there is nobody called {name}; `hub access people list` shows who there is")
    return row
