"""Folding page by page gives what all the records at once would give, and what SQL says of nulls."""

from __future__ import annotations

import statistics
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.mappings.expressions import First, Fold, ValueType, compile_aggregate, compile_order
from hub.sdk import FieldType

NOW = datetime(2024, 6, 1, tzinfo=UTC)
NAMES = {
    "k": ValueType(FieldType.INTEGER),
    "s": ValueType(FieldType.TEXT),
    "net": ValueType.decimal(12, 2),
    "n": ValueType(FieldType.INTEGER),
    "x": ValueType(FieldType.REAL),
    "big": ValueType.decimal(38, 0),
}
SCHEMA = {name: kind.dtype for name, kind in NAMES.items()}
TEXTS = {
    "rows": "count(*)",
    "some": "count(net)",
    "kinds": "count(distinct s)",
    "open": "sum(case when s = 'Open' then net else 0 end)",
    "net": "sum(net)",
    "span": "max(n) - min(n)",
    "last": "max(s)",
    "mean": "avg(n)",
    "spread": "stddev(x)",
    "rate": "coalesce(sum(n), 0) / count(*)",
}

record = st.fixed_dictionaries(
    {
        "k": st.sampled_from([1, 2, 3, None]),
        "s": st.sampled_from(["Open", "Closed", "", None]),
        "net": st.none() | st.integers(-(10**9), 10**9).map(lambda ticks: Decimal(ticks).scaleb(-2)),
        "n": st.none() | st.integers(-1000, 1000),
        "x": st.none() | st.floats(-1e6, 1e6),
        "big": st.none(),
    }
)


def fold(texts: dict[str, str], pages: list[list[dict[str, Any]]], by: tuple[str, ...] = ("k",)) -> dict[Any, Any]:
    folded = Fold({name: compile_aggregate(text, NAMES) for name, text in texts.items()}, by, now=NOW)
    for page in pages:
        folded.add(pl.DataFrame(page, schema=SCHEMA))
    done = folded.result()
    rows = zip(done.keys.rows(), done.values.to_dicts(), done.errors, strict=True)
    return {key if len(key) != 1 else key[0]: {**values, "error": error} for key, values, error in rows}


@settings(max_examples=150, deadline=None)
@given(st.lists(st.lists(record, max_size=8), min_size=1, max_size=4))
def test_pages_fold_to_what_all_the_records_give(pages: list[list[dict[str, Any]]]) -> None:
    found = fold(TEXTS, pages)
    records = [each for page in pages for each in page if each["k"] is not None]
    assert set(found) == {each["k"] for each in records}
    for key, values in found.items():
        mine = [each for each in records if each["k"] == key]
        net, n, x, s = ([each[name] for each in mine if each[name] is not None] for name in ("net", "n", "x", "s"))
        assert values["error"] is None
        assert values["rows"] == len(mine)
        assert values["some"] == len(net)
        assert values["kinds"] == len(set(s))
        assert values["net"] == (sum(net) if net else None)
        opened = [(each["net"] if each["s"] == "Open" else Decimal(0)) for each in mine]
        known = [each for each in opened if each is not None]
        assert values["open"] == (sum(known) if known else None)
        assert values["span"] == (max(n) - min(n) if n else None)
        assert values["last"] == (max(s) if s else None)
        assert values["mean"] == (pytest.approx(sum(n) / len(n)) if n else None)
        assert values["rate"] == pytest.approx(sum(n) / len(mine))
        if len(x) > 1:
            assert values["spread"] == pytest.approx(statistics.stdev(x), rel=1e-6, abs=1e-6)
        else:
            assert values["spread"] is None


def row(**values: Any) -> dict[str, Any]:
    return {**dict.fromkeys(NAMES), "k": 1, **values}


def test_integer_sums_do_not_wrap() -> None:
    found = fold(
        {"total": "sum(n)"}, [[row(n=2**63 - 1), row(n=2**63 - 1)], [row(n=-(2**63 - 1)), row(k=2, n=2**63 - 1)]]
    )
    assert found[1]["total"] == 2**63 - 1
    assert fold({"total": "sum(n)"}, [[row(n=2**63 - 1)], [row(n=1)]])[1] == {
        "total": None,
        "error": "total: a result is out of range",
    }


def test_decimal_sums_do_not_wrap() -> None:
    most = Decimal("9" * 38)
    found = fold({"total": "sum(big)"}, [[row(big=most)], [row(big=most), row(k=2, big=Decimal("1" + "0" * 37))]])
    assert found[1] == {"total": None, "error": "total: a result is out of range"}
    assert found[2] == {"total": Decimal(10**37), "error": None}


def test_an_error_inside_is_that_of_its_key_and_of_its_aggregate_alone() -> None:
    texts = {"bad": "sum(10 / n)", "fine": "count(*)"}
    found = fold(texts, [[row(n=0), row(k=2, n=5)], [row(n=1)]])
    assert found[1] == {"bad": None, "fine": 2, "error": "bad: division by zero"}
    assert found[2] == {"bad": 2.0, "fine": 1, "error": None}
    assert fold({"bad": "sum(x)"}, [[row(x=float("nan"))]])[1]["error"] == "bad: field x is not a finite number"


def test_over_nothing_counts_are_zero_and_the_rest_is_null() -> None:
    folded = Fold(
        {name: compile_aggregate(text, NAMES) for name, text in TEXTS.items() if name != "rate"}, ["k"], now=NOW
    )
    nothing = folded.empty().to_dicts()[0]
    assert {name for name, value in nothing.items() if value == 0} == {"rows", "some", "kinds"}
    assert all(value is None for name, value in nothing.items() if name not in ("rows", "some", "kinds"))
    folded.add(pl.DataFrame(schema=SCHEMA))
    assert folded.result().values.height == 0


def test_an_aggregate_can_be_folded_by_hand_and_by_several_keys() -> None:
    aggregate = compile_aggregate("sum(n) + count(*)", NAMES)
    pages = [pl.DataFrame([row(n=each, s="a")], schema=SCHEMA) for each in (1, 2)]
    left, right = (aggregate.partial(each, ["k", "s"], now=NOW) for each in pages)
    done = aggregate.finish(aggregate.merge(left, right, ["k", "s"]), now=NOW)
    assert done.values["value"].to_list() == [5]
    assert aggregate.columns == {"n"}
    assert aggregate.functions == {"sum", "count"}


def test_equal_parts_of_a_lookup_are_folded_once() -> None:
    aggregates = [compile_aggregate(each, NAMES) for each in ("sum(net)", "sum(net) / count(net)", "avg(net)")]
    assert len({part.name for each in aggregates for part in each.parts}) == 2


def test_many_pages_are_held_as_one_row_per_key() -> None:
    folded = Fold({"n": compile_aggregate("count(*)", NAMES)}, ["k"], now=NOW)
    for at in range(40):
        folded.add(pl.DataFrame({"k": range(3000)}, schema={"k": pl.Int64}) if at % 2 else pl.DataFrame({"k": [at]}))
    held = folded._folded
    assert held is not None
    assert held.height == 3000
    assert folded.result().values["n"].sum() == 20 * 3001


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(record, max_size=8), min_size=1, max_size=4))
def test_the_first_in_an_order_is_kept_per_key(pages: list[list[dict[str, Any]]]) -> None:
    first = First(compile_order("n desc, s", NAMES), ["k"])
    for page in pages:
        first.add(pl.DataFrame(page, schema=SCHEMA))
    kept = {each["k"]: each for each in first.result().to_dicts()}
    records = [each for page in pages for each in page if each["k"] is not None]
    assert set(kept) == {each["k"] for each in records}
    for key, found in kept.items():
        mine = [each for each in records if each["k"] == key]
        wanted = min(mine, key=lambda each: (each["n"] is None, -(each["n"] or 0), each["s"] is None, each["s"] or ""))
        assert (found["n"], found["s"]) == (wanted["n"], wanted["s"])
        assert found["_rows"] == len(mine)


def test_an_order_reads_directions_and_where_nulls_go() -> None:
    keys = compile_order('n desc nulls first, "s" asc', NAMES)
    assert [(each.column, each.descending, each.nulls_last) for each in keys] == [
        ("n", True, False),
        ("s", False, True),
    ]
