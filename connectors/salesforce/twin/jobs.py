"""Bulk jobs: their state kept, their files on disk, worked off one after the other in a thread of their own."""

from __future__ import annotations

import queue
import threading
import time
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from connectors.salesforce.twin.job_files import DELIMITERS, ENDINGS, Lines, Reading, Results, take
from connectors.salesforce.twin.org.clock import written
from connectors.salesforce.twin.org.contention import Contention
from connectors.salesforce.twin.org.org import Org
from connectors.salesforce.twin.org.problems import RefusedError
from connectors.salesforce.twin.org.writing import CHUNK, Outcome, Writer
from connectors.salesforce.twin.soql.compile import Compiler
from connectors.salesforce.twin.soql.parser import parse
from connectors.salesforce.twin.soql.shape import as_line, leaves, writers

WAITING, AT_WORK = "UploadComplete", "InProgress"
ENDED = frozenset({"JobComplete", "Failed", "Aborted"})
_ROWS_AT_ONCE = 2000


class Jobs:
    """All jobs of the org, of both kinds (`ingest` and `query`)."""

    def __init__(self, org: Org, folder: Path) -> None:
        self._org = org
        self._folder = folder
        self._queue: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self.going_on = threading.Event()
        """While it is not set, jobs wait in the queue and in mid-work."""
        self.going_on.set()
        self.batch_rows = 10_000
        """Records of a batch, as the server cuts a job."""
        self.side_by_side = False
        """Whether neighbouring batches hold their masters against each other."""
        self.fail_after: int | None = None
        """The next ingest job fails when so many of its records have been processed."""
        self._closing = False
        folder.mkdir(parents=True, exist_ok=True)
        for name, job in sorted(org.store.all("job").items()):
            if job["state"] in {WAITING, AT_WORK}:
                self._start(name)

    def add(self, job: dict[str, Any]) -> dict[str, Any]:
        """A new job, with an id."""
        job["id"] = self._org.store.new_ids("750", 1)[0]
        job["createdDate"] = job["systemModstamp"] = written(self._org.clock.now())
        self._put(job)
        return job

    def get(self, name: str) -> dict[str, Any] | None:
        """A job by its id."""
        found: dict[str, Any] | None = self._org.store.get("job", name)
        return found

    def all(self, what: str) -> list[dict[str, Any]]:
        """All jobs of a kind, oldest first."""
        return [each for _, each in sorted(self._org.store.all("job").items()) if each["what"] == what]

    def started(self, what: str) -> int:
        """How many jobs of a kind there have been."""
        return len(self.all(what))

    def change(self, name: str, **values: Any) -> dict[str, Any]:
        """Writes over a job's state; what becomes UploadComplete is worked off."""
        with self._org.store.writing():
            job = self.get(name)
            assert job is not None
            job.update(values, systemModstamp=written(self._org.clock.now()))
            self._put(job)
        if job["state"] == WAITING:
            self._start(name)
        return job

    def drop(self, name: str) -> None:
        """Lets go of a job and its files."""
        self._org.store.drop("job", name)
        for path in self._folder.glob(f"{name}.*"):
            path.unlink()

    def file(self, name: str, what: str) -> Path:
        """Where a file of a job is: `csv` what was uploaded or found, `success`, `failed`, `index`."""
        return self._folder / f"{name}.{what}"

    def wait(self, seconds: float = 60.0) -> None:
        """Until no job is due. TimeoutError when it takes longer."""
        end = time.monotonic() + seconds
        while any(each["state"] in {WAITING, AT_WORK} for each in self._org.store.all("job").values()):
            if time.monotonic() > end:
                raise TimeoutError("jobs are still at work")
            time.sleep(0.01)

    def close(self) -> None:
        """Stops after the records at hand; the rest goes on when the twin is started again."""
        self._closing = True
        self.going_on.set()
        self._queue.put(None)
        if self._thread is not None:
            self._thread.join()

    def unprocessed(self, job: dict[str, Any]) -> Iterator[bytes]:
        """The uploaded lines that were not come to, in pieces."""
        with self._lines(job) as lines:
            text = Lines(DELIMITERS[job["columnDelimiter"]], ENDINGS[job["lineEnding"]])
            yield text.line(next(lines, []))
            for number, cells in enumerate(lines):
                if number >= job["numberRecordsProcessed"]:
                    yield text.line(cells)

    def _put(self, job: dict[str, Any]) -> None:
        self._org.store.put("job", job["id"], job)

    def _start(self, name: str) -> None:
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="twin jobs", daemon=True)
                self._thread.start()
        self._queue.put(name)

    def _work(self) -> None:
        while (name := self._queue.get()) is not None:
            self.going_on.wait()
            job = self.get(name)
            if self._closing or job is None or job["state"] not in {WAITING, AT_WORK}:
                continue
            job = self.change(name, state=AT_WORK)
            began = time.monotonic()
            try:
                ended = self._ingest(job) if job["what"] == "ingest" else self._query(job)
            except RefusedError as error:
                ended = {"state": "Failed", "errorMessage": f"{error.code} : {error.message}"}
            spent = int((time.monotonic() - began) * 1000)
            if ended:
                self.change(name, totalProcessingTime=job.get("totalProcessingTime", 0) + spent, **ended)

    def _query(self, job: dict[str, Any]) -> dict[str, Any]:
        tree = parse(job["query"])
        rights = self._org.access.of(job["createdById"])
        compiler = Compiler(self._org.schema, self._org.store, rights, self._org.clock.now().date())
        made = compiler.compile(tree, deleted=job["operation"] == "queryAll")
        found = leaves(made.node)
        columns = writers(found)
        index, place = array("Q"), 0
        statement = made.statement.limit(tree.limit) if tree.limit is not None else made.statement
        with (
            self._org.store.reading() as connection,
            self.file(job["id"], "csv").open("wb") as out,
        ):
            text = Lines(DELIMITERS[job["columnDelimiter"]], ENDINGS[job["lineEnding"]])
            place += out.write(text.line([name for name, _ in found]))
            index.append(place)
            rows = connection.execution_options(yield_per=_ROWS_AT_ONCE).execute(statement)
            for row in rows:
                place += out.write(text.line(as_line(columns, row)))
                index.append(place)
        self.file(job["id"], "index").write_bytes(index.tobytes())
        return {"state": "JobComplete", "numberRecordsProcessed": len(index) - 1}

    def _ingest(self, job: dict[str, Any]) -> dict[str, Any]:
        kind = self._org.schema.objects[job["object"].lower()]
        wrong = self._wrong_ending(job)
        if wrong:
            return {"state": "Failed", "errorMessage": wrong}
        writer = Writer(
            self._org,
            kind,
            job["createdById"],
            origin=f"com/salesforce/api/bulk/{job['apiVersion']}",
            contention=Contention() if self.side_by_side else None,
        )
        with self._lines(job) as lines:
            header = next(lines, [])
            try:
                columns = writer.intake.planned(header)
            except RefusedError as error:
                name = error.message.partition("'")[2].partition("'")[0]
                return {"state": "Failed", "errorMessage": f"InvalidBatch : Field name not found : {name}"}
            if job["operation"] in {"delete", "hardDelete"} and [each.lower() for each in header] != ["id"]:
                return {"state": "Failed", "errorMessage": "InvalidBatch : The 'delete' batch must contain only ids"}
            return self._carry(job, writer, header, columns, lines)

    def _carry(
        self, job: dict[str, Any], writer: Writer, header: list[str], columns: Sequence[Any], lines: Iterator[list[str]]
    ) -> dict[str, Any]:
        results = Results({what: self.file(job["id"], what) for what in ("success", "failed")}, job, header)
        try:
            for _ in range(job["numberRecordsProcessed"]):
                next(lines)
            while chunk := take(lines, self._size(job)):
                with self._org.store.writing():
                    done = self._written(job, writer, columns, chunk)
                    results.note(chunk, done)
                    now = self.get(job["id"])
                    if now is None or now["state"] != AT_WORK:
                        return {}
                    job.update(results.counts(), state=AT_WORK)
                    self._put(job)
                if writer.contention and job["numberRecordsProcessed"] % self.batch_rows == 0:
                    writer.contention.next_batch()
                if self.fail_after is not None and job["numberRecordsProcessed"] >= self.fail_after:
                    self.fail_after = None
                    words = "InternalServerError : the batch was tried too many times and is given up"
                    return {"state": "Failed", "errorMessage": words, "retries": 20}
                self.going_on.wait()
                if self._closing:
                    return {}
        finally:
            results.close()
        return {"state": "JobComplete"}

    def _size(self, job: dict[str, Any]) -> int:
        done: int = job["numberRecordsProcessed"]
        left = CHUNK if self.fail_after is None else self.fail_after - done
        return max(1, min(CHUNK, left, self.batch_rows - done % self.batch_rows))

    def _written(
        self, job: dict[str, Any], writer: Writer, columns: Sequence[Any], chunk: list[list[str]]
    ) -> list[Outcome]:
        if job["operation"] in {"delete", "hardDelete"}:
            rows = [writer.intake.from_csv(columns, each) for each in chunk]
            return writer.delete([each.id for each in rows])
        key = writer.kind.field(job["externalIdFieldName"]) if job.get("externalIdFieldName") else None
        return writer.lines(job["operation"], columns, chunk, key)

    def _wrong_ending(self, job: dict[str, Any]) -> str | None:
        with self.file(job["id"], "csv").open("rb") as file:
            first = file.readline(1_000_000)
        told = "CRLF" if first.endswith(b"\r\n") else "LF"
        if told == job["lineEnding"] or not first.endswith(b"\n"):
            return None
        return (
            f"ClientInputError : LineEnding is invalid on user data. Current LineEnding setting is {job['lineEnding']}"
        )

    def _lines(self, job: dict[str, Any]) -> Reading:
        return Reading(self.file(job["id"], "csv"), DELIMITERS[job["columnDelimiter"]])
