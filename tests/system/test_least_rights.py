"""A login that holds exactly what the mapping's grant asks for carries the mapping, its undo included."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import URL

from hub.sdk import Secret
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


@contextmanager
def _login(owner: psycopg.Connection, name: str) -> Iterator[None]:
    owner.execute(sql.SQL("create role {} login password 'narrow'").format(sql.Identifier(name)))
    try:
        yield
    finally:
        owner.execute(sql.SQL("drop owned by {}").format(sql.Identifier(name)))
        owner.execute(sql.SQL("drop role {}").format(sql.Identifier(name)))


@pytest.mark.service("postgresql")
@pytest.mark.parametrize("mode", ["update", "upsert"])
def test_exactly_the_rights_of_the_grant_are_enough(tmp_path: Path, postgresql_url: URL, mode: str) -> None:
    plain = postgresql_url.set(drivername="postgresql").render_as_string(hide_password=False)
    name = f"hub_narrow_{uuid.uuid4().hex[:8]}"
    with psycopg.connect(plain, autocommit=True) as owner, _login(owner, name):
        owner.execute(
            """create table "T" (id integer primary key, "X" double precision, secret text, open integer,
                 "S" integer, "AT_" timestamptz);
               create table "VISIT" (no integer primary key, "PATIENT" integer, "KIND" text, secret text);
               create table "LAB" (no integer primary key, "PATIENT" integer, "VALUE_" double precision,
                 "TAKEN" timestamp, secret text);
               create table "SCORE" ("PATIENT" integer primary key, "S" integer, note text);
               insert into "T" select n, n, 's', 1 from generate_series(1, 5) n;
               insert into "VISIT" select n, n, 'ward', 's' from generate_series(1, 5) n;
               insert into "LAB" select n, n, 1, '2026-01-01', 's' from generate_series(1, 5) n"""
        )
        small = Small(tmp_path, ())
        far = {"dialect": "postgresql", "host": postgresql_url.host, "port": postgresql_url.port, "tls": "off"}
        far |= {"database": postgresql_url.database}
        user = {"user": postgresql_url.username}
        password = {"password": Secret(postgresql_url.password)} if postgresql_url.password else {}
        small.hub.connections.create("far", "sql", {**far, **user}, password, small.me)
        small.model()
        write = _WRITES[mode] + _LOOKUPS
        small.publish(read=', where: "open = 1", leaves: clear', features=_FEATURES, write=write)
        compiled = small.hub.mappings.compile_published(small.hub.mappings.get("m"))
        with small.hub.connections.open("far", compiled.grants["far"]) as connection:
            grants = connection.plan().replace(f'TO "{user["user"]}"', f'TO "{name}"')
        small.hub.connections.remove("far", small.me)
        for each in grants.splitlines():
            owner.execute(each.encode())
        assert "secret" not in grants
        small.hub.connections.create("far", "sql", {**far, "user": name}, {"password": Secret("narrow")}, small.me)

        run = small.run()
        assert (run.state.value, run.counts["applied"]) == ("done", 5), run.reason
        owner.execute('update "T" set open = 0 where id = 1')
        left = small.run()
        assert (left.state.value, left.counts["applied"]) == ("done", 1), left.reason
        undone = small.undo(run)
        assert undone.state.value == "done", undone.reason
        held = "T" if mode == "update" else "SCORE"
        assert owner.execute(sql.SQL('select count("S") from {}').format(sql.Identifier(held))).fetchall() == [(0,)]
