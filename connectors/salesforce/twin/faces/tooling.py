"""The Tooling API as provisioning needs it: custom fields made, read, changed and taken away."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from connectors.salesforce.twin.faces.call import Answer, Call, Route, route
from connectors.salesforce.twin.org.documents import Document, field_document, picklist_values
from connectors.salesforce.twin.org.ids import whole_id
from connectors.salesforce.twin.org.problems import RefusedError, not_found

_NAME = re.compile(r"(\w+)\.([A-Za-z](?:\w*[A-Za-z0-9])?)__c")
_TYPES = {
    "Checkbox": "boolean",
    "Currency": "currency",
    "Date": "date",
    "DateTime": "datetime",
    "Email": "email",
    "LongTextArea": "textarea",
    "Number": "double",
    "Percent": "percent",
    "Phone": "phone",
    "Picklist": "picklist",
    "Text": "string",
    "TextArea": "textarea",
    "Url": "url",
}
"""Describe types by the types of the Metadata API."""
_LENGTHS = {"TextArea": 255, "Email": 80, "Phone": 40, "Url": 255}


def routes() -> list[Route]:
    """Custom fields."""
    of = "services/data/v{version}/tooling/sobjects/CustomField"
    return [
        route("POST", of, create, "tooling.create"),
        route("GET", f"{of}/{{id}}", read, "tooling.read"),
        route("PATCH", f"{of}/{{id}}", update, "tooling.update"),
        route("DELETE", f"{of}/{{id}}", delete, "tooling.delete"),
    ]


def create(call: Call) -> Answer:
    """POST …/tooling/sobjects/CustomField. The new field is seen by nobody until a permission set grants it."""
    _administrator(call)
    given = call.json_object()
    entity, name = _names(str(given.get("FullName", "")))
    kind = call.site.org.schema.get(entity)
    if kind is None:
        words = f"Entity Enumeration Or ID: bad value for restricted picklist field: {entity}"
        raise RefusedError("INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST", words, fields=["TableEnumOrId"])
    if kind.field(f"{name}__c"):
        words = f"There is already a field named {name} on {kind.name}."
        raise RefusedError("DUPLICATE_DEVELOPER_NAME", words, fields=["DeveloperName"])
    metadata = given.get("Metadata")
    if not isinstance(metadata, dict):
        raise RefusedError("REQUIRED_FIELD_MISSING", "Required fields are missing: [Metadata]", fields=["Metadata"])
    made = call.site.org.add_field(kind.name, document_of(f"{name}__c", metadata), open_to_all=False)
    record = _record(call, kind.name, made.name)
    return Answer({"id": record, "success": True, "errors": [], "warnings": [], "infos": []}, 201)


def read(call: Call) -> Answer:
    """GET …/tooling/sobjects/CustomField/00N…"""
    stored = _stored(call)
    url = f"{call.root()}/tooling/sobjects/CustomField/{stored['Id']}"
    entity, name = stored["FullName"].split(".")
    field = call.site.org.schema.objects[entity.lower()].field(name)
    metadata = metadata_of(field.document) if field else None
    shown = {key: stored[key] for key in ("Id", "TableEnumOrId", "DeveloperName", "NamespacePrefix", "FullName")}
    return Answer({"attributes": {"type": "CustomField", "url": url}, **shown, "Metadata": metadata})


def update(call: Call) -> Answer:
    """PATCH …/tooling/sobjects/CustomField/00N… with new Metadata."""
    _administrator(call)
    stored = _stored(call)
    metadata = call.json_object().get("Metadata")
    if not isinstance(metadata, dict):
        raise RefusedError("REQUIRED_FIELD_MISSING", "Required fields are missing: [Metadata]", fields=["Metadata"])
    entity, name = stored["FullName"].split(".")
    document = document_of(name, metadata)
    before = call.site.org.schema.objects[entity.lower()].fields[name.lower()]
    if document["type"] != before.type:
        raise RefusedError(
            "FIELD_INTEGRITY_EXCEPTION", f"Cannot change field type from {before.type} to {document['type']}"
        )
    call.site.org.change_field(entity, name, **document)
    return Answer(status=204)


def delete(call: Call) -> Answer:
    """DELETE …/tooling/sobjects/CustomField/00N…"""
    _administrator(call)
    stored = _stored(call)
    entity, name = stored["FullName"].split(".")
    org = call.site.org
    org.drop_field(entity, name)
    with org.store.writing() as unit:
        org.store.change_rows(unit, org.schema.objects["customfield"], [{"Id": stored["Id"], "IsDeleted": 1}])
    return Answer(status=204)


def document_of(name: str, metadata: Mapping[str, Any]) -> Document:
    """The describe document of a field that Metadata describes. RefusedError as Salesforce refuses what is missing."""
    told = str(metadata.get("type", ""))
    kind = _TYPES.get(told)
    if kind is None:
        raise RefusedError("INVALID_FIELD", f"Cannot deserialize instance of fieldType from VALUE_STRING value {told}")
    label = metadata.get("label")
    if not label:
        raise RefusedError("FIELD_INTEGRITY_EXCEPTION", "Custom field requires a label", fields=["Label"])
    made: dict[str, Any] = {"label": label, "inlineHelpText": metadata.get("inlineHelpText"), **_size(told, metadata)}
    made["nillable"] = not metadata.get("required", False)
    if metadata.get("externalId"):
        made.update(externalId=True, idLookup=True)
    if metadata.get("unique"):
        made.update(unique=True, caseSensitive=bool(metadata.get("caseSensitive")))
    if kind == "picklist":
        made.update(_values(metadata))
    if metadata.get("formula"):
        made.update(calculated=True, calculatedFormula=metadata["formula"], createable=False, updateable=False)
    if kind == "boolean":
        made["nillable"] = False
    document = field_document(name, kind, **made)
    return {**document, "permissionable": not metadata.get("required", False)}


def metadata_of(document: Mapping[str, Any]) -> dict[str, Any]:
    """The Metadata that a field's describe document comes from."""
    told = {value: name for name, value in reversed(_TYPES.items())}[document["type"]]
    if document["type"] == "textarea":
        told = "TextArea" if document["length"] <= _LENGTHS["TextArea"] else "LongTextArea"
    made = {"type": told, "label": document["label"], "required": not document["nillable"] and told != "Checkbox"}
    if told in {"Number", "Currency", "Percent"}:
        return {**made, "precision": document["precision"], "scale": document["scale"]}
    if told in {"Text", "LongTextArea"}:
        return {**made, "length": document["length"]}
    return made


def _size(told: str, metadata: Mapping[str, Any]) -> dict[str, Any]:
    if told in {"Number", "Currency", "Percent"}:
        precision, scale = metadata.get("precision"), metadata.get("scale")
        if not isinstance(precision, int) or not isinstance(scale, int):
            raise RefusedError("FIELD_INTEGRITY_EXCEPTION", "Must specify precision and scale", fields=["Precision"])
        if not 0 < precision <= 18 or not 0 <= scale <= precision:
            raise RefusedError("FIELD_INTEGRITY_EXCEPTION", "Precision must be between 1 and 18", fields=["Precision"])
        return {"precision": precision, "scale": scale}
    if told in {"Text", "LongTextArea"}:
        length, most = metadata.get("length"), 255 if told == "Text" else 131_072
        if not isinstance(length, int) or not (1 if told == "Text" else 256) <= length <= most:
            raise RefusedError("FIELD_INTEGRITY_EXCEPTION", f"Length must be between 1 and {most}", fields=["Length"])
        return {"length": length}
    if told == "Checkbox":
        if "defaultValue" not in metadata:
            raise RefusedError("FIELD_INTEGRITY_EXCEPTION", "Must specify a default value", fields=["DefaultValue"])
        return {"defaultValue": str(metadata["defaultValue"]).lower() == "true"}
    return {"length": _LENGTHS[told]} if told in _LENGTHS else {}


def _values(metadata: Mapping[str, Any]) -> dict[str, Any]:
    told = (metadata.get("valueSet") or {}).get("valueSetDefinition") or {}
    values = [str(each.get("fullName") or each.get("valueName")) for each in told.get("value") or ()]
    if not values:
        raise RefusedError("FIELD_INTEGRITY_EXCEPTION", "A picklist needs a value set", fields=["ValueSet"])
    restricted = bool((metadata.get("valueSet") or {}).get("restricted"))
    return {"picklistValues": picklist_values(values), "restrictedPicklist": restricted}


def _names(text: str) -> tuple[str, str]:
    found = _NAME.fullmatch(text)
    if found is None or "__" in found[2] or len(found[2]) > 40:
        words = "The Field API Name takes letters, digits and single underscores, and ends with __c"
        raise RefusedError("INVALID_INPUT", words, fields=["FullName"])
    return found[1], found[2]


def _record(call: Call, entity: str, name: str) -> str:
    org = call.site.org
    kind = org.schema.objects["customfield"]
    made = org.store.new_ids(kind.prefix, 1)[0]
    values = {"TableEnumOrId": entity, "DeveloperName": name.removesuffix("__c"), "FullName": f"{entity}.{name}"}
    with org.store.writing() as unit:
        plain = org.new_record(kind, call.user, org.clock.stamp())
        org.store.add_rows(unit, kind, [{**plain, **values, "Id": made}])
    return made


def _stored(call: Call) -> dict[str, Any]:
    org = call.site.org
    name = whole_id(call.names["id"])
    stored = org.store.rows(org.schema.objects["customfield"], [name or ""]).get(name or "")
    if stored is None or stored["IsDeleted"]:
        raise not_found()
    return stored


def _administrator(call: Call) -> None:
    if not call.site.org.access.of(call.user).administrator:
        raise RefusedError("INSUFFICIENT_ACCESS", "insufficient access rights on entity: CustomField")
