"""Installations with one model and a far side of their own, copied from one that is made once per session."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hub.database import Database
from hub.logs import configure
from hub.migrations import upgrade
from hub.runs import open_installation
from hub.settings import load_settings
from tests.hub.runs import telling
from tests.hub.runs.far_side import FarSide
from tests.hub.runs.site import ME, Site


@pytest.fixture(scope="session")
def far_side() -> Iterator[FarSide]:
    """The process that looks into far sides."""
    made = FarSide()
    yield made
    made.close()


@pytest.fixture(scope="session")
def model_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A hub with the model `risk`: version 1 is the champion, 2 is the opposite, 3 belongs to the pool gpu."""
    home = tmp_path_factory.mktemp("model")
    register(home, f"sqlite:///{home / 'hub.db'}")
    return home


def register(home: Path, url: str) -> None:
    """Registers the models of the tests in a hub of its own."""
    import polars as pl
    from sklearn.linear_model import LogisticRegression

    rows = pl.DataFrame({"x": [float(each) for each in range(100)], "y": [float(each % 7) for each in range(100)]})
    truth = [int(each >= 50) for each in range(100)]
    plain = LogisticRegression(C=0.0005, random_state=0).fit(rows.to_pandas(), truth)
    other = LogisticRegression(C=0.0005, random_state=0).fit(rows.to_pandas(), [1 - each for each in truth])
    database = Database(url)
    upgrade(database)
    with open_installation(load_settings(home=home, database_url=url, log_level="error"), database) as hub:
        for model, more in ((plain, {"alias": "champion"}), (other, {}), (plain, {"pool": "gpu", "note": "heavy"})):
            hub.registry.register("risk", model, rows, owner="anna", positive=1, actor=str(ME), **more)


@pytest.fixture
def lease_seconds() -> float:
    """Of installations that are told nothing else: so long that a machine which stands still for a moment ends none."""
    return 60


@pytest.fixture
def make_site(
    model_home: Path, tmp_path: Path, far_side: FarSide, lease_seconds: float, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Site]]:
    """Makes installations with the settings given, `records` in their far side and the mapping published.

    `home` is a copy of an installation that was made already. Their source is one slice unless told otherwise, so that
    a test can say what its pages are.
    """
    made: list[Site] = []

    def make(
        records: int = 20,
        *,
        parts: dict[str, str] | None = None,
        slices: int = 1,
        connector: str = "sql",
        **settings: Any,
    ) -> Site:
        home = settings.pop("home", None) or shutil.copytree(model_home, tmp_path / f"hub{len(made)}")
        given = {"lease_seconds": lease_seconds, "poll_seconds": 0.5, "page_rows": 8, "log_level": "error"}
        configured = load_settings(home=home, **{**given, "slices": slices, **settings})
        configure(configured, process="test")
        if connector == "telling":
            telling.install(tmp_path, monkeypatch)
        hub = open_installation(configured)
        site = Site(hub, tmp_path / f"far{len(made)}.db", far_side)
        made.append(site)
        site.ask("tables")
        site.fill(records)
        for statement in telling.TABLES if connector == "telling" else ():
            site.ask(statement)
        config = {"dialect": "sqlite", "path": str(site.file), "changed_by": {"PERSON": ["STAMP"]}, "late_seconds": 0}
        hub.connections.create("far", connector, config, {}, ME)
        site.publish(**(parts or {}))
        return site

    yield make
    for site in made:
        site.hub.close()


@pytest.fixture
def site(make_site: Callable[..., Site]) -> Site:
    """Twenty persons in pages of eight."""
    return make_site()
