"""The receipt of one record among millions of decisions: `hub decisions show`, less the start of an interpreter, by
itself and by a hub that runs, and the answer of that hub alone.

The log is written through the hub's own log, standing and upkeep: four full runs over all leads, and after each the
small incremental runs of twelve days, a quarter of an hour apart.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import polars as pl

from bench.dataset import TABLE
from bench.ours import ME, reopened
from bench.processes import NOTHING, costs
from bench.real_time import await_port, free_port
from bench.simulated import Simulated, simulate
from hub.access import Resource, Scope
from hub.decisions import Segment
from hub.runs import Order, Worker, keep_up, start
from hub.runs.pages.landing import Terms, standing_after
from hub.sdk import Mode

LIMIT_MS = 300
PAGE = 10_000
LEADS = 150_000
FULL_RUNS = 4
BUSY, CALM, USUAL = 7, 8, 1_000
"""A lead that is part of many small runs, one that is part of the full ones alone, and one as they come."""
RECORDS = {"long": BUSY, "usual": USUAL, "short": CALM}
VISITS = 150
ROUNDS = 11
LIBRARIES = "cryptography.hazmat.primitives.ciphers.aead, polars, pydantic_settings, sqlalchemy.orm, typer"
NAME = "bench"
TERMS = Terms(TABLE, Mode.UPDATE, set=("score",), with_=(), expires=None, undo=False, in_place=True)


class Chronicle:
    """Writes pages of decisions as the pages of runs do: log, results and standing, without reading or scoring.

    What a decision looks like is taken from those of a real run.
    """

    def __init__(self, site: Simulated) -> None:
        self._site = site
        self._draw = np.random.default_rng(4)
        pages = _run_once(site)
        self._page = pl.concat(site.hub.log.frame(each.id) for each in pages)
        self._facts = pages[0].facts
        self._runs = 0
        self.decisions = self.segments = 0

    def run(self, ids: np.ndarray) -> None:
        """One run over these leads, and the upkeep that is due a quarter of an hour later."""
        self._runs += 1
        for number, at in enumerate(range(0, len(ids), PAGE)):
            self._write(ids[at : at + PAGE], number)
        self._site.clock.turn()
        keep_up(self._site.hub)

    def _write(self, ids: np.ndarray, number: int) -> None:
        hub, now = self._site.hub, self._site.clock.now()
        keys = pl.DataFrame({"id": pl.Series(ids, dtype=pl.Int64)}).to_struct("_key")
        view = hub.standing.view(NAME, keys, {"score": pl.Float64()})
        known = pl.struct(pl.col("segment"), pl.col("row"))
        before = view.frame.select(_previous=pl.when(pl.col("segment").is_not_null()).then(known)).to_series()
        frame = self._page.sample(len(ids), with_replacement=True, seed=self._runs).with_columns(keys, before)
        frame = frame.with_columns(pl.Series("set.score", self._draw.random(len(ids)).round(6)))
        segment = hub.log.write(replace(self._facts, run=f"run-{self._runs}", page=number, at=now), frame)
        rows = pl.int_range(len(ids), dtype=pl.UInt32, eager=True)
        answers = pl.DataFrame({"row": rows}).with_columns(
            state=pl.lit("applied"), field=pl.lit(None), reason=pl.lit(None), version=pl.lit(None, pl.String)
        )
        after = standing_after(frame, answers, view.frame, segment.id, TERMS, now)
        prepared = hub.standing.prepare(view, after)
        with hub.database.begin() as session:
            hub.log.catalogue(session, segment)
            hub.log.record_results(session, segment.id, answers)
            hub.standing.put(session, view, prepared)
        self.decisions += len(ids)
        self.segments += 1


def _run_once(site: Simulated) -> list[Segment]:
    """A first real run over the small table."""
    run = start(site.hub, Order(NAME, str(ME)))
    worker = Worker(site.hub, "default", "bench")
    while worker.work(run):
        pass
    with site.hub.database.read() as session:
        return site.hub.log.segments(session, run=run)


def chronicle(folder: Path, decisions: int, segments: int) -> dict[str, int]:
    """Makes the log; how much there is of it."""
    leads = min(LEADS, decisions // (FULL_RUNS + 1))
    full = FULL_RUNS * -(-leads // PAGE)
    small = segments - full
    size = (decisions - FULL_RUNS * leads) // small
    told = Chronicle(simulate(folder, PAGE))
    draw = np.random.default_rng(5)
    for turn in range(small):
        if turn % -(-small // FULL_RUNS) == 0:
            told.run(np.arange(1, leads + 1))
        ids = draw.choice(np.arange(CALM + 1, leads + 1), size, replace=False)
        if turn % max(1, small // VISITS) == 0:
            ids[0] = BUSY
        told.run(np.sort(ids))
    return {"decisions": told.decisions, "segments": told.segments}


def compare(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """One line per record asked for."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(arguments.receipt_folder or made)
        if not (folder / "made.json").exists():
            folder.mkdir(parents=True, exist_ok=True)
            made_of = chronicle(folder, arguments.decisions, arguments.segments)
            (folder / "made.json").write_text(json.dumps(made_of), "utf-8")
        told = json.loads((folder / "made.json").read_text("utf-8"))
        for name, key in RECORDS.items():
            yield {**_measure(folder, f"{name} history", key), **told}
        with _serving(folder) as (port, headers):
            for name, key in RECORDS.items():
                yield {**_asked(port, headers, name, key), **told}
                yield {**_measure(folder, f"{name} history, by a hub that runs", key, at=(port, headers)), **told}


@contextmanager
def _serving(folder: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """A hub that answers requests, and what a caller shows it."""
    with reopened(folder / "home", f"sqlite:///{folder / 'home' / 'hub.db'}") as hub:
        named = f"bench {time.time_ns()}"
        scopes, only = [Scope.RECORDS], [Resource.mapping(NAME)]
        _, text = hub.access.create_token(named, owner="bench", scopes=scopes, actor=ME, only=only)
    port = free_port()
    command = [sys.executable, "-m", "hub.cli", "serve", "--no-worker", "--port", str(port)]
    environment = {**os.environ, "HUB_HOME": str(folder / "home"), "HUB_LOG_LEVEL": "error"}
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as process:
        try:
            await_port(port)
            yield port, {"Authorization": f"Bearer {text.reveal()}"}
        finally:
            process.terminate()


def _asked(port: int, headers: dict[str, str], name: str, key: int) -> dict[str, Any]:
    """The median of some requests on one connection, after one that only warms the caches."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    taken, body = [], b""
    for _ in range(ROUNDS + 1):
        begun = time.perf_counter()
        connection.request("GET", f"/v1/decisions?mapping={NAME}&key={key}&limit=1000", headers=headers)
        with connection.getresponse() as answer:
            body = answer.read()
        taken.append(1000 * (time.perf_counter() - begun))
        if answer.status != 200:
            raise SystemExit(f"{answer.status}: {body.decode()}")
    connection.close()
    ours = median(taken[1:])
    return {
        "name": f"receipt, {name} history, asked of a running hub, ms",
        "ours": round(ours, 1),
        "limit": LIMIT_MS,
        "ratio": round(ours / LIMIT_MS, 2),
        "first": round(taken[0], 1),
        "history": len(json.loads(body)["decisions"]),
    }


def _measure(folder: Path, name: str, key: int, at: tuple[int, dict[str, str]] | None = None) -> dict[str, Any]:
    """The whole process beside an interpreter that does nothing, and one that only imports what a receipt needs.

    With `at`, the process asks the hub that runs at that port.
    """
    show = [sys.executable, "-m", "hub.cli", "decisions", "show", NAME, str(key), "--limit", "1000", "--json"]
    environment = {"HUB_HOME": str(folder / "home")}
    if at is not None:
        port, headers = at
        show += ["--at", f"http://127.0.0.1:{port}"]
        environment = {"HUB_TOKEN": headers["Authorization"].removeprefix("Bearer ")}
    done = subprocess.run(show, env={**os.environ, **environment}, stdout=subprocess.PIPE, check=True)
    libraries = [sys.executable, "-c", f"import {LIBRARIES}"]
    taken = costs([NOTHING, libraries, show], environment, ROUNDS)
    nothing, imported, ours = taken[0], taken[1] - taken[0], taken[2] - taken[0]
    return {
        "name": f"receipt, {name}, ms less the interpreter's start",
        "ours": round(ours.wall),
        "theirs": round(nothing.wall),
        "limit": LIMIT_MS,
        "ratio": round(ours.wall / LIMIT_MS, 2),
        "libraries_alone": round(imported.wall),
        "cpu_ms": {"ours": round(ours.cpu), "theirs": round(nothing.cpu), "libraries_alone": round(imported.cpu)},
        "history": len(json.loads(done.stdout)["decisions"]),
    }


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `python -m bench` passes on."""
    parser.add_argument("--decisions", type=int, default=5_000_000, help="of the log that receipts are looked up in")
    parser.add_argument("--segments", type=int, default=5_000, help="of that log")
    parser.add_argument("--receipt-folder", help="where that log is kept for the next time; made where missing")
