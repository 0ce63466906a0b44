"""A worker dies at every named point, another one finishes: as if nothing had been."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import URL

from hub.audit import Action
from hub.runs import RunState, open_installation
from hub.runs.pages.faults import POINTS
from hub.settings import load_settings
from tests.hub.runs.far_side import FarSide
from tests.hub.runs.site import ME, Site
from tests.system.conftest import register
from tests.system.drill import DIED, carry_until_fault

Make = Callable[..., Site]
PAGES = {"before read", "after read", "before score", "after score"} | {
    f"{when} {what}" for when in ("before", "after") for what in ("first commit", "write", "second commit")
}


def assert_as_if_quiet(site: Site, quiet: dict[str, Any], run: str) -> None:
    ended = site.look(run)
    assert (ended.state, dict(ended.counts.by)) == (RunState.DONE, {"applied": len(quiet)})
    assert site.scores() == quiet
    assert site.writes() == len(quiet)
    assert site.decisions() == len(quiet)  # one decision for each input: nothing was scored twice between the commits
    intents = Counter(each.event.digest for each in site.events(Action.WRITE_INTENT))
    outcomes = Counter(each.event.digest for each in site.events(Action.WRITE_OUTCOME))
    assert intents == outcomes
    assert set(intents.values()) == {1}
    assert site.hub.audit.verify().ok
    assert dict(site.run().counts.by) == {"skipped": len(quiet)}
    assert site.writes() == len(quiet)


@pytest.mark.parametrize("point", POINTS)
def test_whoever_finds_the_work_of_a_dead_worker_finishes_it(point: str, make_site: Make, quiet: Site) -> None:
    site = make_site(12, page_rows=5)
    run = site.order()
    assert carry_until_fault(site, f"exit:{point}*{2 if point in PAGES else 1}") == DIED
    site.carry(run)
    assert_as_if_quiet(site, quiet.scores(), run)


@pytest.mark.service("postgresql", "redis")
def test_so_it_is_on_postgresql_and_redis(
    postgresql_url: URL, redis_url: str, tmp_path: Path, far_side: FarSide, make_site: Make, quiet: Site
) -> None:
    home, url = tmp_path / "pg", postgresql_url.render_as_string(hide_password=False)
    register(home, url)
    settings = load_settings(
        home=home, database_url=url, broker_url=redis_url, lease_seconds=5, page_rows=5, log_level="error"
    )
    with open_installation(settings) as hub:
        site = Site(hub, tmp_path / "pg.db", far_side)
        site.ask("tables")
        site.fill(12)
        hub.connections.create("far", "sql", {"dialect": "sqlite", "path": str(site.file)}, {}, ME)
        site.publish()
        run = site.order()
        for point in ("after first commit", "before second commit*2", "after second commit", "before end"):
            assert carry_until_fault(site, f"exit:{point}") == DIED
        site.carry(run)
        assert_as_if_quiet(site, quiet.scores(), run)
    shutil.rmtree(home)
