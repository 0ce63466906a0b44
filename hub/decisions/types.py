"""The nouns of the decision log and of standing: segments, decisions, receipts, and the names of their columns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

KEY: Final = "_key"
TARGET: Final = "_target"
VERSION: Final = "_version"
STATE: Final = "_state"
REASON: Final = "_reason"
BECAUSE: Final = "_because"
DIGEST: Final = "_digest"
PREVIOUS: Final = "_previous"
REASONS: Final = "_reasons"
CLEAR: Final = "_clear"

FEATURE, OUTPUT, DECIDED, SET, WITH, BEFORE = "f.", "o.", "d.", "set.", "with.", "before."
GROUPS: Final = (FEATURE, OUTPUT, DECIDED, SET, WITH, BEFORE)
"""Prefixes of the columns of a decision: features, model outputs, decided names, and target fields three times."""

INVALID, HELD, PLANNED, UNCHANGED, LEFT = "invalid", "held", "planned", "unchanged", "left"
PARKED, UNDONE = "parked", "undone"
DECISION_STATES: Final = frozenset({INVALID, HELD, PLANNED, UNCHANGED, LEFT, PARKED})

APPLIED, CONFLICT, REJECTED, UNKNOWN, DROPPED = "applied", "conflict", "rejected", "unknown", "dropped"
STANDING_STATES: Final = DECISION_STATES | {APPLIED, CONFLICT, REJECTED, UNKNOWN, DROPPED, UNDONE}

RELEASED: Final = "released"
"""The `why` of a held record that a person let pass: it is due at once and passes the hold once."""

STANDING_COLUMNS: Final = (
    "digest",
    "state",
    "values",
    "version",
    "segment",
    "row",
    "at",
    "written_at",
    "due",
    "why",
    "attempts",
)


class DecisionError(Exception):
    """A decision cannot be stored or found; the message is for the person who runs the hub."""


class IntegrityError(DecisionError):
    """A stored segment is not what was written: the message names the segment and what differs."""


@dataclass(frozen=True, slots=True)
class SegmentFacts:
    """What all decisions of one page share. `at` is the run's logical time; digests are hexadecimal text."""

    mapping: str
    version: str
    model: str
    model_version: int
    model_digest: str
    run: str
    slice: int
    page: int
    at: datetime


@dataclass(frozen=True, slots=True)
class Segment:
    """One page's decisions as catalogued.

    `id` grows with time and is unique across machines. `counts` are rows by decision state, `results` by what the far
    side answered. `root` is the Merkle root over the rows' salted leaves; `columns` fixes what a leaf covers.
    """

    id: int
    facts: SegmentFacts
    rows: int
    counts: Mapping[str, int]
    root: bytes
    columns: tuple[tuple[str, str], ...]
    size: int
    created_at: datetime
    results: Mapping[str, int] = field(default_factory=dict)
    erased: int = 0
    file: SegmentFile | None = None


@dataclass(frozen=True, slots=True)
class SegmentFile:
    """Where the rows of one or more segments lie. `bounds` seals the lowest and highest key, `key` the data key.

    `content` is the file itself where it is kept in the database until it is compacted, and was just made.
    """

    id: int
    path: str
    key: bytes
    bounds: bytes
    size: int
    rows: int
    segments: int = 1
    content: bytes | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Decision:
    """What the hub concluded about one record, and what became of it.

    The six groups are by bare name. `result` is what the far side answered, empty where nothing was sent or nothing is
    known yet. `previous` points to the decision before this one.
    """

    segment: int
    row: int
    facts: SegmentFacts
    root: bytes
    key: Mapping[str, Any]
    target: Mapping[str, Any] | None
    version: str | None
    state: str
    reason: str | None
    because: str | None
    digest: bytes | None
    features: Mapping[str, Any]
    outputs: Mapping[str, Any]
    decided: Mapping[str, Any]
    set: Mapping[str, Any]
    with_: Mapping[str, Any]
    before: Mapping[str, Any]
    clear: tuple[str, ...]
    reasons: tuple[Mapping[str, Any], ...]
    result: Mapping[str, Any]
    previous: tuple[int, int] | None


@dataclass(frozen=True, slots=True)
class Receipt:
    """The whole story behind one score, newest decision first.

    `standing` is where the record stands now by column name (None: the mapping never met it). `older` points to the
    first decision not shown where the chain was cut at the limit.
    """

    mapping: str
    key: Mapping[str, Any]
    standing: Mapping[str, Any] | None
    decisions: tuple[Decision, ...]
    older: tuple[int, int] | None
