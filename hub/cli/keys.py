"""`hub keys`: the key-encryption key that everything secret is sealed under."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from hub.access import Scope
from hub.cli.caller import me, needs, this_caller
from hub.cli.output import AsJson, emit, facts, opened, room

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from hub.runs import Installation

app = room("The key that seals secrets, and the working keys that seal everything else.")


@app.command(epilog="Example: hub keys show")
@needs(Scope.SYSTEM)
def show(as_json: AsJson = False) -> None:
    """Shows where the key is, which version wraps, and what is still under an older one; never the key."""
    with opened() as hub:
        answer = _state(hub)
        emit(answer, as_json, lambda: facts(answer))


@app.command(epilog="Example: hub keys rotate")
@needs(Scope.SYSTEM)
def rotate(
    emergency: Annotated[
        bool,
        typer.Option(
            "--emergency",
            help="The key leaked: withdraw the versions before at once, revoke all leases, move everything.",
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Adds a version of the key that wraps from now on; what was sealed before still opens. Back up the key file.

    Workers move what is under an older version; `hub keys rewrap` does it now. No process needs to start anew.
    """
    from hub.access.leases import recall
    from hub.audit import Action
    from hub.keys import rotate

    with opened() as hub:

        def note(session: Session, version: int) -> None:
            hub.record(session, str(me()), Action.KEY_ROTATE, "key", version=version, emergency=emergency)
            if emergency:
                answer["revoked"] = recall(session, hub.database, hub.audit, me())

        answer: dict[str, Any] = {}
        ring = rotate(hub.settings, hub.database, note, emergency=emergency)
        answer |= {"place": ring.kek.place, "version": ring.version}
        if emergency:
            hub.keys = ring
            answer["moved"] = _moved(hub)
        told = f"version {ring.version} of {ring.kek.place} wraps from now on; back up what holds it"
        if emergency:
            told += f"; {answer['revoked']} leases are revoked, and runs that are held go on with `hub runs resume`"
        emit(answer, as_json, lambda: print(told))


@app.command(epilog="Example: hub keys rewrap")
@needs(Scope.SYSTEM)
def rewrap(as_json: AsJson = False) -> None:
    """Moves everything under the current version of the key; goes on where an earlier try stopped."""
    with opened() as hub:
        answer = {"moved": _moved(hub), "version": hub.keys.version}
        told = f"moved {answer['moved']}; everything is under version {answer['version']}"
        emit(answer, as_json, lambda: print(told))


@app.command(epilog="Example: hub keys retire")
@needs(Scope.SYSTEM)
def retire(as_json: AsJson = False) -> None:
    """Withdraws every version before the current one; refused while anything is still under one of them.

    In production another person has approved it before.

    Backups of the database from before are noise without the old key: keep it with them, or let go of both.
    """
    with opened() as hub:
        _import_stores()
        left = hub.custody.retire_key(hub.keys, this_caller())
        answer = {"least_version": hub.keys.version, "left_to_do": left}
        told = f"versions below {answer['least_version']} are withdrawn" + (f"; {left}" if left else "")
        emit(answer, as_json, lambda: print(told))


def _state(hub: Installation) -> dict[str, Any]:
    from hub.keys import behind, versions

    _import_stores()
    with hub.database.read() as session:
        left = {each.table: each.values for each in behind(hub.keys, session)}
        working, floors = versions(session)
    return {
        "kind": hub.settings.kek,
        "place": hub.keys.kek.place,
        "version": hub.keys.version,
        "least_version": floors.get(hub.keys.kek.id, 1),
        "working_version": working,
        "behind": left,
    }


def _moved(hub: Installation) -> int:
    from hub.access import move_under_newest_key

    _import_stores()
    return move_under_newest_key(hub.keys, hub.database, hub.audit, str(me()))


def _import_stores() -> None:
    """What is sealed is told by the tables of every room, also of those that this verb does not open."""
    from hub.migrations.upgrade import stores

    stores()
