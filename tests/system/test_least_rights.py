"""A login that holds exactly what `plan` prints carries the mapping, undo included; `verify` names all that differs."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import URL

from hub.sdk import Grant, RightsReport, Secret
from tests.conftest import MARIADB
from tests.connectors.sql.far_sides import mariadb
from tests.system.small import Small

_FEATURES = '{ x: "X + coalesce(visit.n, 0) * 0 + coalesce(lab.VALUE_, 0) * 0" }'
_LOOKUPS = """
lookups:
  visit:
    entity: VISIT
    match: { PATIENT: id }
    where: "KIND = 'ward'"
    aggregate: { n: "count(*)" }
    missing: null
  lab:
    entity: LAB
    match: { PATIENT: id }
    take: first
    order: TAKEN
    missing: null
"""
_WRITES = {
    "update": "{ mode: update, set: { S: score }, with: { AT_: scored_at } }",
    "upsert": "{ connection: far, entity: SCORE, mode: upsert, key: { PATIENT: id }, set: { S: score } }",
}
_TABLES = """
create table "T" (id integer primary key, "X" double precision, secret varchar(9), open integer,
  "S" integer, "AT_" {moment});
create table "VISIT" (no integer primary key, "PATIENT" integer, "KIND" varchar(9), secret varchar(9));
create table "LAB" (no integer primary key, "PATIENT" integer, "VALUE_" double precision, "TAKEN" {moment},
  secret varchar(9));
create table "SCORE" ({counted}"PATIENT" integer, "S" integer, note varchar(9), {key});
create table "OTHER" (id integer primary key, salary integer)
"""
_KINDS = {
    "postgresql": {"moment": "timestamp", "counted": "no serial primary key, ", "key": 'unique ("PATIENT")'},
    "mariadb": {"moment": "datetime(6)", "counted": "", "key": 'primary key ("PATIENT")'},
}


class Far:
    """A database of its own, its administrator, and a login that nobody has given any right."""

    def __init__(self, dialect: str, settings: dict[str, Any], password: Secret | None, admin: Any) -> None:
        self.dialect, self.settings, self.password, self._admin = dialect, settings, password, admin
        self.login = f"hub_narrow_{uuid.uuid4().hex[:8]}"
        for each in _TABLES.format(**_KINDS[dialect]).split(";"):
            self.run(each)
        for n in range(1, 6):
            self.run(f"""insert into "T" values ({n}, {n}, 's', 1, null, null)""")
            self.run(f"""insert into "VISIT" values ({n}, {n}, 'ward', 's')""")
            self.run(f"""insert into "LAB" values ({n}, {n}, 1, '2026-01-01', 's')""")

    def run(self, statement: str) -> list[tuple[Any, ...]]:
        """One statement as the administrator, word for word."""
        found = self._admin.execute(statement if self.dialect == "mariadb" else statement.encode())
        cursor = self._admin if self.dialect == "mariadb" else found
        return list(cursor.fetchall()) if cursor.description else []


@contextmanager
def _postgresql(url: URL) -> Iterator[Far]:
    plain = url.set(drivername="postgresql").render_as_string(hide_password=False)
    settings = {"host": url.host, "port": url.port, "database": url.database, "user": url.username}
    with psycopg.connect(plain, autocommit=True) as admin:
        far = Far("postgresql", settings, Secret(url.password) if url.password else None, admin)
        name = sql.Identifier(far.login)
        admin.execute(sql.SQL("create role {} login password 'narrow'").format(name))
        # Where nothing is everybody's, the printed statements have to say it all.
        admin.execute(sql.SQL("revoke all on database {} from public").format(sql.Identifier(str(url.database))))
        admin.execute("revoke all on schema public from public")
        try:
            yield far
        finally:
            admin.execute(sql.SQL("drop owned by {}").format(name))
            admin.execute(sql.SQL("drop role {}").format(name))


@contextmanager
def _mariadb() -> Iterator[Far]:
    database = f"hub_least_{uuid.uuid4().hex[:8]}"
    settings = {"host": str(MARIADB.host), "port": int(MARIADB.port or 3306), "database": database}
    with mariadb() as admin:
        admin.execute(f"create database {database}")
        admin.execute(f"use {database}")
        admin.execute("set sql_mode = concat(@@sql_mode, ',ANSI_QUOTES')")
        settings |= {"user": str(MARIADB.username)}
        far = Far("mariadb", settings, Secret(MARIADB.password) if MARIADB.password else None, admin)
        admin.execute(f"create user {far.login}@'%' identified by 'narrow'")
        try:
            yield far
        finally:
            admin.execute(f"drop user {far.login}@'%'")
            admin.execute(f"drop database {database}")


@pytest.fixture(
    params=[
        pytest.param("postgresql", marks=pytest.mark.service("postgresql")),
        pytest.param("mariadb", marks=pytest.mark.service("mariadb")),
    ]
)
def far(request: pytest.FixtureRequest) -> Iterator[Far]:
    """The far side in each product."""
    made = _mariadb() if request.param == "mariadb" else _postgresql(request.getfixturevalue("postgresql_url"))
    with made as found:
        yield found


class Narrow:
    """A hub whose mapping was published with an administrator's login, and that goes on with the narrow one."""

    def __init__(self, folder: Path, far: Far, mode: str) -> None:
        self.small = Small(folder, ())
        self.far = far
        # In PostgreSQL the key of SCORE is not its primary one, which a sequence fills.
        settings = {
            "dialect": far.dialect,
            "tls": "off",
            "private": True,
            "keys": {"SCORE": ["PATIENT"]} if mode == "upsert" else {},
            **far.settings,
        }
        secrets = {"password": far.password} if far.password else {}
        connections = self.small.hub.connections
        connections.create("far", "sql", settings, secrets, self.small.me)
        self.small.model()
        write = _WRITES[mode] + _LOOKUPS
        self.small.publish(read=', where: "open = 1", leaves: clear', features=_FEATURES, write=write)
        self.grant: Grant = self.small.hub.mappings.compile_published(self.small.hub.mappings.get("m")).grants["far"]
        with connections.open("far", self.grant) as opened:
            self.plan = opened.plan(far.login)
        connections.remove("far", self.small.me)
        for each in self.plan.splitlines():
            far.run(each)
        narrow = {"password": Secret("narrow")}
        connections.create("far", "sql", {**settings, "user": far.login}, narrow, self.small.me)

    def verify(self) -> RightsReport:
        """What the narrow login holds now."""
        with self.small.hub.connections.open("far", self.grant) as opened:
            return opened.verify()


@pytest.mark.parametrize("mode", ["update", "upsert"])
def test_what_plan_prints_is_exactly_enough(tmp_path: Path, far: Far, mode: str) -> None:
    narrow = Narrow(tmp_path, far, mode)
    small = narrow.small
    assert "secret" not in narrow.plan
    assert "TEMP" not in narrow.plan
    report = narrow.verify()
    assert (report.missing, report.excess, report.untold) == ((), (), ())

    run = small.run()
    assert (run.state.value, run.counts["applied"]) == ("done", 5), run.reason
    far.run('update "T" set open = 0 where id = 1')
    left = small.run()
    assert (left.state.value, left.counts["applied"]) == ("done", 1), left.reason
    undone = small.undo(run)
    assert undone.state.value == "done", undone.reason
    held = "T" if mode == "update" else "SCORE"
    assert far.run(f'select count("S") from "{held}"') == [(0,)]


def test_each_right_of_the_plan_is_missed_when_it_is_taken(tmp_path: Path, far: Far) -> None:
    narrow = Narrow(tmp_path, far, "upsert")
    taken = 0
    for statement in narrow.plan.splitlines():
        if " ON SEQUENCE " in statement or " ON DATABASE " in statement:
            continue
        far.run(statement.replace("GRANT ", "REVOKE ", 1).replace(" TO ", " FROM ", 1))
        found = narrow.verify().missing
        right = statement.split()[1]
        assert any(each.startswith(right) or right == "USAGE" for each in found), (statement, found)
        far.run(statement)
        assert narrow.verify().missing == ()
        taken += 1
    assert taken >= 5


WIDER = {
    "postgresql": (
        ('grant delete on "T" to {0}', "DELETE on public.T"),
        ('grant update on "T" to {0}', "UPDATE on public.T, the whole table"),
        ('grant select ("secret") on "T" to {0}', "SELECT (secret) on public.T"),
        ('grant select on "OTHER" to {0}', "SELECT on public.OTHER"),
        ("grant create on schema public to {0}", "CREATE on schema public"),
        ("grant pg_read_all_settings to {0}", "member of pg_read_all_settings"),
        ("alter role {0} createrole", "CREATEROLE"),
        ('alter table "OTHER" owner to {0}', "owner of public.OTHER"),
        ("alter role {0} superuser", "SUPERUSER"),
    ),
    "mariadb": (
        ('grant delete on "T" to {0}', "DELETE on {1}.T"),
        ('grant update on "T" to {0}', "UPDATE on {1}.T, the whole table"),
        ('grant select ("secret") on "T" to {0}', "SELECT (secret) on {1}.T"),
        ('grant select on "OTHER" to {0}', "SELECT on {1}.OTHER"),
        ("grant create on {1}.* to {0}", "CREATE on {1}.*"),
        ("grant process on *.* to {0}", "PROCESS on *.*"),
        ("grant all on *.* to {0} with grant option", "GRANT OPTION on *.*"),
    ),
}


def test_whatever_is_held_beyond_the_plan_is_named(tmp_path: Path, far: Far) -> None:
    narrow = Narrow(tmp_path, far, "update")
    place = far.settings["database"]
    for statement, expected in WIDER[far.dialect]:
        who = f"{far.login}@'%'" if far.dialect == "mariadb" else far.login
        far.run(statement.format(who, place))
        report = narrow.verify()
        assert expected.format(who, place) in report.excess, (statement, report.excess)
        assert report.missing == ()
        assert "IDENTIFIED" not in str(report)


@pytest.mark.service("mariadb")
def test_a_role_that_may_be_taken_on_is_beyond_the_plan(tmp_path: Path) -> None:
    with _mariadb() as far:
        narrow, role = Narrow(tmp_path, far, "update"), f"{far.login}_role"
        far.run(f"create role {role}")
        try:
            far.run(f"grant {role} to {far.login}@'%'")
            assert narrow.verify().excess == (f"role {role}, which it may take on",)
        finally:
            far.run(f"drop role {role}")


def test_a_login_without_any_right_is_told_as_such(tmp_path: Path, far: Far) -> None:
    narrow = Narrow(tmp_path, far, "update")
    for statement in narrow.plan.splitlines():
        if " ON DATABASE " not in statement:
            far.run(statement.replace("GRANT ", "REVOKE ", 1).replace(" TO ", " FROM ", 1))
    if far.dialect == "mariadb":  # which lets nobody into a database that holds no right in it
        far.run(f"grant select (id) on \"OTHER\" to {far.login}@'%'")
    report = narrow.verify()
    assert {each.split(" ")[0] for each in report.missing} == {"SELECT", "UPDATE"}
