"""Many clients at once: every write is there once, and what is told of it comes in one order."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from connectors.salesforce.twin import Twin
from connectors.salesforce.twin.org.store import Change
from tests.connectors.salesforce.twin.conftest import Rest

CLIENTS, ROUNDS = 6, 8


def test_what_many_clients_write_at_once_is_there_once(twin: Twin) -> None:
    told: list[Change] = []
    twin.site.org.store.listeners.append(told.extend)
    leads = twin.control.create("Lead", [{"LastName": f"T{n}", "Company": "Together"} for n in range(CLIENTS)])
    before = len(told)

    def client(number: int) -> list[int]:
        rest = Rest(twin)
        statuses = []
        for step in range(ROUNDS):
            record = {"attributes": {"type": "Lead"}, "id": leads[number], "Score__c": step}
            statuses.append(rest("PATCH", "composite/sobjects", json={"records": [record]}).status_code)
            made = rest("POST", "sobjects/Lead", json={"LastName": f"N{number}", "Company": "Many", "Score__c": step})
            statuses.append(made.status_code)
            statuses.append(rest("GET", "query?q=SELECT+Id,Owner.Name+FROM+Lead+ORDER+BY+Name").status_code)
        return statuses

    job = Rest(twin)("POST", "jobs/ingest", json={"operation": "insert", "object": "Lead"}).json()["id"]
    lines = "LastName,Company\n" + "".join(f"B{n},Many\n" for n in range(1000))
    Rest(twin)("PUT", f"jobs/ingest/{job}/batches", data=lines.encode(), headers={"Content-Type": "text/csv"})
    Rest(twin)("PATCH", f"jobs/ingest/{job}", json={"state": "UploadComplete"})
    with ThreadPoolExecutor(CLIENTS) as pool:
        statuses = [each for done in pool.map(client, range(CLIENTS)) for each in done]
    twin.site.jobs.wait()
    twin.site.org.store.listeners.remove(told.extend)
    assert set(statuses) == {200, 201}
    assert len(twin.control.find("Lead", "Company", ["Many"])) == CLIENTS * ROUNDS + 1000
    assert {each["Score__c"] for each in twin.control.find("Lead", "Id", leads)} == {ROUNDS - 1}
    assert len(told) - before == 2 * CLIENTS * ROUNDS + 1000
    assert [each.replay for each in told] == sorted({each.replay for each in told})
    counted = twin.control.summary()
    assert counted["calls"] == 3 * CLIENTS * ROUNDS + 3
    assert counted["counted"] == counted["used"] == counted["calls"]


def test_a_call_that_leads_nowhere_is_noted_as_what_it_was(twin: Twin, rest: Rest) -> None:
    rest("GET", "nowhere")
    (call,) = twin.control.calls()
    assert (call["kind"], call["status"], call["counted"]) == ("unknown", 404, 1)
    assert rest("GET", "nowhere", headers={"Authorization": "Bearer none"}).status_code == 401
