"""Which person holds which role, for everything or for one connection, mapping or model."""

from __future__ import annotations

from hub.access import store
from hub.access.types import (
    ALL_ROLES,
    WHOLE,
    AccessError,
    Actor,
    ActorKind,
    Caller,
    Resource,
    Rights,
    Role,
    RoleGrant,
)
from hub.audit import Action, AuditLog, Event
from hub.database import Database


class Roles:
    """The roles of one installation's people; safe to share between threads. Who holds none may nothing."""

    def __init__(self, database: Database, audit: AuditLog) -> None:
        self._database = database
        self._audit = audit

    def grant(self, person: str, role: Role, resource: Resource | None = None, *, actor: Actor) -> RoleGrant:
        """Gives a person a role. AccessError where it is held already, or cannot be held for one resource."""
        if not person or not person.isprintable() or len(person) > 100:
            raise AccessError("person: a person is named in 1 to 100 characters")
        if resource is not None and role.scopes & WHOLE:
            raise AccessError(f"resource: the role {role} is over the whole hub and cannot be held for {resource}")
        subject, where = str(Actor(ActorKind.HUMAN, person)), _written(resource)
        with self._database.begin() as session:
            if any((each.role, each.resource) == (role.value, where) for each in store.roles(session, subject)):
                raise AccessError(f"{person} holds the role {role} already" + (f" for {where}" if where else ""))
            now = self._database.now(session)
            row = store.RoleRow(actor=subject, role=role.value, resource=where, granted_by=str(actor), granted_at=now)
            session.add(row)
            detail = {"role": role.value, "resource": where or None}
            self._audit.record(session, Event(str(actor), Action.ROLE_GRANT, subject, detail=detail))
            return _granted(row)

    def revoke(self, person: str, role: Role, resource: Resource | None = None, *, actor: Actor) -> None:
        """Takes a role away at once. AccessError where it is not held."""
        subject, where = str(Actor(ActorKind.HUMAN, person)), _written(resource)
        with self._database.begin() as session:
            if not store.remove_role(session, subject, role.value, where):
                raise AccessError(f"{person} does not hold the role {role}" + (f" for {where}" if where else ""))
            detail = {"role": role.value, "resource": where or None}
            self._audit.record(session, Event(str(actor), Action.ROLE_REVOKE, subject, detail=detail))

    def list_grants(self, person: str | None = None) -> list[RoleGrant]:
        """The roles of a person, or of everybody."""
        actor = str(Actor(ActorKind.HUMAN, person)) if person is not None else None
        with self._database.read() as session:
            return [_granted(each) for each in store.roles(session, actor)]

    def caller(self, person: str, credential: str | None = None) -> Caller:
        """A person as a caller, with the rights that the roles of this moment give."""
        rights = Rights()
        for each in self.list_grants(person):
            rights = rights.joined(Rights.of(each.role.scopes, None if each.resource is None else [each.resource]))
        return Caller(Actor(ActorKind.HUMAN, person), person, rights, credential)


def _written(resource: Resource | None) -> str:
    return "" if resource is None else str(resource)


def _granted(row: store.RoleRow) -> RoleGrant:
    kind, _, name = row.actor.partition(":")
    resource = Resource.parse(row.resource) if row.resource else None
    return RoleGrant(Actor(ActorKind(kind), name), ALL_ROLES[row.role], resource, row.granted_by, row.granted_at)
