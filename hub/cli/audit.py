"""`hub audit`: who did what, and whether the trail is whole."""

from __future__ import annotations

from typing import Annotated

import typer

from hub.cli.output import AsJson, emit, facts, me, opened, room, table

app = room("Who did what, provably.")


@app.command("list", epilog="Example: hub audit list --run 20261120-231500-3fa9c1")
def list_(
    actor: Annotated[str | None, typer.Option(help="Only by this actor, human:anna for one.")] = None,
    action: Annotated[str | None, typer.Option(help="Only this action, runs.run.start for one.")] = None,
    subject: Annotated[str | None, typer.Option(help="Only about this subject.")] = None,
    run: Annotated[str | None, typer.Option(help="Only of this run.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many, newest first.")] = 50,
    as_json: AsJson = False,
) -> None:
    """Lists events, newest first."""
    from hub.audit import Action

    known = {each.value: each for each in Action}
    if action is not None and action not in known:
        raise typer.BadParameter(f"there is no action {action}; the actions are {', '.join(known)}")
    with opened() as hub:
        chosen = known[action] if action is not None else None
        found = hub.audit.events(actor=actor, action=chosen, subject=subject, run=run, limit=limit)
    answer = [
        {
            "at": each.at,
            "actor": each.event.actor,
            "action": each.event.action.value,
            "subject": each.event.subject,
            "outcome": each.event.outcome.value,
            "run": each.event.run,
            "digest": each.event.digest,
            "detail": dict(each.event.detail),
        }
        for each in found
    ]
    rows = [(e["at"], e["actor"], e["action"], e["subject"], e["outcome"], e["detail"]) for e in answer]
    emit(
        answer,
        as_json,
        lambda: table(["at", "actor", "action", "subject", "outcome", "detail"], rows, empty="no events"),
    )


@app.command(epilog="Example: hub audit verify")
def verify(as_json: AsJson = False) -> None:
    """Walks the whole trail; exit code 1 where an event is missing or was altered."""
    from hub.audit import Action, Outcome

    with opened() as hub:
        verdict = hub.audit.verify()
        with hub.database.begin() as session:
            outcome = Outcome.DONE if verdict.ok else Outcome.FAILED
            hub.record(session, str(me()), Action.AUDIT_VERIFY, "audit", outcome=outcome, events=verdict.events)
    answer = {"events": verdict.events, "writers": verdict.writers, "ok": verdict.ok, "fault": verdict.fault}
    emit(
        answer,
        as_json,
        lambda: facts({**answer, "ok": "nothing is missing, nothing was altered" if verdict.ok else ""}),
    )
    if not verdict.ok:
        raise typer.Exit(1)
