"""Records of other entities: asked for once per key, compared exactly, folded the same whatever the pages."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from itertools import pairwise
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from hub.mappings.pipeline import Pipeline
from tests.hub.mappings.pipeline.builder import ACCOUNT, NOW, Draft, Look, leads, page, reader

ONE = Look({"Domain": "Email"}, take="one")
SUMS = {"n": "count(*)", "spent": "sum(Amount)", "last": "max(Day)"}


def accounts(*rows: dict[str, Any]) -> pl.DataFrame:
    return page([{"No": at, **row} for at, row in enumerate(rows)], ACCOUNT)


def enriched(look: Look, frame: pl.DataFrame, *pages: pl.DataFrame, **more: Any) -> pl.DataFrame:
    pipeline = Pipeline(Draft(lookups={"acc": look}).compile())
    return pipeline.enrich(pipeline.admit(frame, NOW).frame, reader(*pages, **more), NOW)


def told(frame: pl.DataFrame) -> list[tuple[str, str | None]]:
    return frame.select("_state", "_reason").rows()


def test_each_key_is_asked_for_once_and_a_missing_key_never() -> None:
    asked: list[pl.DataFrame] = []

    out = enriched(ONE, leads(4, Email=["b", "a", "b", None]), accounts({"Domain": "a"}, {"Domain": "b"}), asked=asked)

    (match,) = asked
    assert match.to_dict(as_series=False) == {"Domain": ["b", "a"]}
    assert out["acc.No"].to_list() == [1, 0, 1, None]
    assert out["Id"].to_list() == ["L0", "L1", "L2", "L3"]


def test_records_that_are_out_already_are_not_asked_for() -> None:
    asked: list[pl.DataFrame] = []

    enriched(ONE, leads(1, Email=["a"], _invalid=["unreadable"]), asked=asked)

    assert asked == []


def test_keys_are_compared_exactly_whatever_the_far_side_thinks_equal() -> None:
    out = enriched(ONE, leads(2, Email=["a", "A"]), accounts({"Domain": "A"}, {"Domain": "a "}))

    assert out["acc.No"].to_list() == [None, 0]


def test_the_condition_of_a_lookup_is_applied_again() -> None:
    look = Look({"Domain": "Email"}, where="Open", take="one")

    out = enriched(
        look,
        leads(1, Email=["a"]),
        accounts({"Domain": "a", "Open": False}, {"Domain": "a", "Open": None}, {"Domain": "a", "Open": True}),
    )

    assert out["acc.No"].to_list() == [2]
    assert told(out) == [("ready", None)]


def test_a_second_match_makes_the_record_invalid_even_pages_later() -> None:
    out = enriched(
        ONE,
        leads(2, Email=["a", "b"]),
        accounts({"Domain": "a"}),
        accounts({"Domain": "b"}),
        page([{"No": 9, "Domain": "a"}], ACCOUNT),
    )

    assert told(out) == [("invalid", "lookup acc: more than one match"), ("ready", None)]


@pytest.mark.parametrize(
    ("missing", "expected"),
    [
        ("null", ("ready", None)),
        ("hold", ("held", "lookup acc: no match")),
        ("invalid", ("invalid", "lookup acc: no match")),
    ],
)
def test_what_becomes_of_a_record_without_a_match(missing: Any, expected: tuple[str, str | None]) -> None:
    look = Look({"Domain": "Email"}, take="one", missing=missing)

    out = enriched(look, leads(3, Email=["a", "x", None]), accounts({"Domain": "a"}))

    assert told(out) == [("ready", None), expected, expected]


def test_first_takes_the_best_by_order_across_pages() -> None:
    look = Look({"Domain": "Email"}, take="first", order="Day desc, No")

    out = enriched(
        look,
        leads(2, Email=["a", "b"]),
        page([{"No": 1, "Domain": "a", "Day": date(2026, 1, 1)}, {"No": 2, "Domain": "b"}], ACCOUNT),
        page(
            [{"No": 4, "Domain": "a", "Day": date(2026, 2, 1)}, {"No": 3, "Domain": "a", "Day": date(2026, 2, 1)}],
            ACCOUNT,
        ),
    )

    assert out["acc.No"].to_list() == [3, 2]
    assert told(out) == [("ready", None)] * 2


def test_the_columns_of_a_fold_are_null_without_a_match_and_its_counts_are_zero() -> None:
    look = Look({"Domain": "Email"}, aggregate=SUMS)

    out = enriched(look, leads(2, Email=["a", "x"]), accounts({"Domain": "a", "Amount": Decimal("1.50")}))

    assert out.select("acc.n", "acc.spent", "acc.last").rows() == [(1, Decimal("1.50"), None), (0, None, None)]


def test_a_fold_without_any_page_still_has_its_columns() -> None:
    out = enriched(Look({"Domain": "Email"}, aggregate=SUMS), leads(1, Email=["a"]))

    assert out.select("acc.n", "acc.spent").rows() == [(0, None)]


ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "Domain": st.sampled_from(["a", "b", "c", None]),
            "Amount": st.none() | st.decimals(-1000, 1000, places=2),
            "Day": st.none() | st.dates(date(2025, 1, 1), date(2026, 1, 1)),
        }
    ),
    max_size=30,
)


@given(ROWS, st.lists(st.integers(0, 30), max_size=5))
def test_a_fold_is_the_same_however_the_rows_are_paged(rows: list[dict[str, Any]], cuts: list[int]) -> None:
    every = accounts(*rows)
    ends = sorted({min(cut, len(rows)) for cut in cuts} | {0, len(rows)})
    pages = [every[start:end] for start, end in pairwise(ends)]
    pipeline = Pipeline(Draft(lookups={"acc": Look({"Domain": "Email"}, aggregate=SUMS)}).compile())
    admitted = pipeline.admit(leads(3, Email=["a", "b", "z"]), NOW).frame

    got = pipeline.enrich(admitted, reader(*pages), NOW).select("Email", "acc.n", "acc.spent", "acc.last")

    for email, n, spent, last in got.rows():
        mine = [row for row in rows if row["Domain"] == email]
        amounts = [row["Amount"] for row in mine if row["Amount"] is not None]
        assert n == len(mine)
        assert spent == (sum(amounts, Decimal(0)) if amounts else None)
        assert last == max((row["Day"] for row in mine if row["Day"] is not None), default=None)


@given(ROWS, st.integers(1, 7))
def test_the_first_is_the_same_however_the_rows_are_paged(rows: list[dict[str, Any]], size: int) -> None:
    look = Look({"Domain": "Email"}, take="first", order="Amount desc nulls last, No")
    every = accounts(*rows)
    pipeline = Pipeline(Draft(lookups={"acc": look}).compile())
    admitted = pipeline.admit(leads(3, Email=["a", "b", "c"]), NOW).frame

    whole = pipeline.enrich(admitted, reader(every), NOW)
    paged = pipeline.enrich(admitted, reader(*(every[at : at + size] for at in range(0, every.height, size))), NOW)

    assert_frame_equal(whole, paged)


def test_a_later_lookup_may_match_by_a_column_of_an_earlier_one() -> None:
    draft = Draft(
        lookups={"acc": ONE, "parent": Look({"No": "acc.No + 10"}, take="one")},
        features={"company_size": "parent.Amount", "industry": "parent.Domain"},
    )
    pipeline = Pipeline(draft.compile())
    answers = iter([accounts({"Domain": "a"}), page([{"No": 10, "Domain": "z", "Amount": Decimal(7)}], ACCOUNT)])

    frame = pipeline.admit(leads(1, Email=["a"]), NOW).frame
    frame = pipeline.enrich(frame, lambda *_: iter([next(answers)]), NOW)

    featured = pipeline.features(frame, NOW)
    assert featured.select("company_size", "industry").rows() == [(7.0, "z")]


def test_a_far_record_that_cannot_be_read_makes_those_that_match_it_invalid() -> None:
    out = enriched(
        Look({"Domain": "Email"}, aggregate=SUMS),
        leads(2, Email=["a", "b"]),
        accounts({"Domain": "a", "_invalid": "Amount: no number"}, {"Domain": "b"}),
    )

    assert told(out) == [("invalid", "lookup acc: a record that matches cannot be read"), ("ready", None)]


def test_a_far_record_whose_own_key_cannot_be_read_may_belong_to_anyone_asked_for() -> None:
    out = enriched(ONE, leads(3, Email=["a", "b", None]), accounts({"_invalid": "Domain: no text"}, {"Domain": "b"}))

    assert [state for state, _ in told(out)] == ["invalid", "invalid", "ready"]


def test_a_condition_in_error_counts_like_a_record_that_cannot_be_read() -> None:
    look = Look({"Domain": "Email"}, where="10 / No > 1", take="one")

    out = enriched(look, leads(2, Email=["a", "b"]), accounts({"Domain": "a"}, {"Domain": "b"}))

    assert told(out) == [("invalid", "lookup acc: a record that matches cannot be read"), ("ready", None)]


def test_a_number_matches_a_number_of_another_type_only_where_they_are_equal() -> None:
    look = Look({"No": "Revenue"}, take="one")

    out = enriched(look, leads(2, Revenue=[Decimal("1.00"), Decimal("1.50")]), accounts({}, {"Domain": "b"}))

    assert out["acc.Domain"].to_list() == ["b", None]


def test_two_fields_match_together() -> None:
    look = Look({"Domain": "Email", "No": "Employees"}, take="one")
    asked: list[pl.DataFrame] = []

    out = enriched(
        look,
        leads(3, Email=["a", "a", "b"], Employees=[0, 1, None]),
        accounts({"Domain": "a", "Amount": Decimal(3)}, {"Domain": "b"}),
        asked=asked,
    )

    assert asked[0].rows() == [("a", 0), ("a", 1)]
    assert out["acc.Amount"].to_list() == [Decimal(3), None, None]


def test_deleted_far_records_are_no_match() -> None:
    out = enriched(ONE, leads(1, Email=["a"]), accounts({"Domain": "a", "_deleted": True}))

    assert out["acc.No"].to_list() == [None]


def test_an_error_in_the_match_makes_its_record_invalid() -> None:
    look = Look({"No": "1 / Employees"}, take="one")

    out = enriched(look, leads(2, Employees=[0, 1]), accounts({}, {"Domain": "one"}))

    assert told(out)[0][0] == "invalid"
    assert out["acc.Domain"].to_list() == [None, "one"]
