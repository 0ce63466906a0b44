"""`hub audit report` and `hub audit review`: what laws have kept or looked at, and that somebody looked."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hub.access import Scope
from hub.cli.caller import me, needs
from hub.cli.decisions import Mapping, mapping_of
from hub.cli.output import AsJson, RefusedError, emit, facts, opened, read_text

if TYPE_CHECKING:
    from hub.runs import Installation

Kind = Annotated[str, typer.Option(help="ai-act (EU AI Act, Art. 12, 19, 26) or hipaa (45 CFR 164.312(b)).")]


def add_to(app: typer.Typer) -> None:
    """Adds these verbs to those of the room."""
    app.command("report", epilog="Example: hub audit report patient_risk --kind hipaa --json > report.json")(report)
    app.command(
        "review", epilog="Example: hub audit review patient_risk report.json --finding 'Two receipts to ask about'"
    )(review)


@needs(Scope.AUDIT)
def report(
    mapping: Mapping,
    kind: Kind = "ai-act",
    since: Annotated[datetime | None, typer.Option(help="Only events from this moment on, UTC.")] = None,
    until: Annotated[datetime | None, typer.Option(help="Only events before this moment, UTC.")] = None,
    as_json: AsJson = False,
) -> None:
    """Makes a report about a mapping from the sealed log alone. That it was made is an event."""
    from hub.audit import Action
    from hub.audit.forms.report import KINDS, Report, digest_of, make

    if kind not in KINDS:
        raise typer.BadParameter(f"--kind is one of {', '.join(KINDS)}")
    period = [at.replace(tzinfo=UTC) if at is not None else None for at in (since, until)]
    with opened() as hub:
        name = mapping_of(hub, mapping)
        hub.sealed.seal(every_chain=True)
        newest = hub.sealed.checkpoint()
        made = make((each for _, each in hub.sealed.read()), Report(name, kind, *period))
        answer = {**made, "under": {"size": newest.size, "root": newest.root.hex(), "origin": newest.origin}}
        _record(hub, Action.AUDIT_REPORT, name, kind, digest_of(answer))
    emit(answer, as_json, lambda: _print(answer))


@needs(Scope.AUDIT)
def review(
    mapping: Mapping,
    report: Annotated[Path, typer.Argument(help="The file that hub audit report --json wrote.")],
    finding: Annotated[str, typer.Option(help="What was found, without a person's name; it stands in the trail.")],
    as_json: AsJson = False,
) -> None:
    """Notes in the trail that a report was looked at, by whom, and what was found."""
    from hub.audit import Action

    if not finding.strip():
        raise typer.BadParameter("--finding says what was found: nothing, for one")
    with opened() as hub:
        name = mapping_of(hub, mapping)
        kind, digest = _looked_at(report, name)
        made = hub.audit.events(action=Action.AUDIT_REPORT, subject=f"mapping:{name}", limit=10_000)
        if digest not in {each.event.digest for each in made}:
            raise RefusedError(f"{report} is not a report that this hub made about {name}, or it was altered")
        _record(hub, Action.AUDIT_REVIEW, name, kind, digest, finding=finding)
    answer = {"mapping": name, "report": kind, "digest": digest, "finding": finding}
    emit(answer, as_json, lambda: facts(answer))


def _looked_at(report: Path, mapping: str) -> tuple[str, str]:
    """The kind of a report and its digest. RefusedError where the file is none."""
    from hub.audit.forms.report import digest_of

    try:
        looked_at = json.loads(read_text(report))
        return str(looked_at["report"]), digest_of(looked_at)
    except (ValueError, KeyError, TypeError):
        raise RefusedError(f"{report} is no report; hub audit report {mapping} --json writes one") from None


def _record(hub: Installation, action: Any, mapping: str, kind: str, digest: str, **more: str) -> None:
    with hub.database.begin() as session:
        told = {"mapping": mapping, "report": kind, **more}
        hub.record(session, str(me()), action, f"mapping:{mapping}", digest=digest, **told)


def _print(answer: dict[str, Any]) -> None:
    for name, part in answer.items():
        if not isinstance(part, list):
            facts({name: part})
            continue
        print(f"\n{name.replace('_', ' ')}: {len(part)}")
        for each in part:
            print("  " + "  ".join(f"{key} {value}" for key, value in each.items() if value not in (None, [], {})))
