"""A Salesforce twin in a process of its own, filled with leads, and what it was asked, by its control port."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

TARGETS = ("Score__c double 3,0", "Band__c picklist 40 restricted =Hot|Warm|Cold", "Scored_At__c datetime")
FEATURES = ("LeadSource", "Industry", "Rating", "Country", "Status", "AnnualRevenue", "NumberOfEmployees")
TEXTS, NUMBERS = FEATURES[:5], FEATURES[5:]


@dataclass(frozen=True)
class Org:
    """Where the twin is and what to log in with."""

    told: Mapping[str, Any]

    def ask(self, name: str, **given: Any) -> Any:
        """One method of the twin's control port."""
        headers = {"Content-Type": "application/json"}
        asked = Request(f"{self.told['control']}/{name}", json.dumps(given).encode(), headers)
        with urlopen(asked, timeout=120) as answer:
            return json.load(answer)["result"]

    def settings(self, **more: Any) -> dict[str, Any]:
        """A connection to it."""
        login = {"login": "client_credentials", "client_id": self.told["consumer_key"]}
        trust = {"host": self.told["host"], "authority": self.told["authority"], "private": True}
        return {**login, **trust, "late_seconds": 0, "objects": ["Lead"], **more}

    def calls(self) -> dict[str, int]:
        """What was counted since `forget_calls`, polls beyond two for each job taken out, by kind."""
        kinds = {name: row["counted"] for name, row in self.ask("summary")["kinds"].items() if row["counted"]}
        for what in ("ingest", "query"):
            most = 2 * kinds.get(f"bulk.{what}.create", 0)
            if f"bulk.{what}.poll" in kinds:
                kinds[f"bulk.{what}.poll"] = min(kinds[f"bulk.{what}.poll"], most)
        return kinds

    def busy(self) -> float:
        """Seconds that the twin spent on calls since `forget_calls`; its jobs are worked off beside them."""
        return float(sum(each["seconds"] for each in self.ask("calls")))


@contextmanager
def org(folder: Path, leads: int) -> Iterator[Org]:
    """A twin with so many leads and the fields of the score, new and gone afterwards."""
    command = [sys.executable, "-m", "hub.cli", "twin", "salesforce", "--folder", str(folder), "--json"]
    process = subprocess.Popen([*command, "--records", str(leads), "--history", "0"], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        text = ""
        while not text.rstrip().endswith("}"):
            line = process.stdout.readline()
            if not line:
                raise SystemExit("the twin did not start")
            text += line
        made = Org(json.loads(text))
        for each in TARGETS:
            made.ask("add_field", entity="Lead", field=each)
        made.ask("budget", most=10_000_000)
        yield made
    finally:
        process.terminate()
        process.wait(60)
