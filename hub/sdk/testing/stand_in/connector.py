"""A correct connector to a far side in memory: an example for authors, and what the mutants are copies of."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from threading import Event
from typing import Any, ClassVar, Self, TypeVar
from uuid import uuid4

import polars as pl

from hub.sdk import (
    AllOf,
    Changes,
    CheckReport,
    Compare,
    Config,
    Context,
    Cursor,
    Entity,
    Field,
    Filter,
    Grant,
    Journal,
    Limits,
    Mode,
    Operator,
    Page,
    Results,
    Right,
    RightsReport,
    RightStatus,
    Secret,
    Selection,
    Spec,
    UnauthorizedError,
    UnavailableError,
    UnexpectedError,
    Value,
    setting,
)
from hub.sdk.testing.stand_in.far_side import (
    FAR_SIDES,
    BusyError,
    ChangeEvent,
    GarbledError,
    LinkLostError,
    LoginRefusedError,
    Row,
    Session,
    TokenExpiredError,
)
from hub.sdk.types import BEFORE, CLEAR, DELETED, INVALID, KEY, RESULT_SCHEMA, VERSION, value_from_json, value_to_json

T = TypeVar("T")
BEAT = 0.2
"""Seconds after which a stream without news says so."""
Result = dict[str, str | None]


class StandInConfig(Config):
    """Where the far side is and how to log in."""

    address: str = setting(title="Name of the far side, with a fault after #")
    token: Secret = setting(title="Token of the login")


SPEC = Spec(
    name="stand_in",
    title="Stand-in",
    kind="database",
    config=StandInConfig,
    factory="hub.sdk.testing.stand_in.connector:StandIn",
    roles=frozenset({"source", "destination", "live", "provisioner"}),
    rights=(
        Right("records.read", "to read the records of a mapping"),
        Right("records.write", "to write scores back"),
        Right("notes.view", "to read notes", mandatory=False),
    ),
    limits=Limits(page_rows=1000, write_rows=4, lookup_keys=5),
)


class StandIn:
    """Connector, source, destination, live source and provisioner in one; a real one splits them where they grow."""

    spec: ClassVar[Spec] = SPEC

    def __init__(self, config: StandInConfig, context: Context) -> None:
        self.config = config
        self.context = context
        self._session: Session | None = None

    # The connection

    def check(self, names: Collection[str] | None = None) -> CheckReport:
        """Logs in and asks what we may do."""
        held = self._ask(lambda session: session.rights())
        rights = tuple(RightStatus(each.name, each.name in held) for each in self.spec.rights)
        self.context.log.info("checked", missing=[each.right for each in rights if not each.granted])
        return CheckReport("clinic-hub", "Stand-in 1.0", rights)

    def entities(self, names: Collection[str] | None = None) -> Sequence[Entity]:
        """The one entity, as this login sees it."""
        found = self._ask(lambda session: session.entity())
        return [found] if names is None or found.name in names else []

    def plan(self, grant: Grant, *, login: str | None = None) -> str:
        """One line for each entity; a login has its rights by its token."""
        lines = [f"GRANT read ON {name} ({', '.join(sorted(fields))})" for name, fields in sorted(grant.reads.items())]
        lines += [f"GRANT write ON {name} ({', '.join(sorted(each))})" for name, each in sorted(grant.writes.items())]
        return "\n".join(lines) or "nothing to grant"

    def verify(self, grant: Grant) -> RightsReport:
        """The rights over all records and those over notes, held against what the grant names."""
        held = self._ask(lambda session: session.rights())
        needed = {"records.read"} if grant.reads else set()
        needed |= {"records.write"} if grant.writes else set()
        needed |= {"notes.view"} if any("note" in fields for fields in grant.reads.values()) else set()
        return RightsReport("clinic-hub", tuple(sorted(needed - held)), tuple(sorted(held - needed)))

    def source(self) -> Self:
        return self

    def destination(self) -> Self:
        return self

    def live(self) -> Self:
        return self

    def provisioner(self) -> Self:
        return self

    def close(self) -> None:
        """Gives the session back."""
        if self._session is not None:
            self._session.close()
            self._session = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # Source

    def read(self, selection: Selection, *, after: Cursor | None = None) -> Iterator[Page]:
        """Keyset pages: each is asked for when it is wanted, from where the last one ended."""
        at = self._from_cursor(after)
        size = min(selection.page_rows, self.spec.limits.page_rows)
        while True:
            page = self._after(selection, at, tell_deleted=after is not None and selection.changed_by is not None)
            if not page:
                return
            at = self._place(selection, page[min(size, len(page)) - 1])
            yield self._page(selection, page[:size], at)

    def lookup(self, selection: Selection, match: pl.DataFrame) -> Iterator[Page]:
        """As many keys at a time as the far side takes."""
        for some in match.iter_slices(self.spec.limits.lookup_keys):
            wanted = set(some.rows())
            found = [row for row in self._after(selection, None) if self._matched(row, some.columns, wanted)]
            for start in range(0, len(found), selection.page_rows):
                page = found[start : start + selection.page_rows]
                yield self._page(selection, page, self._place(selection, page[-1]))

    def split(self, selection: Selection, parts: int) -> Sequence[Selection]:
        """Half-open ranges of the key; the first and the last are open to whatever comes later."""
        found = sorted(self._key(row) for row in self._after(selection, None))
        step = max(1, -(-len(found) // parts))
        bounds = [self._to_json(each) for each in found[step::step]][: parts - 1]
        edges = [None, *bounds, None]
        return [self._slice(selection, low, high) for low, high in pairwise(edges)]

    def head(self, selection: Selection) -> Cursor | None:
        """Before everything that bears the latest stamp, since more may still come to bear it."""
        found = self._after(selection, None)
        return Cursor({"at": self._to_json(self._place(selection, found[-1])[:2])}) if found else None

    def _slice(self, selection: Selection, low: Any, high: Any) -> Selection:
        names = (selection.entity, selection.fields, selection.where, selection.changed_by)
        return Selection(*names, {"from": low, "to": high}, selection.page_rows)

    def _after(self, selection: Selection, at: tuple[Any, ...] | None, *, tell_deleted: bool = False) -> list[Row]:
        """The records of a selection beyond a place, in order."""
        entity = self.entities()[0]
        if selection.entity != entity.name:
            raise UnexpectedError("The entity no longer exists at the far side.", detail="entity")
        if not set(selection.fields) <= set(entity.by_name):
            raise UnexpectedError("A field no longer exists at the far side.", detail="field")
        found = [row for row in self._ask(lambda session: session.rows()) if tell_deleted or not row.deleted]
        found = [row for row in found if self._in_part(row, selection.part) and self._wanted(selection, row)]
        found.sort(key=lambda row: self._place(selection, row))
        return [row for row in found if at is None or self._beyond(self._place(selection, row), at)]

    def _wanted(self, selection: Selection, row: Row) -> bool:
        return row.deleted or selection.where is None or holds(selection.where, row.values) is True

    def _beyond(self, place: tuple[Any, ...], at: tuple[Any, ...]) -> bool:
        return place > at

    def _matched(self, row: Row, names: Sequence[str], wanted: set[tuple[Any, ...]]) -> bool:
        return tuple(row.values[name] for name in names) in wanted

    def _key(self, row: Row) -> tuple[Any, ...]:
        return tuple(row.values[name] for name in ("clinic", "number"))

    def _place(self, selection: Selection, row: Row) -> tuple[Any, ...]:
        """Where a record stands in the order: by stamp, those without one first, then by key."""
        if selection.changed_by is None:
            return self._key(row)
        stamp = row.values[selection.changed_by]
        return (stamp is not None, 0 if stamp is None else stamp, *self._key(row))

    def _in_part(self, row: Row, part: Mapping[str, Any] | None) -> bool:
        low, high = self._part(part)
        return (low is None or self._key(row) >= low) and (high is None or self._key(row) < high)

    def _part(self, part: Mapping[str, Any] | None) -> tuple[tuple[Any, ...] | None, tuple[Any, ...] | None]:
        ends = [None if part is None or part[name] is None else part[name] for name in ("from", "to")]
        low, high = (None if each is None else tuple(value_from_json(one) for one in each) for each in ends)
        return low, high

    def _page(self, selection: Selection, found: Sequence[Row], at: tuple[Any, ...]) -> Page:
        entity = self.entities()[0]
        columns: dict[str, list[Any]] = {
            name: [None if row.deleted else self._value(row, name) for row in found] for name in selection.fields
        }
        columns[KEY] = [dict(zip(entity.key, self._key(row), strict=True)) for row in found]
        columns[VERSION] = [str(row.version) for row in found]
        columns[DELETED] = [row.deleted for row in found]
        columns[INVALID] = [None] * len(found)
        schema = self._schema(entity, selection)
        frame = pl.DataFrame({name: pl.Series(name, columns[name], kind) for name, kind in schema.items()})
        return Page(frame, Cursor({"at": self._to_json(at)}))

    def _schema(self, entity: Entity, selection: Selection) -> dict[str, pl.DataType]:
        return entity.page_schema(selection.fields)

    def _value(self, row: Row, name: str) -> Value:
        return row.values[name]

    def _to_json(self, place: tuple[Any, ...]) -> list[Any]:
        return [value_to_json(each) for each in place]

    def _from_cursor(self, after: Cursor | None) -> tuple[Any, ...] | None:
        if after is None:
            return None
        state: Any = after.state["at"]
        return tuple(value_from_json(each) for each in state)

    # Live

    def follow(self, selection: Selection, *, after: Cursor | None) -> Iterator[Page]:
        """Events name records; the page carries them as they stand now."""
        at, gap = self._begin(after)
        yield self._news(selection, [], at, gap=gap)
        while not self.context.cancelled():
            told = self._events(at)[: selection.page_rows]
            at += len(told)
            yield self._news(selection, [each for each in told if self._worth_telling(each)], at)

    def acknowledge(self, cursor: Cursor) -> None:
        """Nothing: the cursor is all there is."""

    def _begin(self, after: Cursor | None) -> tuple[int, bool]:
        """Where the events begin, and whether some before that are not to be had."""
        oldest, end = self._ask(lambda session: session.end())
        at = None if after is None else after.state.get("event")
        return (at, False) if isinstance(at, int) and oldest <= at <= end else (end, True)

    def _events(self, at: int) -> list[ChangeEvent]:
        return self._ask(lambda session: session.events(at, BEAT))

    def _worth_telling(self, event: ChangeEvent) -> bool:
        return not event.ours

    def _news(self, selection: Selection, told: Sequence[ChangeEvent], at: int, *, gap: bool = False) -> Page:
        keys = {each.key for each in told}
        stand = self._after(selection, None, tell_deleted=True) if keys else []
        found = [row for row in stand if self._key(row) in keys]
        return replace(self._page(selection, found, ()), cursor=Cursor({"event": at}), gap=gap)

    # Destination

    def write(self, changes: Changes, *, journal: Journal) -> Results:
        """One job for the whole call, sent in pieces; what an earlier try did is asked for, not done again."""
        handle = journal.last() or uuid4().hex
        journal.note(handle)
        rows = changes.frame.rows(named=True)
        done = self._ask(lambda session: session.far.jobs.setdefault(handle, {}))
        todo = [number for number in range(len(rows)) if number not in done]
        for start in range(0, len(todo), self.spec.limits.write_rows):
            try:
                self._send(changes, rows, todo[start : start + self.spec.limits.write_rows], done)
            except UnavailableError:
                break
        unknown: Result = {"state": "unknown", "reason": "The connection was lost before the answer came."}
        return self._results([done.get(number, unknown) for number in range(len(rows))])

    def _send(self, changes: Changes, rows: Sequence[Any], numbers: Sequence[int], done: dict[int, Result]) -> None:
        self._ask(lambda session: session.call())
        for number in numbers:
            change = rows[number]
            done[number] = self._ask(lambda session, change=change: self._apply(session, changes, change))  # type: ignore[misc]

    def _results(self, told: Sequence[Result]) -> Results:
        columns = {name: [each.get(name) for each in told] for name in RESULT_SCHEMA}
        return Results(pl.DataFrame(columns, schema=dict(RESULT_SCHEMA)))

    def _apply(self, session: Session, changes: Changes, change: Mapping[str, Any]) -> Result:
        """One change, decided and done at the far side."""
        entity, values = session.entity(), self._values(changes, change)
        key = tuple(change[KEY][name] for name in entity.key)
        row = session.row(key)
        if row is None and changes.mode is Mode.UPDATE:
            return self._missing(session, key, values)
        if row is not None:
            if self._held(entity, row, values):
                return {"state": "applied", "version": str(row.version)}
            if changes.mode is Mode.CREATE:
                return {"state": "rejected", "reason": "A record with this key stands already."}
            if self._moved(entity, row, change):
                return {"state": "conflict"}
        fault = self._refused(entity, values)
        if fault is not None:
            return self._rejected(fault)
        made = {**values, **change[KEY]} if row is None else values
        return {"state": "applied", "version": str(session.change(key, made).version)}

    def _missing(self, session: Session, key: tuple[Value, ...], values: Mapping[str, Value]) -> Result:
        return {"state": "rejected", "reason": "There is no record with this key."}

    def _rejected(self, name: str) -> Result:
        return {"state": "rejected", "field": name, "reason": "The value is not one that the field takes."}

    def _values(self, changes: Changes, change: Mapping[str, Any]) -> dict[str, Value]:
        """What a change asks for: null means leave alone, unless the field is to be cleared."""
        given = {name: change[name] for name in changes.fields if change[name] is not None}
        return {**given, **dict.fromkeys(change[CLEAR] or ())}

    def _held(self, entity: Entity, row: Row, values: Mapping[str, Value]) -> bool:
        return all(_same(row.values[name], value) for name, value in values.items())

    def _moved(self, entity: Entity, row: Row, change: Mapping[str, Any]) -> bool:
        return self._version_moved(row, change) or self._before_moved(row, change)

    def _version_moved(self, row: Row, change: Mapping[str, Any]) -> bool:
        return change[VERSION] is not None and change[VERSION] != str(row.version)

    def _before_moved(self, row: Row, change: Mapping[str, Any]) -> bool:
        before = change[BEFORE]
        return before is not None and any(not _same(row.values[name], value) for name, value in before.items())

    def _refused(self, entity: Entity, values: Mapping[str, Value]) -> str | None:
        """The first field whose value the far side does not take."""
        for name, value in values.items():
            field = entity.by_name[name]
            if (value is None and not field.nullable) or (field.values and value not in field.values):
                return name
        return None

    # Provisioner

    def provision(self, entity: str, fields: Sequence[Field]) -> None:
        """Adds the fields that are missing."""

        def add(session: Session) -> None:
            told = session.far.entity
            new = tuple(each for each in fields if each.name not in told.by_name)
            session.far.entity = Entity(
                told.name, (*told.fields, *new), told.key, told.title, told.changed_by, told.modes, told.conditional
            )
            for row in session.far.rows.values():
                row.values.update({each.name: None for each in new})

        self._ask(add)

    def granted(self, entity: str, fields: Sequence[Field]) -> str:
        """Nothing: its login may write whatever there is."""
        return ""

    # The wire

    def _ask(self, act: Callable[[Session], T]) -> T:
        """One call, with the far side's failures told as the four errors; an expired token is renewed once."""
        try:
            try:
                return act(self._open())
            except TokenExpiredError:
                self.close()
                return act(self._open())
        except LoginRefusedError:
            raise UnauthorizedError("The far side refuses this login.", missing=("login",)) from None
        except LinkLostError:
            self.close()
            raise UnavailableError("The far side does not answer.") from None
        except BusyError as error:
            raise UnavailableError("The far side is busy.", retry_after=error.delay) from None
        except GarbledError:
            raise UnexpectedError("The far side gave an answer that is not one.") from None

    def _open(self) -> Session:
        if self._session is None:
            name, _, fault = self.config.address.partition("#")
            self._session = FAR_SIDES[name].connect(fault, self.config.token.reveal())
        if self._session.silent:
            Event().wait(self.context.seconds_left(30.0))
            raise LinkLostError
        return self._session


def holds(where: Filter, values: Mapping[str, Any]) -> bool | None:
    """SQL's three-valued answer of a filter about one record."""
    if isinstance(where, Compare):
        return _compare(where, values[where.field])
    answers = [holds(each, values) for each in where.parts]
    decisive = not isinstance(where, AllOf)
    if decisive in answers:
        return decisive
    return None if None in answers else not decisive


def _compare(where: Compare, value: Any) -> bool | None:
    if where.operator in (Operator.IS_NULL, Operator.NOT_NULL):
        return (value is None) == (where.operator is Operator.IS_NULL)
    wanted: Any = where.value
    if value is None or wanted is None:
        return None
    answers: dict[Operator, Callable[[], bool | None]] = {
        Operator.EQ: lambda: value == wanted,
        Operator.NE: lambda: value != wanted,
        Operator.LT: lambda: value < wanted,
        Operator.LE: lambda: value <= wanted,
        Operator.GT: lambda: value > wanted,
        Operator.GE: lambda: value >= wanted,
        Operator.IN: lambda: value in wanted or (None if None in wanted else False),
        Operator.NOT_IN: lambda: False if value in wanted else (None if None in wanted else True),
    }
    return answers[where.operator]()


def _same(left: Any, right: Any) -> bool:
    return bool(left == right or (left != left and right != right))
