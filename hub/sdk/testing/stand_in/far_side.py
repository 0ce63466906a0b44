"""The far system of the stand-in: records in memory, logins with tokens, rights, jobs, and faults per address."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from threading import Condition
from weakref import WeakValueDictionary

from hub.sdk import Entity, Field, FieldType, Mode, Value
from hub.sdk.testing.harness import Fault

ENTITY = Entity(
    name="Patient",
    key=("clinic", "number"),
    changed_by=("changed_at",),
    modes=frozenset(Mode),
    conditional=True,
    fields=(
        Field("clinic", FieldType.TEXT, nullable=False, length=12),
        Field("number", FieldType.INTEGER, nullable=False),
        Field("changed_at", FieldType.INSTANT),
        Field("name", FieldType.TEXT, writable=True),
        Field("age", FieldType.INTEGER, writable=True),
        Field("owed", FieldType.DECIMAL, writable=True, precision=38, scale=9),
        Field("risk", FieldType.REAL, writable=True),
        Field("smoker", FieldType.BOOLEAN, writable=True),
        Field("born", FieldType.DATE, writable=True),
        Field("wakes", FieldType.TIME, writable=True),
        Field("seen", FieldType.TIMESTAMP, writable=True),
        Field("admitted", FieldType.INSTANT, writable=True),
        Field("scan", FieldType.BYTES, writable=True),
        Field("uid", FieldType.UUID, writable=True),
        Field("extra", FieldType.JSON, writable=True),
        Field("band", FieldType.TEXT, nullable=False, writable=True, length=8, values=("Hot", "Warm", "Cold")),
        Field("note", FieldType.TEXT, length=60),
    ),
)
HIDDEN = "note"
FAR_SIDES: WeakValueDictionary[str, FarSide] = WeakValueDictionary()


class LoginRefusedError(Exception):
    """The token is not one of ours."""


class TokenExpiredError(Exception):
    """The token was one of ours."""


class LinkLostError(Exception):
    """Nothing comes back: nobody listens, or the link was cut."""


class BusyError(Exception):
    """Come back later."""

    def __init__(self, delay: float) -> None:
        super().__init__("busy")
        self.delay = delay


class GarbledError(Exception):
    """What came back is no answer."""


@dataclass
class Row:
    """One record as the far side keeps it."""

    values: dict[str, Value]
    version: int = 1
    touched: int = 0
    deleted: bool = False


@dataclass(frozen=True)
class ChangeEvent:
    """Word that a record moved, and whether our own login did it."""

    key: tuple[Value, ...]
    ours: bool


@dataclass
class FarSide:
    """A whole system in memory, reachable by name while somebody holds it."""

    name: str
    token: str
    entity: Entity = ENTITY
    rows: dict[tuple[Value, ...], Row] = field(default_factory=dict)
    jobs: dict[str, dict[int, dict[str, str | None]]] = field(default_factory=dict)
    delay: float = 7.0
    events: list[ChangeEvent] = field(default_factory=list)
    forgotten: int = 0
    """How many of the events, from the first on, are no longer told."""
    news: Condition = field(default_factory=Condition)
    __hash__ = object.__hash__

    def connect(self, fault: str, token: str) -> Session:
        """A session, or why there is none."""
        if fault == Fault.DOWN:
            raise LinkLostError
        if fault == Fault.LOGIN or token != self.token:
            raise LoginRefusedError
        return Session(self, fault)

    def put(self, key: tuple[Value, ...], values: Mapping[str, Value], *, ours: bool = False) -> Row:
        """Writes some fields of a record, making it where it is missing."""
        row = self.rows.setdefault(key, Row({each.name: None for each in self.entity.fields}))
        row.values.update(values)
        row.version += 1
        row.touched += 1
        self.tell(key, ours=ours)
        return row

    def remove(self, key: tuple[Value, ...]) -> None:
        """Deletes a record, which leaves a trace."""
        row = self.rows[key]
        row.values["changed_at"] = datetime(2030, 1, 1, tzinfo=UTC)
        row.deleted = True
        row.version += 1
        self.tell(key)

    def tell(self, key: tuple[Value, ...], *, ours: bool = False) -> None:
        """An event for whoever follows."""
        with self.news:
            self.events.append(ChangeEvent(key, ours))
            self.news.notify_all()

    def forget(self) -> None:
        """What was told so far is kept no longer."""
        with self.news:
            self.forgotten = len(self.events)


class Session:
    """One login, with a real socket so that giving it back can be seen."""

    def __init__(self, far: FarSide, fault: str) -> None:
        self.far = far
        self.fault = fault
        self._ends = socket.socketpair()
        self._calls = 0
        self._reads = 0
        self._changes = 0

    @property
    def silent(self) -> bool:
        """Whether a call would never come back."""
        return self.fault == Fault.HANG

    def call(self) -> None:
        """What every call passes before it is answered."""
        self._calls += 1
        if self.fault == Fault.BUSY:
            raise BusyError(self.far.delay)
        if self.fault == Fault.GARBLED:
            raise GarbledError
        if self.fault == Fault.EXPIRE and self._calls > 3:
            raise TokenExpiredError

    def entity(self) -> Entity:
        """What this login may see."""
        self.call()
        if self.fault != Fault.RIGHT:
            return self.far.entity
        return replace(self.far.entity, fields=tuple(each for each in self.far.entity.fields if each.name != HIDDEN))

    def rights(self) -> frozenset[str]:
        """What this login may do."""
        self.call()
        held = {"records.read", "records.write", "notes.view"}
        return frozenset(held - {"notes.view"} if self.fault == Fault.RIGHT else held)

    def rows(self) -> list[Row]:
        """Copies of all records, so that a page is what stood when it was made."""
        self.call()
        self._reads += 1
        if self.fault == Fault.CUT_READ and self._reads > 2:
            raise LinkLostError
        return [replace(row, values=dict(row.values)) for row in self.far.rows.values()]

    def row(self, key: tuple[Value, ...]) -> Row | None:
        """One record as it stands."""
        found = self.far.rows.get(key)
        return None if found is None or found.deleted else found

    def change(self, key: tuple[Value, ...], values: Mapping[str, Value]) -> Row:
        """Takes one change; the link may be cut after that and before the answer."""
        row = self.far.put(key, values, ours=True)
        self._changes += 1
        if self.fault == Fault.CUT_WRITE and self._changes > 2:
            raise LinkLostError
        return row

    def end(self) -> tuple[int, int]:
        """The oldest place that events are told from, and the place after the newest."""
        self.call()
        return self.far.forgotten, len(self.far.events)

    def events(self, at: int, seconds: float) -> list[ChangeEvent]:
        """What was told from a place on, waited for so long."""
        self.call()
        with self.far.news:
            self.far.news.wait_for(lambda: len(self.far.events) > at, seconds)
            return self.far.events[at:]

    def close(self) -> None:
        """Gives both ends back."""
        for each in self._ends:
            each.close()
