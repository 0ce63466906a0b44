"""The hub as it is installed, one worker, at the same work as the scripts."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import joblib
import polars as pl

from bench.contest import measure
from bench.dataset import MAPPING
from bench.places import Place
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


def prepare(made: Place, mapping: str = MAPPING) -> None:
    """Installs a hub at a place, in a process of its own, whose memory is not the worker's."""
    document = made.folder / "mapping.yaml"
    document.write_text(mapping, "utf-8")
    measure("install", made, str(document))


def reopened(home: Path, own: str, workers: int = 1) -> Installation:
    """The hub as a worker opens it."""
    settings = load_settings(home=home, database_url=own, log_level="error", workers=workers)
    configure(settings, process="bench")
    return open_installation(settings, Database(settings))


def order(home: Path, own: str, workers: int) -> str:
    """A run that waits for so many workers; its id."""
    return start(reopened(home, own, workers), Order("bench", str(ME)))


def ordered(home: Path, own: str) -> Callable[[], dict[str, Any]]:
    """One run by one worker, from the order to its end: preflight, audit, decisions and standing are part of it."""
    hub = _settled(reopened(home, own))
    worker = Worker(hub, "default", "bench")
    return lambda: _carried(hub, worker, start(hub, Order("bench", str(ME))))


def joined(home: Path, own: str, run: str) -> Callable[[], dict[str, Any]]:
    """One of several workers, at a run that was ordered."""
    hub = _settled(reopened(home, own))
    return lambda: _carried(hub, Worker(hub, "default", f"bench {os.getpid()}"), run)


def _settled(hub: Installation) -> Installation:
    """As a worker's process is when it first looks for work."""
    hub.open_rooms()
    gc.collect()
    gc.freeze()
    return hub


def _carried(hub: Installation, worker: Worker, run: str) -> dict[str, Any]:
    while True:
        while worker.work(run):
            pass
        with hub.database.read() as session:
            found = hub.ledger.run(session, run)
        if found.state is RunState.DONE:
            return {"counts": dict(found.counts.by)}
        if found.state is not RunState.RUNNING:
            raise SystemExit(f"the run is {found.state.value}: {found.reason} {found.counts}")
        time.sleep(0.02)  # another worker holds what is left


def _connection(url: str) -> dict[str, Json]:
    if url.startswith("sqlite"):
        return {"dialect": "sqlite", "path": url.removeprefix("sqlite:///")}
    parts = urlsplit(url)
    found = {"dialect": parts.scheme, "host": parts.hostname, "port": parts.port, "user": parts.username, "tls": "off"}
    return {**found, "database": parts.path.removeprefix("/"), "private": True}
