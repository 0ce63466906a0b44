"""What secrets need as time goes by: moved under the newest key, and destroyed when their replacement has settled.

Both are safe to do twice and at once by several processes, and go on where one that died has stopped.
"""

from __future__ import annotations

from sqlalchemy.orm import Session

from hub.access.vault import Vault
from hub.audit import Action, AuditLog, Event
from hub.database import Database
from hub.keys import KeyRing, rewrap_some

HUB = "service:hub"


def move_under_newest_key(keys: KeyRing, database: Database, audit: AuditLog, actor: str = HUB) -> int:
    """Rewraps what is under an older version of the key, some at a time; how many values were moved."""

    def note(session: Session, values: int) -> None:
        told = {"version": keys.version, "values": values}
        audit.record(session, Event(actor, Action.KEY_REWRAP, "key", detail=told))

    moved = 0
    while done := rewrap_some(keys, database, note):
        moved += done
    return moved


def destroy_overdue(vault: Vault, database: Database, audit: AuditLog, actor: str = HUB) -> int:
    """Destroys the versions of secrets that were replaced long enough ago; how many."""
    with database.read() as session:
        if not vault.overdue(session):
            return 0
    with database.begin() as session:
        gone = vault.destroy_overdue(session)
        for name, version in gone:
            audit.record(session, Event(actor, Action.SECRET_DESTROY, f"secret:{name}", detail={"version": version}))
    return len(gone)
