"""The nouns survive JSON, keep their caps, and a page is typed as its entity says."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.sdk import (
    AllOf,
    AnyOf,
    Changes,
    Compare,
    Cursor,
    Entity,
    Field,
    FieldType,
    Filter,
    Grant,
    Mode,
    Operator,
    Page,
    Results,
    Selection,
)
from hub.sdk.types import filter_fields, value_from_json, value_to_json

names = st.text(min_size=1, max_size=12)
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(),
    st.text(max_size=20),
    st.binary(max_size=20),
    st.decimals(allow_nan=False, allow_infinity=False),
    st.dates(),
    st.times().map(lambda each: each.replace(fold=0)),
    st.datetimes(allow_imaginary=True).map(lambda each: each.replace(fold=0)),
    st.datetimes(timezones=st.just(UTC)),
)
several = st.lists(scalars, max_size=3).map(tuple)
compares = st.one_of(
    st.builds(Compare, names, st.sampled_from([Operator.EQ, Operator.LT, Operator.GE]), scalars),
    st.builds(
        Compare, names, st.sampled_from([Operator.IN, Operator.NOT_IN]), st.lists(scalars, max_size=3).map(tuple)
    ),
    st.builds(Compare, names, st.sampled_from([Operator.IS_NULL, Operator.NOT_NULL])),
)
trees: st.SearchStrategy[Filter] = st.recursive(
    compares,
    lambda inner: st.one_of(
        st.builds(AllOf, st.lists(inner, max_size=3).map(tuple)),
        st.builds(AnyOf, st.lists(inner, max_size=3).map(tuple)),
    ),
    max_leaves=6,
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
listed = st.lists(names, max_size=3).map(tuple)
sizes = st.integers(1, 10_000)
parts = st.none() | st.dictionaries(names, json_values, max_size=2)
grants = st.builds(
    Grant,
    reads=st.dictionaries(names, st.frozensets(names, max_size=3), max_size=3),
    writes=st.dictionaries(names, st.frozensets(names, max_size=3), max_size=3),
    modes=st.dictionaries(names, st.frozensets(st.sampled_from(Mode)), max_size=3),
)


@given(scalars)
def test_a_value_survives_json_with_its_type(value: Any) -> None:
    again = value_from_json(json.loads(json.dumps(value_to_json(value))))
    assert type(again) is type(value)
    assert repr(again) == repr(value) if isinstance(value, float) else again == value


@pytest.mark.parametrize("value", [-0.0, math.inf, -math.inf, math.nan, 5e-324])
def test_awkward_reals_survive_json(value: float) -> None:
    assert repr(value_from_json(json.loads(json.dumps(value_to_json(value))))) == repr(value)


def test_a_value_of_no_field_is_refused() -> None:
    with pytest.raises(TypeError, match="list is no value of a record"):
        value_to_json([1])  # type: ignore[arg-type]


@given(names, listed, st.none() | trees, st.none() | names, parts, sizes)
def test_a_selection_survives_json(
    entity: str, fields: tuple[str, ...], where: Filter | None, by: str | None, part: Any, rows: int
) -> None:
    selection = Selection(entity, fields, where, by, part, rows)
    try:
        text = selection.to_json()
    except ValueError:
        return
    again = Selection.from_json(text)
    assert replace(again, where=None) == replace(selection, where=None)
    assert repr(again.where) == repr(selection.where)  # by its text: a NaN in a filter is not equal to itself
    assert again.to_json() == text


@given(st.dictionaries(names, json_values, max_size=4))
def test_a_cursor_survives_json(state: dict[str, Any]) -> None:
    cursor = Cursor(state)
    assert Cursor.from_json(cursor.to_json()) == cursor


@given(trees)
def test_a_filter_names_every_field_it_looks_at(tree: Filter) -> None:
    found, todo = set(), [tree]
    while todo:
        each = todo.pop()
        if isinstance(each, Compare):
            found.add(each.field)
        else:
            todo += each.parts
    assert filter_fields(tree) == found


@pytest.mark.parametrize("size", [4096, 4097])
def test_cursor_and_selection_are_capped_in_bytes(size: int) -> None:
    cursor = Cursor({"k": "é" * ((size - 8) // 2) + "x" * (size % 2)})
    selection = Selection("E", ("f",), part={"k": ""})
    padding = "x" * (size - len(selection.to_json()))
    padded = Selection("E", ("f",), part={"k": padding})
    if size == 4096:
        assert len(cursor.to_json().encode()) == len(padded.to_json().encode()) == 4096
        return
    for each, what in ((cursor, "cursor"), (padded, "selection")):
        with pytest.raises(ValueError, match=rf"the {what} is 4097 bytes of JSON; at most 4096 are allowed"):
            each.to_json()


@given(grants, grants, grants)
def test_the_union_of_grants_is_that_of_sets(one: Grant, two: Grant, three: Grant) -> None:
    both = one | two
    assert (both | three).digest() == (one | (two | three)).digest()
    assert both.digest() == (two | one).digest()
    assert (one | one).digest() == one.digest() == (one | Grant()).digest()
    for entity, fields in one.reads.items():
        assert fields <= both.reads[entity]
    assert set(both.writes) == set(one.writes) | set(two.writes)


@given(grants)
def test_a_grant_survives_json(grant: Grant) -> None:
    again = Grant.from_json(json.loads(json.dumps(grant.to_json())))
    assert again == grant
    assert again.digest() == grant.digest()


def test_the_digest_of_a_grant_is_the_one_it_was() -> None:
    grant = Grant({"Lead": frozenset({"b", "a"})}, {"Lead": frozenset({"s"})}, {"Lead": frozenset({Mode.UPDATE})})
    assert grant.digest() == "d3d1e001edc95688d038801a418597a0f2a644615b644579c2227b8a2b0e122f"
    assert grant.digest() != (grant | Grant(reads={"Lead": frozenset({"c"})})).digest()


EXPECTED: dict[FieldType, Any] = {
    FieldType.TEXT: pl.String(),
    FieldType.INTEGER: pl.Int64(),
    FieldType.DECIMAL: pl.Decimal(38, 12),
    FieldType.REAL: pl.Float64(),
    FieldType.BOOLEAN: pl.Boolean(),
    FieldType.DATE: pl.Date(),
    FieldType.TIME: pl.Time(),
    FieldType.TIMESTAMP: pl.Datetime("us"),
    FieldType.INSTANT: pl.Datetime("us", "UTC"),
    FieldType.BYTES: pl.Binary(),
    FieldType.UUID: pl.String(),
    FieldType.JSON: pl.String(),
}


def test_a_page_is_typed_by_its_entity() -> None:
    fields = tuple(Field(kind.value, kind) for kind in FieldType)
    entity = Entity("E", fields, key=("uuid", "integer"))
    schema = entity.page_schema(["real", "text"])
    assert list(schema) == ["real", "text", "_key", "_version", "_deleted", "_invalid"]
    assert schema["_key"] == pl.Struct({"uuid": pl.String, "integer": pl.Int64})
    assert [schema[name] for name in ("_version", "_deleted", "_invalid")] == [pl.String, pl.Boolean, pl.String]
    assert entity.schema(kind.value for kind in FieldType) == {kind.value: EXPECTED[kind] for kind in FieldType}
    assert Field("d", FieldType.DECIMAL, precision=9, scale=0).dtype == pl.Decimal(9, 0)
    with pytest.raises(KeyError, match="gone"):
        entity.page_schema(["gone"])


def test_frames_are_not_printed() -> None:
    frame = pl.DataFrame({"state": ["planted value"]})
    nouns = (Page(frame, Cursor({})), Results(frame), Changes("E", Mode.UPDATE, (), frame))
    assert not any("planted value" in f"{each!r}{each}" for each in nouns)
    assert [len(each) for each in nouns[1:]] == [1, 1]


def test_values_of_a_record_keep_their_zone() -> None:
    for value in (datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 1, 1), date(1, 1, 1), time(23, 59), Decimal("1.10")):
        again = value_from_json(value_to_json(value))
        assert (str(again), type(again)) == (str(value), type(value))
