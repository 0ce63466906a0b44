"""SOQL text from a typed selection: names that are names, values quoted, nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, time
from decimal import Decimal
from urllib.parse import quote_plus

from simple_salesforce.format import quote_soql_value

from hub.sdk import AllOf, AnyOf, Compare, Entity, Filter, Operator, UnexpectedError, Value

MOST_CHARACTERS = 14_000
"""Of a query once it is percent-encoded: address and headers together may hold 16,384 bytes."""

_NAME = re.compile(r"[A-Za-z]\w*(?:\.[A-Za-z]\w*)*", re.ASCII)
_SIGNS = {
    Operator.EQ: "=",
    Operator.NE: "!=",
    Operator.LT: "<",
    Operator.LE: "<=",
    Operator.GT: ">",
    Operator.GE: ">=",
    Operator.IN: "IN",
    Operator.NOT_IN: "NOT IN",
}


def select(
    entity: Entity,
    fields: Iterable[str],
    conditions: Sequence[str] = (),
    *,
    order: Sequence[str] = (),
    limit: int | None = None,
    backwards: bool = False,
) -> str:
    """One query of what describe told. UnexpectedError names a field that the entity does not have."""
    parts = [query(entity.name, (name_of(entity, each) for each in fields), conditions)]
    if order:
        ending = " DESC" if backwards else ""
        parts.append("ORDER BY " + ", ".join(name_of(entity, each) + ending for each in order))
    if limit is not None:
        parts.append(f"LIMIT {limit:d}")
    return " ".join(parts)


def query(entity: str, fields: Iterable[str], conditions: Sequence[str] = ()) -> str:
    """One query of what nobody described, such as the org's own setup. UnexpectedError for a name that is none."""
    text = f"SELECT {', '.join(named(each) for each in dict.fromkeys(fields))} FROM {named(entity)}"  # noqa: S608
    return " WHERE ".join((text, " AND ".join(f"({each})" for each in conditions))) if conditions else text


def one_of(field: str, values: Iterable[Value]) -> str:
    """The condition that a field is one of these values."""
    return f"{named(field)} IN ({', '.join(literal(each) for each in values)})"


def equal(field: str, value: Value) -> str:
    """The condition that a field is this value."""
    return f"{named(field)} = {literal(value)}"


def named(name: str) -> str:
    """A name of an object or field as it may stand in a query; UnexpectedError where it is none."""
    if not _NAME.fullmatch(name):
        raise UnexpectedError("a query was asked for a name that no object or field of Salesforce can have")
    return name


def room(text: str) -> int:
    """Characters that a query leaves in its address; below zero where it does not fit."""
    return MOST_CHARACTERS - size(text)


def size(text: str) -> int:
    """Characters of some text in an address, as simple-salesforce encodes it."""
    return len(quote_plus(text))


def name_of(entity: Entity, name: str) -> str:
    """The field's name as it may stand in a query: only one that describe told can."""
    if name not in entity.by_name:
        raise UnexpectedError(f"{entity.name} has no field {name} that this login may see")
    return name


def condition(entity: Entity, tree: Filter) -> str:
    """A filter tree; the three-valued logic differs for NULL, in favour of more records."""
    if isinstance(tree, Compare):
        return _comparison(entity, tree)
    joined = " AND " if isinstance(tree, AllOf) else " OR "
    if not tree.parts:
        # An empty conjunction holds for every record, an empty disjunction for none; Id is never null.
        return "Id != null" if isinstance(tree, AllOf) else "Id = null"
    assert isinstance(tree, AllOf | AnyOf)
    return joined.join(f"({condition(entity, each)})" for each in tree.parts)


def _comparison(entity: Entity, tree: Compare) -> str:
    name = name_of(entity, tree.field)
    if tree.operator not in entity.by_name[name].operators:
        raise UnexpectedError(f"{entity.name}.{name} cannot be compared by {tree.operator.value} in a query")
    if tree.operator is Operator.IS_NULL:
        return f"{name} = null"
    if tree.operator is Operator.NOT_NULL:
        return f"{name} != null"
    sign = _SIGNS[tree.operator]
    if isinstance(tree.value, tuple):
        if not tree.value:
            return "Id = null" if tree.operator is Operator.IN else "Id != null"
        return f"{name} {sign} ({', '.join(literal(each) for each in tree.value)})"
    return f"{name} {sign} {literal(tree.value)}"


def literal(value: Value) -> str:
    """A value as SOQL writes it."""
    if isinstance(value, datetime):
        aware = value if value.tzinfo is not None else value.replace(tzinfo=UTC)
        return aware.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{aware.microsecond // 1000:03d}Z"
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, time):
        return value.strftime("%H:%M:%S.") + f"{value.microsecond // 1000:03d}Z"
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, str | bool | int) or value is None:
        return str(quote_soql_value(value))
    if isinstance(value, float):
        return format(Decimal(repr(value)), "f")
    raise UnexpectedError("a query cannot hold a value of this type")
