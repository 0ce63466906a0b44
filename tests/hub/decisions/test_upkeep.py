"""Erased records are gone and the digest still verifies; compacted segments stay what they were; orphans are swept."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from hub.database import Database
from hub.decisions import DecisionError, DecisionLog, IntegrityError, SegmentFacts
from hub.decisions.store import DecisionBytesRow

IDS = [f"00Q{number:04}" for number in range(40)]
Page = Callable[..., pl.DataFrame]
Stored = Callable[..., int]
LATER = datetime(2100, 1, 1, tzinfo=UTC)


def _keys(*ids: str) -> pl.Series:
    return pl.DataFrame({"Id": ids}).to_struct("_key")


def _files(folder: Path) -> int:
    return sum(1 for each in folder.rglob("*") if each.is_file())


def test_an_erased_record_is_gone_and_the_digest_still_verifies(
    any_database: Database, log: DecisionLog, stored: Stored, page: Page, folder: Path
) -> None:
    first, second = stored(page(IDS)), stored(page(IDS))
    with any_database.begin() as session:
        told = {"row": [7], "state": ["rejected"], "field": ["Score__c"], "reason": ["00Q0007 is locked"]}
        log.record_results(session, first, pl.DataFrame({**told, "version": ["v2"]}))
    assert log.erase("lead_score", _keys("00Q0007")) == 2
    for segment in (first, second):
        log.verify(segment)
        assert log.segment(segment).erased == 1
        row = log.frame(segment).row(7, named=True)
        assert all(value is None for value in row.values())
        assert log.frame(segment)["_key"].null_count() == 1
    assert log.results(first).row(0) == (7, "rejected", None, None, None)
    assert _files(folder) == 2


def test_erasing_again_or_in_another_mapping_finds_nothing(log: DecisionLog, stored: Stored, page: Page) -> None:
    stored(page(IDS))
    assert log.erase("other", _keys("00Q0007")) == 0
    assert log.erase("lead_score", _keys("00Q0007", "00Q0008")) == 2
    assert log.erase("lead_score", _keys("00Q0007", "nobody")) == 0


def test_a_file_from_before_the_erasure_does_not_open_after_it(
    log: DecisionLog, any_database: Database, keys: object, stored: Stored, page: Page, folder: Path
) -> None:
    segment = stored(page(IDS))
    before = log.segment(segment).file
    assert before is not None
    kept = (folder / before.path).read_bytes()
    log.erase("lead_score", _keys("00Q0007"))
    after = log.segment(segment).file
    assert after is not None
    assert before.key != after.key
    (folder / after.path).write_bytes(kept)
    with pytest.raises(IntegrityError, match="altered"):
        DecisionLog(any_database, keys, folder).verify(segment)  # type: ignore[arg-type]


def test_compacted_segments_read_and_verify_as_before(
    log: DecisionLog, stored: Stored, page: Page, folder: Path
) -> None:
    frames = [page(sorted(IDS[at::3])) for at in range(3)] + [page(IDS[5:6])]
    segments = [stored(each) for each in frames]
    before = [log.frame(each) for each in segments]
    assert log.compact("lead_score") == 4
    assert len({log.segment(each).file for each in segments}) == 1
    for segment, frame in zip(segments, before, strict=True):
        log.verify(segment)
        assert log.frame(segment).equals(frame)
        assert log.frame(segment, ["_state"]).height == frame.height
    assert log.compact("lead_score") == 0
    assert log.sweep(LATER) == 4
    assert _files(folder) == 1
    log.verify(segments[0])


def test_few_decisions_stay_in_the_database_until_they_are_settled_into_a_file(
    any_database: Database, log: DecisionLog, keys: object, facts: SegmentFacts, page: Page, folder: Path
) -> None:
    frames = [page([name]) for name in IDS[:6]]
    segments = []
    for frame in frames:
        segment = log.write(facts, frame, inside=True)
        with pytest.raises(DecisionError, match="there is no segment"):
            log.frame(segment.id)
        with any_database.begin() as session:
            log.catalogue(session, segment)
        segments.append(segment.id)
    assert _files(folder) == 0
    other = DecisionLog(any_database, keys, folder)  # type: ignore[arg-type]
    before = [other.frame(each) for each in segments]
    assert [each["_key"].struct.field("Id").to_list() for each in before] == [[name] for name in IDS[:6]]
    for each in segments:
        other.verify(each)
    assert other.erase("lead_score", _keys(IDS[5])) == 1
    assert _files(folder) == 1

    assert log.settle(least=6) == 0
    assert log.settle(least=5) == 6
    assert log.sweep(LATER) == 1
    assert _files(folder) == 1
    for segment, frame in list(zip(segments, before, strict=True))[:5]:
        for reader in (log, other):
            reader.verify(segment)
            assert reader.frame(segment).equals(frame)
    assert log.frame(segments[5])["_key"].null_count() == 1
    log.verify(segments[5])
    assert log.settle(least=1) == 0


def test_bytes_altered_in_the_database_are_found(
    any_database: Database, log: DecisionLog, keys: object, facts: SegmentFacts, page: Page, folder: Path
) -> None:
    segment = log.write(facts, page(IDS[:3]), inside=True)
    with any_database.begin() as session:
        log.catalogue(session, segment)
        row = session.get_one(DecisionBytesRow, segment.id)
        row.content = row.content[:60] + bytes([row.content[60] ^ 1]) + row.content[61:]
    with pytest.raises(IntegrityError, match="altered"):
        DecisionLog(any_database, keys, folder).verify(segment.id)  # type: ignore[arg-type]
    with any_database.begin() as session:
        session.delete(session.get_one(DecisionBytesRow, segment.id))
    with pytest.raises(IntegrityError, match="missing in the database"):
        DecisionLog(any_database, keys, folder).verify(segment.id)  # type: ignore[arg-type]


def test_compacted_files_are_compacted_further_and_erased_from(log: DecisionLog, stored: Stored, page: Page) -> None:
    segments = [stored(page(IDS)) for _ in range(3)]
    log.compact("lead_score")
    segments.append(stored(page(IDS[::-1])))
    assert log.erase("lead_score", _keys("00Q0003")) == 4
    assert log.compact("lead_score") == 2
    assert log.erase("lead_score", _keys("00Q0004")) == 4
    for segment in segments:
        log.verify(segment)
        assert log.segment(segment).erased == 2
        assert log.frame(segment)["_key"].null_count() == 2


def test_segments_of_other_columns_or_younger_than_asked_stay_apart(
    log: DecisionLog, stored: Stored, page: Page, clock: object
) -> None:
    first = stored(page(IDS))
    other = stored(page(IDS).with_columns(pl.lit(1.5).alias("f.more")))
    assert log.compact("lead_score") == 0
    limit = clock.now()  # type: ignore[attr-defined]
    clock.moment += timedelta(hours=1)  # type: ignore[attr-defined]
    later = [stored(page(IDS)), stored(page(IDS))]
    assert log.compact("lead_score", before=limit) == 0
    assert log.compact("lead_score") == 3
    assert len({log.segment(each).file for each in (first, *later)}) == 1
    assert log.segment(other).file not in {log.segment(each).file for each in later}


def test_files_of_one_size_wait_for_each_other_and_a_row_is_not_rewritten_each_time(
    log: DecisionLog, stored: Stored, page: Page
) -> None:
    segments: list[int] = []
    merged: dict[int, int] = {}
    most = 0
    for turn in range(38):
        segments.append(stored(page(IDS[turn : turn + 2])))
        log.compact("lead_score", fan=3)
        files = {each for each in (log.segment(name).file for name in segments) if each is not None}
        merged |= {each.id: each.rows for each in files if each.segments > 1}
        most = max(most, len(files))
    assert most <= 10
    assert sum(merged.values()) <= 3 * 2 * len(segments)
    for each in segments:
        log.verify(each)


def test_only_old_files_without_a_row_are_swept(
    log: DecisionLog, stored: Stored, page: Page, facts: SegmentFacts, folder: Path
) -> None:
    kept = stored(page(IDS))
    log.write(facts, page(IDS))
    assert log.sweep(datetime(2000, 1, 1, tzinfo=UTC)) == 0
    assert log.sweep(LATER) == 1
    assert _files(folder) == 1
    log.verify(kept)
