"""The ledger's runs: what was ordered, how far each came, and the limits under which it goes on."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import and_, delete, func, or_, select, update
from sqlalchemy.orm import Session, aliased

from hub.runs.ledger.part import LedgerPart
from hub.runs.ledger.tables import PageRow, RunRow, SliceRow, run_of, slice_row
from hub.runs.types import (
    LANDING,
    Counts,
    Followed,
    Lags,
    PageState,
    Run,
    RunError,
    RunKind,
    RunPlan,
    RunState,
    SlicePlan,
    Stage,
    Totals,
    no_such_run,
)

WINDOW = 1_000
"""Records written over which the share of rejects is judged."""

LEAST_WRITTEN = 100
"""Until so many records are written, rejects are judged as a share of so many: one bad record of three is no trend."""


class Runs(LedgerPart):
    """Queries about runs."""

    def add(self, session: Session, plan: RunPlan, slices: Sequence[SlicePlan], pool: str) -> str:
        """Stores a new run with its slices; its id. RunError where the mapping has an active one."""
        follows, apart = plan.kind is RunKind.FOLLOW, plan.kind in (RunKind.REQUEST, RunKind.FOLLOW)
        if plan.kind is not RunKind.REQUEST:
            self.refuse_second(session, plan.mapping, follows=follows)
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
        session.add_all(slice_row(run, number, self._sealed(each), pool) for number, each in enumerate(slices))
        session.flush()
        return run

    def mapping_of(self, session: Session, run: str) -> str | None:
        """The mapping of a run; None where there is no such run."""
        return session.execute(select(RunRow.mapping).where(RunRow.id == run)).scalar_one_or_none()

    def run(self, session: Session, run: str) -> Run:
        """One run with its counts. UnknownRunError where there is none."""
        row = session.get(RunRow, run)
        if row is None:
            raise no_such_run(run)
        return self._run(session, row)

    def runs(self, session: Session, mapping: str | None = None, limit: int = 50) -> list[Run]:
        """The latest runs, newest first."""
        query = select(RunRow).order_by(RunRow.created_at.desc(), RunRow.id.desc()).limit(limit)
        if mapping is not None:
            query = query.where(RunRow.mapping == mapping)
        return [self._run(session, row) for row in session.scalars(query)]

    def _run(self, session: Session, row: RunRow) -> Run:
        found = run_of(row, self.counts(session, row.id))
        return replace(found, head=self._open(found.head))

    def active(self, session: Session, mapping: str) -> str | None:
        """The id of the mapping's run that is not final."""
        return session.scalar(select(RunRow.id).where(RunRow.active == mapping))

    def refuse_second(self, session: Session, mapping: str, *, follows: bool = False) -> None:
        """RunError where the mapping has an active run, or one that follows its live source, and says how it stands."""
        other = self.following(session, mapping) if follows else self.active(session, mapping)
        if other is None:
            return
        state, reason = session.execute(select(RunRow.state, RunRow.reason).where(RunRow.id == other)).one()
        why = f": {reason}" if reason else ""
        raise RunError(f"mapping {mapping} already has an active run, {other}, {state}{why}; cancel it or let it end")

    def following(self, session: Session, mapping: str) -> str | None:
        """The id of the run that follows the mapping's live source, unless it has ended."""
        return session.scalar(select(RunRow.id).where(RunRow.following == mapping))

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
        known = {each.value: states.get(each.value, 0) for each in RunState}
        return Totals(known, self.oldest_due(session), records, self._followed(session, now))

    def oldest_due(self, session: Session) -> datetime | None:
        """Since when the oldest run that nobody works on has been waiting."""
        return session.scalar(select(func.min(RunRow.created_at)).where(RunRow.state == RunState.QUEUED.value))

    def _followed(self, session: Session, now: datetime) -> dict[str, Followed]:
        columns = (RunRow.following, SliceRow.lease_until, SliceRow.counts, SliceRow.lags)
        query = select(*columns).join(SliceRow, SliceRow.run == RunRow.id).where(RunRow.following.is_not(None))
        return {
            str(mapping): Followed(
                until is not None and until > now, Counts.from_json(counts).read, Lags.from_json(lags)
            )
            for mapping, until, counts, lags in session.execute(query)
        }

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
