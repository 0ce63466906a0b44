"""Claims a second of the ledger, with many workers at once, beside a ledger without a past.

A worker's turn is what it does for a slice of one page: claim, two beats, one advance, the release; each a transaction.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from statistics import median
from typing import Any

from sqlalchemy import insert, select, text

from bench.places import SERVERS
from hub.database import Database
from hub.keys import KeyRing, open_ring
from hub.migrations import upgrade
from hub.runs import Counts, RunKind, RunState
from hub.runs.ledger.claiming import claimable
from hub.runs.ledger.tables import RunRow, SliceRow
from hub.runs.store import Ledger
from hub.runs.types import LostLeaseError, RunPlan, SliceKind, SlicePlan, Stage
from hub.settings import load_settings

SERVER = SERVERS["postgresql"]

WORKERS = (1, 8, 64)
PROCESSES = 4
LIMIT = 1.25
"""The largest share of the turn's time without a past, and of the one at eight workers, that a turn may take."""
MAPPINGS = 64
SLICES = 10
YEAR = 35_040
LEASE = 60.0
BEGINNING = datetime(2025, 1, 1, tzinfo=UTC)
LOOKS = 21
ENDED = 300
"""Of the runs that ended, those whose slices upkeep has not summed up yet."""


def compare(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """One line per database and number of workers."""
    for kind in arguments.claim_databases:
        found: dict[tuple[str, int], dict[str, float]] = {}
        for past in ("none", "a year"):
            with _ledger(kind, YEAR * arguments.claim_mappings if past == "a year" else 0) as (url, home):
                for workers in WORKERS:
                    found[past, workers] = _measure(url, home, workers, arguments.claim_seconds)
        for workers in WORKERS:
            ours, theirs = found["a year", workers], found["none", workers]
            yield {
                "name": f"claims a second, {kind}, {workers} workers, after a year of runs/none",
                "ours": round(ours["claims"]),
                "theirs": round(theirs["claims"]),
                "limit": LIMIT,
                "ratio": round(theirs["claims"] / ours["claims"], 2),
                "of_a_claim_ms": {"ours": _rounded(ours), "theirs": _rounded(theirs)},
            }


def _rounded(found: dict[str, float]) -> dict[str, float]:
    """By the clock of the worker, of its processor a turn, and in the server, where that says so itself."""
    return {name: round(value, 2) for name, value in found.items() if name in {"p50", "p99", "cpu_a_turn", "server"}}


@contextmanager
def _ledger(kind: str, runs: int) -> Iterator[tuple[str, str]]:
    """A new ledger in which so many runs have ended."""
    with tempfile.TemporaryDirectory() as folder:
        if kind == "sqlite":
            url = f"sqlite:///{folder}/hub.db"
            _fill(url, folder, runs)
            yield url, folder
            return
        import psycopg

        name = f"hubbench_{os.getpid()}_claims"
        with psycopg.connect(f"{SERVER}/postgres", autocommit=True) as connection:
            connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
            connection.execute(f"CREATE DATABASE {name}")
            try:
                url = f"{SERVER}/{name}".replace("postgresql://", "postgresql+psycopg://")
                _fill(url, folder, runs)
                yield url, folder
            finally:
                connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


def _fill(url: str, home: str, runs: int) -> None:
    database, ledger = _open(url, home)
    upgrade(database)
    with database.begin() as session:
        run = ledger.add(session, _plan("past"), _slices(), "default")
        ledger.set_state(session, run, RunState.DONE)
        row = _values(session.get_one(RunRow, run)) | {"summed": {"counts": {"read": 10}, "slices": [3, 3]}}
        part = _values(session.get_one(SliceRow, (run, 0))) | {"stage": Stage.DONE.value}
        past = [
            row | {"id": f"{at:%Y%m%d-%H%M%S}-{number:06x}", "created_at": at, "finished_at": at}
            for number in range(runs)
            for at in [BEGINNING + number * timedelta(minutes=15) * YEAR / max(runs, YEAR)]
        ]
        for start in range(0, len(past), 5_000):
            session.execute(insert(RunRow), past[start : start + 5_000])
        recent = [part | {"run": each["id"], "number": number} for each in past[-ENDED:] for number in range(SLICES)]
        if recent:
            session.execute(insert(SliceRow), recent)
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("ANALYZE"))
    database.close()


def _values(row: RunRow | SliceRow) -> dict[str, Any]:
    return {each.name: getattr(row, each.name) for each in row.__table__.columns}


def _plan(mapping: str) -> RunPlan:
    return RunPlan(mapping, "v" * 64, "m" * 64, RunKind.FULL, "human:bench", datetime.now(UTC))


def _slices() -> list[SlicePlan]:
    return [SlicePlan(SliceKind.READ, 0, selection="{}" * 200, cursor="{}") for _ in range(SLICES)]


def _open(url: str, home: str) -> tuple[Database, Ledger]:
    database = Database(url)
    settings = load_settings(home=home, database_url=url)
    upgrade(database)
    keys: KeyRing = open_ring(settings, database)
    return database, Ledger(database, keys)


def _measure(url: str, home: str, workers: int, seconds: float) -> dict[str, float]:
    """Turns a second of so many workers, spread over a few processes, on runs that never end."""
    database, ledger = _open(url, home)
    with database.begin() as session:
        for at in range(MAPPINGS):
            ledger.add(session, _plan(f"m{workers}-{at}"), _slices(), "default")
    processes = min(PROCESSES, workers)
    command = [sys.executable, "-m", "bench.claims", url, home, str(workers // processes), str(seconds)]
    started = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(processes)
    ]
    for each in started:
        each.stdout.readline()
    for each in started:
        each.stdin.write("go\n")
        each.stdin.flush()
    told = [json.loads(each.communicate()[0]) for each in started]
    server = {} if database.sqlite else {"server": _server_ms(database)}
    with database.begin() as session:
        for row in session.scalars(select(RunRow).where(RunRow.active.is_not(None))):
            ledger.set_state(session, row.id, RunState.CANCELLED)
    database.close()
    taken = sorted(each for one in told for each in one["taken"])
    return {
        "claims": sum(one["claims"] for one in told),
        "p50": 1000 * taken[len(taken) // 2],
        "p99": 1000 * taken[len(taken) * 99 // 100],
        "cpu_a_turn": 1000 * sum(one["cpu"] for one in told) / max(1, sum(one["turns"] for one in told)),
        **server,
    }


def _server_ms(database: Database) -> float:
    """The median of what PostgreSQL takes to find and lock the next slice, by its own account."""
    now = datetime.now(UTC)
    claim = (
        claimable("default", now, now + timedelta(seconds=2 * LEASE))
        .limit(1)
        .with_for_update(skip_locked=True, of=SliceRow)
    )
    taken = []
    with database.engine.connect() as connection:
        made = claim.compile(connection, compile_kwargs={"render_postcompile": True})
        for _ in range(LOOKS):
            explained = connection.exec_driver_sql(f"EXPLAIN (ANALYZE, FORMAT JSON) {made}", made.params).scalar_one()
            taken.append(explained[0]["Execution Time"])
            connection.rollback()
    return median(taken)


def _contend(url: str, home: str, workers: int, seconds: float) -> None:
    """In a process of its own: a few threads that claim until the time is over."""
    database, ledger = _open(url, home)
    turns, taken = [0] * workers, [list[float]() for _ in range(workers)]
    database.retrying(ledger.pending)
    print("ready", flush=True)
    sys.stdin.readline()
    begun, used = time.perf_counter(), time.process_time()

    def work(at: int) -> None:
        while time.perf_counter() - begun < seconds:
            asked = time.perf_counter()
            claim = database.retrying(lambda s: ledger.claim(s, "default", f"{os.getpid()}/{at}", LEASE))
            taken[at].append(time.perf_counter() - asked)
            if claim is None:
                raise SystemExit("nothing was left to claim")
            try:
                for _ in range(2):
                    database.retrying(lambda s, c=claim: ledger.beat(s, c, LEASE))
                database.retrying(lambda s, c=claim: ledger.advance(s, c, Counts(1, {"applied": 1}), cursor="{}"))
                database.retrying(lambda s, c=claim: ledger.release(s, c))
            except LostLeaseError:
                continue
            turns[at] += 1

    threads = [threading.Thread(target=work, args=(at,)) for at in range(workers)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    spent, cpu = time.perf_counter() - begun, time.process_time() - used
    listed = [each for one in taken for each in one]
    print(json.dumps({"claims": sum(turns) / spent, "turns": sum(turns), "cpu": cpu, "taken": listed}))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `python -m bench` passes on."""
    parser.add_argument("--claim-seconds", type=float, default=10, help="of claims, per number of workers")
    parser.add_argument("--claim-mappings", type=int, default=4, help="mappings whose runs of a year have ended")
    parser.add_argument(
        "--claim-databases", nargs="+", default=["postgresql", "sqlite"], choices=["postgresql", "sqlite"]
    )


if __name__ == "__main__":
    _contend(sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4]))
