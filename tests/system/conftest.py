"""Installations of the tests' own on either backend, for real worker processes to work on."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import URL

from tests.conftest import POSTGRESQL, REDIS, _own_database
from tests.hub.runs.conftest import far_side, make_site, model_home, register, site
from tests.hub.runs.site import Site

__all__ = ["far_side", "make_site", "model_home", "register", "site"]


@pytest.fixture(scope="session")
def model_home_on_postgresql(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, URL]]:
    """As `model_home`, with the hub's state in PostgreSQL: copied with `create database … template`."""
    home = tmp_path_factory.mktemp("model_pg")
    for url in _own_database(POSTGRESQL, 'drop database "{}" with (force)'):
        register(home, url.render_as_string(hide_password=False))
        yield home, url


@pytest.fixture
def lease_seconds() -> float:
    """Short: workers die here, and what they held is taken up when it ends."""
    return 5


@pytest.fixture
def make_distributed_site(
    request: pytest.FixtureRequest, make_site: Callable[..., Site], tmp_path: Path
) -> Iterator[Callable[..., Site]]:
    """As `make_site`, on PostgreSQL with Redis. Mark the test `service("postgresql", "redis")`."""
    template_home, template = request.getfixturevalue("model_home_on_postgresql")
    made: list[tuple[Site, str]] = []
    server = sa.create_engine(POSTGRESQL, isolation_level="AUTOCOMMIT")

    def make(records: int = 20, **more: Any) -> Site:
        name = f"{template.database}_{len(made)}"
        with server.connect() as connection:
            connection.execute(sa.text(f'create database "{name}" template "{template.database}"'))
        home = tmp_path / f"pg{len(made)}"
        shutil.copytree(template_home, home)
        url = template.set(database=name).render_as_string(hide_password=False)
        given = {"database_url": url, "broker_url": REDIS, "home": home}
        found = make_site(records, **{**given, **more})
        made.append((found, name))
        return found

    yield make
    for each, name in made:
        each.hub.close()
        with server.connect() as connection:
            connection.execute(sa.text(f'drop database "{name}" with (force)'))
    server.dispose()


@pytest.fixture(params=["embedded", pytest.param("distributed", marks=pytest.mark.service("postgresql", "redis"))])
def make_any_site(request: pytest.FixtureRequest) -> Callable[..., Site]:
    """Makes sites on SQLite without a broker, then on PostgreSQL with Redis; `make_site` makes the quiet ones."""
    fixture = "make_site" if request.param == "embedded" else "make_distributed_site"
    found: Callable[..., Site] = partial(request.getfixturevalue(fixture))
    return found


@pytest.fixture
def quiet(make_site: Any) -> Site:
    """What it comes to when nothing goes wrong."""
    found: Site = make_site(12, page_rows=5, lease_seconds=60)
    found.run()
    return found
