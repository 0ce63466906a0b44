"""The hub as it is installed, one worker, at the same work as the scripts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import joblib
import polars as pl

from bench.dataset import MAPPING
from hub.access import local_caller
from hub.database import Database
from hub.logs import configure
from hub.migrations import upgrade
from hub.runs import Installation, Order, RunState, Worker, open_installation, start
from hub.sdk import Clock, Json
from hub.settings import load_settings

ME = local_caller("bench").actor


def install(
    home: Path,
    url: str,
    own: str,
    folder: Path,
    port: int = 0,
    *,
    mapping: str = MAPPING,
    clock: Clock | None = None,
    **connection: Json,
) -> Installation:
    """A hub that knows the customer's database and the model, with the mapping published."""
    settings = load_settings(home=home, database_url=own, log_level="error", api_port=port, api_rate=1e6)
    configure(settings, process="bench")
    database = Database(settings, clock=clock)
    upgrade(database)
    hub = open_installation(settings, database)
    hub.connections.create("crm", "sql", {**_connection(url), **connection}, {}, ME)
    model = joblib.load(folder / "model.joblib")
    sample = pl.read_parquet(folder / "sample.parquet")
    hub.registry.register("bench", model, sample, owner="bench", positive=True, actor=str(ME), alias="champion")
    hub.mappings.publish(mapping, ME)
    return hub


def batch(url: str, own: str, folder: Path) -> Callable[[], None]:
    """One run from the order to its end: preflight, audit, decisions and standing are part of it."""
    hub = install(folder / "home", url, own, folder)
    worker = Worker(hub, "default", "bench")

    def work() -> None:
        run = start(hub, Order("bench", str(ME)))
        while worker.work(run):
            pass
        with hub.database.read() as session:
            ended = hub.ledger.run(session, run)
        if ended.state is not RunState.DONE:
            raise SystemExit(f"the run ended {ended.state.value}: {ended.reason} {ended.counts}")

    return work


def _connection(url: str) -> dict[str, Json]:
    if url.startswith("sqlite"):
        return {"dialect": "sqlite", "path": url.removeprefix("sqlite:///")}
    parts = urlsplit(url)
    found = {"dialect": "postgresql", "host": parts.hostname, "port": parts.port, "user": parts.username, "tls": "off"}
    return {**found, "database": parts.path.removeprefix("/")}
