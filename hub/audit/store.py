"""The tables of the trail: events, append-only by triggers, and the Merkle log (RFC 9162) that is laid over them."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Index, LargeBinary, Table, event, func, literal, select, text
from sqlalchemy.orm import Mapped, Session, mapped_column

from hub.audit.types import Action, Outcome
from hub.database import Base
from hub.postgresql.binary import BYTEA, INT8, TEXT, TIMESTAMPTZ, array, int8, timestamptz

WRITERS_LOCK = 0x6875_6201
"""The advisory lock under which PostgreSQL numbers the writers."""

RETENTION_LOCK = 0x6875_6202
"""The advisory lock under which PostgreSQL lays a hold, and drops what none holds."""


class AuditEventRow(Base):
    """One event. `leaf` is its canonical form and the only truth; the columns beside it are there to be searched.

    A row never changes: its place in the sealed log stands in a span, so that a login of the hub needs no right to
    update this table.
    """

    __tablename__ = "audit_event"
    __table_args__ = (
        Index(None, "at"),
        Index(None, "subject", "at"),
        Index(None, "run", "at"),
    )

    writer: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    seq: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    leaf: Mapped[bytes]
    leaf_hash: Mapped[bytes]
    at: Mapped[datetime]
    actor: Mapped[str]
    action: Mapped[Action]
    subject: Mapped[str]
    outcome: Mapped[Outcome]
    run: Mapped[str | None]


class SealHeadRow(Base):
    """The one row that whoever seals holds locked: how far the log has come, and when."""

    __tablename__ = "audit_seal_head"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    size: Mapped[int]
    at: Mapped[datetime]


class ChainRow(Base):
    """How many events of a writer's chain are sealed. `warm`: looked at each time, since it moved not long ago."""

    __tablename__ = "audit_chain"

    writer: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    sealed: Mapped[int]
    warm: Mapped[bool]
    moved_at: Mapped[datetime]


class SpanRow(Base):
    """Neighbours of one chain that were sealed together: `count` events from `first_seq`, placed from `first_index`."""

    __tablename__ = "audit_span"
    __table_args__ = (Index(None, "writer", "first_seq", unique=True),)

    first_index: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    writer: Mapped[int]
    first_seq: Mapped[int]
    count: Mapped[int]


class TileRow(Base):
    """Up to 256 hashes of one level of the tree, one after the other; a full tile never changes."""

    __tablename__ = "audit_tile"

    level: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    hashes: Mapped[bytes]


class CheckpointRow(Base):
    """A signed checkpoint, as it was given out."""

    __tablename__ = "audit_checkpoint"

    size: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    note: Mapped[str]
    at: Mapped[datetime]


class AnchorRow(Base):
    """That a checkpoint was put outside our reach, and what was answered: a digest of the answer, or a timestamp."""

    __tablename__ = "audit_anchor"

    name: Mapped[str] = mapped_column(primary_key=True)
    size: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    receipt: Mapped[bytes]
    at: Mapped[datetime]


class SubjectKeyRow(Base):
    """The key under which events tell of one subject; once it is gone, so is what they told."""

    __tablename__ = "audit_subject_key"

    subject: Mapped[str] = mapped_column(primary_key=True)
    number: Mapped[str]
    sealed: Mapped[bytes]
    created_at: Mapped[datetime]


class RetentionRow(Base):
    """How long the bodies of events are kept; without the row, for ever."""

    __tablename__ = "audit_retention"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    keep_days: Mapped[int]


class HoldRow(Base):
    """A legal hold: events that match everything given are neither pruned nor their subject erased."""

    __tablename__ = "audit_hold"

    name: Mapped[str] = mapped_column(primary_key=True)
    actor: Mapped[str | None]
    subject: Mapped[str | None]
    run: Mapped[str | None]
    since: Mapped[datetime | None]
    until: Mapped[datetime | None]
    reason: Mapped[str]
    at: Mapped[datetime]


class PrunedRow(Base):
    """Neighbours of one chain whose bodies were dropped by one pruning; their hashes stay in the tiles."""

    __tablename__ = "audit_pruned"

    writer: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    first_seq: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    count: Mapped[int]
    batch: Mapped[int]


class KeyChangeRow(Base):
    """That another key signs checkpoints of more than `size` events, signed by the old key and the new."""

    __tablename__ = "audit_key_change"

    size: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    note: Mapped[str]
    at: Mapped[datetime]


_REFUSE = "BEGIN SELECT RAISE(ABORT, 'the audit trail is append-only'); END"
_EXECUTE = "EXECUTE FUNCTION audit_event_refuse()"
_PRUNED = """select 1 from audit_pruned p
    where p.writer = OLD.writer and p.first_seq <= OLD.seq and OLD.seq < p.first_seq + p.count"""

FUNCTIONS = (
    """CREATE OR REPLACE FUNCTION audit_event_refuse() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION 'the audit trail is append-only'; END $$""",
    f"""CREATE OR REPLACE FUNCTION audit_event_prune() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN
        IF EXISTS ({_PRUNED}) THEN RETURN OLD; END IF;
        RAISE EXCEPTION 'the audit trail is append-only';
    END $$""",
)
TRIGGERS: Mapping[str, Mapping[str, str]] = {
    "sqlite": {
        "audit_event_no_delete": f"BEFORE DELETE ON audit_event WHEN NOT EXISTS ({_PRUNED}) {_REFUSE}",
        "audit_event_no_update": f"BEFORE UPDATE ON audit_event {_REFUSE}",
    },
    "postgresql": {
        "audit_event_no_delete": "BEFORE DELETE ON audit_event FOR EACH ROW EXECUTE FUNCTION audit_event_prune()",
        "audit_event_no_truncate": f"BEFORE TRUNCATE ON audit_event FOR EACH STATEMENT {_EXECUTE}",
        "audit_event_no_update": f"BEFORE UPDATE ON audit_event FOR EACH STATEMENT {_EXECUTE}",
    },
}
"""Only what a pruning has named may go; who prunes says so in an event of the trail."""
_EXISTING = {
    "sqlite": "select name from sqlite_master where type = 'trigger' and tbl_name = 'audit_event'",
    "postgresql": "select tgname from pg_trigger where tgrelid = 'audit_event'::regclass and not tgisinternal",
}


def is_append_only(connection: Connection) -> bool:
    """Whether every trigger is in place."""
    return not _missing(connection)


def make_append_only(connection: Connection) -> None:
    """Puts the triggers in place that are missing. A speed bump: who owns the database can drop them again."""
    dialect = connection.dialect.name
    missing = _missing(connection)
    if missing and dialect == "postgresql":
        for each in FUNCTIONS:
            connection.exec_driver_sql(each)
    for name in missing:
        connection.exec_driver_sql(f"CREATE TRIGGER {name} {TRIGGERS[dialect][name]}")


def _missing(connection: Connection) -> list[str]:
    dialect = connection.dialect.name
    existing = set(connection.exec_driver_sql(_EXISTING[dialect]).scalars())
    return [name for name in TRIGGERS[dialect] if name not in existing]


@event.listens_for(AuditEventRow.__table__, "after_create")
def _guard_new_table(_table: Table, connection: Connection, **_: object) -> None:
    make_append_only(connection)


@event.listens_for(AuditEventRow.__table__, "after_drop")
def _drop_function(_table: Table, connection: Connection, **_: object) -> None:
    if connection.dialect.name == "postgresql":
        for name in ("refuse", "prune"):
            connection.exec_driver_sql(f"DROP FUNCTION IF EXISTS audit_event_{name}()")


def add_events(session: Session, rows: Sequence[Mapping[str, Any]]) -> None:
    """Appends rows of one writer with the transaction, in one statement; on PostgreSQL its COMMIT takes them along."""
    # In the driver's own words: what SQLAlchemy adds to each statement and value costs more than the rest of an event.
    connection = session.connection()
    if connection.dialect.name == "sqlite":
        told = [{**each, "at": f"{each['at'].replace(tzinfo=None).isoformat(' ', 'microseconds')}"} for each in rows]
        connection.exec_driver_sql(_ADD_SQLITE, told)
        return
    driver: Any = connection.connection.driver_connection
    if len(rows) == 1:
        driver.say_last(_ADD_ONE, _binary(rows[0]))
    else:
        writer, *columns = zip(*map(_binary, rows), strict=True)
        driver.say_last(_ADD_MANY, [writer[0], *map(array, _KINDS, columns)])


def _binary(row: Mapping[str, Any]) -> tuple[bytes | None, ...]:
    """The values of a row, in the order of its columns."""
    run = row["run"]
    return (
        int8(row["writer"]),
        int8(row["seq"]),
        row["leaf"],
        row["leaf_hash"],
        timestamptz(row["at"]),
        row["actor"].encode(),
        row["action"].encode(),
        row["subject"].encode(),
        row["outcome"].encode(),
        None if run is None else run.encode(),
    )


_ADD_SQLITE = """INSERT INTO audit_event (writer, seq, leaf, leaf_hash, at, actor, action, subject, outcome, run)
    VALUES (:writer, :seq, :leaf, :leaf_hash, :at, :actor, :action, :subject, :outcome, :run)"""
_ADD_ONE = b"""INSERT INTO audit_event (writer, seq, leaf, leaf_hash, at, actor, action, subject, outcome, run)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)"""
_ADD_MANY = b"""INSERT INTO audit_event (writer, seq, leaf, leaf_hash, at, actor, action, subject, outcome, run)
    SELECT $1, * FROM unnest($2::bigint[], $3::bytea[], $4::bytea[], $5::timestamptz[], $6::text[], $7::text[],
    $8::text[], $9::text[], $10::text[])"""
_KINDS = (INT8, BYTEA, BYTEA, TIMESTAMPTZ, TEXT, TEXT, TEXT, TEXT, TEXT)


def lock_writers(session: Session) -> None:
    """Holds every other opening of a writer back until the end of the transaction; on SQLite it already is."""
    if session.get_bind().dialect.name == "postgresql":
        session.execute(text("select pg_advisory_xact_lock(:key)"), {"key": WRITERS_LOCK})


def lock_retention(session: Session) -> None:
    """Lets a hold be laid, events be pruned and a subject be erased one after the other; on SQLite it already is."""
    if session.get_bind().dialect.name == "postgresql":
        session.execute(text("select pg_advisory_xact_lock(:key)"), {"key": RETENTION_LOCK})


def last_writer(session: Session) -> int | None:
    """The number of the newest writer."""
    return session.execute(select(func.max(AuditEventRow.writer))).scalar_one()


def opening_hash(session: Session, writer: int) -> bytes | None:
    """The leaf hash of the event with which a writer began."""
    wanted = select(AuditEventRow.leaf_hash).where(AuditEventRow.writer == writer, AuditEventRow.seq == 0)
    return session.execute(wanted).scalar_one_or_none()


def head(session: Session, writer: int) -> tuple[int, bytes]:
    """The last place of a writer's chain and the hash there."""
    wanted = select(AuditEventRow.seq, AuditEventRow.leaf_hash).where(AuditEventRow.writer == writer)
    seq, leaf_hash = session.execute(wanted.order_by(AuditEventRow.seq.desc()).limit(1)).one()
    return seq, leaf_hash


def openings(session: Session) -> Sequence[bytes]:
    """The leaf with which each writer began, in order."""
    wanted = select(AuditEventRow.leaf).where(AuditEventRow.seq == 0).order_by(AuditEventRow.writer)
    return session.execute(wanted).scalars().all()


def walk(session: Session) -> Generator[AuditEventRow, None, None]:
    """Every event, chain after chain, a few thousand in memory at a time."""
    wanted = select(AuditEventRow).order_by(AuditEventRow.writer, AuditEventRow.seq)
    with session.execute(wanted.execution_options(yield_per=2000)) as result:
        yield from result.scalars()


def naming(session: Session, needle: str) -> ColumnElement[bool]:
    """Of events whose bytes hold this text; to look for them reads the whole trail."""
    sought = literal(needle.encode("utf-8"), LargeBinary)
    if session.get_bind().dialect.name == "sqlite":
        return func.instr(AuditEventRow.leaf, sought) > 0
    return func.position(sought.op("IN")(AuditEventRow.leaf)) > 0


def find_named(session: Session, needle: str, limit: int) -> Sequence[AuditEventRow]:
    """The newest events whose bytes hold this text, newest first."""
    wanted = select(AuditEventRow).where(naming(session, needle))
    return session.execute(wanted.order_by(AuditEventRow.at.desc()).limit(limit)).scalars().all()


def find(
    session: Session,
    *,
    actor: str | None,
    action: Action | None,
    subject: str | None,
    run: str | None,
    since: datetime | None,
    until: datetime | None,
    limit: int,
) -> Sequence[AuditEventRow]:
    """The newest events that match everything given, newest first."""
    wanted = select(AuditEventRow).order_by(
        AuditEventRow.at.desc(), AuditEventRow.writer.desc(), AuditEventRow.seq.desc()
    )
    for column, value in (
        (AuditEventRow.actor, actor),
        (AuditEventRow.action, action),
        (AuditEventRow.subject, subject),
        (AuditEventRow.run, run),
    ):
        if value is not None:
            wanted = wanted.where(column == value)
    if since is not None:
        wanted = wanted.where(AuditEventRow.at >= since)
    if until is not None:
        wanted = wanted.where(AuditEventRow.at < until)
    return session.execute(wanted.limit(limit)).scalars().all()
