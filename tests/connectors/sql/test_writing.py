"""Writing: conditions, refusals, rounding, contention and side tables, each looked at by a plain driver."""

from __future__ import annotations

import gc
from datetime import datetime
from decimal import Decimal
from threading import Thread

import polars as pl
import pytest
import sqlalchemy as sa

from connectors.sql.mariadb import _Document
from hub.sdk import Field, FieldType, Grant, Mode, RejectedError, UnavailableError, UnexpectedError
from tests.connectors.sql.conftest import World, changes, entity, read, write

_PLPGSQL = """
create function no() returns trigger language plpgsql as $$ begin
if new.score > 5 then raise exception 'secret reason'; end if; return new; end $$
"""


def _scores(world: World, rows: int = 10, more: str = "") -> None:
    world.run(f"create table t (id integer primary key, score double precision, band varchar(5){more})")
    world.many("insert into t (id, score, band) values (%s, %s, %s)", [(n, 0.0, "old") for n in range(rows)])


def test_one_poison_row_of_ten_thousand_is_rejected_alone(world: World) -> None:
    _scores(world, 10_000, ", check (score <> 13)")
    with world.open() as connector:
        batch = changes(entity(connector, "t"), [{"id": n, "score": 13.0 if n == 7777 else 1.5} for n in range(10_000)])
        states = [row["state"] for row in write(connector, batch)]
    assert states[7777] == "rejected"
    assert states.count("applied") == 9_999
    assert world.run("select count(*) from t where score = 1.5") == [(9_999,)]
    assert world.run("select score from t where id = 7777") == [(0.0,)]


def test_a_row_refused_by_a_trigger_is_rejected_with_a_reason(world: World) -> None:
    _scores(world)
    when = "create trigger no before update on t for each row"
    for statement in {
        "sqlite": [f"{when} when new.score > 5 begin select raise(abort, 'secret reason'); end"],
        "mariadb": [f"{when} if new.score > 5 then signal sqlstate '45000' set message_text = 'secret reason'; end if"],
        "postgresql": [
            _PLPGSQL,
            f"{when} execute function no()",
        ],
    }[world.dialect]:
        world.run(statement)
    with world.open() as connector:
        rows = write(connector, changes(entity(connector, "t"), [{"id": n, "score": float(n)} for n in range(3, 8)]))
    assert [row["state"] for row in rows] == ["applied"] * 3 + ["rejected"] * 2
    assert "trigger" in rows[4]["reason"]
    assert "secret" not in rows[4]["reason"]


def test_what_was_written_is_let_go_without_the_garbage_collector(world: World) -> None:
    _scores(world, 3_000)
    with world.open() as connector:
        told = entity(connector, "t")
        write(connector, changes(told, [{"id": 1, "score": 1.0}]))
        gc.collect()
        gc.disable()
        try:
            rows = write(connector, changes(told, [{"id": n, "score": 2.0} for n in range(3_000)]))
            kept = [type(each) for each in gc.get_objects() if _holds(each, 3_000)]
        finally:
            gc.enable()
    assert {row["state"] for row in rows} == {"applied"}
    assert kept == []


def _holds(each: object, rows: int) -> bool:
    return isinstance(each, _Document) or (isinstance(each, pl.Series | pl.DataFrame) and len(each) >= rows)


@pytest.mark.service("postgresql")
def test_rows_are_not_sent_after_their_transaction(postgresql: World) -> None:
    with postgresql.open() as connector:
        client = connector._client
        with client.transaction():
            rows = sa.select(client.rowset(pl.DataFrame({"n": [1, 2]}), {}))
            assert client.rows(rows)["n"].to_list() == [1, 2]
        with pytest.raises(RuntimeError, match="after the transaction"):
            client.rows(rows)


def test_what_would_be_cut_is_rejected_before_it_is_sent(world: World) -> None:
    _scores(world)
    with world.open() as connector:
        rows = write(
            connector, changes(entity(connector, "t"), [{"id": 1, "band": "fünf5"}, {"id": 2, "band": "sechs6"}])
        )
    assert [(row["state"], row["field"]) for row in rows] == [("applied", None), ("rejected", "band")]
    assert world.run("select band from t where id in (1, 2) order by id") == [("fünf5",), ("old",)]


def test_the_same_key_twice_follows_the_order_of_the_changes(world: World) -> None:
    _scores(world)
    with world.open() as connector:
        told = entity(connector, "t")
        rows = write(
            connector, changes(told, [{"id": 1, "score": 1.0}, {"id": 2, "score": 5.0}, {"id": 1, "score": 2.0}])
        )
        assert [row["state"] for row in rows] == ["applied"] * 3
        before = {"score": 2.0}
        batch = changes(told, [{"id": 1, "score": 3.0}, {"id": 1, "score": 4.0}], before=[before, before])
        assert [row["state"] for row in write(connector, batch)] == ["applied", "conflict"]
    assert world.run("select score from t where id in (1, 2) order by id") == [(3.0,), (5.0,)]


def test_the_version_is_the_text_of_the_one_stamp(world: World) -> None:
    _scores(world, more=", moved integer default 1")
    with world.open(changed_by={"t": ("moved",)}) as connector:
        told = entity(connector, "t")
        assert read(connector, "t", "score")["_version"].to_list() == ["1"] * 10
        world.run("update t set moved = 2 where id = 1")
        rows = write(connector, changes(told, [{"id": 0, "score": 9.0}, {"id": 1, "score": 9.0}], version="1"))
        assert [(row["state"], row["version"]) for row in rows] == [("applied", "1"), ("conflict", None)]
    with world.open() as connector:
        assert read(connector, "t", "score")["_version"].null_count() == 10


def test_a_new_record_keeps_the_defaults_of_what_is_left_out(world: World) -> None:
    _scores(world, more=", rank_ integer default 7 not null")
    with world.open() as connector:
        batch = changes(
            entity(connector, "t"),
            [{"id": 50, "score": 1.0, "rank_": None}, {"id": 51, "score": None, "rank_": 3}],
            mode=Mode.CREATE,
        )
        assert [row["state"] for row in write(connector, batch)] == ["applied"] * 2
    assert world.run("select id, score, rank_ from t where id >= 50 order by id") == [(50, 1.0, 7), (51, None, 3)]


def test_a_new_record_that_takes_a_unique_value_is_rejected_alone(world: World) -> None:
    _scores(world, more=", code varchar(9) unique")
    world.run("update t set code = 'taken' where id = 3")
    with world.open() as connector:
        rows = [{"id": n, "code": "taken" if n == 51 else f"c{n}"} for n in range(50, 54)]
        found = write(connector, changes(entity(connector, "t"), rows, mode=Mode.UPSERT))
    assert [row["state"] for row in found] == ["applied", "rejected", "applied", "applied"]
    assert "unique" in found[1]["reason"]
    assert world.run("select count(*) from t") == [(13,)]


@pytest.mark.parametrize(
    ("name", "real", "clock"),
    [
        pytest.param("postgresql", "real", "timestamp(0)", marks=pytest.mark.service("postgresql")),
        pytest.param("mariadb", "float", "datetime", marks=pytest.mark.service("mariadb")),
    ],
)
def test_narrow_reals_and_coarse_clocks_are_compared_as_they_are_stored(
    name: str, real: str, clock: str, request: pytest.FixtureRequest
) -> None:
    world: World = request.getfixturevalue(name)
    world.run(f"create table t (id integer primary key, r {real}, at {clock} null)")
    world.run("insert into t (id) values (1)")
    row = {"id": 1, "r": 0.7, "at": datetime(2024, 1, 1, 12, 0, 0, 999_999)}
    with world.open() as connector:
        told = entity(connector, "t")
        assert [each["state"] for each in write(connector, changes(told, [row]))] == ["applied"]
        again = changes(told, [row], before=[{"r": None, "at": None}])
        assert [each["state"] for each in write(connector, again)] == ["applied"], "the repeat met its own values"
        found = read(connector, "t", "r", "at").row(0, named=True)
        onward = changes(told, [{"id": 1, "r": 0.8}], before=[{"r": found["r"]}])
        assert [each["state"] for each in write(connector, onward)] == ["applied"]
    assert world.run("select at from t") == [(datetime(2024, 1, 1, 12),)]


@pytest.mark.service("mariadb")
def test_a_lax_server_truncates_nothing(mariadb: World) -> None:
    mariadb.run(
        "create table t (id integer primary key, small tinyint, cp varchar(9) character set latin1, d decimal(4,1))"
    )
    mariadb.run("insert into t values (1, 0, '', 0), (2, 0, '', 0), (3, 0, '', 0), (4, 0, '', 0)")
    mariadb.run("set global sql_mode = ''")
    try:
        with mariadb.open() as connector:
            told = entity(connector, "t")
            rows = [
                {"id": 1, "small": 128},
                {"id": 2, "cp": "日本"},
                {"id": 3, "cp": "™é"},
                {"id": 4, "d": Decimal("99.9")},
            ]
            found = write(connector, changes(told, rows))
    finally:
        mariadb.run("set global sql_mode = default")
    assert [(row["state"], row["field"]) for row in found] == [
        ("rejected", "small"), ("rejected", "cp"), ("applied", None), ("applied", None),
    ]  # fmt: skip
    assert mariadb.run("select cp from t where id in (2, 3) order by id") == [("",), ("™é",)]


@pytest.mark.service("mariadb")
def test_a_key_that_differs_by_case_only_is_another_record(mariadb: World) -> None:
    mariadb.run("create table t (k varchar(9) character set latin1 primary key, score double)")
    mariadb.run("insert into t values ('Abc', 0)")
    with mariadb.open() as connector:
        rows = [{"k": "abc", "score": 1.0}, {"k": "Abc", "score": 2.0}, {"k": "日", "score": 3.0}]
        found = write(connector, changes(entity(connector, "t"), rows))
    assert [row["state"] for row in found] == ["rejected", "applied", "rejected"]
    assert mariadb.run("select k, score from t") == [("Abc", 2.0)]


@pytest.mark.service("postgresql")
def test_a_rule_looked_at_when_the_transaction_ends_rejects_one_row(postgresql: World) -> None:
    postgresql.run("create table bands (name varchar(5) primary key)")
    postgresql.run("insert into bands values ('old'), ('new')")
    _scores(postgresql, more=", foreign key (band) references bands (name) deferrable initially deferred")
    with postgresql.open() as connector:
        rows = [{"id": n, "band": "none" if n == 2 else "new"} for n in range(5)]
        found = write(connector, changes(entity(connector, "t"), rows))
    assert [row["state"] for row in found] == ["applied", "applied", "rejected", "applied", "applied"]


@pytest.mark.service("postgresql")
def test_a_lock_held_by_another_is_waited_for_and_then_unavailable(postgresql: World) -> None:
    _scores(postgresql)
    with postgresql.open(lock_seconds=1) as connector, postgresql.connection.transaction():  # type: ignore[attr-defined]
        told = entity(connector, "t")
        postgresql.run("update t set score = 5 where id = 1")
        connector._client.context.deadline = connector._client.context.clock.monotonic() + 2.0
        with pytest.raises(UnavailableError):
            write(connector, changes(told, [{"id": 1, "score": 1.0}]))
    with postgresql.open() as connector:
        assert write(connector, changes(told, [{"id": 1, "score": 1.0}]))[0]["state"] == "applied"


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.service(n)) for n in ("postgresql", "mariadb")])
def test_two_writers_of_the_same_records_both_end_with_answers(name: str, request: pytest.FixtureRequest) -> None:
    world: World = request.getfixturevalue(name)
    _scores(world, 300)
    answers: dict[int, list[str]] = {}

    def run(writer: int) -> None:
        ids = list(range(300)) if writer else list(reversed(range(300)))
        with world.open() as connector:
            told = entity(connector, "t")
            for turn in range(5):
                batch = changes(told, [{"id": n, "score": float(10 * turn + writer + 1)} for n in ids])
                answers.setdefault(writer, []).extend(row["state"] for row in write(connector, batch))

    threads = [Thread(target=run, args=(writer,)) for writer in range(2)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert {writer: len(states) for writer, states in answers.items()} == {0: 1500, 1: 1500}
    assert set(answers[0] + answers[1]) <= {"applied", "conflict"}


def test_a_key_that_is_too_long_changes_no_other_record(world: World) -> None:
    world.run("create table t (k varchar(4) primary key, score double precision)")
    world.run("insert into t values ('abcd', 0)")
    with world.open() as connector:
        told = entity(connector, "t")
        rows = write(connector, changes(told, [{"k": "abcdef", "score": 1.0}, {"k": "abcd", "score": 2.0}]))
    assert [row["state"] for row in rows] == ["rejected", "applied"]
    assert world.run("select k, score from t") == [("abcd", 2.0)]


SCORE = (Field("score", FieldType.REAL, writable=True), Field("band", FieldType.TEXT, writable=True, length=8))


def _side(world: World) -> None:
    world.run('create table "Pat" (nr integer, site varchar(4), age integer, primary key (nr, site))')
    world.many('insert into "Pat" values (%s, %s, %s)', [(n, "x", n) for n in range(5)])


def test_a_side_table_takes_the_scores_and_the_source_is_not_altered(world: World) -> None:
    _side(world)
    with world.open(provision=True, side_tables={"Pat": "Pat_scores"}) as connector:
        assert not entity(connector, "Pat").modes
        provisioner = connector.provisioner()
        assert provisioner is not None
        provisioner.provision("Pat", SCORE)
        provisioner.provision("Pat", SCORE)
        provisioner.provision("Pat", (*SCORE, Field("at", FieldType.INSTANT, writable=True)))
        assert [each.name for each in connector.entities()] == ["Pat"]
        told = entity(connector, "Pat")
        assert [each.name for each in told.fields if each.writable] == ["score", "band", "at"]
        assert told.modes == {Mode.UPDATE}
        rows = [{"nr": n, "site": "x", "score": n / 2, "band": "b"} for n in (1, 3, 9)]
        none = {"score": None, "band": None}
        states = [row["state"] for row in write(connector, changes(told, rows, before=[none] * 3))]
        assert states == ["applied", "applied", "rejected"]
        moved = changes(told, [{**row, "score": 7.0} for row in rows[:2]], before=[{"score": 0.5, "band": "b"}, none])
        assert [row["state"] for row in write(connector, moved)] == ["applied", "conflict"]
        found = read(connector, "Pat", "nr", "age", "score", rows=2)
        assert found.select("nr", "age", "score").rows() == [
            (0, 0, None),
            (1, 1, 7.0),
            (2, 2, None),
            (3, 3, 1.5),
            (4, 4, None),
        ]
        plan = connector.plan(Grant({"Pat": frozenset({"age"})}, {"Pat": frozenset({"score"})}))
        assert world.dialect == "sqlite" or "Pat_scores" in plan
    assert world.run('select nr, site, score, band from "Pat_scores" where score is not null order by nr') == [
        (1, "x", 7.0, "b"), (3, "x", 1.5, "b"),
    ]  # fmt: skip
    assert len(world.run('select * from "Pat" where nr = 0')[0]) == 3


def test_provisioning_refuses_a_field_that_stands_with_another_type(world: World) -> None:
    _scores(world)
    with world.open(provision=True) as connector:
        provisioner = connector.provisioner()
        assert provisioner is not None
        for wrong in (Field("score", FieldType.TEXT), Field("band", FieldType.TEXT, length=40)):
            with pytest.raises(RejectedError, match=rf"t\.{wrong.name} stands with type"):
                provisioner.provision("t", [Field("fresh", FieldType.REAL), wrong])
        assert "fresh" not in entity(connector, "t").by_name, "nothing is made when one field cannot be"


def test_a_read_only_connection_has_no_destination(world: World) -> None:
    _scores(world)
    with world.open(read_only=True) as connector:
        assert connector.destination() is None
        assert connector.provisioner() is None
        assert not entity(connector, "t").modes
        assert read(connector, "t", "score").height == 10


def test_a_field_that_may_not_be_written_is_refused_before_anything_is_sent(world: World) -> None:
    _scores(world)
    with world.open() as connector:
        told = entity(connector, "t")
        frame = changes(told, [{"id": 1, "score": 1.0}])
        wrong = type(frame)("t", Mode.UPDATE, ("id",), frame.frame.with_columns(id=pl.lit(5)))
        with pytest.raises(UnexpectedError, match=r"t\.id is not writable"):
            write(connector, wrong)


@pytest.mark.service("postgresql")
def test_no_temp_right_is_needed(postgresql: World) -> None:
    role = f"{postgresql.settings()['database']}_w"
    _scores(postgresql)
    postgresql.run(f"create role {role} login")
    postgresql.run(f"revoke temp on database {postgresql.settings()['database']} from public")
    try:
        postgresql.run(f"grant select, update (score) on t to {role}")
        with postgresql.open(user=role) as connector:
            rows = write(connector, changes(entity(connector, "t"), [{"id": 1, "score": 4.0}], before=[{"score": 0.0}]))
        assert rows[0]["state"] == "applied"
    finally:
        postgresql.run(f"drop owned by {role}")
        postgresql.run(f"drop role {role}")


@pytest.mark.parametrize("rule", ["check (locked_by <> 'eve')", "trigger"])
def test_a_rule_that_speaks_of_locks_is_a_refusal_and_no_wait(sqlite: World, rule: str) -> None:
    sqlite.run(f"create table t (id integer primary key, locked_by text {rule if rule != 'trigger' else ''})")
    if rule == "trigger":
        body = "begin select raise(abort, 'record locked, busy'); end"
        sqlite.run(f"create trigger no before update on t when new.locked_by = 'eve' {body}")
    sqlite.run("insert into t values (1, 'anna'), (2, 'anna')")
    with sqlite.open() as connector:
        batch = changes(entity(connector, "t"), [{"id": 1, "locked_by": "eve"}, {"id": 2, "locked_by": "bob"}])
        assert [row["state"] for row in write(connector, batch)] == ["rejected", "applied"]
    assert sqlite.run("select locked_by from t order by id") == [("anna",), ("bob",)]
