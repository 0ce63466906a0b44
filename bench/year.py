"""A year of runs every quarter of an hour, on a clock that the bench turns: what grows, and what a run costs then.

Embedded default (SQLite). Each quarter some leads change, the schedule's tick starts a run, one worker carries it, and
upkeep does what is due; once a day the mapping's `refresh` makes the run a full one. What does not fit into the given
time is not run: the lines say how much of the year they saw.
"""

from __future__ import annotations

import argparse
import json
import os
import sqlite3
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from bench.simulated import Simulated, simulate
from hub.access.leases import sweep
from hub.runs import Worker, keep_up, tick

A_DAY, A_YEAR = 96, 35_040
LIMIT = 1.25
"""The largest factor by which a run may cost more at the end than on the second day."""
LIMIT_KB = 20
"""Of the hub's database and folder together, a run; what its decisions take aside."""


def compare(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """What a run costs at the end beside what it cost on the second day; then what a run leaves behind."""
    with tempfile.TemporaryDirectory() as folder:
        site = simulate(Path(folder), arguments.year_leads)
        days = list(_days(site, Path(folder), arguments))
    first, last = days[1], days[-1]
    runs = last["runs"] - first["runs"]
    told = {"runs": last["runs"], "of": A_YEAR, "leads": arguments.year_leads, "changed": arguments.year_changed}
    yield {
        "name": "a run of the year, CPU ms, last day/second day",
        "ours": round(1000 * last["cpu_seconds"] / A_DAY, 1),
        "theirs": round(1000 * first["cpu_seconds"] / A_DAY, 1),
        "limit": LIMIT,
        "ratio": round(last["cpu_seconds"] / first["cpu_seconds"], 2),
        **told,
    }
    for part in ("database_kb", "folder_kb"):
        grown = (last[part] - first[part]) / runs
        yield {
            "name": f"the year, {part.replace('_', ', ')} a run",
            "ours": round(grown, 2),
            "limit": LIMIT_KB,
            "ratio": round(grown / LIMIT_KB, 2),
            "at_the_end": round(last[part]),
            "in_a_year": round(last[part] + grown * (A_YEAR - last["runs"])),
            **told,
        }
    rows = {name: [first["rows"][name], number] for name, number in last["rows"].items()}
    yield {"name": "the year, rows by table, second day and last", "ours": rows, "files": last["files"], **told}


def _days(site: Simulated, folder: Path, arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Day after day until the year or the time is over; what there is after each, and the CPU it took."""
    worker = Worker(site.hub, "default", "bench")
    draw = np.random.default_rng(6)
    until = time.process_time() + arguments.year_seconds
    runs = 0
    while runs < A_YEAR and (time.process_time() < until or runs < 2 * A_DAY):
        begun = time.process_time()
        for _ in range(A_DAY):
            site.edit(draw.choice(site.leads, arguments.year_changed, replace=False) + 1)
            site.clock.turn()
            if not (started := tick(site.hub)):
                with site.hub.database.read() as session:
                    last = site.hub.ledger.runs(session, limit=1)[0]
                raise SystemExit(f"run {runs} of the year is {last.state.value}: {last.reason}")
            runs += len(started)
            while worker.work():
                pass
            _date(site, folder / "home")
            keep_up(site.hub)
            sweep(site.hub.database, site.hub.audit)
        spent = time.process_time() - begun
        told = {"runs": runs, "cpu_seconds": spent, **_size(folder / "home")}
        print(json.dumps(told), file=sys.stderr, flush=True)
        yield told


def _date(site: Simulated, home: Path) -> None:
    """Gives the files that were just written the time of the simulated clock, by which upkeep sweeps."""
    now = site.clock.now().timestamp()
    for each in (home / "segments").rglob("*.seg"):
        if each.stat().st_mtime > now:
            os.utime(each, (now, now))


def _size(home: Path) -> dict[str, Any]:
    """How much the hub keeps: its database without free pages, the rows of each table, and the files of the log."""
    kept = sqlite3.connect(home / "hub.db")
    (page,), (pages,), (free,) = (
        kept.execute(f"PRAGMA {name}").fetchone() for name in ("page_size", "page_count", "freelist_count")
    )
    tables = [name for (name,) in kept.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")]
    rows = {name: kept.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0] for name in tables}
    kept.close()
    files = [each.stat().st_size for each in (home / "segments").rglob("*") if each.is_file()]
    return {
        "database_kb": page * (pages - free) / 1024,
        "folder_kb": sum(files) / 1024,
        "files": len(files),
        "rows": {name: number for name, number in rows.items() if number > 1},
    }


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `python -m bench` passes on."""
    parser.add_argument("--year-seconds", type=float, default=600, help="of CPU after which the year is cut short")
    parser.add_argument("--year-leads", type=int, default=20_000, help="records of the mapping")
    parser.add_argument("--year-changed", type=int, default=40, help="of them that change between two runs")
