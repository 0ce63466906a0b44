"""Which records of a page are due, and what the model is shown of each."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from hub.mappings.pipeline import Pipeline
from hub.mappings.pipeline.expectations import FEW
from hub.mappings.types import Expectation
from hub.models import InputField
from hub.sdk import FieldType
from tests.hub.mappings.pipeline.builder import NOW, SCORES, Draft, leads, page


def features_of(draft: Draft, frame: pl.DataFrame) -> pl.DataFrame:
    pipeline = Pipeline(draft.compile())
    return pipeline.features(pipeline.admit(frame, NOW).frame, NOW)


def told(frame: pl.DataFrame) -> list[tuple[str, str | None]]:
    return frame.select("_state", "_reason").rows()


def test_the_whole_condition_is_applied_again_and_unknown_is_not_selected() -> None:
    pipeline = Pipeline(Draft(where="Converted = false").compile())

    admitted = pipeline.admit(leads(3, Converted=[False, True, None]), NOW)

    assert admitted.frame["Id"].to_list() == ["L0"]
    assert admitted.outside["_key"].to_list() == [{"Id": "L1"}, {"Id": "L2"}]


def test_deleted_records_are_outside_whatever_they_hold() -> None:
    pipeline = Pipeline(Draft(where="Converted = false").compile())

    admitted = pipeline.admit(leads(2, Converted=[False, False], _deleted=[True, False]), NOW)

    assert admitted.frame["Id"].to_list() == ["L1"]
    assert admitted.outside.select("_key", "_deleted").rows() == [({"Id": "L0"}, True)]


def test_a_record_that_cannot_be_read_is_due_and_invalid_although_its_condition_says_no() -> None:
    pipeline = Pipeline(Draft(where="Converted = false").compile())

    admitted = pipeline.admit(leads(1, _invalid=["Converted: no boolean"]), NOW)

    assert told(admitted.frame) == [("invalid", "Converted: no boolean")]


def test_a_condition_in_error_makes_its_record_invalid_and_no_other() -> None:
    pipeline = Pipeline(Draft(where="10 / Employees > 1").compile())

    admitted = pipeline.admit(leads(3, Employees=[0, 5, 100]), NOW)

    assert admitted.frame["Id"].to_list() == ["L0", "L1"]
    (state, reason), fine = told(admitted.frame)
    assert state == "invalid"
    assert reason is not None
    assert reason.startswith("where: ")
    assert fine == ("ready", None)


def test_without_a_condition_every_record_is_due() -> None:
    admitted = Pipeline(Draft().compile()).admit(leads(3), NOW)

    assert admitted.frame.height == 3
    assert admitted.outside.height == 0


def test_an_empty_page_stays_empty_through_every_stage() -> None:
    pipeline = Pipeline(Draft(where="Converted = false", expect=[Expectation("industry", required=True)]).compile())

    featured = pipeline.features(pipeline.admit(leads(0), NOW).frame, NOW)

    assert featured.height == 0
    assert pipeline.digest(featured).len() == 0


def test_features_come_in_the_types_of_the_model_beside_key_version_and_the_values_to_be_replaced() -> None:
    featured = features_of(Draft(), leads(2, Employees=[7, None], Industry=["Retail", None], Score=[3, None]))

    assert featured.columns == ["_key", "_version", "_before", "_state", "_reason", "company_size", "industry"]
    assert featured.schema["company_size"] == pl.Float64
    assert featured["company_size"].to_list() == [7.0, 0.0]
    assert featured["_before"].to_list() == [{"Score": 3}, {"Score": None}]
    assert featured["_key"].to_list() == [{"Id": "L0"}, {"Id": "L1"}]


def test_a_feature_in_error_makes_its_record_invalid_and_names_the_feature() -> None:
    draft = Draft(features={"company_size": "100 / Employees", "industry": "Industry"})

    (bad, good) = told(features_of(draft, leads(2, Employees=[0, 4])))

    assert bad[0] == "invalid"
    assert bad[1] is not None
    assert bad[1].startswith("company_size: ")
    assert good == ("ready", None)


@pytest.mark.parametrize(
    ("rule", "values", "expected"),
    [
        (Expectation("company_size", minimum=0), [-1, 0], ("invalid", "company_size: less than 0")),
        (
            Expectation("company_size", maximum=1_000_000),
            [1_000_001, 5],
            ("invalid", "company_size: more than 1000000"),
        ),
        (Expectation("company_size", maximum=9, otherwise="hold"), [10, 9], ("held", "company_size: more than 9")),
        (Expectation("company_size", among=(1, 2)), [3, 2], ("invalid", "company_size: not among the expected values")),
    ],
)
def test_an_expectation_that_is_not_met_takes_the_record_out(
    rule: Expectation, values: list[int], expected: tuple[str, str]
) -> None:
    broken, fine = told(features_of(Draft(expect=[rule]), leads(2, Employees=values)))

    assert broken == expected
    assert fine == ("ready", None)


def test_a_missing_value_meets_every_expectation_but_required() -> None:
    among = Expectation("industry", among=("Retail", "Banking"), otherwise="hold")
    required = Expectation("industry", required=True)
    frame = leads(3, Industry=["Retail", None, "Mining"])

    assert told(features_of(Draft(expect=[among]), frame))[1] == ("ready", None)
    assert told(features_of(Draft(expect=[among, required]), frame)) == [
        ("ready", None),
        ("invalid", "industry: missing"),
        ("held", "industry: not among the expected values"),
    ]


def test_the_first_reason_wins_and_a_record_once_out_stays_out_as_it_was() -> None:
    draft = Draft(
        expect=[Expectation("company_size", minimum=5, otherwise="hold"), Expectation("industry", required=True)]
    )

    rows = told(features_of(draft, leads(2, Employees=[1, 1], _invalid=[None, "unreadable"])))

    assert rows == [("held", "company_size: less than 5"), ("invalid", "unreadable")]


def test_what_the_model_cannot_score_is_invalid_before_it_is_asked() -> None:
    inputs = (
        InputField("company_size", FieldType.REAL, nullable=False),
        InputField("industry", FieldType.TEXT, nullable=True, categories=("Retail",), closed=True),
    )
    draft = Draft(features={"company_size": "Employees", "industry": "Industry"}, inputs=inputs)

    rows = told(features_of(draft, leads(3, Employees=[None, 1, 1], Industry=["Retail", "Mining", None])))

    assert rows == [
        ("invalid", "company_size: missing, and the model needs it"),
        ("invalid", "industry: not a value the model knows"),
        ("ready", None),
    ]


@pytest.mark.parametrize("poison", ["Ünïque-83-secret", "0x7f-token"])
def test_no_reason_holds_a_value(poison: str) -> None:
    draft = Draft(expect=[Expectation("industry", among=("Retail",))])

    ((_, reason),) = told(features_of(draft, leads(1, Industry=[poison])))

    assert reason is not None
    assert poison not in reason


def other(**key: str) -> Draft:
    return Draft(target=SCORES, key=key, set={"Score": "score"})


def test_the_key_of_another_record_is_computed_in_its_own_order_and_types() -> None:
    featured = features_of(other(Kind="Employees * 1.0", Lead="Id"), leads(1, Employees=[4]))

    assert featured["_target"].to_list() == [{"Lead": "L0", "Kind": 4}]
    assert featured.schema["_target"] == SCORES.key_dtype()
    assert featured["_before"].to_list() == [None]


@pytest.mark.parametrize(("employees", "why"), [(None, "missing"), (3, "not a whole number")])
def test_a_record_without_a_whole_target_key_is_invalid(employees: int | None, why: str) -> None:
    featured = features_of(other(Lead="Id", Kind="Employees / 2"), leads(1, Employees=[employees]))

    ((state, reason),) = told(featured)
    assert state == "invalid"
    assert reason is not None
    assert reason.startswith("key of the target, Kind: ")
    assert why in reason


def test_a_digest_moves_with_a_feature_and_with_nothing_else_of_the_record() -> None:
    pipeline = Pipeline(Draft().compile())

    def digests(**columns: list[Any]) -> list[bytes]:
        return pipeline.digest(pipeline.features(pipeline.admit(leads(2, **columns), NOW).frame, NOW)).to_list()

    before = digests(Employees=[1, 2], Score=[1, 1])
    assert digests(Employees=[1, 2], Score=[99, None], Email=["a", "b"]) == before
    moved = digests(Employees=[1, 3], Score=[1, 1])
    assert [one == other for one, other in zip(before, moved, strict=True)] == [True, False]


def test_a_record_whose_target_moves_is_due_again() -> None:
    pipeline = Pipeline(other(Lead="Email", Kind="1").compile())

    digests = [
        pipeline.digest(pipeline.features(pipeline.admit(leads(1, Email=[each]), NOW).frame, NOW)).item()
        for each in ("a", "b", "a")
    ]

    assert digests[0] == digests[2] != digests[1]


def test_the_fields_of_a_page_that_no_rule_names_do_not_travel_on() -> None:
    featured = features_of(Draft(), page([{"Id": "L0", "Created": datetime(2026, 1, 1), "Email": "a@b.c"}]))

    assert not {"Email", "Created"} & set(featured.columns)


def test_an_incremental_selection_asks_by_the_stamp_and_a_full_one_does_not() -> None:
    pipeline = Pipeline(Draft(changed_by="Created").compile())

    assert pipeline.selection(NOW, incremental=True, page_rows=50).changed_by == "Created"
    full = pipeline.selection(NOW, incremental=False, page_rows=50)
    assert (full.changed_by, full.page_rows, full.entity) == (None, 50, "Lead")


INPUT = (
    InputField("company_size", FieldType.REAL, nullable=False),
    InputField("industry", FieldType.TEXT, nullable=True, categories=("Retail", "Banking"), closed=True),
)
RULES = [
    Expectation("company_size", minimum=0, maximum=100, otherwise="hold"),
    Expectation("company_size", among=(1, 5, 50, -3, 500)),
    Expectation("industry", required=True, otherwise="hold"),
]


@given(
    st.lists(
        st.tuples(st.sampled_from([None, 1, 5, 50, 7, -3, 500]), st.sampled_from([None, "Retail", "Mining", ""])),
        min_size=FEW + 1,
        max_size=2 * FEW,
    )
)
def test_a_few_records_are_judged_as_many_are(rows: list[tuple[int | None, str | None]]) -> None:
    draft = Draft(features={"company_size": "Employees", "industry": "Industry"}, inputs=INPUT, expect=RULES)
    pipeline = Pipeline(draft.compile())
    frame = leads(len(rows), Employees=[each for each, _ in rows], Industry=[each for _, each in rows])
    many = pipeline.features(pipeline.admit(frame, NOW).frame, NOW)

    few = pl.concat(pipeline.features(pipeline.admit(frame[at], NOW).frame, NOW) for at in range(frame.height))

    assert_frame_equal(few, many)
    assert pipeline.digest(many).to_list() == [pipeline.digest(many[at]).item() for at in range(many.height)]
