"""`hub access setup` and `hub access people`: the first administrator, and who may log in with a browser."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from hub.access import Scope
from hub.cli.caller import me, needs
from hub.cli.output import AsJson, emit, opened, room, shown, table

if TYPE_CHECKING:
    from hub.access.people import Person

people = room("People who log in with a browser: listed, let in no more, logged out.")

Name = Annotated[str, typer.Argument(help="The person, by the name that the trail shows.")]


def add_to(app: typer.Typer) -> None:
    """Adds the verbs to those of the room."""
    app.command(epilog="Example: hub access setup")(setup)
    app.add_typer(people, name="people")


@needs(Scope.ACCESS)
def setup(as_json: AsJson = False) -> None:
    """Prints the setup secret with which a browser makes the first administrator, once, at /setup."""
    with opened() as hub:
        secret, ends = hub.people.local.make_setup(actor=me())
        place = f"{(hub.settings.public_url or '').rstrip('/')}/setup"
    answer = {"setup": secret.reveal(), "ends": ends, "place": place}
    emit(answer, as_json, lambda: print(f"{answer['setup']}\nIt counts once, at {place}, and ends at {shown(ends)}."))


@people.command("list", epilog="Example: hub access people list")
@needs(Scope.ACCESS)
def list_(as_json: AsJson = False) -> None:
    """Lists everybody who ever logged in, with the roles that the identity provider gave them last."""
    with opened() as hub:
        answer = [_row(each) for each in hub.people.list_people()]
    rows = [tuple(each.values()) for each in answer]
    emit(answer, as_json, lambda: table(list(answer[0]) if answer else [], rows, empty="nobody has logged in yet"))


@people.command(epilog="Example: hub access people disable anna")
@needs(Scope.ACCESS)
def disable(name: Name, as_json: AsJson = False) -> None:
    """Lets a person in no more and ends their sessions at once."""
    with opened() as hub:
        ended = hub.people.disable(name, actor=me())
    answer = {"person": name, "disabled": True, "sessions": ended}
    emit(answer, as_json, lambda: print(f"{name} may log in no more; {ended} sessions ended"))


@people.command(epilog="Example: hub access people enable anna")
@needs(Scope.ACCESS)
def enable(name: Name, as_json: AsJson = False) -> None:
    """Lets a person in again."""
    with opened() as hub:
        hub.people.enable(name, actor=me())
    emit({"person": name, "disabled": False}, as_json, lambda: print(f"{name} may log in again"))


@people.command("end-sessions", epilog="Example: hub access people end-sessions anna")
@needs(Scope.ACCESS)
def end_sessions(name: Name, as_json: AsJson = False) -> None:
    """Logs a person out everywhere, at once."""
    with opened() as hub:
        ended = hub.people.end_sessions(name, actor=me())
    emit({"person": name, "sessions": ended}, as_json, lambda: print(f"{ended} sessions of {name} ended"))


def _row(each: Person) -> dict[str, Any]:
    return {
        "name": each.name,
        "title": each.title,
        "issuer": each.issuer or "setup",
        "subject": each.subject,
        "roles": list(each.claimed),
        "login_at": each.login_at,
        "disabled_at": each.disabled_at,
    }
