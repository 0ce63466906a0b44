"""`hub keys`: the key-encryption key that everything secret is sealed under."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hub.cli.output import AsJson, emit, me, opened, room

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

app = room("The key that seals secrets, models and decisions.")


@app.command(epilog="Example: hub keys show")
def show(as_json: AsJson = False) -> None:
    """Shows where the key is and which version seals; never the key."""
    with opened() as hub:
        answer = {"file": hub.settings.key_file, "version": hub.keys.version}
        emit(answer, as_json, lambda: print(f"version {answer['version']} of {answer['file']} seals"))


@app.command(epilog="Example: hub keys rotate")
def rotate(as_json: AsJson = False) -> None:
    """Adds a version of the key that seals from now on; what was sealed before still opens. Back up the key file."""
    from hub.audit import Action
    from hub.keys import rotate

    with opened() as hub:

        def note(session: Session, version: int) -> None:
            hub.record(session, str(me()), Action.KEY_ROTATE, "key", version=version)

        ring = rotate(hub.settings, hub.database, note)
        answer = {"file": hub.settings.key_file, "version": ring.version}
        emit(answer, as_json, lambda: print(f"version {ring.version} seals from now on; back up {answer['file']}"))
