"""The formula fields that the twin computes; they are worked out when they are read, so they move without a stamp.

`TODAY() - DATEVALUE(CreatedDate)` is an age in days, `Account.Industry` a value of the parent, and
`SUM(Opportunity.AccountId.Amount)` a roll-up over the records whose reference leads here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date
from typing import Any, Literal

from sqlalchemy import ColumnElement, Integer, cast, func, literal, select
from sqlalchemy.sql.selectable import NamedFromClause

from connectors.salesforce.twin.org.problems import RefusedError
from connectors.salesforce.twin.org.schema import NAME_PARTS, Field, ObjectType, Schema
from connectors.salesforce.twin.org.store import Store

_AGE = re.compile(r"TODAY\(\)\s*-\s*DATEVALUE\((\w+)\)")
_PARENT = re.compile(r"(\w+)\.(\w+)")
_ROLL_UP = re.compile(r"(COUNT|SUM|MIN|MAX)\((\w+)\.(\w+)\.(\w+)\)")


@dataclass(frozen=True, slots=True)
class Formula:
    """What is computed, and over which names."""

    kind: Literal["age", "parent", "roll-up"]
    path: tuple[str, ...]
    function: str = ""


def read_formula(text: str) -> Formula:
    """The formula of one of the three shapes. RefusedError for any other."""
    if found := _AGE.fullmatch(text.strip()):
        return Formula("age", (found[1],))
    if found := _PARENT.fullmatch(text.strip()):
        return Formula("parent", (found[1], found[2]))
    if found := _ROLL_UP.fullmatch(text.strip()):
        return Formula("roll-up", (found[2], found[3], found[4]), found[1])
    raise RefusedError("FIELD_INTEGRITY_EXCEPTION", f"the twin does not compute the formula {text}")


def computed(
    one: Field, table: NamedFromClause, kind: ObjectType, schema: Schema, store: Store, today: date
) -> ColumnElement[Any]:
    """The value of a field: its column, or what it is put together or worked out from."""
    if one.person_name:
        first, last = (table.c[each] for each in NAME_PARTS)
        return func.trim(func.coalesce(first.op("||")(" "), "").op("||")(last))
    if one.formula is not None:
        return _worked_out(read_formula(one.formula), one, table, kind, schema, store, today)
    return literal(None) if one.type == "address" else table.c[one.name]


def _worked_out(
    made: Formula, one: Field, table: NamedFromClause, kind: ObjectType, schema: Schema, store: Store, today: date
) -> ColumnElement[Any]:
    if made.kind == "age":
        told = func.julianday(today.isoformat()) - func.julianday(func.substr(table.c[made.path[0]], 1, 10))
        return cast(told, Integer) if one.type == "int" else told
    if made.kind == "parent":
        reference = kind.relation(made.path[0])
        parent = schema.get(reference.references[0]) if reference else None
        if reference is None or parent is None:
            return literal(None)
        other = store.table(parent).alias()
        return select(other.c[made.path[1]]).where(other.c.Id == table.c[reference.name]).scalar_subquery()
    other = store.table(schema.objects[made.path[0].lower()]).alias()
    functions: dict[str, Any] = {"COUNT": func.count, "SUM": func.sum, "MIN": func.min, "MAX": func.max}
    chosen = select(functions[made.function](other.c[made.path[2]])).where(other.c.IsDeleted == 0)
    return chosen.where(other.c[made.path[1]] == table.c.Id).scalar_subquery()
