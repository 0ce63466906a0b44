"""Which rights the login holds, object by object and field by field, and what to ask an administrator for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any
from xml.sax.saxutils import escape

from connectors.salesforce.client import Client
from hub.sdk import CheckReport, Entity, Grant, Mode, RightStatus

PERMISSION_SET = "Hub_Scores"
LABEL = "Hub Scores"


def name_of(client: Client, who: Mapping[str, Any]) -> str:
    """The login as people know it, as far as `Client.identity` was told."""
    told = (who.get("preferred_username"), who.get("name"), client.config.username, who.get("user_id"))
    return str(next((each for each in told if each), client.config.host))


def check(client: Client, known: Iterable[Entity], *, named: bool) -> CheckReport:
    """Logs in and tells who we are, what may be read and edited, and how many calls are left.

    Without `named` neither the login's own name nor `/limits` is asked for: a run needs its rights alone.
    """
    who = client.identity(named=named)
    if named:
        client.look_at_limits()
    rights = [RightStatus("api", granted=True)]
    for entity in known:
        rights.append(RightStatus("read", granted=True, subject=entity.name))
        rights.append(RightStatus("update", granted=Mode.UPDATE in entity.modes, subject=entity.name))
        if entity.alternates:  # without one no mapping can make records, whatever the right
            makes = any(Mode.CREATE in each.modes for each in entity.alternates)
            rights.append(RightStatus("create", granted=makes, subject=entity.name))
        # A field that cannot be written may be the system's own: the mapping's check says so of those it writes.
        rights += [
            RightStatus("update", granted=True, subject=f"{entity.name}.{each.name}")
            for each in entity.fields
            if each.writable
        ]
    budget = client.budget()
    left = None if budget is None else budget.free(client.config.reserve_percent)
    return CheckReport(
        name_of(client, who), f"Salesforce {who.get('organization_id', '')}".strip(), tuple(rights), left
    )


def plan(
    grant: Grant,
    known: Mapping[str, Entity],
    login: str | None = None,
    parents: Mapping[str, Mapping[str, str]] | None = None,
) -> str:
    """A permission set of the least rights, as a deployable metadata file, and how to put it to use.

    `parents` gives, by object, the object behind each relationship: `Parent.Field` is a right on that one.
    """
    who = "that user" if login is None else login.replace("--", "")  # which would end the comment
    lines = [
        "<!-- The least rights of this mapping. Give the integration user a licence of Minimum Access - API Only,",
        f"     deploy this as permissionsets/{PERMISSION_SET}.permissionset-meta.xml, and assign it to {who}. -->",
        '<PermissionSet xmlns="http://soap.sforce.com/2006/04/metadata">',
        f"    <label>{LABEL}</label>",
    ]
    names = sorted({*grant.reads, *grant.writes})
    behind, seen = parents or {}, set()
    for entity in names:
        written = grant.writes.get(entity, frozenset())
        for field in sorted(grant.reads.get(entity, frozenset()) | written):
            path = field.rpartition(".")[0]
            owner = behind.get(entity, {}).get(path, path) or entity
            seen.add(owner)
            lines += _field(entity, owner, field, known, editable=field in written)
    for entity in sorted({*names, *seen}):
        makes = bool(grant.modes.get(entity, frozenset()) & {Mode.CREATE, Mode.UPSERT})
        lines += _object(entity, editable=bool(grant.writes.get(entity)), makes=makes)
    return "\n".join([*lines, "</PermissionSet>"])


def _field(entity: str, owner: str, field: str, known: Mapping[str, Entity], *, editable: bool) -> list[str]:
    """Field-level security, which fields that every record must have do not take."""
    path, _, name = field.rpartition(".")
    described = known[entity].by_name.get(field) if entity in known else None
    if field in {"Id", "IsDeleted", "SystemModstamp"} or (
        described is not None and not described.nullable and not path
    ):
        return []
    return [
        "    <fieldPermissions>",
        f"        <editable>{str(editable).lower()}</editable>",
        f"        <field>{escape(owner)}.{escape(name)}</field>",
        "        <readable>true</readable>",
        "    </fieldPermissions>",
    ]


def _object(entity: str, *, editable: bool, makes: bool) -> list[str]:
    return [
        "    <objectPermissions>",
        f"        <allowCreate>{str(makes).lower()}</allowCreate>",
        "        <allowDelete>false</allowDelete>",
        f"        <allowEdit>{str(editable).lower()}</allowEdit>",
        "        <allowRead>true</allowRead>",
        "        <modifyAllRecords>false</modifyAllRecords>",
        f"        <object>{escape(entity)}</object>",
        "        <viewAllRecords>true</viewAllRecords>",
        "    </objectPermissions>",
    ]
