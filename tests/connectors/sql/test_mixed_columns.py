"""SQLite keeps values of any type in any column: what is read is the same however it was asked for."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.sql.reading import Query
from hub.sdk import Selection, UnexpectedError
from tests.connectors.sql.conftest import SqliteWorld, World, changes, entity, read, write

DECLARED = ("integer", "real", "text", "varchar(20)", "timestamp", "date", "time", "timestamptz", "boolean", "json", "")
VALUES = st.one_of(
    st.none(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    st.binary(max_size=4),
    st.sampled_from(["2024-01-01", "2024-01-01 10:00:00", "10:00:00", "12", "1.5", "2024-01-01 10:00:00+00:00"]),
    st.integers(0, 1),
)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(DECLARED), st.lists(VALUES, min_size=1, max_size=12), st.integers(1, 12))
def test_a_column_selected_as_it_stands_reads_as_one_asked_for_value_by_value(
    declared: str, values: list[Any], rows: int
) -> None:
    with tempfile.TemporaryDirectory() as made:
        world = SqliteWorld(Path(made) / "far.db")
        world.run(f"create table t (id integer primary key, v {declared})")
        world.many("insert into t values (?, ?)", list(enumerate(values)))
        with world.open() as connector:
            source = connector.source()
            selection = Selection("t", ("id", "v"), page_rows=rows)
            query = Query.of(source._client, source._relation(selection), selection)
            quick = [page.frame for page in query.pages(None)]
            careful = [page.frame for page in replace(query, plain=frozenset()).pages(None)]
    assert len(quick) == len(careful) == -(-len(values) // rows)
    assert pl.concat(quick).equals(pl.concat(careful))


def test_a_key_that_is_no_text_stops_the_read_by_name(sqlite: World) -> None:
    sqlite.run("create table t (k text primary key)")
    sqlite.run("insert into t values ('a'), (cast(x'ff' as text))")
    with sqlite.open() as connector, pytest.raises(UnexpectedError, match="no UTF-8"):
        read(connector, "t", "k", rows=2)


def test_a_key_of_texts_goes_on_where_its_page_ended(sqlite: World) -> None:
    keys = ["", "1", "10", "2", "a", "A", "i1", "t", "\u65e5"]
    sqlite.run("create table t (k text primary key)")
    sqlite.many("insert into t values (?)", [(key,) for key in keys])
    with sqlite.open() as connector:
        found = read(connector, "t", "k", rows=2)["k"].to_list()
    assert found == sorted(keys)


@pytest.mark.parametrize(
    ("declared", "stands", "seen", "wanted", "state", "after"),
    [
        ("text collate nocase", "abc", "ABC", "new", "conflict", "abc"),
        ("text collate nocase", "abc", "abc", "ABC", "applied", "ABC"),
        ("text collate rtrim", "abc  ", "abc", "new", "conflict", "abc  "),
        ("text", b"abc", "abc", "new", "conflict", b"abc"),
        ("real", "abc", None, 1.5, "conflict", "abc"),
        ("real", 2, 2.0, 1.5, "applied", 1.5),
        ("real", 1.5, 2.0, 1.5, "applied", 1.5),
        ("integer", 2.5, None, 3, "conflict", 2.5),
        ("integer", 2**62 + 1, 2**62, 3, "conflict", 2**62 + 1),
        ("boolean", 1, True, False, "applied", 0),
        (
            "timestamp",
            "2024-01-01T00:00:00",
            datetime(2024, 1, 1),
            datetime(2025, 1, 1),
            "applied",
            "2025-01-01 00:00:00",
        ),
    ],
)
def test_what_stands_by_now_decides_whether_a_change_is_written(
    sqlite: World, declared: str, stands: Any, seen: Any, wanted: Any, state: str, after: Any
) -> None:
    sqlite.run(f"create table t (id integer primary key, v {declared})")
    sqlite.run("insert into t values (1, ?)", (stands,))
    with sqlite.open() as connector:
        batch = changes(entity(connector, "t"), [{"id": 1, "v": wanted}], before=[{"v": seen}])
        assert [each["state"] for each in write(connector, batch)] == [state]
    assert sqlite.run("select v from t") == [(after,)]
