"""All that the pages of one run need, opened once per worker: connections, pipeline, model, log and standing."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from typing import TypeAlias

import numpy as np
import polars as pl
from numpy.typing import NDArray
from sqlalchemy.orm import Session

from hub.decisions import (
    APPLIED,
    CONFLICT,
    PLANNED,
    REJECTED,
    UNKNOWN,
    Prepared,
    View,
    key_hash,
)
from hub.faults import reach
from hub.mappings import Compiled, Facts, Pipeline
from hub.models import Scorer
from hub.process import give_back_memory
from hub.runs.installation import Installation
from hub.runs.pages.far_sides import FarSides
from hub.runs.pages.inline import inline, overlaid
from hub.runs.pages.judging import Featured, Judge, Judged, Scored, completed
from hub.runs.pages.landing import Terms, changes_of, rows_of, standing_after, unanswered
from hub.runs.pages.loading import Load, Loader
from hub.runs.pages.online import Online
from hub.runs.pages.parking import Parking
from hub.runs.pages.sending import SENT_BEFORE, Sending
from hub.runs.pages.shape import changes_since, shape_of
from hub.runs.pages.staging import seal, unseal
from hub.runs.pages.trail import Trail
from hub.runs.pages.undoing import undo_segment
from hub.runs.types import STAYED_OPEN, Claim, Counts, PageRecord, PageState, Run, RunKind, RunState, SliceKind
from hub.sdk import Mode, Results, Tally, UnexpectedError
from hub.sdk.shared import Told


class LimitError(Exception):
    """The run reached a limit of its mapping; a person decides how it goes on."""


@dataclass(frozen=True, slots=True)
class Intent:
    """A page whose changes are stored and not yet written."""

    number: int
    cursor: str | None
    decisions: pl.DataFrame
    counts: Counts
    segment: int | None
    seen: bytes | None


Hashes: TypeAlias = NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Ready:
    """A page as it is judged: a hash of each record's key, sorted, and its features.

    Two pages that share no hash share no record. A page of decisions to undo has no features. `parked` counts the
    records that were kept out of it.
    """

    load: Load
    hashes: Hashes
    featured: Featured | None
    parked: Counts


class Trip:
    """One run in one worker. Its connections are opened per thread role and closed when `travelling` ends."""

    def __init__(
        self,
        hub: Installation,
        run: Run,
        compiled: Compiled,
        pipeline: Pipeline | None = None,
        far: FarSides | None = None,
    ) -> None:
        self.run = run
        self.pool = compiled.model.pool
        self._hub = hub
        self._compiled = compiled
        self._pipeline = pipeline or Pipeline(compiled)
        self._loader = Loader(compiled, self._pipeline, run, hub.standing)
        # What answers a request or follows a live source may be at work for days: it asks each time.
        self._far = far or FarSides(hub, compiled, remembers=run.kind not in (RunKind.REQUEST, RunKind.FOLLOW))
        facts = Facts(run.logical_at, compiled.model.name, compiled.model.number, compiled.document.digest)
        readers = (self._far.read_lookup, self._far.read_targets, self._read_target_keys)
        self.trail = Trail(hub, run, compiled)
        self._parking = Parking(compiled, hub.standing)
        self._judge = Judge(compiled, self._pipeline, lambda: self._scorer, hub.standing, facts, readers)
        self.online = Online(hub, run, compiled, self._judge, self.trail)

    @property
    def compiled(self) -> Compiled:
        """The mapping, resolved."""
        return self._compiled

    @property
    def no_keys(self) -> pl.DataFrame:
        """No record's key columns."""
        return pl.DataFrame(schema=self._compiled.source.schema(self._compiled.source.key))

    def at(self, now: datetime) -> Trip:
        """The same trip at another logical time, what is expensive shared."""
        return Trip(self._hub, replace(self.run, logical_at=now), self._compiled, self._pipeline)

    def later(self, now: datetime) -> Trip:
        """The same trip at another logical time, on the same connections and so in the same threads."""
        return Trip(self._hub, replace(self.run, logical_at=now), self._compiled, self._pipeline, self._far)

    @property
    def staged(self) -> bool:
        """Whether scoring is claimed by a pool of its own."""
        return self.pool != "default" and self.run.kind is not RunKind.UNDO

    @cached_property
    def _scorer(self) -> Scorer:
        return self._hub.registry.load(self._compiled.model)

    @cached_property
    def terms(self) -> Terms:
        """How this run's changes are written."""
        write = self._compiled.document.write
        return Terms(
            entity=self._compiled.target.name,
            mode=write.mode,
            set=tuple(self._compiled.set),
            with_=tuple(self._compiled.with_),
            expires=write.expires.after if write.expires is not None and write.expires.then == "clear" else None,
            undo=self.run.kind is RunKind.UNDO,
            in_place=self._compiled.in_place,
        )

    @contextmanager
    def travelling(self, seconds: float | None = None) -> Iterator[None]:
        """While open, the trip may use its connections; with `seconds`, no call on them goes on for longer."""
        with self._far.opening(seconds):
            yield

    @property
    def tally(self) -> Tally:
        """Counts what had to be put up with at the far sides."""
        return self._far.tally

    def drain(self) -> Told:
        """What had to be put up with at the far sides since the last look."""
        return self.tally.drain()

    def turn(self, claim: Claim) -> None:
        """The next claim: far sides are reached under leases for it. LeaseError where one that is open is over."""
        self._far.turn(claim.holder)

    def look_for_pause(self) -> None:
        """PausedConnectionError where a connection that is open was paused since."""
        self._far.look_for_pause()

    # -- loading -------------------------------------------------------------------------------------------------

    def pages(self, claim: Claim, after: str | None) -> Generator[Load]:
        """The pages of a slice that are still to do."""
        if claim.kind is SliceKind.UNDO:
            return self._segments(claim, after)
        if claim.kind is SliceKind.NAMED:
            return self._named(claim, after)
        return self._loader.pages(self._far.source("read"), claim, after, self._seen(claim))

    def follow(self, claim: Claim, after: str | None, cancelled: Callable[[], bool]) -> Generator[Load]:
        """The pages that the live source tells from `after` on, until `cancelled`; for one thread alone."""
        yield from self._loader.follow(self._far.live(cancelled), claim, after)

    def _seen(self, claim: Claim) -> np.ndarray:
        """The key hashes of what the run read from the source, where a slice must not meet those records again."""
        if claim.kind is not SliceKind.ABSENT and not (claim.kind is SliceKind.DUE and self.run.ahead):
            return np.empty(0, dtype=np.uint64)
        give_back_memory()
        with self._hub.database.read() as session:
            size, stored = self._hub.ledger.seen(session, self.run.id)
            kept, at = bytearray(size), 0
            for each in stored:
                kept[at : at + len(each)] = each
                at += len(each)
            hashes = np.frombuffer(kept, dtype=np.uint64)
            hashes.sort()  # where they lie: of millions, a second copy is what a worker must not need
            read = self._hub.ledger.source_counts(session, self.run.id).read
        if hashes.size < read:
            raise UnexpectedError(f"run {self.run.id} no longer knows which records it read; start a new full run")
        return hashes

    def first_page(self, limit: int) -> Load:
        """The first records that the mapping selects."""
        selection = self._pipeline.selection(self.run.logical_at, incremental=False, page_rows=limit)
        for page in self._far.source("read").read(selection):
            return Load(page.frame.head(limit), self.no_keys, forced=True)
        return Load(pl.DataFrame(schema=self._compiled.source.page_schema(self._compiled.fields)), self.no_keys)

    def fetch(self, keys: pl.DataFrame) -> Load:
        """The records of these keys as they stand now, in their order as far as they exist."""
        return self._loader.fetch(self._far.source("read"), keys, forced=True)

    def _named(self, claim: Claim, after: str | None) -> Generator[Load]:
        """The records a request named, as they stand now, with the values it gave instead of those read."""
        (sealed,) = claim.subject
        records = json.loads(self._hub.keys.open(base64.b64decode(sealed), {"kind": "request"}))
        for start in range(int(after or 0), len(records), claim.page_rows):
            part = records[start : start + claim.page_rows]
            given = inline(self._compiled.source, self._compiled.fields, part)
            load = self.fetch(given.get_column("_key").struct.unnest())
            yield replace(load, frame=overlaid(load.frame, given, part), cursor=str(start + len(part)))

    def _segments(self, claim: Claim, after: str | None) -> Generator[Load]:
        done = int(after) if after is not None else 0
        empty = pl.DataFrame(schema=self._compiled.source.page_schema(()))
        keys = pl.DataFrame(schema=self._compiled.source.schema(self._compiled.source.key))
        for index, segment in enumerate(claim.subject[done:], start=done + 1):
            yield Load(empty, keys, str(index), segment=int(segment))

    # -- judging and the first commit ----------------------------------------------------------------------------

    def make_ready(self, load: Load, *, park: str | None = None) -> Ready:
        """What can be made of a page before the one ahead of it is judged. `park` is why nothing is computed of it."""
        hashes = np.sort(np.concatenate([key_hash(load.frame["_key"]), key_hash(load.gone.to_struct("_key"))]))
        if load.segment is not None:
            return Ready(load, hashes, None, Counts())
        open_, parked = self._parking.without_parked(load)
        featured = self._judge.features(open_) if park is None else self._parking.featured(open_)
        return Ready(load, hashes, featured, parked)

    def judge(self, page: Ready, *, park: str | None = None) -> Judged:
        """The decisions of a page, from where its records stand now; nothing is stored."""
        if page.featured is None:
            assert page.load.segment is not None
            return self._judge_undo(page.load.segment)
        judged = self._judge.judge(self._judge.sift(page.featured), park=park)
        reach("after score", page.load.frame["_key"])
        return replace(judged, counts=judged.counts + page.parked)

    def _kept(self, claim: Claim, hashes: Hashes | None) -> bytes | None:
        """What a page remembers of its keys: a full run finds by them who is gone, one ahead of itself what is done."""
        kept = claim.kind is SliceKind.READ and (self.run.kind is RunKind.FULL or self.run.ahead)
        return hashes.tobytes() if kept and hashes is not None else None

    def _judge_undo(self, segment: int) -> Judged:
        assert self.run.subject is not None
        targets = [(column.removesuffix(name), name) for name, column in self.terms.columns.items()]
        required = {each.name for each in self._compiled.target.fields if not each.nullable}
        makes = self.terms.mode is not Mode.UPDATE
        decisions = undo_segment(self._hub.log, segment, self.run.subject, targets, required, makes=makes)
        return Judged(decisions, Counts(decisions.height, {}), decisions.height)

    def store(self, claim: Claim, number: int, load: Load, judged: Judged, hashes: Hashes | None = None) -> Intent:
        """Stores what is to be written of a judged page: the first commit. LimitError where that is too much."""
        seen = self._kept(claim, hashes)
        cursor = load.cursor
        decisions = completed(judged.decisions, self._compiled)
        if self.run.dry:
            counts = judged.counts.but({"planned": judged.planned})
            return Intent(number, cursor, decisions.clear(), counts, None, seen)
        if not decisions.height and not self.run.ahead:
            return Intent(number, cursor, decisions, judged.counts, None, seen)
        facts = self.trail.facts(claim.run, claim.number, number)
        segment = self._hub.log.write(facts, decisions) if decisions.height else None
        page = PageRecord(
            run=claim.run,
            slice=claim.number,
            number=number,
            state=PageState.DECIDED,
            segment=segment.id if segment else None,
            cursor=cursor,
            counts=judged.counts,
            since=load.since,
        )

        def commit(session: Session) -> None:
            if judged.planned and not self._hub.ledger.spend(session, claim.run, judged.planned):
                raise LimitError(
                    f"writing {judged.planned} more records would cross the limit of {self.run.changed_limit} changes; "
                    f"`hub runs resume {claim.run} --changed N` raises it"
                )
            if segment is not None:
                self._hub.log.catalogue(session, segment)
            self._hub.ledger.put_page(session, claim, page, seen)
            self.trail.read(session, claim, number, judged.counts, segment)
            if segment is not None and judged.planned:
                self.trail.intended(session, segment, judged.planned)

        self._hub.database.retrying(commit, stored=lambda s, _: self._hub.ledger.has_page(s, claim, page))
        return Intent(number, cursor, decisions, judged.counts, page.segment, None)

    def recalled(self, page: PageRecord) -> tuple[Trip, Intent]:
        """A page of a run that follows, found between its two commits, with the trip at the time it was decided."""
        at = self._hub.log.segment(page.segment).facts.at if page.segment is not None else self.run.logical_at
        return self.later(at), self.recall(page)

    def recall(self, page: PageRecord) -> Intent:
        """A page found between its two commits, as it was stored."""
        decisions = self._hub.log.frame(page.segment) if page.segment is not None else pl.DataFrame()
        return Intent(page.number, page.cursor, decisions, page.counts, page.segment, None)

    # -- the write and the second commit -------------------------------------------------------------------------

    def land(self, claim: Claim, intent: Intent, check: Callable[[], None], *, repeated: bool = False) -> None:
        """Writes a page's changes and stores the results, one after the other."""
        self.settle(claim, intent, self.send(claim, intent, check, repeated=repeated))

    def send(
        self, claim: Claim, intent: Intent, check: Callable[[], None], *, repeated: bool = False
    ) -> Results | None:
        """What the far side answers to the changes of a page; None where it intends none.

        `check` is called before each call.
        """
        if intent.segment is None:
            return None
        planned = int((intent.decisions["_state"] == PLANNED).sum())
        if planned and not {*self.terms.columns.values()} <= {*intent.decisions.columns}:
            return unanswered(planned, "the mapping's target fields changed before this was written")
        changes = changes_of(intent.decisions, self.terms)
        if changes is None:
            return None
        page, rows = (intent.number, intent.segment), rows_of(intent.decisions)
        careful = self.terms.undo and not self._compiled.target.conditional
        reach = (self._far.target, self._far.look_up)
        sending = Sending(self._hub, claim, page, changes, rows, reach, careful=careful)
        return sending.send(check, repeated=repeated)

    def settle(self, claim: Claim, intent: Intent, results: Results | None) -> None:
        """Stores what the far side answered to a page: the second commit. LimitError where too much was rejected."""
        stand, told = None, self.drain()
        if intent.segment is not None and intent.decisions.height:
            stand = self._stand(intent.decisions, intent.segment, results)
        self._hub.database.retrying(lambda s: self._settle(s, claim, intent, results, stand, told), repeatable=True)
        if results is not None and refused(results) and (changed := changes_since(self._hub, claim.run, self.tally)):
            raise LimitError(changed)

    def _settle(
        self,
        session: Session,
        claim: Claim,
        intent: Intent,
        results: Results | None,
        stand: tuple[View, Prepared | None] | None,
        told: Told,
    ) -> None:
        hub = self._hub
        if hub.ledger.page_state(session, claim, intent.number) is PageState.WRITTEN:
            return
        # The run's row before the slice's, as the first commit takes them.
        stop = self._too_many_rejects(session, claim, results) if results is not None else None
        if stand is not None and intent.segment is not None and hub.ledger.beside(session, claim.run):
            # Another run may have decided the same records since: looked at again, with every other put kept waiting.
            hub.standing.lock(session, self.run.mapping)
            stand = self._stand(intent.decisions, intent.segment, results)
        counts = intent.counts
        if results is not None:
            counts = counts.but(dict(results.frame["state"].value_counts().iter_rows()))
        if intent.segment is not None and results is not None:
            hub.log.record_results(session, intent.segment, _by_row(intent.decisions, results))
            by_state = dict(results.frame["state"].value_counts().iter_rows())
            doubtful = int(results.frame["reason"].str.ends_with(SENT_BEFORE).sum())
            self.trail.written(session, intent.segment, by_state, doubtful)
            if by_state.get(APPLIED):
                hub.ledger.note_lag(session, claim, intent.number)
            if self.run.kind is RunKind.FOLLOW and (by_state.get(UNKNOWN) or by_state.get(CONFLICT)):
                hub.ledger.owe(session, claim, STAYED_OPEN)  # perhaps no event will come to settle them
        if stand is not None:
            self.trail.parked(session, claim, stand[1])
        if intent.segment is None and not self.run.ahead:
            self.trail.read(session, claim, intent.number, counts, None)
        page = PageRecord(
            run=claim.run,
            slice=claim.number,
            number=intent.number,
            state=PageState.WRITTEN,
            segment=intent.segment,
            cursor=intent.cursor,
            counts=counts,
        )
        hub.ledger.put_page(session, claim, page, intent.seen)
        hub.ledger.advance(session, claim, counts, cursor=intent.cursor, pages=intent.number + 1)
        if stand is not None:
            hub.standing.put(session, *stand)
        hub.ledger.put_up_with(session, claim.run, told)
        if stop is not None:
            hub.end(session, claim.run, RunState.STOPPED, stop)

    def _stand(self, decisions: pl.DataFrame, segment: int, results: Results | None) -> tuple[View, Prepared | None]:
        """Where the decided records stand now, ready to be stored."""
        answers = _by_row(decisions, results) if results is not None else None
        view = self._view(decisions)
        after = standing_after(decisions, answers, view.frame, segment, self.terms, self.run.logical_at)
        return view, self._hub.standing.prepare(view, after)

    def _view(self, decisions: pl.DataFrame) -> View:
        fields = self._compiled.target.schema(self.terms.fields)
        return self._hub.standing.view(self.run.mapping, decisions["_key"], fields)

    def _too_many_rejects(self, session: Session, claim: Claim, results: Results) -> str | None:
        """Why the run is to stop, where too many were rejected of late."""
        rejected = int((results.frame["state"] == REJECTED).sum())
        share = self._hub.ledger.judge(session, claim.run, len(results), rejected)
        if share is None:
            return None
        why = f"{share:.1%} of the last records written were rejected, above the limit of {self.run.rejected_limit:.1%}"
        return f"{why}; `hub runs undo {claim.run}` takes it back"

    # -- stages of their own -------------------------------------------------------------------------------------

    def store_features(self, claim: Claim, number: int, load: Load, *, park: str | None = None) -> None:
        """Reads and sifts a page for a model that another pool scores."""
        ready = self.make_ready(load, park=park)
        featured = ready.featured
        assert featured is not None  # nobody undoes by scoring
        sifted = self._judge.sift(featured)
        fresh = sifted.fresh.select(featured.frame.columns)
        lost = sifted.lost
        outside, gone = (
            lost.filter(pl.col("_gone") == flag).select(self._compiled.source.key) for flag in (False, True)
        )
        page = PageRecord(
            run=claim.run,
            slice=claim.number,
            number=number,
            state=PageState.FEATURED,
            segment=None,
            cursor=load.cursor,
            counts=sifted.idle + ready.parked,
            features=seal(self._hub.keys, claim, number, "features", [fresh, outside, gone, self._shown()]),
        )
        stored = self._kept(claim, ready.hashes)
        self._hub.database.retrying(lambda s: self._hub.ledger.put_page(s, claim, page, stored), repeatable=True)

    def _shown(self) -> pl.DataFrame:
        """What the pool that scores must know of the mapping: how many reasons it shows."""
        return pl.DataFrame({"reasons": [self._compiled.reasons]})

    def intend_scored(self, claim: Claim, page: PageRecord, *, park: str | None = None) -> Intent:
        """The first commit of a page that another pool scored. Without predictions its records are parked."""
        keys = self._hub.keys
        fresh, outside, gone, _ = unseal(keys, claim, page.number, "features", page.features)
        scored = None
        if page.predictions is not None:
            outputs, *reasons = unseal(keys, claim, page.number, "predictions", page.predictions)
            scored = Scored(outputs, reasons[0].to_series() if reasons else None)
        sifted = self._judge.sift(Featured(fresh, outside, gone, forced=True))
        judged = self._judge.judge(sifted, scored, park=park)
        judged = replace(judged, counts=judged.counts + page.counts)
        load = Load(pl.DataFrame(), gone, page.cursor)
        return self.store(claim, page.number, load, judged)

    def _read_target_keys(self, pointers: pl.DataFrame) -> pl.Series:
        """The target keys that the decisions at (segment, row) were written to, or the nearest one before each."""
        frames: dict[int, pl.DataFrame] = {}
        found = []
        for segment, row in pointers.iter_rows():
            at: tuple[int, int] | None = (segment, row)
            target = None
            while at is not None and target is None:
                if at[0] not in frames:
                    frames[at[0]] = self._hub.log.frame(at[0], ["_target", "_previous"])
                target, previous = frames[at[0]].row(at[1])
                at = (previous["segment"], previous["row"]) if previous is not None else None
            found.append(target)
        return pl.Series("_target", found, self._compiled.target.key_dtype())


def open_trip(hub: Installation, run: str) -> Trip:
    """Compiles the run's mapping version against the far sides as they are now."""
    with hub.database.read() as session:
        found = hub.ledger.run(session, run)
    published = hub.mappings.version(found.mapping, found.version)
    model = hub.registry.get(hub.mappings.document(published).model.name, found.model)
    compiled = hub.mappings.compile_published(published, model=model)
    if found.shape and shape_of(compiled) != found.shape:  # compiled in this process before the run was planned
        compiled = hub.mappings.compile_published(published, model=model, fresh=True)
    return Trip(hub, found, compiled)


def refused(results: Results) -> bool:
    """Whether a record of the page was rejected, so that a limit has to be looked at before the next is written."""
    return bool((results.frame["state"] == REJECTED).any())


def _by_row(decisions: pl.DataFrame, results: Results) -> pl.DataFrame:
    return results.frame.with_columns(row=rows_of(decisions))
