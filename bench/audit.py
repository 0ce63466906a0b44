"""Events a second that are written and sealed, and what the proof of one among a million costs.

Several processes write through the audit log as the hub does, one transaction after the other, while another seals.
Beside them, in the same database and run, as many processes insert rows of the same size and nothing else.
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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from sqlalchemy import text

from bench.bare_inserts import bare, together
from bench.places import SERVERS
from hub.audit import Action, AuditLog, Event, SealedLog
from hub.audit.leaf import leaf_hash
from hub.audit.merkle.proof import proves_inclusion
from hub.database import Database
from hub.keys import KeyRing
from hub.keys.providers.file import FileKek
from hub.migrations import upgrade

SERVER = SERVERS["postgresql"]
WANTED = {1: 5_000, 20: 25_000}
"""Events a second that must be written and sealed, by events in a commit."""
PROOF_MS = 10
PROOFS = 300
READ = Event("service:nightly", Action.PAGE_READ, "mapping:lead_score", run="r1", digest="ab" * 32, detail={"rows": 7})


def compare(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Two lines per number of events in a commit, of the writers and of the sealer alone, and one for proofs."""
    for each, limit in WANTED.items():
        yield from _rates(each, limit, arguments)
    if arguments.audit_events:
        yield _proof(arguments.audit_events)


def _rates(each: int, limit: int, arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    seconds = arguments.audit_seconds
    with _hub() as (url, folder):
        plain = _make_bare(url.replace("+psycopg", ""))
        plainly, ours = partial(bare, plain, each), partial(_writing, url, each)
        most = {number: together(plainly, each, seconds, number)[0] for number in arguments.audit_writers}
        alone = {number: together(ours, each, seconds, number) for number in arguments.audit_writers}
        database, log = _open(url, folder)
        backlog = _waiting(database)
        busy, began = time.process_time(), time.perf_counter()
        newest = log.seal(every_chain=True)
        taken = time.perf_counter() - began
        busy = time.process_time() - busy
        assert newest is not None
        assert newest.size == backlog
        database.close()  # before others are forked, who would share its connections
        best = max(alone, key=lambda number: alone[number][0])
        sealer = _start("seal", url, folder)
        sealed = together(ours, each, seconds, best)[0]
        beside = json.loads(sealer.communicate()[0])
        database, log = _open(url, folder)
        verdict = log.verify()
        database.close()
        assert (verdict.fault, verdict.sealed) == (None, verdict.events)
    yield {
        "name": f"audit, {each} a commit: events a second written while they are sealed / inserted bare",
        "ours": round(sealed),
        "theirs": round(max(most.values())),
        "limit": limit,
        "ratio": round(sealed / limit, 2),
        "ours_of_theirs": round(sealed / max(most.values()), 2),
        "writers": best,
        "bare_by_writers": {number: round(each) for number, each in most.items()},
        "unsealed_by_writers": {number: round(rate) for number, (rate, _) in alone.items()},
        "writers_cpu_us": {number: round(cpu) for number, (_, cpu) in alone.items()},
        "sealer_beside": beside,
        "events": verdict.events,
    }
    yield {
        "name": f"audit, {each} a commit: events a second that the sealer seals of a backlog",
        "ours": round(backlog / taken),
        "theirs": round(sealed),
        "limit": limit,
        "ratio": round(backlog / taken / limit, 2),
        "cpu_us": round(1e6 * busy / backlog, 1),
        "backlog": backlog,
    }


def _waiting(database: Database) -> int:
    with database.read() as session:
        return int(session.execute(text("select count(*) from audit_event")).scalar_one())


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
            assert proof.leaf is not None
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


def _writing(url: str, each: int) -> Callable[[], object]:
    database = Database(url)
    audit = AuditLog(database)

    def once() -> None:
        with database.begin() as session:
            for _ in range(each):
                audit.record(session, READ)

    return once


def _make_bare(url: str) -> str:
    import psycopg

    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE bare (id bigserial PRIMARY KEY, leaf bytea, leaf_hash bytea)")
    return url


def _sealing(url: str, folder: str) -> dict[str, float]:
    """Seals every second, as a worker does, until standard input ends; then once more."""
    import select

    database, log = _open(url, folder)
    size = log.checkpoint().size
    sealed, busy, longest, more = 0, 0.0, 0.0, True
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
    parser.add_argument("--audit-seconds", type=float, default=5, help="how long events are written each time")
    parser.add_argument(
        "--audit-writers", type=int, nargs="+", default=[1, 8, 16], help="processes that write events at once"
    )
    parser.add_argument(
        "--audit-events", type=int, default=1_000_000, help="events of the log of which one is proven; 0: none"
    )


if __name__ == "__main__":
    print(json.dumps(_sealing(sys.argv[2], sys.argv[3])))
