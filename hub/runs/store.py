"""The ledger: runs, their slices and pages, and who holds what; every time in it is the database's own."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    ColumnElement,
    ForeignKeyConstraint,
    Index,
    Select,
    String,
    Text,
    and_,
    delete,
    func,
    literal,
    or_,
    select,
    text,
    update,
)
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Mapped, Session, aliased, mapped_column

from hub.database import Base, Blob, Database, JsonDocument, UtcDateTime
from hub.keys import KeyRing
from hub.runs.types import (
    FOLLOWERS,
    LANDING,
    MOST_TRIES,
    SHRINK,
    Abandoned,
    Claim,
    Counts,
    LeftOff,
    LostLeaseError,
    PageRecord,
    PageState,
    Part,
    Run,
    RunError,
    RunKind,
    RunPlan,
    RunState,
    SliceKind,
    SlicePlan,
    Stage,
    Totals,
    UnknownRunError,
)
from hub.sdk.shared import Told, together

_PLACE = {"kind": "place"}
WINDOW = 1_000
"""Records written over which the share of rejects is judged."""

LEAST_WRITTEN = 100
"""Until so many records are written, rejects are judged as a share of so many: one bad record of three is no trend."""


GOING = text("state in ('queued', 'running')")
"""Written out, since a partial index serves a query only where the database sees that it covers it."""
HELD = text("worker is not null")


class RunRow(Base):
    """One run. `active` holds the mapping's name while the run is not final: the unique index admits one.

    So does `following` for the run that follows the mapping's live source, which is not `active`.

    Ids are in the order of time. `summed` is what its slices added up to, once the run has ended and they are gone.
    """

    __tablename__ = "run"
    __table_args__ = (
        Index(None, "mapping", "kind", "created_at"),
        Index(None, "mapping", "finished_at"),
        Index(None, "created_at"),
        Index("ix_run_going", "id", postgresql_where=GOING, sqlite_where=GOING),
    )

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    mapping: Mapped[str] = mapped_column(String(120))
    version: Mapped[str] = mapped_column(String(64))
    model: Mapped[str] = mapped_column(String(64))
    head: Mapped[str | None] = mapped_column(Text)
    kind: Mapped[str] = mapped_column(String(20))
    state: Mapped[str] = mapped_column(String(20), index=True)
    active: Mapped[str | None] = mapped_column(String(120), unique=True)
    following: Mapped[str | None] = mapped_column(String(120), unique=True)
    dry: Mapped[bool]
    ahead: Mapped[bool]
    actor: Mapped[str] = mapped_column(String(200))
    logical_at: Mapped[datetime] = mapped_column(UtcDateTime)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    started_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    finished_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    reason: Mapped[str | None] = mapped_column(Text)
    subject: Mapped[str | None] = mapped_column(String(40))
    expected: Mapped[int | None]
    changed: Mapped[int]
    changed_limit: Mapped[int | None]
    rejected_limit: Mapped[float | None]
    window: Mapped[list[list[int]]] = mapped_column(JsonDocument)
    summed: Mapped[dict[str, Any] | None] = mapped_column(JsonDocument)
    shape: Mapped[dict[str, Any]] = mapped_column(JsonDocument)
    happened: Mapped[dict[str, list[float]]] = mapped_column(JsonDocument)


class SliceRow(Base):
    """One slice: where it stands (`cursor`), who holds it until when, and what became of its records so far."""

    __tablename__ = "slice"
    __table_args__ = (Index("ix_slice_held", "worker", postgresql_where=HELD, sqlite_where=HELD),)

    run: Mapped[str] = mapped_column(String(40), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(String(20))
    phase: Mapped[int]
    stage: Mapped[str] = mapped_column(String(10))
    pool: Mapped[str] = mapped_column(String(60))
    selection: Mapped[str | None] = mapped_column(Text)
    subject: Mapped[list[str]] = mapped_column(JsonDocument)
    cursor: Mapped[str | None] = mapped_column(Text)
    exhausted: Mapped[bool]
    page_rows: Mapped[int]
    full_page_rows: Mapped[int]
    fragile: Mapped[int]
    pages: Mapped[int]
    counts: Mapped[dict[str, int]] = mapped_column(JsonDocument)
    epoch: Mapped[int]
    attempt: Mapped[int]
    waits: Mapped[int]
    turns: Mapped[int]
    worker: Mapped[str | None] = mapped_column(String(120))
    lease_until: Mapped[datetime | None] = mapped_column(UtcDateTime)
    not_before: Mapped[datetime | None] = mapped_column(UtcDateTime)


class PageRow(Base):
    """One page of a slice, from its first stored stage to its results; `seen` are key hashes of a full read.

    Of its changes `answered` have their results stored; the next are written `part` at a time as far as `fragile`, and
    were tried `tries` times. `sent` says that a try ended without an answer.
    """

    __tablename__ = "page"
    __table_args__ = (ForeignKeyConstraint(["run", "slice"], ["slice.run", "slice.number"]),)

    run: Mapped[str] = mapped_column(String(40), primary_key=True)
    slice: Mapped[int] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    state: Mapped[str] = mapped_column(String(10))
    segment: Mapped[int | None]
    cursor: Mapped[str | None] = mapped_column(Text)
    counts: Mapped[dict[str, int]] = mapped_column(JsonDocument)
    features: Mapped[bytes | None] = mapped_column(Blob)
    predictions: Mapped[bytes | None] = mapped_column(Blob)
    seen: Mapped[bytes | None] = mapped_column(Blob)
    journal: Mapped[str | None] = mapped_column(Text)
    tries: Mapped[int] = mapped_column(default=0)
    sent: Mapped[bool] = mapped_column(default=False)
    answered: Mapped[int] = mapped_column(default=0)
    part: Mapped[int | None]
    fragile: Mapped[int] = mapped_column(default=0)


class BellRow(Base):
    """A pool whose bell has been rung and not yet heard, so that at most one ring is on its way."""

    __tablename__ = "bell"

    pool: Mapped[str] = mapped_column(String(60), primary_key=True)
    rung_at: Mapped[datetime] = mapped_column(UtcDateTime)


class TickRow(Base):
    """The last tick of a mapping's schedule that was acted on, and how many were dropped since the mapping began."""

    __tablename__ = "tick"

    mapping: Mapped[str] = mapped_column(String(120), primary_key=True)
    at: Mapped[datetime] = mapped_column(UtcDateTime)
    dropped: Mapped[int]


class Ledger:
    """All queries of the ledger; the caller owns the transaction."""

    def __init__(self, database: Database, keys: KeyRing) -> None:
        self._database = database
        self._keys = keys

    def _seal(self, place: str | None) -> str | None:
        """Where a read stands names a record by its key, so it is not kept in clear."""
        return None if place is None else base64.b64encode(self._keys.seal(place.encode(), _PLACE)).decode()

    def _open(self, sealed: str | None) -> str | None:
        return None if sealed is None else self._keys.open(base64.b64decode(sealed), _PLACE).decode()

    def _sealed(self, plan: SlicePlan) -> SlicePlan:
        return replace(plan, selection=self._seal(plan.selection), cursor=self._seal(plan.cursor))

    # -- runs ----------------------------------------------------------------------------------------------------

    def add(self, session: Session, plan: RunPlan, slices: Sequence[SlicePlan], pool: str) -> str:
        """Stores a new run with its slices; its id. RunError where the mapping has an active one."""
        follows, apart = plan.kind is RunKind.FOLLOW, plan.kind in (RunKind.REQUEST, RunKind.FOLLOW)
        other = self.following(session, plan.mapping) if follows else self.active(session, plan.mapping)
        if other is not None and plan.kind is not RunKind.REQUEST:
            raise RunError(f"mapping {plan.mapping} already has an active run: {other}; cancel it or let it end")
        now = self._database.now(session)
        run = f"{now:%Y%m%d-%H%M%S}-{now.microsecond:05x}{secrets.randbits(12):03x}"
        session.add(
            RunRow(
                id=run,
                mapping=plan.mapping,
                version=plan.version,
                model=plan.model,
                head=self._seal(plan.head),
                kind=plan.kind.value,
                state=RunState.QUEUED.value,
                active=None if apart else plan.mapping,
                following=plan.mapping if follows else None,
                dry=plan.dry,
                ahead=plan.ahead,
                actor=plan.actor,
                logical_at=plan.logical_at,
                created_at=now,
                subject=plan.subject,
                expected=plan.expected,
                changed=0,
                changed_limit=plan.changed_limit,
                rejected_limit=plan.rejected_limit,
                window=[],
                shape=dict(plan.shape),
                happened={},
            )
        )
        session.flush()
        session.add_all(_slice_row(run, number, self._sealed(each), pool) for number, each in enumerate(slices))
        session.flush()
        return run

    def run(self, session: Session, run: str) -> Run:
        """One run with its counts. UnknownRunError where there is none."""
        row = session.get(RunRow, run)
        if row is None:
            raise UnknownRunError(f"there is no run {run}; `hub runs list` shows them")
        return self._run(session, row)

    def runs(self, session: Session, mapping: str | None = None, limit: int = 50) -> list[Run]:
        """The latest runs, newest first."""
        query = select(RunRow).order_by(RunRow.created_at.desc(), RunRow.id.desc()).limit(limit)
        if mapping is not None:
            query = query.where(RunRow.mapping == mapping)
        return [self._run(session, row) for row in session.scalars(query)]

    def _run(self, session: Session, row: RunRow) -> Run:
        found = _run(row, self.counts(session, row.id))
        return replace(found, head=self._open(found.head))

    def active(self, session: Session, mapping: str) -> str | None:
        """The id of the mapping's run that is not final."""
        return session.scalar(select(RunRow.id).where(RunRow.active == mapping))

    def last(self, session: Session, mapping: str, kinds: Iterable[RunKind]) -> Run | None:
        """The newest run of these kinds that was carried to its end and wrote."""
        ended = [RunState.DONE.value, RunState.DONE_WITH_REJECTS.value]
        found: list[RunRow] = []
        for kind in kinds:  # one at a time, each the end of an index, however many runs there were
            query = select(RunRow).where(RunRow.mapping == mapping, RunRow.kind == kind.value)
            query = query.where(RunRow.dry.is_(False), RunRow.state.in_(ended))
            found += session.scalars(query.order_by(RunRow.created_at.desc()).limit(1))
        newest = max(found, key=lambda row: (row.created_at, row.id), default=None)
        return None if newest is None else self._run(session, newest)

    def counts(self, session: Session, run: str) -> Counts:
        """Records by outcome over all slices of a run, those that are gone included."""
        parts = session.scalars(select(SliceRow.counts).where(SliceRow.run == run)).all()
        summed = session.scalar(select(RunRow.summed).where(RunRow.id == run))
        gone = [summed["counts"]] if summed is not None else []
        return sum((Counts.from_json(each) for each in (*parts, *gone)), Counts())

    def slices(self, session: Session, run: str) -> tuple[int, int]:
        """How many slices of a run are done, of how many."""
        stages = list(session.scalars(select(SliceRow.stage).where(SliceRow.run == run)))
        summed = session.scalar(select(RunRow.summed).where(RunRow.id == run))
        done, total = summed["slices"] if summed is not None else (0, 0)
        return done + stages.count(Stage.DONE.value), total + len(stages)

    def totals(self, session: Session, now: datetime) -> Totals:
        """Runs by state, the oldest that waits, and the records of the runs of the last day by outcome."""
        counted = session.execute(select(RunRow.state, func.count()).group_by(RunRow.state))
        states = {row[0]: row[1] for row in counted}
        recent = RunRow.created_at > now - timedelta(days=1)
        there = select(RunRow.mapping, SliceRow.counts).join(SliceRow, SliceRow.run == RunRow.id).where(recent)
        gone = select(RunRow.mapping, RunRow.summed).where(recent, RunRow.summed.is_not(None))
        parts = [(mapping, counts) for mapping, counts in session.execute(there)]
        parts += [(mapping, summed["counts"]) for mapping, summed in session.execute(gone) if summed is not None]
        records: dict[tuple[str, str], int] = {}
        for mapping, counts in parts:
            for outcome, number in Counts.from_json(counts).by.items():
                records[mapping, outcome] = records.get((mapping, outcome), 0) + number
        return Totals({each.value: states.get(each.value, 0) for each in RunState}, self.oldest_due(session), records)

    def sum_up(self, session: Session, ended_before: datetime, most: int = 200) -> int:
        """Replaces the slices of runs that ended before then by what they add up to; how many runs.

        Not while a page of the run is still there or a worker has a lease.
        """
        other = aliased(SliceRow)
        held = other.lease_until > self._database.now(session)
        open_ = select(PageRow.run).where(PageRow.run == SliceRow.run).exists()
        taken = select(other.run).where(other.run == SliceRow.run, held).exists()
        ended = select(SliceRow.run).join(RunRow, RunRow.id == SliceRow.run).where(RunRow.finished_at < ended_before)
        runs = list(session.scalars(ended.where(~open_, ~taken).distinct().limit(most)))
        for run in runs:
            row = session.get_one(RunRow, run, with_for_update=True, populate_existing=True)
            row.summed = {"counts": self.counts(session, run).to_json(), "slices": list(self.slices(session, run))}
            if row.kind == RunKind.FOLLOW.value:
                slice_ = session.scalars(select(SliceRow).where(SliceRow.run == run)).one()
                row.head, row.summed = slice_.cursor, {**row.summed, "owed": slice_.subject}
            session.execute(delete(SliceRow).where(SliceRow.run == run))
        return len(runs)

    def set_state(self, session: Session, run: str, state: RunState, reason: str | None = None) -> bool:
        """Moves a run that is not final; whether it moved."""
        row = session.get(RunRow, run, with_for_update=True, populate_existing=True)
        if row is None or RunState(row.state).final or row.state == state.value:
            return False
        row.state, row.reason = state.value, reason
        if state.final:
            row.active, row.following, row.finished_at = None, None, self._database.now(session)
        return True

    def resume(self, session: Session, run: str, changed_limit: int | None, raise_limit: bool) -> bool:
        """Lets a held run go on; `raise_limit` replaces the limit that held it (None: no limit)."""
        row = session.get(RunRow, run, with_for_update=True, populate_existing=True)
        if row is None or row.state != RunState.HELD.value:
            return False
        row.state, row.reason = RunState.RUNNING.value, None
        if raise_limit:
            row.changed_limit = changed_limit
        # A new epoch, so that a worker that has not noticed the hold cannot go on under what was true before it.
        fresh = {
            "not_before": None,
            "waits": 0,
            "attempt": 0,
            "turns": 0,
            "epoch": SliceRow.epoch + 1,
            "lease_until": None,
        }
        session.execute(update(SliceRow).where(SliceRow.run == run).values(**fresh))
        session.execute(update(PageRow).where(PageRow.run == run, PageRow.tries > 0).values(tries=0, sent=True))
        return True

    def set_shape(self, session: Session, run: str, shape: Mapping[str, Any]) -> None:
        """Takes what the fields of a run look like now for what they are to look like from here on."""
        session.execute(update(RunRow).where(RunRow.id == run).values(shape=dict(shape)))

    def set_version(self, session: Session, run: str, version: str, model: str) -> None:
        """Carries a held run on under a newer version of its mapping or model.

        Pages on their way to the model that are not decided yet are read again under it.
        """
        session.execute(update(RunRow).where(RunRow.id == run).values(version=version, model=model))
        open_states = [PageState.FEATURED.value, PageState.SCORED.value]
        session.execute(delete(PageRow).where(PageRow.run == run, PageRow.state.in_(open_states)))
        between = [Stage.SCORE.value, Stage.WRITE.value]
        mine = and_(SliceRow.run == run, SliceRow.stage.in_(between), SliceRow.phase != LANDING)
        session.execute(update(SliceRow).where(mine).values(stage=Stage.READ.value, pool="default", exhausted=False))

    # -- slices --------------------------------------------------------------------------------------------------

    def claim(self, session: Session, pool: str, worker: str, lease: float, run: str | None = None) -> Claim | None:
        """Takes the next slice of a pool (of `run`, where named) that nobody holds, under a new epoch; None: none left.

        The attempt is counted before the work starts, so that a crash is counted too.
        """
        now = self._database.now(session)
        longest = now + timedelta(seconds=2 * lease)
        stale = select(_FOLLOWING.id).where(_FOLLOWING.following == RunRow.mapping).scalar_subquery()
        query = claimable(pool, now, longest).add_columns(RunRow.state, RunRow.kind, stale).limit(1)
        if run is not None:
            query = query.where(SliceRow.run == run)
        if not self._database.sqlite:
            query = query.with_for_update(skip_locked=True, of=SliceRow)
        found = session.execute(query).one_or_none()
        if found is None:
            return None
        row, state, kind, following = found
        if following is not None and kind not in _BESIDE:
            # Whoever held it and slept beyond the lease may not go on beside this run.
            held = and_(SliceRow.run == following, SliceRow.worker.is_not(None))
            fenced = update(SliceRow).where(held).values(epoch=SliceRow.epoch + 1, worker=None, lease_until=None)
            session.execute(fenced)
        row.epoch += 1
        row.attempt += 1
        row.turns += 1
        row.worker, row.lease_until = worker, now + timedelta(seconds=lease)
        session.flush()
        if state == RunState.QUEUED.value:
            started = update(RunRow).where(RunRow.id == row.run, RunRow.state == state)
            session.execute(started.values(state=RunState.RUNNING.value, started_at=now))
        claim = _claim(row)
        return replace(claim, selection=self._open(claim.selection), cursor=self._open(claim.cursor))

    def holds(self, session: Session, claim: Claim) -> bool:
        """Whether a claim took place, as the one who made it asks who did not hear the answer of the commit."""
        row = session.get(SliceRow, (claim.run, claim.number), with_for_update=True, populate_existing=True)
        return row is not None and row.epoch == claim.epoch

    def put_back(self, session: Session, worker: str) -> int:
        """Frees what a live worker holds since the database went away under it; how many slices that is.

        Neither the attempt nor the try of a page counts: whoever lost the database has not failed at its records.
        """
        mine = and_(SliceRow.worker == worker, SliceRow.lease_until.is_not(None))
        held = session.execute(select(SliceRow.run, SliceRow.number).where(mine).with_for_update()).all()
        for run, number in held:
            tried = and_(PageRow.run == run, PageRow.slice == number, PageRow.tries > 0)
            session.execute(update(PageRow).where(tried).values(tries=PageRow.tries - 1, sent=True))
        session.execute(
            update(SliceRow).where(mine).values(lease_until=None, worker=None, attempt=SliceRow.attempt - 1)
        )
        return len(held)

    def beat(self, session: Session, claim: Claim, lease: float) -> datetime:
        """Extends the lease; its new end. LostLeaseError where the slice is no longer ours or its run was ended."""
        until = self._database.now(session) + timedelta(seconds=lease)
        self._touch(session, claim, {"lease_until": until})
        state = session.scalar(select(RunRow.state).where(RunRow.id == claim.run))
        if state != RunState.RUNNING.value:
            raise LostLeaseError(f"run {claim.run} is {state}")
        return until

    def advance(self, session: Session, claim: Claim, counts: Counts, **moved: Any) -> None:
        """Moves a slice on after a page: adds counts, sets what moved, and forgets failed attempts."""
        row = self._held(session, claim, settling=True)
        row.counts = dict((Counts.from_json(row.counts) + counts).to_json())  # type: ignore[arg-type]
        if row.waits:
            going = and_(RunRow.id == claim.run, RunRow.state == RunState.RUNNING.value)
            session.execute(update(RunRow).where(going).values(reason=None))
        row.attempt, row.waits, row.turns = 1, 0, 0
        for name, value in moved.items():
            setattr(row, name, self._seal(value) if name == "cursor" else value)
        session.flush()

    def release(self, session: Session, claim: Claim, **moved: Any) -> None:
        """Gives the slice back without counting the attempt against it; what `moved` to another stage has come on."""
        moved |= {"turns": 0} if "stage" in moved else {}
        self._touch(session, claim, {"lease_until": None, "worker": None, "attempt": 0, **moved})

    def wait(
        self,
        session: Session,
        claim: Claim,
        seconds: float | None,
        longest: float,
        why: str | None = None,
        **moved: object,
    ) -> tuple[float, int]:
        """Gives the slice back for so long, or for twice as long each time; how long, and how often in a row it waited.

        The run says why until a slice of it moves on.
        """
        row = self._held(session, claim)
        row.waits += 1
        session.execute(update(RunRow).where(RunRow.id == claim.run).values(reason=why))
        for name, value in moved.items():
            setattr(row, name, value)
        row.attempt, row.worker, row.lease_until = 0, None, None
        pause = min(longest, 2.0 ** min(row.waits, 30)) if seconds is None else seconds
        row.not_before = self._database.now(session) + timedelta(seconds=pause)
        session.flush()
        return pause, row.waits

    def put_up_with(self, session: Session, run: str, told: Told) -> None:
        """Adds to what a run had to put up with at its far sides."""
        if not told:
            return
        row = session.get_one(RunRow, run, with_for_update=True, populate_existing=True)
        row.happened = {name: list(each) for name, each in together(_told(row.happened), told).items()}

    def shrink(self, session: Session, claim: Claim, page_rows: int, fragile: int) -> None:
        """Makes the next pages smaller, after a page failed; `fragile` records on, they may grow again."""
        self._touch(session, claim, {"page_rows": page_rows, "fragile": fragile, "attempt": 1})

    def forgive(self, session: Session, claim: Claim) -> None:
        """Ends a lease after a failure and leaves the attempt counted."""
        self._touch(session, claim, {"lease_until": None, "worker": None})

    def version(self, session: Session, run: str) -> tuple[str, str]:
        """The digests of mapping and model under which a run is carried now."""
        version, model = session.execute(select(RunRow.version, RunRow.model).where(RunRow.id == run)).one()
        return version, model

    def beside(self, session: Session, run: str) -> bool:
        """Whether other runs of the same mapping went on at some time while this one does."""
        mine = session.get_one(RunRow, run)
        others = select(RunRow.id).where(
            RunRow.mapping == mine.mapping,
            RunRow.id != run,
            or_(RunRow.finished_at.is_(None), RunRow.finished_at >= mine.created_at),
        )
        return session.scalar(others.limit(1)) is not None

    def active_at(self, session: Session, mapping: str, at: datetime) -> bool:
        """Whether a run of the mapping, requests and following aside, went on at that moment."""
        query = select(RunRow.id).where(
            RunRow.mapping == mapping,
            RunRow.kind.not_in(_BESIDE),
            RunRow.created_at <= at,
            or_(RunRow.finished_at.is_(None), RunRow.finished_at > at),
        )
        return session.scalar(query.limit(1)) is not None

    def more(self, session: Session, pool: str) -> bool:
        """Whether a slice of the pool waits that nobody holds."""
        now = self._database.now(session)
        return session.scalar(claimable(pool, now, now + timedelta(hours=2)).limit(1)) is not None

    def lock_run(self, session: Session, run: str) -> None:
        """Keeps others from ending the run until the transaction does: of two last slices one must see the other."""
        session.get_one(RunRow, run, with_for_update=True, populate_existing=True)

    def unfinished(self, session: Session, run: str) -> int:
        """Slices of a run that are not done."""
        query = select(func.count()).select_from(SliceRow)
        return session.scalar(query.where(SliceRow.run == run, SliceRow.stage != Stage.DONE.value)) or 0

    def pending(self, session: Session) -> bool:
        """Whether some run can still go on without a person, and to an end: following has none."""
        ends = RunRow.kind != RunKind.FOLLOW.value
        return session.scalar(select(RunRow.id).where(RunRow.state.in_(_GOING), ends).limit(1)) is not None

    def oldest_due(self, session: Session) -> datetime | None:
        """Since when the oldest run that nobody works on has been waiting."""
        return session.scalar(select(func.min(RunRow.created_at)).where(RunRow.state == RunState.QUEUED.value))

    def waiting_since(self, session: Session, pool: str) -> datetime | None:
        """Since when the oldest run that nobody works on has had work for this pool."""
        mine = select(SliceRow.run).where(SliceRow.pool == pool, SliceRow.run == RunRow.id).exists()
        return session.scalar(select(func.min(RunRow.created_at)).where(RunRow.state == RunState.QUEUED.value, mine))

    def holders(self, session: Session) -> list[str]:
        """The workers that hold a slice under a lease that has not run out."""
        held = and_(SliceRow.worker.is_not(None), SliceRow.lease_until > self._database.now(session))
        return sorted(session.scalars(select(SliceRow.worker).where(held).distinct()))

    def pools(self, session: Session, run: str) -> list[str]:
        """The pools that the unfinished slices of a run wait for."""
        query = select(SliceRow.pool).where(SliceRow.run == run, SliceRow.stage != Stage.DONE.value).distinct()
        return sorted(session.scalars(query))

    def _held(self, session: Session, claim: Claim, *, settling: bool = False) -> SliceRow:
        """The slice under the claim's epoch, locked, in a run that may go on; `settling` lets its state be any.

        What was sent to a far side is recorded even where the run was ended meanwhile.
        """
        row = session.get(SliceRow, (claim.run, claim.number), with_for_update=True, populate_existing=True)
        if row is None or row.epoch != claim.epoch:
            raise LostLeaseError(f"slice {claim.number} of run {claim.run} is held by another worker")
        if settling:
            return row
        state = session.scalar(select(RunRow.state).where(RunRow.id == claim.run))
        if state != RunState.RUNNING.value:
            raise LostLeaseError(f"run {claim.run} is {state}")
        return row

    def _touch(self, session: Session, claim: Claim, values: dict[str, Any]) -> None:
        mine = and_(SliceRow.run == claim.run, SliceRow.number == claim.number, SliceRow.epoch == claim.epoch)
        touched = session.execute(update(SliceRow).where(mine).values(**values))
        if touched.rowcount != 1:  # type: ignore[attr-defined]
            raise LostLeaseError(f"slice {claim.number} of run {claim.run} is held by another worker")

    # -- pages ---------------------------------------------------------------------------------------------------

    def put_page(self, session: Session, claim: Claim, page: PageRecord, seen: bytes | None = None) -> None:
        """Stores a page in its new state, under the claim's fence."""
        self._held(session, claim, settling=page.state is PageState.WRITTEN).turns = 0
        session.merge(
            PageRow(
                run=page.run,
                slice=page.slice,
                number=page.number,
                state=page.state.value,
                segment=page.segment,
                cursor=self._seal(page.cursor),
                counts=dict(page.counts.to_json()),
                features=page.features,
                predictions=page.predictions,
                journal=page.journal,
                **({"seen": seen} if seen is not None else {}),
            )
        )
        session.flush()

    def has_page(self, session: Session, claim: Claim, page: PageRecord) -> bool:
        """Whether a page stands as it was to be stored, as asked after a commit whose answer was lost."""
        self._held(session, claim)
        row = session.get(PageRow, (page.run, page.slice, page.number), populate_existing=True)
        return row is not None and (row.state, row.segment) == (page.state.value, page.segment)

    def open_pages(self, session: Session, claim: Claim) -> list[PageRecord]:
        """The pages of a slice that are not yet written, in order."""
        query = (
            select(PageRow)
            .where(PageRow.run == claim.run, PageRow.slice == claim.number, PageRow.state != PageState.WRITTEN.value)
            .order_by(PageRow.number)
        )
        found = [_page(row) for row in session.scalars(query)]
        return [replace(each, cursor=self._open(each.cursor)) for each in found]

    def try_page(self, session: Session, claim: Claim, page: int, changes: int) -> Part:
        """Which of a page's stored changes are to be written now, one more try at them counted.

        After a try that ended without an answer they are fewer, unless the far side has a job of them under way.
        """
        self._held(session, claim)
        row = session.get_one(PageRow, (claim.run, claim.number, page), populate_existing=True)
        end = row.fragile if row.answered < row.fragile else changes
        rows = min(row.part or changes, end - row.answered)
        row.sent = row.sent or row.tries > 0
        row.tries += 1
        if row.tries > 1 and rows > 1 and (row.journal is None or row.tries > MOST_TRIES):
            row.fragile, row.tries, row.journal = row.answered + rows, 1, None
            row.part = rows = max(1, rows // SHRINK)
        session.flush()
        return Part(row.answered, rows, row.tries)

    def settle_part(self, session: Session, claim: Claim, page: int, part: Part) -> None:
        """Moves a page on behind changes whose results are stored."""
        self._held(session, claim, settling=True)
        row = session.get_one(PageRow, (claim.run, claim.number, page), populate_existing=True)
        row.answered, row.tries, row.journal, row.sent = part.end, 0, None, True
        if row.answered >= row.fragile:
            row.part = None
        session.flush()

    def writing(self, session: Session, claim: Claim) -> bool:
        """Whether a write of the slice began and has no answer."""
        mine = and_(PageRow.run == claim.run, PageRow.slice == claim.number, PageRow.state == PageState.DECIDED.value)
        return session.scalar(select(PageRow.number).where(mine, PageRow.tries > 0).limit(1)) is not None

    def untry_page(self, session: Session, claim: Claim, page: int) -> int:
        """Takes a counted try back: the far side was away, the page did no harm. How many are left."""
        self._held(session, claim, settling=True)
        row = session.get_one(PageRow, (claim.run, claim.number, page), populate_existing=True)
        row.tries = max(0, row.tries - 1)
        return row.tries

    def tries(self, session: Session, claim: Claim, page: int) -> int:
        """How often writing a page was begun, as asked after a commit whose answer was lost."""
        self._held(session, claim, settling=True)
        return session.get_one(PageRow, (claim.run, claim.number, page), populate_existing=True).tries

    def drop_pages(self, session: Session, claim: Claim, states: Sequence[PageState]) -> None:
        """Forgets the pages of a slice that stand in these states; their records are read again."""
        self._held(session, claim)
        mine = and_(PageRow.run == claim.run, PageRow.slice == claim.number)
        session.execute(delete(PageRow).where(mine, PageRow.state.in_([each.value for each in states])))

    def parked_in_a_row(self, session: Session, claim: Claim, most: int) -> int:
        """How many of a slice's last pages, up to `most`, held nothing but records that were parked."""
        query = (
            select(PageRow.counts)
            .where(PageRow.run == claim.run, PageRow.slice == claim.number, PageRow.state == PageState.WRITTEN.value)
            .order_by(PageRow.number.desc())
            .limit(most)
        )
        number = 0
        for counts in session.scalars(query):
            if not counts.get("parked") or counts["parked"] != counts.get("read"):
                break
            number += 1
        return number

    def page_state(self, session: Session, claim: Claim, page: int) -> PageState | None:
        """How far a page came; None before its first commit."""
        row = session.get(PageRow, (claim.run, claim.number, page), populate_existing=True)
        return None if row is None else PageState(row.state)

    def note(self, session: Session, claim: Claim, page: int, handle: str) -> None:
        """Stores the far side's job handle of a page's write."""
        self._held(session, claim)
        session.get_one(PageRow, (claim.run, claim.number, page)).journal = handle

    def noted(self, session: Session, claim: Claim, page: int) -> str | None:
        """The far side's job handle noted for a page, by whoever tried it."""
        row = session.get(PageRow, (claim.run, claim.number, page))
        return None if row is None else row.journal

    def seen(self, session: Session, run: str) -> list[bytes]:
        """The key hashes that the pages of a run stored."""
        return list(session.scalars(select(PageRow.seen).where(PageRow.run == run, PageRow.seen.is_not(None))))

    def source_counts(self, session: Session, run: str) -> Counts:
        """What became of the records that a run read from the source itself."""
        slices = select(SliceRow.counts).where(SliceRow.run == run, SliceRow.kind == SliceKind.READ.value)
        return sum((Counts.from_json(each) for each in session.scalars(slices)), Counts())

    def forget_pages(self, session: Session, run: str) -> None:
        """Drops the page rows of an ended run; what became of each record stands in the decision log."""
        session.execute(delete(PageRow).where(PageRow.run == run, PageRow.state == PageState.WRITTEN.value))

    def abandoned(self, session: Session, before: datetime, most: int = 50) -> list[Abandoned]:
        """Pages left behind by runs that ended before then."""
        query = (
            select(PageRow, RunRow.actor)
            .join(RunRow, RunRow.id == PageRow.run)
            .where(RunRow.finished_at < before)
            .limit(most)
        )
        return [
            Abandoned(
                row.run,
                row.slice,
                row.number,
                row.segment if row.state == PageState.DECIDED.value else None,
                row.sent or row.tries > 0,
                actor,
            )
            for row, actor in session.execute(query)
        ]

    def unsent(self, session: Session, run: str) -> set[int]:
        """The segments of pages whose changes were stored and never sent."""
        never = and_(PageRow.state == PageState.DECIDED.value, PageRow.tries == 0, PageRow.sent.is_(False))
        found = session.scalars(select(PageRow.segment).where(PageRow.run == run, never))
        return {each for each in found if each is not None}

    def drop_page(self, session: Session, page: Abandoned) -> bool:
        """Forgets one page of an ended run; False where somebody else has."""
        gone = delete(PageRow).where(
            PageRow.run == page.run, PageRow.slice == page.slice, PageRow.number == page.number
        )
        return session.execute(gone).rowcount == 1  # type: ignore[attr-defined, no-any-return]

    # -- following -----------------------------------------------------------------------------------------------

    def following(self, session: Session, mapping: str) -> str | None:
        """The id of the run that follows the mapping's live source, unless it has ended."""
        return session.scalar(select(RunRow.id).where(RunRow.following == mapping))

    def is_held(self, session: Session, run: str) -> bool:
        """Whether a worker has a lease on a slice of the run."""
        leased = and_(SliceRow.run == run, SliceRow.lease_until > self._database.now(session))
        return session.scalar(select(SliceRow.number).where(leased).limit(1)) is not None

    def left_off(self, session: Session, mapping: str) -> LeftOff | None:
        """Where the newest run that followed the mapping's live source stands or stood; None where there was none."""
        mine = select(RunRow).where(RunRow.mapping == mapping, RunRow.kind == RunKind.FOLLOW.value)
        row = session.scalars(mine.order_by(RunRow.created_at.desc(), RunRow.id.desc()).limit(1)).one_or_none()
        if row is None:
            return None
        at = session.get(SliceRow, (row.id, 0), populate_existing=True)
        cursor, owed = (at.cursor, at.subject) if at is not None else (row.head, (row.summed or {}).get("owed", ()))
        return LeftOff(row.id, row.version, RunState(row.state), row.created_at, self._open(cursor), tuple(owed))

    def waits_beside(self, session: Session, run: str) -> bool:
        """Whether another run of the mapping would go on, which what follows it gives way to. LostLeaseError: ended."""
        mapping, state = session.execute(select(RunRow.mapping, RunRow.state).where(RunRow.id == run)).one()
        if state != RunState.RUNNING.value:
            raise LostLeaseError(f"run {run} is {state}")
        other = select(RunRow.id).where(RunRow.active == mapping, RunRow.state.in_(_GOING))
        return session.scalar(other) is not None

    def move_on(self, session: Session, claim: Claim, cursor: str | None, owed: Sequence[str] | None = None) -> None:
        """Moves a slice that follows behind a page without records; `owed` says why a reconciliation is due.

        A failed attempt stays counted: the page that failed may be the next one.
        """
        row = self._held(session, claim)
        if row.waits:
            session.execute(update(RunRow).where(RunRow.id == claim.run).values(reason=None))
        row.waits, row.turns = 0, 0
        if cursor is not None:
            row.cursor = self._seal(cursor)
        if owed is not None:
            row.subject = list(owed)
        session.flush()

    def owed(self, session: Session, run: str) -> tuple[str, ...]:
        """Why a reconciliation is due before what follows knows of every change; empty where it does."""
        return tuple(session.scalars(select(SliceRow.subject).where(SliceRow.run == run)).one())

    def settle_debt(self, session: Session, run: str) -> None:
        """A reconciliation is ordered."""
        session.execute(update(SliceRow).where(SliceRow.run == run).values(subject=[]))
        session.execute(update(RunRow).where(RunRow.id == run).values(reason=None))

    def tell(self, session: Session, run: str, reason: str) -> None:
        """Says beside a run that goes on what is amiss with it."""
        going = and_(RunRow.id == run, RunRow.state.in_(_GOING))
        session.execute(update(RunRow).where(going).values(reason=reason))

    # -- limits --------------------------------------------------------------------------------------------------

    def spend(self, session: Session, run: str, changed: int) -> bool:
        """Counts intended changes against the run's limit; False, and nothing counted, where they would cross it."""
        within = or_(RunRow.changed_limit.is_(None), RunRow.changed + changed <= RunRow.changed_limit)
        spent = session.execute(update(RunRow).where(RunRow.id == run, within).values(changed=RunRow.changed + changed))
        return spent.rowcount == 1  # type: ignore[attr-defined, no-any-return]

    def judge(self, session: Session, run: str, written: int, rejected: int) -> float | None:
        """Adds a page's results to the window of the last 1,000 written; the share of rejects where it is too high."""
        row = session.get_one(RunRow, run, with_for_update=True, populate_existing=True)
        window = [*row.window, [written, rejected]] if written else list(row.window)
        while len(window) > 1 and sum(each[0] for each in window[1:]) >= WINDOW:
            window.pop(0)
        row.window = window
        if row.rejected_limit is None:
            return None
        share = sum(each[1] for each in window) / max(LEAST_WRITTEN, sum(each[0] for each in window))
        return share if share > row.rejected_limit else None

    # -- bells and ticks -----------------------------------------------------------------------------------------

    def wants_ring(self, session: Session, pool: str, stale: float) -> bool:
        """Whether the bell of a pool should be rung now: not while a ring younger than `stale` seconds is unheard."""
        now = self._database.now(session)
        row = session.get(BellRow, pool)
        if row is not None and row.rung_at > now - timedelta(seconds=stale):
            return False
        try:
            with session.begin_nested():
                session.merge(BellRow(pool=pool, rung_at=now))
        except IntegrityError:
            return False  # rung for the first time by another process between our look and our insert
        return True

    def heard(self, session: Session, pool: str) -> None:
        """A worker of the pool heard the bell."""
        session.execute(delete(BellRow).where(BellRow.pool == pool))

    def tick(self, session: Session, mapping: str, at: datetime, dropped: int) -> bool:
        """Notes a tick, and how many with it were dropped; False where somebody else acted on it already."""
        row = session.get(TickRow, mapping, with_for_update=True, populate_existing=True)
        if row is None:
            try:
                with session.begin_nested():
                    session.add(TickRow(mapping=mapping, at=at, dropped=dropped))
            except IntegrityError:
                return False  # the mapping's first tick, noted by another process between our look and our insert
            return True
        if row.at >= at:
            return False
        row.at, row.dropped = at, row.dropped + dropped
        session.flush()
        return True

    def last_tick(self, session: Session, mapping: str) -> tuple[datetime, int] | None:
        """The last tick acted on, and how many were dropped so far."""
        row = session.get(TickRow, mapping)
        return None if row is None else (row.at, row.dropped)


def abandon_worker(session: Session, worker: str) -> int:
    """Ends the leases of a worker that is known to be dead, attempts left counted; how many slices it held."""
    held = update(SliceRow).where(SliceRow.worker == worker, SliceRow.lease_until.is_not(None))
    return session.execute(held.values(lease_until=None, worker=None)).rowcount  # type: ignore[attr-defined, no-any-return]


def unfollowed(session: Session, now: datetime) -> int:
    """How many slices that follow a live source nobody holds that could be taken up now."""
    waiting = claimable(FOLLOWERS, now, now + timedelta(hours=2)).order_by(None).subquery()
    return session.scalar(select(func.count()).select_from(waiting)) or 0


_GOING = (RunState.QUEUED.value, RunState.RUNNING.value)
_BESIDE = (RunKind.REQUEST.value, RunKind.FOLLOW.value)
_FOLLOWING = aliased(RunRow)


def _open_page(of: Any) -> ColumnElement[bool]:
    """Whether a page of a slice was left between its commits."""
    mine = and_(PageRow.run == of.run, PageRow.slice == of.number, PageRow.state != PageState.WRITTEN.value)
    return select(PageRow.number).where(mine).exists()


def _apart(pool: str, now: datetime, longest: datetime) -> ColumnElement[bool]:
    """That what follows a live source and another run of its mapping do not go on at once.

    What was begun by the one that follows is finished first, by a worker of the pool `default` where need be.
    """
    other, following, held = aliased(RunRow), aliased(RunRow), aliased(SliceRow)
    busy = select(other.id).where(other.active == RunRow.mapping, other.state.in_(_GOING)).exists()
    leased = and_(held.lease_until >= now, held.lease_until <= longest)
    followed = (
        select(held.number)
        .join(following, following.id == held.run)
        .where(following.following == RunRow.mapping, following.state.in_(_GOING), or_(leased, _open_page(held)))
        .exists()
    )
    mine = SliceRow.pool == pool
    if pool == FOLLOWERS:
        return and_(mine, or_(~busy, _open_page(SliceRow)))
    free = and_(mine, or_(RunRow.kind.in_(_BESIDE), ~followed))
    if pool != "default":
        return free
    return or_(free, and_(SliceRow.pool == FOLLOWERS, busy, _open_page(SliceRow)))


def claimable(pool: str, now: datetime, longest: datetime) -> Select[SliceRow]:
    """Slices to claim, the oldest run's first. A lease that ends behind `longest` is older than the clock's last step.

    The runs that go on come in order from an index of them alone, so that the first slice found ends the search: what
    it costs hangs neither on the runs that ended nor on how many wait.
    """
    earlier = aliased(SliceRow)
    blocked = (
        select(earlier.number)
        .where(earlier.run == SliceRow.run, earlier.phase < SliceRow.phase, earlier.stage != Stage.DONE.value)
        .exists()
    )
    going = RunRow.state.in_(
        [literal(each, literal_execute=True) for each in (RunState.QUEUED.value, RunState.RUNNING.value)]
    )
    return (
        select(SliceRow)
        .join(RunRow, RunRow.id == SliceRow.run)
        .where(
            going,
            _apart(pool, now, longest),
            SliceRow.stage != Stage.DONE.value,
            or_(SliceRow.lease_until.is_(None), SliceRow.lease_until < now, SliceRow.lease_until > longest),
            or_(SliceRow.not_before.is_(None), SliceRow.not_before <= now),
            or_(SliceRow.phase == 0, ~blocked),  # nothing is before the first phase, which most slices are in
        )
        .order_by(RunRow.id, SliceRow.phase, SliceRow.number)
    )


def _slice_row(run: str, number: int, plan: SlicePlan, pool: str) -> SliceRow:
    return SliceRow(
        run=run,
        number=number,
        kind=plan.kind.value,
        phase=plan.phase,
        stage=Stage.READ.value,
        pool=pool,
        selection=plan.selection,
        subject=list(plan.subject),
        cursor=plan.cursor,
        exhausted=False,
        page_rows=plan.page_rows,
        full_page_rows=plan.page_rows,
        fragile=0,
        pages=0,
        counts={},
        epoch=0,
        attempt=0,
        waits=0,
        turns=0,
    )


def _run(row: RunRow, counts: Counts) -> Run:
    return Run(
        id=row.id,
        mapping=row.mapping,
        version=row.version,
        model=row.model,
        head=row.head,
        kind=RunKind(row.kind),
        state=RunState(row.state),
        dry=row.dry,
        ahead=row.ahead,
        actor=row.actor,
        logical_at=row.logical_at,
        created_at=row.created_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
        reason=row.reason,
        subject=row.subject,
        expected=row.expected,
        changed=row.changed,
        changed_limit=row.changed_limit,
        rejected_limit=row.rejected_limit,
        counts=counts,
        shape=row.shape,
        happened=_told(row.happened),
    )


def _told(kept: Mapping[str, Sequence[float]]) -> Told:
    return {name: (int(times), amount) for name, (times, amount) in kept.items()}


def _claim(row: SliceRow) -> Claim:
    assert row.worker is not None
    assert row.lease_until is not None
    return Claim(
        run=row.run,
        number=row.number,
        kind=SliceKind(row.kind),
        stage=Stage(row.stage),
        epoch=row.epoch,
        attempt=row.attempt,
        turns=row.turns,
        worker=row.worker,
        lease_until=row.lease_until,
        selection=row.selection,
        cursor=row.cursor,
        page_rows=row.page_rows,
        full_page_rows=row.full_page_rows,
        fragile=row.fragile,
        pages=row.pages,
        exhausted=row.exhausted,
        subject=tuple(row.subject),
        phase=row.phase,
    )


def _page(row: PageRow) -> PageRecord:
    return PageRecord(
        run=row.run,
        slice=row.slice,
        number=row.number,
        state=PageState(row.state),
        segment=row.segment,
        cursor=row.cursor,
        counts=Counts.from_json(row.counts),
        features=row.features,
        predictions=row.predictions,
        journal=row.journal,
    )
