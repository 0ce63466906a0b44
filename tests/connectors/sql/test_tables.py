"""What a connection tells of tables, views, keys and rights."""

from __future__ import annotations

import pytest

from hub.sdk import FieldType, Grant, Mode, UnexpectedError
from tests.connectors.sql.conftest import World, entity, read


def test_a_view_with_a_declared_key_is_read_like_a_table(world: World) -> None:
    world.run("create table visits (id integer primary key, amount decimal(10, 2))")
    world.run('create view "Offene Fälle" as select id, amount from visits where amount > 1')
    world.many("insert into visits values (%s, %s)", [(n, n) for n in range(9)])
    with world.open() as plain:
        assert entity(plain, "Offene Fälle").key == ()
        with pytest.raises(UnexpectedError, match="declare one in the connection's setting `keys`"):
            read(plain, "Offene Fälle", "amount")
    with world.open(keys={"Offene Fälle": ("id",)}) as connector:
        assert entity(connector, "Offene Fälle").key == ("id",)
        assert read(connector, "Offene Fälle", "id", rows=3)["id"].to_list() == list(range(2, 9))


def test_a_declared_key_that_is_not_unique_stops_the_read(world: World) -> None:
    world.run("create table loose (a integer, b integer)")
    world.many("insert into loose values (%s, %s)", [(1, 1), (2, 1), (2, 2), (3, 1)])
    with world.open(keys={"loose": ("a",)}) as connector:
        for rows in (1, 2, 3, 10):
            with pytest.raises(UnexpectedError, match="is not unique"):
                read(connector, "loose", "b", rows=rows)
    with world.open(keys={"loose": ("a", "b")}) as connector:
        assert read(connector, "loose", "a", "b", rows=2).height == 4


def test_a_declared_key_that_holds_null_stops_the_read(world: World) -> None:
    world.run("create table loose (a integer, b integer)")
    world.many("insert into loose values (%s, %s)", [(1, 1), (None, 1)])
    with world.open(keys={"loose": ("a",)}) as connector, pytest.raises(UnexpectedError, match="holds null"):
        read(connector, "loose", "b")


def test_a_setting_that_names_no_table_or_column_says_so(world: World) -> None:
    world.run("create table t (a integer primary key)")
    with world.open(keys={"nowhere": ("a",)}) as connector, pytest.raises(UnexpectedError, match=r"keys: .*'nowhere'"):
        connector.entities()
    with world.open(keys={"t": ("b",)}) as connector, pytest.raises(UnexpectedError, match="no column 'b'"):
        connector.entities()


def test_names_with_quotes_colons_and_percent_signs_are_read_and_written(world: World) -> None:
    world.run('create table "o""d:d" (id integer primary key, "50% off: x""y" varchar(9))')
    world.run('insert into "o""d:d" values (1, %s)', ("a",))
    with world.open(provision=True) as connector:
        name = next(each.name for each in connector.entities())
        assert read(connector, name, '50% off: x"y')['50% off: x"y'].to_list() == ["a"]


@pytest.mark.service("postgresql")
def test_tables_of_other_schemas_are_qualified(postgresql: World) -> None:
    postgresql.run('create schema "S.1"')
    postgresql.run('create table "S.1"."T.2" (id integer primary key)')
    postgresql.run("create table t (id integer primary key)")
    postgresql.run('insert into "S.1"."T.2" values (7)')
    with postgresql.open(schemas=("public", "S.1")) as connector:
        assert [each.name for each in connector.entities()] == ['"S.1"."T.2"', "t"]
        assert read(connector, '"S.1"."T.2"', "id")["id"].to_list() == [7]


@pytest.mark.service("postgresql")
def test_only_columns_with_the_update_right_are_writable(postgresql: World) -> None:
    role = f"{postgresql.settings()['database']}_r"
    postgresql.run("create table t (id integer primary key, a integer, score double precision, hid text)")
    postgresql.run(f"create role {role} login")
    try:
        postgresql.run(f"grant select (id, a, score), update (score) on t to {role}")
        with postgresql.open(user=role) as connector:
            told = entity(connector, "t")
            assert [each.name for each in told.fields] == ["id", "a", "score"]
            assert [each.name for each in told.fields if each.writable] == ["score"]
            assert told.modes == {Mode.UPDATE}
            assert "SELECT t.hid" in connector.check().missing
    finally:
        postgresql.run(f"drop owned by {role}")
        postgresql.run(f"drop role {role}")


@pytest.mark.service("mariadb")
def test_only_columns_with_the_update_right_are_writable_on_mariadb(mariadb: World) -> None:
    user, place = f"{mariadb.settings()['database'][-20:]}_r", mariadb.settings()["database"]
    mariadb.run(
        "create table t (id integer, part varchar(5), a integer, score double, hid text, primary key (id, part))"
    )
    mariadb.run(f"create user {user}@'%'")
    try:
        mariadb.run(f"grant select (id, a, score), update (score) on {place}.t to {user}@'%'")
        with mariadb.open(user=user) as connector:
            told = entity(connector, "t")
            assert [each.name for each in told.fields if each.writable] == ["score"]
            assert told.key == (), "a key of which a part is hidden is no key"
    finally:
        mariadb.run(f"drop user {user}@'%'")


def test_the_plan_grants_exactly_the_columns(world: World) -> None:
    world.run("create table t (id integer primary key, a integer, b integer, score double precision)")
    grant = Grant({"t": frozenset({"a"})}, {"t": frozenset({"score"})}, {"t": frozenset({Mode.UPDATE})})
    with world.open() as connector:
        plan = connector.plan(grant)
    if world.dialect == "sqlite":
        assert plan == "SQLite has no rights of its own: let the hub's system account write the file, for t."
    else:
        plan = plan.replace("`", '"')
        assert 'GRANT SELECT ("a", "id", "score") ON' in plan
        assert 'GRANT UPDATE ("score") ON' in plan
        assert '"b"' not in plan
        assert "INSERT" not in plan


@pytest.mark.service("mariadb")
def test_what_a_mariadb_type_holds_is_told(mariadb: World) -> None:
    mariadb.run(
        "create table t (id bigint unsigned primary key, flag tinyint(1), bits bit(8), y year, s set('a', 'b'), "
        "e enum('x', 'it''s'), j json, small smallint unsigned, d decimal(65, 30), g varchar(5) as (upper(e)))"
    )
    mariadb.run("insert into t (id, flag, bits, y, s, e, j, small, d) values "
                "(18446744073709551615, 1, b'101', 1999, 'a,b', 'x', '{}', 65535, 1.5)")  # fmt: skip
    with mariadb.open() as connector:
        told = entity(connector, "t").by_name
        found = read(connector, "t", *told).row(0, named=True)
    assert (told["id"].type, told["id"].precision, told["id"].scale) == (FieldType.DECIMAL, 20, 0)
    assert told["flag"].type is FieldType.BOOLEAN
    assert told["e"].values == ("x", "it's")
    assert told["j"].type is FieldType.JSON
    assert not told["s"].writable
    assert not told["g"].writable
    assert (int(found["id"]), found["bits"], found["y"], found["s"], found["small"]) == (
        2**64 - 1,
        5,
        1999,
        "a,b",
        65535,
    )
    assert (found["g"], found["_invalid"]) == ("X", None)
