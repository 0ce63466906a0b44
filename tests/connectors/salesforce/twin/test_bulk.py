"""Bulk jobs go through their states, and tell of every row what became of it, also when they end half way."""

from __future__ import annotations

import csv
import io
from typing import Any

import pytest

from connectors.salesforce.twin import Twin
from tests.connectors.salesforce.twin.conftest import Rest

UPLOAD = {"Content-Type": "text/csv; charset=UTF-8"}


def start(rest: Rest, content: str, operation: str = "insert", **more: Any) -> str:
    """An ingest job with its content, closed."""
    job = opened(rest, operation, **more)
    assert rest("PUT", f"jobs/ingest/{job}/batches", data=content.encode(), headers=UPLOAD).status_code == 201
    assert rest("PATCH", f"jobs/ingest/{job}", json={"state": "UploadComplete"}).status_code == 200
    return job


def opened(rest: Rest, operation: str = "insert", **more: Any) -> str:
    """An ingest job without content."""
    given = {"operation": operation, "object": "Lead", "contentType": "CSV", **more}
    answer = rest("POST", "jobs/ingest", json=given)
    assert (answer.status_code, answer.json()["state"]) == (200, "Open")
    return str(answer.json()["id"])


def state(rest: Rest, job: str) -> dict[str, Any]:
    return dict(rest("GET", f"jobs/ingest/{job}").json())


def results(rest: Rest, job: str, which: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(rest("GET", f"jobs/ingest/{job}/{which}").text, newline="")))


def leads(count: int, start: int = 0) -> str:
    return "LastName,Company\n" + "".join(f"L{n},C\n" for n in range(start, start + count))


def test_a_job_waits_works_and_completes(twin: Twin, rest: Rest) -> None:
    twin.control.hold_jobs()
    job = start(rest, leads(3))
    assert state(rest, job)["state"] == "UploadComplete"
    assert rest.refused("GET", f"jobs/ingest/{job}/successfulResults") == (400, "INVALIDJOBSTATE")
    twin.control.hold_jobs(held=False)
    twin.site.jobs.wait()
    told = state(rest, job)
    assert (told["state"], told["numberRecordsProcessed"], told["numberRecordsFailed"]) == ("JobComplete", 3, 0)
    assert [each["sf__Created"] for each in results(rest, job, "successfulResults")] == ["true"] * 3
    assert results(rest, job, "failedResults") == results(rest, job, "unprocessedrecords") == []


def test_a_job_that_ends_half_way_tells_all_three(twin: Twin, rest: Rest) -> None:
    twin.control.fail_job(after=250)
    content = leads(249) + f"L249,{'x' * 300}\n" + leads(250, 250).partition("\n")[2]
    job = start(rest, content)
    twin.site.jobs.wait()
    told = state(rest, job)
    assert (told["state"], told["numberRecordsProcessed"], told["numberRecordsFailed"]) == ("Failed", 250, 1)
    assert told["errorMessage"].startswith("InternalServerError")
    names = [
        [each["LastName"] for each in results(rest, job, which)]
        for which in ("successfulResults", "failedResults", "unprocessedrecords")
    ]
    assert names == [[f"L{n}" for n in range(249)], ["L249"], [f"L{n}" for n in range(250, 500)]]


def test_a_job_is_aborted_and_then_taken_away(twin: Twin, rest: Rest) -> None:
    twin.control.hold_jobs()
    job = start(rest, leads(5))
    assert rest("PATCH", f"jobs/ingest/{job}", json={"state": "Aborted"}).json()["state"] == "Aborted"
    assert rest.refused("PATCH", f"jobs/ingest/{job}", json={"state": "UploadComplete"}) == (400, "INVALIDJOBSTATE")
    twin.control.hold_jobs(held=False)
    twin.site.jobs.wait()
    assert len(results(rest, job, "unprocessedrecords")) == 5
    assert rest("DELETE", f"jobs/ingest/{job}").status_code == 204
    assert rest.refused("GET", f"jobs/ingest/{job}") == (404, "NOT_FOUND")


def test_content_is_taken_once_and_as_csv(rest: Rest) -> None:
    job = opened(rest)
    where = f"jobs/ingest/{job}/batches"
    assert rest.refused("PATCH", f"jobs/ingest/{job}", json={"state": "UploadComplete"}) == (400, "INVALIDJOBSTATE")
    json_type = {"Content-Type": "application/json"}
    assert rest.refused("PUT", where, data=b"{}", headers=json_type) == (415, "UNSUPPORTED_MEDIA_TYPE")
    assert rest("PUT", where, data=leads(1).encode(), headers=UPLOAD).status_code == 201
    assert rest.refused("PUT", where, data=leads(1).encode(), headers=UPLOAD) == (400, "CLIENT_INPUT_ERROR")


def test_more_than_100_mb_are_refused(rest: Rest) -> None:
    job = opened(rest)
    answer = rest("PUT", f"jobs/ingest/{job}/batches", data=(b"x" * 1_048_576 for _ in range(101)), headers=UPLOAD)
    assert answer.status_code == 413


def test_an_empty_cell_leaves_alone_and_n_a_clears(twin: Twin, rest: Rest) -> None:
    ids = twin.control.create("Lead", [{"LastName": "N", "Company": "C", "City": "Lyon", "Score__c": 5}] * 2)
    job = start(rest, f"Id,City,Score__c\n{ids[0]},#N/A,\n{ids[1]},,#N/A\n", "update")
    twin.site.jobs.wait()
    assert state(rest, job)["numberRecordsFailed"] == 0
    assert [(twin.control.read(each)["City"], twin.control.read(each)["Score__c"]) for each in ids] == [
        (None, 5.0),
        ("Lyon", None),
    ]


@pytest.mark.parametrize(("told", "ending"), [("LF", "\n"), ("CRLF", "\r\n")])
def test_line_ends_are_those_that_were_announced(twin: Twin, rest: Rest, told: str, ending: str) -> None:
    content = f'LastName,Company{ending}"Two\nlines","A ""quoted"" one"{ending}'
    job = start(rest, content, lineEnding=told)
    twin.site.jobs.wait()
    (done,) = results(rest, job, "successfulResults")
    assert (done["LastName"], done["Company"]) == ("Two\nlines", 'A "quoted" one')
    other = start(rest, content, lineEnding="CRLF" if told == "LF" else "LF")
    twin.site.jobs.wait()
    assert state(rest, other)["errorMessage"].startswith("ClientInputError : LineEnding is invalid on user data.")
    assert len(results(rest, other, "unprocessedrecords")) == 1


def test_a_parent_is_named_by_its_key(twin: Twin, rest: Rest) -> None:
    master = twin.control.create("Account", [{"Name": "M", "Key__c": "acc-1"}])[0]
    content = "LastName,Account.Key__c\nKnown,acc-1\nUnknown,acc-2\n"
    job = start(rest, content, object="Contact")
    twin.site.jobs.wait()
    (done,) = results(rest, job, "successfulResults")
    (failed,) = results(rest, job, "failedResults")
    assert twin.control.read(done["sf__Id"])["AccountId"] == master
    told = "INVALID_FIELD:Foreign key external ID: acc-2 not found for field Key__c in entity Account:"
    assert failed["sf__Error"].startswith(told)


def test_records_are_taken_away_by_id_alone(twin: Twin, rest: Rest, lead: str) -> None:
    job = start(rest, f"Id\n{lead}\n{lead}\n", "delete")
    twin.site.jobs.wait()
    told = state(rest, job)
    assert (told["numberRecordsProcessed"], told["numberRecordsFailed"]) == (2, 1)
    other = start(rest, f"Id,LastName\n{lead},X\n", "delete")
    twin.site.jobs.wait()
    assert state(rest, other)["state"] == "Failed"


def test_an_upsert_needs_a_key_that_is_one(rest: Rest) -> None:
    given = {"operation": "upsert", "object": "Lead"}
    assert rest.refused("POST", "jobs/ingest", json=given) == (400, "INVALIDJOB")
    assert rest.refused("POST", "jobs/ingest", json={**given, "externalIdFieldName": "City"}) == (400, "INVALIDJOB")
    assert rest.refused("POST", "jobs/ingest", json={"operation": "insert", "object": "No"}) == (400, "INVALIDJOB")


def test_results_of_a_query_come_in_pages_that_end(twin: Twin, rest: Rest) -> None:
    text = "SELECT Id, CreatedDate, IsConverted, AnnualRevenue FROM Lead ORDER BY Id"
    job = rest("POST", "jobs/query", json={"operation": "query", "query": text}).json()
    assert job["state"] == "UploadComplete"
    twin.site.jobs.wait()
    found: list[dict[str, str]] = []
    params: dict[str, Any] = {"maxRecords": 70}
    while True:
        answer = rest("GET", f"jobs/query/{job['id']}/results", params=params)
        page = list(csv.DictReader(io.StringIO(answer.text, newline="")))
        assert len(page) == int(answer.headers["Sforce-NumberOfRecords"]) <= 70
        found += page
        params["locator"] = answer.headers["Sforce-Locator"]
        if params["locator"] == "null":
            break
    assert len({each["Id"] for each in found}) == len(found) == twin.control.count("Lead")
    # Bulk writes a moment with Z, where REST writes +0000.
    assert all(each["CreatedDate"].endswith(".000Z") and each["IsConverted"] == "false" for each in found)
    assert any("E" in each["AnnualRevenue"] for each in found)
    assert {float(each["AnnualRevenue"]) for each in found if each["AnnualRevenue"]} == {
        row["AnnualRevenue"]
        for row in twin.control.find("Lead", "Id", [each["Id"] for each in found])
        if row["AnnualRevenue"] is not None
    }
    refused = rest.refused("GET", f"jobs/query/{job['id']}/results", params={"locator": "MTIz!"})
    assert refused == (400, "INVALIDLOCATOR")


def test_query_all_reads_what_was_deleted(twin: Twin, rest: Rest, lead: str) -> None:
    twin.control.remove(lead)
    found = {}
    for operation in ("query", "queryAll"):
        given = {"operation": operation, "query": f"SELECT Id, IsDeleted FROM Lead WHERE Id = '{lead}'"}
        job = rest("POST", "jobs/query", json=given).json()["id"]
        twin.site.jobs.wait()
        found[operation] = rest("GET", f"jobs/query/{job}/results").text
    assert found["query"] == '"Id","IsDeleted"\n'
    assert found["queryAll"] == f'"Id","IsDeleted"\n"{lead}","true"\n'


def test_children_of_one_master_in_neighbouring_batches_take_its_lock_from_each_other(twin: Twin, rest: Rest) -> None:
    masters = twin.control.create("Account", [{"Name": f"M{n}"} for n in range(4)])
    twin.control.batches(50, side_by_side=True)

    def failed(order: list[str]) -> int:
        content = "LastName,AccountId\n" + "".join(f"D,{each}\n" for each in order)
        job = start(rest, content, object="Contact")
        twin.site.jobs.wait()
        rows = results(rest, job, "failedResults")
        assert all(each["sf__Error"].startswith("UNABLE_TO_LOCK_ROW:") for each in rows)
        return len(rows)

    assert failed([masters[n % 4] for n in range(200)]) == 150
    assert failed([masters[n // 50] for n in range(200)]) == 0


def test_a_parent_is_named_by_its_key_in_json_too(twin: Twin, rest: Rest) -> None:
    master = twin.control.create("Account", [{"Name": "J", "Key__c": "acc-json"}])[0]
    made = rest("POST", "sobjects/Contact", json={"LastName": "D", "Account": {"Key__c": "acc-json"}})
    assert twin.control.read(made.json()["id"])["AccountId"] == master
    given = {"LastName": "D", "Account": {"Key__c": "nobody"}}
    assert rest.refused("POST", "sobjects/Contact", json=given) == (400, "INVALID_FIELD")
