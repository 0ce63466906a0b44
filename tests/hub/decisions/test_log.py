"""Segments come back as written, are durable before they are catalogued, and carry what the far side answered."""

from __future__ import annotations

import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from hub.database import Database
from hub.decisions import DecisionError, DecisionLog, SegmentFacts

IDS = [f"00Q{number:04}" for number in range(50)]
Page = Callable[..., pl.DataFrame]


def test_a_segment_comes_back_as_written(log: DecisionLog, stored: Callable[..., int], page: Page) -> None:
    frame = page(IDS)
    found = log.frame(stored(frame))
    assert found.equals(frame.with_columns(pl.col("_target").cast(frame.schema["_key"])))


def test_single_columns_can_be_read(log: DecisionLog, stored: Callable[..., int], page: Page) -> None:
    assert log.frame(stored(page(IDS)), ["_key", "f.days_open"]).columns == ["_key", "f.days_open"]


def test_the_file_is_durable_before_its_row_and_for_the_hub_alone(
    log: DecisionLog, facts: SegmentFacts, page: Page, folder: Path
) -> None:
    segment = log.write(facts, page(IDS))
    assert segment.file is not None
    path = folder / segment.file.path
    assert path.stat().st_size == segment.size
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(DecisionError, match=f"no segment {segment.id}"):
        log.frame(segment.id)


def test_no_value_stands_in_clear_on_disk_or_in_the_catalogue(
    any_database: Database, log: DecisionLog, facts: SegmentFacts, page: Page, folder: Path, tmp_path: Path
) -> None:
    secret = "Jane-Planted-Doe"
    segment = log.write(facts, page([secret], **{"f.industry": [secret]}))
    with any_database.begin() as session:
        log.catalogue(session, segment)
        log.record_results(session, segment.id, _results([0], "rejected", reason=secret))
    everything = b"".join(each.read_bytes() for each in tmp_path.rglob("*") if each.is_file())
    assert secret.encode() not in everything
    assert log.results(segment.id)["reason"][0] == secret


def test_numbers_grow_with_time_and_counts_add_up(log: DecisionLog, facts: SegmentFacts, page: Page) -> None:
    states = ["planned"] * 30 + ["held"] * 15 + ["invalid"] * 5
    first, second = log.write(facts, page(IDS, _state=states)), log.write(facts, page(IDS))
    assert first.id < second.id
    assert first.counts == {"held": 15, "invalid": 5, "planned": 30}
    assert first.root != second.root


def test_segments_are_listed_by_run_and_mapping_in_order(
    any_database: Database, log: DecisionLog, facts: SegmentFacts, page: Page
) -> None:
    made = [log.write(replace(facts, run=run, page=at), page(IDS)) for at, run in enumerate(["r1", "r2", "r1"])]
    with any_database.begin() as session:
        for each in made:
            log.catalogue(session, each)
    with any_database.read() as session:
        assert [each.id for each in log.segments(session, run="r1")] == [made[0].id, made[2].id]
        assert log.segments(session, mapping="lead_score")[1] == made[1]
        assert [each.id for each in log.segments(session, mapping="lead_score", after=made[0].id, limit=1)] == [
            made[1].id
        ]
        assert log.segments(session, mapping="other") == []


def test_results_told_again_replace_what_was_told(
    any_database: Database, log: DecisionLog, stored: Callable[..., int], page: Page
) -> None:
    segment = stored(page(IDS))
    assert log.results(segment).is_empty()
    with any_database.begin() as session:
        log.record_results(session, segment, _results([0, 1, 2], "unknown"))
    with any_database.begin() as session:
        log.record_results(session, segment, _results([1], "applied", version="v9"))
    assert log.results(segment)["state"].to_list() == ["unknown", "applied", "unknown"]
    assert log.results(segment)["version"].to_list() == [None, "v9", None]
    assert log.segment(segment).results == {"applied": 1, "unknown": 2}


def test_results_of_a_rolled_back_page_are_nowhere(
    any_database: Database, log: DecisionLog, stored: Callable[..., int], page: Page
) -> None:
    segment = stored(page(IDS))
    with any_database.sessions() as session:
        log.record_results(session, segment, _results([0], "applied"))
        session.rollback()
    assert log.results(segment).is_empty()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda frame: frame.drop("_reason"), "needs the column _reason"),
        (lambda frame: frame.with_columns(_state=pl.lit("done")), "done is no state"),
        (lambda frame: frame.with_columns(_salt=pl.lit(1)), "_salt belongs to the log"),
        (lambda frame: frame.with_columns(_key=pl.lit("a")), "_key must be a struct"),
    ],
)
def test_a_wrong_page_is_refused_by_name(
    log: DecisionLog, facts: SegmentFacts, page: Page, change: Callable[[pl.DataFrame], pl.DataFrame], message: str
) -> None:
    with pytest.raises(DecisionError, match=message):
        log.write(facts, change(page(IDS)))


def test_an_empty_page_is_a_segment_too(log: DecisionLog, stored: Callable[..., int], page: Page) -> None:
    segment = stored(page(IDS).clear())
    log.verify(segment)
    assert log.frame(segment).is_empty()


def _results(rows: list[int], state: str, reason: str | None = None, version: str | None = None) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "row": rows,
            "state": [state] * len(rows),
            "field": pl.Series([None] * len(rows), dtype=pl.String),
            "reason": pl.Series([reason] * len(rows), dtype=pl.String),
            "version": pl.Series([version] * len(rows), dtype=pl.String),
        }
    )
