"""The tables of the ledger, and their rows as the rest of the hub knows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ForeignKeyConstraint,
    Index,
    String,
    Text,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from hub.database import Base, Blob, JsonDocument, UtcDateTime
from hub.runs.types import (
    Claim,
    Counts,
    PageRecord,
    PageState,
    Run,
    RunKind,
    RunState,
    SliceKind,
    SlicePlan,
    Stage,
)
from hub.sdk.shared import Told

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
    """One slice: where it stands (`cursor`), who holds it until when, and what became of its records so far.

    `lags` is how long what a live source told of took to be written.
    """

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
    lags: Mapped[dict[str, Any] | None] = mapped_column(JsonDocument)
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
    were tried `tries` times. `sent` says that a try ended without an answer, `since` when the oldest change was made
    that a live source told of in it.
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
    since: Mapped[datetime | None] = mapped_column(UtcDateTime)
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


def slice_row(run: str, number: int, plan: SlicePlan, pool: str) -> SliceRow:
    """A slice of a new run, that nobody has begun."""
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


def run_of(row: RunRow, counts: Counts) -> Run:
    """A run, with what became of its records."""
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
        happened=told_of(row.happened),
    )


def told_of(kept: Mapping[str, Sequence[float]]) -> Told:
    """What a run had to put up with, as it is kept."""
    return {name: (int(times), amount) for name, (times, amount) in kept.items()}


def claim_of(row: SliceRow) -> Claim:
    """A slice as whoever took it holds it."""
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


def page_of(row: PageRow) -> PageRecord:
    """A page between its commits."""
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
        since=row.since,
    )
