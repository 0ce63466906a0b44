"""One installation with a small far side, and the verbs that tests of runs need."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hub.access import local_caller
from hub.audit import Action
from hub.runs import Installation, Order, Run, RunKind, Worker, start
from tests.hub.runs.far_side import FarSide

ME = local_caller("anna").actor
DOCUMENT = """
format: 1
mapping: risk
title: Risk
owner: tests
purpose: Prove what a run promises
read:
  connection: far
  entity: PERSON
  where: "LIVES = 1"
{read}
features:
  x: "X"
  y: "Y"
model: {{ name: risk, use: {use} }}
decide:
  score: "round(100 * probability)"
  band: "case when probability >= 0.5 then 'High' else 'Low' end"
{decide}
write:
  mode: {mode}
{write}
run:
{run}
"""
IN_PLACE = """  set: { SCORE: score, BAND: band }
  with: { SCORED_AT: scored_at }
"""


def document(
    read: str = "",
    decide: str = "",
    write: str = IN_PLACE,
    run: str = "  limits: {}\n",
    mode: str = "update",
    use: str = "champion",
) -> str:
    """The mapping of the tests, with lines added to its parts."""
    return DOCUMENT.format(read=read, decide=decide, write=write, run=run, mode=mode, use=use)


@dataclass
class Site:
    """An installation, the file of its far side, and the process that looks into that file."""

    hub: Installation
    file: Path
    far: FarSide
    names: int = 0
    text: str = ""

    def ask(self, statement: str, *values: Any) -> list[Any]:
        """Rows of the far side."""
        return self.far.ask(self.file, statement, *values)

    def fill(self, count: int) -> None:
        """That many persons, none scored; their score grows with their number."""
        rows = [[f"{at:06d}", float(at), float(at % 7), "2026-01-01 10:00:00"] for at in range(count)]
        self.ask("insert into PERSON(ID, X, Y, STAMP) values (?,?,?,?)", rows)

    def publish(self, text: str | None = None, **parts: str) -> None:
        """Publishes the mapping."""
        self.text = text or document(**parts)
        self.hub.mappings.publish(self.text, ME)

    def worker(self, pool: str = "default") -> Worker:
        """A worker of its own name."""
        self.names += 1
        return Worker(self.hub, pool, f"test/{self.names}")

    def order(self, kind: RunKind | None = None, **more: Any) -> str:
        """Starts a run; its id."""
        return start(self.hub, Order("risk", str(ME), kind=kind, **more))

    def carry(self, run: str, worker: Worker | None = None) -> Run:
        """Works until nothing more of the run can be claimed; the run as it stands then."""
        worker = worker or self.worker()
        while worker.work(run):
            pass
        return self.look(run)

    def run(self, kind: RunKind | None = None, **more: Any) -> Run:
        """A run from its start to where it gets; its counts always add up."""
        found = self.carry(self.order(kind, **more))
        assert found.counts.balanced
        return found

    def look(self, run: str) -> Run:
        """A run as the ledger has it."""
        with self.hub.database.read() as session:
            return self.hub.ledger.run(session, run)

    def scores(self) -> dict[str, tuple[int | None, str | None]]:
        """What the target holds."""
        return {key: (score, band) for key, score, band in self.ask("select ID, SCORE, BAND from PERSON")}

    def writes(self) -> int:
        """How often a score was written at the far side."""
        return int(self.ask("select count(*) from WRITES")[0][0])

    def states(self) -> Mapping[str, int]:
        """How many records stand in each state."""
        return self.hub.standing.states("risk")

    def standing(self, key: str) -> dict[str, Any]:
        """Where one record stands."""
        import polars as pl

        frame = self.hub.standing.view("risk", pl.DataFrame({"ID": [key]})).frame
        return frame.row(0, named=True)

    def events(self, action: Action) -> list[Any]:
        """The audit events of one action."""
        return self.hub.audit.events(action=action, limit=10_000)

    def decisions(self) -> int:
        """Decisions stored so far."""
        with self.hub.database.read() as session:
            return sum(each.rows for each in self.hub.log.segments(session, mapping="risk"))
