"""`hub connections`: configured systems; secrets are asked for or referenced, never given on the command line."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hub.access import Resource, Scope
from hub.cli.caller import me, needs, sees, this_caller
from hub.cli.output import AsJson, RefusedError, emit, facts, opened, room, table

if TYPE_CHECKING:
    from hub.audit import Outcome
    from hub.runs import Installation

app = room("Configured systems: add, look at, check, pause, remove.")

Name = Annotated[str, typer.Argument(help="A connection.")]


@app.command(
    epilog="Example: hub connections add clinic sql dialect=sqlite path=clinic.db --secret password=env:HUB_SECRET_DB"
)
@needs(Scope.CONNECTIONS, connection="name")
def add(
    name: Annotated[str, typer.Argument(help="What to call it: lower-case letters, digits and _.")],
    connector: Annotated[str, typer.Argument(help="The kind of system; `hub connectors list` shows them.")],
    settings: Annotated[list[str] | None, typer.Argument(help="setting=value; a value may be JSON.")] = None,
    secret: Annotated[
        list[str] | None,
        typer.Option(
            help="name, to be asked for; or where it is: name=env:VARIABLE, file:, vault:, aws-sm:, gcp-sm:, azure-kv:."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Connects a system. The settings are checked; `hub connections check` logs in.

    In production, one that may reach a private network is stored after another person approved its settings.
    """
    with opened() as hub:
        given = _settings(settings or []), _secrets(secret or [])
        made = hub.connections.create(name, connector, *given, this_caller())
        answer = {"name": made.name, "connector": made.connector, "settings": dict(made.settings)}
        emit(answer, as_json, lambda: print(f"connection {name} is stored; `hub connections check {name}` logs in"))


@app.command("list", epilog="Example: hub connections list")
@needs(Scope.READ, named=True)
def list_(as_json: AsJson = False) -> None:
    """Lists the connections."""
    with opened() as hub:
        found = [each for each in hub.connections.list() if sees(Resource.connection(each.name))]
    answer = [
        {"name": c.name, "connector": c.connector, "paused": c.paused, "settings": dict(c.settings)} for c in found
    ]
    rows = [(each["name"], each["connector"], "paused" if each["paused"] else "") for each in answer]
    emit(answer, as_json, lambda: table(["name", "connector", ""], rows, empty="no connections; hub connections add"))


@app.command(epilog="Example: hub connections check clinic")
@needs(Scope.CONNECTIONS, connection="name")
def check(name: Name, as_json: AsJson = False) -> None:
    """Logs in and shows who we are there and which rights we hold."""
    with opened() as hub:
        report = hub.connections.check(name, me())
    answer = {
        "identity": report.identity,
        "product": report.product,
        "budget_left": report.budget_left,
        "rights": [{"right": r.right, "subject": r.subject, "granted": r.granted} for r in report.rights],
        "missing": list(report.missing),
    }

    def text() -> None:
        facts({"identity": report.identity, "product": report.product, "calls left": report.budget_left})
        rows = [(r.right, r.subject, "yes" if r.granted else "NO") for r in report.rights]
        table(["right", "on", "granted"], rows, empty="this kind of system has no rights to ask for")

    emit(answer, as_json, text)
    if report.missing:
        raise typer.Exit(1)


@app.command(epilog="Example: hub connections entities clinic --entity PATIENT")
@needs(Scope.READ, connection="name")
def entities(
    name: Name,
    entity: Annotated[str | None, typer.Option(help="Show the fields of this one.")] = None,
    as_json: AsJson = False,
) -> None:
    """Shows what can be read and written: entities, or one entity's fields."""
    with opened() as hub:
        found = hub.connections.entities(name)
    chosen = [each for each in found if entity is None or each.name == entity]
    if entity is not None and not chosen:
        names = ", ".join(e.name for e in found[:20]) or "none"
        raise RefusedError(f"connection {name} shows no entity {entity}; it shows {names}")
    answer = [
        {
            "name": e.name,
            "key": list(e.key),
            "changed_by": list(e.changed_by),
            "modes": sorted(e.modes),
            "alternates": {each.field: sorted(each.modes) for each in e.alternates},
            "fields": [
                {
                    "name": f.name,
                    "type": f.type.value,
                    "nullable": f.nullable,
                    "writable": f.writable,
                    "length": f.length,
                }
                for f in e.fields
            ],
        }
        for e in chosen
    ]

    def text() -> None:
        if entity is None:
            rows = [(e["name"], e["key"], len(e["fields"]), e["modes"], [*e["alternates"]]) for e in answer]
            head = ["entity", "key", "fields", "can be written by", "other keys"]
            table(head, rows, empty="nothing can be read")
        else:
            rows = [tuple(field.values()) for field in answer[0]["fields"]]  # type: ignore[attr-defined]
            table(["field", "type", "nullable", "writable", "length"], rows, empty="it has no fields")

    emit(answer, as_json, text)


@app.command(epilog="Example: hub connections provision clinic PATIENT --mapping mappings/patient_risk --plan")
@needs(Scope.CONNECTIONS, connection="name")
def provision(
    name: Name,
    entity: Annotated[str, typer.Argument(help="The entity that shall get score fields.")],
    mapping: Annotated[Path, typer.Option(help="The document that writes them, or its folder.", exists=True)],
    plan: Annotated[bool, typer.Option("--plan", help="Show what would be made, and make nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Shows the fields that a mapping writes and the far side lacks, then makes them, where the connection may."""
    from hub.audit import Outcome
    from hub.cli.mappings import allowed_text
    from hub.sdk import Grant

    with opened() as hub:
        document, fields = hub.mappings.missing_fields(allowed_text(hub, mapping, Scope.MAPPINGS))
        write = document.write
        if (write.connection, write.entity) != (name, entity):
            raise RefusedError(f"{mapping} writes {write.entity} of {write.connection}, not {entity} of {name}")
        names = [each.name for each in fields]
        described = [{"name": each.name, "type": each.type.value, "length": each.length} for each in fields]
        granted = ""
        if fields and not as_json:
            table(["to be made", "type", "length"], [tuple(each.values()) for each in described], empty="")
        if fields:
            with hub.connections.open(name, Grant(writes={entity: frozenset(names)})) as far:
                role = far.provisioner()
                if role is None and not plan:
                    raise RefusedError(f"connection {name} may not make fields; ask for {', '.join(names)} over there")
                granted = "" if role is None else role.granted(entity, fields)
                if granted and not as_json:
                    print(f"to be granted: {granted}")
                if role is not None and not plan:
                    _note_provision(hub, name, Outcome.STARTED, entity, names)
                    role.provision(entity, fields)
            if not plan:
                _note_provision(hub, name, Outcome.DONE, entity, names)
    answer = {"entity": entity, "planned" if plan else "made": described, "granted": granted}

    def text() -> None:
        if not names:
            print(f"{entity} has every field already; nothing {'is to be' if plan else 'was'} made")
        elif not plan:
            print(f"{entity} has {', '.join(names)} now")

    emit(answer, as_json, text)


def _note_provision(hub: Installation, name: str, outcome: Outcome, entity: str, fields: Sequence[str]) -> None:
    """The far side is changed outside of any transaction of ours: an intent before, the outcome after."""
    from hub.audit import Action

    with hub.database.begin() as session:
        subject, told = f"connection:{name}", {"entity": entity, "fields": list(fields)}
        hub.record(session, str(me()), Action.CONNECTION_PROVISION, subject, outcome=outcome, **told)


@app.command(epilog="Example: hub connections secret erp password=env:HUB_SECRET_ERP")
@needs(Scope.CONNECTIONS, connection="name")
def secret(
    name: Name,
    secrets: Annotated[
        list[str],
        typer.Argument(
            help="name, to be asked for; or where it is: name=env:VARIABLE, file:, vault:, aws-sm:, gcp-sm:, azure-kv:."
        ),
    ],
    as_json: AsJson = False,
) -> None:
    """Stores a new version of a connection's secrets, after a password was changed over there."""
    with opened() as hub:
        given = _secrets(secrets)
        hub.connections.put_secrets(name, given, me())
        answer = {"name": name, "secrets": sorted(given)}
        emit(answer, as_json, lambda: print(f"stored; `hub connections check {name}` tries it"))


@app.command(epilog="Example: hub connections pause clinic")
@needs(Scope.CONNECTIONS, connection="name")
def pause(name: Name, as_json: AsJson = False) -> None:
    """Nothing opens the connection until it is resumed."""
    with opened() as hub:
        hub.connections.pause(name, me())
        emit({"name": name, "paused": True}, as_json, lambda: print(f"connection {name} is paused"))


@app.command(epilog="Example: hub connections resume clinic")
@needs(Scope.CONNECTIONS, connection="name")
def resume(name: Name, as_json: AsJson = False) -> None:
    """Lets a paused connection be opened again."""
    with opened() as hub:
        hub.connections.resume(name, me())
        emit({"name": name, "paused": False}, as_json, lambda: print(f"connection {name} may be opened again"))


@app.command(epilog="Example: hub connections remove clinic")
@needs(Scope.CONNECTIONS, connection="name")
def remove(name: Name, as_json: AsJson = False) -> None:
    """Forgets a connection and destroys its secrets."""
    with opened() as hub:
        used = [
            each.mapping
            for each in hub.mappings.list()
            if each.published is not None and name in hub.mappings.document(each.published).connections
        ]
        if used:
            raise RefusedError(f"connection {name} is used by the published mappings {', '.join(used)}")
        hub.connections.remove(name, me())
        emit({"name": name, "removed": True}, as_json, lambda: print(f"connection {name} is removed"))


def _settings(given: list[str]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for each in given:
        name, equals, value = each.partition("=")
        if not equals:
            raise typer.BadParameter(f"expected setting=value, not {each}")
        made[name] = _value(value)
    return made


def _value(text: str) -> Any:
    if text[:1] in "[{" or text in ("true", "false", "null") or text.isdigit():
        try:
            return json.loads(text)
        except ValueError:
            return text
    return text


def _secrets(given: list[str]) -> dict[str, Any]:
    from hub.access import Reference
    from hub.access.references import EXAMPLES
    from hub.sdk import Secret

    made: dict[str, Any] = {}
    for each in given:
        name, equals, place = each.partition("=")
        if not equals:
            made[name] = Secret(typer.prompt(name, hide_input=True))
            continue
        reference = Reference.parse(place)
        if reference is None:
            known = ", ".join(EXAMPLES.values())
            raise typer.BadParameter(f"{name}: name where the secret is, not the secret itself: {known}")
        made[name] = reference
    return made
