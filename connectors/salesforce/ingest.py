"""A bulk job: made, noted, filled, watched, and its three result files reconciled into one answer for each record."""

from __future__ import annotations

import csv
import io
import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from connectors.salesforce.client import Client
from connectors.salesforce.naming import Naming
from connectors.salesforce.problems import LOCKED
from connectors.salesforce.reading import FIRST_LOOK, LONGEST_LOOK
from hub.sdk import Happening, Journal, UnavailableError, UnexpectedError

NOT_AVAILABLE = "#N/A"
"""What clears a field in CSV; an empty value leaves it alone."""
MOST_BYTES = 90 * 1024 * 1024
"""Of one upload; Salesforce takes 100 MB before it encodes them."""
MOST_ROWS = 100_000
ENDED = frozenset({"JobComplete", "Failed", "Aborted"})
GONE = "NOT_FOUND"
WHAT = "write in bulk"


class Ingest:
    """The jobs of one write. Their ids are durable before a byte is sent, so that a crash finds them again."""

    def __init__(
        self, client: Client, naming: Naming, fields: Sequence[str], journal: Journal, *, turn: int = 0
    ) -> None:
        """`turn` tells the jobs of a write apart that goes in several turns, one after the other."""
        self._turn = turn
        self._client = client
        self._naming = naming
        self._fields = (naming.key, *fields)
        self._journal = journal

    def send(self, records: Sequence[Mapping[str, Any]]) -> dict[str, str | None]:
        """Key → None where it was written, else the error of the record; empty text where nobody processed it."""
        last = self._journal.last()
        jobs: dict[str, str] = json.loads(last) if last is not None else {}
        told: dict[str, str | None] = {}
        for number, content in enumerate(parts(self._fields, records)):
            name = f"{self._turn}.{number}"
            job = jobs.get(name)
            state = "" if job is None else self._noted(job)
            if state is None:
                told |= dict.fromkeys(_keys(content), "")  # what it did is not known: whoever asked looks it up
                continue
            if job is not None:
                self._client.context.tally.add(Happening.FOUND)
            if job is None or state == "Open":
                # An open job has processed nothing: whether its upload was whole is not worth knowing.
                if job is not None:
                    self._move(job, "Aborted")
                job = self._made()
                jobs[name] = job
                self._journal.note(json.dumps(jobs))
                self._client.upload(f"jobs/ingest/{job}/batches", content)
                self._move(job, "UploadComplete")
            told |= self._reconciled(job, content)
        return told

    def _made(self) -> str:
        asked = {**self._naming.job(), "contentType": "CSV", "lineEnding": "LF"}
        return str(self._client.call("POST", "jobs/ingest", WHAT, body=asked, repeatable=False)["id"])

    def _move(self, job: str, state: str) -> None:
        """Closes or aborts an open job; one that is open no more was moved by a call whose answer was lost."""
        try:
            self._client.call("PATCH", f"jobs/ingest/{job}", WHAT, body={"state": state}, repeatable=True)
        except UnexpectedError:
            if self._state(job)["state"] == "Open":
                raise

    def _noted(self, job: str) -> str | None:
        """The state of a job that was begun before; None where Salesforce keeps it no longer, as after seven days."""
        try:
            return str(self._state(job)["state"])
        except UnexpectedError as error:
            if not (error.detail or "").endswith(GONE):
                raise
            return None

    def _state(self, job: str) -> Mapping[str, Any]:
        told: Mapping[str, Any] = self._client.call("GET", f"jobs/ingest/{job}", WHAT)
        return told

    def _reconciled(self, job: str, content: bytes) -> dict[str, str | None]:
        """Successes, failures and what was left unprocessed, together every record of the upload."""
        info = self._finished(job)
        keys = _keys(content)
        processed, failed = int(info.get("numberRecordsProcessed", 0)), int(info.get("numberRecordsFailed", 0))
        if info["state"] == "JobComplete" and processed == len(keys) and failed == 0:
            return dict.fromkeys(keys)
        told: dict[str, str | None] = {}
        for key, _ in self._results(job, "successfulResults"):
            told[key] = None
        for key, error in self._results(job, "failedResults"):
            told[key] = LOCKED if error.startswith(LOCKED) else error or "UNKNOWN_EXCEPTION"
        # A failed job leaves the rest unprocessed; what stands in no file at all was not processed either.
        return {key: told.get(key, "") for key in keys}

    def _results(self, job: str, kind: str) -> Iterator[tuple[str, str]]:
        """The key as it was sent, since the results repeat what was uploaded, and the error."""
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / kind
            with self._client.download(f"jobs/ingest/{job}/{kind}", {}) as (_, pieces), file.open("wb") as out:
                out.writelines(pieces)
            with file.open(encoding="utf-8", newline="") as lines:
                for row in csv.DictReader(lines):
                    yield row[self._naming.key], row.get("sf__Error") or ""

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


def parts(fields: Sequence[str], records: Iterable[Mapping[str, Any]]) -> Iterator[bytes]:
    """CSV files within the limits of one job, each with its header, the same for the same records."""
    head = _line(fields)
    content, rows = bytearray(head), 0
    for record in records:
        line = _line([_csv(record[name]) if name in record else "" for name in fields])
        if rows == MOST_ROWS or (rows and len(content) + len(line) > MOST_BYTES):
            yield bytes(content)
            content, rows = bytearray(head), 0
        content += line
        rows += 1
    if rows:
        yield bytes(content)


def _keys(content: bytes) -> list[str]:
    """The key of each record of an upload."""
    return [row[0] for row in csv.reader(io.StringIO(content.decode(), newline="")) if row][1:]


def _line(cells: Sequence[str]) -> bytes:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\r\n").writerow(cells)  # so that a text with either of the two is quoted
    return buffer.getvalue().removesuffix("\r\n").encode() + b"\n"


def _csv(value: Any) -> str:
    if value is None:
        return NOT_AVAILABLE
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
