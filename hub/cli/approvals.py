"""`hub access approvals`: what waits for a second person, and what that person decides."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hub.access import Scope
from hub.cli.caller import allow, needs, this_caller
from hub.cli.output import AsJson, emit, facts, opened, room, table

if TYPE_CHECKING:
    from hub.access.approvals import Approval
    from hub.runs import Installation

app = room("What waits for a second person: looked at, approved, refused, or let through alone in an emergency.")

Id = Annotated[str, typer.Argument(help="The approval's id.")]
Why = Annotated[str, typer.Option("--reason", help="Why; it stands in the trail.")]


@app.command("list", epilog="Example: hub access approvals list")
@needs(Scope.READ)
def list_(
    closed: Annotated[bool, typer.Option("--closed", help="Also what was decided, used, void or has run out.")] = False,
    as_json: AsJson = False,
) -> None:
    """Lists what waits for a second person, what was approved and not used yet, and what nobody confirmed yet."""
    with opened() as hub:
        answer = [told(each) for each in hub.approvals.list(closed=closed)]
    columns = ["id", "kind", "subject", "state", "requested_by", "requested_at", "expires_at", "decided_by"]
    rows = [
        [*(each[name] for name in columns), f"by {each['broken_by']}" if each["unconfirmed"] else ""] for each in answer
    ]
    emit(answer, as_json, lambda: table([*columns, "unconfirmed"], rows, empty="nothing waits for a second person"))


@app.command(epilog="Example: hub access approvals show 9f2c…")
@needs(Scope.READ)
def show(id: Id, as_json: AsJson = False) -> None:  # noqa: A002
    """Shows what exactly is asked for: the content that the digest freezes."""
    with opened() as hub:
        found = hub.approvals.get(id)
    answer = told(found)

    def text() -> None:
        facts({name: value for name, value in answer.items() if name != "content"})
        print(json.dumps(answer["content"], indent=2, ensure_ascii=False))

    emit(answer, as_json, text)


@app.command(epilog="Example: hub access approvals approve 9f2c… --reason 'looked at with sales'")
@needs(Scope.APPROVE, named=True)
def approve(id: Id, reason: Why = "", as_json: AsJson = False) -> None:  # noqa: A002
    """Approves what somebody else asked for, or confirms what was let through alone; nobody with a part in it can."""
    with opened() as hub:
        _allow(hub, id)
        answer = told(hub.approvals.approve(id, this_caller(), reason))
    emit(answer, as_json, lambda: print(f"approved: {answer['next_step']}"))


@app.command(epilog="Example: hub access approvals refuse 9f2c… --reason 'the threshold is too low'")
@needs(Scope.APPROVE, named=True)
def refuse(id: Id, reason: Why = "", as_json: AsJson = False) -> None:  # noqa: A002
    """Refuses it; whoever asked takes it back by the same."""
    with opened() as hub:
        _allow(hub, id)
        answer = told(hub.approvals.refuse(id, this_caller(), reason))
    emit(answer, as_json, lambda: print(f"approval {id} is {answer['state']}"))


@app.command("break-glass", epilog="Example: hub access approvals break-glass 9f2c… --reason 'nobody else on call'")
@needs(Scope.GLASS)
def break_glass(
    id: Id,  # noqa: A002
    reason: Annotated[str, typer.Option("--reason", help="Why nobody else could be asked; it stands in the trail.")],
    as_json: AsJson = False,
) -> None:
    """Lets through alone, for an hour and once, what waits; another person has to confirm it within a day."""
    with opened() as hub:
        answer = told(hub.approvals.break_glass(id, this_caller(), reason))
    emit(answer, as_json, lambda: print(f"let through: {answer['next_step']}"))


def _allow(hub: Installation, approval: str) -> None:
    """The scope for the mapping or model that it is about; for everything, where it is about the hub itself."""
    allow(hub, hub.approvals.get(approval).about)


def told(approval: Approval) -> dict[str, Any]:
    """An approval as the command line shows it."""
    from hub.access.approvals import as_json

    return as_json(approval)
