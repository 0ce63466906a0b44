"""Makes the score fields and a permission set that shows them to the login, and nothing that stands already."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from connectors.salesforce import soql
from connectors.salesforce.client import Client
from connectors.salesforce.rights import LABEL, PERMISSION_SET, name_of
from connectors.salesforce.schema import entities
from hub.sdk import Field, FieldType, RejectedError, UnexpectedError

ENDING = "__c"
NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,37}[A-Za-z0-9]__c", re.ASCII)
LONGEST_TEXT = 255
MOST_DIGITS = 18
WHAT = "make fields"
STANDS = "DUPLICATE_DEVELOPER_NAME"


class SalesforceProvisioner:
    """The provisioner role over one client; the login needs Customize Application and Manage Permission Sets."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def provision(self, entity: str, fields: Sequence[Field]) -> None:
        """Makes the missing fields, and grants all to this login. RejectedError where one stands with another type."""
        known = {each.name: each for each in entities(self._client, [entity], paths=False)}
        if entity not in known:
            raise UnexpectedError(f"there is no object {entity} that this login may see")
        made = {each.name: metadata(each) for each in fields}
        standing = self._standing(entity)
        there = known[entity].by_name
        for field in fields:  # all of them before the first is made
            if field.name in there:
                _check(entity, there[field.name], field)
        for field in fields:
            if field.name not in there and field.name.removesuffix(ENDING) not in standing:
                self._make({"FullName": f"{entity}.{field.name}", "Metadata": made[field.name]})
        self._grant(entity, [each.name for each in fields])

    def granted(self, entity: str, fields: Sequence[Field]) -> str:
        """The permission set, what it allows, and the login that it is assigned to."""
        names = ", ".join(each.name for each in fields)
        who = name_of(self._client, self._client.identity(named=True))
        return f"permission set {PERMISSION_SET}, assigned to {who}: read and edit {entity}, and of it {names}"

    def _make(self, body: Mapping[str, Any]) -> None:
        """One field; one that stands, and that neither describe nor the list of custom fields told, is left alone."""
        try:
            self._client.call("POST", "tooling/sobjects/CustomField", WHAT, body=body, repeatable=False)
        except UnexpectedError as error:
            if not (error.detail or "").endswith(STANDS):
                raise

    def _standing(self, entity: str) -> set[str]:
        """The custom fields of an object, those that this login cannot see with them."""
        asked = soql.query("CustomField", ["DeveloperName"], [soql.equal("TableEnumOrId", entity)])
        told = self._client.call("GET", "tooling/query", WHAT, params={"q": asked})
        return {each["DeveloperName"] for each in told["records"]}

    def _grant(self, entity: str, names: Sequence[str]) -> None:
        owner = self._found("PermissionSet", {"Name": PERMISSION_SET}, {"Label": LABEL})
        rights = {"PermissionsRead": True, "PermissionsEdit": True}
        self._found("ObjectPermissions", {"ParentId": owner, "SobjectType": entity}, rights)
        for name in names:
            field = {"ParentId": owner, "SobjectType": entity, "Field": f"{entity}.{name}"}
            self._found("FieldPermissions", field, rights)
        self._found("PermissionSetAssignment", {"PermissionSetId": owner, "AssigneeId": self._me()}, {})

    def _me(self) -> str:
        return str(self._client.identity()["user_id"])

    def _found(self, entity: str, key: Mapping[str, str], values: Mapping[str, Any]) -> str:
        """The id of the record with this key, made where there is none; rights that it lacks are given to it."""
        asked = soql.query(entity, ["Id", *values], [soql.equal(*each) for each in key.items()])
        for found in self._client.query(asked)["records"]:
            lacking = {name: True for name, value in values.items() if value is True and not found[name]}
            if lacking:
                self._client.call("PATCH", f"sobjects/{entity}/{found['Id']}", WHAT, body=lacking, repeatable=True)
            return str(found["Id"])
        body = {**key, **values}
        return str(self._client.call("POST", f"sobjects/{entity}", WHAT, body=body, repeatable=False)["id"])


def metadata(field: Field) -> dict[str, Any]:
    """The Metadata API's words for a field. RejectedError for a name or type that no custom field can have."""
    if not NAME.fullmatch(field.name) or "__" in field.name.removesuffix(ENDING):
        raise RejectedError(
            f"{field.name} is no name of a custom field: letters, digits and single _, ending in {ENDING}",
            field=field.name,
        )
    made: dict[str, Any] = {"label": field.title or field.name.removesuffix(ENDING).replace("_", " ")}
    if field.type is FieldType.TEXT:
        length = field.length or LONGEST_TEXT
        if length <= LONGEST_TEXT:
            return {**made, "type": "Text", "length": length}
        return {**made, "type": "LongTextArea", "length": length, "visibleLines": 3}
    if field.type in _NUMBERS:
        return {**made, "type": "Number", **_digits(field)}
    kind = _KINDS.get(field.type)
    if kind is None:
        raise RejectedError(f"{field.name}: Salesforce has no field of type {field.type.value}", field=field.name)
    return {**made, "type": kind, **({"defaultValue": "false"} if kind == "Checkbox" else {})}


_NUMBERS = frozenset({FieldType.INTEGER, FieldType.DECIMAL, FieldType.REAL})
_KINDS: Mapping[FieldType, str] = {
    FieldType.BOOLEAN: "Checkbox",
    FieldType.DATE: "Date",
    FieldType.INSTANT: "DateTime",
    FieldType.TIME: "Time",
}


def _digits(field: Field) -> dict[str, int]:
    if field.type is FieldType.INTEGER:
        return {"precision": MOST_DIGITS, "scale": 0}
    if field.type is FieldType.REAL:
        return {"precision": MOST_DIGITS, "scale": 9}
    precision, scale = field.precision or MOST_DIGITS, field.scale or 0
    if precision > MOST_DIGITS:
        raise RejectedError(f"{field.name}: a number has at most {MOST_DIGITS} digits", field=field.name)
    return {"precision": precision, "scale": scale}


def _check(entity: str, standing: Field, wanted: Field) -> None:
    """A field that stands is left alone where it can hold what is to be written."""
    numbers = standing.type in _NUMBERS and wanted.type in _NUMBERS
    same = standing.type is wanted.type or numbers
    short = standing.length is not None and wanted.length is not None and standing.length < wanted.length
    if not same or short:
        raise RejectedError(
            f"{entity}.{wanted.name} stands with type {standing.type.value}"
            f"{f'({standing.length})' if standing.length else ''}; {wanted.type.value}"
            f"{f'({wanted.length})' if wanted.length else ''} is needed: rename the field or alter it",
            field=wanted.name,
        )
