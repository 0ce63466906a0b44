"""The decision log: writes a page's decisions as one segment, reads them back and proves them."""

from __future__ import annotations

import os
import secrets
import threading
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl
from sqlalchemy.orm import Session

from hub.database import Database
from hub.decisions import store
from hub.decisions.log import merkle, upkeep
from hub.decisions.log.archive import Archive, file_of
from hub.decisions.log.rows import LEAF, RESULTS, SALT, counts, normal, packed, unpacked
from hub.decisions.types import STATE, DecisionError, IntegrityError, Segment, SegmentFacts, SegmentFile
from hub.keys import KeyRing
from hub.sdk import Clock, SystemClock


@dataclass(frozen=True, slots=True)
class Told:
    """What a receipt shows of the segment of one decision: its facts, its digest, and what the far side answered.

    `file` is where its rows were when this was told.
    """

    facts: SegmentFacts
    root: bytes
    results: pl.DataFrame
    file: SegmentFile

    def result(self, row: int) -> dict[str, Any]:
        """What the far side answered to one row; empty where nothing was sent or nothing is known yet."""
        told = self.results["row"]
        at = bisect_left(told, row)  # a query of polars would take longer than the few looks
        if at == len(told) or told[at] != row:
            return {}
        return {name: value for name, value in self.results.row(at, named=True).items() if name != "row"}


class DecisionLog:
    """Every decision of this installation, as encrypted files below `folder` and rows of the catalogue.

    Safe to share between threads. A segment is durable when `write` returns and exists when `catalogue` is committed;
    a file without its row is nobody's and `sweep` takes it.
    """

    def __init__(self, database: Database, keys: KeyRing, folder: Path, clock: Clock | None = None) -> None:
        self._database = database
        self._keys = keys
        self._clock = clock or SystemClock()
        self._ids = _Ids(self._clock)
        self._archive = Archive(database, keys, folder, self._clock)

    def write(self, facts: SegmentFacts, frame: pl.DataFrame, *, inside: bool = False) -> Segment:
        """One page's decisions as a durable file, not yet catalogued. DecisionError names a column that is wrong.

        With `inside`, for few decisions that somebody waits for, the file goes into the database as it is catalogued.
        """
        from hub.decisions.log.leaves import binary, columns_of, head, leaves

        rows = normal(frame)
        segment_id = self._ids.next()
        columns = columns_of(rows)
        salts = os.urandom(merkle.SALT_BYTES * rows.height)
        blank = pl.Series(LEAF, [None], dtype=pl.Binary).new_from_index(0, rows.height)
        stored = rows.hstack([binary(SALT, salts, merkle.SALT_BYTES), blank])
        if inside:
            file = self._archive.store(segment_id, stored, inside=True)
            root = merkle.segment_root(head(segment_id, facts, columns), leaves(rows, salts))
        else:
            # polars compresses and the disk writes without the interpreter's lock, while this thread hashes.
            with ThreadPoolExecutor(1) as beside:
                storing = beside.submit(self._archive.store, segment_id, stored)
                root = merkle.segment_root(head(segment_id, facts, columns), leaves(rows, salts))
                file = storing.result()
        return Segment(
            id=segment_id,
            facts=facts,
            rows=rows.height,
            counts=counts(rows[STATE]),
            root=root,
            columns=columns,
            size=file.size,
            created_at=self._clock.now(),
            file=file,
        )

    def catalogue(self, session: Session, segment: Segment) -> None:
        """Makes a written segment part of the log when the session commits."""
        store.add_segment(session, segment)

    def catalogued(self, session: Session, segment: Segment) -> bool:
        """Whether this segment is part of the log, as asked after a commit whose answer was lost."""
        found = store.find_segment(session, segment.id)
        return found is not None and found.root == segment.root

    def record_results(self, session: Session, segment_id: int, results: pl.DataFrame) -> None:
        """Stores what the far side answered, by row; a row told again replaces what was told before."""
        if not store.lock_segment(session, segment_id):
            raise DecisionError(f"there is no segment {segment_id} to store results for")
        missing = [name for name in RESULTS if name not in results.columns]
        if missing:
            raise DecisionError(f"results need the column {missing[0]}")
        fresh = results.select(pl.col(name).cast(dtype) for name, dtype in RESULTS.items())
        earlier = self._open_results(segment_id, store.load_results(session, segment_id))
        merged = pl.concat([earlier, fresh]).unique("row", keep="last").sort("row")
        sealed = self._keys.seal(packed(merged), _result_identity(segment_id))
        store.save_results(session, segment_id, sealed, counts(merged["state"]))

    def frame(self, segment_id: int, columns: Sequence[str] | None = None) -> pl.DataFrame:
        """The decisions of a segment, row by row as written; erased rows are null throughout."""
        segment, rows = self._stored(segment_id, columns)
        return rows.select([name for name, _ in segment.columns] if columns is None else list(columns))

    def results(self, segment_id: int) -> pl.DataFrame:
        """What the far side answered to the rows of a segment, by row; empty where nothing is known yet."""
        with self._database.read() as session:
            sealed = store.load_results(session, segment_id)
        return self._open_results(segment_id, sealed)

    @contextmanager
    def telling(self) -> Iterator[Callable[[Sequence[int]], dict[int, Told]]]:
        """While open: what a receipt shows of several segments, by number, in one look each time it is asked."""
        with self._database.read() as session:

            def told(segment_ids: Sequence[int]) -> dict[int, Told]:
                found = store.find_told(session, segment_ids)
                opened = ((each, self._open_results(each.id, each.sealed)) for each in found)
                return {each.id: Told(each.facts, each.root, results, each.file) for each, results in opened}

            yield told

    def segment(self, segment_id: int) -> Segment:
        """A segment as catalogued. DecisionError where there is none."""
        with self._database.read() as session:
            found = store.find_segment(session, segment_id)
        if found is None:
            raise DecisionError(f"there is no segment {segment_id}")
        return found

    def segments(
        self,
        session: Session,
        *,
        run: str | None = None,
        mapping: str | None = None,
        after: int | None = None,
        limit: int | None = None,
    ) -> list[Segment]:
        """Segments in the order they were written; `after` continues behind that one."""
        return store.list_segments(session, run=run, mapping=mapping, after=after, limit=limit)

    def beside(self, segment_id: int, row: int, text: str, file: SegmentFile) -> pl.DataFrame:
        """The stored row of one decision, with others of the same key that cost nothing more to read.

        `text` is the key's. `file` is where its segment was told to be; it is looked up again where that is no longer
        so.
        """
        try:
            return self._archive.row(file, segment_id, row, text)
        except IntegrityError:
            again = file_of(self.segment(segment_id))
            if again == file:
                raise
            return self._archive.row(again, segment_id, row, text)

    def verify(self, segment_id: int) -> None:
        """Reads a segment whole and proves it against its catalogue row. IntegrityError names what differs."""
        from hub.decisions.log.leaves import root_of

        segment, rows = self._stored(segment_id, None)
        if rows.height != segment.rows:
            raise IntegrityError(f"segment {segment_id} has {rows.height} rows, its catalogue row says {segment.rows}")
        erased = int(rows[LEAF].is_not_null().sum())
        if erased != segment.erased:
            raise IntegrityError(
                f"segment {segment_id} has {erased} erased rows, its catalogue row says {segment.erased}"
            )
        if root_of(segment, rows) != segment.root:
            raise IntegrityError(f"the rows of segment {segment_id} do not add up to its root")
        if not erased and counts(rows[STATE]) != segment.counts:
            raise IntegrityError(f"segment {segment_id} does not hold the states its catalogue row counts")

    def erase(self, mapping: str, keys: pl.Series) -> int:
        """Takes every decision about these records out of the log; answers how many. Digests still verify."""
        return upkeep.erase(self._database, self._archive, mapping, keys, self._blank_results)

    def compact(self, mapping: str, *, before: datetime | None = None, most: int = 4, fan: int = upkeep.ALL) -> int:
        """Merges small files into at most `most` larger ones, of segments older than `before`; answers how many went.

        With a `fan` above 2, files of about one size are left until there are that many of them.
        """
        return upkeep.compact(self._database, self._archive, mapping, self._ids.next, before, most, fan)

    def settle(self, least: int = 500) -> int:
        """Moves decisions kept in the database into files, for mappings with that many; answers how many files went."""
        with self._database.read() as session:
            mappings = store.crowded(session, least)
        return sum(self.compact(each) for each in mappings)

    def sweep(self, older_than: datetime) -> int:
        """Removes files last written before that moment that no catalogue row names; answers how many."""
        return upkeep.sweep(self._database, self._archive, older_than)

    def _stored(self, segment_id: int, columns: Sequence[str] | None) -> tuple[Segment, pl.DataFrame]:
        segment = self.segment(segment_id)
        try:
            return segment, self._archive.rows(segment, columns)
        except IntegrityError:
            # Erased or compacted between the look in the catalogue and the look in the file?
            again = self.segment(segment_id)
            if again.file == segment.file:
                raise
            return again, self._archive.rows(again, columns)

    def _blank_results(self, session: Session, segment_id: int, rows: Sequence[int]) -> None:
        """Leaves of some rows' results nothing but their state."""
        sealed = store.load_results(session, segment_id)
        if sealed is None:
            return
        gone = pl.col("row").is_in(list(rows))
        told = [pl.when(~gone).then(pl.col(name)).alias(name) for name in ("field", "reason", "version")]
        results = self._open_results(segment_id, sealed).with_columns(told)
        fresh = self._keys.seal(packed(results), _result_identity(segment_id))
        store.save_results(session, segment_id, fresh, counts(results["state"]))

    def _open_results(self, segment_id: int, sealed: bytes | None) -> pl.DataFrame:
        if sealed is None:
            return pl.DataFrame(schema=dict(RESULTS))
        return unpacked(self._keys.open(sealed, _result_identity(segment_id)))


class _Ids:
    """Numbers that grow with time: milliseconds since 1970 and 22 random bits, never twice nor backwards here."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._last = 0
        self._lock = threading.Lock()

    def next(self) -> int:
        moment = int(self._clock.now().timestamp() * 1000)
        with self._lock:
            self._last = max((moment << 22) | secrets.randbits(22), self._last + 1 + secrets.randbits(8))
            return self._last


def _result_identity(segment_id: int) -> dict[str, str]:
    return {"kind": "decision_result", "segment": str(segment_id)}
