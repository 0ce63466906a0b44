"""Slices of a read: disjoint, complete, and about as large as each other however the keys lie."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from hub.sdk import Compare, Operator, Selection
from tests.connectors.sql.conftest import SqliteWorld, World

PARTS = 8


def sizes(world: World, keys: Sequence[int], wanted: Selection | None = None) -> list[int]:
    """How many records each slice reads, once it is seen that together they read each key once."""
    world.run("create table t (id bigint primary key, even integer)")
    world.many("insert into t values (%s, %s)", [(key, key % 2) for key in keys])
    with world.open() as connector:
        source = connector.source()
        slices = source.split(wanted or Selection("t", ("id",)), PARTS)
        read = [[key for page in source.read(each) for key in page.frame["id"]] for each in slices]
    if wanted is None:
        assert [key for each in read for key in each] == sorted(keys)
    return [len(each) for each in read]


DRAWN = random.Random(7)
LAYOUTS = {
    "dense": range(1, 8001),
    "one far behind": [*range(1, 6001), 10**12],
    "one far before": [-(10**12), *range(1, 6001)],
    "two clusters": [*range(1, 2001), *range(10**15, 10**15 + 6000)],
    "drawn from all that there are": sorted({DRAWN.randrange(-(2**62), 2**62) for _ in range(6000)}),
    "ever sparser": sorted({int(2 ** (DRAWN.random() * 50)) for _ in range(6000)}),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_slices_are_about_equal_however_the_keys_lie(sqlite: World, layout: str) -> None:
    found = sizes(sqlite, LAYOUTS[layout])
    assert len(found) == PARTS
    assert max(found) <= 2 * sum(found) / PARTS
    assert min(found) >= sum(found) / PARTS / 2


def test_every_product_cuts_the_same_keys_alike(world: World) -> None:
    found = sizes(world, [*range(1, 1001), *range(10**9, 10**9 + 3000)])
    assert len(found) == PARTS
    assert max(found) <= 2 * sum(found) / PARTS


@pytest.mark.parametrize("count", [0, 1, 2, 9])
def test_few_records_are_few_slices_or_none(sqlite: World, count: int) -> None:
    found = sizes(sqlite, range(count))
    assert sum(found) == count
    assert 1 <= len(found) <= PARTS


def test_slices_are_equal_in_the_records_that_a_condition_leaves(sqlite: World) -> None:
    where = Compare("id", Operator.GE, 3000)
    found = sizes(sqlite, range(4000), Selection("t", ("id",), where=where))
    assert sum(found) == 1000
    assert max(found) <= 2 * 1000 / PARTS


def test_keys_that_are_no_numbers_in_a_column_of_numbers_are_read_once(sqlite: SqliteWorld) -> None:
    sqlite.run("create table t (id integer primary key, name text) without rowid")
    sqlite.many("insert into t values (%s, %s)", [(key, str(key)) for key in (*range(500), "x", b"y", 2.5)])
    with sqlite.open() as connector:
        source = connector.source()
        slices = source.split(Selection("t", ("id", "name")), 4)
        names = [name for each in slices for page in source.read(each) for name in page.frame["name"]]
    assert sorted(filter(None, names)) == sorted([*map(str, range(500)), "x", "2.5", str(b"y")])
