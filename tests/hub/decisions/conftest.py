"""A log and a standing on a database of the test's own, and pages of decisions to put in."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from hub.database import Database
from hub.decisions import DecisionLog, SegmentFacts, Standing
from hub.decisions import store as _tables  # noqa: F401  (so that create_all knows them)
from hub.keys import KeyRing
from hub.keys.providers.file import FileKek

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)


class StoppedClock:
    """A clock that moves when it is told to."""

    def __init__(self) -> None:
        self.moment = NOW

    def now(self) -> datetime:
        self.moment += timedelta(milliseconds=1)
        return self.moment

    def monotonic(self) -> float:
        return self.moment.timestamp()


@pytest.fixture
def clock() -> StoppedClock:
    return StoppedClock()


@pytest.fixture
def keys(tmp_path: Path) -> KeyRing:
    return KeyRing(FileKek.create(tmp_path / "kek"), b"r" * 32)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "segments"


@pytest.fixture
def log(any_database: Database, keys: KeyRing, folder: Path, clock: StoppedClock) -> DecisionLog:
    return DecisionLog(any_database, keys, folder, clock)


@pytest.fixture
def standing(any_database: Database, keys: KeyRing) -> Standing:
    return Standing(any_database, keys)


@pytest.fixture
def facts() -> SegmentFacts:
    return SegmentFacts("lead_score", "a" * 64, "lead_conversion", 3, "b" * 64, "run-1", 0, 0, NOW)


def decisions(ids: list[str], **columns: list[object]) -> pl.DataFrame:
    """A page of decisions about the leads of these ids, all planned."""
    count = len(ids)
    frame = pl.DataFrame(
        {
            "_key": pl.DataFrame({"Id": ids}).to_struct("_key"),
            "_target": [None] * count,
            "_version": ["v1"] * count,
            "_state": ["planned"] * count,
            "_reason": [None] * count,
            "_because": [None] * count,
            "_digest": [each.encode().ljust(16, b"\x00")[:16] for each in ids],
            "_previous": pl.Series([None] * count, dtype=pl.Struct({"segment": pl.Int64, "row": pl.UInt32})),
            "_reasons": pl.Series(
                [[{"feature": "days_open", "effect": 0.25}]] * count,
                dtype=pl.List(pl.Struct({"feature": pl.String, "effect": pl.Float64})),
            ),
            "_clear": pl.Series([[]] * count, dtype=pl.List(pl.String)),
            "f.days_open": list(range(count)),
            "f.industry": ["Banking"] * count,
            "o.probability": [0.5] * count,
            "d.score": [50.0] * count,
            "set.Score__c": [50.0] * count,
            "with.Scored_At__c": [NOW] * count,
            "before.Score__c": pl.Series([None] * count, dtype=pl.Float64),
        }
    )
    return frame.with_columns(pl.Series(name, values, frame.schema.get(name)) for name, values in columns.items())


@pytest.fixture
def page() -> Callable[..., pl.DataFrame]:
    return decisions


@pytest.fixture
def stored(any_database: Database, log: DecisionLog, facts: SegmentFacts) -> Callable[..., int]:
    """Writes and catalogues a page; gives the segment's number."""

    def write(frame: pl.DataFrame) -> int:
        segment = log.write(facts, frame)
        with any_database.begin() as session:
            log.catalogue(session, segment)
        return segment.id

    return write


def standings(keys: pl.Series, **columns: object) -> pl.DataFrame:
    """Updates that put these records on applied with a score, unless a column says otherwise."""
    count = len(keys)
    plain: dict[str, object] = {
        "digest": [b"d" * 16] * count,
        "state": ["applied"] * count,
        "values": pl.DataFrame({"Score__c": [50.0] * count, "Band__c": ["Hot"] * count}).to_struct("values"),
        "version": ["v1"] * count,
        "segment": [1] * count,
        "row": list(range(count)),
        "at": [NOW] * count,
        "written_at": [NOW] * count,
        "due": pl.Series([None] * count, dtype=pl.Datetime("us", "UTC")),
        "why": pl.Series([None] * count, dtype=pl.String),
        "attempts": [0] * count,
    }
    return pl.DataFrame({"_key": keys, **plain, **columns})


@pytest.fixture
def placed() -> Callable[..., pl.DataFrame]:
    return standings


@pytest.fixture
def put(any_database: Database, standing: Standing) -> Callable[[pl.DataFrame], None]:
    """Views the keys of the updates and puts them, as one page of a run does."""

    def store(updates: pl.DataFrame) -> None:
        view = standing.view("lead_score", updates["_key"])
        with any_database.begin() as session:
            standing.put(session, view, updates)

    return store
