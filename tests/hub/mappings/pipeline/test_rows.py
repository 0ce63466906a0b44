"""Canonical rows: the committed vectors hold, an independent reading of the grammar agrees, and no two rows collide."""

from __future__ import annotations

import json
import math
import struct
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.mappings.pipeline.rows import RowDigest, canonical_rows

VECTORS = json.loads((Path(__file__).parent / "vectors.json").read_text("utf-8"))
EPOCH = datetime(1970, 1, 1)

TYPES: dict[str, pl.DataType] = {
    "integer": pl.Int64(),
    "real": pl.Float64(),
    "decimal": pl.Decimal(20, 4),
    "text": pl.String(),
    "bytes": pl.Binary(),
    "boolean": pl.Boolean(),
    "date": pl.Date(),
    "time": pl.Time(),
    "timestamp": pl.Datetime("us"),
    "instant": pl.Datetime("us", "UTC"),
    "struct": pl.Struct({"a": pl.Int64(), "b": pl.String()}),
    "list": pl.List(pl.Struct({"feature": pl.String(), "effect": pl.Float64()})),
}

_DAYS = st.integers(min_value=-700_000, max_value=2_900_000)
_MOMENTS = st.datetimes()
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "integer": st.integers(-(2**63), 2**63 - 1),
    "real": st.floats(),
    "decimal": st.decimals(-(10**15), 10**15, places=4),
    "text": st.text(st.characters(exclude_categories=["Cs"])),
    "bytes": st.binary(),
    "boolean": st.booleans(),
    "date": st.dates(),
    "time": st.times(),
    "timestamp": _MOMENTS,
    "instant": _MOMENTS.map(lambda each: each.replace(tzinfo=UTC)),
    "struct": st.fixed_dictionaries(
        {"a": st.none() | st.integers(-9, 9), "b": st.none() | st.text("x|;:~", max_size=3)}
    ),
    "list": st.lists(st.fixed_dictionaries({"feature": st.text("ab;", max_size=2), "effect": st.floats()}), max_size=3),
}


def written(value: Any, kind: str) -> str:
    """The grammar of `rows.py`, read a second time, value by value."""
    null = value is None
    match kind:
        case "integer":
            return f"i{'~' if null else value};"
        case "real":
            if not null and not math.isfinite(value):
                return "rNaN;" if math.isnan(value) else "rinf;" if value > 0 else "r-inf;"
            return f"r{'~' if null else struct.unpack('>Q', struct.pack('>d', value))[0]};"
        case "decimal":
            return f"d{'~' if null else format(value, '.4f')};"
        case "text":
            return "s~:;" if null else f"s{len(value.encode())}:{value};"
        case "bytes":
            return f"y{'~' if null else value.hex()};"
        case "boolean":
            return f"b{'~' if null else str(value).lower()};"
        case "date":
            return f"D{'~' if null else (value - date(1970, 1, 1)).days};"
        case "time":
            micro = None if null else ((value.hour * 60 + value.minute) * 60 + value.second) * 10**6 + value.microsecond
            return f"T{'~' if micro is None else micro * 1000};"
        case "timestamp":
            return f"t{'~' if null else (value - EPOCH) // timedelta(microseconds=1)};"
        case "instant":
            return f"z{'~' if null else (value.replace(tzinfo=None) - EPOCH) // timedelta(microseconds=1)};"
        case "struct":
            held = value or {"a": None, "b": None}
            return f"{{{'~' if null else 1}{written(held['a'], 'integer')}{written(held['b'], 'text')}}}"
        case _:
            each = "".join(f"{{1{written(x['feature'], 'text')}{written(x['effect'], 'real')}}}" for x in value or [])
            return f"[{'~' if null else len(value)}:{each}]"


@pytest.mark.parametrize("vector", VECTORS, ids=[each["about"] for each in VECTORS])
def test_a_committed_vector_is_written_as_it_was(vector: dict[str, Any]) -> None:
    columns = {
        name: pl.Series(name, [_from_json(each, kind) for each in values], dtype=TYPES[kind])
        for name, kind, values in vector["columns"]
    }
    frame = pl.DataFrame(columns)

    assert canonical_rows(frame, list(columns)).to_list() == vector["rows"]
    assert [each.hex() for each in RowDigest("mapping", "model").of(frame)] == vector["digests"]


def _from_json(value: Any, kind: str) -> Any:
    if value is None:
        return None
    read = {
        "real": float,
        "decimal": Decimal,
        "bytes": bytes.fromhex,
        "date": date.fromisoformat,
        "time": time.fromisoformat,
        "timestamp": datetime.fromisoformat,
        "instant": datetime.fromisoformat,
    }
    return read[kind](value) if kind in read else value


@pytest.mark.parametrize("kind", TYPES)
@given(values=st.data())
def test_the_text_is_what_the_grammar_says(kind: str, values: st.DataObject) -> None:
    rows = values.draw(st.lists(st.none() | VALUES[kind], min_size=1, max_size=5))
    frame = pl.DataFrame({"x": pl.Series(rows, dtype=TYPES[kind])})

    assert canonical_rows(frame, ["x"]).to_list() == [written(each, kind) for each in rows]


TRICKY = st.none() | st.text("a|;:~s0123", max_size=6) | st.sampled_from(["", "null", "None", "~", "s0:;", "a|b"])


@given(st.lists(st.tuples(TRICKY, TRICKY, TRICKY), min_size=2, max_size=8))
def test_different_texts_never_share_a_row(rows: list[tuple[str | None, ...]]) -> None:
    frame = pl.DataFrame(rows, schema={"a": pl.String, "b": pl.String, "c": pl.String}, orient="row")

    texts = canonical_rows(frame, ["a", "b", "c"]).to_list()

    assert len(set(texts)) == len(set(rows))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (pl.Series(["1"]), pl.Series([1])),
        (pl.Series([1]), pl.Series([1.0])),
        (pl.Series([0.0]), pl.Series([-0.0])),
        (pl.Series([None], dtype=pl.String), pl.Series([""])),
        (pl.Series([None], dtype=pl.String), pl.Series(["null"])),
        (pl.Series([None], dtype=pl.Float64), pl.Series([float("nan")])),
        (pl.Series([float("inf")]), pl.Series([float("-inf")])),
        (pl.Series([True]), pl.Series([1])),
        (pl.Series([b"61"]), pl.Series(["61"])),
        (pl.Series([datetime(2026, 1, 1)]), pl.Series([datetime(2026, 1, 1, tzinfo=UTC)])),
        (pl.Series([date(2026, 1, 1)]), pl.Series([datetime(2026, 1, 1)])),
        (pl.Series([None], dtype=pl.Int64), pl.Series([None], dtype=pl.String)),
        (pl.Series([0.1 + 0.2]), pl.Series([0.3])),
    ],
)
def test_values_that_look_alike_have_different_digests(one: pl.Series, other: pl.Series) -> None:
    digest = RowDigest("mapping", "model")

    assert digest.of(one.alias("x").to_frame()).to_list() != digest.of(other.alias("x").to_frame()).to_list()


def test_every_nan_is_the_same_nan() -> None:
    payload = struct.unpack("<d", struct.pack("<Q", 0x7FF8000000000001))[0]
    frame = pl.DataFrame({"x": pl.Series([float("nan"), payload, -float("nan")])})

    assert canonical_rows(frame, ["x"]).unique().to_list() == ["rNaN;"]


def test_a_digest_moves_with_the_mapping_and_with_the_model() -> None:
    frame = pl.DataFrame({"x": [1]})

    digests = {RowDigest(*each).of(frame)[0] for each in (("a", "b"), ("a", "c"), ("ab", ""), ("", "ab"), ("b", "a"))}

    assert len(digests) == 5


def test_digests_are_sixteen_bytes_of_binary_even_for_no_rows() -> None:
    frame = pl.DataFrame({"x": [1, 2]})
    digest = RowDigest("mapping", "model")

    assert digest.of(frame).bin.size().to_list() == [16, 16]
    assert digest.of(frame.clear()).dtype == pl.Binary


def test_columns_are_written_in_the_order_asked_for() -> None:
    frame = pl.DataFrame({"a": [1], "b": [2]})

    assert canonical_rows(frame, ["b", "a"]).to_list() == ["i2;i1;"]


def test_a_type_without_a_rule_is_refused() -> None:
    frame = pl.DataFrame({"x": [timedelta(days=1)]})

    with pytest.raises(TypeError, match="no canonical text"):
        canonical_rows(frame, ["x"])


@given(
    st.lists(
        st.tuples(*(st.none() | VALUES[kind] for kind in ("integer", "real", "text", "boolean"))),
        min_size=17,
        max_size=20,
    )
)
def test_a_few_rows_have_the_digests_that_they_have_among_many(rows: list[tuple[Any, ...]]) -> None:
    schema = {kind: TYPES[kind] for kind in ("integer", "real", "text", "boolean")}
    frame = pl.DataFrame(rows, schema=schema, orient="row")
    digest = RowDigest("mapping", "model")

    assert digest.of(frame).to_list() == [digest.of(frame[at]).item() for at in range(frame.height)]
