"""Puts the newest checkpoint in every place that is configured, now and then, and remembers what each answered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import select

from hub.audit.anchors.types import Anchor, AnchorError
from hub.audit.log import AuditLog
from hub.audit.merkle.note import Checkpoint
from hub.audit.merkle.sealed import SealedLog
from hub.audit.store import AnchorRow
from hub.audit.types import Action, AuditError, Event, Outcome
from hub.database import Database, insert_into
from hub.logs import Log

log = Log(__name__)


@dataclass(frozen=True, slots=True)
class Anchored:
    """That a place took the checkpoint of a size, when, and its receipt."""

    name: str
    size: int
    at: datetime
    receipt: bytes


class Anchoring:
    """One per process; several at once put a checkpoint twice at worst, which is harmless."""

    def __init__(
        self, database: Database, sealed: SealedLog, audit: AuditLog, anchors: Sequence[Anchor], *, apart: timedelta
    ) -> None:
        self._database = database
        self._sealed = sealed
        self._audit = audit
        self._anchors = anchors
        self._apart = apart
        self._failing: set[str] = set()

    def push(self) -> int:
        """To how many places the newest checkpoint went: those that lack it and were not given one just now."""
        pushed = 0
        for anchor in self._anchors:
            newest = self._due(anchor.name)
            if newest is None:
                continue
            try:
                self._note(anchor.name, newest, anchor.put(newest))
            except AnchorError as error:
                self._failed(anchor.name, str(error))
            else:
                self._recovered(anchor.name)
                pushed += 1
        return pushed

    def kept(self) -> list[str]:
        """The notes that can be read back from outside, of all places. AnchorError where one cannot be read."""
        return [note for anchor in self._anchors for note in anchor.kept()]

    def receipts(self) -> list[Anchored]:
        """What was anchored, the newest first."""
        with self._database.read() as session:
            rows = session.execute(select(AnchorRow).order_by(AnchorRow.at.desc(), AnchorRow.name)).scalars()
            return [Anchored(each.name, each.size, each.at, each.receipt) for each in rows]

    def _due(self, name: str) -> Checkpoint | None:
        try:
            newest = self._sealed.checkpoint()
        except AuditError:
            return None  # nothing is sealed yet, or what is there is no checkpoint of ours to spread
        wanted = select(AnchorRow.size, AnchorRow.at).where(AnchorRow.name == name).order_by(AnchorRow.size.desc())
        with self._database.read() as session:
            last = session.execute(wanted.limit(1)).one_or_none()
            early = last is not None and timedelta(0) <= self._database.now(session) - last.at < self._apart
        return None if early or (last is not None and last.size >= newest.size) else newest

    def _note(self, name: str, checkpoint: Checkpoint, receipt: bytes) -> None:
        # Not an event: each would be sealed, and its checkpoint anchored, for ever.
        with self._database.begin() as session:
            values = {"name": name, "size": checkpoint.size, "receipt": receipt, "at": self._database.now(session)}
            row = insert_into(session, AnchorRow).values(values)
            session.execute(row.on_conflict_do_nothing(index_elements=["name", "size"]))

    def _failed(self, name: str, why: str) -> None:
        log.warning("a checkpoint could not be put outside the hub", anchor=name, why=why)
        if name not in self._failing:
            self._tell(name, Outcome.FAILED)
            self._failing.add(name)

    def _recovered(self, name: str) -> None:
        if name in self._failing:
            self._tell(name, Outcome.DONE)
            self._failing.discard(name)

    def _tell(self, name: str, outcome: Outcome) -> None:
        with self._database.begin() as session:
            self._audit.record(session, Event("hub", Action.AUDIT_ANCHOR, f"anchor:{name}", outcome))
