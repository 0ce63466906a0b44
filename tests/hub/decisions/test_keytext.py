"""Key texts sort as the keys do and tell every two apart; their hashes stay the same for ever."""

from __future__ import annotations

import uuid
from datetime import date, datetime, time
from decimal import Decimal

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.decisions import DecisionError, key_hash
from hub.decisions.keytext import FEW, key_text

KINDS: dict[str, tuple[pl.DataType, st.SearchStrategy[object]]] = {
    "text": (pl.String(), st.text(alphabet="\x00\x01aé日z", max_size=4)),
    "integer": (pl.Int64(), st.integers(-(2**63), 2**63 - 1)),
    "unsigned": (pl.UInt64(), st.integers(0, 2**64 - 1)),
    "decimal": (pl.Decimal(38, 2), st.decimals(Decimal(-(10**35)), Decimal(10**35), places=2)),
    "real": (pl.Float64(), st.floats(allow_nan=False).map(lambda each: each + 0.0)),
    "date": (pl.Date(), st.dates()),
    "time": (pl.Time(), st.times()),
    "wall": (pl.Datetime("us"), st.datetimes()),
    "boolean": (pl.Boolean(), st.booleans()),
    "bytes": (pl.Binary(), st.binary(max_size=3)),
}


def _struct(columns: dict[str, pl.Series]) -> pl.Series:
    return pl.DataFrame(columns).to_struct("_key")


@pytest.mark.parametrize("name", KINDS)
def test_texts_sort_and_differ_as_the_keys_do(name: str) -> None:
    dtype, values = KINDS[name]

    @given(st.lists(values, min_size=1, max_size=12, unique=True))
    def check(drawn: list[object]) -> None:
        series = pl.Series("a", drawn, dtype)
        texts = key_text(_struct({"a": series}))
        assert texts.n_unique() == len(drawn)
        assert series.gather(texts.arg_sort()).to_list() == series.sort().to_list()

    check()


@given(
    st.lists(
        st.tuples(
            st.none() | st.text(alphabet="\x00\x01é日", max_size=3), st.none() | st.integers(-(2**63), 2**63 - 1)
        ),
        min_size=1,
        max_size=4,
    )
)
def test_few_keys_have_the_texts_they_have_among_many(drawn: list[tuple[str | None, int | None]]) -> None:
    for names in (["a"], ["b"], ["a", "b"], ["b", "a"]):
        few = _struct(dict(pl.DataFrame(drawn, schema={"a": pl.String, "b": pl.Int64}, orient="row")[names].to_dict()))
        many = pl.concat([few] * (FEW + 1))
        assert key_text(many).to_list() == key_text(few).to_list() * (FEW + 1)


@given(
    st.lists(
        st.tuples(
            st.text(alphabet="\x00\x01ab", max_size=3), st.integers(-2, 2), st.text(alphabet="\x00a", max_size=2)
        ),
        min_size=1,
        max_size=10,
        unique=True,
    )
)
def test_composite_keys_sort_field_by_field(drawn: list[tuple[str, int, str]]) -> None:
    keys = pl.DataFrame(drawn, schema={"a": pl.String, "b": pl.Int64, "c": pl.String}, orient="row")
    texts = key_text(keys.to_struct("_key"))
    assert texts.n_unique() == len(drawn)
    assert keys[texts.arg_sort()].rows() == sorted(drawn)


def test_hashes_are_fixed_for_ever() -> None:
    """Vectors: a full run of an older version must find its records seen by a newer one."""
    keys = pl.DataFrame({"Id": ["00Q0001", "", "é", "x" * 300], "n": [1, -1, 2**62, 0]}).to_struct("_key")
    assert [f"{each:016x}" for each in key_hash(keys).tolist()] == VECTORS


VECTORS = ["4162ea25def5bb32", "a5a372cbb3b81ca8", "5759af6d005665f4", "2eeb80f028f7a4f2"]


def test_a_hash_does_not_depend_on_the_other_keys() -> None:
    keys = pl.DataFrame({"Id": ["a", "ab" * 40, "é", "x" * 300, ""]}).to_struct("_key")
    assert [key_hash(keys[at : at + 1])[0] for at in range(len(keys))] == key_hash(keys).tolist()
    assert len(key_hash(keys[:0])) == 0


def test_hashes_of_a_million_neighbours_do_not_meet() -> None:
    keys = pl.DataFrame({"n": range(1_000_000)}).to_struct("_key")
    assert len(set(key_hash(keys).tolist())) == 1_000_000


def test_integers_of_any_width_and_the_same_moment_share_their_text() -> None:
    narrow = _struct({"a": pl.Series([5, -5], dtype=pl.Int16)})
    assert key_text(narrow).to_list() == key_text(_struct({"a": pl.Series([5, -5], dtype=pl.Int64)})).to_list()
    coarse = pl.Series([datetime(2026, 1, 1)], dtype=pl.Datetime("ms"))
    fine = pl.Series([datetime(2026, 1, 1)], dtype=pl.Datetime("us"))
    assert key_text(_struct({"a": coarse})).to_list() == key_text(_struct({"a": fine})).to_list()


def test_uuids_dates_and_times_stand_side_by_side() -> None:
    row = {"a": [str(uuid.UUID(int=1))], "b": [date(2026, 1, 1)], "c": [time(1)]}
    assert key_text(pl.DataFrame(row).to_struct("_key")).null_count() == 0


def test_a_type_that_is_no_key_is_refused_by_name() -> None:
    with pytest.raises(DecisionError, match="List"):
        key_text(pl.DataFrame({"a": [[1]]}).to_struct("_key"))
    with pytest.raises(DecisionError, match="struct"):
        key_text(pl.Series(["a"]))
