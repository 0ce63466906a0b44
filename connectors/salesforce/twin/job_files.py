"""The files of bulk jobs: what was uploaded, line by line, and what became of each line."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from connectors.salesforce.twin.org.writing import Outcome

DELIMITERS = {"BACKQUOTE": "`", "CARET": "^", "COMMA": ",", "PIPE": "|", "SEMICOLON": ";", "TAB": "\t"}
ENDINGS = {"LF": "\n", "CRLF": "\r\n"}


class Reading:
    """The lines of an uploaded file; a field may hold line ends of its own."""

    def __init__(self, path: Path, delimiter: str) -> None:
        self._path = path
        self._delimiter = delimiter

    def __enter__(self) -> Iterator[list[str]]:
        csv.field_size_limit(10_000_000)
        self._file = self._path.open(encoding="utf-8-sig", newline="")
        return (each for each in csv.reader(self._file, delimiter=self._delimiter) if each)

    def __exit__(self, *exc: object) -> None:
        self._file.close()


class Results:
    """The result files of an ingest job, written on where an interrupted one had come to."""

    def __init__(self, paths: Mapping[str, Path], job: Mapping[str, Any], header: Sequence[str]) -> None:
        self._files = {what: path.open("ab") for what, path in paths.items()}
        self._sizes = job.get("sizes") or {}
        self._processed, self._failed = job["numberRecordsProcessed"], job["numberRecordsFailed"]
        self._text = Lines(DELIMITERS[job["columnDelimiter"]], ENDINGS[job["lineEnding"]])
        for what, file in self._files.items():
            file.truncate(self._sizes.get(what, 0))
            file.seek(0, io.SEEK_END)
            if not self._sizes.get(what):
                file.write(self._text.line(["sf__Id", "sf__Created" if what == "success" else "sf__Error", *header]))

    def note(self, lines: Sequence[list[str]], done: Sequence[Outcome]) -> None:
        """What became of some lines."""
        for cells, each in zip(lines, done, strict=True):
            if each.done:
                shown = [each.id or "", "true" if each.created else "false", *cells]
                self._files["success"].write(self._text.line(shown))
            else:
                shown = [each.id or "", each.problems[0].in_file(), *cells]
                self._files["failed"].write(self._text.line(shown))
                self._failed += 1
        self._processed += len(lines)
        for file in self._files.values():
            file.flush()

    def counts(self) -> dict[str, Any]:
        """What the job has come to."""
        sizes = {what: file.tell() for what, file in self._files.items()}
        return {"numberRecordsProcessed": self._processed, "numberRecordsFailed": self._failed, "sizes": sizes}

    def close(self) -> None:
        """Closes both files."""
        for file in self._files.values():
            file.close()


class Lines:
    """CSV lines with every cell in quotes, as Bulk writes them."""

    def __init__(self, delimiter: str = ",", ending: str = "\n") -> None:
        self._out = io.StringIO()
        self._writer = csv.writer(self._out, delimiter=delimiter, lineterminator=ending, quoting=csv.QUOTE_ALL)

    def line(self, cells: Sequence[str]) -> bytes:
        """One line."""
        self._out.seek(0)
        self._out.truncate()
        self._writer.writerow(cells)
        return self._out.getvalue().encode()


def take(lines: Iterator[list[str]], count: int) -> list[list[str]]:
    """The next lines, at most so many."""
    return [each for _, each in zip(range(count), lines, strict=False)]
