"""The files of the log: stored whole under a data key of their own, and opened by their catalogue row."""

from __future__ import annotations

import json
import os
import secrets
import threading
from collections import OrderedDict
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import polars as pl

from hub.database import Database
from hub.decisions import store
from hub.decisions.log.files import CHUNK_ROWS, Form, OpenFile, pack
from hub.decisions.log.files import store as store_file
from hub.decisions.log.rows import ORDER, ROW, SEGMENT, bounds
from hub.decisions.types import IntegrityError, Segment, SegmentFile
from hub.faults import around
from hub.keys import KeyRing
from hub.sdk import Clock

COMPACT_CHUNK = 1_024
"""Rows of one chunk of a compacted file: what is decrypted to read one decision."""
BRIEF_ROWS = 64
"""Rows up to which a file in the database is no Parquet."""
OPEN_FILES = 8
MOST_INSIDE = 262_144
"""Bytes up to which a file may be kept in the database."""
INSIDE = "database/"
"""How the path of such a file begins."""


class Archive:
    """The folder of segment files. Safe to share between threads."""

    def __init__(self, database: Database, keys: KeyRing, folder: Path, clock: Clock) -> None:
        self._database = database
        self._keys = keys
        self._folder = folder
        self._clock = clock
        self._open: OrderedDict[str, OpenFile] = OrderedDict()
        self._lock = threading.Lock()

    def store(self, file_id: int, rows: pl.DataFrame, *, segments: int = 1, inside: bool = False) -> SegmentFile:
        """A durable file of one segment, or of several, the rows then in order of their keys.

        With `inside`, a small one is left to the transaction that catalogues it, in the database.
        """
        data_key = os.urandom(32)
        many = segments > 1
        chunk_rows, order = (COMPACT_CHUNK, ORDER) if many else (CHUNK_ROWS, "")
        brief = inside and rows.height <= BRIEF_ROWS
        form = Form.PACKED if many else Form.STREAM if brief else Form.PARQUET
        content = pack(rows, data_key, file_id, chunk_rows=chunk_rows, order=order, form=form)
        inside = inside and len(content) <= MOST_INSIDE
        place = INSIDE if inside else f"{self._clock.now():%Y/%m/%d}/"
        path = f"{place}{file_id:016x}-{secrets.token_hex(4)}.seg"
        if not inside:
            store_file(self._folder / path, content)
        return SegmentFile(
            id=file_id,
            path=path,
            key=self._keys.seal(data_key, _identity(file_id, "key")),
            bounds=self._keys.seal(json.dumps(bounds(rows)).encode(), _identity(file_id, "bounds")),
            size=len(content),
            rows=rows.height,
            segments=segments,
            content=content if inside else None,
        )

    def open(self, file: SegmentFile) -> OpenFile:
        """A file, kept open among the last few. IntegrityError where it is missing, cut or altered."""
        with self._lock:
            found = self._open.get(file.path)
            if found is not None:
                self._open.move_to_end(file.path)
                return found
        source = self._inside(file) if file.path.startswith(INSIDE) else self._folder / file.path
        opened = OpenFile(source, self._keys.open(file.key, _identity(file.id, "key")), file.id)
        with self._lock:
            self._open[file.path] = opened
            while len(self._open) > OPEN_FILES:
                self._open.popitem(last=False)
        return opened

    def _inside(self, file: SegmentFile) -> bytes:
        if file.content is not None:
            return file.content
        with self._database.read() as session:
            content = store.load_bytes(session, file.id)
        if content is None:
            raise IntegrityError(f"the file of segment {file.id} is missing in the database")
        return content

    def remove(self, path: str) -> None:
        """Deletes a file that no catalogue row names any more."""
        with self._lock:
            self._open.pop(path, None)
        with around("removal"):
            (self._folder / path).unlink(missing_ok=True)

    def bounds(self, file: SegmentFile) -> tuple[str, str]:
        """Lowest and highest key text in a file."""
        low, high = json.loads(self._keys.open(file.bounds, _identity(file.id, "bounds")))
        return low, high

    def rows(self, segment: Segment, columns: Sequence[str] | None = None) -> pl.DataFrame:
        """The stored rows of one segment, in row order."""
        opened = self.open(file_of(segment))
        if file_of(segment).segments == 1:
            return opened.all(columns)
        wanted = None if columns is None else [*dict.fromkeys((*columns, SEGMENT, ROW))]
        parts = [opened.read(at, wanted).filter(pl.col(SEGMENT) == segment.id) for at in range(len(opened.chunks))]
        return pl.concat(parts).sort(ROW)

    def row(self, file: SegmentFile, segment: int, number: int, text: str) -> pl.DataFrame:
        """One stored row, or those of its key that lie beside it in a compacted file (columns `_segment`, `_row`).

        `text` is the key's, as `key_text` gives it.
        """
        opened = self.open(file)
        if file.segments == 1:
            row = opened.rows(number // CHUNK_ROWS, number % CHUNK_ROWS, 1)
            return row.with_columns(pl.lit(segment, pl.Int64).alias(SEGMENT), pl.lit(number, pl.UInt32).alias(ROW))
        parts = []
        for at, chunk in enumerate(opened.chunks):
            if chunk.low <= text <= chunk.high:
                rows = opened.read(at)
                own = rows[ORDER] == text  # a search would be a query of polars, which takes ten times as long
                parts.append(rows.slice(own.arg_max() or 0, int(own.sum())))
        return pl.concat(parts) if parts else opened.read(0).clear()

    def old(self, moment: datetime) -> list[str]:
        """Paths of the files last written before that moment, drafts of a crash included."""
        return [
            path.relative_to(self._folder).as_posix()
            for path in self._folder.rglob("*")
            if path.is_file() and path.stat().st_mtime < moment.timestamp()
        ]


def file_of(segment: Segment) -> SegmentFile:
    """The segment's file. IntegrityError where it has none."""
    if segment.file is None:
        raise IntegrityError(f"segment {segment.id} names no file")
    return segment.file


def _identity(file_id: int, part: str) -> dict[str, str]:
    return {"kind": "decision_file", "id": str(file_id), "part": part}
