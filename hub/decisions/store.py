"""The tables of the decision log and of standing, and every query on them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ForeignKey, Index, String, Text, bindparam, case, cast, delete, func, insert, select, update
from sqlalchemy.orm import Mapped, Session, mapped_column

from hub.database import Base, JsonDocument, insert_into, table_of
from hub.decisions.types import Segment, SegmentFacts, SegmentFile

IN_LIMIT = 500
"""Values in one IN list."""


class DecisionFileRow(Base):
    """One encrypted file with the rows of one segment, or of many after compaction."""

    __tablename__ = "decision_file"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    mapping: Mapped[str] = mapped_column(String(128))
    path: Mapped[str] = mapped_column(String(256), unique=True)
    key: Mapped[bytes]
    bounds: Mapped[bytes]
    size: Mapped[int]
    rows: Mapped[int]
    segments: Mapped[int]


class DecisionBytesRow(Base):
    """A small file kept in the database, durable with its transaction; compaction moves it to a file on disk."""

    __tablename__ = "decision_bytes"

    file_id: Mapped[int] = mapped_column(ForeignKey("decision_file.id"), primary_key=True, autoincrement=False)
    content: Mapped[bytes]


class SegmentRow(Base):
    """One page's decisions: what they share, what they add up to, and the digest that proves them."""

    __tablename__ = "decision_segment"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    file_id: Mapped[int] = mapped_column(ForeignKey("decision_file.id"), index=True)
    mapping: Mapped[str] = mapped_column(String(128))
    version: Mapped[str] = mapped_column(String(64))
    model: Mapped[str] = mapped_column(String(128))
    model_version: Mapped[int]
    model_digest: Mapped[str] = mapped_column(String(64))
    run: Mapped[str] = mapped_column(String(64), index=True)
    slice: Mapped[int]
    page: Mapped[int]
    at: Mapped[datetime]
    rows: Mapped[int]
    counts: Mapped[dict[str, int]] = mapped_column(JsonDocument)
    results: Mapped[dict[str, int]] = mapped_column(JsonDocument)
    root: Mapped[bytes]
    columns: Mapped[list[list[str]]] = mapped_column(JsonDocument)
    erased: Mapped[int]
    size: Mapped[int]
    created_at: Mapped[datetime]

    __table_args__ = (Index(None, "mapping", "id"),)


class SegmentResultRow(Base):
    """What the far side answered to the rows of one segment, sealed."""

    __tablename__ = "decision_result"

    segment_id: Mapped[int] = mapped_column(ForeignKey("decision_segment.id"), primary_key=True, autoincrement=False)
    sealed: Mapped[bytes]


class StandingHeadRow(Base):
    """The order of all changes to one mapping's standing: its lock and counter. `epoch` moves when it is cleared."""

    __tablename__ = "standing_head"

    mapping: Mapped[str] = mapped_column(String(128), primary_key=True)
    seq: Mapped[int]
    epoch: Mapped[int]


class StandingBlockRow(Base):
    """Some thousand neighbouring keys: where they begin (sealed), when the first is due, how many stand how."""

    __tablename__ = "standing_block"

    mapping: Mapped[str] = mapped_column(String(128), primary_key=True)
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    seq: Mapped[int]
    token: Mapped[int]
    low: Mapped[bytes]
    rows: Mapped[int]
    states: Mapped[dict[str, int]] = mapped_column(JsonDocument)
    due: Mapped[datetime | None]

    __table_args__ = (Index(None, "mapping", "seq"), Index(None, "mapping", "due"))


class StandingBlobRow(Base):
    """The rows of one block, sealed; apart from the block's facts, so that reading those touches no blob."""

    __tablename__ = "standing_blob"

    mapping: Mapped[str] = mapped_column(String(128), primary_key=True)
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    token: Mapped[int]
    sealed: Mapped[bytes]


class StandingRow(Base):
    """Rows laid over the blocks: they count for each block that was last written before them."""

    __tablename__ = "standing_row"

    mapping: Mapped[str] = mapped_column(String(128), primary_key=True)
    seq: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    rows: Mapped[int]
    due: Mapped[datetime | None]
    sealed: Mapped[bytes]


# --- segments ---------------------------------------------------------------------------------------------------------


def add_segment(session: Session, segment: Segment) -> None:
    """Catalogues a segment and its file."""
    file = segment.file
    assert file is not None
    # Statements that are made once, not rows that a session keeps: a request waits for them.
    session.execute(_ADD_FILE, _file_values(file, segment.facts.mapping))
    if file.content is not None:
        session.execute(_ADD_BYTES, {"file_id": file.id, "content": file.content})
    facts = segment.facts
    session.execute(
        _ADD_SEGMENT,
        {
            "id": segment.id,
            "file_id": file.id,
            "mapping": facts.mapping,
            "version": facts.version,
            "model": facts.model,
            "model_version": facts.model_version,
            "model_digest": facts.model_digest,
            "run": facts.run,
            "slice": facts.slice,
            "page": facts.page,
            "at": facts.at,
            "rows": segment.rows,
            "counts": dict(segment.counts),
            "results": dict(segment.results),
            "root": segment.root,
            "columns": [list(each) for each in segment.columns],
            "erased": segment.erased,
            "size": segment.size,
            "created_at": segment.created_at,
        },
    )


_ADD_FILE, _ADD_BYTES, _ADD_SEGMENT = (
    insert(table_of(each)) for each in (DecisionFileRow, DecisionBytesRow, SegmentRow)
)


def _file_values(file: SegmentFile, mapping: str) -> dict[str, object]:
    return {
        "id": file.id,
        "mapping": mapping,
        "path": file.path,
        "key": file.key,
        "bounds": file.bounds,
        "size": file.size,
        "rows": file.rows,
        "segments": file.segments,
    }


def find_segment(session: Session, segment_id: int) -> Segment | None:
    """One segment with its file."""
    statement = select(SegmentRow, DecisionFileRow).join(DecisionFileRow).where(SegmentRow.id == segment_id)
    found = session.execute(statement).one_or_none()
    return None if found is None else _segment(*found)


@dataclass(frozen=True, slots=True)
class Told:
    """What a receipt shows of the segment of one decision: its facts, its digest, its results, sealed; and its file."""

    id: int
    facts: SegmentFacts
    root: bytes
    sealed: bytes | None
    file: SegmentFile


_SEGMENT, _FILE, _RESULT = (table_of(each) for each in (SegmentRow, DecisionFileRow, SegmentResultRow))
_FACTS = [_SEGMENT.c[name] for name in SegmentFacts.__slots__]
_PLACE = [_FILE.c[name] for name in ("id", "path", "key", "bounds", "size", "rows", "segments")]
_TOLD = (  # made once and without objects: a receipt asks it again for each file that it comes through
    select(_SEGMENT.c.id, _SEGMENT.c.root, _RESULT.c.sealed, *_PLACE, *_FACTS)
    .join_from(_SEGMENT, _FILE)
    .outerjoin(_RESULT, _RESULT.c.segment_id == _SEGMENT.c.id)
    .where(_SEGMENT.c.id.in_(bindparam("ids", expanding=True)))
)


def find_told(session: Session, ids: Sequence[int]) -> list[Told]:
    """Those of the segments that are catalogued; no more of them than a receipt shows."""
    found = []
    for start in range(0, len(ids), IN_LIMIT):
        for row in session.execute(_TOLD, {"ids": ids[start : start + IN_LIMIT]}):
            number, root, sealed, *rest = row
            file, facts = SegmentFile(*rest[: len(_PLACE)]), SegmentFacts(*rest[len(_PLACE) :])
            found.append(Told(number, facts, root, sealed, file))
    return found


def list_segments(
    session: Session,
    *,
    run: str | None = None,
    mapping: str | None = None,
    after: int | None = None,
    file: int | None = None,
    limit: int | None = None,
) -> list[Segment]:
    """Segments in the order they were written."""
    statement = select(SegmentRow, DecisionFileRow).join(DecisionFileRow).order_by(SegmentRow.id)
    if run is not None:
        statement = statement.where(SegmentRow.run == run)
    if mapping is not None:
        statement = statement.where(SegmentRow.mapping == mapping)
    if after is not None:
        statement = statement.where(SegmentRow.id > after)
    if file is not None:
        statement = statement.where(SegmentRow.file_id == file)
    return [_segment(*each) for each in session.execute(statement.limit(limit))]


def _segment(row: SegmentRow, file: DecisionFileRow) -> Segment:
    facts = SegmentFacts(
        mapping=row.mapping,
        version=row.version,
        model=row.model,
        model_version=row.model_version,
        model_digest=row.model_digest,
        run=row.run,
        slice=row.slice,
        page=row.page,
        at=row.at,
    )
    return Segment(
        id=row.id,
        facts=facts,
        rows=row.rows,
        counts=row.counts,
        root=row.root,
        columns=tuple((name, kind) for name, kind in row.columns),
        size=row.size,
        created_at=row.created_at,
        results=row.results,
        erased=row.erased,
        file=_file(file),
    )


def _file(row: DecisionFileRow) -> SegmentFile:
    return SegmentFile(row.id, row.path, row.key, row.bounds, row.size, row.rows, row.segments)


def list_files(session: Session, mapping: str) -> list[SegmentFile]:
    """The files of a mapping, oldest first."""
    statement = select(DecisionFileRow).where(DecisionFileRow.mapping == mapping).order_by(DecisionFileRow.id)
    return [_file(each) for each in session.scalars(statement)]


@dataclass(frozen=True, slots=True)
class SmallFile:
    """A file that may be merged with others: its rows, its newest segment and that one's columns, as text."""

    id: int
    rows: int
    newest: int
    columns: str


def list_small_files(session: Session, mapping: str, below: int) -> list[SmallFile]:
    """The files of a mapping with fewer rows than that, oldest first."""
    newest = (
        select(DecisionFileRow.id, DecisionFileRow.rows, func.max(SegmentRow.id).label("newest"))
        .join(SegmentRow, SegmentRow.file_id == DecisionFileRow.id)
        .where(DecisionFileRow.mapping == mapping, DecisionFileRow.rows < below)
        .group_by(DecisionFileRow.id, DecisionFileRow.rows)
        .subquery()
    )
    columns = cast(SegmentRow.columns, Text)
    statement = (
        select(newest.c.id, newest.c.rows, newest.c.newest, columns)
        .join(SegmentRow, SegmentRow.id == newest.c.newest)
        .order_by(newest.c.id)
    )
    return [SmallFile(*row) for row in session.execute(statement)]


def load_bytes(session: Session, file_id: int) -> bytes | None:
    """A file that is kept in the database; None where it is not."""
    return session.scalar(select(DecisionBytesRow.content).where(DecisionBytesRow.file_id == file_id))


def crowded(session: Session, least: int) -> list[str]:
    """The mappings that keep at least so many files in the database."""
    kept = select(DecisionFileRow.mapping).join(DecisionBytesRow, DecisionBytesRow.file_id == DecisionFileRow.id)
    return list(session.scalars(kept.group_by(DecisionFileRow.mapping).having(func.count() >= least)))


def known_paths(session: Session, paths: Sequence[str]) -> set[str]:
    """Those of the paths that a catalogue row names."""
    found: set[str] = set()
    for start in range(0, len(paths), IN_LIMIT):
        chunk = paths[start : start + IN_LIMIT]
        found.update(session.scalars(select(DecisionFileRow.path).where(DecisionFileRow.path.in_(chunk))))
    return found


def lock_file(session: Session, file_id: int) -> SegmentFile | None:
    """The file's row as it stands now, held until the transaction ends."""
    statement = select(DecisionFileRow).where(DecisionFileRow.id == file_id).with_for_update()
    row = session.scalars(statement).one_or_none()
    return None if row is None else _file(row)


def replace_file(session: Session, file: SegmentFile) -> None:
    """Puts a rewritten file in place of the old one of the same id."""
    session.execute(delete(DecisionBytesRow).where(DecisionBytesRow.file_id == file.id))
    values = {"path": file.path, "key": file.key, "bounds": file.bounds, "size": file.size}
    session.execute(update(DecisionFileRow).where(DecisionFileRow.id == file.id).values(values))


def count_erased(session: Session, segment_id: int, erased: int) -> None:
    """Stores how many rows of a segment are erased."""
    session.execute(update(SegmentRow).where(SegmentRow.id == segment_id).values(erased=erased))


def join_files(session: Session, file: SegmentFile, mapping: str, old: Sequence[int]) -> None:
    """Puts one file in place of several."""
    session.execute(_ADD_FILE, _file_values(file, mapping))
    session.execute(update(SegmentRow).where(SegmentRow.file_id.in_(old)).values(file_id=file.id))
    session.execute(delete(DecisionBytesRow).where(DecisionBytesRow.file_id.in_(old)))
    session.execute(delete(DecisionFileRow).where(DecisionFileRow.id.in_(old)))


def lock_segment(session: Session, segment_id: int) -> bool:
    """Whether the segment is catalogued; its row is held until the transaction ends."""
    statement = select(SegmentRow.id).where(SegmentRow.id == segment_id).with_for_update()
    return session.execute(statement).one_or_none() is not None


def load_results(session: Session, segment_id: int) -> bytes | None:
    """The sealed results of a segment."""
    statement = select(SegmentResultRow.sealed).where(SegmentResultRow.segment_id == segment_id)
    return session.execute(statement).scalar_one_or_none()


def save_results(session: Session, segment_id: int, sealed: bytes, counts: dict[str, int]) -> None:
    """Stores a segment's results, in place of earlier ones."""
    statement = insert_into(session, SegmentResultRow).values(segment_id=segment_id, sealed=sealed)
    session.execute(
        statement.on_conflict_do_update(index_elements=["segment_id"], set_={"sealed": statement.excluded.sealed})
    )
    session.execute(update(SegmentRow).where(SegmentRow.id == segment_id).values(results=counts))


# --- standing ---------------------------------------------------------------------------------------------------------


def read_head(session: Session, mapping: str) -> tuple[int, int]:
    """Counter and epoch of a mapping's standing; (0, 0) before its first change."""
    statement = select(StandingHeadRow.seq, StandingHeadRow.epoch).where(StandingHeadRow.mapping == mapping)
    found = session.execute(statement).one_or_none()
    return (0, 0) if found is None else (found[0], found[1])


def advance_head(session: Session, mapping: str) -> tuple[int, int]:
    """Takes the standing's lock until the transaction ends, and its next number; answers (number, epoch)."""
    insert = insert_into(session, StandingHeadRow).values(mapping=mapping, seq=1, epoch=0)
    advance = insert.on_conflict_do_update(index_elements=["mapping"], set_={"seq": StandingHeadRow.seq + 1})
    seq, epoch = session.execute(advance.returning(StandingHeadRow.seq, StandingHeadRow.epoch)).one()
    return seq, epoch


def list_blocks(session: Session, mapping: str, after: int) -> list[StandingBlockRow]:
    """The blocks written after that number."""
    statement = select(StandingBlockRow).where(StandingBlockRow.mapping == mapping, StandingBlockRow.seq > after)
    return list(session.scalars(statement.execution_options(populate_existing=True)))


@dataclass(frozen=True, slots=True)
class OverRow:
    """Rows laid over by one change; `sealed` is None where they were known already."""

    seq: int
    sealed: bytes | None


def list_rows(session: Session, mapping: str, after: int) -> list[OverRow]:
    """All rows laid over, oldest first, with their content where the number is above `after`."""
    fresh = case((StandingRow.seq > after, StandingRow.sealed), else_=None)
    statement = select(StandingRow.seq, fresh).where(StandingRow.mapping == mapping).order_by(StandingRow.seq)
    return [OverRow(seq, sealed) for seq, sealed in session.execute(statement)]


def load_blobs(session: Session, mapping: str, ids: Sequence[int]) -> dict[int, tuple[int, bytes]]:
    """Token and sealed rows by block."""
    found: dict[int, tuple[int, bytes]] = {}
    columns = (StandingBlobRow.id, StandingBlobRow.token, StandingBlobRow.sealed)
    for start in range(0, len(ids), IN_LIMIT):
        chunk = ids[start : start + IN_LIMIT]
        statement = select(*columns).where(StandingBlobRow.mapping == mapping, StandingBlobRow.id.in_(chunk))
        found.update({each.id: (each.token, each.sealed) for each in session.execute(statement)})
    return found


def write_block(session: Session, block: dict[str, object], sealed: bytes) -> None:
    """Stores a block whole, new or in place of its earlier self."""
    facts = insert_into(session, StandingBlockRow).values(block)
    moved = {name: facts.excluded[name] for name in ("seq", "token", "rows", "states", "due")}
    session.execute(facts.on_conflict_do_update(index_elements=["mapping", "id"], set_=moved))
    named = {name: block[name] for name in ("mapping", "id", "token")}
    blob = insert_into(session, StandingBlobRow).values(**named, sealed=sealed)
    fresh = {"token": blob.excluded.token, "sealed": blob.excluded.sealed}
    session.execute(blob.on_conflict_do_update(index_elements=["mapping", "id"], set_=fresh))


def write_rows(session: Session, rows: dict[str, object]) -> None:
    """Lays rows over the blocks."""
    session.execute(insert_into(session, StandingRow).values(rows))


def drop_rows(session: Session, mapping: str, seqs: Iterable[int]) -> None:
    """Takes laid-over rows away that no longer count for any block."""
    listed = list(seqs)
    for start in range(0, len(listed), IN_LIMIT):
        chunk = listed[start : start + IN_LIMIT]
        session.execute(delete(StandingRow).where(StandingRow.mapping == mapping, StandingRow.seq.in_(chunk)))


def clear_standing(session: Session, mapping: str) -> None:
    """Forgets every record of a mapping, under its lock."""
    advance_head(session, mapping)
    for table in (StandingRow, StandingBlobRow, StandingBlockRow):
        session.execute(delete(table).where(table.mapping == mapping))
    moved = update(StandingHeadRow).where(StandingHeadRow.mapping == mapping).values(epoch=StandingHeadRow.epoch + 1)
    session.execute(moved)
