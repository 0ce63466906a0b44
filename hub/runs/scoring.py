"""Records scored on the spot: a preview that leaves no trace but an audit event, and requests from other programs."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from hub.access import Actor
from hub.mappings import Compiled, Published
from hub.runs.execution import Worker
from hub.runs.installation import Installation
from hub.runs.pages import Load, Trip, inline
from hub.runs.planning import add_run
from hub.runs.types import BadRequestError, Counts, Run, RunError, RunKind, RunPlan, RunState, SliceKind, SlicePlan

MOST_RECORDS = 1_000
"""Records in one request."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Decisions on some records, one row each (columns of the decision log), and where they are stored."""

    rows: pl.DataFrame
    compiled: Compiled
    segment: int | None = None
    run: str | None = None


def preview(hub: Installation, text: str, actor: Actor, limit: int = 10) -> Answer:
    """Carries the first records of the source through a document and writes nothing."""
    compiled = hub.mappings.check(text, actor)
    trip = Trip(hub, _passing_run(hub, compiled, str(actor)), compiled)
    with trip.travelling():
        rows = trip.decide(trip.first_page(limit))
    hub.mappings.note_preview(text, actor, {"records": rows.height})
    return Answer(rows, compiled)


class Scoring:
    """Answers requests; safe to share between threads. What a mapping needs is prepared once per version."""

    def __init__(self, hub: Installation) -> None:
        self._hub = hub
        self._trips: dict[str, Trip] = {}
        self._lock = threading.Lock()

    def score(self, mapping: str, records: Sequence[Mapping[str, Any]], actor: str) -> Answer:
        """Decisions on records given inline, durable before this returns; nothing is written to the far side."""
        _check_size(records)

        def load(trip: Trip) -> Load:
            return Load(inline(trip.compiled.source, trip.compiled.fields, records), trip.no_keys)

        return self._answer(mapping, load, actor)

    def score_keys(self, mapping: str, keys: Sequence[Mapping[str, Any]], actor: str) -> Answer:
        """As `score`, for records fetched by key. BadRequestError says how many are not there."""
        _check_size(keys)

        def load(trip: Trip) -> Load:
            source = trip.compiled.source
            fetched = trip.fetch(inline(source, source.key, keys).get_column("_key").struct.unnest())
            if fetched.gone.height:
                raise BadRequestError(f"keys: {fetched.gone.height} of {len(keys)} name no record of {source.name}")
            return fetched

        return self._answer(mapping, load, actor)

    def score_and_write(self, mapping: str, records: Sequence[Mapping[str, Any]], actor: str) -> Answer:
        """Scores the records with these keys and writes them back, by a run of its own; values given win over those read.

        The run is carried in this process; should that die, a worker takes over.
        """
        _check_size(records)
        hub, published = self._hub, self._hub.mappings.get(mapping)
        trip = self._trip(published)
        inline(trip.compiled.source, trip.compiled.fields, records)
        with hub.database.read() as session:
            now = hub.database.now(session)
        sealed = hub.keys.seal(json.dumps(list(records)).encode(), {"kind": "request"})
        plan = RunPlan(mapping, published.digest, trip.compiled.model.digest, RunKind.REQUEST, actor, now)
        subject = (base64.b64encode(sealed).decode(),)
        run = add_run(hub, plan, [SlicePlan(SliceKind.NAMED, 0, page_rows=MOST_RECORDS, subject=subject)])
        worker = Worker(hub, "default", f"api/{threading.get_ident()}")
        while worker.work(run):
            pass
        return self._written(run, trip)

    def _written(self, run: str, trip: Trip) -> Answer:
        with self._hub.database.read() as session:
            ended = self._hub.ledger.run(session, run)
            segments = self._hub.log.segments(session, run=run)
        if ended.state is RunState.HELD:
            raise RunError(ended.reason or f"run {run} is held")
        frames = [self._hub.log.frame(each.id) for each in segments]
        rows = pl.concat(frames, how="diagonal_relaxed") if frames else pl.DataFrame()
        return Answer(rows, trip.compiled, segments[0].id if segments else None, run)

    def _answer(self, mapping: str, load: Callable[[Trip], Load], actor: str) -> Answer:
        trip = self._trip(self._hub.mappings.get(mapping))
        with self._hub.database.read() as session:
            now = self._hub.database.now(session)
        asked = trip.at(now, actor)
        with asked.travelling():
            rows, segment = asked.remember(load(asked))
        return Answer(rows, asked.compiled, segment)

    def _trip(self, published: Published) -> Trip:
        with self._lock:
            known = self._trips.get(published.mapping)
        if published.paused:
            raise RunError(f"mapping {published.mapping} is paused")
        compiled = self._hub.mappings.compile_published(published)
        if known is not None and known.compiled is compiled:
            return known
        fresh = Trip(self._hub, _passing_run(self._hub, compiled, "api"), compiled)
        with self._lock:
            self._trips[published.mapping] = fresh
        return fresh


def _check_size(records: Sequence[Mapping[str, Any]]) -> None:
    if not 1 <= len(records) <= MOST_RECORDS:
        raise BadRequestError(f"records: expected 1 to {MOST_RECORDS}; start a run for more")


def _passing_run(hub: Installation, compiled: Compiled, actor: str) -> Run:
    """A run that is not in the ledger, for decisions on the spot."""
    with hub.database.read() as session:
        now = hub.database.now(session)
    return Run(
        id="request",
        mapping=compiled.document.mapping,
        version=compiled.document.digest,
        model=compiled.model.digest,
        head=None,
        kind=RunKind.REQUEST,
        state=RunState.RUNNING,
        dry=False,
        ahead=False,
        actor=actor,
        logical_at=now,
        created_at=now,
        started_at=now,
        finished_at=None,
        reason=None,
        subject=None,
        expected=None,
        changed=0,
        changed_limit=None,
        rejected_limit=None,
        counts=Counts(),
    )
