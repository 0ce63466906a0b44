"""What the tests of every group do: open a connection, ask for a role, read to the end, write one batch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from reprlib import repr as shorten
from typing import Any, NoReturn

import polars as pl
import pytest

from hub.sdk import (
    Connector,
    Context,
    Cursor,
    Destination,
    Entity,
    Field,
    FieldType,
    Filter,
    Mode,
    Page,
    Results,
    Selection,
    Source,
)
from hub.sdk.testing.harness import Fault, Harness, Record
from hub.sdk.testing.records import Change, canonical, changes, identity, key_of, structural
from hub.sdk.types import DELETED, INVALID, KEY, RESULT_SCHEMA, VERSION


class JournalInMemory:
    """A journal that outlives one connection, as the hub's outlives a crash."""

    def __init__(self) -> None:
        self.handles: list[str] = []

    def note(self, handle: str) -> None:
        self.handles.append(handle)

    def last(self) -> str | None:
        return self.handles[-1] if self.handles else None


def lacks(what: str) -> NoReturn:
    """Skips, because a declared type lacks what the test is about: never because a stand-in is weak."""
    pytest.skip(what)


def throws(harness: Harness, fault: Fault) -> None:
    """A fault that a stand-in cannot throw is a gap, not a skip."""
    assert fault in harness.faults, f"{harness.stand_in} cannot throw {fault.value!r}: declare a gap with the reason"


class Raised:
    """The error that a block raised, once it has."""

    def __init__(self) -> None:
        self.error: BaseException | None = None


@contextmanager
def raising(kind: type[BaseException]) -> Iterator[Raised]:
    """As `pytest.raises`, but a block that raises nothing fails by assertion, so that a gap can cover it."""
    raised = Raised()
    try:
        yield raised
    except kind as error:
        raised.error = error
    else:
        raise AssertionError(f"no {kind.__name__} was raised")


@contextmanager
def opened(harness: Harness, fault: Fault | None = None, *, context: Context | None = None) -> Iterator[Connector]:
    """A connection, closed at the end."""
    connector = harness.open(fault, context=context)
    try:
        yield connector
    finally:
        connector.close()


@contextmanager
def reading(harness: Harness, fault: Fault | None = None, *, context: Context | None = None) -> Iterator[Source]:
    """The source role of a new connection."""
    needs_source(harness)
    with opened(harness, fault, context=context) as connector:
        source = connector.source()
        assert source is not None, "spec.roles names source, and this connection has none"
        yield source


@contextmanager
def writing(harness: Harness, fault: Fault | None = None, *, context: Context | None = None) -> Iterator[Destination]:
    """The destination role of a new connection."""
    needs_destination(harness)
    with opened(harness, fault, context=context) as connector:
        destination = connector.destination()
        assert destination is not None, "spec.roles names destination, and this connection has none"
        yield destination


def needs_source(harness: Harness) -> None:
    """Skips a connector that is never a source."""
    if "source" not in harness.spec.roles:
        lacks("the connector's type has no source role")


def needs_destination(harness: Harness, mode: Mode | None = None) -> None:
    """Skips a connector that is never a destination, or an entity that does not take the mode."""
    if "destination" not in harness.spec.roles:
        lacks("the connector's type has no destination role")
    if mode is not None and mode not in harness.entity.modes:
        lacks(f"the entity's type does not take {mode.value}")


def selection(harness: Harness, *, where: Filter | None = None, by: bool = False, rows: int = 4) -> Selection:
    """All fields of the entity under test; `by` asks for its first incremental field."""
    entity = harness.entity
    names = tuple(each.name for each in entity.fields)
    return Selection(entity.name, names, where, entity.changed_by[0] if by else None, None, rows)


def pages(source: Source, wanted: Selection, after: Cursor | None = None) -> list[Page]:
    """A read to its end. It must end: a source that loops is caught after a thousand pages."""
    made: list[Page] = []
    for page in source.read(wanted, after=after):
        made.append(page)
        assert len(made) < 1_000, "the read does not end"
    return made


def rows(read: Iterable[Page]) -> list[dict[str, Any]]:
    """The records of some pages, reserved columns included."""
    return [row for page in read for row in page.frame.rows(named=True)]


def keys(entity: Entity, found: Iterable[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """The keys of rows that were read, as hashables."""
    return [identity(entity, row[KEY]) for row in found]


def seeded_keys(entity: Entity, seeded: Iterable[Record]) -> list[tuple[str, ...]]:
    """The keys of records that were seeded, as hashables."""
    return [identity(entity, each) for each in seeded]


def everything_once(entity: Entity, seeded: Sequence[Record], found: Sequence[Mapping[str, Any]]) -> None:
    """Fails when a record is lost, or comes twice, or was never there, or when nothing was read at all."""
    assert found, "the read saw no record"
    got, wanted = keys(entity, found), seeded_keys(entity, seeded)
    assert len(got) == len(set(got)), f"{len(got) - len(set(got))} records came more than once"
    assert set(got) == set(wanted), f"{len(set(wanted) - set(got))} lost, {len(set(got) - set(wanted))} never seeded"


def values_equal(entity: Entity, seeded: Sequence[Record], found: Sequence[Mapping[str, Any]]) -> None:
    """Fails when a field of a record that was read is not the value seeded, or when one came marked invalid."""
    wanted = dict(zip(seeded_keys(entity, seeded), seeded, strict=True))
    for row in found:
        assert row[INVALID] is None, f"a record came as invalid: {row[INVALID]}"
        assert row[DELETED] is not True, "a record that stands came as deleted"
        expected = wanted[identity(entity, row[KEY])]
        for each in entity.fields:
            if each.name in row:
                equal(each, row[each.name], expected[each.name])


def equal(field: Field, got: Any, wanted: Any) -> None:
    """Fails when two values of a field are not the same value, to the last digit."""
    one, other = canonical(field, got), canonical(field, wanted)
    assert one == other, f"{field.name} ({field.type.value}) came as {shorten(one)}, not {shorten(other)}"
    assert type(one) is type(other), f"{field.name} came as {type(one).__name__}, not {type(other).__name__}"


def write(
    harness: Harness,
    made: Sequence[Change],
    *,
    fields: Sequence[str] | None = None,
    mode: Mode = Mode.UPDATE,
    journal: JournalInMemory | None = None,
    fault: Fault | None = None,
) -> list[dict[str, Any]]:
    """Writes one batch on a connection of its own, closed when the answer is there: one result row per change."""
    names = list(fields or sorted({name for each in made for name in (*each.values, *each.clear)}))
    batch = changes(harness.entity, names, made, mode)
    with writing(harness, fault) as destination:
        results = destination.write(batch, journal=journal or JournalInMemory())
    return answered(results, len(made))


def answered(results: Results, count: int) -> list[dict[str, Any]]:
    """The results as rows, their number, types and states as the contract has them."""
    assert len(results) == count, f"{len(results)} results for {count} changes"
    assert dict(results.frame.schema) == dict(RESULT_SCHEMA), f"results are typed {dict(results.frame.schema)}"
    states = set(results.frame["state"].to_list())
    assert states <= {"applied", "unchanged", "conflict", "rejected", "unknown"}, f"unknown states {states}"
    return results.frame.rows(named=True)


def stored(harness: Harness, key: Record) -> Record:
    """What the far side holds, by the second path; the record must be there."""
    found = harness.stored(harness.entity.name, key)
    assert found is not None, "the record is not at the far side"
    return found


def holds(harness: Harness, key: Record, values: Record) -> None:
    """Fails unless the far side holds these values under this key."""
    found = stored(harness, key)
    for name, wanted in values.items():
        equal(harness.entity.by_name[name], found[name], wanted)


def versions(harness: Harness) -> dict[tuple[str, ...], str | None]:
    """The version of each record as a reader is told it; empty for a connector that cannot read."""
    if "source" not in harness.spec.roles:
        return {}
    with reading(harness) as source:
        found = rows(pages(source, selection(harness)))
    return {identity(harness.entity, row[KEY]): row[VERSION] for row in found}


def targets(harness: Harness) -> list[Field]:
    """The writable fields of the entity, which must be at least one where it takes any mode."""
    found = [each for each in harness.entity.fields if each.writable and each.name not in structural(harness.entity)]
    assert found, "the harness names an entity without a writable field"
    return found


def readable(harness: Harness, kind: FieldType) -> Field:
    """The first field of a type that is neither key nor stamp nor a closed list; skips where there is none."""
    entity = harness.entity
    free = [each for each in entity.fields if each.name not in structural(entity)]
    found = [each for each in free if each.type is kind and not each.values]
    if not found:
        lacks(f"the entity's type has no {kind.value} field")
    return found[0]


def seed(harness: Harness, made: Sequence[Record]) -> Sequence[Record]:
    """Puts the records there and returns them."""
    harness.seed(harness.entity.name, made)
    return made


def frame_of(entity: Entity, fields: Sequence[str], made: Sequence[Record]) -> pl.DataFrame:
    """Distinct rows of some fields, as `lookup` is given them."""
    return pl.DataFrame(
        {name: pl.Series(name, [each[name] for each in made], entity.by_name[name].dtype) for name in fields}
    ).unique(maintain_order=True)


def key_change(harness: Harness, record: Record, **values: Any) -> Change:
    """A change of this record without any condition."""
    return Change(key_of(harness.entity, record), values)
