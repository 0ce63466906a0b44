"""The nouns of a run: what it is, where it stands, and the part of it that one worker holds."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from itertools import accumulate
from typing import Any

from hub.access.leases import Holder
from hub.sdk import Json
from hub.sdk.shared import Told


class RunKind(StrEnum):
    """Why records are carried: all, those that moved, still due, back to what they were, on request, as they move.

    A request goes beside another run of its mapping; what follows a live source gives way to one between two pages.
    """

    FULL = "full"
    INCREMENTAL = "incremental"
    REPLAY = "replay"
    UNDO = "undo"
    REQUEST = "request"
    FOLLOW = "follow"


class RunState(StrEnum):
    """Where a run stands. HELD waits for a person; the last five are final, and only DONE is green."""

    QUEUED = "queued"
    RUNNING = "running"
    HELD = "held"
    DONE = "done"
    DONE_WITH_REJECTS = "done with rejects"
    STOPPED = "stopped"
    CANCELLED = "cancelled"
    FAILED = "failed"

    @property
    def final(self) -> bool:
        """Whether nothing more can happen to the run."""
        return self not in (RunState.QUEUED, RunState.RUNNING, RunState.HELD)


class SliceKind(StrEnum):
    """What a slice carries: part of the source, records due again or gone, segments to put back, named ones, events."""

    READ = "read"
    DUE = "due"
    ABSENT = "absent"
    UNDO = "undo"
    NAMED = "named"
    FOLLOW = "follow"


class Stage(StrEnum):
    """What is to be done next with a slice; each stage is claimed by the pool that can do it."""

    READ = "read"
    SCORE = "score"
    WRITE = "write"
    DONE = "done"


class PageState(StrEnum):
    """How far a page came: its features stored, its predictions too, its changes intended, its results stored."""

    FEATURED = "featured"
    SCORED = "scored"
    DECIDED = "decided"
    WRITTEN = "written"


OUTCOMES = (
    "skipped",
    "invalid",
    "held",
    "planned",
    "applied",
    "unchanged",
    "conflict",
    "rejected",
    "unknown",
    "parked",
)
"""Every record read ends as exactly one of these; `planned` is final in a dry run only."""

REJECTS = ("invalid", "conflict", "rejected", "unknown", "parked")
"""Outcomes that keep a run from being green."""


@dataclass(frozen=True, slots=True)
class Counts:
    """Records by outcome. `read` is the sum of the outcomes, or something is wrong and the run is red."""

    read: int = 0
    by: Mapping[str, int] = field(default_factory=dict)

    def __add__(self, other: Counts) -> Counts:
        names = {*self.by, *other.by}
        return Counts(self.read + other.read, {name: self.by.get(name, 0) + other.by.get(name, 0) for name in names})

    def __getitem__(self, outcome: str) -> int:
        return self.by.get(outcome, 0)

    @property
    def balanced(self) -> bool:
        """Whether every record read is explained."""
        return self.read == sum(self.by.values())

    def but(self, by: Mapping[str, int]) -> Counts:
        """With these outcomes added, the number read unchanged: what was open is now explained."""
        return Counts(self.read, {name: self.by.get(name, 0) + by.get(name, 0) for name in {*self.by, *by}})

    @property
    def rejects(self) -> int:
        """How many records did not end well."""
        return sum(self.by.get(name, 0) for name in REJECTS)

    def to_json(self) -> dict[str, Json]:
        return {"read": self.read, **{name: self.by[name] for name in OUTCOMES if self.by.get(name)}}

    @classmethod
    def from_json(cls, raw: Mapping[str, int]) -> Counts:
        """The inverse of `to_json`."""
        return cls(raw.get("read", 0), {name: raw[name] for name in OUTCOMES if raw.get(name)})


@dataclass(frozen=True, slots=True)
class RunPlan:
    """What a run is asked to be; limits are the document's unless overridden. `shape` is what its fields look like.

    `version` and `model` are digests; `head` is the source's cursor taken before the run: the next one starts there.
    """

    mapping: str
    version: str
    model: str
    kind: RunKind
    actor: str
    logical_at: datetime
    head: str | None = None
    dry: bool = False
    ahead: bool = False
    changed_limit: int | None = None
    rejected_limit: float | None = None
    expected: int | None = None
    subject: str | None = None
    shape: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SlicePlan:
    """One slice of a planned run. A phase starts when every slice of the phases before it is done."""

    kind: SliceKind
    phase: int
    selection: str | None = None
    cursor: str | None = None
    page_rows: int = 10_000
    subject: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Run:
    """One run as the ledger has it. `reason` says in one sentence why it is held, stopped or failed."""

    id: str
    mapping: str
    version: str
    model: str
    head: str | None
    kind: RunKind
    state: RunState
    dry: bool
    ahead: bool
    actor: str
    logical_at: datetime
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    reason: str | None
    subject: str | None
    expected: int | None
    changed: int
    changed_limit: int | None
    rejected_limit: float | None
    counts: Counts
    shape: Mapping[str, Json] = field(default_factory=dict)
    happened: Told = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Claim:
    """A slice in one worker's hands. `epoch` is the fence: a write of the ledger under an older one is refused.

    `attempt` counts claims since the slice last moved on; above one, whoever held it before died or hung. `turns`
    counts those too after which the slice was given back in good order.
    """

    run: str
    number: int
    kind: SliceKind
    stage: Stage
    epoch: int
    attempt: int
    turns: int
    worker: str
    lease_until: datetime
    selection: str | None
    cursor: str | None
    page_rows: int
    full_page_rows: int
    fragile: int
    pages: int
    exhausted: bool
    subject: tuple[str, ...]
    phase: int = 0

    @property
    def holder(self) -> Holder:
        """Who holds it, as the lease broker is told."""
        return Holder(self.worker, self.run, self.number, self.epoch)


FOLLOWERS = "follow"
"""The pool of the slices that follow a live source; a process of it carries one of them and nothing else."""

STAYED_OPEN = "some answers stayed open"
"""Why a run that follows owes another look: writes nobody answered, or that met somebody's newer one."""

SHRINK = 8
"""What failed as one is tried again in parts this many times smaller, down to one record."""

MOST_TRIES = 3
"""What fails this often on its own, with nothing left to divide, is set aside."""

MOST_PARKED = 10
"""Records set aside in a row, each on its own, after which the fault is not theirs and a person is asked."""

LANDING = 10
"""The phase in which a run that scores everything ahead writes; later than any phase of reading."""


@dataclass(frozen=True, slots=True)
class PageRecord:
    """One page as the ledger has it between its stages. `features` and `predictions` are sealed Arrow.

    `since` is when the oldest change was made that a live source told of in it.
    """

    run: str
    slice: int
    number: int
    state: PageState
    segment: int | None
    cursor: str | None
    counts: Counts
    features: bytes | None = None
    predictions: bytes | None = None
    journal: str | None = None
    since: datetime | None = None


@dataclass(frozen=True, slots=True)
class Part:
    """Which of a page's stored changes are to be written next: `rows` of them from `start`, for the `tries`-th time.

    `shrunk` is the most that is written at a time after a try that failed. They are `doubtful` where an earlier try
    ended without an answer: they may have landed already.
    """

    start: int
    rows: int
    tries: int
    shrunk: int | None = None
    doubtful: bool = False

    @property
    def end(self) -> int:
        """The first change behind it."""
        return self.start + self.rows


LAG_BOUNDS = (0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 7200.0)
"""Upper bounds in seconds; what took longer is counted above the last."""


@dataclass(frozen=True, slots=True)
class Lags:
    """How long the far side's changes took to be written back, as a histogram that one JSON column holds.

    How many took up to each of `LAG_BOUNDS` and longer than the one before, then those above; their sum in seconds.
    """

    counts: Sequence[int] = (0,) * (len(LAG_BOUNDS) + 1)
    seconds: float = 0.0

    @classmethod
    def from_json(cls, kept: Mapping[str, Any] | None) -> Lags:
        """The inverse of `to_json`; none where nothing was kept."""
        return cls() if kept is None else cls(tuple(kept["counts"]), float(kept["seconds"]))

    def to_json(self) -> dict[str, Any]:
        """JSON-ready."""
        return {"counts": list(self.counts), "seconds": self.seconds}

    def with_one(self, seconds: float) -> Lags:
        """With one more; the far side's clock may run ahead of ours, so what is below zero counts as none."""
        took, counts = max(0.0, seconds), list(self.counts)
        counts[bisect_left(LAG_BOUNDS, took)] += 1
        return Lags(tuple(counts), self.seconds + took)

    def cumulative(self) -> list[tuple[str, float]]:
        """As Prometheus has it: each bound as text, and how many were at most that, up to `+Inf`."""
        return list(zip([*map(str, LAG_BOUNDS), "+Inf"], map(float, accumulate(self.counts)), strict=True))


@dataclass(frozen=True, slots=True)
class Followed:
    """Whether a worker follows a live source now; of its run, the records told of and how late they were written."""

    held: bool
    read: int
    lags: Lags


@dataclass(frozen=True, slots=True)
class Totals:
    """The ledger in numbers: runs by state, when the oldest waiting one was made, records by mapping and outcome.

    `followed` is by mapping, of those that follow a live source.
    """

    states: Mapping[str, int]
    oldest: datetime | None
    records: Mapping[tuple[str, str], int]
    followed: Mapping[str, Followed]


@dataclass(frozen=True, slots=True)
class LeftOff:
    """Where the newest run that followed a live source stands: its cursor, and why it owes a reconciliation."""

    run: str
    version: str
    state: RunState
    created_at: datetime
    cursor: str | None
    owed: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Abandoned:
    """A page of an ended run whose changes were intended and whose fate nobody recorded."""

    run: str
    slice: int
    number: int
    segment: int | None
    sent: bool
    actor: str


class RunError(Exception):
    """A run cannot be started or steered as asked; the message says why and what to do."""


class UnknownRunError(RunError):
    """There is no run of that id."""


def no_such_run(run: str) -> UnknownRunError:
    """What is said of a run that is not there."""
    return UnknownRunError(f"there is no run {run}; `hub runs list` shows them")


class PreflightError(RunError):
    """The mapping cannot run as things stand; `problems` are sentences, each with its fix."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


class BadRequestError(RunError):
    """A request names a field that does not exist, lacks a key, or has a value of the wrong type."""


class LostLeaseError(Exception):
    """Somebody else holds the slice now, or its run has ended: stop at once and write nothing."""
