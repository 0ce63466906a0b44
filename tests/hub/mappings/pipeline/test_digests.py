"""Digests: values that look alike differ, and each belongs to its mapping, its model and its types."""

from __future__ import annotations

from datetime import UTC, date, datetime

import polars as pl
import pytest

from hub.mappings.pipeline.digests import RowDigest


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


def test_a_digest_moves_with_the_mapping_and_with_the_model() -> None:
    frame = pl.DataFrame({"x": [1]})

    digests = {RowDigest(*each).of(frame)[0] for each in (("a", "b"), ("a", "c"), ("ab", ""), ("", "ab"), ("b", "a"))}

    assert len(digests) == 5


def test_digests_are_sixteen_bytes_of_binary_even_for_no_rows() -> None:
    frame = pl.DataFrame({"x": [1, 2]})
    digest = RowDigest("mapping", "model")

    assert digest.of(frame).bin.size().to_list() == [16, 16]
    assert digest.of(frame.clear()).dtype == pl.Binary


def test_a_row_alone_has_the_digest_that_it_has_among_many() -> None:
    frame = pl.DataFrame({"a": [1, None, 3], "b": ["x", "", None], "c": [0.5, float("nan"), None]})
    digest = RowDigest("mapping", "model")

    assert digest.of(frame).to_list() == [digest.of(frame[at]).item() for at in range(frame.height)]
