"""A far side whose columns change under a run: it holds, says what is different, writes no default, and goes on."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hub.audit import Action, legible
from hub.runs import Run, RunKind, RunState, resume
from tests.hub.runs.site import ME, Site, document
from tests.system.drill import Make, settled, until, workers
from tests.system.far_databases import Server, site_on

PEOPLE = 80
pytestmark = pytest.mark.timeout(300)
NOTES = """  connection: far
  entity: NOTE
  key: { PERSON_ID: ID }
  set: { SCORE: score, BAND: band }
"""
BEFORE = document(write=NOTES, mode="upsert")
SQLITE = """
import sqlite3, sys
with sqlite3.connect(sys.argv[1], timeout=30) as connection:
    connection.executescript("begin immediate;" + sys.argv[2] + "commit;")
"""
REBUILT = """create table N (PERSON_ID varchar(8) primary key, SCORE integer, BAND varchar({length}){owner});
insert into N select PERSON_ID, SCORE, BAND{value} from NOTE; drop table NOTE; alter table N rename to NOTE;"""
Alter = Callable[[str], Any]

CHANGES = (
    ("renamed", "far/PERSON.X was real and is gone; did you mean XX?", ('x: "X"', 'x: "XX"')),
    ("dropped", "far/PERSON.Y was real and is gone", ('y: "Y"', 'y: "cast(0 as real)"')),
    ("narrowed", "far/NOTE.BAND was text(8) and is text(3)", ("'High'", "'Top'")),
    (
        "required",
        "far/NOTE.OWNER is required now: a new record needs it, and the mapping does not set it",
        ("set: { SCORE: score, BAND: band }", "set: { SCORE: score, BAND: band, OWNER: \"'hub'\" }"),
    ),
)
SERVER = {
    "renamed": "alter table PERSON rename column X to XX",
    "dropped": "alter table PERSON drop column Y",
    "narrowed": "alter table NOTE alter column BAND type varchar(3) using left(BAND, 3)",
    "required": "alter table NOTE add column OWNER varchar(8) not null default ''",
}


def on_sqlite(site: Site, change: str) -> None:
    statement = SERVER[change] + ";"
    if change == "narrowed":
        statement = REBUILT.format(length=3, owner="", value="")
    if change == "required":
        statement = REBUILT.format(length=3, owner=", OWNER varchar(8) not null", value=", 'old'")
    subprocess.run([sys.executable, "-c", SQLITE, str(site.file), statement], check=True)


def on_postgresql(site: Site, change: str) -> None:
    site.ask(SERVER[change])
    if change == "required":
        site.ask("alter table NOTE alter column OWNER drop default")


def on_mariadb(site: Site, change: str) -> None:
    if change == "narrowed":
        site.ask("update NOTE set BAND = left(BAND, 3)")
        site.ask("alter ignore table NOTE modify BAND varchar(3)")
        return
    site.ask(SERVER[change])
    if change == "required":
        site.ask("alter table NOTE alter column OWNER drop default")


def held(site: Site, run: str) -> Run:
    until(settled(site, run))
    return site.look(run)


def written(site: Site) -> dict[str, Any]:
    return dict(site.ask("select PERSON_ID, SCORE from NOTE"))


def drilled(site: Site, alter: Callable[[Site, str], None]) -> str:
    """A run over which all four changes come, one after the other; the document it ends with."""
    text = BEFORE
    run = site.order()
    with workers(site) as supervisor:
        for change, told, (old, new) in CHANGES:
            seen = len(written(site))
            until(lambda seen=seen: len(written(site)) >= seen + 5)  # type: ignore[misc]
            alter(site, change)
            found = held(site, run)
            assert found.state is RunState.HELD, (change, found)
            assert told in str(found.reason), change
            assert f"then `hub runs resume {run}` goes on" in str(found.reason)
            assert site.events(Action.RUN_HOLD)[0].event.detail["reason"] == legible(str(found.reason)), change
            text = text.replace(old, new)
            site.publish(text)
            resume(site.hub, run, str(ME))
        ended = held(site, run)
        assert ended.counts.balanced
        assert ended.counts.read >= PEOPLE
        # Each change meets at most two pages of one: the one it refused, and one decided under the version before.
        left = {name: count for name, count in ended.counts.by.items() if count and name != "applied"}
        assert left.keys() <= {"rejected", "unknown"}
        assert sum(left.values()) <= 4
        again = held(site, site.order(RunKind.FULL))
        assert again.state is RunState.DONE, again
        assert supervisor.replaced == 0
    return text


@pytest.mark.parametrize(
    "product",
    [
        "sqlite",
        pytest.param("postgresql", marks=pytest.mark.service("postgresql")),
        pytest.param("mariadb", marks=pytest.mark.service("mariadb")),
    ],
)
def test_a_run_whose_columns_change_holds_with_the_difference_and_goes_on_under_a_new_version(
    product: str,
    make_site: Make,
    tmp_path: Path,
    model_home: Path,
    request: pytest.FixtureRequest,
) -> None:
    quiet = make_site(PEOPLE, lease_seconds=60)
    plain = BEFORE.replace('y: "Y"', 'y: "cast(0 as real)"')
    quiet.publish(plain)
    quiet.run()
    given = {"page_rows": 1, "poll_seconds": 0.2, "lease_seconds": 3, "slices": 1}
    if product == "sqlite":
        site = make_site(PEOPLE, **given)
        site.publish(BEFORE)
        drilled(site, on_sqlite)
        assert written(site) == written(quiet)
        return
    server = Server(request.getfixturevalue(f"{product}_url"))
    with site_on(server, tmp_path / "hub", model_home, PEOPLE, **given) as site:
        site.publish(BEFORE)
        drilled(site, on_postgresql if product == "postgresql" else on_mariadb)
        assert written(site) == written(quiet)
        assert {owner for [owner] in site.ask("select distinct OWNER from NOTE")} == {"hub"}
