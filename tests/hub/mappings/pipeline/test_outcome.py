"""What is decided over the model's answer, and what a record is to hold."""

from __future__ import annotations

import polars as pl
import pytest

from hub.mappings.pipeline import Pipeline
from hub.mappings.types import Fallback
from tests.hub.mappings.pipeline.builder import NOW, Draft, leads, predicted


def decided_of(draft: Draft, *probabilities: float | None, **columns: list[object]) -> pl.DataFrame:
    pipeline = Pipeline(draft.compile())
    frame = leads(len(probabilities), **columns)
    featured = pipeline.features(pipeline.admit(frame, NOW).frame, NOW)
    return pipeline.decide(featured, predicted(*probabilities), NOW)


def told(frame: pl.DataFrame) -> list[tuple[str, str | None]]:
    return frame.select("_state", "_reason").rows()


BAND = "case when probability >= 0.8 then 'Hot' when probability >= 0.5 then 'Warm' else 'Cold' end"


def test_decided_names_and_fitted_targets_stand_beside_the_outputs() -> None:
    draft = Draft(decide={"score": "round(100 * probability)", "band": BAND}, set={"Score": "score", "Band": "band"})

    decided = decided_of(draft, 0.834, 0.1)

    assert decided["set.Score"].to_list() == [83, 10]
    assert decided["set.Band"].to_list() == ["Hot", "Cold"]
    assert decided.schema["set.Score"] == pl.Int64
    assert {"probability", "label", "confidence", "score", "band", "_because"} <= set(decided.columns)
    assert told(decided) == [("ready", None)] * 2


def test_a_decided_name_may_build_on_an_earlier_one() -> None:
    draft = Draft(decide={"score": "round(100 * probability)", "half": "score / 2"}, set={"Score": "half"})

    assert decided_of(draft, 0.8)["set.Score"].to_list() == [40]


@pytest.mark.parametrize("answer", [float("nan"), float("inf"), float("-inf"), None])
def test_an_answer_that_is_no_number_makes_its_record_invalid_and_no_other(answer: float | None) -> None:
    decided = decided_of(Draft(), answer, 0.5)

    assert told(decided) == [("invalid", "the model returned no number"), ("ready", None)]
    assert decided["set.Score"].to_list() == [None, 50]


def test_an_output_that_nobody_uses_may_be_anything() -> None:
    draft = Draft(decide={"band": "label"}, set={"Why": "band"})

    assert told(decided_of(draft, float("nan"))) == [("ready", None)]


FALLBACK = Fallback("confidence < 0.55", {"band": "'Review'"}, "low confidence")


def test_a_fallback_replaces_only_the_names_it_sets_and_says_why() -> None:
    draft = Draft(
        decide={"score": "round(100 * probability)", "band": BAND},
        fallback=FALLBACK,
        set={"Score": "score", "Band": "band"},
    )

    decided = decided_of(draft, 0.9, 0.5)

    assert decided["set.Band"].to_list() == ["Hot", "Review"]
    assert decided["set.Score"].to_list() == [90, 50]
    assert decided["_because"].to_list() == [None, "low confidence"]


def test_what_is_written_may_say_why_the_fallback_was_taken() -> None:
    draft = Draft(decide={"band": BAND}, fallback=FALLBACK, set={"Why": "coalesce(because, 'as scored')"})

    assert decided_of(draft, 0.9, 0.5)["set.Why"].to_list() == ["as scored", "low confidence"]


def test_an_error_in_the_fallback_counts_only_where_it_is_taken() -> None:
    fallback = Fallback("confidence < 0.55", {"score": "1 / company_size"}, "low confidence")
    decided = decided_of(Draft(fallback=fallback), 0.9, 0.5, Employees=[0, 0])

    (fine, bad) = told(decided)
    assert fine == ("ready", None)
    assert bad[0] == "invalid"


def test_an_unknown_condition_takes_neither_the_fallback_nor_the_hold() -> None:
    draft = Draft(
        decide={"band": BAND},
        fallback=Fallback("industry = 'Retail'", {"band": "'Review'"}, "retail"),
        hold="industry = 'Mining'",
        set={"Band": "band"},
    )

    decided = decided_of(draft, 0.9, 0.9, 0.9, Industry=[None, "Retail", "Mining"])

    assert decided["set.Band"].to_list() == ["Hot", "Review", "Hot"]
    assert [state for state, _ in told(decided)] == ["ready", "ready", "held"]


def test_a_held_record_keeps_what_was_decided_for_the_person_who_looks() -> None:
    decided = decided_of(Draft(hold="probability > 0.95"), 0.99)

    assert told(decided) == [("held", "held for a person, as decide.hold says")]
    assert decided["set.Score"].to_list() == [99]


def test_a_value_that_does_not_fit_its_field_is_refused_and_never_cut() -> None:
    draft = Draft(decide={"band": "industry"}, set={"Why": "band"})

    decided = decided_of(draft, 0.5, 0.5, Industry=["x" * 40, "x" * 41])

    assert decided["set.Why"].to_list() == ["x" * 40, None]
    assert told(decided)[1] == ("invalid", "Why: longer than the 40 characters the field holds")


def test_a_value_outside_the_fields_own_list_is_refused() -> None:
    decided = decided_of(Draft(decide={"band": "industry"}, set={"Band": "band"}), 0.5, 0.5, Industry=["Warm", "Tepid"])

    assert decided["set.Band"].to_list() == ["Warm", None]
    assert told(decided)[1] == ("invalid", "Band: not one of the values the field allows")


def test_a_score_that_is_no_whole_number_does_not_go_into_an_integer() -> None:
    decided = decided_of(Draft(decide={"score": "100 * probability"}), 0.5, 0.505)

    assert decided["set.Score"].to_list() == [50, None]
    assert told(decided)[1] == ("invalid", "Score: not a whole number the field can hold")


def test_predictions_must_be_as_many_as_records() -> None:
    pipeline = Pipeline(Draft().compile())
    featured = pipeline.features(pipeline.admit(leads(2), NOW).frame, NOW)

    with pytest.raises(ValueError, match="1 predictions for 2 records"):
        pipeline.decide(featured, predicted(0.5), NOW)


def test_values_that_need_reasons_or_facts_wait_until_a_record_is_to_be_written() -> None:
    decided = decided_of(Draft(set={"Score": "score", "Why": "reasons(2)", "ScoredAt": "scored_at"}), 0.5)

    assert "set.Score" in decided.columns
    assert not {"set.Why", "set.ScoredAt"} & set(decided.columns)


def test_constants_are_written_to_every_record() -> None:
    decided = decided_of(Draft(decide={"band": "'Warm'"}, set={"Band": "'Hot'"}), 0.5, 0.5, 0.5)

    assert decided["set.Band"].to_list() == ["Hot"] * 3
    assert decided["band"].to_list() == ["Warm"] * 3


def test_no_records_are_decided_to_no_records() -> None:
    draft = Draft(
        decide={"score": "round(100 * probability)", "band": BAND},
        fallback=FALLBACK,
        hold="probability > 0.95",
        set={"Score": "score", "Band": "band"},
    )

    assert decided_of(draft).height == 0


def test_a_label_that_is_missing_makes_its_record_invalid() -> None:
    pipeline = Pipeline(Draft(decide={"band": "label"}, set={"Why": "band"}).compile())
    featured = pipeline.features(pipeline.admit(leads(2), NOW).frame, NOW)
    answers = predicted(0.5, 0.5).with_columns(pl.Series("label", [None, "yes"]))

    decided = pipeline.decide(featured, answers, NOW)

    assert told(decided) == [("invalid", "the model returned no label"), ("ready", None)]


def test_without_an_answer_in_time_the_fallback_is_taken_and_marked() -> None:
    draft = Draft(
        decide={"score": "round(100 * probability)", "band": BAND},
        fallback=FALLBACK,
        set={"Score": "score", "Band": "band", "Why": "because"},
    )
    pipeline = Pipeline(draft.compile())
    featured = pipeline.features(pipeline.admit(leads(2), NOW).frame, NOW)

    late = pipeline.decide_late(featured, NOW)

    assert late.schema == pipeline.decide(featured, predicted(0.5, 0.9), NOW).schema
    late_values = late.select("set.Band", "set.Score", "_because", "set.Why").rows()
    assert late_values == [("Review", None, "the model did not answer in time", "the model did not answer in time")] * 2
    assert told(late) == [("ready", None)] * 2


def test_without_a_fallback_nothing_can_be_answered_late() -> None:
    pipeline = Pipeline(Draft().compile())
    featured = pipeline.features(pipeline.admit(leads(1), NOW).frame, NOW)

    with pytest.raises(ValueError, match=r"no decide\.fallback"):
        pipeline.decide_late(featured, NOW)
