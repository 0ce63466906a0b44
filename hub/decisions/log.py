"""The decision log: writes a page's decisions as one segment, reads them back, proves, erases and compacts them."""

from __future__ import annotations

import io
import json
import os
import secrets
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import numpy as np
import polars as pl
import rfc8785
from sqlalchemy.orm import Session

from hub.database import Database
from hub.decisions import merkle, store
from hub.decisions.canonical import canonical_rows, kind
from hub.decisions.keytext import key_text
from hub.decisions.segments import CHUNK_ROWS, OpenFile, pack
from hub.decisions.segments import store as store_file
from hub.decisions.types import (
    CLEAR,
    DECISION_STATES,
    KEY,
    PREVIOUS,
    REASONS,
    STATE,
    TARGET,
    DecisionError,
    IntegrityError,
    Segment,
    SegmentFacts,
    SegmentFile,
)
from hub.keys import KeyRing
from hub.sdk import Clock, SystemClock

SALT, LEAF, SEGMENT, ROW, ORDER = "_salt", "_leaf", "_segment", "_row", "_order"
OWN = frozenset({SALT, LEAF, SEGMENT, ROW, ORDER})

FIXED: Mapping[str, pl.DataType] = {
    "_version": pl.String(),
    STATE: pl.String(),
    "_reason": pl.String(),
    "_because": pl.String(),
    "_digest": pl.Binary(),
    PREVIOUS: pl.Struct({"segment": pl.Int64(), "row": pl.UInt32()}),
    REASONS: pl.List(pl.Struct({"feature": pl.String(), "effect": pl.Float64()})),
    CLEAR: pl.List(pl.String()),
}
RESULTS: Mapping[str, pl.DataType] = {
    "row": pl.UInt32(),
    "state": pl.String(),
    "field": pl.String(),
    "reason": pl.String(),
    "version": pl.String(),
}
COMPACT_ROWS = 100_000
COMPACT_CHUNK = 2_048
OPEN_FILES = 8


class DecisionLog:
    """Every decision of this installation, as encrypted files below `folder` and rows of the catalogue.

    Safe to share between threads. A segment is durable when `write` returns and exists when `catalogue` is committed;
    a file without its row is nobody's and `sweep` takes it.
    """

    def __init__(self, database: Database, keys: KeyRing, folder: Path, clock: Clock | None = None) -> None:
        self._database = database
        self._keys = keys
        self._folder = folder
        self._clock = clock or SystemClock()
        self._ids = _Ids(self._clock)
        self._open: OrderedDict[str, OpenFile] = OrderedDict()
        self._lock = threading.Lock()

    def write(self, facts: SegmentFacts, frame: pl.DataFrame) -> Segment:
        """One page's decisions as a durable file, not yet catalogued. DecisionError names a column that is wrong."""
        rows = normal(frame)
        segment_id = self._ids.next()
        columns = tuple((name, kind(dtype)) for name, dtype in rows.schema.items())
        salts = os.urandom(merkle.SALT_BYTES * rows.height)
        salt_rows = [salts[at : at + merkle.SALT_BYTES] for at in range(0, len(salts), merkle.SALT_BYTES)]
        stored = rows.with_columns(pl.Series(SALT, salt_rows, pl.Binary), pl.lit(None, pl.Binary).alias(LEAF))
        # polars compresses and the disk writes without the interpreter's lock, while this thread hashes.
        with ThreadPoolExecutor(1) as beside:
            storing = beside.submit(self._store, segment_id, stored)
            root = merkle.root([_head(segment_id, facts, columns), *_leaves(rows, salts)])
            file = storing.result()
        return Segment(
            id=segment_id,
            facts=facts,
            rows=rows.height,
            counts=_counts(rows[STATE]),
            root=root,
            columns=columns,
            size=file.size,
            created_at=self._clock.now(),
            file=file,
        )

    def catalogue(self, session: Session, segment: Segment) -> None:
        """Makes a written segment part of the log when the session commits."""
        store.add_segment(session, segment)

    def record_results(self, session: Session, segment_id: int, results: pl.DataFrame) -> None:
        """Stores what the far side answered, by row; a row told again replaces what was told before."""
        if not store.lock_segment(session, segment_id):
            raise DecisionError(f"there is no segment {segment_id} to store results for")
        fresh = results.select(pl.col(name).cast(dtype) for name, dtype in RESULTS.items())
        earlier = self._open_results(segment_id, store.load_results(session, segment_id))
        merged = pl.concat([earlier, fresh]).unique("row", keep="last").sort("row")
        sealed = self._keys.seal(_ipc(merged), _result_identity(segment_id))
        store.save_results(session, segment_id, sealed, _counts(merged["state"]))

    def frame(self, segment_id: int, columns: Sequence[str] | None = None) -> pl.DataFrame:
        """The decisions of a segment, row by row as written; erased rows are null throughout."""
        return self._frame(self.segment(segment_id), columns)

    def results(self, segment_id: int) -> pl.DataFrame:
        """What the far side answered to the rows of a segment, by row; empty where nothing is known yet."""
        with self._database.read() as session:
            sealed = store.load_results(session, segment_id)
        return self._open_results(segment_id, sealed)

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

    def verify(self, segment_id: int) -> None:
        """Reads a segment whole and proves it against its catalogue row. IntegrityError names what differs."""
        segment = self.segment(segment_id)
        rows = self._stored(segment, None)
        if rows.height != segment.rows:
            raise IntegrityError(f"segment {segment_id} has {rows.height} rows, its catalogue row says {segment.rows}")
        erased = rows[LEAF].is_not_null()
        if int(erased.sum()) != segment.erased:
            raise IntegrityError(
                f"segment {segment_id} has {erased.sum()} erased rows, its catalogue row says {segment.erased}"
            )
        head = _head(segment.id, segment.facts, segment.columns)
        if merkle.root([head, *self._proof(segment, rows)]) != segment.root:
            raise IntegrityError(f"the rows of segment {segment_id} do not add up to its root")
        if not segment.erased and _counts(rows[STATE]) != segment.counts:
            raise IntegrityError(f"segment {segment_id} does not hold the states its catalogue row counts")

    def _proof(self, segment: Segment, rows: pl.DataFrame) -> list[bytes]:
        covered = [name for name, _ in segment.columns]
        if tuple((name, kind(rows.schema[name])) for name in covered) != segment.columns:
            raise IntegrityError(f"segment {segment.id} does not have the columns its catalogue row names")
        salts = b"".join(rows[SALT].fill_null(b"\x00" * merkle.SALT_BYTES).to_list())
        computed = _leaves(rows.select(covered), salts)
        return [kept or fresh for kept, fresh in zip(rows[LEAF].to_list(), computed, strict=True)]

    def sweep(self, older_than: datetime) -> int:
        """Removes files last written before that moment that no catalogue row names; answers how many."""
        removed = 0
        with self._database.read() as session:
            for folder, _, names in os.walk(self._folder):
                old = [
                    path
                    for path in (Path(folder) / name for name in names)
                    if path.stat().st_mtime < older_than.timestamp()
                ]
                known = store.known_paths(session, [self._relative(path) for path in old])
                for path in old:
                    if self._relative(path) not in known:
                        path.unlink(missing_ok=True)
                        removed += 1
        return removed

    # --- files --------------------------------------------------------------------------------------------------------

    def open_file(self, file: SegmentFile) -> OpenFile:
        """A segment file, kept open among the last few."""
        with self._lock:
            found = self._open.get(file.path)
            if found is not None:
                self._open.move_to_end(file.path)
                return found
        identity = _file_identity(file.id, "key")
        opened = OpenFile(self._folder / file.path, self._keys.open(file.key, identity), file.id)
        with self._lock:
            self._open[file.path] = opened
            while len(self._open) > OPEN_FILES:
                self._open.popitem(last=False)
        return opened

    def bounds(self, file: SegmentFile) -> tuple[str, str]:
        """Lowest and highest key text in a file."""
        low, high = json.loads(self._keys.open(file.bounds, _file_identity(file.id, "bounds")))
        return low, high

    def _frame(self, segment: Segment, columns: Sequence[str] | None) -> pl.DataFrame:
        wanted = [name for name, _ in segment.columns] if columns is None else list(columns)
        return self._stored(segment, wanted).select(wanted)

    def _stored(self, segment: Segment, columns: Sequence[str] | None) -> pl.DataFrame:
        """The rows of a segment with what the log adds to them, in row order."""
        assert segment.file is not None
        opened = self.open_file(segment.file)
        if segment.file.segments == 1:
            return opened.all(columns)
        wanted = None if columns is None else [*dict.fromkeys((*columns, SEGMENT, ROW))]
        parts = [opened.read(at, wanted).filter(pl.col(SEGMENT) == segment.id) for at in range(len(opened.chunks))]
        return pl.concat(parts).sort(ROW)

    def _store(self, file_id: int, rows: pl.DataFrame, *, segments_in: int = 1) -> SegmentFile:
        data_key = os.urandom(32)
        compacted = segments_in > 1
        content = pack(
            rows,
            data_key,
            file_id,
            chunk_rows=COMPACT_CHUNK if compacted else CHUNK_ROWS,
            order=ORDER if compacted else "",
        )
        day = self._clock.now().strftime("%Y/%m/%d")
        path = f"{day}/{file_id:016x}-{secrets.token_hex(4)}.seg"
        store_file(self._folder / path, content)
        return SegmentFile(
            id=file_id,
            path=path,
            key=self._keys.seal(data_key, _file_identity(file_id, "key")),
            bounds=self._keys.seal(json.dumps(_bounds(rows)).encode(), _file_identity(file_id, "bounds")),
            size=len(content),
            rows=rows.height,
            segments=segments_in,
        )

    def _relative(self, path: Path) -> str:
        return path.relative_to(self._folder).as_posix()

    def _open_results(self, segment_id: int, sealed: bytes | None) -> pl.DataFrame:
        if sealed is None:
            return pl.DataFrame(schema=dict(RESULTS))
        return pl.read_ipc(io.BytesIO(self._keys.open(sealed, _result_identity(segment_id))))


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


def normal(frame: pl.DataFrame) -> pl.DataFrame:
    """The frame with its fixed columns typed as stored. DecisionError names what is missing or wrong."""
    missing = [name for name in (KEY, TARGET, *FIXED) if name not in frame.columns]
    if missing:
        raise DecisionError(f"a segment needs the column {missing[0]}")
    reserved = OWN.intersection(frame.columns)
    if reserved:
        raise DecisionError(f"the column {min(reserved)} belongs to the log")
    if not isinstance(frame.schema[KEY], pl.Struct):
        raise DecisionError(f"the column {KEY} must be a struct of the key's fields")
    strange = set(frame[STATE].unique().to_list()) - DECISION_STATES
    if strange:
        raise DecisionError(
            f"{min(map(str, strange))} is no state of a decision; use {', '.join(sorted(DECISION_STATES))}"
        )
    casts = [pl.col(name).cast(dtype) for name, dtype in FIXED.items()]
    if isinstance(frame.schema[TARGET], pl.Null):
        casts.append(pl.col(TARGET).cast(frame.schema[KEY]))
    casts += [pl.col(name).cast(pl.String) for name, dtype in frame.schema.items() if _is_category(dtype)]
    return frame.with_columns(casts)


def _is_category(dtype: pl.DataType) -> bool:
    return isinstance(dtype, pl.Categorical | pl.Enum)


def _leaves(rows: pl.DataFrame, salts: bytes) -> list[bytes]:
    """The Merkle leaves of the rows: SHA-256(0x00 ‖ salt ‖ canonical row)."""
    start = np.zeros((rows.height, 1), np.uint8)
    salt = np.frombuffer(salts, np.uint8).reshape(rows.height, merkle.SALT_BYTES)
    return [sha256(each).digest() for each in canonical_rows(rows, rows.columns, [start, salt])]


def _head(segment_id: int, facts: SegmentFacts, columns: Sequence[tuple[str, str]]) -> bytes:
    """The first leaf of a segment: what all its rows share (number, facts and columns), as canonical JSON."""
    named = {name: getattr(facts, name) for name in SegmentFacts.__slots__ if name != "at"}
    moment = facts.at.astimezone(UTC).isoformat(timespec="microseconds")
    listed = {"segment": str(segment_id), **named, "at": moment, "columns": [list(each) for each in columns]}
    return sha256(b"\x00" + rfc8785.dumps(listed)).digest()


def _counts(states: pl.Series) -> dict[str, int]:
    counted = states.drop_nulls().value_counts(name="count")
    return dict(sorted(zip(counted.to_series(0).to_list(), counted["count"].to_list(), strict=True)))


def _bounds(rows: pl.DataFrame) -> list[str]:
    """Lowest and highest key text."""
    if ORDER in rows.columns:
        texts = rows[ORDER].drop_nulls()
    else:
        keys = rows.select(KEY).filter(pl.col(KEY).is_not_null()).unnest(KEY)
        if keys.width == 1:
            keys = pl.concat([keys.select(pl.all().min()), keys.select(pl.all().max())])
        texts = key_text(keys.to_struct(KEY)).drop_nulls()
    return ["", ""] if texts.is_empty() else [str(texts.min()), str(texts.max())]


def _ipc(rows: pl.DataFrame) -> bytes:
    buffer = io.BytesIO()
    rows.write_ipc(buffer, compression="zstd")
    return buffer.getvalue()


def _file_identity(file_id: int, part: str) -> dict[str, str]:
    return {"kind": "decision_file", "id": str(file_id), "part": part}


def _result_identity(segment_id: int) -> dict[str, str]:
    return {"kind": "decision_result", "segment": str(segment_id)}
