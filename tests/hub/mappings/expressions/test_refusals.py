"""Texts that are not expressions of the language: each refused with one sentence, and nothing else ever raised."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.mappings.expressions import (
    ExpressionError,
    ValueType,
    compile_aggregate,
    compile_expression,
    compile_order,
    evaluate,
)
from hub.sdk import FieldType

NAMES = {
    "a": ValueType(FieldType.INTEGER),
    "b": ValueType(FieldType.INTEGER),
    "t": ValueType(FieldType.TEXT),
    "d": ValueType(FieldType.DATE),
    "flag": ValueType(FieldType.BOOLEAN),
    "Industry": ValueType(FieldType.TEXT),
    "orders.spent": ValueType.decimal(12, 2),
    "My Field": ValueType(FieldType.REAL),
    "Größe": ValueType(FieldType.REAL),
    "raw": ValueType(FieldType.BYTES),
}

REFUSED = [
    ("a // b", "comments"),
    ("a -- b", "comments"),
    ("-- a", "comments"),
    ("a /* x */", "comments"),
    ("/*+ hint */ a", "comments"),
    ("a /* x", "comment"),
    ("a; drop table x", "semicolon"),
    ("a;", "semicolon"),
    ("(select 1)", "sub-select"),
    ("exists(select 1)", "sub-select"),
    ("a in (select b)", "sub-select"),
    ("with x as (select 1) select a", "sub-select"),
    ("sum(a) over ()", "OVER"),
    ("count(*)", "'*'"),
    ("sum(a)", "aggregate of a lookup"),
    ("*", "'*'"),
    ("a.*", "'*'"),
    ("?", "parameters"),
    (":x", "not allowed"),
    ("@x", "parameters"),
    ("$1", "parameters"),
    ("a:b", "not allowed"),
    ("a[0]", "brackets"),
    ("least(x -> x)", "lambdas"),
    ("interval '1 day'", "dateadd"),
    ("a at time zone 'UTC'", "timezone"),
    ("t like any ('x', 'y')", "ANY"),
    ("a b", "alias"),
    ("a as b", "alias"),
    ("(a, b)", "list"),
    ("a & b", "not part"),
    ("a ^ b", "not part"),
    ("a.b.c.d.e", "not part"),
    ("x'00'", "hexadecimal"),
    ("$$a$$", "single quotes"),
    ("{fn now()}", "braces"),
    ("drop table x", "not part"),
    ("", "empty"),
    ("   ", "empty"),
    ("'open", "quote"),
    ("1 +", "SQL expression"),
    ("case when a then", "SQL expression"),
    ("a = b = 1", "chained"),
    ("a\x00", "control character"),
    ("Indsutry", "did you mean Industry?"),
    ("industry", "did you mean Industry?"),
    ("spent", "did you mean orders.spent?"),
    ('"open"', "single quotes"),
    ("lowr(t)", "did you mean lower?"),
    ("trim(t, t)", "literal"),
    ("a + t", "numbers, not text"),
    ("t + t", "use ||"),
    ("d + 1", "dateadd"),
    ("a = t", "integer and text do not go together"),
    ("a = 'x'", "cast"),
    ("d = 'yesterday'", "date '2024-12-31'"),
    ("d > 1", "do not go together"),
    ("flag > true", "order"),
    ("raw < raw", "order"),
    ("not a", "condition"),
    ("a and flag", "condition"),
    ("case when a then 1 end", "condition"),
    ("case when flag then 1 else 'x' end", "branches"),
    ("a in (b)", "literals only"),
    ("a in (1, 'x')", "like with like"),
    ("t like a", "text literal"),
    ("t like 'x!' escape '!'", "escape"),
    ("t like 'x' escape '!!'", "one character"),
    ("a like 'x'", "LIKE needs text"),
    ("a is b", "NULL, NOT NULL, TRUE or FALSE"),
    ("lower(a)", "must be text"),
    ("lower()", "0 arguments"),
    ("round(a, b)", "literal"),
    ("round(t)", "must be a number"),
    ("datediff('parsec', d, d)", "unit must be one of"),
    ("datediff('day', d)", "2 arguments"),
    ("dateadd('day', 1.5, d)", "integer"),
    ("dateadd('day', 1, 'x')", "text"),
    ("date '2024-02-30'", "ISO"),
    ("timestamp 'x'", "ISO"),
    ("cast(a as date)", "cannot be cast"),
    ("cast(a as hyperloglog)", "unknown type"),
    ("cast(a as decimal(39, 2))", "unknown type"),
    ("cast(a as decimal(5, 6))", "unknown type"),
    ("cast(a as int array)", "type"),
    ("regexp_like(t, '(?=x)')", "look-around"),
    ("regexp_like(t, '(')", "regular expression"),
    ("lpad(t, 100000)", "1000"),
    ("split_part(t, '', 1)", "not empty"),
    ("split_part(t, ',', 0)", "other than 0"),
    ("bucket(a, 0)", "1 to 1,000,000"),
    ("to_date(t, 'YY')", "format"),
    ("reasons(3)", "decide and write"),
    ("99999999999999999999999999999999999999999", "out of range"),
    ("1e999", "out of range"),
    ("orders.spent * 1.123456789012345678901234567890123456789", "out of range"),
    ("(" * 31 + "a" + ")" * 31, "nested"),
    ("not " * 40 + "flag", "nested"),
    ("- " * 40 + "a", "nested"),
    ("a" + " + a" * 200, "chains"),
    ("a" * 4001, "4001 characters"),
]


@pytest.mark.parametrize(("text", "told"), REFUSED, ids=[text[:40] or "empty" for text, _ in REFUSED])
def test_a_text_outside_the_language_is_refused_with_a_sentence_that_says_why(text: str, told: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        compile_expression(text, NAMES)
    assert told in caught.value.message
    assert "\n" not in caught.value.message
    assert len(caught.value.message) < 300


def test_the_place_of_an_error_is_told() -> None:
    with pytest.raises(ExpressionError) as caught:
        compile_expression("a + 2 * Indsutry", NAMES)
    assert caught.value.position == 8
    assert "at character 9" in caught.value.message


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a", "many values"),
        ("sum(a) + b", "many values"),
        ("1 + 2", "an aggregate is needed"),
        ("sum(sum(a))", "inside another"),
        ("sum(*)", "count(*)"),
        ("sum(distinct a)", "count(distinct x)"),
        ("sum(t)", "numbers"),
        ("max(flag)", "order"),
        ("count(a, b)", "one argument"),
        ("sum(nothing)", "unknown field"),
        ("sum(a) filter (where flag)", "not part"),
        ("max(a) over ()", "OVER"),
    ],
)
def test_what_is_no_aggregate_is_refused(text: str, told: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        compile_aggregate(text, NAMES)
    assert told in caught.value.message


@pytest.mark.parametrize("text", ["", "nothing", "a sideways", "a,,b", "raw", "a; b", "a desc -- b", "lower(t)"])
def test_what_is_no_order_is_refused(text: str) -> None:
    with pytest.raises(ExpressionError):
        compile_order(text, NAMES)


@pytest.mark.parametrize("zone", ["", "Nowhere/Land", "../etc/passwd", "UTC\x00"])
def test_a_timezone_that_does_not_exist_is_refused(zone: str) -> None:
    with pytest.raises(ExpressionError):
        compile_expression("a", NAMES, timezone=zone)


SIGNS = "( ( ( ) ) ) , + - * / % = <> < >= . : ; ? @ $ [ ] { } -> => :: || ' \" 1 0.5 1e9 'x' '' // -- /* */ \n \\ 😀"
NOUNS = "a b t d flag Industry count sum lower round coalesce datediff reasons date timestamp interval extract"
VERBS = "and or not is null in between like ilike escape case when then else end cast as int select from over distinct"
WORDS = [each for line in (SIGNS, NOUNS, VERBS) for each in line.split(" ")]


@settings(max_examples=600, deadline=None)
@given(st.one_of(st.text(max_size=80), st.lists(st.sampled_from(WORDS), max_size=25).map(" ".join)))
def test_no_text_raises_anything_but_an_expression_error(text: str) -> None:
    for compile_text in (compile_expression, compile_aggregate):
        try:
            compile_text(text, NAMES)
        except ExpressionError:
            continue


@pytest.mark.parametrize(
    "text",
    [
        "case " + " ".join(f"when a between {n} and {n + 1} then {n}" for n in range(80)) + " end",
        "iff(" * 25 + "a" + " between 1 and 2, 1, 0)" * 25,
        "case " * 20 + "a" + " when 1 then 2 when 2 then 3 else 4 end" * 20,
        "round(" * 20 + "a" + " / 7, 2)" * 20,
        "least(1, " * 25 + "a" + ")" * 25,
    ],
)
def test_a_large_expression_compiles_and_runs_in_bounded_time(text: str) -> None:
    begun = time.monotonic()
    expression = compile_expression(text, NAMES)
    frame = pl.DataFrame({"a": [1, None, 7]}, schema={"a": pl.Int64})
    done = evaluate(frame, {"x": expression}, now=datetime(2024, 1, 1, tzinfo=UTC))
    assert done.values.height == 3
    assert time.monotonic() - begun < 20
