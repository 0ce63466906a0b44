"""A bulk job: made, noted, filled, watched, and its three result files reconciled into one answer for each record."""

from __future__ import annotations

import csv
import io
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from connectors.salesforce.client import Client
from connectors.salesforce.problems import LOCKED
from connectors.salesforce.reading import FIRST_LOOK, LONGEST_LOOK
from connectors.salesforce.schema import KEY_FIELD
from hub.sdk import Happening, Journal, UnavailableError, UnexpectedError

NOT_AVAILABLE = "#N/A"
"""What clears a field in CSV; an empty value leaves it alone."""
MOST_BYTES = 90 * 1024 * 1024
"""Of one upload; Salesforce takes 100 MB before it encodes them."""
MOST_ROWS = 100_000
ENDED = frozenset({"JobComplete", "Failed", "Aborted"})
WHAT = "write in bulk"


class Ingest:
    """The jobs of one write. Their ids are durable before a byte is sent, so that a crash finds them again."""

    def __init__(self, client: Client, entity: str, fields: Sequence[str], journal: Journal) -> None:
        self._client = client
        self._entity = entity
        self._fields = (KEY_FIELD, *fields)
        self._journal = journal

    def send(self, records: Sequence[Mapping[str, Any]]) -> dict[str, str | None]:
        """Key → None where it was written, else the error of the record; empty text where nobody processed it."""
        last = self._journal.last()
        jobs: dict[str, str] = json.loads(last) if last is not None else {}
        told: dict[str, str | None] = {}
        for number, content in enumerate(self._parts(records)):
            job = jobs.get(str(number))
            state = "" if job is None else self._state(job)["state"]
            if job is not None:
                self._client.context.tally.add(Happening.FOUND)
            if job is None or state == "Open":
                # An open job has processed nothing: whether its upload was whole is not worth knowing.
                if job is not None:
                    self._move(job, "Aborted")
                job = self._made()
                jobs[str(number)] = job
                self._journal.note(json.dumps(jobs))
                self._client.upload(f"jobs/ingest/{job}/batches", content)
                self._move(job, "UploadComplete")
            told |= self._reconciled(job, content)
        return told

    def _made(self) -> str:
        asked = {"object": self._entity, "operation": "update", "contentType": "CSV", "lineEnding": "LF"}
        return str(self._client.call("POST", "jobs/ingest", WHAT, body=asked, repeatable=False)["id"])

    def _move(self, job: str, state: str) -> None:
        self._client.call("PATCH", f"jobs/ingest/{job}", WHAT, body={"state": state}, repeatable=True)

    def _state(self, job: str) -> Mapping[str, Any]:
        told: Mapping[str, Any] = self._client.call("GET", f"jobs/ingest/{job}", WHAT)
        return told

    def _parts(self, records: Sequence[Mapping[str, Any]]) -> Iterator[bytes]:
        """CSV files within the limits of one job, the same for the same records."""
        buffer, rows = self._headed(), 0
        for record in records:
            if rows == MOST_ROWS or buffer.tell() > MOST_BYTES:
                yield buffer.getvalue().encode()
                buffer, rows = self._headed(), 0
            line = [_csv(record[name]) if name in record else "" for name in self._fields]
            csv.writer(buffer, lineterminator="\n").writerow(line)
            rows += 1
        if rows:
            yield buffer.getvalue().encode()

    def _headed(self) -> io.StringIO:
        buffer = io.StringIO()
        csv.writer(buffer, lineterminator="\n").writerow(self._fields)
        return buffer

    def _reconciled(self, job: str, content: bytes) -> dict[str, str | None]:
        """Successes, failures and what was left unprocessed, together every record of the upload."""
        info = self._finished(job)
        keys = [row[0] for row in csv.reader(io.StringIO(content.decode())) if row][1:]
        processed, failed = int(info.get("numberRecordsProcessed", 0)), int(info.get("numberRecordsFailed", 0))
        if info["state"] == "JobComplete" and processed == len(keys) and failed == 0:
            return dict.fromkeys(keys)
        told: dict[str, str | None] = {}
        for key, _ in self._results(job, "successfulResults", "sf__Id"):
            told[key] = None
        for key, error in self._results(job, "failedResults", KEY_FIELD):
            told[key] = LOCKED if error.startswith(LOCKED) else error or "UNKNOWN_EXCEPTION"
        # A failed job leaves the rest unprocessed; what stands in no file at all was not processed either.
        return {key: told.get(key, "") for key in keys}

    def _results(self, job: str, kind: str, key: str) -> Iterator[tuple[str, str]]:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / kind
            with self._client.download(f"jobs/ingest/{job}/{kind}", {}) as (_, pieces), file.open("wb") as out:
                out.writelines(pieces)
            with file.open(encoding="utf-8", newline="") as lines:
                for row in csv.DictReader(lines):
                    yield row[key], row.get("sf__Error") or ""

    def _finished(self, job: str) -> Mapping[str, Any]:
        """The job once it has ended, in whatever way: what it did stands in its results."""
        pause = FIRST_LOOK
        while True:
            told = self._state(job)
            if told["state"] in ENDED:
                return told
            if told["state"] not in {"UploadComplete", "InProgress"}:
                raise UnexpectedError(f"a bulk job is {told['state']}")
            if self._client.context.seconds_left(pause) < pause or self._client.context.cancelled():
                raise UnavailableError("a bulk job is still being worked on", retry_after=pause)
            self._client.context.pause(pause)
            pause = min(LONGEST_LOOK, pause * 1.6)


def _csv(value: Any) -> str:
    if value is None:
        return NOT_AVAILABLE
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
