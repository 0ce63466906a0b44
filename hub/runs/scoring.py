"""Records scored on the spot: a preview that leaves no trace but an audit event, and requests from other programs."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import polars as pl
import structlog

from hub.access import Actor
from hub.decisions import Segment
from hub.mappings import Compiled, PausedMappingError
from hub.models import Gathering, Way
from hub.runs.execution import Worker
from hub.runs.installation import Installation
from hub.runs.pages import Featured, Load, Trip, inline
from hub.runs.planning import add_run
from hub.runs.types import BadRequestError, Counts, Run, RunError, RunKind, RunPlan, RunState, SliceKind, SlicePlan

MOST_RECORDS = 1_000
"""Records in one request."""
MOST_LATE = 16
"""Requests under a deadline worked on at once; those that wait longer than it get the fallback's answer."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Answer:
    """Decisions on some records, one row each (columns of the decision log), and where they are stored.

    `rows` are those of the `segments`, one after the other; `keys` are the records asked for, in that order, and may
    hold some that the mapping does not select.
    """

    rows: pl.DataFrame
    compiled: Compiled
    keys: pl.Series
    segments: tuple[Segment, ...] = ()
    run: str | None = None


def preview(hub: Installation, text: str, actor: Actor, limit: int = 10) -> Answer:
    """Carries the first records of the source through a document and writes nothing."""
    compiled = hub.mappings.check(text, actor)
    trip = Trip(hub, _passing_run(hub, compiled, str(actor)), compiled)
    with trip.travelling():
        rows = trip.decide(trip.feature(trip.first_page(limit)))
    hub.mappings.note_preview(text, actor, {"records": rows.height})
    return Answer(rows, compiled, rows["_key"])


class Scoring:
    """Answers requests; safe to share between threads. What a mapping needs is prepared once per version."""

    def __init__(self, hub: Installation) -> None:
        self._hub = hub
        self._trips: dict[str, Trip] = {}
        self._lock = threading.Lock()
        self._beside = ThreadPoolExecutor(MOST_LATE, "answer")

    def score(self, mapping: str, records: Sequence[Mapping[str, Any]], actor: str) -> Answer:
        """Decisions on records given inline, durable before this returns; nothing is written to the far side."""
        trip = self._trip(mapping)
        page = _page(trip, records, "records", trip.compiled.fields)
        return self._answer(trip, page["_key"], lambda _asked: Load(page, trip.no_keys), actor)

    def score_keys(self, mapping: str, keys: Sequence[Mapping[str, Any]], actor: str) -> Answer:
        """As `score`, for records fetched by key. BadRequestError says how many are not there."""
        trip = self._trip(mapping)
        source = trip.compiled.source
        wanted = _page(trip, keys, "keys", source.key)["_key"]

        def load(asked: Trip) -> Load:
            fetched = asked.fetch(wanted.struct.unnest())
            if fetched.gone.height:
                raise BadRequestError(f"keys: {fetched.gone.height} of {len(keys)} name no record of {source.name}")
            return fetched

        return self._answer(trip, wanted, load, actor)

    def score_and_write(
        self, mapping: str, records: Sequence[Mapping[str, Any]], actor: str, what: str = "records"
    ) -> Answer:
        """Scores the records with these keys and writes them back, by a run of its own; values given win.

        The run is carried in this process; should that die, a worker takes over. RunError where it takes too long.
        """
        hub, trip = self._hub, self._trip(mapping)
        compiled = trip.compiled
        page = _page(trip, records, what, compiled.fields if what == "records" else compiled.source.key)
        with hub.database.read() as session:
            now = hub.database.now(session)
        sealed = hub.keys.seal(json.dumps(list(records)).encode(), {"kind": "request"})
        plan = RunPlan(mapping, compiled.document.digest, compiled.model.digest, RunKind.REQUEST, actor, now)
        subject = (base64.b64encode(sealed).decode(),)
        run = add_run(hub, plan, [SlicePlan(SliceKind.NAMED, 0, page_rows=MOST_RECORDS, subject=subject)])
        worker = Worker(hub, "default", f"api/{threading.get_ident()}")
        while worker.work(run):
            pass
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

    def _answer(self, trip: Trip, keys: pl.Series, load: Callable[[Trip], Load], actor: str) -> Answer:
        with self._hub.database.read() as session:
            now = self._hub.database.now(session)
        asked = trip.at(now, actor)
        rows = self._decided(asked, keys, load)
        segment = asked.remember(rows)
        return Answer(rows, asked.compiled, keys, () if segment is None else (segment,))

    def _decided(self, asked: Trip, keys: pl.Series, load: Callable[[Trip], Load]) -> pl.DataFrame:
        """The model's answer or, where the mapping has a deadline and it passes first, the fallback's."""
        deadline = asked.compiled.document.run.deadline
        known: list[Featured] = []

        def answer(seconds: float | None) -> pl.DataFrame:
            with asked.travelling(seconds):
                known.append(asked.feature(load(asked)))
                return asked.decide(known[0])

        if deadline is None:
            return answer(None)
        answering = self._beside.submit(answer, deadline.total_seconds())
        try:
            return answering.result(deadline.total_seconds())
        except TimeoutError:
            answering.cancel()
            log.warning("deadline passed", mapping=asked.run.mapping, featured=bool(known))
            # A trip of its own: the late one may still be at work in the other thread.
            return asked.at(asked.run.logical_at, asked.run.actor).decide_late(known[0] if known else keys)

    def _gathering(self, compiled: Compiled) -> Gathering | None:
        """A heavy model's requests ride together; a light one answers sooner than a batch gathers."""
        model = compiled.model
        if model.way is Way.ONNX and model.pool == "default":
            return None
        return Gathering(self._hub.registry.load(model))

    def _trip(self, mapping: str) -> Trip:
        published = self._hub.mappings.get(mapping)
        with self._lock:
            known = self._trips.get(mapping)
        if published.paused:
            raise PausedMappingError(f"mapping {mapping} is paused; hub mappings resume {mapping} lifts it")
        compiled = self._hub.mappings.compile_published(published)
        if known is not None and known.compiled is compiled:
            return known
        fresh = Trip(self._hub, _passing_run(self._hub, compiled, "api"), compiled, scorer=self._gathering(compiled))
        with self._lock:
            self._trips[mapping] = fresh
        return fresh


def _page(trip: Trip, records: Sequence[Mapping[str, Any]], what: str, fields: Sequence[str]) -> pl.DataFrame:
    if not 1 <= len(records) <= MOST_RECORDS:
        raise BadRequestError(f"{what}: expected 1 to {MOST_RECORDS}; start a run for more")
    return inline(trip.compiled.source, fields, records, what)


def _with_results(rows: pl.DataFrame, results: pl.DataFrame) -> pl.DataFrame:
    """The rows of one segment, their state and reason what the far side answered where it did."""
    told = results.select(pl.col("row").alias("_n"), pl.col("state").alias("_told"), pl.col("reason").alias("_why"))
    joined = rows.with_row_index("_n").join(told, on="_n", how="left", maintain_order="left")
    state, reason = pl.coalesce("_told", "_state"), pl.coalesce("_why", "_reason")
    return joined.with_columns(_state=state, _reason=reason).select(rows.columns)


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
