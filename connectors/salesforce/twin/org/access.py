"""Who may do what: rights by profile, permission sets and field-level security, less what was taken away."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import select

from connectors.salesforce.twin.org.documents import Document
from connectors.salesforce.twin.org.schema import Field, ObjectType, Schema
from connectors.salesforce.twin.org.standard import SETUP
from connectors.salesforce.twin.org.store import Store

ACTIONS = ("create", "read", "edit", "delete")
HIDDEN, READ, EDIT = 0, 1, 2


@dataclass(slots=True)
class Rights:
    """What one user may do, as things stand; asked by object and field, answers kept."""

    schema: Schema
    administrator: bool
    user: str
    profile: str
    granted_objects: Mapping[str, set[str]]
    granted_fields: Mapping[str, int]
    taken_objects: Mapping[str, set[str]]
    taken_fields: Mapping[str, int]
    born_open: frozenset[str]
    """Fields that the org began with, which profiles see; a field made later is seen by nobody until it is granted."""
    _objects: dict[str, frozenset[str]] = field(default_factory=dict)
    _fields: dict[tuple[str, str], int] = field(default_factory=dict)

    def on(self, kind: ObjectType) -> frozenset[str]:
        """The actions that are allowed on an object."""
        found = self._objects.get(kind.name)
        if found is None:
            allowed = set(ACTIONS) if self.administrator else set(self.granted_objects.get(kind.name, ()))
            if kind.name in SETUP and not self.administrator:
                allowed |= {"read"}
            found = self._objects[kind.name] = frozenset(allowed - self.taken_objects.get(kind.name, set()))
        return found

    def to(self, kind: ObjectType, one: Field) -> int:
        """HIDDEN, READ or EDIT for one field."""
        key = (kind.name, one.name)
        found = self._fields.get(key)
        if found is None:
            found = self._fields[key] = self._level(f"{kind.name}.{one.name}", one)
        return found

    def sees(self, kind: ObjectType) -> bool:
        """Whether the object is there for the user at all."""
        return "read" in self.on(kind)

    def field(self, kind: ObjectType, name: str) -> Field | None:
        """The field of that name, where the user can see it."""
        found = kind.field(name)
        return found if found and self.to(kind, found) > HIDDEN else None

    def described(self, kind: ObjectType) -> Document:
        """The describe document as this user gets it."""
        allowed = self.on(kind)
        whole = {**kind.document, "createable": bool(kind.document["createable"]) and "create" in allowed}
        whole["updateable"] = bool(kind.document["updateable"]) and "edit" in allowed
        whole["deletable"] = bool(kind.document["deletable"]) and "delete" in allowed
        return {**whole, "fields": [self._shown(kind, each) for each in kind if self.to(kind, each) > HIDDEN]}

    def _shown(self, kind: ObjectType, one: Field) -> Document:
        if self.to(kind, one) == EDIT:
            return one.document
        return {**one.document, "createable": False, "updateable": False}

    def _level(self, name: str, one: Field) -> int:
        taken = self.taken_fields.get(name)
        if taken is not None:
            return taken
        granted = self.granted_fields.get(name, HIDDEN)
        if name in self.born_open:
            always = not one.document.get("permissionable", True)
            return EDIT if self.administrator or always else granted
        return granted


class Access:
    """Works out the rights of users, and forgets them when anything they rest on has changed."""

    def __init__(self, store: Store, schema: Schema) -> None:
        self._store = store
        self._schema = schema
        self._known: dict[str, Rights] = {}

    def forget(self) -> None:
        """Something changed: rights are worked out anew."""
        self._known = {}

    def of(self, user: str) -> Rights:
        """The rights of the user with that id."""
        found = self._known.get(user)
        if found is None:
            known = self._known
            found = known[user] = self._work_out(user)
        return found

    def take(self, user: str, name: str, what: Any) -> None:
        """Takes away from a user, or from all with `*`.

        `Object` loses the actions that are listed; `Object.Field` is set to HIDDEN or READ; None gives all back.
        """
        kept: dict[str, Any] = self._store.get("taken", user) or {}
        if what is None:
            kept.pop(name, None)
        else:
            kept[name] = what
        self._store.put("taken", user, kept)
        self.forget()

    def _work_out(self, user: str) -> Rights:
        taken = {**(self._store.get("taken", "*") or {}), **(self._store.get("taken", user) or {})}
        profile = self._profile(user)
        objects, fields = self._granted(user)
        return Rights(
            schema=self._schema,
            administrator=bool(profile.get("PermissionsModifyAllData")),
            user=user,
            profile=profile.get("Name") or "",
            granted_objects=objects,
            granted_fields=fields,
            taken_objects={name: set(what) for name, what in taken.items() if "." not in name},
            taken_fields={name: int(what) for name, what in taken.items() if "." in name},
            born_open=frozenset(self._store.get("schema", "born_open") or ()),
        )

    def _profile(self, user: str) -> Mapping[str, Any]:
        users, profiles = self._schema.objects["user"], self._schema.objects["profile"]
        found = self._store.rows(users, [user]).get(user)
        return self._store.rows(profiles, [found["ProfileId"]]).get(found["ProfileId"], {}) if found else {}

    def _granted(self, user: str) -> tuple[dict[str, set[str]], dict[str, int]]:
        tables = {
            name: self._store.table(self._schema.objects[name.lower()])
            for name in ("PermissionSetAssignment", "ObjectPermissions", "FieldPermissions")
        }
        assigned, on, to = tables.values()
        mine = select(assigned.c.PermissionSetId).where(assigned.c.AssigneeId == user, assigned.c.IsDeleted == 0)
        objects: dict[str, set[str]] = {}
        fields: dict[str, int] = {}
        with self._store.reading() as connection:
            chosen = select(on).where(on.c.ParentId.in_(mine), on.c.IsDeleted == 0)
            for row in connection.execute(chosen).mappings():
                allowed = {each for each in ACTIONS if row[f"Permissions{each.capitalize()}"]}
                objects.setdefault(row["SobjectType"], set()).update(allowed)
            chosen = select(to).where(to.c.ParentId.in_(mine), to.c.IsDeleted == 0)
            for row in connection.execute(chosen).mappings():
                level = EDIT if row["PermissionsEdit"] else READ if row["PermissionsRead"] else HIDDEN
                fields[row["Field"]] = max(fields.get(row["Field"], HIDDEN), level)
        return objects, fields
