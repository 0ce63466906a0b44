"""`hub access plan` and `hub access verify`: the rights that a mapping needs over there, and those its login holds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hub.access import Resource, Scope
from hub.cli.caller import allow, me, needs, this_caller
from hub.cli.mappings import allowed_text
from hub.cli.output import AsJson, emit, opened

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hub.runs import Installation
    from hub.sdk import Grant, RightsReport

MISSING, EXCESS = 1, 4
"""How `verify` ends where rights are missing, and where none is but some are held beyond what is needed."""

What = Annotated[str, typer.Argument(metavar="MAPPING", help="A mapping document, its folder, or a published mapping.")]


@needs(Scope.MAPPINGS, named=True)
def plan(
    mapping: What,
    login: Annotated[str | None, typer.Option(help="The login over there, where it is not the connection's.")] = None,
    as_json: AsJson = False,
) -> None:
    """Prints what to grant over there, in its own terms, exactly enough for the mapping."""
    with opened() as hub:
        name, grants = _grants(hub, mapping)
        answer: dict[str, Any] = {"mapping": name, "connections": {}}
        for connection, grant in grants.items():
            with hub.connections.open(connection, grant) as far:
                answer["connections"][connection] = {"grant": grant.to_json(), "plan": far.plan(login)}

    def text() -> None:
        several = len(grants) > 1
        for connection, each in answer["connections"].items():
            print(f"# connection {connection}\n{each['plan']}" if several else each["plan"])

    emit(answer, as_json, text)


@needs(Scope.MAPPINGS, named=True)
def verify(
    mapping: What,
    accept: Annotated[bool, typer.Option("--accept", help="Ask that what is beyond be put up with.")] = False,
    reason: Annotated[str, typer.Option(help="Why it must be put up with.")] = "",
    days: Annotated[int | None, typer.Option(min=1, max=90, help="For how long; else 90.")] = None,
    as_json: AsJson = False,
) -> None:
    """Asks over there what the logins hold: exit code 1 where a right is missing, 4 where one is beyond the need.

    In production such an excess blocks publishing until two people accept it: one asks by --accept, another approves.
    """
    with opened() as hub:
        name, grants = _grants(hub, mapping)
        reports = hub.mappings.verify(name, grants, me())
        asked = hub.mappings.accept_excess(name, reports, this_caller(), reason, days) if accept else []
        unaccepted = hub.mappings.unaccepted(name, reports)
    answer = {
        "mapping": name,
        "connections": {connection: _told(each) for connection, each in reports.items()},
        "unaccepted": unaccepted,
        "approvals": [each.id for each in asked],
    }

    def text() -> None:
        for connection, report in reports.items():
            _print(connection, report, accepted=connection not in unaccepted)
        for each in asked:
            print(each.next_step)

    emit(answer, as_json, text)
    if any(each.missing for each in reports.values()):
        raise typer.Exit(MISSING)
    if unaccepted and not accept:
        raise typer.Exit(EXCESS)


def add_to(app: typer.Typer) -> None:
    """Puts both verbs into a room's commands."""
    app.command(epilog="Example: hub access plan mappings/patient_risk --login hub_scores")(plan)
    app.command(epilog="Example: hub access verify patient_risk")(verify)


def _grants(hub: Installation, mapping: str) -> tuple[str, Mapping[str, Grant]]:
    """The name and the grants of a document as it compiles now, or of a version as it was published."""
    path = Path(mapping)
    if not path.exists():
        allow(hub, Resource.mapping(mapping))
        return mapping, hub.mappings.grants(mapping)
    compiled = hub.mappings.check(allowed_text(hub, path), me())
    return compiled.document.mapping, compiled.grants


def _told(report: RightsReport) -> dict[str, Any]:
    return {
        "identity": report.identity,
        "missing": list(report.missing),
        "excess": list(report.excess),
        "untold": list(report.untold),
    }


def _print(connection: str, report: RightsReport, *, accepted: bool) -> None:
    print(f"connection {connection}: {report.identity}")
    for title, lines in (
        ("missing", report.missing),
        ("beyond what the mapping needs" + ("" if not accepted else ", accepted"), report.excess),
        ("not told", report.untold),
    ):
        for line in lines:
            print(f"  {title}: {line}")
    if not report.missing and not report.excess:
        print("  exactly what the mapping needs, as far as it tells")
