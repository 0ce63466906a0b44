"""What a caller costs: a request that is authenticated and allowed beside one that nobody asks, and the guard in a run.

Every figure is CPU of the process that serves, so that it stands on a machine that others use too.
"""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from statistics import median
from typing import Any
from urllib.parse import urlsplit

import httpx
import psutil

from bench import dataset, ours
from bench.places import databases, place, reachable
from bench.processes import Cost

LIMIT_MS = 0.3
LIMIT_GUARD = 0.01
REDIS = os.environ.get("BENCH_REDIS", "redis://127.0.0.1:6379/0")
WARM = 300
TURNS = 6


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `python -m bench` passes on."""
    parser.add_argument("--access-requests", type=int, default=3_000, help="access: requests of each kind; 0: none")
    parser.add_argument(
        "--access-rows", type=int, default=200_000, help="access: records of the run with the guard; 0: none"
    )


def compare(asked: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Milliseconds of CPU a request by a key and by a token, on each state database; the guard's share of a run."""
    for kind, broker in (("sqlite", ""), ("postgresql", ""), ("postgresql", REDIS)) if asked.access_requests else ():
        if reachable(kind) and (not broker or _answers(broker)):
            yield from _requests(kind, broker, asked.access_requests)
        else:
            yield {"name": f"access {kind} {broker}", "skipped": "there is no such server"}
    if asked.access_rows:
        yield _guard(asked.access_rows)


def _answers(broker: str) -> bool:
    parts = urlsplit(broker)
    try:
        socket.create_connection((parts.hostname or "", parts.port or 6379), timeout=2).close()
    except OSError:
        return False
    return True


def _requests(kind: str, broker: str, number: int) -> Iterator[dict[str, Any]]:
    counted = " and counted in Redis" if broker else ""
    with (
        tempfile.TemporaryDirectory() as made,
        databases(kind, Path(made)) as (_, own),
        _serving(own, made, broker) as told,
    ):
        server, url, key, token = told
        asked = {"nobody": ("/bench/open", ""), "key": ("/bench/held", key), "token": ("/bench/held", token)}
        with httpx.Client(base_url=url, trust_env=False) as client:
            taken = _turns(server, client, asked, number)
        for name in ("key", "token"):
            ours = taken[name] - taken["nobody"]
            yield {
                "name": f"access {kind}, authenticated by {name}{counted}, CPU ms a request",
                "ours": round(ours.cpu, 3),
                "theirs": round(taken["nobody"].cpu, 3),
                "limit": LIMIT_MS,
                "ratio": round(ours.cpu / LIMIT_MS, 2),
                "wall_ms": {"ours": round(ours.wall, 3), "theirs": round(taken["nobody"].wall, 3)},
            }


def _turns(
    server: psutil.Process, client: httpx.Client, asked: Mapping[str, tuple[str, str]], number: int
) -> dict[str, Cost]:
    """What one request of each kind takes in the least disturbed of its turns, which are one of each kind in a row."""
    for path, text in asked.values():
        _cost(server, client, path, text, WARM)
    taken: dict[str, list[Cost]] = {name: [] for name in asked}
    for _ in range(TURNS):
        for name, (path, text) in asked.items():
            taken[name].append(_cost(server, client, path, text, number // TURNS))
    return {name: Cost(min(one.wall for one in each), min(one.cpu for one in each)) for name, each in taken.items()}


def _cost(server: psutil.Process, client: httpx.Client, path: str, text: str, number: int) -> Cost:
    """One request of many, one after the other: CPU of the server, and the median time until the caller has it all."""
    headers = {"Authorization": f"Bearer {text}"} if text else {}
    waited = []
    before = _busy(server)
    for _ in range(number):
        began = time.perf_counter()
        answer = client.get(path, headers=headers)
        waited.append(1000 * (time.perf_counter() - began))
        if answer.status_code != 200:
            raise SystemExit(f"{path} answers {answer.status_code}: {answer.text}")
    return Cost(median(waited), 1000 * (_busy(server) - before) / number)


def _busy(server: psutil.Process) -> float:
    """Seconds of CPU of all its threads; what psutil tells is rounded to hundredths."""
    tasks = Path(f"/proc/{server.pid}/task")
    return sum(int(each.read_text().split()[0]) for each in tasks.glob("*/schedstat")) / 1e9


@contextmanager
def _serving(own: str, home: str, broker: str) -> Iterator[tuple[psutil.Process, str, str, str]]:
    command = [sys.executable, "-m", "bench.access", own, home, broker]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            port, key, token = process.stdout.readline().split()
            yield psutil.Process(process.pid), f"http://127.0.0.1:{port}", key, token
        finally:
            process.terminate()


def serve(own: str, home: str, broker: str) -> None:
    """A hub with two routes that do nothing, one of which asks who calls; prints its port, a key and a token."""
    from fastapi import Depends

    from hub.access import Scope
    from hub.access.oauth import Presented
    from hub.api.access import Holding
    from hub.api.app import make_server
    from hub.database import Database
    from hub.logs import configure
    from hub.migrations import upgrade
    from hub.runs import open_installation
    from hub.settings import load_settings

    more: dict[str, Any] = {"broker_url": broker} if broker else {}
    settings = load_settings(home=home, database_url=own, log_level="error", api_port=0, api_rate=1e6, **more)
    configure(settings, process="bench")
    upgrade(database := Database(settings))
    hub = open_installation(settings, database)
    wanted: dict[str, Any] = {"owner": "bench", "scopes": [Scope.READ], "actor": ours.ME}
    _, key = hub.access.create_token("key", **wanted)
    client, secret = hub.access.clients.add("client", **wanted)
    assert secret is not None
    shown = Presented({"grant_type": "client_credentials"}, basic=(client.id, secret.reveal()))
    token = hub.access.clients.token(shown)["access_token"]
    server = make_server(hub, lambda port: print(port, key.reveal(), token, flush=True))
    app: Any = server.config.app
    app.get("/bench/open")(_nothing)
    app.get("/bench/held", dependencies=[Depends(Holding(Scope.READ))])(_nothing)
    server.run()


async def _nothing() -> dict[str, str]:
    return {"status": "ok"}


def _guard(rows: int) -> dict[str, Any]:
    """The guard's own CPU in one run by one worker: its checks, and what it does to a page before and after."""
    with place("sqlite", [dataset.rows(rows)]) as made:
        ours.prepare(made)
        work = ours.ordered(made.folder / "home", made.own)
        spent = _watched()
        before = time.process_time()
        counts = work()["counts"]
        whole = time.process_time() - before
    guard = sum(spent.values())
    return {
        "name": "access, the guard in a run, ms of CPU",
        "ours": round(1000 * guard, 1),
        "theirs": round(1000 * whole),
        "limit": LIMIT_GUARD,
        "ratio": round(guard / whole, 5),
        "counts": counts,
        "ms": {name: round(1000 * each, 2) for name, each in spent.items()},
    }


def _watched() -> dict[str, float]:
    """Seconds of CPU by part of the guard, from now on: each part alone, without the connector's inside it."""
    from hub.connections import guard

    spent: dict[str, float] = {}

    def watched(once: Callable[..., Any], name: str) -> Callable[..., Any]:
        @wraps(once)
        def timed(*given: Any) -> Any:
            began = time.thread_time()
            try:
                return once(*given)
            finally:
                spent[name] = spent.get(name, 0.0) + time.thread_time() - began

        return timed

    for name in ("check_read", "check_changes"):
        setattr(guard._Rules, name, watched(getattr(guard._Rules, name), name))
    guard._fitting = watched(guard._fitting, "_fitting")
    first = guard._Rules.__init__

    def begin(rules: Any, connection: str, grant: Any, leased: Callable[[str], None]) -> None:
        first(rules, connection, grant, watched(leased, "leased"))

    guard._Rules.__init__ = begin
    trimmed: Callable[..., Iterator[Any]] = guard._trimmed

    def counted(call: str, ask: Callable[[], Any], selection: Any, leased: Any) -> Iterator[Any]:
        return _own(trimmed, call, ask, selection, leased, spent)

    guard._trimmed = counted
    return spent


def _own(
    trimmed: Callable[..., Iterator[Any]],
    call: str,
    ask: Callable[[], Any],
    selection: Any,
    leased: Any,
    spent: dict[str, float],
) -> Iterator[Any]:
    """The guard's pages; counts its time, the look at the lease included, without the connector's."""
    inside = [0.0]

    def asked() -> Iterator[Any]:
        pages = iter(ask())
        while True:
            began = time.thread_time()
            page = next(pages, None)
            inside[0] += time.thread_time() - began
            if page is None:
                return
            yield page

    pages = trimmed(call, asked, selection, leased.__wrapped__)
    while True:
        inside[0] = 0.0
        began = time.thread_time()
        page = next(pages, None)
        spent[call] = spent.get(call, 0.0) + time.thread_time() - began - inside[0]
        if page is None:
            return
        yield page


if __name__ == "__main__":
    serve(*sys.argv[1:])
