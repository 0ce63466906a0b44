"""The receipt of a record is its standing and every decision behind it, wherever the log keeps them now."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta

import polars as pl
import pytest

from hub.database import Database
from hub.decisions import DecisionError, DecisionLog, SegmentFacts, Standing, history, receipt
from hub.decisions.log.log import DecisionLog as Log
from hub.decisions.receipts import named_key
from hub.decisions.types import SegmentFile

IDS = ["00Q1", "00Q2", "00Q3"]
MAPPING = "lead_score"
Page = Callable[..., pl.DataFrame]


@pytest.fixture
def decided(
    any_database: Database, log: DecisionLog, standing: Standing, facts: SegmentFacts, page: Page, placed: Page
) -> Callable[[int, list[str]], int]:
    """Decides anew about records as a run does: each decision names the one before, results and standing follow."""

    def decide(turn: int, ids: list[str]) -> int:
        keys = pl.DataFrame({"Id": ids}).to_struct("_key")
        view = standing.view(MAPPING, keys)
        before = view.frame.select(pl.struct("segment", "row")).to_series()
        previous = before.zip_with(view.frame["state"].is_not_null(), pl.Series([None], dtype=before.dtype))
        scores = [float(turn * 10 + at) for at in range(len(ids))]
        frame = page(ids, _previous=previous, **{"d.score": scores, "set.Score__c": scores})
        at = facts.at + timedelta(minutes=15 * turn)
        segment = log.write(replace(facts, run=f"run-{turn}", at=at), frame)
        told = {"row": range(len(ids)), "state": "applied", "field": None, "reason": None, "version": f"v{turn}"}
        updates = placed(keys, segment=[segment.id] * len(ids), version=[f"v{turn}"] * len(ids))
        with any_database.begin() as session:
            log.catalogue(session, segment)
            log.record_results(session, segment.id, pl.DataFrame(told))
            standing.put(session, view, updates)
        return segment.id

    return decide


def _runs(decisions: Iterator[object]) -> list[str]:
    return [each.facts.run for each in decisions]  # type: ignore[attr-defined]


def test_a_receipt_tells_the_whole_story(log: DecisionLog, standing: Standing, decided: Callable[..., int]) -> None:
    segments = [decided(turn, IDS) for turn in range(3)]
    found = receipt(log, standing, MAPPING, {"Id": "00Q2"})
    assert found.key == {"Id": "00Q2"}
    assert found.standing is not None
    assert (found.standing["state"], found.standing["segment"]) == ("applied", segments[2])
    assert found.older is None
    assert [(each.segment, each.row) for each in found.decisions] == [(each, 1) for each in reversed(segments)]
    newest = found.decisions[0]
    assert newest.facts.run == "run-2"
    assert newest.features == {"days_open": 1, "industry": "Banking"}
    assert newest.outputs == {"probability": 0.5}
    assert newest.decided == {"score": 21.0}
    assert newest.set == {"Score__c": 21.0}
    assert newest.before == {"Score__c": None}
    assert set(newest.with_) == {"Scored_At__c"}
    assert newest.reasons == ({"feature": "days_open", "effect": 0.25},)
    assert newest.result == {"state": "applied", "field": None, "reason": None, "version": "v2"}
    assert newest.root == log.segment(segments[2]).root
    assert newest.previous == (segments[1], 1)
    assert found.decisions[-1].previous is None


def test_a_receipt_is_cut_at_its_limit_and_says_where_it_goes_on(
    log: DecisionLog, standing: Standing, decided: Callable[..., int]
) -> None:
    for turn in range(5):
        decided(turn, IDS)
    found = receipt(log, standing, MAPPING, {"Id": "00Q3"}, limit=2)
    assert _runs(iter(found.decisions)) == ["run-4", "run-3"]
    key = pl.DataFrame({"Id": ["00Q3"]}).to_struct("_key")
    assert _runs(history(log, found.older, key)) == ["run-2", "run-1", "run-0"]


def test_compaction_changes_no_receipt(log: DecisionLog, standing: Standing, decided: Callable[..., int]) -> None:
    for turn in range(4):
        decided(turn, IDS[: 3 - turn % 2])
    assert log.compact(MAPPING) == 4
    for turn in range(4, 6):
        decided(turn, IDS)
    before = [receipt(log, standing, MAPPING, {"Id": each}) for each in IDS]
    assert log.compact(MAPPING) == 3
    assert [receipt(log, standing, MAPPING, {"Id": each}) for each in IDS] == before
    assert _runs(iter(before[2].decisions)) == ["run-5", "run-4", "run-2", "run-0"]


def test_one_compacted_file_is_read_once_for_a_whole_history(
    log: DecisionLog, standing: Standing, decided: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    for turn in range(6):
        decided(turn, IDS)
    log.compact(MAPPING)
    reads: list[int] = []
    beside = Log.beside

    def counted(self: Log, segment_id: int, row: int, text: str, file: SegmentFile) -> object:
        reads.append(segment_id)
        return beside(self, segment_id, row, text, file)

    monkeypatch.setattr(Log, "beside", counted)
    assert len(receipt(log, standing, MAPPING, {"Id": "00Q1"}).decisions) == 6
    assert len(reads) == 1


def test_an_unknown_record_has_an_empty_receipt(
    log: DecisionLog, standing: Standing, decided: Callable[..., int]
) -> None:
    assert receipt(log, standing, MAPPING, {"Id": "00Q9"}).decisions == ()
    decided(0, IDS)
    assert receipt(log, standing, MAPPING, {"Id": "00Q9"}).standing is None


def test_a_key_is_read_as_the_mapping_has_it_or_refused_by_name(
    any_database: Database, log: DecisionLog, standing: Standing, placed: Page
) -> None:
    keys = pl.DataFrame({"plant": ["P1"], "nr": [7]}).to_struct("_key")
    with any_database.begin() as session:
        standing.put(session, standing.view(MAPPING, keys), placed(keys).with_columns(segment=None, row=None))
    found = receipt(log, standing, MAPPING, {"nr": "7", "plant": "P1"})
    assert found.key == {"plant": "P1", "nr": 7}
    assert found.standing is not None
    with pytest.raises(DecisionError, match=r"key field nr of .* must be a whole number"):
        receipt(log, standing, MAPPING, {"nr": "seven", "plant": "P1"})
    with pytest.raises(DecisionError, match="is plant, nr"):
        receipt(log, standing, MAPPING, {"nr": "7"})


def test_the_chain_of_an_erased_record_is_nowhere(
    any_database: Database, log: DecisionLog, standing: Standing, decided: Callable[..., int]
) -> None:
    segments = [decided(turn, IDS) for turn in range(2)]
    key = pl.DataFrame({"Id": ["00Q2"]}).to_struct("_key")
    assert log.erase(MAPPING, key) == 2
    assert list(history(log, (segments[1], 1), key)) == []
    with any_database.begin() as session:
        assert standing.remove(session, MAPPING, key) == 1
    assert receipt(log, standing, MAPPING, {"Id": "00Q2"}).standing is None
    assert len(receipt(log, standing, MAPPING, {"Id": "00Q1"}).decisions) == 2


def test_a_pointer_to_another_record_is_no_receipt(log: DecisionLog, decided: Callable[..., int]) -> None:
    segment = decided(0, IDS)
    key = pl.DataFrame({"Id": ["00Q2"]}).to_struct("_key")
    with pytest.raises(DecisionError, match="no decision about this record"):
        list(history(log, (segment, 0), key))


def test_a_history_goes_on_where_its_files_are_replaced_while_it_is_read(
    log: DecisionLog, decided: Callable[..., int]
) -> None:
    segments = [decided(turn, IDS) for turn in range(3)]
    key, other = (pl.DataFrame({"Id": [each]}).to_struct("_key") for each in ("00Q2", "00Q3"))
    read = history(log, (segments[2], 1), key)
    assert next(read).segment == segments[2]
    assert log.erase(MAPPING, other) == 3
    assert [each.segment for each in read] == [segments[1], segments[0]]


def test_a_pointer_to_no_segment_is_named(log: DecisionLog) -> None:
    key = pl.DataFrame({"Id": ["00Q2"]}).to_struct("_key")
    with pytest.raises(DecisionError, match="there is no segment 7"):
        list(history(log, (7, 0), key))


@pytest.mark.parametrize(
    ("names", "given", "key"),
    [
        (["id"], ["17"], {"id": "17"}),
        (["id"], ["id=17"], {"id": "17"}),
        (["id"], ["a=b,c"], {"id": "a=b,c"}),
        (["ward", "bed"], ["ward=A", "bed=1"], {"ward": "A", "bed": "1"}),
        (["ward", "bed"], ["bed=1,ward=A=B"], {"ward": "A=B", "bed": "1"}),
    ],
)
def test_a_key_is_understood_as_people_write_it(names: list[str], given: list[str], key: dict[str, str]) -> None:
    assert named_key(names, given) == key


@pytest.mark.parametrize(
    "given", [["A"], ["ward=A"], ["ward=A,bed=1,bed=2"], ["ward=A", "bad=1"], ["ward=A,bed=1", "x=1"]]
)
def test_a_key_of_other_fields_names_those_it_has(given: list[str]) -> None:
    with pytest.raises(DecisionError, match=r"the key has the fields ward, bed: ward=…,bed=…"):
        named_key(["ward", "bed"], given)
