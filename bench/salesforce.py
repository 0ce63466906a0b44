"""Leads of a Salesforce twin read, scored and written back: the calls it takes, beside the loop that users write.

Calls are counted by the twin's own journal, as Salesforce counts them. The twin, the installation and the worker are
processes of their own: what is measured of the hub is the CPU time of the worker's process, all its threads, in which
neither the twin's work nor the waits for it are.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.org import FEATURES, NUMBERS, TEXTS, Org, org
from hub.worker.supervisor import LIBRARIES

MAPPING = "\n".join(
    [
        "format: 1",
        "mapping: bench",
        "title: Bench",
        "owner: bench",
        "purpose: Count the calls of a run",
        'read: { connection: crm, entity: Lead, where: "IsConverted = false", changed_by: SystemModstamp }',
        "features:",
        *(f"  {name}: \"coalesce({name}, 'none')\"" for name in TEXTS),
        *(f'  {name}: "coalesce({name}, 0)"' for name in NUMBERS),
        "model: { name: bench }",
        "decide:",
        '  score: "round(100 * probability)"',
        "  band: \"case when probability >= 0.6 then 'Hot' when probability >= 0.4 then 'Warm' else 'Cold' end\"",
        "write:",
        "  mode: update",
        "  set: { Score__c: score, Band__c: band }",
        "  with: { Scored_At__c: scored_at }",
        "run: { limits: {} }",
    ]
)
MOST = {"collections": 40, "bulk": 15}
NAIVE = 1_000
LEAST_RATE = 5_000
MOST_MB = 400
WRITES = ("composite", "collections", "record", "bulk.ingest")


def compare(asked: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Calls of both paths beside the loop's, an unchanged second pass, then memory and rate of a large bulk run."""
    if asked.leads:
        yield from _calls(asked)
    if asked.many:
        yield from _large(asked)


def _calls(asked: argparse.Namespace) -> Iterator[dict[str, Any]]:
    naive = _naive(asked.leads)
    for path, most in MOST.items():
        with _installed(asked.leads, path) as (made, home):
            first, calls = _pass(made, home)
            _check(made, first, asked.leads)
            yield {
                "name": f"salesforce, calls for {asked.leads} leads, {path}/loop",
                "ours": sum(calls.values()),
                "theirs": naive["calls"],
                "limit": most,
                "ratio": round(sum(calls.values()) / naive["calls"], 5),
                "kinds": calls,
                "loop": naive,
            }
            second, calls = _pass(made, home)
            if second["counts"].get("applied") or _written(made):
                raise SystemExit(f"an unchanged pass wrote: {second} {calls}")
            yield {
                "name": f"salesforce, calls of an unchanged second pass, {path}",
                "ours": sum(calls.values()),
                "limit": most,
                "writes": 0,
                "kinds": calls,
            }


def _large(asked: argparse.Namespace) -> Iterator[dict[str, Any]]:
    with _installed(asked.many, "bulk") as (made, home):
        ran, calls = _pass(made, home)
        _check(made, ran, asked.many)
        told = {"leads": asked.many, "seconds": round(ran["seconds"], 1), "twin_busy": round(made.busy(), 1)}
        rate = asked.many / ran["cpu_seconds"]
        yield {
            "name": "salesforce, bulk, leads/s of CPU",
            "ours": round(rate),
            "limit": LEAST_RATE,
            **told,
            "kinds": calls,
        }
        yield {"name": "salesforce, bulk, peak MB", "ours": round(ran["peak_mb"]), "limit": MOST_MB, **told}


@contextmanager
def _installed(leads: int, path: str) -> Iterator[tuple[Org, Path]]:
    """A twin with its leads and a hub that knows it."""
    with tempfile.TemporaryDirectory() as kept, org(Path(kept) / "twin", leads) as made:
        folder = Path(kept)
        way = {"reads": "rest" if path == "collections" else "bulk", "writes": path}
        settings = {**made.settings(**way), "secret": made.told["consumer_secret"]}
        (folder / "connection.json").write_text(json.dumps(settings), "utf-8")
        _process("install", folder)
        yield made, folder


def _pass(made: Org, home: Path, **variables: str) -> tuple[dict[str, Any], dict[str, int]]:
    """One run, ordered by one process and carried by another, as it is; what it cost and which calls it made."""
    made.ask("forget_calls")
    run = _process("order", home, **variables)["run"]
    found = _process("worker", home, run, **variables)
    return found, made.calls()


def _written(made: Org) -> list[Any]:
    """The calls of a pass that wrote records; objects are described by composite calls too, which are of no record."""
    return [each for each in made.ask("calls") if each["kind"].startswith(WRITES) and each["detail"].get("records")]


def _check(made: Org, ran: dict[str, Any], leads: int) -> None:
    if ran["counts"] != {"applied": leads}:
        raise SystemExit(f"{leads} leads came to {ran['counts']}")
    some = made.ask("find", entity="Lead", field="Score__c", values=[None, *range(101)])
    if len(some) != leads:
        raise SystemExit(f"{len(some)} of {leads} leads have a score")


def _process(name: str, folder: Path, *more: str, **variables: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "bench.salesforce", name, str(folder), *more]
    # As the supervisor starts its workers.
    environment = {**os.environ, **LIBRARIES, **variables}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(json.dumps({"salesforce": name, **found}), file=sys.stderr)
    return found


def _naive(leads: int) -> dict[str, Any]:
    """The loop on some leads, and what it comes to for all: a page of 2,000 read, and a call for each lead."""
    with tempfile.TemporaryDirectory() as made, org(Path(made) / "twin", NAIVE) as far:
        (Path(made) / "told.json").write_text(json.dumps(far.told), "utf-8")
        from bench.leads import train

        train(Path(made))
        far.ask("forget_calls")
        seconds = _process("loop", Path(made))["seconds"]
        counted = far.ask("summary")["counted"]
    if counted < NAIVE:
        raise SystemExit(f"the loop made {counted} calls for {NAIVE} leads")
    return {
        "calls": -(-leads // 2_000) + leads * (counted - 1) // NAIVE,
        "of": NAIVE,
        "counted": counted,
        "seconds": seconds,
    }


# -- the processes -----------------------------------------------------------------------------------------------------


def _install(folder: Path) -> Callable[[], dict[str, Any]]:
    import joblib

    from bench.leads import train
    from bench.ours import ME
    from hub.database import Database
    from hub.logs import configure
    from hub.migrations import upgrade
    from hub.runs import open_installation
    from hub.sdk import Secret
    from hub.settings import load_settings

    def work() -> dict[str, Any]:
        home = folder / "home"
        settings = load_settings(home=home, log_level="error")
        configure(settings, process="bench")
        database = Database(settings)
        upgrade(database)
        hub = open_installation(settings, database)
        given = json.loads((folder / "connection.json").read_text("utf-8"))
        secret = Secret(given.pop("secret"))
        hub.connections.create("crm", "salesforce", given, {"client_secret": secret}, ME)
        sample = train(folder)
        model = joblib.load(folder / "model.joblib")
        hub.registry.register("bench", model, sample, owner="bench", positive=True, actor=str(ME), alias="champion")
        hub.mappings.publish(MAPPING, ME)
        hub.close()
        return {}

    return work


def _order(folder: Path) -> Callable[[], dict[str, Any]]:
    from bench.ours import order

    home = folder / "home"
    return lambda: {"run": order(home, f"sqlite:///{home / 'hub.db'}", 1)}


def _worker(folder: Path, run: str) -> Callable[[], dict[str, Any]]:
    from bench.ours import joined

    home = folder / "home"
    return joined(home, f"sqlite:///{home / 'hub.db'}", run)


def _loop(folder: Path) -> Callable[[], dict[str, Any]]:
    """What a user of simple-salesforce writes: read all, predict, one update for each record."""
    import joblib
    import pandas as pd
    import requests
    from simple_salesforce import Salesforce

    told = json.loads((folder / "told.json").read_text("utf-8"))
    model = joblib.load(folder / "model.joblib")
    session = requests.Session()
    session.trust_env, session.verify = False, told["authority"]
    form = {"grant_type": "client_credentials"}
    login = (told["consumer_key"], told["consumer_secret"])
    token = session.post(f"{told['url']}/services/oauth2/token", data=form, auth=login, timeout=60).json()

    def work() -> dict[str, Any]:
        sf = Salesforce(instance_url=told["url"], session_id=token["access_token"], session=session)
        found = sf.query_all(f"SELECT Id, {', '.join(FEATURES)} FROM Lead")["records"]
        frame = pd.DataFrame(found)
        frame[list(TEXTS)] = frame[list(TEXTS)].fillna("none")
        frame[list(NUMBERS)] = frame[list(NUMBERS)].fillna(0).astype(float)
        scores = model.predict_proba(frame[list(FEATURES)])[:, 1]
        for key, score in zip(frame["Id"], scores, strict=True):
            band = "Hot" if score >= 0.6 else "Warm" if score >= 0.4 else "Cold"
            sf.Lead.update(key, {"Score__c": round(100 * float(score)), "Band__c": band})
        return {"counts": {"applied": len(frame)}}

    return work


def main(name: str, folder: str, *more: str) -> None:
    """Prints one JSON object: what the work came to, its seconds, its CPU and the most memory of its process."""
    from bench.contest import peak_mb

    ready: dict[str, Callable[..., Callable[[], dict[str, Any]]]] = {
        "install": _install,
        "order": _order,
        "worker": _worker,
        "loop": _loop,
    }
    work = ready[name](Path(folder), *more)
    begun, before = time.perf_counter(), time.process_time()
    told = work()
    seconds = time.perf_counter() - begun
    print(json.dumps({"seconds": seconds, "cpu_seconds": time.process_time() - before, "peak_mb": peak_mb(), **told}))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `python -m bench` passes on."""
    parser.add_argument("--leads", type=int, default=10_000, help="of the comparison of calls; 0: none")
    parser.add_argument(
        "--many", type=int, default=100_000, help="leads of the bulk run whose memory is measured; 0: none"
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
