"""From Salesforce's describe to entities: types, lengths, picklists, what may be read, filtered and written."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from connectors.salesforce.client import Client
from connectors.salesforce.problems import raised
from hub.sdk import Alternate, Entity, Field, FieldType, Mode, Operator, UnexpectedError

KEY_FIELD = "Id"
STAMPS = ("SystemModstamp", "LastModifiedDate")
"""Fields that move with every change. `CreatedDate` never moves, so that it tells of new records alone."""
PARENTS = ("AccountId", "ParentId", "WhoId", "OpportunityId", "CaseId")
"""Fields of standard objects whose target is locked when their record is written."""
MOST_DESCRIBED = 25
"""Objects described by one composite call, which counts as one; of a composite batch each part would count."""
UNSEEN = frozenset({403, 404})
LONGEST_FILTERED = 255

_TYPES: Mapping[str, FieldType] = {
    "id": FieldType.TEXT,
    "reference": FieldType.TEXT,
    "string": FieldType.TEXT,
    "picklist": FieldType.TEXT,
    "multipicklist": FieldType.TEXT,
    "combobox": FieldType.TEXT,
    "textarea": FieldType.TEXT,
    "phone": FieldType.TEXT,
    "url": FieldType.TEXT,
    "email": FieldType.TEXT,
    "encryptedstring": FieldType.TEXT,
    "boolean": FieldType.BOOLEAN,
    "int": FieldType.INTEGER,
    "long": FieldType.INTEGER,
    "double": FieldType.DECIMAL,
    "currency": FieldType.DECIMAL,
    "percent": FieldType.DECIMAL,
    "date": FieldType.DATE,
    "datetime": FieldType.INSTANT,
    "time": FieldType.TIME,
}
"""Compound fields (address, location) are shown by their parts; base64 is an address to fetch, so it is not shown."""

_NULLS = frozenset({Operator.IS_NULL, Operator.NOT_NULL})
_ORDERED = frozenset(Operator)
# Texts are compared without regard to case and in the org's own order: only what finds too much may be asked.
_TEXTS = _NULLS | {Operator.EQ, Operator.IN}
_IDS = _NULLS | {Operator.EQ, Operator.IN, Operator.NE, Operator.NOT_IN}


def entities(client: Client, names: Iterable[str] | None, *, paths: bool = True) -> list[Entity]:
    """The objects named, or all that this connection shows; with `paths`, their parents' fields as `Parent.Field`.

    An object that the login may not see is absent, as is each field that field-level security hides.
    """
    wanted = sorted({*names}) if names is not None else _shown(client)
    told = describe(client, wanted)
    parents = {each for one in told.values() for each in parents_of(one).values()} - {*told}
    around = told | describe(client, sorted(parents)) if paths else {}
    return [_entity(told[name], around) for name in wanted if name in told]


def describe(client: Client, names: Sequence[str]) -> dict[str, Mapping[str, Any]]:
    """The describe of each object that the login may see."""
    found: dict[str, Mapping[str, Any]] = {}
    root = f"/services/data/v{client.config.api_version}"
    for start in range(0, len(names), MOST_DESCRIBED):
        part = names[start : start + MOST_DESCRIBED]
        asked = [
            {"method": "GET", "url": f"{root}/sobjects/{each}/describe", "referenceId": f"part{number}"}
            for number, each in enumerate(part)
        ]
        body = {"allOrNone": False, "compositeRequest": asked}
        told = client.call("POST", "composite", "describe objects", body=body, repeatable=True)
        for name, each in zip(part, told["compositeResponse"], strict=True):
            if each["httpStatusCode"] == 200:
                found[name] = each["body"]
            elif each["httpStatusCode"] not in UNSEEN:
                raise raised(each["httpStatusCode"], each["body"], f"describe {name}")
    return found


def _shown(client: Client) -> list[str]:
    if client.config.objects:
        return sorted(client.config.objects)
    told = client.call("GET", "sobjects", "list objects")
    return sorted(each["name"] for each in told["sobjects"] if each["queryable"] and not each["deprecatedAndHidden"])


def parents_of(described: Mapping[str, Any]) -> dict[str, str]:
    """Relationship name → the one object it leads to; an owner may be a user or a queue, so it has no fields here."""
    return {
        each["relationshipName"]: each["referenceTo"][0]
        for each in described["fields"]
        if each["relationshipName"] and len(each["referenceTo"]) == 1
    }


def _entity(described: Mapping[str, Any], around: Mapping[str, Mapping[str, Any]]) -> Entity:
    own = [_field(each) for each in described["fields"] if each["type"] in _TYPES]
    paths = [
        replace(field, name=f"{path}.{field.name}", writable=False, nullable=True, required=False, derived=True)
        for path, parent in sorted(parents_of(described).items())
        if parent in around
        for field in (_field(each) for each in around[parent]["fields"] if each["type"] in _TYPES)
    ]
    sortable = {each["name"] for each in described["fields"] if each["filterable"] and each["sortable"]}
    return Entity(
        name=described["name"],
        fields=(*own, *paths),
        key=(KEY_FIELD,) if any(each.name == KEY_FIELD for each in own) else (),
        title=described.get("label") or "",
        # Formula fields and roll-ups move without any of these.
        changed_by=tuple(each for each in STAMPS if each in sortable),
        modes=frozenset({Mode.UPDATE}) if described["updateable"] else frozenset(),
        conditional=False,
        alternates=tuple(_alternates(described)),
    )


def _alternates(described: Mapping[str, Any]) -> Iterator[Alternate]:
    """Unique external ids of text. One that is not unique could name two records, and be made twice by two callers."""
    if not described["updateable"]:
        return
    for each in described["fields"]:
        if each["externalId"] and each["unique"] and each["filterable"] and each["type"] in {"string", "email"}:
            makes = described["createable"] and each["createable"]
            yield Alternate(each["name"], frozenset(Mode) if makes else frozenset({Mode.UPDATE}))


def is_id(field: Field) -> bool:
    """Whether a field holds ids of records, which are asked for in two forms."""
    return field.operators == _IDS


def _field(described: Mapping[str, Any]) -> Field:
    kind = _TYPES[described["type"]]
    made = Field(
        name=described["name"],
        type=kind,
        nullable=bool(described["nillable"]),
        writable=bool(described["updateable"]),
        title=described.get("label") or "",
        length=int(described["length"]) or None if kind is FieldType.TEXT else None,
        values=_values(described),
        operators=_operators(described, kind),
        required=bool(described["createable"] and not described["nillable"] and not described["defaultedOnCreate"]),
        derived=bool(described["calculated"]),
    )
    if kind is not FieldType.DECIMAL:
        return made
    if described["calculated"]:
        return replace(made, type=FieldType.REAL)  # a formula's value is not rounded to what describe says
    if described["type"] == "double" and not int(described["scale"]):
        return replace(made, type=FieldType.INTEGER)  # a Number without decimals; custom fields have no other integers
    return replace(made, precision=int(described["precision"]), scale=int(described["scale"]))


def _values(described: Mapping[str, Any]) -> tuple[str, ...]:
    if not described.get("restrictedPicklist"):
        return ()
    return tuple(each["value"] for each in described.get("picklistValues") or () if each["active"])


def _operators(described: Mapping[str, Any], kind: FieldType) -> frozenset[Operator]:
    if not described["filterable"]:
        return frozenset()
    if described["type"] in {"id", "reference"}:
        return _IDS
    if described["type"] in {"multipicklist", "time"}:
        return _NULLS
    if kind is FieldType.TEXT:
        return _TEXTS if int(described["length"]) <= LONGEST_FILTERED else frozenset()
    return _NULLS | {Operator.EQ, Operator.NE} if kind is FieldType.BOOLEAN else _ORDERED


def entity_of(found: Sequence[Entity], name: str) -> Entity:
    """One of the entities described. UnexpectedError where the object has gone from the login's sight."""
    for each in found:
        if each.name == name:
            return each
    raise UnexpectedError(f"there is no object {name} that this login may see")


def parent_of(entity: Entity) -> str | None:
    """The field that names the record which a write to this one locks too: of a master, or of an account."""
    return next((each for each in PARENTS if each in entity.by_name), None)
