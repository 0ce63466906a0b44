"""Events a second that are written and sealed, and what the proof of one among a million costs.

Several processes write through the audit log as the hub does, one transaction after the other, while another seals.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from bench.places import SERVERS
from hub.audit import Action, AuditLog, Event, SealedLog
from hub.audit.leaf import leaf_hash
from hub.audit.merkle.proof import proves_inclusion
from hub.database import Database
from hub.keys import KeyRing
from hub.keys.file import FileKek
from hub.migrations import upgrade

SERVER = SERVERS["postgresql"]
WANTED = {1: 5_000, 20: 25_000}
"""Events a second that must be written and sealed, by events in a commit."""
PROOF_MS = 10
PROOFS = 300
READ = Event("service:nightly", Action.PAGE_READ, "mapping:lead_score", run="r1", digest="ab" * 32, detail={"rows": 7})


def compare(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """One line per number of events in a commit, and one for proofs."""
    for each, limit in WANTED.items():
        yield _rate(each, limit, arguments)
    yield _proof(arguments.audit_events)


def _rate(each: int, limit: int, arguments: argparse.Namespace) -> dict[str, Any]:
    with _hub() as (url, folder):
        alone = _write(url, folder, each, arguments)
        written = _write(url, folder, each, arguments, sealer := _start("seal", url, folder))
        assert sealer.stdin is not None
        sealer.stdin.close()
        told = json.loads(sealer.stdout.read() if sealer.stdout else "")
        sealer.wait()
        database, log = _open(url, folder)
        verdict = log.verify()
        database.close()
        assert (verdict.fault, verdict.sealed) == (None, verdict.events)
    return {
        "name": f"audit, events a second with {each} a commit, written and sealed/written alone",
        "ours": round(written),
        "theirs": round(alone),
        "limit": limit,
        "ratio": round(written / alone, 2),
        "sealer": told,
        "events": verdict.events,
    }


def _write(
    url: str, folder: str, each: int, arguments: argparse.Namespace, _sealer: subprocess.Popen[str] | None = None
) -> float:
    """Events a second of all writers together."""
    writers = [
        _start("write", url, folder, str(each), str(arguments.audit_seconds)) for _ in range(arguments.audit_writers)
    ]
    return sum(float(one.communicate()[0]) for one in writers)


def _proof(events: int) -> dict[str, Any]:
    with _hub() as (url, folder):
        database, log = _open(url, folder)
        audit = AuditLog(database)
        for start in range(0, events, 2_000):
            with database.begin() as session:
                for _ in range(min(2_000, events - start)):
                    audit.record(session, READ)
        began = time.perf_counter()
        newest = log.seal()
        sealed = time.perf_counter() - began
        assert newest is not None
        taken, busy = [], time.process_time()
        for index in random.Random(7).choices(range(newest.size), k=PROOFS):
            began = time.perf_counter()
            proof = log.prove_at(index)
            taken.append(1000 * (time.perf_counter() - began))
            assert proves_inclusion(leaf_hash(proof.leaf), index, newest.size, proof.path, newest.root)
        busy = 1000 * (time.process_time() - busy) / PROOFS
        database.close()
    return {
        "name": f"audit, proof of one among {newest.size} events, ms",
        "ours": round(median(taken), 2),
        "theirs": None,
        "limit": PROOF_MS,
        "ratio": round(median(taken) / PROOF_MS, 2),
        "cpu_ms": round(busy, 2),
        "p99": round(quantiles(taken, n=100)[98], 2),
        "sealed_at_once_per_second": round(newest.size / sealed),
    }


def _start(*command: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "bench.audit", *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def _open(url: str, folder: str) -> tuple[Database, SealedLog]:
    database = Database(url)
    return database, SealedLog(database, KeyRing(FileKek.load(Path(folder, "kek.json")), bytes(32)))


@contextmanager
def _hub() -> Iterator[tuple[str, str]]:
    """A new database of a hub on PostgreSQL, and the folder of its key."""
    import psycopg

    name = f"hubbench_{os.getpid()}_audit"
    url = f"{SERVER}/{name}".replace("postgresql://", "postgresql+psycopg://")
    with tempfile.TemporaryDirectory() as folder, psycopg.connect(f"{SERVER}/postgres", autocommit=True) as server:
        FileKek.create(Path(folder, "kek.json"))
        server.execute(f"CREATE DATABASE {name}")
        try:
            database = Database(url)
            upgrade(database)
            database.close()
            yield url, folder
        finally:
            server.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


def _writing(url: str, each: int, seconds: float) -> float:
    database = Database(url)
    audit = AuditLog(database)
    written, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        with database.begin() as session:
            for _ in range(each):
                audit.record(session, READ)
        written += each
    return written / (time.perf_counter() - began)


def _sealing(url: str, folder: str) -> dict[str, float]:
    """Seals every second, as a worker does, until standard input ends; then once more."""
    import select

    database, log = _open(url, folder)
    sealed, busy, longest, size, more = 0, 0.0, 0.0, 0, True
    while more:
        more = not select.select([sys.stdin], [], [], 1.0)[0]
        began = time.perf_counter()
        made = log.seal()
        taken = time.perf_counter() - began
        if made is not None:
            sealed, size = sealed + made.size - size, made.size
            busy, longest = busy + taken, max(longest, taken)
    database.close()
    return {"sealed": sealed, "per_second_of_its_own": round(sealed / busy), "longest_ms": round(1000 * longest)}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `python -m bench` passes on."""
    parser.add_argument("--audit-seconds", type=float, default=15, help="how long events are written")
    parser.add_argument("--audit-writers", type=int, default=8, help="processes that write events")
    parser.add_argument("--audit-events", type=int, default=1_000_000, help="events of the log of which one is proven")


if __name__ == "__main__":
    if sys.argv[1] == "write":
        print(_writing(sys.argv[2], int(sys.argv[4]), float(sys.argv[5])))
    else:
        print(json.dumps(_sealing(sys.argv[2], sys.argv[3])))
