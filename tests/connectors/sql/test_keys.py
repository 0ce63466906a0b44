"""Keys that a database takes for one another: a write reaches the one record it names, or none."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from hub.sdk import Selection, Source, UnexpectedError
from tests.connectors.sql.conftest import World, changes, entity, write

PAIRS = {
    "sqlite": ("k text collate nocase", ["abc", "ABC"]),
    "postgresql": ("k text collate folded", ["abc", "ABC"]),
    "mariadb": ("k varchar(20) collate utf8mb4_general_ci", ["abc", "ABC", "abc "]),
}


@pytest.fixture
def alike(world: World) -> list[str]:
    """A table without a primary key whose keys are one in the eyes of their collation."""
    if world.dialect == "postgresql":
        world.run("create collation folded (provider = icu, locale = 'und-u-ks-level2', deterministic = false)")
    column, keys = PAIRS[world.dialect]
    world.run(f"create table t ({column} not null, score double precision)")
    world.many("insert into t (k, score) values (%s, %s)", [(key, 0.0) for key in keys])
    return keys


def test_a_change_reaches_the_very_key_it_names(world: World, alike: list[str]) -> None:
    for number, key in enumerate(alike, start=1):
        with world.open(keys={"t": ("k",)}) as connector:
            told = entity(connector, "t")
            assert [row["state"] for row in write(connector, changes(told, [{"k": key, "score": float(number)}]))] == [
                "applied"
            ]
    stands = dict(world.run("select k, score from t"))
    assert stands == {key: float(number) for number, key in enumerate(alike, start=1)}


def test_changes_of_alike_keys_in_one_batch_do_not_mix(world: World, alike: list[str]) -> None:
    with world.open(keys={"t": ("k",)}) as connector:
        told = entity(connector, "t")
        rows = write(connector, changes(told, [{"k": key, "score": float(n)} for n, key in enumerate(alike, start=1)]))
    assert [row["state"] for row in rows] == ["applied"] * len(alike)
    assert dict(world.run("select k, score from t")) == {key: float(n) for n, key in enumerate(alike, start=1)}


def test_a_key_in_another_case_is_no_record(world: World, alike: list[str]) -> None:
    with world.open(keys={"t": ("k",)}) as connector:
        rows = write(connector, changes(entity(connector, "t"), [{"k": "aBc", "score": 9.0}]))
    assert [row["state"] for row in rows] == ["rejected"]
    assert {score for _, score in world.run("select k, score from t")} == {0.0}


def test_a_text_key_is_not_the_number_it_spells(sqlite: World) -> None:
    sqlite.run("create table t (k primary key, band text)")
    sqlite.many("insert into t values (%s, %s)", [(1, "old"), ("1", "old")])
    with sqlite.open() as connector:
        rows = write(connector, changes(entity(connector, "t"), [{"k": "1", "band": "new"}]))
    assert [row["state"] for row in rows] == ["applied"]
    assert sqlite.run("select typeof(k), band from t order by 1") == [("integer", "old"), ("text", "new")]


@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize("rows", [1, 2, 100])
def test_a_record_whose_key_is_null_stops_the_read_and_is_never_left_out(world: World, rows: int, parts: int) -> None:
    """SQLite lets a text be a primary key and null; elsewhere a key that a person declared can be."""
    key = "k text primary key" if world.dialect == "sqlite" else "k varchar(20)"
    world.run(f"create table t ({key}, band text)")
    world.many(
        "insert into t (k, band) values (%s, 'x')", [(key,) for key in ("a", "zz", "zzz", "zzzz", "zzzzz", None)]
    )
    with world.open(keys={"t": ("k",)}) as connector:
        source = connector.source()
        slices = source.split(Selection("t", ("k",), page_rows=rows), parts)
        with pytest.raises(UnexpectedError, match="holds null"):
            _count(source, slices)
        world.run("delete from t where k is null")
        assert _count(source, slices) == 5


def _count(source: Source, slices: Sequence[Selection]) -> int:
    return sum(page.frame.height for each in slices for page in source.read(each))
