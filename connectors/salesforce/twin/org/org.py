"""One org: its clock, its store, its schema, who may do what, and the rules; a new one gets its people and profiles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import func, select

from connectors.salesforce.twin.org.access import Access
from connectors.salesforce.twin.org.clock import Clock
from connectors.salesforce.twin.org.documents import Document
from connectors.salesforce.twin.org.notation import field_from
from connectors.salesforce.twin.org.rules import Rules
from connectors.salesforce.twin.org.schema import Field, ObjectType, Schema, first_documents
from connectors.salesforce.twin.org.store import Store, Unit

ADMINISTRATOR, MINIMUM = "System Administrator", "Minimum Access - API Only Integrations"
PEOPLE = (
    ("integration", "Hub", "Integration", ADMINISTRATOR),
    ("admin", "Ada", "Admin", ADMINISTRATOR),
    ("sales", "Sam", "Sales", ADMINISTRATOR),
    ("automation", "Automated", "Process", ADMINISTRATOR),
)
"""Users of a new org: the one that the hub logs in as, an administrator, a salesperson, and the platform itself."""
DOMAIN = "twin.example"


class Org:
    """All that the twin knows; kept in `path`, one SQLite file, and found there again."""

    def __init__(self, path: Path, *, contracts: Path | None = None) -> None:
        self.store = Store(path)
        self.clock = Clock(float(self.store.get("clock", "ahead") or 0))
        kept = self.store.all("object")
        order = self.store.get("schema", "order") or []
        self.schema = Schema([kept[name] for name in order] if kept else first_documents(contracts))
        for kind in self.schema:
            self.store.table(kind)
        self.access = Access(self.store, self.schema)
        self.rules = Rules(self.store, self.clock)
        if not kept:
            self._begin()
        self.users: dict[str, str] = self.store.get("people", "ids")
        """User ids by the short names of PEOPLE."""
        self.id = str(self.store.get("people", "organization"))

    def username(self, short: str) -> str:
        """The login name of one of PEOPLE."""
        return f"{short}@{DOMAIN}"

    def add_field(self, entity: str, field: str | Mapping[str, Any], *, open_to_all: bool = True) -> Field:
        """Gives an object a field, from a line of the compact notation or a describe document.

        One that is not `open_to_all` is seen by nobody until a permission set grants it, as after a deployment.
        """
        kind = self.schema.objects[entity.lower()]
        document = field_from(field) if isinstance(field, str) else dict(field)
        with self.store.writing():
            made = self.schema.put_field(entity, document)
            self.store.add_column(kind, made)
            self._keep(kind)
            if open_to_all:
                self._open(f"{kind.name}.{made.name}")
        self.access.forget()
        return made

    def change_field(self, entity: str, name: str, /, **particulars: Any) -> None:
        """Writes over what describe says of a field: `length=20`, say, or `picklistValues=…`."""
        kind = self.schema.objects[entity.lower()]
        self.schema.put_field(entity, {**kind.fields[name.lower()].document, **particulars})
        self._keep(kind)
        self.access.forget()

    def drop_field(self, entity: str, name: str) -> None:
        """Takes a field away with its values."""
        kind = self.schema.objects[entity.lower()]
        gone = kind.fields[name.lower()]
        with self.store.writing():
            self.schema.drop_field(entity, name)
            if gone.stored:
                self.store.drop_column(kind, gone.name)
            self._keep(kind)
        self.access.forget()

    def new_record(self, kind: ObjectType, user: str, stamp: str) -> dict[str, Any]:
        """What a new record has before its own values: every column, with defaults."""
        made: dict[str, Any] = {}
        for each in kind:
            if each.stored:
                default = each.document.get("defaultValue")
                made[each.name] = int(bool(default)) if each.type == "boolean" else default
        made.update(CreatedDate=stamp, CreatedById=user, LastModifiedDate=stamp, LastModifiedById=user)
        made.update(SystemModstamp=stamp, IsDeleted=0)
        if "OwnerId" in made:
            made["OwnerId"] = user
        return made

    def touch(
        self, unit: Unit, ids: Sequence[str], sets: Mapping[str, Any], stamp: str
    ) -> list[tuple[str, str, str, dict[str, Any]]]:
        """Stamps records anew as the platform itself does, with some values; what is to be told of it."""
        told = []
        stamps = {"SystemModstamp": stamp, "LastModifiedDate": stamp}
        for record in ids:
            kind = self.schema.by_prefix(record[:3])
            if kind is not None:
                self.store.change_rows(unit, kind, [{**sets, **stamps, "Id": record}])
                told.append((kind.name, record, "UPDATE", {**sets, "LastModifiedDate": stamp}))
        return told

    def count(self, kind: ObjectType) -> int:
        """Records that are there."""
        table = self.store.table(kind)
        with self.store.reading() as connection:
            return connection.execute(select(func.count()).where(table.c.IsDeleted == 0)).scalar() or 0

    def close(self) -> None:
        """Gives the file back."""
        self.store.put("clock", "ahead", self.clock.ahead)
        self.store.close()

    def _begin(self) -> None:
        with self.store.writing() as unit:
            self.store.put("schema", "order", [kind.name for kind in self.schema])
            for kind in self.schema:
                self._keep(kind)
            self._open(*(f"{kind.name}.{each.name}" for kind in self.schema for each in kind))
            self._people(unit)

    def _people(self, unit: Unit) -> None:
        profiles: dict[str, Document] = {
            ADMINISTRATOR: {"PermissionsModifyAllData": 1, "PermissionsCustomizeApplication": 1},
            MINIMUM: {"PermissionsModifyAllData": 0, "PermissionsCustomizeApplication": 0},
        }
        ids = {
            name: self._add(unit, "Profile", {"Name": name, "PermissionsApiEnabled": 1, **granted})
            for name, granted in profiles.items()
        }
        organization: Document = {
            "Name": "Twin",
            "IsSandbox": 1,
            "InstanceName": "TWIN",
            "OrganizationType": "Developer Edition",
        }
        self.store.put("people", "organization", self._add(unit, "Organization", organization))
        users = {}
        for short, first, last, profile in PEOPLE:
            person: Document = {
                "FirstName": first,
                "LastName": last,
                "Username": self.username(short),
                "Alias": short[:8],
            }
            person |= {"Email": self.username(short), "IsActive": 1, "UserType": "Standard", "ProfileId": ids[profile]}
            users[short] = self._add(unit, "User", person)
        self.store.put("people", "ids", users)

    def _add(self, unit: Unit, entity: str, values: Document) -> str:
        kind = self.schema.objects[entity.lower()]
        name = self.store.new_ids(kind.prefix, 1)[0]
        made = {**self.new_record(kind, name, self.clock.stamp()), **values, "Id": name}
        self.store.add_rows(unit, kind, [made])
        return name

    def _keep(self, kind: ObjectType) -> None:
        self.store.put("object", kind.name, kind.whole())

    def _open(self, *names: str) -> None:
        known = self.store.get("schema", "born_open") or []
        self.store.put("schema", "born_open", [*known, *names])
