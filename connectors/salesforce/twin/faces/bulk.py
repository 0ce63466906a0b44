"""Bulk API 2.0: ingest jobs with their uploads and result files, query jobs with their pages."""

from __future__ import annotations

import base64
import binascii
import shutil
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from connectors.salesforce.twin.faces.call import CSV, Answer, Call, Route, route
from connectors.salesforce.twin.job_files import DELIMITERS, ENDINGS
from connectors.salesforce.twin.jobs import ENDED, WAITING
from connectors.salesforce.twin.org.problems import RefusedError, not_found
from connectors.salesforce.twin.soql.compile import Compiler
from connectors.salesforce.twin.soql.parser import parse
from connectors.salesforce.twin.soql.shape import Compound
from connectors.salesforce.twin.soql.tree import Query

MOST_UPLOAD = 100 * 1024**2
"""Bytes of one upload as it comes; Salesforce's 150 MB are after it has been encoded."""
PAGE = 50_000
"""Records of a page of results where nobody asks for a number."""
OPERATIONS = ("insert", "update", "upsert", "delete", "hardDelete")
_NUMBERS = {
    "retries": 0,
    "totalProcessingTime": 0,
    "apiActiveProcessingTime": 0,
    "apexProcessingTime": 0,
    "numberRecordsProcessed": 0,
    "numberRecordsFailed": 0,
}
_OWN = frozenset({"what", "sizes", "query", "uploaded"})


def routes() -> list[Route]:
    """Both kinds of jobs."""
    ingest, query = "services/data/v{version}/jobs/ingest", "services/data/v{version}/jobs/query"
    return [
        route("POST", ingest, create_ingest, "bulk.ingest.create"),
        route("GET", ingest, listed, "bulk.ingest.list"),
        route("PUT", f"{ingest}/{{id}}/batches", upload, "bulk.ingest.upload", large=True),
        route("PATCH", f"{ingest}/{{id}}", change, "bulk.ingest.close"),
        route("GET", f"{ingest}/{{id}}", show, "bulk.ingest.poll"),
        route("DELETE", f"{ingest}/{{id}}", drop, "bulk.ingest.delete"),
        route("GET", f"{ingest}/{{id}}/successfulResults", successful, "bulk.ingest.results"),
        route("GET", f"{ingest}/{{id}}/failedResults", failed, "bulk.ingest.results"),
        # Clients spell it in two ways, and both are answered.
        route("GET", f"{ingest}/{{id}}/unprocessedrecords", unprocessed, "bulk.ingest.results"),
        route("GET", f"{ingest}/{{id}}/unprocessedRecords", unprocessed, "bulk.ingest.results"),
        route("POST", query, create_query, "bulk.query.create"),
        route("GET", query, listed, "bulk.query.list"),
        route("PATCH", f"{query}/{{id}}", change, "bulk.query.abort"),
        route("GET", f"{query}/{{id}}", show, "bulk.query.poll"),
        route("DELETE", f"{query}/{{id}}", drop, "bulk.query.delete"),
        route("GET", f"{query}/{{id}}/results", results, "bulk.query.results"),
    ]


def create_ingest(call: Call) -> Answer:
    """POST …/jobs/ingest."""
    given = call.json_object()
    operation = given.get("operation")
    if operation not in OPERATIONS:
        raise RefusedError("INVALIDJOB", f"Unsupported operation: {operation}")
    kind = call.site.org.schema.get(str(given.get("object")))
    rights = call.site.org.access.of(call.user)
    if kind is None or kind.tooling or not rights.sees(kind):
        raise RefusedError("INVALIDJOB", f"InvalidJob : Invalid object type: {given.get('object')}")
    key = given.get("externalIdFieldName")
    if operation == "upsert":
        found = rights.field(kind, str(key)) if key else None
        if found is None or not (found.external or found.type == "id" or found.document.get("idLookup")):
            words = f"InvalidJob : External ID field: {key} is not valid for {kind.name}"
            raise RefusedError("INVALIDJOB", words)
    job = {**_job(call, given), "what": "ingest", "jobType": "V2Ingest", "operation": operation, "object": kind.name}
    job.update(state="Open", **({"externalIdFieldName": key} if operation == "upsert" else {}))
    made = call.site.jobs.add(job)
    made["contentUrl"] = f"services/data/v{call.version}/jobs/ingest/{made['id']}/batches"
    call.site.jobs.change(made["id"], contentUrl=made["contentUrl"])
    return Answer(_shown(made, whole=False))


def create_query(call: Call) -> Answer:
    """POST …/jobs/query."""
    given = call.json_object()
    operation = given.get("operation")
    if operation not in {"query", "queryAll"}:
        raise RefusedError("INVALIDJOB", f"Unsupported operation: {operation}")
    tree = parse(str(given.get("query") or ""))
    kind = _check_query(call, tree)
    job = {**_job(call, given), "what": "query", "jobType": "V2Query", "operation": operation, "object": kind}
    made = call.site.jobs.add({**job, "query": tree.text, "state": WAITING})
    call.detail["soql"] = tree.text[:300]
    call.site.jobs.change(made["id"], state=WAITING)
    return Answer(_shown(made, whole=False))


def upload(call: Call) -> Answer:
    """PUT …/jobs/ingest/750…/batches with CSV, once."""
    job = _job_of(call, "ingest")
    if not call.headers.get("content-type", "").startswith("text/csv"):
        raise RefusedError("UNSUPPORTED_MEDIA_TYPE", "The content type must be text/csv")
    if job.get("uploaded"):
        done = f"Found multiple contents for job: <{job['id']}>, please 'Close' / 'Abort' / 'Delete' the current Job"
        words = f"{done} then create a new Job and make sure you only do 'PUT' once on a given Job."
        raise RefusedError("CLIENT_INPUT_ERROR", words)
    if job["state"] != "Open":
        raise RefusedError("INVALIDJOBSTATE", "Adding data to a job that is not open is not allowed")
    target = call.site.jobs.file(job["id"], "csv")
    if call.upload is None:
        target.write_bytes(call.body)
    else:
        shutil.move(call.upload, target)
    call.detail["bytes"] = target.stat().st_size
    call.site.jobs.change(job["id"], uploaded=True)
    return Answer(b"", 201)


def change(call: Call) -> Answer:
    """PATCH …/jobs/ingest/750… with a state: UploadComplete or Aborted."""
    job = _job_of(call, _what(call))
    state = call.json_object().get("state")
    if state not in {WAITING, "Aborted"} or (state == WAITING and job["what"] == "query"):
        raise RefusedError("INVALIDJOBSTATE", f"Unsupported state: {state}")
    if job["state"] in ENDED:
        verb = "Aborting" if state == "Aborted" else "Closing"
        raise RefusedError("INVALIDJOBSTATE", f"{verb} already Completed Job not allowed")
    if state == WAITING and job["state"] != "Open":
        raise RefusedError("INVALIDJOBSTATE", "Closing already closed Job not allowed")
    if state == WAITING and not job.get("uploaded"):
        raise RefusedError("INVALIDJOBSTATE", "No content was uploaded for the job")
    return Answer(_shown(call.site.jobs.change(job["id"], state=state), whole=False))


def show(call: Call) -> Answer:
    """GET …/jobs/ingest/750…"""
    job = _job_of(call, _what(call))
    call.detail["state"] = job["state"]
    return Answer(_shown(job, whole=True))


def listed(call: Call) -> Answer:
    """GET …/jobs/ingest."""
    found = [_shown(each, whole=False) for each in call.site.jobs.all(_what(call))]
    return Answer({"done": True, "records": found, "nextRecordsUrl": None})


def drop(call: Call) -> Answer:
    """DELETE …/jobs/ingest/750…, once it has ended."""
    job = _job_of(call, _what(call))
    if job["state"] not in ENDED and job["state"] != WAITING:
        raise RefusedError("INVALIDJOBSTATE", "Deleting a job that is open or in progress is not allowed")
    call.site.jobs.drop(job["id"])
    return Answer(status=204)


def successful(call: Call) -> Answer:
    """GET …/successfulResults."""
    return _result_file(call, "success")


def failed(call: Call) -> Answer:
    """GET …/failedResults."""
    return _result_file(call, "failed")


def unprocessed(call: Call) -> Answer:
    """GET …/unprocessedrecords."""
    job = _ended(call, "ingest")
    if not job.get("uploaded"):
        return Answer(b"", media=CSV)
    return Answer(media=CSV, pieces=call.site.jobs.unprocessed(job))


def results(call: Call) -> Answer:
    """GET …/jobs/query/750…/results?maxRecords=…&locator=…"""
    job = _ended(call, "query")
    index = array("Q")
    index.frombytes(call.site.jobs.file(job["id"], "index").read_bytes())
    start = _start(call.query.get("locator"), len(index))
    size = call.query.get("maxRecords", "")
    after = min(len(index) - 1, start + (int(size) if size.isdigit() and int(size) else PAGE))
    located = "null" if after >= len(index) - 1 else base64.b64encode(str(after).encode()).decode()
    headers = {"Sforce-Locator": located, "Sforce-NumberOfRecords": str(after - start)}
    call.detail["records"] = after - start
    path = call.site.jobs.file(job["id"], "csv")
    return Answer(headers=headers, media=CSV, pieces=_pieces(path, (0, index[0]), (index[start], index[after])))


def _pieces(path: Path, *ranges: tuple[int, int]) -> Iterator[bytes]:
    with path.open("rb") as file:
        for start, after in ranges:
            file.seek(start)
            while start < after:
                piece = file.read(min(262_144, after - start))
                start += len(piece)
                yield piece


def _start(locator: str | None, known: int) -> int:
    if not locator:
        return 0
    try:
        start = int(base64.b64decode(locator, validate=True))
    except (binascii.Error, ValueError):
        raise RefusedError("INVALIDLOCATOR", f"Invalid locator: {locator}") from None
    if not 0 < start < known - 1:
        raise RefusedError("INVALIDLOCATOR", f"Invalid locator: {locator}")
    return start


def _result_file(call: Call, what: str) -> Answer:
    job = _ended(call, "ingest")
    path = call.site.jobs.file(job["id"], what)
    if not path.exists():
        return Answer(b"", media=CSV)
    size = (job.get("sizes") or {}).get(what) or path.stat().st_size
    return Answer(media=CSV, pieces=_pieces(path, (0, size)))


def _ended(call: Call, what: str) -> dict[str, Any]:
    job = _job_of(call, what)
    if job["state"] not in ENDED or (what == "query" and job["state"] != "JobComplete"):
        raise RefusedError("INVALIDJOBSTATE", f"Results are not available, the job is {job['state']}")
    return job


def _what(call: Call) -> str:
    return call.path.strip("/").split("/")[4]


def _job_of(call: Call, what: str) -> dict[str, Any]:
    job = call.site.jobs.get(call.names["id"])
    if job is None or job["what"] != what:
        raise not_found()
    return job


def _job(call: Call, given: dict[str, Any]) -> dict[str, Any]:
    delimiter, ending = given.get("columnDelimiter") or "COMMA", given.get("lineEnding") or "LF"
    if delimiter not in DELIMITERS or ending not in ENDINGS:
        raise RefusedError("INVALIDJOB", f"Unsupported columnDelimiter or lineEnding: {delimiter}, {ending}")
    if (given.get("contentType") or "CSV") != "CSV":
        raise RefusedError("INVALIDJOB", f"Unsupported contentType: {given['contentType']}")
    return {
        "createdById": call.user,
        "concurrencyMode": "Parallel",
        "contentType": "CSV",
        "apiVersion": float(call.version),
        "lineEnding": ending,
        "columnDelimiter": delimiter,
        **_NUMBERS,
    }


def _shown(job: dict[str, Any], *, whole: bool) -> dict[str, Any]:
    left_out = _OWN if whole else {*_OWN, *_NUMBERS, "jobType"} if job["what"] == "query" else {*_OWN, *_NUMBERS}
    return {name: value for name, value in job.items() if name not in left_out}


def _check_query(call: Call, tree: Query) -> str:
    """What Bulk does not read, although REST does. RefusedError where the query has it."""
    org = call.site.org
    made = Compiler(org.schema, org.store, org.access.of(call.user), org.clock.now().date()).compile(tree)
    if tree.aggregated:
        raise RefusedError("API_ERROR", "Aggregate queries are not supported in Bulk Query")
    if made.children:
        raise RefusedError("API_ERROR", "Nested queries are not supported in Bulk Query")
    if tree.offset is not None:
        raise RefusedError("API_ERROR", "OFFSET is not supported in Bulk Query")
    if any(isinstance(each, Compound) for each in made.node.parts):
        raise RefusedError("API_ERROR", "Selecting compound data not supported in Bulk Query")
    return made.kind.name
