"""A hub beside an org of its own: leads scored by a small model, carried by real workers, and what must hold after."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from connectors.salesforce.twin import Twin
from hub.access import local_caller
from hub.runs import Installation, Order, Run, RunKind, Worker, progress, start
from hub.sdk import Secret

ME = local_caller("anna").actor
ON_ITS_WAY = 0.5
"""Seconds in which a call that another thread had sent already may still arrive after the org asked to wait."""
DOCUMENT = """
format: 1
mapping: {name}
title: Lead score
owner: tests
purpose: Score leads under bad weather
read:
  connection: crm
  entity: Lead
  where: "IsConverted = false"
{read}
features:
  x: "coalesce(NumberOfEmployees, 0)"
  y: "1"
model: {{ name: risk }}
decide:
  score: "round(100 * probability)"
  band: "case when probability >= 0.5 then 'Hot' else 'Cold' end"
write:
{write}
run:
  limits: {{}}
{run}"""
IN_PLACE = """  mode: update
  set: { Score__c: score, Band__c: band }
  with: { Scored_At__c: scored_at }"""
TARGETS = ("Score__c double 3,0", "Band__c picklist 40 restricted =Hot|Warm|Cold", "Scored_At__c datetime")


def document(*, name: str = "leads", read: str = "", write: str = IN_PLACE, run: str = "") -> str:
    """The mapping of the tests."""
    return DOCUMENT.format(name=name, read=read, write=write, run=run)


@dataclass
class LeadSite:
    """An installation and the org it works on."""

    hub: Installation
    twin: Twin
    names: int = 0

    def publish(self, text: str | None = None, **parts: str) -> None:
        """Publishes the mapping."""
        self.hub.mappings.publish(text or document(**parts), ME)

    def order(self, mapping: str = "leads", kind: RunKind | None = None) -> str:
        """Starts a run; its id."""
        return start(self.hub, Order(mapping, str(ME), kind=kind))

    def carry(self, run: str) -> Run:
        """Works in this process until nothing more of the run can be claimed; the run as it stands then."""
        self.names += 1
        worker = Worker(self.hub, "default", f"test/{self.names}")
        while worker.work(run):
            pass
        worker.rest()
        return self.look(run)

    def look(self, run: str) -> Run:
        """A run as the ledger has it."""
        with self.hub.database.read() as session:
            return self.hub.ledger.run(session, run)

    def runs(self) -> list[Run]:
        """Every run there was, oldest first."""
        with self.hub.database.read() as session:
            return self.hub.ledger.runs(session)[::-1]

    def happened(self, run: str) -> str:
        """What the run's summary says it had to put up with."""
        told = progress(self.hub, run)["happened"]
        return "; ".join(told)

    def leads(self) -> list[dict[str, Any]]:
        """Every lead as the org has it stored."""
        org = self.twin.site.org
        kind = org.schema.objects["lead"]
        with org.store.reading() as connection:
            return [dict(each) for each in connection.execute(org.store.table(kind).select()).mappings()]

    def written(self) -> int:
        """Records that the org took from calls, whatever became of the answers."""
        taken = 0
        for each in self.twin.control.calls():
            if each["kind"].startswith(("composite", "collections")) and each["status"] in {0, 200}:
                taken += each["detail"].get("records", 0) - each["detail"].get("failed", 0)
        for job in self.twin.site.jobs.all("ingest"):
            taken += job["numberRecordsProcessed"] - job["numberRecordsFailed"]
        return taken

    def assert_all_scored(self, run: Run) -> None:
        """Every lead has the score of its own values, each was written once, and the counts say so."""
        leads = self.leads()
        assert run.counts.balanced
        assert run.counts.read == len(leads)
        assert run.counts.by.get("applied") == len(leads), (run.counts, run.reason)
        assert {each["Id"]: each["Score__c"] for each in leads} == self.wanted(leads)
        assert self.written() == len(leads)

    def wanted(self, leads: list[dict[str, Any]]) -> Mapping[str, float]:
        """The scores that the champion gives these leads."""
        import polars as pl

        version = self.hub.registry.get("risk", "champion")
        features = pl.DataFrame({"x": [float(each["NumberOfEmployees"] or 0) for each in leads]}).with_columns(y=1.0)
        shares = self.hub.registry.load(version).predict(features)["probability"]
        scores = (100 * shares + 0.5).floor()
        return dict(zip([each["Id"] for each in leads], scores.to_list(), strict=True))

    def assert_waits_kept(self) -> None:
        """No call came while the org had asked to wait, but those that were on their way already."""
        asked = 0.0
        for each in self.twin.control.calls():
            if each["inside_wait"]:
                assert each["moment"] - asked < ON_ITS_WAY, each
            if each["fault"] in {"503", "429", "limit"}:
                asked = each["moment"]

    def assert_reserve_untouched(self, percent: int = 20) -> None:
        """The org has as many calls left as are kept for others."""
        told = self.twin.control.summary()
        assert told["used"] <= told["most"] * (100 - percent) // 100


def settings_of(twin: Twin, **more: Any) -> dict[str, Any]:
    """A connection to the twin, without its secret."""
    told = twin.described()
    return {
        "host": told["host"],
        "pubsub": told["pubsub"],
        "login": "client_credentials",
        "client_id": told["consumer_key"],
        "authority": str(twin.authority),
        "private": True,
        "objects": ["Lead"],
        "late_seconds": 0,
        **more,
    }


def secret_of(twin: Twin) -> Secret:
    """The secret that goes with it."""
    return Secret(twin.described()["consumer_secret"])


def key_pair() -> tuple[str, str]:
    """A private key and its public one, as PEM."""
    made = rsa.generate_private_key(public_exponent=65_537, key_size=2048)
    private = made.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = made.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return private.decode(), public.decode()
