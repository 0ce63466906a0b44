"""Real customers and leads, in PostgreSQL and MariaDB, scored by two workers that hear of their work through Redis."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, Queue
from threading import Thread

import numpy as np
import polars as pl
import pytest
import sqlalchemy as sa
from sklearn.pipeline import Pipeline
from sqlalchemy import URL, create_engine

from hub.access import local_caller
from hub.cli.runs import follow
from hub.database import Database
from hub.migrations import upgrade
from hub.runs import Installation, Order, Run, RunState, open_installation, start
from hub.settings import Settings, load_settings
from tests.system import tables
from tests.system.tables import BAND, CHURN, LEADS, PROBABILITY, SCORE, Case

ANNA = local_caller("anna").actor
SECONDS_TO_HEAR = 20.0
"""Far below the time after which a worker looks for work by itself: what began earlier was heard."""

pytestmark = [pytest.mark.service("postgresql", "mariadb", "redis"), pytest.mark.shared_data, pytest.mark.timeout(400)]


@dataclass
class Site:
    """One data set in one customer's database, with the model that scikit-learn would be asked directly."""

    case: Case
    connection: str
    engine: sa.Engine
    table: sa.Table
    model: Pipeline
    runs: list[Run] = field(default_factory=list)

    @property
    def mapping(self) -> str:
        return f"{self.connection}_{self.case.mapping}"

    def stored(self) -> pl.DataFrame:
        return tables.stored(self.engine, self.table)

    def check(self, rows: pl.DataFrame) -> None:
        """Every score in these rows of the table is what scikit-learn says of them."""
        wanted = tables.expected(self.case, self.model, rows)
        assert rows[PROBABILITY].null_count() == 0
        assert np.abs(rows[PROBABILITY].to_numpy() - wanted).max() <= 1e-6
        # A score whose probability lies on the half may be rounded either way within the tolerance.
        doubtful = np.abs(100 * wanted % 1 - 0.5) < 1e-4
        assert (rows[SCORE].to_numpy() == np.floor(100 * wanted + 0.5))[~doubtful].all()
        bands = np.select([wanted >= 0.6, wanted >= 0.3], ["High", "Medium"], "Low")
        edges = np.minimum(np.abs(wanted - 0.6), np.abs(wanted - 0.3)) < 1e-6
        assert (rows[BAND].to_numpy() == bands)[~edges].all()


@pytest.fixture
def installation(tmp_path: Path, postgresql_url: URL, monkeypatch: pytest.MonkeyPatch) -> Iterator[Installation]:
    """A hub whose state is in PostgreSQL and whose bell is in Redis, by the variables its workers will read too."""
    server = os.environ.get("HUB_TEST_REDIS", "redis://127.0.0.1:6379/5").rpartition("/")[0]
    variables = {
        "HUB_HOME": str(tmp_path / "home"),
        "HUB_DATABASE_URL": postgresql_url.render_as_string(hide_password=False),
        "HUB_BROKER_URL": f"{server}/11",
        "HUB_WORKERS": "2",
        "HUB_PAGE_ROWS": "1000",
        "HUB_POLL_SECONDS": "55",
        "HUB_LOG_FORMAT": "json",
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    settings: Settings = load_settings()
    database = Database(settings)
    upgrade(database)
    with open_installation(settings, database) as hub:
        yield hub


@contextmanager
def working(count: int) -> Iterator[Callable[[], set[str]]]:
    """`hub worker`, from when all its processes wait for the bell until it was told to end; who has claimed a slice."""
    command = [str(Path(sys.executable).with_name("hub")), "worker"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    lines: Queue[str | None] = Queue()
    log: list[str] = []

    def read() -> None:
        assert process.stderr is not None
        for line in process.stderr:
            log.append(line)
            lines.put(line)
        lines.put(None)

    reader = Thread(target=read)
    reader.start()
    try:
        ready = 0
        while ready < count:
            try:
                line = lines.get(timeout=90)
            except Empty:
                line = None
            assert line is not None, f"the workers did not come up:\n{''.join(log)}"
            ready += "worker ready" in line
        yield lambda: {told["worker"] for told in map(json.loads, log) if told["event"] == "slice claimed"}
        process.terminate()
        assert process.wait(60) == 0, "".join(log)
    finally:
        process.kill()
        process.wait()
        reader.join()
        for pipe in (process.stdout, process.stderr):
            assert pipe is not None
            pipe.close()


@pytest.fixture
def sites(installation: Installation, shared_data: Path, postgresql_url: URL, mariadb_url: URL) -> Iterator[list[Site]]:
    """Both data sets in both databases, their models registered and their mappings published."""
    hub = installation
    with ExitStack() as stack:
        models = {case.mapping: _register(hub, case, shared_data / "crm") for case in (CHURN, LEADS)}
        made: list[Site] = []
        customer = stack.enter_context(_customer(postgresql_url))
        for connection, url in (("pg", customer), ("maria", mariadb_url)):
            engine = create_engine(url)
            stack.callback(engine.dispose)
            _connect(hub, connection, url)
            made += [_site(hub, case, connection, engine, models[case.mapping]) for case in (CHURN, LEADS)]
        yield made


@contextmanager
def _customer(hub: URL) -> Iterator[URL]:
    """A second PostgreSQL database, so that the customer's is not the hub's own."""
    name = f"{hub.database}_customer"
    engine = create_engine(hub, isolation_level="AUTOCOMMIT")
    try:
        with engine.connect() as connection:
            connection.execute(sa.text(f"create database {name}"))
        yield hub.set(database=name)
    finally:
        with engine.connect() as connection:
            connection.execute(sa.text(f"drop database if exists {name} with (force)"))
        engine.dispose()


def _connect(hub: Installation, name: str, url: URL) -> None:
    settings = {
        "dialect": "postgresql" if name == "pg" else "mariadb",
        "host": url.host,
        "port": url.port,
        "database": url.database,
        "user": url.username,
        "tls": "off",
        "private": True,
        "changed_by": {"Customers": [tables.MOVED]},
        "late_seconds": 0,
    }
    hub.connections.create(name, "sql", settings, {}, ANNA)


def _register(hub: Installation, case: Case, folder: Path) -> tuple[pl.DataFrame, Pipeline]:
    """The rows of the file, and the model trained on them, which is then registered."""
    rows = case.rows(folder)
    model = case.fit(rows)
    sample = case.inputs(rows)
    hub.registry.register(case.mapping, model, sample, owner="anna", actor=str(ANNA), positive=1, alias="champion")
    return rows, model


def _site(
    hub: Installation, case: Case, connection: str, engine: sa.Engine, trained: tuple[pl.DataFrame, Pipeline]
) -> Site:
    rows, model = trained
    table = tables.load(engine, case, rows)
    hub.mappings.publish(case.document(connection), ANNA)
    return Site(case, connection, engine, table, model)


def _run_all(hub: Installation, sites: list[Site]) -> None:
    """One run of every mapping, all at once, each to its end."""
    started = [start(hub, Order(site.mapping, str(ANNA))) for site in sites]
    for site, run in zip(sites, started, strict=True):
        ended = follow(hub, run, None)
        assert ended.state is RunState.DONE, (site.mapping, ended.reason, ended.counts)
        site.runs.append(ended)


def _decisions(hub: Installation, run: Run) -> int:
    with hub.database.read() as session:
        return sum(segment.rows for segment in hub.log.segments(session, run=run.id))


def test_scores_of_real_records_equal_scikit_learn_and_only_edits_are_scored_again(
    installation: Installation, sites: list[Site]
) -> None:
    hub = installation
    with working(2) as claimants:
        _run_all(hub, sites)
        first = [site.stored() for site in sites]
        for site, rows in zip(sites, first, strict=True):
            assert site.runs[-1].counts.to_json() == {"read": rows.height, "applied": rows.height}
            site.check(rows)
            assert site.runs[-1].started_at is not None
            waited = site.runs[-1].started_at - site.runs[-1].created_at
            assert waited.total_seconds() < SECONDS_TO_HEAR, f"{site.mapping} began after {waited}: no bell was heard"
        assert len(claimants()) == 2

        _run_all(hub, sites)
        for site, before in zip(sites, first, strict=True):
            counts = site.runs[-1].counts
            assert counts.to_json() == {"read": before.height, "skipped": before.height}
            assert _decisions(hub, site.runs[-1]) == 0
            assert site.stored().equals(before)

        edited = []
        for site, before in zip(sites, first, strict=True):
            keys = before[site.case.key].gather_every(before.height // 10).head(10)
            tables.edit(site.engine, site.case, site.table, keys.to_list())
            edited.append((keys, site.stored()))
        _run_all(hub, sites)
        for site, (keys, before) in zip(sites, edited, strict=True):
            counts, after = site.runs[-1].counts, site.stored()
            assert counts["applied"] + counts["unchanged"] == 10
            assert counts["skipped"] == counts.read - 10
            assert _decisions(hub, site.runs[-1]) == 10
            written = after.join(before, on=after.columns, how="anti", nulls_equal=True)
            assert written.height == counts["applied"] <= 10
            assert set(written[site.case.key]) <= set(keys)
            site.check(after)
    assert hub.audit.verify().ok
