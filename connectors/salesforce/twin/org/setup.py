"""What the org's own set-up refuses: permissions on objects and fields that are not there, or granted twice."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import select

from connectors.salesforce.twin.org.intake import Row
from connectors.salesforce.twin.org.problems import Problem
from connectors.salesforce.twin.org.schema import ObjectType

if TYPE_CHECKING:
    from connectors.salesforce.twin.org.org import Org

_KEYS = {
    "FieldPermissions": ("ParentId", "Field"),
    "ObjectPermissions": ("ParentId", "SobjectType"),
    "PermissionSetAssignment": ("PermissionSetId", "AssigneeId"),
}


def setup_problem(org: Org, kind: ObjectType, row: Row) -> Problem | None:
    """Why a record of the set-up must not be written; None where it may."""
    if not row.creates or kind.name not in _KEYS:
        return None
    wrong = _wrong_target(org, kind.name, row)
    if wrong:
        return wrong
    table = org.store.table(kind)
    same = [table.c[name] == row.values.get(name) for name in _KEYS[kind.name]]
    with org.store.reading() as connection:
        there = connection.execute(select(table.c.Id).where(*same, table.c.IsDeleted == 0)).scalar()
    if there:
        return Problem(
            "DUPLICATE_VALUE", f"duplicate value found: <unknown> duplicates value on record with id: {there}"
        )
    return None


def _wrong_target(org: Org, name: str, row: Row) -> Problem | None:
    if name == "PermissionSetAssignment":
        return None
    target = org.schema.get(str(row.values.get("SobjectType")))
    if target is None:
        words = f"bad value for restricted picklist field: {row.values.get('SobjectType')}"
        return Problem("INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST", f"Sobject Type Name: {words}", ("SobjectType",))
    if name == "ObjectPermissions":
        needs_read = any(row.values.get(f"Permissions{each}") for each in ("Create", "Edit", "Delete"))
        if needs_read and not row.values.get("PermissionsRead"):
            words = "Permission Read depends on permission(s): Create, Edit, Delete"
            return Problem("FIELD_INTEGRITY_EXCEPTION", words, ("PermissionsRead",))
        return None
    entity, _, field_name = str(row.values.get("Field")).partition(".")
    one = target.field(field_name) if entity == target.name else None
    if one is None or not one.document.get("permissionable", True):
        words = f"Field Name: bad value for restricted picklist field: {row.values.get('Field')}"
        return Problem("INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST", words, ("Field",))
    return None
