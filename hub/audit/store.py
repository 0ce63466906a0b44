"""The table of the trail, append-only by triggers, shaped for a Merkle log (RFC 9162) to be laid over it."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Index, Table, UniqueConstraint, event, func, insert, select, text
from sqlalchemy.orm import Mapped, Session, mapped_column

from hub.audit.types import Action, Outcome
from hub.database import Base, table_of

WRITERS_LOCK = 0x6875_6201
"""The advisory lock under which PostgreSQL numbers the writers."""


class AuditEventRow(Base):
    """One event. `leaf` is its canonical form and the only truth; the columns beside it are there to be searched.

    `log_index` is its place in the sealed log, given once by the sealer.
    """

    __tablename__ = "audit_event"
    __table_args__ = (
        UniqueConstraint("log_index"),
        Index(None, "at"),
        Index(None, "subject", "at"),
        Index(None, "run", "at"),
    )

    writer: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    seq: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    leaf: Mapped[bytes]
    leaf_hash: Mapped[bytes]
    log_index: Mapped[int | None]
    at: Mapped[datetime]
    actor: Mapped[str]
    action: Mapped[Action]
    subject: Mapped[str]
    outcome: Mapped[Outcome]
    run: Mapped[str | None]


SEALED_COLUMNS = "writer, seq, leaf, leaf_hash, at, actor, action, subject, outcome, run"

_REFUSE = "BEGIN SELECT RAISE(ABORT, 'the audit trail is append-only'); END"
_EXECUTE = "EXECUTE FUNCTION audit_event_refuse()"

FUNCTION = """CREATE OR REPLACE FUNCTION audit_event_refuse() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION 'the audit trail is append-only'; END $$"""
TRIGGERS: Mapping[str, Mapping[str, str]] = {
    "sqlite": {
        "audit_event_no_delete": f"BEFORE DELETE ON audit_event {_REFUSE}",
        "audit_event_no_update": f"BEFORE UPDATE OF {SEALED_COLUMNS} ON audit_event {_REFUSE}",
        "audit_event_no_reseal": (
            f"BEFORE UPDATE OF log_index ON audit_event WHEN OLD.log_index IS NOT NULL {_REFUSE}"
        ),
    },
    "postgresql": {
        "audit_event_no_delete": f"BEFORE DELETE OR TRUNCATE ON audit_event FOR EACH STATEMENT {_EXECUTE}",
        "audit_event_no_update": f"BEFORE UPDATE OF {SEALED_COLUMNS} ON audit_event FOR EACH STATEMENT {_EXECUTE}",
        "audit_event_no_reseal": (
            f"BEFORE UPDATE OF log_index ON audit_event FOR EACH ROW WHEN (OLD.log_index IS NOT NULL) {_EXECUTE}"
        ),
    },
}
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
        connection.exec_driver_sql(FUNCTION)
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
        connection.exec_driver_sql("DROP FUNCTION IF EXISTS audit_event_refuse()")


def add_events(session: Session, rows: Sequence[Mapping[str, Any]]) -> None:
    """Appends rows, in one statement."""
    session.execute(_ADD_EVENT, list(rows))


_ADD_EVENT = insert(table_of(AuditEventRow))


def lock_writers(session: Session) -> None:
    """Holds every other opening of a writer back until the end of the transaction; on SQLite it already is."""
    if session.get_bind().dialect.name == "postgresql":
        session.execute(text("select pg_advisory_xact_lock(:key)"), {"key": WRITERS_LOCK})


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
