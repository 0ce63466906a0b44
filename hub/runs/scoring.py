"""Records scored on the spot: a preview that leaves no trace but an audit event, and requests from other programs."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime
from typing import Any

import polars as pl

from hub.access import Actor
from hub.decisions import key_text
from hub.logs import Log
from hub.mappings import Compiled
from hub.runs.execution import Worker
from hub.runs.installation import Installation
from hub.runs.pages import Trip, inline
from hub.runs.planning.planning import add_run
from hub.runs.requests.answering import MOST_RECORDS, Answer, Request, answer, answer_late, gathered
from hub.runs.requests.deadlines import Deadlines
from hub.runs.requests.gathering import Gathering
from hub.runs.types import BadRequestError, Counts, Run, RunError, RunKind, RunPlan, RunState, SliceKind, SlicePlan

THREADS = 16
"""Pages of requests at work at once, each of another mapping, and answers of fallbacks beside them."""

log = Log(__name__)


def preview(hub: Installation, text: str, actor: Actor, limit: int = 10) -> Answer:
    """Carries the first records of the source through a document and writes nothing."""
    compiled = hub.mappings.check(text, actor)
    with hub.database.read() as session:
        now = hub.database.now(session)
    trip = Trip(hub, _passing_run(compiled, now, str(actor)), compiled)
    with trip.travelling():
        rows = trip.online.decide(trip.online.feature(trip.first_page(limit))).decisions
    subjects = [hub.subjects.name(compiled.document.mapping, each) for each in key_text(rows["_key"])]
    hub.mappings.note_preview(
        text, actor, {"records": rows.height, "subjects": subjects, **trip.trail.told_of_reading()}
    )
    return Answer(rows, compiled, rows["_key"])


class Scoring:
    """Answers requests; safe to share between threads. What a mapping needs is prepared once per version.

    Requests of one mapping that come while others are at work make the next page together. Whether the mapping is
    paused, and which version of it and of its model counts, is looked up for each page after its requests came.
    """

    def __init__(self, hub: Installation) -> None:
        self._hub = hub
        self._trips: dict[str, Trip] = {}
        self._lock = threading.Lock()
        self._gathering = Gathering(self._carry, threads=THREADS, name="score")
        self._deadlines = Deadlines("deadlines")
        self._beside = ThreadPoolExecutor(THREADS, "fallback")

    def score(self, mapping: str, records: Sequence[Mapping[str, Any]], actor: str) -> Future[Answer]:
        """Decisions on records given inline, durable before they come; nothing is written to the far side."""
        return self._asked(Request(mapping, "records", records, actor))

    def score_keys(self, mapping: str, keys: Sequence[Mapping[str, Any]], actor: str) -> Future[Answer]:
        """As `score`, for records fetched by key. BadRequestError says how many are not there."""
        return self._asked(Request(mapping, "keys", keys, actor))

    def score_and_write(
        self, mapping: str, records: Sequence[Mapping[str, Any]], actor: str, what: str = "records"
    ) -> Answer:
        """Scores the records with these keys and writes them back, by a run of its own; values given win.

        The run is carried in this process; should that die, a worker takes over. RunError where it takes too long.
        """
        hub, trip = self._hub, self._trip(mapping)
        compiled = trip.compiled
        if not 1 <= len(records) <= MOST_RECORDS:
            raise BadRequestError(f"{what}: expected 1 to {MOST_RECORDS}; start a run for more")
        fields = compiled.fields if what == "records" else compiled.source.key
        page = inline(compiled.source, fields, records, what)
        with hub.database.read() as session:
            now = hub.database.now(session)
        sealed = hub.keys.seal(json.dumps(list(records)).encode(), {"kind": "request"})
        plan = RunPlan(mapping, compiled.document.digest, compiled.model.digest, RunKind.REQUEST, actor, now)
        subject = (base64.b64encode(sealed).decode(),)
        run = add_run(hub, plan, [SlicePlan(SliceKind.NAMED, 0, page_rows=MOST_RECORDS, subject=subject)])
        worker = Worker(hub, "default", f"api/{threading.get_ident()}")
        try:
            while worker.work(run):
                pass
        finally:
            worker.rest()
        return self._written(self._ended(run), trip, page["_key"])

    def _ended(self, run: str) -> Run:
        """The run when it has ended: another worker may have been first to claim it."""
        pause, until = threading.Event(), time.monotonic() + self._hub.settings.lease_seconds
        while True:
            with self._hub.database.read() as session:
                found = self._hub.ledger.run(session, run)
            if found.state in (RunState.HELD, RunState.FAILED):
                raise RunError(f"run {run} is {found.state.value}: {found.reason}")
            if found.state.final:
                return found
            if time.monotonic() > until:
                raise RunError(f"run {run} goes on; look at it again later")
            pause.wait(0.05)

    def _written(self, run: Run, trip: Trip, keys: pl.Series) -> Answer:
        log = self._hub.log
        with self._hub.database.read() as session:
            segments = log.segments(session, run=run.id)
        frames = [_with_results(log.frame(each.id), log.results(each.id)) for each in segments]
        rows = pl.concat(frames, how="diagonal_relaxed") if frames else pl.DataFrame()
        return Answer(rows, trip.compiled, keys, tuple(segments), run.id)

    def _asked(self, request: Request) -> Future[Answer]:
        with self._lock:
            known = self._trips.get(request.mapping)
        if known is not None:
            self._bound(request, known)
        # Records and keys apart: nobody's given record waits for another's to be fetched.
        return self._gathering.ask(f"{request.what} {request.mapping}", request).answer

    def _carry(self, requests: Sequence[Request]) -> Sequence[Request]:
        """Answers the next page of requests of one mapping; those left over wait for the one after."""
        trip = self._trip(requests[0].mapping)
        for each in requests:
            self._bound(each, trip)
        page, left = gathered([each for each in requests if not each.taken and each.check(trip.compiled)])
        if page:
            answer(trip, page)
        return left

    def _bound(self, request: Request, trip: Trip) -> None:
        """From the moment it was asked, the mapping's deadline counts."""
        deadline = trip.compiled.document.run.deadline
        if deadline is not None and not request.bound:
            request.bound = True
            when = request.since + deadline.total_seconds()
            self._deadlines.arm(when, lambda: self._beside.submit(self._late, request))

    def _late(self, request: Request) -> None:
        """The fallback's answer, unless the model's is being stored."""
        try:
            # A trip of its own: the late one may still be at work in the other thread.
            trip = self._trip(request.mapping)
            if request.overdue(trip.compiled):
                if request.take() and (request.keys or request.check(trip.compiled)):
                    log.warning("deadline passed", mapping=request.mapping, featured=request.featured is not None)
                    answer_late(trip, request)
                return
            # It was bound by a version that is published no more.
            request.bound = False
            self._bound(request, trip)
        except Exception as error:  # noqa: BLE001  (told to the caller)
            if request.take() or not request.held:
                request.fail(error)

    def _trip(self, mapping: str) -> Trip:
        """As things stand now, at this moment. PausedMappingError, UnknownMappingError."""
        hub = self._hub
        with hub.database.read() as session:
            compiled = hub.mappings.serving(session, mapping)
            now = hub.database.now(session)
        with self._lock:
            known = self._trips.get(mapping)
        if known is None or known.compiled is not compiled:
            known = Trip(hub, _passing_run(compiled, now, "api"), compiled)
            with self._lock:
                self._trips[mapping] = known
        return known.at(now)


def _with_results(rows: pl.DataFrame, results: pl.DataFrame) -> pl.DataFrame:
    """The rows of one segment, their state and reason what the far side answered where it did."""
    told = results.select(pl.col("row").alias("_n"), pl.col("state").alias("_told"), pl.col("reason").alias("_why"))
    joined = rows.with_row_index("_n").join(told, on="_n", how="left", maintain_order="left")
    state, reason = pl.coalesce("_told", "_state"), pl.coalesce("_why", "_reason")
    return joined.with_columns(_state=state, _reason=reason).select(rows.columns)


def _passing_run(compiled: Compiled, now: datetime, actor: str) -> Run:
    """A run that is not in the ledger, for decisions on the spot."""
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
