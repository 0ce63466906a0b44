"""Reading what real tables hold: awkward keys, ties, sentinels and values that have no place in their type."""

from __future__ import annotations

from datetime import UTC, date, datetime
from uuid import UUID

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hub.sdk import AllOf, Compare, Context, Cursor, Operator, Selection, UnavailableError
from tests.connectors.sql.conftest import World, frames, read

AWKWARD = ["a", "A", "ä", "z", "Z", "_", "-", "a-b", "ab", "a b", "ß", "ss", "日", "é", "e\u0301", "1", "10", "2", "''"]


@pytest.mark.parametrize("rows", [1, 2, 7, 100])
def test_text_keys_come_once_whatever_the_collation(world: World, rows: int) -> None:
    world.run("create table t (k varchar(20) primary key)")
    texts = [each for each in AWKWARD if world.dialect != "mariadb" or each not in ("A", "Z", "ä", "e\u0301", "ss")]
    world.many("insert into t values (%s)", [(each,) for each in texts])
    with world.open() as connector:
        found = read(connector, "t", "k", rows=rows)["k"].to_list()
        assert sorted(found) == sorted(texts)
        for parts in (2, 3, 50):
            slices = connector.source().split(Selection("t", ("k",)), parts)
            assert len(slices) <= parts
            over = [k for each in slices for page in connector.source().read(each) for k in page.frame["k"]]
            assert sorted(over) == sorted(texts)


@pytest.mark.service("mariadb")
@pytest.mark.parametrize("rows", [1, 2, 100])
def test_a_declared_key_that_differs_by_case_only_is_told_apart(mariadb: World, rows: int) -> None:
    mariadb.run("create table t (k varchar(20) character set utf8mb4 collate utf8mb4_general_ci)")
    mariadb.many("insert into t values (%s)", [(each,) for each in AWKWARD])
    with mariadb.open(keys={"t": ("k",)}) as connector:
        assert sorted(read(connector, "t", "k", rows=rows)["k"].to_list()) == sorted(AWKWARD)


@pytest.mark.service("postgresql")
@pytest.mark.parametrize(
    "kind", ["uuid", "numeric", "numeric(12, 3)", "timestamptz", "timestamp", "date", "bytea", "real"]
)
def test_keys_of_any_type_come_once(postgresql: World, kind: str) -> None:
    made = {
        "uuid": "md5(n::text)::uuid", "timestamptz": "to_timestamp(n / 7.0)", "timestamp": "to_timestamp(n / 7.0)",
        "date": "date '0001-01-01' + n * 5000", "bytea": "decode(md5(n::text), 'hex')", "real": "n / 7.0",
    }.get(kind, "n / 8.0")  # fmt: skip
    postgresql.run(f"create table t (k {kind}, n integer, primary key (k, n))")
    postgresql.run(f"insert into t select ({made})::{kind}, n % 3 from generate_series(1, 500) n")
    with postgresql.open() as connector:
        whole = read(connector, "t", "k", "n", rows=1000)
        assert read(connector, "t", "k", "n", rows=7).equals(whole)
        assert whole.height == 500
        slices = connector.source().split(Selection("t", ("k", "n")), 4)
        assert pl.concat([frames(connector.source().read(each)) for each in slices]).equals(whole)


@pytest.mark.parametrize("rows", [1, 2, 5])
def test_sqlite_keys_of_mixed_types_come_once(sqlite: World, rows: int) -> None:
    sqlite.run("create table t (k integer, n text, primary key (k, n)) without rowid")
    sqlite.many("insert into t values (?, ?)", [(1, "a"), (2, "b"), (2.5, "c"), ("x", "d"), (b"y", "e"), (3, "f")])
    with sqlite.open() as connector:
        found = read(connector, "t", "k", "n", rows=rows)
    assert sorted(found["n"]) == list("abcdef")
    assert found.filter(pl.col("_invalid").is_null())["k"].to_list() == [1, 2, 3]


def test_ties_of_a_stamp_across_pages_are_neither_lost_nor_looped(world: World) -> None:
    world.run("create table t (id integer primary key, seen timestamp null)")
    stamps = [None, "2024-01-01 00:00:00", "2024-01-01 00:00:00", "2024-01-02 00:00:00"]
    world.many("insert into t values (%s, %s)", [(n, stamps[n % 4]) for n in range(600)])
    wanted = Selection("t", ("id", "seen"), changed_by="seen", page_rows=37)
    with world.open() as connector:
        pages = list(connector.source().read(wanted))
        ids = [n for page in pages for n in page.frame["id"]]
        assert sorted(ids) == list(range(600))
        for number, page in enumerate(pages):
            rest = [n for each in connector.source().read(wanted, after=page.cursor) for n in each.frame["id"]]
            assert ids == [n for each in pages[: number + 1] for n in each.frame["id"]] + rest


def test_the_head_is_where_the_next_incremental_read_starts(world: World) -> None:
    world.run("create table t (id integer primary key, seen timestamp null)")
    world.many("insert into t values (%s, %s)", [(n, f"2024-01-01 00:00:{n:02}") for n in range(50)])
    wanted = Selection("t", ("id",), changed_by="seen")
    with world.open(late_seconds=0) as connector:
        head = connector.source().head(wanted)
        assert head is not None
        again = Cursor.from_json(head.to_json())
        assert frames(connector.source().read(wanted, after=again))["id"].to_list() == [49]
        world.run("insert into t values (99, '2024-01-01 00:01:00')")
        assert frames(connector.source().read(wanted, after=head))["id"].to_list() == [49, 99]
        assert connector.source().head(Selection("t", ("id",))) is None
    with world.open(late_seconds=20) as connector:
        head = connector.source().head(wanted)
        assert frames(connector.source().read(wanted, after=head))["id"].to_list() == [*range(40, 50), 99]


@pytest.mark.parametrize("between", ["T", " "])
def test_stamps_kept_as_text_are_counted_back_as_they_are_written(sqlite: World, between: str) -> None:
    sqlite.run("create table t (id integer primary key, seen timestamp)")
    sqlite.many("insert into t values (?, ?)", [(n, f"2024-01-01{between}00:00:{n:02}") for n in range(50)])
    wanted = Selection("t", ("id",), changed_by="seen")
    with sqlite.open(late_seconds=20) as connector:
        head = connector.source().head(wanted)
        assert frames(connector.source().read(wanted, after=head))["id"].to_list() == [*range(29, 50)]


def test_dates_at_both_ends_are_values_and_not_errors(world: World) -> None:
    world.run("create table t (id integer primary key, d date)")
    world.many("insert into t values (%s, %s)", [(1, "0001-01-01"), (2, "9999-12-31"), (3, None)])
    with world.open() as connector:
        found = read(connector, "t", "d")
    assert found["d"].to_list() == [date(1, 1, 1), date(9999, 12, 31), None]
    assert found["_invalid"].null_count() == 3


@pytest.mark.service("postgresql")
def test_infinity_and_numbers_too_large_make_the_record_invalid(postgresql: World) -> None:
    postgresql.run("create table t (id integer primary key, d date, t timestamptz, n numeric, m time)")
    postgresql.run(
        "insert into t values (1, 'infinity', null, null, null), (2, null, '-infinity', null, null), "
        "(3, null, null, 'NaN', null), (4, null, null, 1e30, null), (5, null, null, 0.00000000000012345, null), "
        "(6, '4000-01-01 BC', null, null, null), (7, null, null, null, '24:00'), "
        "(8, '2024-01-01', '2024-01-01 00:00+02', 123456789012345678901234.123456789012, '10:00')"
    )
    with postgresql.open() as connector:
        found = read(connector, "t", "d", "t", "n", "m")
    reasons = found["_invalid"].to_list()
    assert reasons[-1] is None
    assert [reason.partition(":")[0] for reason in reasons[:-1]] == ["d", "t", "n", "n", "n", "d", "m"]
    assert str(found["n"][-1]) == "123456789012345678901234.123456789012"
    assert found["t"][-1] == datetime(2023, 12, 31, 22, tzinfo=UTC)


@pytest.mark.service("mariadb")
def test_zero_dates_make_the_record_invalid(mariadb: World) -> None:
    mariadb.run("create table t (id integer primary key, d date, t datetime, i time)")
    mariadb.run(
        "insert into t values (1, '0000-00-00', null, null), (2, null, '2024-00-10 00:00:00', null), "
        "(3, null, null, '-30:00:00'), (4, '2024-02-29', '2024-02-29 01:02:03', '23:59:59')"
    )
    with mariadb.open() as connector:
        found = read(connector, "t", "d", "t", "i", rows=2)
    assert [reason and reason[0] for reason in found["_invalid"]] == ["d", "t", "i", None]


def test_a_text_in_a_number_column_makes_that_record_invalid_alone(sqlite: World) -> None:
    sqlite.run("create table t (id integer primary key, n integer, x text, d decimal(8, 2), s timestamp)")
    sqlite.many("insert into t values (?, ?, ?, ?, ?)", [(n, n, None, "1.25", "2024-01-01") for n in range(3000)])
    sqlite.run("update t set n = 'n/a' where id = 2000")
    sqlite.run("update t set x = 'late text' where id = 2500")
    sqlite.run("update t set d = 1.239 where id = 2600")
    sqlite.run("update t set s = 'yesterday' where id = 2700")
    sqlite.run("update t set x = cast(x'ff' as text) where id = 2800")
    with sqlite.open() as connector:
        found = read(connector, "t", "id", "n", "x", "d", "s")
    bad = found.filter(pl.col("_invalid").is_not_null())
    assert bad["id"].to_list() == [2000, 2600, 2700, 2800]
    assert bad["_invalid"].to_list()[0] == "n: the stored value is no integer"
    assert found.filter(pl.col("id") == 2500)["x"].item() == "late text"
    assert found.height == 3000


def test_a_filter_answers_at_least_what_is_wanted(world: World) -> None:
    world.run("create table t (id integer primary key, name varchar(20), n integer)")
    world.many("insert into t values (%s, %s, %s)", [(n, f"Name {n}", n % 10 or None) for n in range(100)])
    where = AllOf((Compare("n", Operator.GE, 5), Compare("name", Operator.IN, ("Name 7", "Name 15", "Name 1"))))
    with world.open() as connector:
        assert read(connector, "t", "id", where=where)["id"].to_list() == [7, 15]
        empty = Compare("n", Operator.IN, ())
        assert list(connector.source().read(Selection("t", ("id",), where=empty))) == []


def test_a_lookup_of_many_keys_streams_pages(world: World) -> None:
    world.run("create table t (id integer primary key, owner varchar(9))")
    world.many("insert into t values (%s, %s)", [(n, f"o{n % 50}") for n in range(2000)])
    match = pl.DataFrame({"owner": [f"o{n}" for n in range(20)] + ["O1", "o1 "]})
    with world.open() as connector:
        pages = connector.source().lookup(Selection("t", ("id",), page_rows=90), match)
        first = next(pages)
        inner = connector.source().lookup(Selection("t", ("owner",)), pl.DataFrame({"id": [3, 4, 99_999]}))
        assert frames(inner)["owner"].to_list() == ["o3", "o4"]
        found = pl.concat([first.frame, *(page.frame for page in pages)])
    assert first.frame.height == 90
    assert sorted(found["id"]) == [n for n in range(2000) if n % 50 < 20]


@pytest.mark.service("postgresql")
def test_a_lookup_by_uuid_and_moment_finds_them(postgresql: World) -> None:
    postgresql.run("create table t (u uuid, t timestamptz, b bytea, primary key (u, t))")
    postgresql.run("insert into t values (%s, '2024-01-01 00:00:00.000001+01', '\\x00ff')", (UUID(int=7),))
    match = pl.DataFrame({"u": [str(UUID(int=7))], "t": [datetime(2023, 12, 31, 23, 0, 0, 1, tzinfo=UTC)]})
    with postgresql.open() as connector:
        assert frames(connector.source().lookup(Selection("t", ("b",)), match))["b"].to_list() == [b"\x00\xff"]


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.service(n)) for n in ("postgresql", "mariadb")])
def test_a_statement_that_takes_too_long_is_an_unavailable_error(name: str, request: pytest.FixtureRequest) -> None:
    world: World = request.getfixturevalue(name)
    sleep = "pg_sleep(30)::text" if name == "postgresql" else "sleep(30)"
    world.run(f"create view slow as select 1 as id, {sleep} as x")
    with (
        world.open(keys={"slow": ("id",)}, statement_seconds=1) as connector,
        pytest.raises(UnavailableError, match="longer than a statement may"),
    ):
        read(connector, "slow", "x")


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.service(n)) for n in ("postgresql", "mariadb")])
def test_the_deadline_of_a_call_ends_a_statement(name: str, request: pytest.FixtureRequest) -> None:
    world: World = request.getfixturevalue(name)
    sleep = "pg_sleep(30)::text" if name == "postgresql" else "sleep(30)"
    world.run(f"create view slow as select 1 as id, {sleep} as x")
    context = Context()
    with world.open(context, keys={"slow": ("id",)}) as connector:
        connector.check()
        begun = context.clock.monotonic()
        context.deadline = begun + 1
        with pytest.raises(UnavailableError):
            read(connector, "slow", "x")
        assert context.clock.monotonic() - begun < 6


def test_a_lookup_of_what_no_record_can_hold_finds_nothing(world: World) -> None:
    kind = {"sqlite": "uuid", "postgresql": "uuid", "mariadb": "uuid"}[world.dialect]
    world.run(f"create table t (id smallint primary key, u {kind}, k varchar(4), d decimal(6, 2))")
    world.run("insert into t values (1, %s, 'abcd', 1.01)", (str(UUID(int=7)),))
    tries = {"id": [1, 2**40], "u": ["nonsense", str(UUID(int=7))], "k": ["abcde", "abcd"], "d": [1.01, 1.005]}
    with world.open() as connector:
        for name, values in tries.items():
            found = frames(connector.source().lookup(Selection("t", ("id",)), pl.DataFrame({name: values})))
            assert found["id"].to_list() == [1], name
            none = pl.DataFrame({name: [value for value in values if value not in (1, str(UUID(int=7)), "abcd", 1.01)]})
            assert list(connector.source().lookup(Selection("t", ("id",)), none)) == []
        where = Compare("u", Operator.IN, ("nonsense", str(UUID(int=7))))
        assert read(connector, "t", "id", where=where)["id"].to_list() == [1]


def test_sqlite_moments_are_found_however_they_were_written(sqlite: World) -> None:
    sqlite.run("create table t (at timestamp, zone timestamptz, n integer, primary key (at, zone))")
    texts = ["2024-01-01T10:00:00", "2024-01-01 10:00:01.500", "2024-01-01 10:00:02.000000"]
    zones = ["2024-01-01T10:00:00Z", "2024-01-01 10:00:00+00:00", "2024-01-01 10:00:00.000000+00:00"]
    sqlite.many("insert into t values (?, ?, ?)", [(texts[n], zones[n], n) for n in range(3)])
    with sqlite.open() as connector:
        whole = read(connector, "t", "at", "zone", "n", rows=1)
        found = frames(connector.source().lookup(Selection("t", ("n",)), whole.select("at", "zone")))
        assert sorted(found["n"]) == [0, 1, 2]


PARTS = ["", "\x1f", "a\x1fb", "\x1e", "'", "\\", "ä日", "0", " "]


@pytest.mark.service("mariadb")
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(
            st.none() | st.integers(-(2**63), 2**63 - 1),
            st.none() | st.floats(allow_nan=False, allow_infinity=False),
            st.none() | st.sampled_from(PARTS) | st.text(st.characters(exclude_categories=["Cs"]), max_size=6),
            st.none() | st.datetimes(datetime(1000, 1, 1)),
            st.none() | st.decimals(-(10**9), 10**9, places=4, allow_nan=False),
            st.none() | st.booleans(),
        ),
        min_size=1,
        max_size=8,
    )
)
def test_values_that_travel_as_one_text_are_the_values_that_stand(
    mariadb: World, rows: list[tuple[object, ...]]
) -> None:
    mariadb.run("drop table if exists t")
    mariadb.run(
        "create table t (id integer primary key, i bigint, r double, s varchar(20) character set utf8mb4 collate"
        " utf8mb4_bin, d datetime(6), n decimal(20, 4), b boolean, wide varchar(5) default 'é')"
    )
    mariadb.many(
        "insert into t (id, i, r, s, d, n, b) values (%s, %s, %s, %s, %s, %s, %s)",
        [(at, *row) for at, row in enumerate(rows)],
    )
    with mariadb.open() as connector:
        found = read(connector, "t", "i", "r", "s", "d", "n", "b", "wide", rows=3)
    assert found.drop("wide", "_key", "_version", "_deleted", "_invalid").rows() == rows
    assert found["_invalid"].null_count() == len(rows)


@pytest.mark.service("mariadb")
def test_a_row_of_more_columns_than_a_number_has_bits_keeps_its_nulls(mariadb: World) -> None:
    names = [f"c{at}" for at in range(130)]
    mariadb.run(f"create table t (id integer primary key, {', '.join(f'{name} integer' for name in names)})")
    row = [None if at % 3 else at for at in range(130)]
    mariadb.run(f"insert into t values (1, {', '.join(['%s'] * 130)})", row)
    with mariadb.open() as connector:
        assert list(read(connector, "t", *names).select(names).row(0)) == row
