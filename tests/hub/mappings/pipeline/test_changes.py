"""What travels along, what is worth a write, and the changes as they are sent."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.mappings.pipeline import Pipeline, render_reasons
from hub.sdk import Mode
from tests.hub.mappings.pipeline.builder import FACTS, NOW, SCORES, Draft, leads, predicted

REASON = pl.List(pl.Struct({"feature": pl.String(), "effect": pl.Float64()}))


def decided_of(pipeline: Pipeline, *probabilities: float, **columns: list[Any]) -> pl.DataFrame:
    page = leads(len(probabilities), **columns)
    featured = pipeline.features(pipeline.admit(page, NOW).frame, NOW)
    return pipeline.decide(featured, predicted(*probabilities), NOW)


def worth(draft: Draft, *probabilities: float, **columns: list[Any]) -> list[bool]:
    pipeline = Pipeline(draft.compile())
    return pipeline.worth_writing(decided_of(pipeline, *probabilities, **columns), None).to_list()


def reasons(*rows: list[tuple[str, float]] | None) -> pl.Series:
    listed = [None if row is None else [{"feature": name, "effect": effect} for name, effect in row] for row in rows]
    return pl.Series("reasons", listed, dtype=REASON)


def test_a_value_the_record_holds_already_is_not_worth_a_write() -> None:
    assert worth(Draft(), 0.5, 0.5, 0.5, Score=[50, 51, None]) == [False, True, True]


def test_a_difference_below_the_threshold_of_its_field_alone_is_not_worth_a_write() -> None:
    draft = Draft(when_changed={"Score": 3})

    assert worth(draft, 0.5, 0.5, 0.5, 0.5, Score=[52, 53, 47, None]) == [False, True, True, True]


def test_another_field_that_differs_is_worth_a_write_of_the_whole() -> None:
    draft = Draft(
        decide={"score": "round(100 * probability)", "band": "'Warm'"},
        set={"Score": "score", "Band": "band"},
        when_changed={"Score": 3},
    )

    assert worth(draft, 0.5, 0.5, Score=[51, 51], Band=["Warm", "Hot"]) == [False, True]


@given(st.integers(-(2**63), 2**63 - 1), st.integers(-(2**63), 2**63 - 1), st.integers(1, 1000))
def test_thresholds_hold_at_any_size_of_number(wish: int, held: int, step: int) -> None:
    pipeline = Pipeline(Draft(when_changed={"Score": step}).compile())
    decided = decided_of(pipeline, 0.5, Score=[held]).with_columns(pl.Series("set.Score", [wish], dtype=pl.Int64))

    assert pipeline.worth_writing(decided, None).to_list() == [abs(wish - held) >= step]


def test_a_step_of_a_tenth_is_a_step_although_its_binary_is_a_little_less() -> None:
    draft = Draft(
        target=SCORES,
        key={"Lead": "Id", "Kind": "1"},
        decide={"share": "probability"},
        set={"Share": "share"},
        when_changed={"Share": 0.1},
        mode=Mode.UPSERT,
    )
    pipeline = Pipeline(draft.compile())
    last = pl.Series([{"Share": "0.20"}, {"Share": "0.21"}]).cast(pl.Struct({"Share": pl.Decimal(5, 2)}))

    assert pipeline.worth_writing(decided_of(pipeline, 0.3, 0.3), last).to_list() == [True, False]


def test_a_null_leaves_the_field_alone() -> None:
    draft = Draft(decide={"band": "case when probability > 0.5 then 'Hot' end"}, set={"Band": "band"})

    assert worth(draft, 0.9, 0.1, Band=["Cold", "Cold"]) == [True, False]


def test_a_literal_null_clears_the_field_and_is_worth_a_write_once() -> None:
    draft = Draft(set={"Score": "score", "Band": "null"})
    pipeline = Pipeline(draft.compile())
    decided = decided_of(pipeline, 0.5, 0.5, Score=[50, 50], Band=["Hot", None])

    assert pipeline.worth_writing(decided, None).to_list() == [True, False]
    frame = pipeline.changes(decided, None).frame
    assert frame["_clear"].to_list() == [["Band"], ["Band"]]
    assert frame["Band"].to_list() == [None, None]


def upsert(**values: str) -> Pipeline:
    draft = Draft(target=SCORES, key={"Lead": "Id", "Kind": "2"}, set=values, mode=Mode.UPSERT)
    return Pipeline(draft.compile())


def test_another_record_is_compared_with_what_was_last_written_there() -> None:
    pipeline = upsert(Score="score")
    decided = decided_of(pipeline, 0.5, 0.5, 0.5)
    last = pl.Series([{"Score": 50}, {"Score": 49}, None], dtype=pl.Struct({"Score": pl.Int64()}))

    assert pipeline.worth_writing(decided, last).to_list() == [False, True, True]
    assert pipeline.worth_writing(decided, None).to_list() == [True, True, True]


def test_a_change_in_place_carries_its_own_key_its_version_and_what_it_replaces() -> None:
    pipeline = Pipeline(Draft().compile())

    changes = pipeline.changes(decided_of(pipeline, 0.5, Score=[7]), None)

    assert (changes.entity, changes.mode, changes.fields) == ("Lead", Mode.UPDATE, ("Score",))
    assert changes.frame.to_dicts() == [
        {"_key": {"Id": "L0"}, "_version": "v1", "_before": {"Score": 7}, "_clear": [], "Score": 50}
    ]


def test_a_change_of_another_record_has_that_records_key_and_no_version() -> None:
    pipeline = upsert(Score="score", Share="probability")

    changes = pipeline.changes(decided_of(pipeline, 0.5), None)

    (row,) = changes.frame.to_dicts()
    assert row["_key"] == {"Lead": "L0", "Kind": 2}
    assert (row["_version"], row["_before"]) == (None, None)
    assert changes.frame.schema["_key"] == SCORES.key_dtype()
    assert changes.frame.schema["Share"] == pl.Decimal(5, 2)


def test_a_record_that_is_not_ready_becomes_no_change() -> None:
    pipeline = Pipeline(Draft(hold="probability > 0.9").compile())

    with pytest.raises(ValueError, match="only records that are ready"):
        pipeline.changes(decided_of(pipeline, 0.95), None)


WITH = Draft(with_={"Why": "reasons(2)", "ScoredAt": "scored_at"})


def test_passengers_are_written_along_and_are_never_the_cause() -> None:
    pipeline = Pipeline(WITH.compile())
    decided = decided_of(pipeline, 0.5, Score=[50], Why=["old"])
    passengers = pipeline.passengers(decided, reasons([("company_size", 0.5), ("industry", -0.2)]), NOW, FACTS)

    assert pipeline.worth_writing(decided, None).to_list() == [False]
    (row,) = pipeline.changes(decided, passengers).frame.to_dicts()
    assert row["Why"] == "Company size (+); Industry (−)"
    assert row["ScoredAt"] == NOW
    assert row["_before"] == {"Score": 50, "Why": "old", "ScoredAt": None}


def test_reasons_are_shortened_by_whole_ones_and_never_cut() -> None:
    many = [("a quite long name of a feature", 1.0), ("company_size", 1.0), ("industry", -1.0)]
    pipeline = Pipeline(Draft(with_={"Why": "reasons(3)"}).compile())
    decided = decided_of(pipeline, 0.5, 0.5, 0.5, 0.5)

    passengers = pipeline.passengers(decided, reasons(many, many[1:], [("x" * 50, 1.0)], None), NOW, FACTS)

    assert passengers["with.Why"].to_list() == [
        "a quite long name of a feature (+)",
        "Company size (+); Industry (−)",
        None,
        None,
    ]
    assert passengers["_state"].to_list() == ["ready"] * 4


def test_a_set_value_that_shows_facts_joins_the_change() -> None:
    pipeline = Pipeline(
        Draft(set={"Score": "score", "Why": "concat(model, ' ', cast(model_version as text))"}).compile()
    )
    decided = decided_of(pipeline, 0.5)

    changes = pipeline.changes(decided, pipeline.passengers(decided, None, NOW, FACTS))

    assert changes.frame["Why"].to_list() == ["lead_conversion 7"]


def test_a_passenger_that_does_not_fit_makes_its_record_invalid() -> None:
    draft = Draft(with_={"Why": "concat(industry, mapping_version)"})
    pipeline = Pipeline(draft.compile())
    decided = decided_of(pipeline, 0.5, 0.5, Industry=["x" * 40, "x"])

    passengers = pipeline.passengers(decided, None, NOW, FACTS)

    assert passengers["_state"].to_list() == ["invalid", "ready"]
    assert passengers["_reason"].to_list()[0] == "Why: longer than the 40 characters the field holds"


def test_reasons_are_shown_by_title_with_the_direction_of_their_effect() -> None:
    series = reasons([("days", 0.4), ("size", -0.1), ("none", 0.0), ("other", 0.1)], [], None)

    shown = render_reasons(series, {"days": "Days since first contact", "size": "Company size"}, 2)

    assert shown.to_list() == ["Days since first contact (+); Company size (−)", None, None]


def test_clearing_empties_every_field_that_the_mapping_writes() -> None:
    pipeline = Pipeline(WITH.compile())
    keys = pl.Series([{"Id": "L0"}, {"Id": "L1"}])

    frame = pipeline.clearing(keys).frame

    assert frame["_clear"].to_list() == [["Score", "Why", "ScoredAt"]] * 2
    assert frame.select("Score", "Why", "ScoredAt", "_before").rows() == [(None, None, None, None)] * 2


def test_reasons_of_a_few_are_listed_as_those_of_many() -> None:
    rows = reasons([("days", 0.4), ("size", -0.1), ("none", 0.0)], [], None, [("size", 0.0)])
    many = pl.concat([rows] * 10)

    assert (
        render_reasons(many, {"size": "Size"}, 3).to_list() == render_reasons(rows, {"size": "Size"}, 3).to_list() * 10
    )
