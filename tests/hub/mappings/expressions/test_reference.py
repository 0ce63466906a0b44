"""The reference page: every example does what it shows, and the page in the tree is the one the code writes."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

import hub
from hub.mappings.expressions import FUNCTIONS, NOW, ValueType, compile_expression, evaluate
from hub.mappings.expressions.evaluation import Plan
from hub.mappings.expressions.reference import examples, render_reference
from hub.sdk import FieldType

PAGE = Path(hub.__file__).parent / "docs" / "reference" / "expressions.md"


@pytest.mark.parametrize(("text", "shown"), sorted(set(examples())))
def test_an_example_of_the_page_gives_what_it_shows(text: str, shown: str) -> None:
    frame = pl.DataFrame({"_row": [1, 2, 3]})
    done = evaluate(frame, {"x": compile_expression(text, {})}, now=datetime(2024, 6, 1, tzinfo=UTC))
    assert done.values.height == done.errors.len() == 3
    (value,) = done.values["x"].unique().to_list()
    (error,) = done.errors.unique().to_list()
    if error is not None:
        assert value is None
        assert shown == f"error: {error.removeprefix('x: ')}"
    elif isinstance(value, bool):
        assert shown == str(value).lower()
    else:
        assert shown == {None: "null", "": "''"}.get(value, str(value))


def test_every_function_has_a_rule_and_examples() -> None:
    assert len(FUNCTIONS) > 60
    for each in FUNCTIONS.values():
        assert each.rule.endswith(".")
        assert each.examples


def test_the_page_in_the_tree_is_the_one_the_code_writes() -> None:
    wanted = render_reference()
    assert PAGE.read_text(encoding="utf-8") == wanted, f"write render_reference() to {PAGE}"


SAMPLES = [
    "dateadd('month', n, w)",
    "dateadd('month', -12, now())",
    "dateadd('day', n, a)",
    "date_trunc('month', a)",
    "datediff('month', a, now())",
    "try_cast(t as timestamptz)",
    "try_cast(t as decimal(20, 4))",
    "round(cast(x as decimal(18, 4)), 2)",
    "log(10, x) / nullif(n, 0)",
    "width_bucket(x, 0, 10, 5)",
    "round(" * 12 + "x / 7" + ", 2)" * 12,
    "coalesce(" * 12 + "x / n" + ", x)" * 12,
]


@pytest.mark.parametrize("text", SAMPLES)
def test_a_plan_does_not_grow_out_of_proportion_to_its_text(text: str) -> None:
    # An operation that looks at its argument many times copies all of it each time: such a plan once took 333 ms a row.
    kinds = {"n": FieldType.INTEGER, "x": FieldType.REAL, "t": FieldType.TEXT}
    kinds |= {"w": FieldType.TIMESTAMP, "a": FieldType.INSTANT}
    names = {name: ValueType(kind) for name, kind in kinds.items()}
    plan = Plan(pl.col(NOW))
    operand = plan.operand(compile_expression(text, names, timezone="Europe/Berlin").tree)
    made = [operand.value, *plan.checks, *(each for layer in plan.layers for each in layer)]
    made += [operand.error] if operand.error is not None else []
    assert sum(len(each.meta.serialize()) for each in made) < 10_000 + 500 * len(text)
