"""Which rights the login holds, object by object and field by field, and what to ask an administrator for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from xml.sax.saxutils import escape

from connectors.salesforce.client import Client
from hub.sdk import CheckReport, Entity, Grant, Mode, RightStatus

PERMISSION_SET = "Hub_Scores"
LABEL = "Hub Scores"


def check(client: Client, known: Iterable[Entity]) -> CheckReport:
    """Logs in and tells who we are, what may be read and edited, and how many calls are left."""
    who = client.identity()
    rights = [RightStatus("api", granted=True)]
    for entity in known:
        rights.append(RightStatus("read", granted=True, subject=entity.name))
        rights.append(RightStatus("update", granted=Mode.UPDATE in entity.modes, subject=entity.name))
        # A field that cannot be written may be the system's own: the mapping's check says so of those it writes.
        rights += [
            RightStatus("update", granted=True, subject=f"{entity.name}.{each.name}")
            for each in entity.fields
            if each.writable
        ]
    budget = client.budget()
    reserve = 0 if budget is None else budget.most * client.config.reserve_percent // 100
    left = None if budget is None else max(0, budget.left - reserve)
    identity = who.get("preferred_username") or who.get("name") or client.config.host
    return CheckReport(str(identity), f"Salesforce {who.get('organization_id', '')}".strip(), tuple(rights), left)


def plan(grant: Grant, known: Mapping[str, Entity]) -> str:
    """A permission set of the least rights, as a deployable metadata file, and how to put it to use."""
    lines = [
        "<!-- The least rights of this mapping. Give the integration user a licence of Minimum Access - API Only,",
        f"     deploy this as permissionsets/{PERMISSION_SET}.permissionset-meta.xml, and assign it to that user. -->",
        '<PermissionSet xmlns="http://soap.sforce.com/2006/04/metadata">',
        f"    <label>{LABEL}</label>",
    ]
    names = sorted({*grant.reads, *grant.writes})
    for entity in names:
        written = grant.writes.get(entity, frozenset())
        for field in sorted(grant.reads.get(entity, frozenset()) | written):
            lines += _field(entity, field, known, editable=field in written)
    for entity in names:
        lines += _object(entity, editable=bool(grant.writes.get(entity)))
    return "\n".join([*lines, "</PermissionSet>"])


def _field(entity: str, field: str, known: Mapping[str, Entity], *, editable: bool) -> list[str]:
    """Field-level security, which fields that every record must have do not take."""
    path, _, name = field.rpartition(".")
    described = known[entity].by_name.get(field) if entity in known else None
    if field in {"Id", "IsDeleted", "SystemModstamp"} or (
        described is not None and not described.nullable and not path
    ):
        return []
    owner = path or entity
    return [
        "    <fieldPermissions>",
        f"        <editable>{str(editable).lower()}</editable>",
        f"        <field>{escape(owner)}.{escape(name)}</field>",
        "        <readable>true</readable>",
        "    </fieldPermissions>",
    ]


def _object(entity: str, *, editable: bool) -> list[str]:
    return [
        "    <objectPermissions>",
        "        <allowCreate>false</allowCreate>",
        "        <allowDelete>false</allowDelete>",
        f"        <allowEdit>{str(editable).lower()}</allowEdit>",
        "        <allowRead>true</allowRead>",
        "        <modifyAllRecords>false</modifyAllRecords>",
        f"        <object>{escape(entity)}</object>",
        "        <viewAllRecords>true</viewAllRecords>",
        "    </objectPermissions>",
    ]
