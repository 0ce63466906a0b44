"""What is asked of a far side holds at least every record the condition is true for."""

from __future__ import annotations

import operator
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.mappings.expressions import ValueType, compile_expression, evaluate, to_filter
from hub.sdk import AllOf, AnyOf, Compare, Field, FieldType, Filter, Operator

NOW = datetime(2024, 10, 27, 1, 15, tzinfo=UTC)
FIELDS = {
    each.name: each
    for each in (
        Field("n", FieldType.INTEGER),
        Field("m", FieldType.INTEGER, operators=frozenset({Operator.EQ})),
        Field("x", FieldType.REAL),
        Field("p", FieldType.DECIMAL, precision=10, scale=2),
        Field("t", FieldType.TEXT),
        Field("flag", FieldType.BOOLEAN),
        Field("d", FieldType.DATE),
        Field("w", FieldType.TIMESTAMP),
        Field("a", FieldType.INSTANT),
        Field("hidden", FieldType.INTEGER, operators=frozenset()),
    )
}
NAMES = {name: ValueType.of(each) for name, each in FIELDS.items()}

_ASK: dict[Operator, Callable[[Any, Any], bool]] = {
    Operator.EQ: operator.eq,
    Operator.NE: operator.ne,
    Operator.LT: operator.lt,
    Operator.LE: operator.le,
    Operator.GT: operator.gt,
    Operator.GE: operator.ge,
    Operator.IN: lambda value, listed: value in listed,
    Operator.NOT_IN: lambda value, listed: value not in listed,
}


def holds(tree: Filter | None, row: dict[str, Any]) -> bool | None:
    """A far side: SQL's three-valued logic over one record, with values bound."""
    if tree is None:
        return True
    if isinstance(tree, Compare):
        value = row[tree.field]
        if tree.operator in (Operator.IS_NULL, Operator.NOT_NULL):
            return (value is None) is (tree.operator is Operator.IS_NULL)
        return None if value is None else _ASK[tree.operator](value, tree.value)
    parts = [holds(each, row) for each in tree.parts]
    if isinstance(tree, AllOf):
        return False if False in parts else None if None in parts else True
    return True if True in parts else None if None in parts else False


CONDITIONS = st.sampled_from(
    [
        "n > 2.5", "n <= 2", "n <> 1", "3 >= n", "n = 2.0", "n between 1 and 3", "n in (1, 2)", "n not in (1, 2)",
        "n in (1, null)", "m = 1", "m > 1", "hidden = 1", "x >= 0.5", "x < 1e0", "p >= 1.5", "p = 2", "p < 1e0",
        "t = 'a'", "t <> 'b'", "t is null", "t is not null", "length(t) = 1", "t like 'a%'", "flag", "not flag",
        "flag is true", "flag is not true", "d >= date '2024-10-27'", "d < timestamp '2024-10-27 12:00:00'",
        "w <= now()", "w > dateadd('hour', -2, now())", "a >= now()", "a < date '2024-10-27'", "a > d", "n > m",
        "a = timestamp '2024-10-27 02:30:00'", "a >= timestamp '2024-10-27 02:30:00'",
        "a < timestamp '2024-10-27 02:30:00'",
        "a <= timestamp '2024-10-27 03:00:00'", "n is distinct from 1", "coalesce(n, 0) = 0", "d = current_date",
        "w = d", "d <> timestamp '2024-10-27 00:00:00'",
    ]
)  # fmt: skip


def combined(depth: int) -> st.SearchStrategy[str]:
    if depth == 0:
        return CONDITIONS
    part = combined(depth - 1)
    return st.one_of(
        part,
        st.builds("({}) and ({})".format, part, part),
        st.builds("({}) or ({})".format, part, part),
        st.builds("not ({})".format, part),
    )


NIGHT = datetime(2024, 10, 26, 23, 0)
rows = st.lists(
    st.fixed_dictionaries(
        {
            "n": st.sampled_from([None, 0, 1, 2, 3, -5]),
            "m": st.sampled_from([None, 1, 2]),
            "x": st.sampled_from([None, 0.0, 0.5, 1.0]),
            "p": st.sampled_from([None, Decimal("1.50"), Decimal("2.00"), Decimal("0.99")]),
            "t": st.sampled_from([None, "a", "b", "ab"]),
            "flag": st.sampled_from([None, True, False]),
            "d": st.sampled_from([None, date(2024, 10, 26), date(2024, 10, 27), date(2024, 10, 28)]),
            "w": st.none() | st.integers(0, 20).map(lambda step: NIGHT + timedelta(minutes=15 * step)),
            "a": st.none()
            | st.integers(-8, 20).map(lambda step: NIGHT.replace(tzinfo=UTC) + timedelta(minutes=15 * step)),
            "hidden": st.sampled_from([None, 1]),
        }
    ),
    min_size=1,
    max_size=10,
)


@settings(max_examples=500, deadline=None)
@given(combined(2), rows, st.sampled_from(["UTC", "Europe/Berlin"]))
def test_no_wanted_record_is_lost_and_an_exact_filter_lets_no_other_in(
    text: str, records: list[dict[str, Any]], zone: str
) -> None:
    expression = compile_expression(text, NAMES, timezone=zone)
    asked = to_filter(expression, FIELDS, now=NOW)
    frame = pl.DataFrame(records, schema={name: each.dtype for name, each in FIELDS.items()})
    done = evaluate(frame, {"where": expression}, now=NOW)
    assert done.errors.null_count() == frame.height
    for record, wanted in zip(records, done.values["where"], strict=True):
        got = holds(asked.pushed, record)
        if wanted:
            assert got is True, (text, record, asked.pushed)
        elif not asked.kept_text:
            assert got is not True, (text, record, asked.pushed)
    for each in compares(asked.pushed):
        assert each.operator in FIELDS[each.field].operators


def compares(tree: Filter | None) -> list[Compare]:
    if tree is None:
        return []
    if isinstance(tree, AllOf | AnyOf):
        return [found for each in tree.parts for found in compares(each)]
    return [tree]


def test_negation_goes_into_the_operators_and_what_cannot_be_asked_stays() -> None:
    expression = compile_expression("not (n > 3 or t is null) and length(t) = 2 and hidden = 1", NAMES)
    asked = to_filter(expression, FIELDS, now=NOW)
    assert asked.pushed == AllOf((Compare("n", Operator.LE, 3), Compare("t", Operator.NOT_NULL)))
    assert asked.kept_text == ("LENGTH(t) = 2", "hidden = 1")
    assert asked.pushed_text == ("NOT (n > 3 OR t IS NULL)",)


def test_what_is_computed_from_now_alone_is_asked_as_a_value() -> None:
    expression = compile_expression("a >= dateadd('month', -12, now())", NAMES, timezone="Europe/Berlin")
    asked = to_filter(expression, FIELDS, now=NOW)
    # 2:15 on the clock in Berlin, where winter had begun an hour before and a year ago had not.
    assert asked.pushed == Compare("a", Operator.GE, datetime(2023, 10, 27, 0, 15, tzinfo=ZoneInfo("UTC")))
    assert asked.kept_text == ()


@pytest.mark.parametrize("text", ["n = 1 or length(t) = 1", "m > 1", "1 = 1", "n > 10 / 0", "t = lower(t)"])
def test_nothing_is_asked_where_a_side_of_or_cannot_be(text: str) -> None:
    assert to_filter(compile_expression(text, NAMES), FIELDS, now=NOW).pushed is None
