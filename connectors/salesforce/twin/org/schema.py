"""The objects and fields of the org, read from describe documents, which stay the one place where they are written."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from connectors.salesforce.twin.org.documents import LONG_TEXT, Document
from connectors.salesforce.twin.org.standard import TOOLING, standard_objects

NAME_PARTS = ("FirstName", "LastName")
COMPOUND = frozenset({"address", "location"})


@dataclass(frozen=True, slots=True)
class Field:
    """One field. `document` is what describe answers; the rest is read from it."""

    document: Document
    name: str
    type: str
    length: int
    nillable: bool
    createable: bool
    updateable: bool
    defaulted: bool
    references: tuple[str, ...]
    relationship: str | None
    picklist: frozenset[str] | None
    """The values that are taken; None where any text is."""
    unique: bool
    external: bool
    formula: str | None
    person_name: bool
    """Name of a person: put together from its parts, and stored nowhere."""

    @classmethod
    def of(cls, document: Mapping[str, Any], *, parts: Iterable[str] = ()) -> Field:
        """The field that a describe document tells; `parts` are the names of the object's fields."""
        get = document.get
        values = frozenset(each["value"] for each in get("picklistValues") or () if each["active"])
        return cls(
            document=dict(document),
            name=document["name"],
            type=document["type"],
            length=get("length") or 0,
            nillable=bool(get("nillable", True)),
            createable=bool(get("createable")),
            updateable=bool(get("updateable")),
            defaulted=bool(get("defaultedOnCreate")) or get("defaultValue") is not None,
            references=tuple(get("referenceTo") or ()),
            relationship=get("relationshipName"),
            picklist=values if get("restrictedPicklist") and values else None,
            unique=bool(get("unique")),
            external=bool(get("externalId")),
            formula=get("calculatedFormula") if get("calculated") else None,
            person_name=document["name"] == "Name" and set(NAME_PARTS) <= set(parts),
        )

    @property
    def stored(self) -> bool:
        """Whether records have a column for it: what is computed or put together has none."""
        return self.type not in COMPOUND and self.formula is None and not self.person_name

    @property
    def long_text(self) -> bool:
        """Whether it is a text too long to filter by."""
        return self.type == "textarea" and self.length > LONG_TEXT

    @property
    def required(self) -> bool:
        """Whether a new record needs a value for it."""
        return self.createable and not self.nillable and not self.defaulted and self.type != "boolean"


@dataclass(slots=True)
class ObjectType:
    """One object. Names are looked up without regard to case, as Salesforce does."""

    document: Document
    """Describe without the fields."""
    fields: dict[str, Field] = field(default_factory=dict)
    """By name in small letters, in the order of describe."""

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> ObjectType:
        """The object that a whole describe document tells."""
        names = [each["name"] for each in document["fields"]]
        about = {name: value for name, value in document.items() if name != "fields"}
        fields = {each["name"].lower(): Field.of(each, parts=names) for each in document["fields"]}
        return cls(about, fields)

    @property
    def name(self) -> str:
        """The API name."""
        return str(self.document["name"])

    @property
    def prefix(self) -> str:
        """The first three characters of its records' ids."""
        return str(self.document["keyPrefix"])

    @property
    def tooling(self) -> bool:
        """Whether the Tooling API alone shows it."""
        return self.name in TOOLING

    def field(self, name: str) -> Field | None:
        """The field of that name."""
        return self.fields.get(name.lower())

    def relation(self, name: str) -> Field | None:
        """The reference whose relationship has that name, such as `Account` for AccountId."""
        wanted = name.lower()
        return next((each for each in self if each.relationship and each.relationship.lower() == wanted), None)

    def parts_of(self, compound: str) -> list[Field]:
        """The fields that a compound field is made of."""
        return [each for each in self if each.document.get("compoundFieldName") == compound and each.name != compound]

    def __iter__(self) -> Iterator[Field]:
        return iter(self.fields.values())

    def whole(self) -> Document:
        """The describe document with its fields."""
        return {**self.document, "fields": [each.document for each in self]}


class Schema:
    """All objects of the org. `version` moves with every change."""

    def __init__(self, documents: Iterable[Mapping[str, Any]]) -> None:
        self.objects = {each["name"].lower(): ObjectType.of(each) for each in documents}
        self.version = 0

    def get(self, name: str) -> ObjectType | None:
        """The object of that name."""
        return self.objects.get(name.lower())

    def by_prefix(self, prefix: str) -> ObjectType | None:
        """The object whose records' ids begin so."""
        return next((each for each in self if each.document.get("keyPrefix") == prefix), None)

    def put_field(self, object_name: str, document: Mapping[str, Any]) -> Field:
        """Adds a field, or changes the one of that name."""
        target = self.objects[object_name.lower()]
        made = Field.of(document, parts=[each.name for each in target])
        target.fields[made.name.lower()] = made
        self.version += 1
        return made

    def drop_field(self, object_name: str, name: str) -> None:
        """Takes a field away."""
        del self.objects[object_name.lower()].fields[name.lower()]
        self.version += 1

    def children(self, name: str) -> Iterator[tuple[ObjectType, Field]]:
        """Every object and field that refers to records of this object."""
        for each in self:
            for one in each:
                if name in one.references:
                    yield each, one

    def __iter__(self) -> Iterator[ObjectType]:
        return iter(self.objects.values())


def first_documents(contracts: Path | None) -> list[Document]:
    """The objects of a new org: the compact ones, and in their place those recorded in `contracts`, where given.

    `contracts` is a folder whose `describe/` has one `Name.describe.json` each.
    """
    made = {each["name"]: each for each in standard_objects()}
    for path in sorted((contracts / "describe").glob("*.describe.json")) if contracts else ():
        recorded = json.loads(path.read_text(encoding="utf-8"))
        made[recorded["name"]] = recorded
    return list(made.values())
