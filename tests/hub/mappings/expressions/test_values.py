"""Decimals, casts, rounding and the traps of polars, against Python's own exact arithmetic."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, time
from decimal import ROUND_DOWN, ROUND_HALF_UP, Decimal, localcontext
from hashlib import sha256
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.mappings.expressions import ExpressionError, ValueType, compile_expression, evaluate
from hub.mappings.expressions.evaluation import UNFORESEEN
from hub.mappings.expressions.functions.registry import operation
from hub.mappings.expressions.types import Node
from hub.sdk import FieldType

NOW = datetime(2024, 6, 1, 12, tzinfo=UTC)
INTEGER, REAL, TEXT = (ValueType(each) for each in (FieldType.INTEGER, FieldType.REAL, FieldType.TEXT))


def run(text: str, columns: dict[str, tuple[ValueType, Sequence[Any]]], **options: Any) -> tuple[list[Any], list[Any]]:
    names = {name: kind for name, (kind, _) in columns.items()}
    frame = pl.DataFrame({"_row": [0]} if not columns else {}).with_columns()
    if columns:
        frame = pl.DataFrame([pl.Series(name, values, kind.dtype) for name, (kind, values) in columns.items()])
    expression = compile_expression(text, names, **options)
    done = evaluate(frame, {"e": expression}, now=NOW)
    assert done.values.schema == {"e": expression.type.dtype}
    return done.values["e"].to_list(), done.errors.to_list()


decimals = st.tuples(st.integers(1, 38), st.integers(0, 38)).filter(lambda size: size[1] <= size[0])


def numbers(size: tuple[int, int]) -> st.SearchStrategy[Decimal]:
    top = 10 ** size[0] - 1
    return st.integers(-top, top).map(lambda ticks: Decimal(ticks).scaleb(-size[1], EXACT))


with localcontext() as EXACT:
    EXACT.prec = 200
with localcontext() as WIDE:
    WIDE.prec = 800


@settings(max_examples=400, deadline=None)
@given(st.data(), decimals, decimals, st.sampled_from(["+", "-", "*"]))
def test_decimal_arithmetic_is_exact_or_an_error(
    data: st.DataObject, a: tuple[int, int], b: tuple[int, int], op: str
) -> None:
    x, y = data.draw(numbers(a)), data.draw(numbers(b))
    columns = {"x": (ValueType.decimal(*a), [x, None]), "y": (ValueType.decimal(*b), [y, y])}
    try:
        values, errors = run(f"x {op} y", columns)
    except ExpressionError:
        assert op == "*"
        assert a[1] + b[1] > 38
        return
    assert values[1] is None
    assert errors[1] in (None, errors[0])
    exact = {"+": EXACT.add, "-": EXACT.subtract, "*": EXACT.multiply}[op](x, y)
    if errors[0] is None:
        assert values[0] == exact
    else:
        assert errors[0] == "e: a result is out of range"
        assert values[0] is None
        assert sum(size[0] for size in (a, b)) > 30, "small decimals always fit"


@settings(max_examples=300, deadline=None)
@given(st.data(), decimals, decimals, st.sampled_from(["=", "<", ">="]))
def test_decimals_of_any_scale_compare_exactly(
    data: st.DataObject, a: tuple[int, int], b: tuple[int, int], op: str
) -> None:
    x, y = data.draw(numbers(a)), data.draw(numbers(b))
    values, errors = run(f"x {op} y", {"x": (ValueType.decimal(*a), [x]), "y": (ValueType.decimal(*b), [y])})
    if errors[0] is None:
        assert values[0] is {"=": x == y, "<": x < y, ">=": x >= y}[op]
    else:
        assert max(a[0] - a[1], b[0] - b[1]) + max(a[1], b[1]) > 38


@settings(max_examples=400, deadline=None)
@given(st.data(), decimals, st.integers(-6, 12), st.sampled_from(["round", "trunc"]))
def test_decimals_round_half_away_from_zero(data: st.DataObject, size: tuple[int, int], digits: int, name: str) -> None:
    x = data.draw(numbers(size))
    values, errors = run(f"{name}(x, {digits})", {"x": (ValueType.decimal(*size), [x])})
    how = ROUND_HALF_UP if name == "round" else ROUND_DOWN
    wanted = x if digits >= size[1] else x.quantize(Decimal(1).scaleb(-digits), how, EXACT)
    if errors[0] is None:
        assert values[0] == wanted
    else:
        assert size[0] == 38


@settings(max_examples=300, deadline=None)
@given(st.integers(-(2**63), 2**63 - 1), st.integers(-18, 0))
def test_integers_round_at_tens_and_hundreds_or_are_out_of_range(x: int, digits: int) -> None:
    values, errors = run(f"round(x, {digits})", {"x": (INTEGER, [x])})
    wanted = int(Decimal(x).quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP, EXACT))
    assert (values[0], errors[0]) == (
        (wanted, None) if -(2**63) <= wanted < 2**63 else (None, "e: a result is out of range")
    )


@settings(max_examples=300, deadline=None)
@given(st.data(), decimals, st.sampled_from(["floor", "ceil"]))
def test_floor_and_ceil_of_decimals_are_exact(data: st.DataObject, size: tuple[int, int], name: str) -> None:
    x = data.draw(numbers(size))
    values, errors = run(f"{name}(x)", {"x": (ValueType.decimal(*size), [x])})
    if errors[0] is None:
        assert values[0] == (math.floor(x) if name == "floor" else math.ceil(x))
    else:
        assert size == (38, 0) or size[0] == 38


@settings(max_examples=300, deadline=None)
@given(st.floats(allow_nan=False, allow_infinity=False), decimals)
def test_a_real_becomes_the_decimal_of_its_shortest_text(x: float, size: tuple[int, int]) -> None:
    precision, scale = size
    values, errors = run(f"cast(x as decimal({precision}, {scale}))", {"x": (REAL, [x, None])})
    exact = EXACT.create_decimal(repr(x)).quantize(Decimal(1).scaleb(-scale), ROUND_HALF_UP, WIDE)
    if errors[0] is None:
        assert abs(values[0] - exact) <= (Decimal(1).scaleb(-scale) if precision == 38 else 0)
    else:
        assert abs(exact) >= Decimal(10) ** (precision - scale) * (Decimal("0.9999") if precision == 38 else 1)


@settings(max_examples=300, deadline=None)
@given(st.from_regex(r"[+-]?[0-9]{0,12}(\.[0-9]{0,8})?", fullmatch=True), st.integers(0, 6))
def test_text_is_read_as_a_decimal_exactly_and_rounded_half_away(text: str, scale: int) -> None:
    values, errors = run(f"cast(t as decimal(20, {scale}))", {"t": (TEXT, [text])})
    bare = text.lstrip("+-")
    if not any(each.isdigit() for each in bare):
        assert errors[0] == "e: a text cannot be read as a number"
    else:
        assert values[0] == Decimal(text).quantize(Decimal(1).scaleb(-scale), ROUND_HALF_UP, EXACT)


@pytest.mark.parametrize(
    ("text", "column", "wanted"),
    [
        ("cast(t as integer)", ["12", " -7 ", "+3", "1.5", "", "1e3", "٣", "9223372036854775808", None],
         [12, -7, 3, "number", "number", "number", "number", "range", None]),
        ("try_cast(t as integer)", ["12", "x", None], [12, None, None]),
        ("cast(t as real)", ["1.5", "1e3", ".5", "nan", "inf", "1e999", "1_0"],
         [1.5, 1000.0, 0.5, "number", "number", "range", "number"]),
        ("cast(t as boolean)", ["Yes", "0", "maybe"], [True, False, "true or false"]),
        ("cast(t as date)", ["2024-02-29", "2023-02-29", "2024-2-1", "0000-01-01", "10000-01-01"],
         [date(2024, 2, 29), "date", "date", "date", "date"]),
        ("cast(t as timestamp)",
         ["2024-02-29 10:20", "2024-02-29T10:20:30.5", "2024-02-29", "2024-02-29 24:00:00", "2024-02-29T10:20:30Z",
          "2024-02-29 10:20:30.1234560", "2024-02-29 10:20:30.1234567"],
         [datetime(2024, 2, 29, 10, 20), datetime(2024, 2, 29, 10, 20, 30, 500000), datetime(2024, 2, 29), "date",
          "date", datetime(2024, 2, 29, 10, 20, 30, 123456), "date"]),
        ("cast(t as timestamptz)", ["2024-02-29T10:20:30Z", "2024-02-29 10:20:30+05:30", "2024-02-29 10:20:30-0800"],
         [datetime(2024, 2, 29, 10, 20, 30, tzinfo=UTC), datetime(2024, 2, 29, 4, 50, 30, tzinfo=UTC),
          datetime(2024, 2, 29, 18, 20, 30, tzinfo=UTC)]),
        ("cast(t as time)", ["10:20", "23:59:59.5", "24:00", "2024-01-01 10:20", "10:20Z"],
         [time(10, 20), time(23, 59, 59, 500000), "time", "time", "time"]),
        ("cast(t as varchar(3))", ["abc", "abcd"], ["abc", "longer"]),
        ("try_cast(t as varchar(3))", ["abc", "abcd"], ["abc", None]),
        ("to_date(t, 'DD.MM.YYYY')", ["31.12.2024", "31.2.2024", "31.02.2024", "31.12.2024x"],
         [date(2024, 12, 31), "date", "date", "date"]),
        ("cast(t as uuid)", ["0E984725-C51C-4BF4-9960-E1C80E27ABA0", "x"],
         ["0e984725-c51c-4bf4-9960-e1c80e27aba0", "UUID"]),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)  # fmt: skip
def test_text_is_read_strictly(text: str, column: list[str | None], wanted: list[Any]) -> None:
    values, errors = run(text, {"t": (TEXT, column)})
    for given_text, value, error, expected in zip(column, values, errors, wanted, strict=True):
        if error is None:
            assert value == expected, given_text
            assert type(value) is type(expected), given_text
        else:
            assert isinstance(expected, str), (given_text, error)
            assert expected in error, given_text
            assert value is None
            assert not given_text or given_text not in error.removeprefix("e: a text"), "an error never holds a value"


@pytest.mark.parametrize(
    ("text", "x", "wanted"),
    [
        ("x >= 0.8", math.nan, "not a finite number"),
        ("x = x", math.nan, "not a finite number"),
        ("x > 0", math.inf, "not a finite number"),
        ("coalesce(x, 0)", math.nan, "not a finite number"),
        ("case when true then 1 else x end", math.nan, 1.0),
        ("1 / x", 0.0, "division by zero"),
        ("log(10, x)", -1.0, "logarithm"),
        ("ln(x)", 0.0, "logarithm"),
        ("sqrt(x)", -1.0, "square root"),
        ("power(x, 0.5)", -1.0, "out of range"),
        ("power(x, -1)", 0.0, "out of range"),
        ("exp(x)", 1e5, "out of range"),
        ("x * 1e300", 1e300, "out of range"),
        ("round(x)", 2.5, 3.0),
        ("round(x)", -2.5, -3.0),
        ("round(x)", 0.49999999999999994, 0.0),
        ("round(x, 2)", 1e300, 1e300),
        ("round(x, -2)", 150.0, 200.0),
        ("cast(x as integer)", 2.5, 3),
        ("cast(x as integer)", 9.3e18, "out of range"),
        ("cast(x as decimal(5, 2))", 0.125, Decimal("0.13")),
        ("cast(x as decimal(5, 2))", 1000.0, "out of range"),
        ("case when x = 0 then 0 else 10 / x end", 0.0, 0.0),
        ("x = 0 or 10 / x > 1", 0.0, True),
        ("x <> 0 and 10 / x > 1", 0.0, False),
        ("10 / x > 1 and x <> 0", 0.0, "division by zero"),
        ("nullif(x, 0) is null", 0.0, True),
        ("cast(1 / x as text)", 0.0, "division by zero"),
        ("try_cast(cast(1 / x as text) as integer)", 0.0, "division by zero"),
        ("x % 3", -7.5, -1.5),
    ],
)
def test_the_traps_of_floating_point_are_closed(text: str, x: float, wanted: Any) -> None:
    values, errors = run(text, {"x": (REAL, [x, 1.0, None])})
    if isinstance(wanted, str):
        assert wanted in str(errors[0])
        assert values[0] is None
    else:
        assert errors[0] is None
        assert values[0] == wanted
        assert type(values[0]) is type(wanted)


def test_a_record_in_error_leaves_the_others_alone() -> None:
    values, errors = run("cast(t as integer) * 9223372036854775807", {"t": (TEXT, ["1", "x", "2", None, "0"])})
    assert values == [2**63 - 1, None, None, None, 0]
    assert errors == [None, "e: a text cannot be read as a number", "e: a result is out of range", None, None]


def test_the_first_expression_in_error_is_named_and_the_rest_keep_their_values() -> None:
    frame = pl.DataFrame({"n": [0, 1]})
    texts = {"fine": "n + 1", "first": "10 / n", "second": "ln(n)"}
    done = evaluate(frame, {name: compile_expression(each, {"n": INTEGER}) for name, each in texts.items()}, now=NOW)
    assert done.errors.to_list() == ["first: division by zero", None]
    assert done.values.to_dicts() == [
        {"fine": 1, "first": None, "second": None},
        {"fine": 2, "first": 10.0, "second": 0.0},
    ]


@operation("raises_for_the_whole_frame")
def _raises(_node: Node, x: pl.Expr) -> pl.Expr:
    return x.cast(pl.Int64)


def test_a_failure_nobody_foresaw_is_found_by_halving_and_the_rest_stands() -> None:
    column = compile_expression("t", {"t": TEXT})
    bad = replace(column, type=INTEGER, tree=Node("raises_for_the_whole_frame", INTEGER, (column.tree,)))
    values = ["1", "2", None, "poison", "5", "6", "7"]
    frame = pl.DataFrame({"t": values})
    done = evaluate(frame, {"copy": column, "bad": bad}, now=NOW)
    assert done.errors.to_list() == [None, None, None, f"bad: {UNFORESEEN}", None, None, None]
    assert done.values["bad"].to_list() == [1, 2, None, None, 5, 6, 7]
    assert done.values["copy"].to_list() == values


def test_a_frame_without_the_columns_is_the_fault_of_the_caller() -> None:
    expression = compile_expression("t", {"t": TEXT})
    with pytest.raises(pl.exceptions.ColumnNotFoundError):
        evaluate(pl.DataFrame({"u": ["x"]}), {"e": expression}, now=NOW)
    with pytest.raises(ValueError, match="aware"):
        evaluate(pl.DataFrame({"t": ["x"]}), {"e": expression}, now=NOW.replace(tzinfo=None))


def test_an_empty_frame_and_a_frame_of_literals_keep_their_height() -> None:
    for height in (0, 1, 3, 500):
        frame = pl.DataFrame({"n": pl.Series([0] * height, dtype=pl.Int64)})
        texts = {"a": "1 / 0", "b": "'x'", "c": "now()", "d": "n", "g": "null"}
        done = evaluate(
            frame, {name: compile_expression(each, {"n": INTEGER}) for name, each in texts.items()}, now=NOW
        )
        assert done.values.height == done.errors.len() == height
        assert done.errors.null_count() == 0


@pytest.mark.parametrize(
    ("text", "expect", "wanted"),
    [
        ("round(100 * x)", FieldType.INTEGER, 250),
        ("case when x > 1 then floor(x) else 0 end", FieldType.INTEGER, 2),
        ("n", FieldType.REAL, 7.0),
        ("n", FieldType.DECIMAL, Decimal(7)),
        ("round(x, 1)", FieldType.DECIMAL, Decimal("2.5")),
        ("null", FieldType.TEXT, None),
    ],
)
def test_a_value_becomes_the_type_that_is_expected_where_nothing_is_lost(
    text: str, expect: FieldType, wanted: Any
) -> None:
    kind = ValueType.decimal(10, 2) if expect is FieldType.DECIMAL else ValueType(expect)
    values, errors = run(text, {"x": (REAL, [2.5]), "n": (INTEGER, [7])}, expect=kind)
    assert (values, errors) == ([wanted], [None])
    assert type(values[0]) is type(wanted)


@pytest.mark.parametrize(
    ("text", "expect", "told"),
    [
        ("x", FieldType.INTEGER, "round(…)"),
        ("x", FieldType.DECIMAL, "round(…, 2)"),
        ("n", FieldType.TEXT, "cast(… as text)"),
        ("n", FieldType.BOOLEAN, "compare"),
    ],
)
def test_a_value_that_would_lose_something_is_refused_with_the_way_out(text: str, expect: FieldType, told: str) -> None:
    kind = ValueType.decimal(10, 2) if expect is FieldType.DECIMAL else ValueType(expect)
    with pytest.raises(ExpressionError) as caught:
        compile_expression(text, {"x": REAL, "n": INTEGER}, expect=kind)
    assert told in caught.value.message


def test_an_expression_tells_what_it_reads() -> None:
    names = {"orders.spent": ValueType.decimal(12, 2), "My Field": REAL, "Größe": REAL, "n": INTEGER}
    expression = compile_expression('coalesce(orders.spent, 0) + "My Field" * Größe', names)
    assert expression.columns == {"orders.spent", "My Field", "Größe"}
    assert expression.functions == {"coalesce"}
    assert expression.type == REAL
    assert not expression.uses_now
    assert compile_expression("year(current_date)", names).uses_now


def test_reasons_are_read_from_their_column_and_counted() -> None:
    expression = compile_expression("'Why: ' || reasons(2)", {}, allow_reasons=True)
    assert expression.reasons == 2
    frame = pl.DataFrame({"_reasons": [["a", "b", "c"], ["x"], None]}, schema={"_reasons": pl.List(pl.String)})
    done = evaluate(frame, {"why": expression}, now=NOW)
    assert done.values["why"].to_list() == ["Why: a; b", "Why: x", None]


def test_buckets_and_hashes_never_change() -> None:
    values, _ = run("bucket(n, 100)", {"n": (INTEGER, [1, 42, -7, None])})
    texts = [int.from_bytes(sha256(each).digest()[:8], "big") % 100 for each in (b"1", b"42", b"-7")]
    assert values == [*texts, None]
    assert run("sha2(n)", {"n": (INTEGER, [1])})[0] == [sha256(b"1").hexdigest()]
    assert run("bucket(t, 2)", {"t": (TEXT, ["é"])})[0] == [
        int.from_bytes(sha256("é".encode()).digest()[:8], "big") % 2
    ]
