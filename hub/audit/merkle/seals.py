"""What the sealed log keeps beside the events: places in spans, hashes in tiles, and the checkpoints given out."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

from sqlalchemy import CursorResult, LargeBinary, TextClause, bindparam, column, delete, insert, select, text, update
from sqlalchemy.orm import Session

from hub.audit.store import (
    AnchorRow,
    AuditEventRow,
    ChainRow,
    CheckpointRow,
    KeyChangeRow,
    PrunedRow,
    SealHeadRow,
    SpanRow,
    TileRow,
)
from hub.database import insert_into, table_of

ONLY = 1
COLD = timedelta(hours=2)
"""A chain that did not move for so long is looked at only where all are: its writer gave it up long before."""
DENSE = timedelta(days=1)
"""For so long every checkpoint is kept; of what is older, one an hour."""
FROZEN = "30s"
"""How long PostgreSQL lets a sealer hold the head without a word; then another takes over, and the frozen one fails."""

# In the order of chains, each entered by its primary key at the first event that is not sealed. The limit and the cross
# join keep both planners from reading all events ever written.
_PENDING: Mapping[str, str] = {
    "postgresql": """select c.writer, e.seq, e.leaf_hash from audit_chain c cross join lateral (
        select seq, leaf_hash from audit_event where writer = c.writer and seq >= c.sealed order by seq limit 1000000000
        ) e where c.warm or :all order by c.writer, e.seq""",
    "sqlite": """select c.writer, e.seq, e.leaf_hash from audit_chain c cross join audit_event e
        where e.writer = c.writer and e.seq >= c.sealed and (c.warm or :all) order by c.writer, e.seq""",
}
_BEGUN = """select writer, seq, leaf_hash from audit_event
    where writer > (select coalesce(max(writer), 0) from audit_chain) order by writer, seq"""


@dataclass(frozen=True, slots=True)
class Span:
    """`count` events of a writer from `first_seq`, at `first_index` of the log."""

    first_index: int
    writer: int
    first_seq: int
    count: int


def lock_head(session: Session, now: datetime) -> SealHeadRow | None:
    """How far the log has come, held until the transaction ends; None where another process seals at this moment."""
    if session.get_bind().dialect.name == "postgresql":
        session.execute(text("select set_config('idle_in_transaction_session_timeout', :most, true)"), {"most": FROZEN})
    first = insert_into(session, SealHeadRow).values(id=ONLY, size=0, at=now)
    session.execute(first.on_conflict_do_nothing(index_elements=["id"]))
    wanted = select(SealHeadRow).where(SealHeadRow.id == ONLY)
    if session.get_bind().dialect.name == "postgresql":
        wanted = wanted.with_for_update(skip_locked=True)
    return session.execute(wanted).scalar_one_or_none()


def head(session: Session) -> tuple[int, datetime] | None:
    """The size of the log and when it was last sealed."""
    found = session.execute(select(SealHeadRow.size, SealHeadRow.at)).one_or_none()
    return None if found is None else (found.size, found.at)


def pending(session: Session, *, every_chain: bool) -> Generator[tuple[int, int, bytes], None, None]:
    """Writer, place and hash of each event that is not sealed, chain after chain."""
    dialect = session.get_bind().dialect.name
    for statement, given in ((_BEGUN, {}), (_PENDING[dialect], {"all": every_chain})):
        with _run(session, text(statement), given) as rows:
            for row in rows:
                yield row.writer, row.seq, row.leaf_hash


def _run(session: Session, statement: TextClause, given: Mapping[str, object]) -> CursorResult[Any]:
    typed = statement.columns(column("writer"), column("seq"), column("leaf_hash", LargeBinary))
    return session.execute(typed, dict(given), execution_options={"yield_per": 10_000})  # type: ignore[return-value]


def chains(session: Session, writers: Iterable[int]) -> dict[int, int]:
    """How many events of these writers are sealed."""
    wanted = select(ChainRow.writer, ChainRow.sealed).where(ChainRow.writer.in_(list(writers)))
    return {row.writer: row.sealed for row in session.execute(wanted)}


def extend(session: Session, spans: Sequence[Span], now: datetime) -> None:
    """Gives the spans their places and notes how far each chain is sealed."""
    made = [{name: getattr(each, name) for name in Span.__slots__} for each in spans]
    session.execute(insert(table_of(SpanRow)), made)
    moved = [
        {"writer": each.writer, "sealed": each.first_seq + each.count, "warm": True, "moved_at": now} for each in spans
    ]
    statement = insert_into(session, ChainRow)
    told = {name: getattr(statement.excluded, name) for name in ("sealed", "warm", "moved_at")}
    session.execute(statement.on_conflict_do_update(index_elements=["writer"], set_=told), moved)
    cold = update(ChainRow).where(ChainRow.warm, ChainRow.moved_at < now - COLD)
    session.execute(cold.values(warm=False), execution_options={"synchronize_session": False})


# A proof asks for half a dozen tiles; building the statement each time would cost more than all else.
_TILE = select(TileRow.hashes).where(TileRow.level == bindparam("level"), TileRow.number == bindparam("number"))
_NEWEST = select(CheckpointRow.note).order_by(CheckpointRow.size.desc()).limit(1)
_SPAN_OF = (
    select(SpanRow.first_index, SpanRow.writer, SpanRow.first_seq, SpanRow.count.label("events"))
    .where(SpanRow.first_index <= bindparam("index"))
    .order_by(SpanRow.first_index.desc())
    .limit(1)
    .subquery()
)
_LEAF_AT = select(AuditEventRow.leaf).where(
    bindparam("index") < _SPAN_OF.c.first_index + _SPAN_OF.c.events,
    AuditEventRow.writer == _SPAN_OF.c.writer,
    AuditEventRow.seq == _SPAN_OF.c.first_seq + bindparam("index") - _SPAN_OF.c.first_index,
)


def load_tile(session: Session, level: int, number: int) -> bytes:
    """The hashes of a tile; empty where there is none."""
    return session.execute(_TILE, {"level": level, "number": number}).scalar_one_or_none() or b""


def store_tiles(session: Session, tiles: Mapping[tuple[int, int], bytes]) -> None:
    """Puts tiles in the place of what was there of them."""
    made = [{"level": level, "number": number, "hashes": each} for (level, number), each in tiles.items()]
    statement = insert_into(session, TileRow)
    told = {"hashes": statement.excluded.hashes}
    session.execute(statement.on_conflict_do_update(index_elements=["level", "number"], set_=told), made)


def leaf_tiles(session: Session) -> Generator[bytes, None, None]:
    """The tiles of leaf hashes, in order."""
    wanted = select(TileRow.hashes).where(TileRow.level == 0).order_by(TileRow.number)
    with session.execute(wanted.execution_options(yield_per=500)) as rows:
        yield from rows.scalars()


def add_checkpoint(session: Session, size: int, note: str, now: datetime) -> None:
    """Notes a checkpoint, and that the head has come so far."""
    session.execute(insert(table_of(CheckpointRow)), {"size": size, "note": note, "at": now})
    session.execute(update(SealHeadRow).where(SealHeadRow.id == ONLY).values(size=size, at=now))


def newest_note(session: Session) -> str | None:
    """The newest checkpoint's text."""
    return session.execute(_NEWEST).scalar()


def sizes(session: Session) -> Sequence[int]:
    """The sizes at which a checkpoint was signed, in order."""
    return session.execute(select(CheckpointRow.size).order_by(CheckpointRow.size)).scalars().all()


def notes_of(session: Session, wanted: Iterable[int]) -> dict[int, str]:
    """The texts of the checkpoints of these sizes."""
    found = select(CheckpointRow.size, CheckpointRow.note).where(CheckpointRow.size.in_(list(wanted)))
    return {row.size: row.note for row in session.execute(found)}


def notes(session: Session) -> Generator[tuple[int, str], None, None]:
    """Size and text of each checkpoint, in the order of the log."""
    wanted = select(CheckpointRow.size, CheckpointRow.note).order_by(CheckpointRow.size)
    with session.execute(wanted.execution_options(yield_per=2000)) as rows:
        for row in rows:
            yield row.size, row.note


def spans_by_writer(session: Session) -> Generator[Span, None, None]:
    """Every span, chain after chain."""
    yield from _spans(session, SpanRow.writer, SpanRow.first_seq)


def spans_by_index(session: Session) -> Generator[Span, None, None]:
    """Every span, in the order of the log."""
    yield from _spans(session, SpanRow.first_index)


def spans_of(session: Session, writer: int, first_seq: int, count: int) -> list[Span]:
    """The spans that hold any of these neighbours of a chain, in order."""
    wanted = select(SpanRow.first_index, SpanRow.writer, SpanRow.first_seq, SpanRow.count).where(
        SpanRow.writer == writer,
        SpanRow.first_seq < first_seq + count,
        SpanRow.first_seq + SpanRow.count > first_seq,
    )
    return [Span(*each) for each in session.execute(wanted.order_by(SpanRow.first_seq))]


def _spans(session: Session, *order: Any) -> Generator[Span, None, None]:
    wanted = select(SpanRow.first_index, SpanRow.writer, SpanRow.first_seq, SpanRow.count).order_by(*order)
    with session.execute(wanted.execution_options(yield_per=5000)) as rows:
        for row in rows:
            yield Span(*row)


def place(session: Session, writer: int, seq: int) -> int | None:
    """The index of an event in the log; None where it is not sealed."""
    wanted = select(SpanRow).where(SpanRow.writer == writer, SpanRow.first_seq <= seq)
    found = session.execute(wanted.order_by(SpanRow.first_seq.desc()).limit(1)).scalar_one_or_none()
    if found is None or seq >= found.first_seq + found.count:
        return None
    return found.first_index + seq - found.first_seq


def leaf_at(session: Session, index: int) -> bytes | None:
    """The leaf at an index of the log."""
    return session.execute(_LEAF_AT, {"index": index}).scalar_one_or_none()


def leaves(session: Session, span: Span) -> dict[int, bytes]:
    """The leaves of a span that are there, by their place in the chain, in order."""
    wanted = select(AuditEventRow.seq, AuditEventRow.leaf).where(
        AuditEventRow.writer == span.writer,
        AuditEventRow.seq >= span.first_seq,
        AuditEventRow.seq < span.first_seq + span.count,
    )
    return {row.seq: row.leaf for row in session.execute(wanted.order_by(AuditEventRow.seq))}


def pruned(session: Session, writer: int, first_seq: int, count: int) -> set[int]:
    """Which of these neighbours of a chain had their bodies dropped."""
    wanted = select(PrunedRow.first_seq, PrunedRow.count).where(
        PrunedRow.writer == writer,
        PrunedRow.first_seq < first_seq + count,
        PrunedRow.first_seq + PrunedRow.count > first_seq,
    )
    found = session.execute(wanted)
    return {seq for begin, many in found for seq in range(max(begin, first_seq), min(begin + many, first_seq + count))}


def is_pruned(session: Session, index: int) -> bool:
    """Whether the body of the event at an index of the log was dropped."""
    wanted = select(SpanRow).where(SpanRow.first_index <= index).order_by(SpanRow.first_index.desc())
    span = session.execute(wanted.limit(1)).scalar_one_or_none()
    return span is not None and bool(pruned(session, span.writer, span.first_seq + index - span.first_index, 1))


def thin(session: Session, now: datetime) -> int:
    """Drops the checkpoints between the hours of days gone by, but for those that were put outside; how many."""
    anchored = set(session.execute(select(AnchorRow.size)).scalars())
    wanted = select(CheckpointRow.size, CheckpointRow.at).where(CheckpointRow.at < now - DENSE)
    rows = session.execute(wanted.order_by(CheckpointRow.size)).all()
    between = [
        {"gone": size}
        for (size, at), (_, after) in pairwise(rows)
        if size not in anchored and (at.date(), at.hour) == (after.date(), after.hour)
    ]
    if between:
        table = table_of(CheckpointRow)
        session.connection().execute(delete(table).where(table.c.size == bindparam("gone")), between)
    return len(between)


def add_key_change(session: Session, size: int, note: str, now: datetime) -> None:
    """Notes that another key signs checkpoints of more than `size` events."""
    session.execute(insert(table_of(KeyChangeRow)), {"size": size, "note": note, "at": now})


def key_changes(session: Session) -> list[str]:
    """The statements of all changes of the key, in order."""
    return list(session.execute(select(KeyChangeRow.note).order_by(KeyChangeRow.size)).scalars())
