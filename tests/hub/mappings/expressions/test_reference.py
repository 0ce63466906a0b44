"""The reference page: every example does what it shows, and the page in the tree is the one the code writes."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

import hub
from hub.mappings.expressions import FUNCTIONS, compile_expression, evaluate
from hub.mappings.expressions.reference import examples, render_reference

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
