"""From an edit in Salesforce to its score on the record: the twin, a hub with real workers, and somebody who edits."""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import quantiles
from typing import Any

import polars as pl
import requests
from simple_salesforce import Salesforce

from connectors.salesforce.twin import Twin
from hub.access import local_caller
from hub.database import Database
from hub.logs import configure
from hub.migrations import upgrade
from hub.runs import Installation, Run, RunKind, RunState, open_installation
from hub.sdk import Json, Secret
from hub.settings import load_settings
from hub.worker import Supervisor

ME = local_caller("bench").actor
LIMIT_SECONDS = 5.0
"""What issue 4 allows from edit to score, for 95 of 100 edits."""
PATIENCE = 120.0
FIELDS = ("Score__c double 3,0", "Band__c string 10")
MAPPING = """
format: 1
mapping: lead_size
title: Lead size
owner: bench
purpose: Measure what following costs
read: { connection: crm, entity: Lead, where: "IsConverted = false", changed_by: SystemModstamp }
features: { size: "coalesce(NumberOfEmployees, 0)", industry: "coalesce(Industry, 'Unknown')" }
model: { name: lead_size }
decide:
  score: "round(100 * probability)"
  band: "case when probability >= 0.5 then 'Hot' else 'Cold' end"
write: { mode: update, set: { Score__c: score, Band__c: band } }
run: { schedule: "0 0 1 1 *", follow: true }
"""


@dataclass
class Followed:
    """A twin, a hub that follows its leads with workers of its own, and the same org as a salesperson sees it."""

    twin: Twin
    hub: Installation
    people: Salesforce
    leads: list[str]

    def runs(self, kind: RunKind) -> list[Run]:
        """The runs of a kind, newest first."""
        with self.hub.database.read() as session:
            return [each for each in self.hub.ledger.runs(session) if each.kind is kind]

    def settled(self) -> bool:
        """Whether the run that following begins with is done; an edit of nothing read gives it a place."""
        if not self.runs(RunKind.FULL):
            self.people.Lead.update(self.leads[0], {"City": f"Town {time.monotonic()}"})
            time.sleep(1.0)
        return any(each.state is RunState.DONE for each in self.runs(RunKind.FULL))

    def score(self, lead: str) -> float | None:
        """What stands on the record, as people read it."""
        found: float | None = self.people.Lead.get(lead)["Score__c"]
        return found

    def edit(self, lead: str, size: int) -> None:
        """What a salesperson does."""
        self.people.Lead.update(lead, {"NumberOfEmployees": size})


@contextmanager
def followed(folder: Path, records: int = 100) -> Iterator[Followed]:
    """A followed org whose leads are all scored."""
    with Twin(folder / "twin", records=records) as twin:
        for each in FIELDS:
            twin.control.add_field("Lead", each)
        twin.control.capture("Lead")
        people = _people(twin)
        with _hub(folder / "hub", twin) as hub, Supervisor(hub.settings):
            found = people.query_all("SELECT Id FROM Lead WHERE IsConverted = false ORDER BY Id")["records"]
            made = Followed(twin, hub, people, [each["Id"] for each in found])
            until(made.settled)
            yield made


def until(what: Callable[[], Any]) -> Any:
    """What `what` answers as soon as that is something; RuntimeError where it never is."""
    pause, end = threading.Event(), time.monotonic() + PATIENCE
    while not (found := what()):
        if time.monotonic() > end:
            raise RuntimeError("it did not come to pass")
        pause.wait(0.05)
    return found


def _people(twin: Twin) -> Salesforce:
    session = requests.Session()
    session.trust_env = False
    session.verify = str(twin.authority)
    return Salesforce(instance=twin.host, session_id=twin.site.sessions.give("sales"), version="62.0", session=session)


@contextmanager
def _hub(home: Path, twin: Twin) -> Iterator[Installation]:
    settings = load_settings(home=home, log_level="error")
    configure(settings, process="bench")
    database = Database(settings)
    upgrade(database)
    with open_installation(settings, database) as hub:
        told = twin.described()
        config: dict[str, Json] = {
            "host": told["host"],
            "pubsub": told["pubsub"],
            "login": "client_credentials",
            "client_id": told["consumer_key"],
            "objects": ["Lead"],
            "authority": told["authority"],
            "private": True,
            "events": True,
            "late_seconds": 0,
        }
        hub.connections.create("crm", "salesforce", config, {"client_secret": Secret(told["consumer_secret"])}, ME)
        _register(hub)
        hub.mappings.publish(MAPPING, ME)
        yield hub


def _register(hub: Installation) -> None:
    """A model whose score moves with each size, so that each edit has a score of its own."""
    from sklearn.compose import ColumnTransformer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    sizes = [float(each * 10) for each in range(101)]
    rows = pl.DataFrame({"size": sizes, "industry": ["Banking", "Retail", "Unknown"] * 33 + ["Banking", "Retail"]})
    encode = ColumnTransformer(
        [
            ("industry", OneHotEncoder(handle_unknown="ignore", sparse_output=False), ["industry"]),
            ("size", StandardScaler(), ["size"]),
        ]
    )
    model = make_pipeline(encode, LogisticRegression(C=0.01)).fit(
        rows.to_pandas(), [int(each >= 500) for each in sizes]
    )
    hub.registry.register("lead_size", model, rows, owner="bench", positive=1, actor=str(ME), alias="champion")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `python -m bench` passes on."""
    parser.add_argument("--edits", type=int, default=200, help="of one lead after the other, by a salesperson")
    parser.add_argument("--every", type=float, default=0.25, help="seconds between two edits")


def compare(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """One line: seconds from the answer to an edit until its score stands, and how often each record was written."""
    with tempfile.TemporaryDirectory() as made, followed(Path(made)) as org:
        before = writes(org)
        took = [_timed(org, number, arguments.every) for number in range(arguments.edits)]
        edited = Counter(org.leads[number % len(org.leads)] for number in range(arguments.edits))
        until(lambda: sum(each.counts["applied"] for each in org.runs(RunKind.FOLLOW)) >= arguments.edits)
        written = writes(org) - before
        counts = dict(org.runs(RunKind.FOLLOW)[0].counts.to_json())
    parts = quantiles(took, n=20, method="inclusive")
    yield {
        "name": "events, seconds from edit to score",
        "edits": arguments.edits,
        "p50": round(parts[9], 3),
        "p95": round(parts[18], 3),
        "most": round(max(took), 3),
        "limit": LIMIT_SECONDS,
        "one_write_each": written == edited,
        "counts": counts,
    }


def _timed(org: Followed, number: int, every: float) -> float:
    """Edits one lead so that its score moves, and waits until people see the new one."""
    lead, round_ = org.leads[number % len(org.leads)], number // len(org.leads)
    before, size = org.score(lead), 5 if round_ % 2 else 995
    if before is not None and (before >= 50) == (size > 500):
        size = 1000 - size
    org.edit(lead, size)
    began = time.perf_counter()
    while org.score(lead) == before:
        if time.perf_counter() - began > PATIENCE:
            raise RuntimeError(f"edit {number} was never scored")
        time.sleep(0.01)
    took = time.perf_counter() - began
    time.sleep(every)
    return took


def writes(org: Followed) -> Counter[str]:
    """How often each lead's score was written, by the twin's own journal of changes."""
    changes = org.twin.site.org.store.changes_after(0, ["Lead"], limit=100_000)
    return Counter(each.record for each in changes if "Score__c" in each.values)
