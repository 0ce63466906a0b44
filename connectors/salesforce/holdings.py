"""What the login holds in the org beyond a grant, and what it lacks: by describe, profile and permission sets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from connectors.salesforce import soql
from connectors.salesforce.client import Client
from connectors.salesforce.schema import describe, entities, parents_of
from hub.sdk import ConnectorError, Grant, Mode, RightsReport, UnavailableError

SETUP = "profile and permission sets, which this login may not see: an administrator has to look"
WIDE: Mapping[str, str] = {
    "PermissionsModifyAllData": "Modify All Data",
    "PermissionsViewAllData": "View All Data",
    "PermissionsCustomizeApplication": "Customize Application",
    "PermissionsModifyMetadata": "Modify Metadata Through Metadata API Functions",
    "PermissionsAuthorApex": "Author Apex",
    "PermissionsManageUsers": "Manage Users",
    "PermissionsManageProfilesPermissionsets": "Manage Profiles and Permission Sets",
    "PermissionsAssignPermissionSets": "Assign Permission Sets",
    "PermissionsDataExport": "Weekly Data Export",
}
"""Rights over the whole org, by the name of the field that tells of them."""
ACTIONS: Mapping[str, str] = {
    "PermissionsRead": "read",
    "PermissionsCreate": "create",
    "PermissionsEdit": "edit",
    "PermissionsDelete": "delete",
    "PermissionsModifyAllRecords": "modify all records of",
}


def verify(client: Client, grant: Grant) -> RightsReport:
    """Describes the objects of the grant and asks for the permission sets of this login."""
    who = client.identity()
    names = sorted({*grant.reads, *grant.writes})
    told = describe(client, names)
    seen = {each.name: {*each.by_name} for each in entities(client, names)}
    missing = [line for name in names for line in _missing(name, told.get(name), seen.get(name, set()), grant)]
    excess = [line for name in names if name in told for line in _excess(told[name], grant)]
    untold: tuple[str, ...] = ()
    try:
        excess += _assigned(client, str(who["user_id"]), {*names, *_behind(told, grant)})
    except UnavailableError:
        raise
    except ConnectorError as error:
        client.context.log.info("permission sets are not told", error=type(error).__name__, detail=error.detail)
        untold = (SETUP,)
    return RightsReport(str(who["user_id"]), tuple(missing), tuple(sorted(set(excess))), untold)


def _missing(name: str, described: Mapping[str, Any] | None, seen: set[str], grant: Grant) -> Iterator[str]:
    if described is None:
        yield f"read {name}"
        return
    written = grant.writes.get(name, frozenset())
    editable = {each["name"] for each in described["fields"] if each["updateable"]}
    yield from (f"read {name}.{each}" for each in sorted((grant.reads.get(name, frozenset()) | written) - seen))
    if written and not described["updateable"]:
        yield f"update {name}"
    yield from (f"update {name}.{each}" for each in sorted(written - editable))
    if _makes(name, grant) and not described["createable"]:
        yield f"create {name}"


def _excess(described: Mapping[str, Any], grant: Grant) -> Iterator[str]:
    """Where field-level security could say no and does not; what every record must have is always seen."""
    name, written = described["name"], grant.writes.get(described["name"], frozenset())
    for right, flag, needed in (
        ("delete", "deletable", False),
        ("create", "createable", _makes(name, grant)),
        ("edit", "updateable", bool(written)),
    ):
        if described[flag] and not needed:
            yield f"{right} {name}"
    touched = grant.reads.get(name, frozenset()) | written
    governed = [each for each in described["fields"] if each.get("permissionable")]
    for right, fields in (
        ("edit", [each["name"] for each in governed if each["updateable"] and each["name"] not in written]),
        ("read", [each["name"] for each in governed if each["name"] not in touched]),
    ):
        if fields:
            yield f"{right} fields of {name}: {', '.join(sorted(fields))}"


def _assigned(client: Client, user: str, needed: set[str]) -> Iterator[str]:
    """What the profile and the permission sets of a user allow in the whole org and on other objects."""
    asked = _rows(client, "PermissionSetAssignment", ["PermissionSetId"], "AssigneeId", [user])
    sets = [str(each["PermissionSetId"]) for each in asked]
    profiles = [str(each["ProfileId"]) for each in _rows(client, "User", ["ProfileId"], "Id", [user])]
    shown = describe(client, ["Profile", "PermissionSet"])
    for kind, ids in (("Profile", profiles), ("PermissionSet", sets)):
        fields = [each["name"] for each in shown[kind]["fields"] if each["name"] in WIDE] if kind in shown else []
        for row in _rows(client, kind, fields, "Id", ids) if fields else ():
            yield from (WIDE[each] for each in fields if row[each])
    for row in _rows(client, "ObjectPermissions", ["SobjectType", *ACTIONS], "ParentId", sets):
        for flag, action in ACTIONS.items():
            # Of the objects of the grant, describe tells what is too much; save for records that others own.
            if row[flag] and (row["SobjectType"] not in needed or flag == "PermissionsModifyAllRecords"):
                yield f"{action} {row['SobjectType']}"


def _behind(told: Mapping[str, Mapping[str, Any]], grant: Grant) -> Iterator[str]:
    """The objects whose fields are read by a path, as in `Parent.Field`."""
    for name, described in told.items():
        paths = {field.rpartition(".")[0] for field in grant.reads.get(name, ())} - {""}
        yield from (owner for path, owner in parents_of(described).items() if path in paths)


def _rows(
    client: Client, entity: str, fields: Sequence[str], by: str, values: Sequence[str]
) -> Sequence[Mapping[str, Any]]:
    """All records whose `by` is one of the values; a login has far fewer of them than one answer holds."""
    if not values:
        return ()
    found: Sequence[Mapping[str, Any]] = client.query(soql.query(entity, fields, [soql.one_of(by, values)]))["records"]
    return found


def _makes(name: str, grant: Grant) -> bool:
    return bool(grant.modes.get(name, frozenset()) & {Mode.CREATE, Mode.UPSERT})
