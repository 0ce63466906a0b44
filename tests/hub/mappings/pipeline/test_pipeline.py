"""The whole of a mapping, from a page to its changes."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from decimal import Decimal

import polars as pl
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from hub.mappings.pipeline import Pipeline
from hub.mappings.types import Compiled, Fallback
from hub.sdk.types import Operator
from tests.hub.mappings.pipeline.builder import FACTS, NOW, Draft, leads, predicted, reader

DRAFT = Draft(
    where="Converted = false",
    decide={"score": "round(100 * probability)", "band": "case when probability > 0.5 then 'Hot' else 'Cold' end"},
    fallback=Fallback("confidence < 0.3", {"band": "'Review'"}, "low confidence"),
    hold="probability > 0.95",
    set={"Score": "score", "Band": "band"},
    with_={"ScoredAt": "scored_at"},
)


def carried(pipeline: Pipeline, page: pl.DataFrame, chances: list[float]) -> pl.DataFrame:
    """A page from start to end: what is written."""
    featured = pipeline.features(pipeline.enrich(pipeline.admit(page, NOW).frame, reader(), NOW), NOW)
    ready = featured.filter(pl.col("_state") == "ready")
    numbers = [chances[int(key["Id"][1:])] for key in ready["_key"]]
    decided = pipeline.decide(ready, predicted(*numbers), NOW)
    going = decided.filter(pipeline.worth_writing(decided, None) & (decided["_state"] == "ready"))
    return pipeline.changes(going, pipeline.passengers(going, None, NOW, FACTS)).frame


@given(
    st.lists(
        st.tuples(st.sampled_from([0.1, 0.4, 0.7, 0.99]), st.booleans(), st.sampled_from([None, 10, 40])),
        max_size=40,
    ),
    st.integers(1, 20),
)
def test_a_record_comes_out_the_same_alone_and_among_others(
    rows: list[tuple[float, bool, int | None]], size: int
) -> None:
    pipeline = Pipeline(DRAFT.compile())
    columns = list(zip(*rows, strict=True)) if rows else [(), (), ()]
    page = leads(len(rows), Converted=columns[1], Score=columns[2])
    chances = list(columns[0])

    whole = carried(pipeline, page, chances)
    parts = [carried(pipeline, page[at : at + size], chances) for at in range(0, page.height, size)]

    assert_frame_equal(whole, pl.concat([whole.clear(), *parts]))


def test_many_threads_share_one_pipeline() -> None:
    pipeline = Pipeline(DRAFT.compile())
    pages = [leads(20 + at, Employees=range(20 + at), Converted=[False] * (20 + at)) for at in range(24)]
    chances = [0.01 * at for at in range(60)]
    expected = [carried(pipeline, page, chances) for page in pages]

    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda page: carried(pipeline, page, chances), pages))

    for one, other in zip(expected, found, strict=True):
        assert_frame_equal(one, other)


def test_the_condition_is_pushed_down_to_a_source_that_can_answer_it() -> None:
    where = Pipeline(DRAFT.compile()).selection(NOW, incremental=False, page_rows=10).where

    assert where is not None
    assert "Converted" in str(where)
    assert Operator.EQ in str(where) or "=" in str(where)


def test_a_checked_document_runs_from_its_page_to_its_changes(compiled_of: Callable[..., Compiled], good: str) -> None:
    compiled = compiled_of(good)
    pipeline = Pipeline(compiled)
    lead = {
        "_key": {"Id": "00Q1"},
        "_version": "7",
        "_deleted": False,
        "IsConverted": False,
        "Email": "ann@Example.com",
        "AccountNo": "C1",
        "Industry": "Retail",
        "CreatedDate": NOW,
        "Score": 10,
    }
    schema = compiled.source.page_schema(compiled.fields)
    page = pl.DataFrame([{name: lead.get(name) for name in schema}], schema=schema)
    answers = {
        "account": {"Id": "A", "Domain": "example.com", "Seats": 40},
        "orders": {"OrderNo": 1, "CustomerNo": "C1", "Amount": Decimal("12.50"), "Ordered": date(2026, 5, 1)},
    }

    def read(lookup, match, now):  # type: ignore[no-untyped-def]
        far = lookup.entity.page_schema(lookup.fields)
        row = {**answers[lookup.lookup.name], "_deleted": False}
        yield pl.DataFrame([{name: row.get(name) for name in far}], schema=far)

    frame = pipeline.enrich(pipeline.admit(page, NOW).frame, read, NOW)
    featured = pipeline.features(frame, NOW)
    decided = pipeline.decide(featured, predicted(0.834).with_columns(label=pl.lit(1, pl.Int64)), NOW)
    reasons = pl.Series([[{"feature": "days_open", "effect": 1.0}]])
    changes = pipeline.changes(decided, pipeline.passengers(decided, reasons, NOW, FACTS))

    assert featured.select(pipeline.feature_names).rows() == [(40, "Retail", 0, 12.5)]
    (row,) = changes.frame.to_dicts()
    assert (row["Score"], row["Band"], row["ScoredAt"]) == (83, "Hot", NOW)
    assert row["Why"] == "Days since first contact (+)"
    assert row["_version"] == "7"
