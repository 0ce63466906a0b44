"""Where values come from: the entity read, and the lookups beside it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from hub.connections import ConnectionsError
from hub.mappings.check.findings import Findings, Scope, listed
from hub.mappings.expressions import (
    Aggregate,
    Expression,
    ExpressionError,
    OrderKey,
    ValueType,
    compile_aggregate,
    compile_order,
)
from hub.mappings.nearest import near
from hub.mappings.types import CompiledLookup, Lookup
from hub.models import ModelVersion
from hub.sdk import Entity, FieldType

Entities = Callable[[str], Sequence[Entity]]

CONDITION = ValueType(FieldType.BOOLEAN)
_NUMBERS = frozenset({FieldType.INTEGER, FieldType.DECIMAL, FieldType.REAL})
_WORDS = frozenset({FieldType.TEXT, FieldType.UUID})


class Systems:
    """The entities of each connection, asked once; an unknown connection or entity is noted once."""

    def __init__(self, findings: Findings, entities: Entities) -> None:
        self._findings = findings
        self._entities = entities
        self._asked: dict[str, Mapping[str, Entity] | None] = {}

    def entity(self, path: tuple[str | int, ...], connection: str, name: str) -> Entity | None:
        """The entity, or None after noting under `path` (a section of the document) why there is none."""
        if connection not in self._asked:
            self._asked[connection] = self._ask(path, connection)
        found = self._asked[connection]
        if found is None:
            return None
        if name not in found:
            hint = near(name, found) or f"; it has {listed(sorted(found)) or 'none'}"
            self._findings.note((*path, "entity"), f"connection {connection} has no entity {name}{hint}")
            return None
        return found[name]

    def _ask(self, path: tuple[str | int, ...], connection: str) -> Mapping[str, Entity] | None:
        try:
            return {each.name: each for each in self._entities(connection)}
        except ConnectionsError as error:
            self._findings.note((*path, "connection"), str(error))
            return None


@dataclass
class Reading:
    """The entity read and the names its records offer."""

    source: Entity | None
    where: Expression | None
    scope: Scope


def compile_read(findings: Findings, systems: Systems) -> Reading:
    """The source with its `where` and cursor field judged."""
    read = findings.document.read
    source = systems.entity(("read",), read.connection, read.entity)
    scope = Scope(unknown=source is None)
    if source is None:
        return Reading(None, None, scope)
    scope.names = {each.name: ValueType.of(each) for each in source.fields}
    if not source.key:
        findings.note(
            ("read", "entity"),
            f"{source.name} has no key, so a score could not find its record again; declare one on the connection",
        )
    if read.changed_by is not None and read.changed_by not in source.changed_by:
        findings.note(("read", "changed_by"), _no_cursor(read.changed_by, source))
    where = None
    if read.where is not None:
        where = findings.compile(("read", "where"), read.where, scope, expect=CONDITION)
    return Reading(source, where, scope)


def check_following(
    findings: Findings, reading: Reading, version: ModelVersion | None, follows: Callable[[str], bool]
) -> None:
    """That what is to be followed can be: the connection tells of changes, and whoever follows scores by itself."""
    document, path = findings.document, ("run", "follow")
    if not document.run.follow:
        return
    connection = document.read.connection
    if reading.source is not None and not follows(connection):
        findings.note(
            path, f"connection {connection} does not tell of changes as they happen; remove follow, schedule stays"
        )
    if version is not None and version.pool != "default":
        findings.note(
            path,
            f"model {version.name} {version.number} is scored by the pool {version.pool}, and what follows scores by"
            " itself; remove follow, or use a version of the pool default",
        )


def _no_cursor(name: str, source: Entity) -> str:
    if name not in source.by_name:
        return f"{source.name} has no field {name}{near(name, source.changed_by or source.by_name)}"
    fit = listed(source.changed_by)
    return f"{name} cannot tell what changed; " + (f"use {fit}" if fit else "remove changed_by: every run reads all")


@dataclass
class LookupParts:
    """A lookup in the making: what is read for itself, before anyone uses its columns."""

    lookup: Lookup
    entity: Entity
    own: set[str]
    match: Mapping[str, Expression]
    where: Expression | None
    order: tuple[OrderKey, ...] | None
    aggregate: Mapping[str, Aggregate] | None
    columns: dict[str, ValueType] = field(default_factory=dict)

    def finish(self, used: frozenset[str]) -> CompiledLookup:
        """With the columns that some expression uses, and only the fields they need."""
        prefix = f"{self.lookup.name}."
        columns = {name: kind for name, kind in self.columns.items() if self.aggregate is not None or name in used}
        wanted = set(self.own)
        if self.aggregate is None:
            wanted |= {name.removeprefix(prefix) for name in columns}
        fields = tuple(each.name for each in self.entity.fields if each.name in wanted)
        return CompiledLookup(
            self.lookup, self.entity, fields, self.match, self.where, self.order, self.aggregate, columns
        )


def compile_lookups(findings: Findings, systems: Systems, scope: Scope) -> list[LookupParts]:
    """The lookups in their order; each adds its columns to the scope of what comes after it."""
    made: list[LookupParts] = []
    for lookup in findings.document.lookups:
        parts = _lookup(findings, systems, lookup, scope)
        if parts is None:
            scope.broken.add(lookup.name)
            continue
        scope.names.update(parts.columns)
        made.append(parts)
    return made


def _lookup(findings: Findings, systems: Systems, lookup: Lookup, ours: Scope) -> LookupParts | None:
    path = ("lookups", lookup.name)
    entity = systems.entity(path, lookup.connection, lookup.entity)
    if entity is None:
        for name, text in lookup.match.items():
            findings.compile((*path, "match", name), text, ours)
        return None
    theirs = Scope({each.name: ValueType.of(each) for each in entity.fields})
    match = _match(findings, lookup, entity, ours)
    where = None
    if lookup.where is not None:
        where = findings.compile((*path, "where"), lookup.where, theirs, expect=CONDITION)
    order = _order(findings, lookup, theirs)
    aggregate = _aggregate(findings, lookup, theirs)
    own = set(match)
    own |= where.columns if where is not None else set()
    own |= {each.column for each in order or ()}
    for each in (aggregate or {}).values():
        own |= each.columns
    parts = LookupParts(lookup, entity, own, match, where, order, aggregate)
    if lookup.aggregate is None:
        parts.columns = {f"{lookup.name}.{name}": kind for name, kind in theirs.names.items()}
    else:
        known = {name: each.type for name, each in (aggregate or {}).items()}
        parts.columns = {f"{lookup.name}.{name}": known.get(name, ValueType(None)) for name in lookup.aggregate}
    return parts


def _match(findings: Findings, lookup: Lookup, entity: Entity, ours: Scope) -> dict[str, Expression]:
    match: dict[str, Expression] = {}
    for name, text in lookup.match.items():
        path = ("lookups", lookup.name, "match", name)
        made = findings.compile(path, text, ours)
        theirs = entity.by_name.get(name)
        if theirs is None:
            findings.note(path, f"{entity.name} has no field {name}{near(name, entity.by_name)}")
        elif made is not None and not comparable(made.type.kind, theirs.type):
            findings.note(path, f"the expression gives {made.type}, but {name} holds {theirs.type}; cast one of them")
        if made is not None:
            match[name] = made
    return match


def comparable(ours: FieldType | None, theirs: FieldType) -> bool:
    """Whether values of the two can be equal: the same type, or both numbers, or text and UUID."""
    if ours is None or ours is theirs:
        return ours is not FieldType.JSON
    return {ours, theirs} <= _NUMBERS or {ours, theirs} <= _WORDS


def _order(findings: Findings, lookup: Lookup, theirs: Scope) -> tuple[OrderKey, ...] | None:
    if lookup.order is None:
        return None
    try:
        return compile_order(lookup.order, theirs.names)
    except ExpressionError as error:
        findings.refuse(("lookups", lookup.name, "order"), lookup.order, theirs, error)
        return None


def _aggregate(findings: Findings, lookup: Lookup, theirs: Scope) -> dict[str, Aggregate] | None:
    if lookup.aggregate is None:
        return None
    made: dict[str, Aggregate] = {}
    for name, text in lookup.aggregate.items():
        try:
            made[name] = compile_aggregate(text, theirs.names, timezone=findings.document.read.timezone)
        except ExpressionError as error:
            findings.refuse(("lookups", lookup.name, "aggregate", name), text, theirs, error)
    return made
