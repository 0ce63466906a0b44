"""The audit log: records events in the caller's transaction, lists them, and verifies the trail."""

from __future__ import annotations

import threading
import time
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import datetime

from sqlalchemy import event as events
from sqlalchemy.orm import Session, SessionTransaction

from hub.audit import store
from hub.audit.leaf import Told, make_row, read_leaf, tell
from hub.audit.retention.pruning import walk
from hub.audit.retention.subjects import ABOUT, SubjectKeys, is_subject
from hub.audit.types import Action, Event, Recorded, Verdict
from hub.audit.verify import verify_trail
from hub.audit.writer import Writer, open_writer
from hub.database import Database
from hub.sdk import Clock, SystemClock


@dataclass
class _Pending:
    """What one session has recorded and not yet committed; `marks` are the counts at which savepoints were set."""

    events: list[Told] = field(default_factory=list)
    marks: dict[SessionTransaction, int] = field(default_factory=dict)
    writer: Writer | None = None


class AuditLog:
    """One per process and database; safe to share between threads.

    Events wait in the session and are chained and inserted as its transaction commits, so that a rollback leaves no
    gap. Each transaction that commits events has a writer (a chain) to itself for that moment: no lock is shared.
    """

    def __init__(self, database: Database, *, clock: Clock | None = None, subjects: SubjectKeys | None = None) -> None:
        self._database = database
        self._subjects = subjects
        self._clock = clock or SystemClock()
        self._idle: list[Writer] = []
        self._lock = threading.Lock()
        events.listen(database.sessions, "before_commit", self._append)
        events.listen(database.sessions, "after_commit", self._settle)
        events.listen(database.sessions, "after_soft_rollback", self._forget)
        events.listen(database.sessions, "after_transaction_create", self._mark)
        events.listen(database.sessions, "after_transaction_end", self._end)

    def record(self, session: Session, event: Event) -> None:
        """Adds the event to the transaction of `session`, one of the database's own. AuditError: malformed."""
        if session.info.get("hub.database") is not self._database:
            raise ValueError("an event is recorded in a session of the audit log's own database")
        if event.about:
            event = self._sealed(session, event)
        told = tell(event, self._clock.now())
        session.info.setdefault(self, _Pending()).events.append(told)

    def _sealed(self, session: Session, event: Event) -> Event:
        if self._subjects is None or not is_subject(event.subject):
            raise ValueError("only an event about a record, in a log that knows their keys, tells of it apart")
        return replace(event, detail={**event.detail, ABOUT: self._subjects.seal(session, event)}, about={})

    def about(self, subject: str, limit: int = 1000) -> list[Recorded]:
        """The newest events that name a record, as their subject or among others; what is sealed in them opened."""
        with self._database.read() as session:
            found = [read_leaf(each.leaf)[0] for each in store.find_named(session, subject, limit)]
            return [replace(each, event=self._opened(session, each.event)) for each in found]

    def _opened(self, session: Session, event: Event) -> Event:
        about = self._subjects.open(session, event) if self._subjects is not None else None
        return event if about is None else replace(event, about=about)

    def verify(self) -> Verdict:
        """Walks every chain. The verdict names the first gap, altered row or missing writer."""
        with self._database.read() as session:
            openings = store.openings(session)
            with closing(walk(session)) as rows:
                return verify_trail(openings, rows)

    def events(
        self,
        *,
        actor: str | None = None,
        action: Action | None = None,
        subject: str | None = None,
        run: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int = 100,
    ) -> list[Recorded]:
        """The newest events that match everything given, newest first."""
        with self._database.read() as session:
            found = store.find(
                session, actor=actor, action=action, subject=subject, run=run, since=since, until=until, limit=limit
            )
            return [read_leaf(each.leaf)[0] for each in found]

    def _append(self, session: Session) -> None:
        pending: _Pending | None = session.info.get(self)
        if pending is None or not pending.events or session.in_nested_transaction():
            return
        pending.writer = writer = self._take_writer(session)
        seq, previous = writer.seq, writer.previous
        rows = []
        for told in pending.events:
            seq += 1
            rows.append(make_row(told, writer.number, seq, previous))
            previous = rows[-1]["leaf_hash"]
        store.add_events(session, rows)
        writer.seq, writer.previous = seq, previous

    def _settle(self, session: Session) -> None:
        # Also called as a savepoint is released, which settles nothing yet.
        if session.in_nested_transaction():
            return
        pending: _Pending | None = session.info.pop(self, None)
        if pending is not None and pending.writer is not None:
            pending.writer.used = time.monotonic()
            with self._lock:
                self._idle.append(pending.writer)

    def _mark(self, session: Session, transaction: SessionTransaction) -> None:
        if transaction.nested:
            pending = session.info.setdefault(self, _Pending())
            pending.marks[transaction] = len(pending.events)

    def _forget(self, session: Session, previous: SessionTransaction) -> None:
        """A savepoint that is rolled back takes the events recorded since along."""
        pending: _Pending | None = session.info.get(self)
        if pending is not None and previous.nested:
            del pending.events[pending.marks[previous] :]

    def _end(self, session: Session, transaction: SessionTransaction) -> None:
        """Nothing outlives the transaction. A writer not given back is retired: its commit may have taken place."""
        if transaction.parent is None:
            session.info.pop(self, None)

    def _take_writer(self, session: Session) -> Writer:
        with self._lock:
            self._idle = [each for each in self._idle if each.fresh]
            if self._idle:
                return self._idle.pop()
        if self._database.sqlite:
            # This transaction holds the only write lock; a second one would wait for it for ever.
            return open_writer(session, self._clock)
        with self._database.begin() as own:
            return open_writer(own, self._clock)
