"""The state of the twin in one SQLite file: records by object, their changes in order, and what else outlives it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import (
    Connection,
    Index,
    MetaData,
    Table,
    bindparam,
    create_engine,
    delete,
    event,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from connectors.salesforce.twin.org.ids import make_id
from connectors.salesforce.twin.org.schema import Field, ObjectType
from connectors.salesforce.twin.org.tables import STATE, changes, column_of, counters, documents

LISTENED = frozenset({"Account", "Contact", "Lead", "Opportunity"})
"""Objects selected for change data capture in a new org."""


@dataclass(frozen=True, slots=True)
class Change:
    """One committed change of one record, as change data capture tells it. `replay` grows with every change."""

    replay: int
    entity: str
    record: str
    kind: str
    """CREATE, UPDATE, DELETE or UNDELETE."""
    user: str
    moment: datetime
    transaction: str
    """The same for all changes that were committed together."""
    origin: str
    values: Mapping[str, Any]
    """The fields that changed with their new values, as REST writes them."""


@dataclass(slots=True)
class Unit:
    """One transaction: its connection and the changes it will tell once it is committed."""

    connection: Connection
    told: list[Change] = field(default_factory=list)


class Store:
    """Records and state. Writing units take turns; readers see what was committed before they began."""

    def __init__(self, path: Path) -> None:
        self._engine = create_engine(
            f"sqlite:///{path}", hide_parameters=True, connect_args={"check_same_thread": False, "timeout": 60}
        )
        event.listen(self._engine, "connect", _prepare)
        event.listen(self._engine, "begin", _begin)
        self._tables: dict[str, Table] = {}
        self._records = MetaData()
        self._turn = threading.RLock()
        self._local = threading.local()
        self.listeners: list[Callable[[Sequence[Change]], None]] = []
        """Told of each commit in the writer's thread, in the order of commits."""
        self.captured = set(LISTENED)
        """Objects whose changes are kept and told."""
        with self._engine.begin() as connection:
            STATE.create_all(connection)

    @contextmanager
    def writing(self) -> Iterator[Unit]:
        """One transaction; the same one where this thread is in it already."""
        within: Unit | None = getattr(self._local, "unit", None)
        if within is not None:
            yield within
            return
        with self._turn:
            try:
                with self._engine.begin() as connection:
                    unit = self._local.unit = Unit(connection)
                    yield unit
            finally:
                self._local.unit = None
            if unit.told:
                for listener in list(self.listeners):
                    listener(unit.told)

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection to read from: that of this thread's transaction where there is one."""
        within: Unit | None = getattr(self._local, "unit", None)
        if within is not None:
            yield within.connection
            return
        with self._engine.begin() as connection:
            yield connection

    def table(self, kind: ObjectType) -> Table:
        """The table of an object's records, with a column for each field that is stored."""
        made = self._tables.get(kind.name)
        if made is None or len(made.c) != sum(each.stored for each in kind):
            made = self._tables[kind.name] = self._make_table(kind)
        return made

    def add_column(self, kind: ObjectType, added: Field) -> None:
        """Gives the records of an object one more field."""
        if not added.stored:
            return
        name = f"sobject_{kind.name}"
        with self.writing() as unit:
            Operations(MigrationContext.configure(unit.connection)).add_column(name, column_of(added))
            if added.external or added.unique:
                column = self.table(kind).c[added.name]
                Index(f"{name}_{added.name}", column).create(unit.connection, checkfirst=True)

    def drop_column(self, kind: ObjectType, name: str) -> None:
        """Takes a field away from the records of an object, with its index where it has one."""
        with self.writing() as unit:
            operations = Operations(MigrationContext.configure(unit.connection))
            operations.drop_index(f"sobject_{kind.name}_{name}", if_exists=True)
            operations.drop_column(f"sobject_{kind.name}", name)
        self._tables.pop(kind.name, None)

    def new_ids(self, prefix: str, count: int) -> list[str]:
        """So many ids nobody had before."""
        with self.writing() as unit:
            last = unit.connection.execute(select(counters.c.last).where(counters.c.name == prefix)).scalar() or 0
            made = sqlite_insert(counters).values(name=prefix, last=last + count)
            unit.connection.execute(made.on_conflict_do_update(index_elements=["name"], set_={"last": last + count}))
        return [make_id(prefix, number) for number in range(last + 1, last + count + 1)]

    def note_changes(self, unit: Unit, rows: Sequence[Mapping[str, Any]]) -> None:
        """Keeps changes of captured objects (columns of `changes` without `replay`), to be told at the commit."""
        kept = [each for each in rows if each["entity"] in self.captured]
        if not kept:
            return
        # One writer at a time, so the numbers of a batch follow each other.
        first = (unit.connection.execute(select(changes.c.replay).order_by(changes.c.replay.desc()).limit(1))).scalar()
        start = max(first or 0, self.get("replay", "last") or 0) + 1
        numbered = [{"replay": start + place, **each} for place, each in enumerate(kept)]
        unit.connection.execute(insert(changes), numbered)
        unit.told.extend(_change(each) for each in numbered)

    def changes_after(self, replay: int, entities: Iterable[str], limit: int = 1000) -> list[Change]:
        """Kept changes of these objects with a higher number, oldest first."""
        query = select(changes).where(changes.c.replay > replay, changes.c.entity.in_(list(entities)))
        with self.reading() as connection:
            rows = connection.execute(query.order_by(changes.c.replay).limit(limit)).mappings()
            return [_change(each) for each in rows]

    def replay_bounds(self) -> tuple[int, int]:
        """The lowest and the highest number kept; (0, 0) where none is."""
        with self.reading() as connection:
            found = connection.execute(select(changes.c.replay).order_by(changes.c.replay)).scalars().all()
        return (found[0], found[-1]) if found else (0, 0)

    def told_bounds(self) -> tuple[int, int]:
        """The number up to which changes were let go, and the highest that there ever was."""
        gone, last = self.get("replay", "gone") or 0, self.get("replay", "last") or 0
        with self.reading() as connection:
            newest = connection.execute(select(func.max(changes.c.replay))).scalar() or 0
        return gone, max(last, newest)

    def forget_changes(self, through: int) -> None:
        """Lets go of changes up to that number, as retention does."""
        with self.writing() as unit:
            gone, last = self.told_bounds()
            self.put("replay", "last", last)
            self.put("replay", "gone", max(gone, min(through, last)))
            unit.connection.execute(delete(changes).where(changes.c.replay <= through))

    def forget_before(self, moment: float) -> None:
        """Lets go of changes that were committed before a moment, in seconds since 1970."""
        with self.reading() as connection:
            last = connection.execute(select(func.max(changes.c.replay)).where(changes.c.moment < moment)).scalar()
        if last:
            self.forget_changes(last)

    def get(self, kind: str, name: str) -> Any:
        """A document of the twin's own state; None where there is none."""
        chosen = select(documents.c.document).where(documents.c.kind == kind, documents.c.name == name)
        with self.reading() as connection:
            return connection.execute(chosen).scalar()

    def all(self, kind: str) -> dict[str, Any]:
        """All documents of a kind, by name."""
        with self.reading() as connection:
            chosen = select(documents.c.name, documents.c.document).where(documents.c.kind == kind)
            return {row.name: row.document for row in connection.execute(chosen)}

    def put(self, kind: str, name: str, document: Any) -> None:
        """Keeps a document in the place of the one of that name."""
        made = sqlite_insert(documents).values(kind=kind, name=name, document=document)
        with self.writing() as unit:
            unit.connection.execute(
                made.on_conflict_do_update(index_elements=["kind", "name"], set_={"document": document})
            )

    def drop(self, kind: str, name: str) -> None:
        """Lets go of a document."""
        with self.writing() as unit:
            unit.connection.execute(delete(documents).where(documents.c.kind == kind, documents.c.name == name))

    def add_rows(self, unit: Unit, kind: ObjectType, rows: Sequence[Mapping[str, Any]]) -> None:
        """New records, all with the same columns."""
        unit.connection.execute(insert(self.table(kind)), list(rows))

    def change_rows(self, unit: Unit, kind: ObjectType, rows: Sequence[Mapping[str, Any]]) -> None:
        """Writes over records by Id, all with the same columns."""
        table = self.table(kind)
        names = [name for name in rows[0] if name != "Id"]
        made = update(table).where(table.c.Id == bindparam("b_Id"))
        made = made.values({name: bindparam(f"b_{name}") for name in names})
        unit.connection.execute(made, [{f"b_{name}": value for name, value in each.items()} for each in rows])

    def rows(self, kind: ObjectType, ids: Sequence[str], *, by: str = "Id") -> dict[str, dict[str, Any]]:
        """Stored records by Id, deleted ones too; `by` names another column to look up in."""
        table = self.table(kind)
        found: dict[str, dict[str, Any]] = {}
        with self.reading() as connection:
            for start in range(0, len(ids), 500):
                chosen = select(table).where(table.c[by].in_(ids[start : start + 500]))
                for row in connection.execute(chosen).mappings():
                    found[row["Id"]] = dict(row)
        return found

    def close(self) -> None:
        """Gives back every connection."""
        self._engine.dispose()

    def _make_table(self, kind: ObjectType) -> Table:
        name = f"sobject_{kind.name}"
        if name in self._records.tables:
            self._records.remove(self._records.tables[name])
        made = Table(name, self._records, *(column_of(each) for each in kind if each.stored))
        Index(f"{name}_stamp", made.c.SystemModstamp, made.c.Id)
        for each in kind:
            if each.external or each.unique or each.name == "AccountId":
                Index(f"{name}_{each.name}", made.c[each.name])
        with self.writing() as unit:
            made.create(unit.connection, checkfirst=True)
        return made


def _change(row: Mapping[Any, Any]) -> Change:
    moment = datetime.fromtimestamp(row["moment"], UTC)
    return Change(
        row["replay"],
        row["entity"],
        row["record"],
        row["kind"],
        row["user"],
        moment,
        row["transaction"],
        row["origin"],
        row["values"],
    )


def _prepare(dbapi_connection: Any, _: object) -> None:
    # Transactions are begun by `_begin`, not where sqlite3 guesses that one is due.
    dbapi_connection.isolation_level = None
    dbapi_connection.create_function("folded", 1, _folded, deterministic=True)
    cursor = dbapi_connection.cursor()
    # A twin outlives its own process, not a power cut.
    for pragma in ("journal_mode=WAL", "synchronous=OFF", "cache_size=-32000", "temp_store=MEMORY"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN")


def _folded(text: Any) -> Any:
    return text.casefold() if isinstance(text, str) else text
