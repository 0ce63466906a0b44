"""The bytes of a row: fixed for ever by vectors, and different for every two rows that differ."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.mappings.pipeline.canonical import FEW, canonical_rows, kind

VECTORS = Path(__file__).with_name("canonical_vectors.json")

FRAME = pl.DataFrame(
    {
        "key": [{"id": 1, "site": "B"}, {"id": None, "site": ""}, None, {"id": -1, "site": "é"}],
        "text": ["x", None, "", "日本"],
        "real": [1.0, float("nan"), None, float("-inf")],
        "whole": pl.Series([0, None, -1, 2**63 - 1], dtype=pl.Int64),
        "large": pl.Series([0, None, 2**64 - 1, 5], dtype=pl.UInt64),
        "exact": pl.Series([Decimal("1.50"), None, Decimal("-0.01"), Decimal("99999999.99")], dtype=pl.Decimal(10, 2)),
        "yes": [True, False, None, True],
        "day": [date(2026, 11, 20), None, date(1, 1, 1), date(9999, 12, 31)],
        "clock": [time(0), None, time(23, 59, 59, 999999), time(12)],
        "wall": [datetime(2026, 11, 20), None, datetime(1900, 1, 1), datetime(2999, 1, 1)],
        "moment": pl.Series([datetime(2026, 11, 20, tzinfo=UTC)] * 4, dtype=pl.Datetime("us", "UTC")),
        "bytes": [b"\x00", None, b"", b"\xff" * 3],
        "listed": [["a"], [], None, [None, ""]],
        "reasons": pl.Series(
            [[{"feature": "a", "effect": 0.5}], None, [{"feature": None, "effect": None}], []],
            dtype=pl.List(pl.Struct({"feature": pl.String, "effect": pl.Float64})),
        ),
        "nothing": [None] * 4,
    }
)


def test_bytes_are_those_of_the_committed_vectors() -> None:
    vectors = json.loads(VECTORS.read_text(encoding="utf-8"))
    assert {name: kind(dtype) for name, dtype in FRAME.schema.items()} == vectors["columns"]
    assert [each.hex() for each in canonical_rows(FRAME, FRAME.columns)] == vectors["rows"]


def test_a_row_alone_has_the_bytes_it_has_among_others() -> None:
    alone = [canonical_rows(FRAME[at : at + 1], FRAME.columns)[0] for at in range(FRAME.height)]
    assert canonical_rows(FRAME, FRAME.columns) == alone
    assert canonical_rows(pl.concat([FRAME] * FEW), FRAME.columns) == alone * FEW


SOME = {
    pl.String(): st.text(max_size=4),
    pl.Int32(): st.integers(-(2**31), 2**31 - 1),
    pl.UInt64(): st.integers(0, 2**64 - 1),
    pl.Float64(): st.floats(),
    pl.Float32(): st.floats(width=32),
    pl.Boolean(): st.booleans(),
    pl.Binary(): st.binary(max_size=3),
    pl.Decimal(12, 3): st.decimals(Decimal(-(10**8)), Decimal(10**8), places=3),
    pl.Date(): st.dates(),
    pl.Time(): st.times(),
    pl.Datetime("us", "UTC"): st.datetimes(timezones=st.just(UTC)),
    pl.Datetime("ms"): st.datetimes(),
    pl.List(pl.Float64()): st.lists(st.none() | st.floats(), max_size=3),
    pl.List(pl.Int64()): st.lists(st.none() | st.integers(-5, 5), max_size=3),
    pl.List(pl.Date()): st.lists(st.none() | st.dates(), max_size=2),
    pl.Struct({"a": pl.Date(), "b": pl.String()}): st.fixed_dictionaries(
        {"a": st.none() | st.dates(), "b": st.none() | st.text(max_size=2)}
    ),
}


@given(st.data(), st.lists(st.sampled_from(list(SOME)), min_size=1, max_size=10), st.integers(1, 3))
def test_few_rows_have_the_bytes_they_have_among_many(data: st.DataObject, kinds: list[pl.DataType], rows: int) -> None:
    drawn = {
        str(at): pl.Series(data.draw(st.lists(st.none() | SOME[dtype], min_size=rows, max_size=rows)), dtype=dtype)
        for at, dtype in enumerate(kinds)
    }
    frame = pl.DataFrame(drawn)
    alone = canonical_rows(frame, frame.columns)
    assert canonical_rows(pl.concat([frame] * FEW), frame.columns) == alone * FEW


def test_rows_of_nothing_but_nulls_and_no_rows_have_bytes_too() -> None:
    nulls = pl.DataFrame({"a": [None] * 3, "b": pl.Series([None] * 3, dtype=pl.Int64)})
    assert canonical_rows(nulls, nulls.columns) == [bytes(9)] * 3
    assert canonical_rows(FRAME.clear(), FRAME.columns) == []


@pytest.mark.parametrize("name", [name for name in FRAME.columns if name not in {"nothing", "moment", "yes"}])
def test_each_value_of_a_column_has_its_own_bytes(name: str) -> None:
    assert len(set(canonical_rows(FRAME, [name]))) == FRAME.height


def test_the_sign_of_nan_does_not_matter_and_that_of_zero_does() -> None:
    rows = canonical_rows(pl.DataFrame({"real": [float("nan"), -float("nan"), 0.0, -0.0]}), ["real"])
    assert rows[0] == rows[1]
    assert rows[2] != rows[3]


VALUES = st.tuples(
    st.none() | st.text(max_size=6),
    st.none() | st.text(max_size=6),
    st.none() | st.lists(st.none() | st.text(alphabet="s:1;n", max_size=5), max_size=3),
    st.none() | st.floats(),
)


@given(VALUES, VALUES)
def test_two_rows_share_bytes_only_if_they_are_the_same(left: tuple[object, ...], right: tuple[object, ...]) -> None:
    schema = {"a": pl.String, "b": pl.String, "c": pl.List(pl.String), "d": pl.Float64}
    rows = canonical_rows(pl.DataFrame([left, right], schema=schema, orient="row"), list(schema))
    assert (rows[0] == rows[1]) == (repr(left) == repr(right))


def test_types_that_hold_other_values_have_other_names() -> None:
    names = [kind(dtype) for dtype in FRAME.schema.values()]
    assert len(set(names)) == len(names)
    assert kind(pl.Int16()) == kind(pl.Int64()) == "integer"
    assert kind(pl.Decimal(10, 2)) != kind(pl.Decimal(10, 3))
