"""`hub audit`, what becomes of events in time: retention, legal holds, erasure of a record, another signing key."""

from __future__ import annotations

import re
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from hub.access import Scope
from hub.cli.caller import me, needs, this_caller
from hub.cli.decisions import Key, Mapping, key_of, mapping_of
from hub.cli.output import AsJson, emit, facts, opened, table

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

DAYS = {"d": 1, "w": 7, "m": 31, "y": 366}
"""Days of a unit; months and years at their longest, so that nothing goes too early."""

Because = Annotated[str, typer.Option(help="Why; it stands in the trail.", prompt=True)]


def add_to(app: typer.Typer) -> None:
    """Adds these verbs to those of the room."""
    for name, verb, example in (
        ("retain", retain, "hub audit retain --keep 6y"),
        ("prune", prune, "hub audit prune"),
        ("hold", hold, "hub audit hold case-17 --because 'Request of the court' --run 20261120-231500-3fa9c1"),
        ("end-hold", end_hold, "hub audit end-hold case-17"),
        ("holds", holds, "hub audit holds"),
        ("subject", subject, "hub audit subject patient_risk 00842302"),
        ("erase", erase, "hub audit erase patient_risk 00842302 --because 'Asked to be forgotten'"),
        ("change-key", change_key, "hub audit change-key"),
    ):
        app.command(name, epilog=f"Example: {example}")(verb)


@needs(Scope.SYSTEM)
def retain(
    keep: Annotated[str | None, typer.Option(help="How long: 183d, 26w, 7m or 6y; six months at least.")] = None,
    as_json: AsJson = False,
) -> None:
    """Shows how long bodies of events are kept, or sets it with --keep. Hashes and proofs stay for ever.

    In production another person has approved a change before.
    """
    days = None if keep is None else _days(keep)
    with opened() as hub:
        if days is not None:
            hub.custody.keep(days, this_caller())
        answer = {"days": hub.retention.kept_days()}
    emit(answer, as_json, lambda: print(f"{answer['days']} days" if answer["days"] is not None else "for ever"))


@needs(Scope.SYSTEM)
def prune(as_json: AsJson = False) -> None:
    """Drops now the bodies whose time is over; workers do it by themselves."""
    with opened() as hub:
        hub.sealed.seal(every_chain=True)
        answer = {"pruned": hub.retention.prune(str(me()))}
    emit(answer, as_json, lambda: facts(answer))


@needs(Scope.SYSTEM)
def hold(
    name: Annotated[str, typer.Argument(help="A name for the hold, case-17 for one.")],
    because: Because,
    actor: Annotated[str | None, typer.Option(help="Only events by this actor.")] = None,
    subject: Annotated[str | None, typer.Option(help="Only events about this subject, record:… for a record.")] = None,
    run: Annotated[str | None, typer.Option(help="Only events of this run.")] = None,
    since: Annotated[datetime | None, typer.Option(help="Only events from this moment on, UTC.")] = None,
    until: Annotated[datetime | None, typer.Option(help="Only events before this moment, UTC.")] = None,
    as_json: AsJson = False,
) -> None:
    """Keeps events, all without an option, from being pruned, and what they are about from being erased."""
    from datetime import UTC

    from hub.audit import Hold

    moments = [at.replace(tzinfo=UTC) if at is not None else None for at in (since, until)]
    made = Hold(name, because, actor, subject, run, *moments)
    with opened() as hub:
        hub.retention.hold(made, str(me()))
    emit(asdict(made), as_json, lambda: print(f"{name} holds"))


@needs(Scope.SYSTEM)
def end_hold(name: Annotated[str, typer.Argument(help="The hold.")], as_json: AsJson = False) -> None:
    """Ends a legal hold: what it alone kept is pruned when its time is over. In production two people agree on it."""
    with opened() as hub:
        hub.custody.end_hold(name, this_caller())
    emit({"name": name, "ended": True}, as_json, lambda: print(f"{name} is ended"))


@needs(Scope.AUDIT)
def holds(as_json: AsJson = False) -> None:
    """Lists the legal holds."""
    with opened() as hub:
        answer = [asdict(each) for each in hub.retention.holds()]
    columns = ["name", "reason", "actor", "subject", "run", "since", "until"]
    rows = [[each[name] for name in columns] for each in answer]
    emit(answer, as_json, lambda: table(columns, rows, empty="nothing is held"))


@needs(Scope.AUDIT)
def subject(mapping: Mapping, key: Key, as_json: AsJson = False) -> None:
    """Shows who dealt with a record: who read it or its decisions, which fields, and for what. Itself recorded."""
    from hub.runs.subjects import touches

    with opened() as hub:
        name = mapping_of(hub, mapping)
        found = touches(hub, name, key_of(hub, name, key), str(me()))
    answer = [asdict(each) for each in found]
    columns = ["at", "actor", "action", "run", "purpose", "fields"]
    rows = [[each[name] for name in columns] for each in answer]
    emit(answer, as_json, lambda: table(columns, rows, empty="nobody dealt with it"))


@needs(Scope.SYSTEM)
def erase(mapping: Mapping, key: Key, because: Because, as_json: AsJson = False) -> None:
    """Erases a record: its decisions, where it stands, and the key of what events tell of it. Proofs stay valid."""
    from hub.runs.subjects import erase

    with opened() as hub:
        name = mapping_of(hub, mapping)
        answer = asdict(erase(hub, name, key_of(hub, name, key), str(me()), because))
    emit(answer, as_json, lambda: facts(answer))


@needs(Scope.SYSTEM)
def change_key(as_json: AsJson = False) -> None:
    """Has a new key sign the log's checkpoints from now on; the old key vouches for it. Prints the new key."""
    from hub.audit import Action

    with opened() as hub:

        def record(session: Session, key: str) -> None:
            hub.record(session, str(me()), Action.AUDIT_KEY, "audit", key=key)

        answer = {"key": hub.sealed.change_key(record)}
    emit(answer, as_json, lambda: print(answer["key"]))


def _days(text: str) -> int:
    found = re.fullmatch(r"([1-9][0-9]{0,4})([dwmy])", text)
    if found is None:
        raise typer.BadParameter("--keep is a number and d, w, m or y: 6y for six years")
    return int(found[1]) * DAYS[found[2]]
