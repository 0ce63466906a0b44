"""How long bodies of events are kept, what a legal hold keeps beyond that, and the pruning of the rest.

Only what is sealed is pruned: its hash stays in the tree, so chains, checkpoints and proofs hold on. What tells of the
trail itself is never pruned, nor are the events with which writers began.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, and_, delete, func, insert, not_, or_, select
from sqlalchemy.orm import Session

from hub.audit.log import AuditLog
from hub.audit.retention.pruning import Range, digest
from hub.audit.store import AuditEventRow, ChainRow, HoldRow, PrunedRow, RetentionRow, lock_retention, naming
from hub.audit.types import Action, AuditError, Event
from hub.database import Database, insert_into, table_of

LEAST_DAYS = 183
"""EU AI Act, Art. 19 and 26(6): logs are kept for six months at least."""
AT_ONCE = 20_000
ONLY = 1
_OF_THE_TRAIL = [each for each in Action if each.room == "audit"]


Beside = Callable[[Session], None]


def _nothing(_session: Session) -> None:
    """Beside it nothing else is done."""


@dataclass(frozen=True, slots=True)
class Hold:
    """Which events are held: those that match everything given."""

    name: str
    reason: str
    actor: str | None = None
    subject: str | None = None
    run: str | None = None
    since: datetime | None = None
    until: datetime | None = None


class Retention:
    """One per process; safe to share between threads."""

    def __init__(self, database: Database, audit: AuditLog) -> None:
        self._database = database
        self._audit = audit

    def kept_days(self) -> int | None:
        """How many days bodies are kept; None: for ever."""
        with self._database.read() as session:
            return session.execute(select(RetentionRow.keep_days)).scalar_one_or_none()

    @staticmethod
    def check(days: int) -> None:
        """AuditError below six months."""
        if days < LEAST_DAYS:
            raise AuditError(f"the log is kept for at least {LEAST_DAYS} days, as the EU AI Act asks; {days} are fewer")

    def keep(self, days: int, actor: str, beside: Beside = _nothing) -> None:
        """Bodies older than that may be dropped from now on. AuditError below six months.

        What `beside` does belongs to the same transaction.
        """
        self.check(days)
        with self._database.begin() as session:
            beside(session)
            row = insert_into(session, RetentionRow).values(id=ONLY, keep_days=days)
            session.execute(row.on_conflict_do_update(index_elements=["id"], set_={"keep_days": days}))
            self._audit.record(session, Event(actor, Action.AUDIT_RETAIN, "audit", detail={"days": days}))

    def hold(self, hold: Hold, actor: str) -> None:
        """Keeps what the hold names from being pruned and its subject from being erased. AuditError: named twice."""
        if not hold.reason.strip():
            raise AuditError("a legal hold has a reason")
        with self._database.begin() as session:
            lock_retention(session)
            if session.get(HoldRow, hold.name) is not None:
                raise AuditError(f"there is a hold {hold.name} already; end it first, or name another")
            session.add(HoldRow(**asdict(hold), at=self._database.now(session)))
            told = {"of_actor": hold.actor, "about": hold.subject, "of_run": hold.run, "reason": hold.reason}
            told |= {name: at.isoformat() for name in ("since", "until") if (at := getattr(hold, name)) is not None}
            self._audit.record(session, Event(actor, Action.AUDIT_HOLD, f"hold:{hold.name}", detail=told))

    def end_hold(self, name: str, actor: str, beside: Beside = _nothing) -> None:
        """AuditError where there is none of that name. `beside` as for `keep`."""
        with self._database.begin() as session:
            if session.execute(delete(HoldRow).where(HoldRow.name == name).returning(HoldRow.name)).first() is None:
                raise AuditError(f"there is no hold {name}")
            beside(session)
            self._audit.record(session, Event(actor, Action.AUDIT_UNHOLD, f"hold:{name}"))

    def holds(self) -> list[Hold]:
        """The holds there are, by name."""
        with self._database.read() as session:
            return _holds(session)

    def check_erasable(self, session: Session, subject: str, runs: Callable[[], Collection[str]] = tuple) -> None:
        """AuditError where a hold keeps this record; none is laid before the session commits.

        It does where it names the record, everything, or any event that names the record or is of one of the `runs`
        that decided about it.
        """
        lock_retention(session)
        holds = _holds(session)
        decided_in = runs() if holds else ()
        for hold in holds:
            about = (AuditEventRow.run.in_(decided_in), naming(session, subject))
            wanted = [select(AuditEventRow.seq).where(each, _matches(hold)).limit(1) for each in about]
            everything = hold == Hold(hold.name, hold.reason)
            if everything or hold.subject == subject or any(session.execute(each).first() for each in wanted):
                raise AuditError(f"the record is under the legal hold {hold.name}: it is not erased before that ends")

    def prune(self, actor: str) -> int:
        """Drops the bodies whose time is over; how many. Each step is one transaction with an event of its own."""
        days = self.kept_days()
        dropped, step = 0, AT_ONCE
        while days is not None and step == AT_ONCE:
            with self._database.begin() as session:
                lock_retention(session)
                horizon = self._database.now(session) - timedelta(days=days)
                ranges = _neighbours(_due(session, horizon))
                step = sum(count for _, _, count in ranges)
                if ranges:
                    self._drop(session, ranges, horizon, actor)
            dropped += step
        return dropped

    def _drop(self, session: Session, ranges: list[Range], horizon: datetime, actor: str) -> None:
        batch = session.execute(select(func.coalesce(func.max(PrunedRow.batch), 0))).scalar_one() + 1
        rows = [{"writer": w, "first_seq": first, "count": count, "batch": batch} for w, first, count in ranges]
        session.execute(insert(table_of(PrunedRow)), rows)
        for writer, first, count in ranges:
            gone = AuditEventRow.writer == writer, AuditEventRow.seq >= first, AuditEventRow.seq < first + count
            session.execute(delete(table_of(AuditEventRow)).where(*gone))
        told: dict[str, Any] = {"events": sum(count for _, _, count in ranges), "before": horizon.isoformat()}
        self._audit.record(session, Event(actor, Action.AUDIT_PRUNE, "audit", digest=digest(ranges), detail=told))


def _due(session: Session, horizon: datetime) -> list[tuple[int, int]]:
    """The sealed events that nothing keeps any more, at most so many as one transaction takes."""
    wanted = (
        select(AuditEventRow.writer, AuditEventRow.seq)
        .join(ChainRow, ChainRow.writer == AuditEventRow.writer)
        .where(
            AuditEventRow.at < horizon,
            AuditEventRow.seq > 0,
            AuditEventRow.seq < ChainRow.sealed,
            AuditEventRow.action.not_in(_OF_THE_TRAIL),
            *(not_(_matches(each)) for each in _holds(session)),
        )
        .order_by(AuditEventRow.writer, AuditEventRow.seq)
    )
    return list(session.execute(wanted.limit(AT_ONCE)))


def _matches(hold: Hold) -> ColumnElement[bool]:
    given: list[ColumnElement[bool]] = []
    if hold.actor is not None:
        given.append(AuditEventRow.actor == hold.actor)
    if hold.subject is not None:
        given.append(AuditEventRow.subject == hold.subject)
    if hold.run is not None:
        # NULL in a comparison would let neither the hold nor its opposite match.
        given.append(and_(AuditEventRow.run.is_not(None), func.coalesce(AuditEventRow.run, "") == hold.run))
    if hold.since is not None:
        given.append(AuditEventRow.at >= hold.since)
    if hold.until is not None:
        given.append(AuditEventRow.at < hold.until)
    return and_(*given) if given else or_(AuditEventRow.seq >= 0)


def _holds(session: Session) -> list[Hold]:
    rows = session.execute(select(HoldRow).order_by(HoldRow.name)).scalars()
    return [Hold(each.name, each.reason, each.actor, each.subject, each.run, each.since, each.until) for each in rows]


def _neighbours(places: Iterable[tuple[int, int]]) -> list[Range]:
    ranges: list[Range] = []
    for writer, seq in places:
        if ranges and ranges[-1][0] == writer and seq == ranges[-1][1] + ranges[-1][2]:
            ranges[-1] = (writer, ranges[-1][1], ranges[-1][2] + 1)
        else:
            ranges.append((writer, seq, 1))
    return ranges
