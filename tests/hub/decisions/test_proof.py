"""Whatever was done to a stored segment is found and named."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from sqlalchemy import update

from hub.database import Database
from hub.decisions import DecisionLog, IntegrityError, SegmentFacts
from hub.decisions.log.archive import Archive
from hub.decisions.log.files import MAGIC
from hub.decisions.store import DecisionFileRow, SegmentRow
from hub.keys import KeyRing

IDS = [f"00Q{number:04}" for number in range(40)]


@pytest.fixture
def segment(stored: Callable[..., int], page: Callable[..., pl.DataFrame]) -> int:
    return stored(page(IDS))


@pytest.fixture
def path(log: DecisionLog, segment: int, folder: Path) -> Path:
    file = log.segment(segment).file
    assert file is not None
    return folder / file.path


@pytest.fixture
def fresh(any_database: Database, keys: KeyRing, folder: Path) -> DecisionLog:
    """Another process: it holds no file open."""
    return DecisionLog(any_database, keys, folder)


def test_an_untouched_segment_verifies(fresh: DecisionLog, segment: int) -> None:
    fresh.verify(segment)


def test_any_flipped_byte_is_found(
    any_database: Database, keys: KeyRing, folder: Path, segment: int, path: Path
) -> None:
    whole = path.read_bytes()
    for at in [*range(len(MAGIC) + 4), *range(len(whole) - 40, len(whole)), *range(0, len(whole), 97)]:
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises(IntegrityError, match=str(segment)):
            DecisionLog(any_database, keys, folder).verify(segment)


@pytest.mark.parametrize("size", [0, 5, 200, -1])
def test_a_truncated_file_is_found(fresh: DecisionLog, segment: int, path: Path, size: int) -> None:
    os.truncate(path, path.stat().st_size + size if size < 0 else size)
    with pytest.raises(IntegrityError, match=f"segment {segment} "):
        fresh.verify(segment)


def test_a_missing_file_is_named(fresh: DecisionLog, segment: int, path: Path) -> None:
    path.unlink()
    with pytest.raises(IntegrityError, match="is missing"):
        fresh.verify(segment)


def test_the_file_of_another_segment_does_not_pass(
    fresh: DecisionLog, segment: int, path: Path, stored: Callable[..., int], page: Callable[..., pl.DataFrame]
) -> None:
    other = fresh.segment(stored(page(IDS))).file
    assert other is not None
    path.write_bytes((path.parents[3] / other.path).read_bytes())
    with pytest.raises(IntegrityError, match="altered or cut"):
        fresh.verify(segment)


@pytest.mark.parametrize(
    ("forge", "message"),
    [
        (lambda rows: rows.reverse(), "do not add up"),
        (lambda rows: rows.with_columns(pl.lit(99.0).alias("d.score")), "do not add up"),
        (lambda rows: rows.with_columns(pl.col("_salt").reverse()), "do not add up"),
        (lambda rows: rows[:-1], "has 39 rows"),
        (lambda rows: rows.rename({"d.score": "d.other"}), "does not have the columns"),
        (lambda rows: rows.with_columns(pl.col("f.days_open").cast(pl.Float64)), "does not have the columns"),
        (lambda rows: rows.with_columns(pl.lit(b"x" * 32).alias("_leaf")), "40 erased rows"),
    ],
)
def test_a_file_rewritten_by_whoever_holds_the_key_is_found(
    any_database: Database,
    keys: KeyRing,
    folder: Path,
    fresh: DecisionLog,
    segment: int,
    clock: object,
    forge: Callable[[pl.DataFrame], pl.DataFrame],
    message: str,
) -> None:
    archive = Archive(any_database, keys, folder, clock)  # type: ignore[arg-type]
    file = archive.store(segment, forge(archive.rows(fresh.segment(segment))))
    with any_database.begin() as session:
        values = {"path": file.path, "key": file.key}
        session.execute(update(DecisionFileRow).where(DecisionFileRow.id == segment).values(values))
    with pytest.raises(IntegrityError, match=message):
        fresh.verify(segment)


@pytest.mark.parametrize(
    "forged",
    [{"model_version": 4}, {"version": "c" * 64}, {"run": "run-2"}, {"mapping": "other"}, {"root": b"0" * 32}],
)
def test_facts_changed_in_the_catalogue_are_found(
    any_database: Database, fresh: DecisionLog, segment: int, forged: dict[str, object]
) -> None:
    with any_database.begin() as session:
        session.execute(update(SegmentRow).where(SegmentRow.id == segment).values(forged))
    with pytest.raises(IntegrityError, match="do not add up"):
        fresh.verify(segment)


def test_counts_changed_in_the_catalogue_are_found(
    any_database: Database, fresh: DecisionLog, segment: int, facts: SegmentFacts
) -> None:
    assert fresh.segment(segment).facts == facts
    with any_database.begin() as session:
        session.execute(update(SegmentRow).where(SegmentRow.id == segment).values(counts={"planned": 39, "held": 1}))
    with pytest.raises(IntegrityError, match="states"):
        fresh.verify(segment)
