"""Describe documents: what Salesforce says of objects and fields, made whole from the little that sets one apart."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

Document = dict[str, Any]

SOAP_TYPES = {
    "address": "urn:address",
    "boolean": "xsd:boolean",
    "currency": "xsd:double",
    "date": "xsd:date",
    "datetime": "xsd:dateTime",
    "double": "xsd:double",
    "id": "tns:ID",
    "int": "xsd:int",
    "location": "urn:location",
    "percent": "xsd:double",
    "reference": "tns:ID",
}
"""Everything else is xsd:string."""

NUMBERS = frozenset({"currency", "double", "int", "percent"})
LONG_TEXT = 255
"""A text area above this many characters can be neither filtered nor sorted by."""

_FIELD: Document = {
    "aggregatable": True,
    "aiPredictionField": False,
    "autoNumber": False,
    "byteLength": 0,
    "calculated": False,
    "calculatedFormula": None,
    "cascadeDelete": False,
    "caseSensitive": False,
    "compoundFieldName": None,
    "controllerName": None,
    "createable": True,
    "custom": False,
    "defaultValue": None,
    "defaultValueFormula": None,
    "defaultedOnCreate": False,
    "dependentPicklist": False,
    "deprecatedAndHidden": False,
    "digits": 0,
    "displayLocationInDecimal": False,
    "encrypted": False,
    "externalId": False,
    "extraTypeInfo": None,
    "filterable": True,
    "filteredLookupInfo": None,
    "formulaTreatNullNumberAsZero": False,
    "groupable": True,
    "highScaleNumber": False,
    "htmlFormatted": False,
    "idLookup": False,
    "inlineHelpText": None,
    "label": "",
    "length": 0,
    "mask": None,
    "maskType": None,
    "name": "",
    "nameField": False,
    "namePointing": False,
    "nillable": True,
    "permissionable": True,
    "picklistValues": [],
    "polymorphicForeignKey": False,
    "precision": 0,
    "queryByDistance": False,
    "referenceTargetField": None,
    "referenceTo": [],
    "relationshipName": None,
    "relationshipOrder": None,
    "restrictedDelete": False,
    "restrictedPicklist": False,
    "scale": 0,
    "searchPrefilterable": False,
    "soapType": "xsd:string",
    "sortable": True,
    "type": "string",
    "unique": False,
    "updateable": True,
    "writeRequiresMasterRead": False,
}

_OBJECT: Document = {
    "actionOverrides": [],
    "activateable": False,
    "associateEntityType": None,
    "associateParentEntity": None,
    "childRelationships": [],
    "compactLayoutable": True,
    "createable": True,
    "custom": False,
    "customSetting": False,
    "deepCloneable": False,
    "defaultImplementation": None,
    "deletable": True,
    "deprecatedAndHidden": False,
    "extendedBy": None,
    "extendsInterfaces": None,
    "feedEnabled": True,
    "hasSubtypes": False,
    "implementedBy": None,
    "implementsInterfaces": None,
    "isInterface": False,
    "isSubtype": False,
    "layoutable": True,
    "listviewable": None,
    "lookupLayoutable": None,
    "mergeable": False,
    "mruEnabled": True,
    "namedLayoutInfos": [],
    "networkScopeFieldName": None,
    "queryable": True,
    "recordTypeInfos": [],
    "replicateable": True,
    "retrieveable": True,
    "searchLayoutable": True,
    "searchable": True,
    "sobjectDescribeOption": "FULL",
    "supportedScopes": [],
    "triggerable": True,
    "undeletable": True,
    "updateable": True,
}
_ONLY_WHOLE = frozenset(
    {
        "actionOverrides",
        "childRelationships",
        "compactLayoutable",
        "defaultImplementation",
        "extendedBy",
        "extendsInterfaces",
        "fields",
        "implementedBy",
        "implementsInterfaces",
        "listviewable",
        "lookupLayoutable",
        "namedLayoutInfos",
        "networkScopeFieldName",
        "recordTypeInfos",
        "searchLayoutable",
        "sobjectDescribeOption",
        "supportedScopes",
    }
)
"""What the describe of one object has and the list of all objects has not."""


def field_document(name: str, kind: str, **particulars: Any) -> Document:
    """The document of one field of describe type `kind`, as a whole; `particulars` are written over what follows."""
    made = {**_FIELD, "name": name, "label": name, "type": kind, "soapType": SOAP_TYPES.get(kind, "xsd:string")}
    made["custom"] = name.endswith("__c")
    length = int(particulars.get("length", 0))
    if kind in {"id", "reference"}:
        length = 18
    elif kind in {"picklist", "multipicklist"}:
        length = length or (255 if kind == "picklist" else 4099)
    made["length"] = length
    made["byteLength"] = length * 3 if made["soapType"] == "xsd:string" else length
    if kind == "address" or (kind == "textarea" and length > LONG_TEXT):
        made.update(sortable=False, groupable=False, aggregatable=False, filterable=kind == "address")
    if kind == "textarea":
        made["extraTypeInfo"] = "plaintextarea"
    if kind in {"currency", "double", "percent", "datetime"}:
        made["groupable"] = False
    if kind == "boolean":
        made.update(nillable=False, defaultValue=False, defaultedOnCreate=True, aggregatable=False)
    if kind in {"email", "id"}:
        made["idLookup"] = True
    made.update(particulars)
    if made["externalId"]:
        made["idLookup"] = True
    if not made["nillable"]:
        made["permissionable"] = False
    return made


def picklist_values(values: Iterable[str], default: str | None = None) -> list[Document]:
    """Picklist entries, all active."""
    return [
        {"active": True, "defaultValue": each == default, "label": each, "validFor": None, "value": each}
        for each in values
    ]


def object_document(name: str, prefix: str, label: str, plural: str, **particulars: Any) -> Document:
    """The document of one object without its fields."""
    return {
        **_OBJECT,
        "name": name,
        "keyPrefix": prefix,
        "label": label,
        "labelPlural": plural,
        "custom": name.endswith("__c"),
        **particulars,
    }


def listed(document: Mapping[str, Any]) -> Document:
    """An object as the list of all objects shows it: its own describe, less what is only in the whole."""
    return {name: value for name, value in {**_OBJECT, **document}.items() if name not in _ONLY_WHOLE}


def urls_of(name: str, version: str, *, whole: bool, site: str, prefix: str | None) -> dict[str, str]:
    """The addresses that a describe names, for one API version."""
    root = f"/services/data/v{version}/sobjects/{name}"
    made = {
        "compactLayouts": f"{root}/describe/compactLayouts",
        "rowTemplate": f"{root}/{{ID}}",
        "approvalLayouts": f"{root}/describe/approvalLayouts",
        "listviews": f"{root}/listviews",
        "describe": f"{root}/describe",
        "quickActions": f"{root}/quickActions",
        "layouts": f"{root}/describe/layouts",
        "sobject": root,
    }
    if whole:
        made["uiDetailTemplate"] = f"{site}/{{ID}}"
        made["uiEditTemplate"] = f"{site}/{{ID}}/e"
        made["uiNewRecord"] = f"{site}/{prefix}/e"
    return made
