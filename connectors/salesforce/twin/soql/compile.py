"""A tree to a query over the org's tables: names checked against what the user can see, values bound."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from sqlalchemy import ColumnElement, FromClause, Select, and_, case, func, or_, select
from sqlalchemy.sql.selectable import NamedFromClause

from connectors.salesforce.twin.org.access import Rights
from connectors.salesforce.twin.org.documents import NUMBERS
from connectors.salesforce.twin.org.problems import RefusedError
from connectors.salesforce.twin.org.schema import Field, ObjectType, Schema
from connectors.salesforce.twin.org.store import Store
from connectors.salesforce.twin.soql.filters import compared
from connectors.salesforce.twin.soql.formulas import computed
from connectors.salesforce.twin.soql.lexer import pointed
from connectors.salesforce.twin.soql.shape import Compound, Leaf, Node, address_part
from connectors.salesforce.twin.soql.tree import (
    Aggregate,
    Children,
    Comparison,
    Condition,
    Not,
    Path,
    Query,
)
from connectors.salesforce.twin.soql.words import unknown_field, unknown_object, unknown_relationship

MOST_PARENTS = 5
_POLYMORPHIC = frozenset(
    {"Id", "Name", "FirstName", "LastName", "Email", "Alias", "Title", "Phone", "Username", "IsActive"}
)
"""What the records of several objects have in common, reached by a reference to any of them."""


@dataclass(slots=True)
class Place:
    """Where a path has arrived: the object, or several, and the table or tables of its records."""

    kinds: tuple[ObjectType, ...]
    tables: tuple[NamedFromClause, ...]

    @property
    def kind(self) -> ObjectType:
        """The object; of several, the last."""
        return self.kinds[-1]

    @property
    def several(self) -> bool:
        """Whether it is a reference to one of several objects."""
        return len(self.kinds) > 1

    def id(self) -> ColumnElement[Any]:
        """The id of the record it has arrived at."""
        return _either([each.c.Id for each in self.tables])

    def type(self) -> ColumnElement[Any]:
        """The name of that record's object."""
        pairs = zip(self.tables, self.kinds, strict=True)
        return case(
            *((table.c.Id.is_not(None), "Queue" if kind.name == "Group" else kind.name) for table, kind in pairs)
        )


@dataclass(slots=True)
class Found:
    """A field by its path: where it is, and how to compute it."""

    place: Place
    field: Field
    value: ColumnElement[Any]


@dataclass(slots=True)
class Compiled:
    """A query ready to run: its statement without limit, and the shape of its rows."""

    query: Query
    kind: ObjectType
    statement: Select[Any]
    node: Node
    table: NamedFromClause
    names: list[str] = field(default_factory=list)
    """The names of an aggregate's values, in order."""
    children: list[Query] = field(default_factory=list)


class Compiler:
    """Compiles one query for one user."""

    def __init__(self, schema: Schema, store: Store, rights: Rights, today: date, *, tooling: bool = False) -> None:
        self._schema = schema
        self._store = store
        self._rights = rights
        self._today = today
        self._tooling = tooling
        self._text = ""
        self._joins: dict[tuple[str, ...], Place] = {}
        self._from: FromClause | None = None
        self._columns: list[ColumnElement[Any]] = []

    def compile(self, query: Query, *, deleted: bool = False) -> Compiled:
        """The query over records that are there, and deleted ones where asked. RefusedError as Salesforce refuses."""
        self._text = query.text
        kind = self._entity(query)
        root = self._start(kind, query)
        node = Node("", kind.name, self._add(root.tables[0].c.Id))
        made = Compiled(query, kind, select(), node, root.tables[0])
        if query.aggregated:
            made.names = self._aggregate(query)
        else:
            self._select(query, node, made.children)
        statement = select(*(each.label(f"c{place}") for place, each in enumerate(self._columns)))
        where = self._condition(query.where) if query.where else None
        groups = [self._groupable(each).value for each in query.group]
        if query.aggregated:
            self._check_order(query)
        order = [part for each in query.order for part in self._ordered(each)]
        assert self._from is not None
        statement = statement.select_from(self._from)
        if not deleted:
            statement = statement.where(root.tables[0].c.IsDeleted == 0)
        if where is not None:
            statement = statement.where(where)
        made.statement = statement.group_by(*groups).order_by(*order)
        return made

    def one_column(self, query: Query) -> Select[Any]:
        """A query within a query: its only field."""
        made = self.compile(query)
        chosen = [each for each in query.selected if isinstance(each, Path)]
        if len(chosen) != 1 or len(query.selected) != 1:
            raise RefusedError("MALFORMED_QUERY", "semi join sub-selects can only query one field")
        return made.statement.with_only_columns(self._columns[-1])

    def _start(self, kind: ObjectType, query: Query) -> Place:
        table = self._store.table(kind).alias()
        root = Place((kind,), (table,))
        self._from = table
        self._joins = {(): root}
        self._names = {kind.name.lower(), (query.alias or kind.name).lower()}
        self._columns = []
        return root

    def _entity(self, query: Query) -> ObjectType:
        kind = self._schema.get(query.entity)
        if kind is None or kind.tooling != self._tooling or not self._rights.sees(kind):
            words = unknown_object(query.entity)
            raise RefusedError("INVALID_TYPE", pointed(query.text, query.column, words))
        return kind

    def _add(self, column: ColumnElement[Any]) -> int:
        self._columns.append(column)
        return len(self._columns) - 1

    def _select(self, query: Query, node: Node, children: list[Query]) -> None:
        if query.fields_all:
            for each in self._all_fields(query.fields_all):
                self._put(node, Path((each.name,)))
        seen: set[str] = set()
        for one in query.selected:
            if isinstance(one, Children):
                children.append(one.query)
            elif isinstance(one, Path):
                if one.text.lower() in seen:
                    raise RefusedError("INVALID_FIELD", f"duplicate field selected: {one.text}")
                seen.add(one.text.lower())
                self._put(node, one)

    def _all_fields(self, which: str) -> list[Field]:
        kind = self._joins[()].kind
        seen = [each for each in kind if self._rights.to(kind, each)]
        if which == "ALL":
            return seen
        return [each for each in seen if bool(each.document.get("custom")) == (which == "CUSTOM")]

    def _put(self, node: Node, path: Path) -> None:
        found = self._find(path)
        parts = self._bare(path)
        so_far: tuple[str, ...] = ()
        for name in parts[:-1]:
            so_far = (*so_far, name.lower())
            node = self._parent(node, name, self._joins[so_far])
        if found.field.type == "address":
            node.parts.append(self._compound(found))
        else:
            node.parts.append(Leaf(found.field.name, self._add(found.value), found.field.type))

    def _parent(self, node: Node, name: str, place: Place) -> Node:
        known = next((e for e in node.parts if isinstance(e, Node) and e.name.lower() == name.lower()), None)
        if known is None:
            shown = self._relations[name.lower()]
            known = Node(shown, None if place.several else place.kind.name, self._add(place.id()))
            if place.several:
                known.place_of_type = self._add(place.type())
            node.parts.append(known)
        return known

    def _compound(self, found: Found) -> Compound:
        of = found.place.kind.parts_of(found.field.name)
        table = found.place.tables[-1]
        return Compound(
            found.field.name, {address_part(found.field.name, each): self._add(table.c[each.name]) for each in of}
        )

    def _aggregate(self, query: Query) -> list[str]:
        self._columns.clear()
        names: list[str] = []
        for one in query.selected:
            if isinstance(one, Aggregate):
                names.append(one.alias or f"expr{sum(each.startswith('expr') for each in names)}")
                if names[-1] in names[:-1]:
                    words = f"duplicate alias: {names[-1]}"
                    raise RefusedError("MALFORMED_QUERY", pointed(self._text, one.column, words))
                self._add(self._function(one))
            elif isinstance(one, Path):
                if one.text.lower() not in {each.text.lower() for each in query.group}:
                    words = f"Field must be grouped or aggregated: {one.text}"
                    raise RefusedError("MALFORMED_QUERY", pointed(self._text, one.column, words))
                names.append(one.parts[-1])
                self._add(self._find(one).value)
        return names

    def _function(self, one: Aggregate) -> ColumnElement[Any]:
        if one.path is None:
            return func.count()
        found = self._find(one.path)
        if one.function == "COUNT":
            return func.count(found.value)
        if one.function == "COUNT_DISTINCT":
            return func.count(found.value.distinct())
        adds = one.function in {"SUM", "AVG"}
        if not found.field.document.get("aggregatable", True) or (adds and found.field.type not in NUMBERS):
            words = f"field {found.field.name} does not support aggregate operator {one.function}"
            raise RefusedError("MALFORMED_QUERY", pointed(self._text, one.column, words))
        functions: dict[str, Any] = {"MIN": func.min, "MAX": func.max, "SUM": func.sum, "AVG": func.avg}
        made: ColumnElement[Any] = functions[one.function](found.value)
        return made

    def _bare(self, path: Path) -> tuple[str, ...]:
        """The path without the object's own name or alias in front."""
        return path.parts[1:] if len(path.parts) > 1 and path.parts[0].lower() in self._names else path.parts

    def _find(self, path: Path) -> Found:
        parts = self._bare(path)
        place = self._joins[()]
        if len(parts) > MOST_PARENTS + 1:
            raise RefusedError("INVALID_FIELD", "relationship paths can have at most 5 levels")
        so_far: tuple[str, ...] = ()
        for name in parts[:-1]:
            so_far = (*so_far, name.lower())
            place = self._joins.get(so_far) or self._join(place, name, so_far, path)
        return self._field(place, parts[-1], path)

    @property
    def _relations(self) -> dict[str, str]:
        """Relationship names as they are written in describe."""
        return {
            each.relationship.lower(): each.relationship for kind in self._schema for each in kind if each.relationship
        }

    def _join(self, place: Place, name: str, so_far: tuple[str, ...], path: Path) -> Place:
        reference = place.kind.relation(name)
        kinds = [self._schema.get(each) for each in reference.references] if reference else []
        seen = [each for each in kinds if each is not None and self._rights.sees(each)]
        if reference is None or not seen or not self._rights.to(place.kind, reference):
            words = unknown_relationship(name, "field path")
            raise RefusedError("INVALID_FIELD", pointed(self._text, path.column, words))
        tables = []
        for kind in seen:
            table = self._store.table(kind).alias()
            assert self._from is not None
            self._from = self._from.outerjoin(table, place.tables[-1].c[reference.name] == table.c.Id)
            tables.append(table)
        made = self._joins[so_far] = Place(tuple(seen), tuple(tables))
        return made

    def _field(self, place: Place, name: str, path: Path) -> Found:
        if place.several and name.lower() == "type":
            shown = Field.of({"name": "Type", "type": "picklist"})
            return Found(place, shown, place.type())
        values: list[ColumnElement[Any]] = []
        one = None
        for kind, table in zip(place.kinds, place.tables, strict=True):
            found = self._rights.field(kind, name)
            if found and (not place.several or found.name in _POLYMORPHIC):
                one = found
                values.append(computed(found, table, kind, self._schema, self._store, self._today))
        if one is None:
            entity = "Name" if place.several else place.kind.name
            words = unknown_field(name, entity)
            raise RefusedError("INVALID_FIELD", pointed(self._text, path.column, words))
        return Found(place, one, _either(values))

    def _groupable(self, path: Path) -> Found:
        found = self._find(path)
        if not found.field.document.get("groupable", True):
            words = f"field '{path.text}' can not be grouped in a query call"
            raise RefusedError("MALFORMED_QUERY", pointed(self._text, path.column, words))
        return found

    def _check_order(self, query: Query) -> None:
        grouped = {each.text.lower() for each in query.group}
        for each in query.order:
            if query.counting or each.path.text.lower() not in grouped:
                words = f"Ordered field must be grouped or aggregated: {each.path.text}"
                raise RefusedError("MALFORMED_QUERY", pointed(self._text, each.path.column, words))

    def _ordered(self, one: Any) -> list[ColumnElement[Any]]:
        found = self._find(one.path)
        if not found.field.document.get("sortable", True):
            words = f"field '{one.path.text}' can not be sorted in a query call"
            raise RefusedError("MALFORMED_QUERY", pointed(self._text, one.path.column, words))
        value = found.value.desc() if one.descending else found.value.asc()
        # Nulls come first in either direction, unless the text says otherwise.
        return [value.nulls_last() if one.nulls_last else value.nulls_first()]

    def _condition(self, condition: Condition, *, opposite: bool = False) -> ColumnElement[bool]:
        if isinstance(condition, Not):
            return self._condition(condition.part, opposite=not opposite)
        if isinstance(condition, Comparison):
            made = self._comparison(condition)
            # Two-valued: what a null makes of a comparison is false, so its opposite is true.
            return func.coalesce(made, 0) == 0 if opposite else made
        parts = [self._condition(each, opposite=opposite) for each in condition.parts]
        return and_(*parts) if (condition.word == "AND") is not opposite else or_(*parts)

    def _comparison(self, one: Comparison) -> ColumnElement[bool]:
        found = self._find(one.path)
        if not found.field.document.get("filterable", True) or found.field.type == "address":
            words = f"field '{one.path.text}' can not be filtered in a query call"
            raise RefusedError("INVALID_FIELD", pointed(self._text, one.path.column, words))
        if isinstance(one.value, Query):
            inner = Compiler(self._schema, self._store, self._rights, self._today).one_column(one.value)
            return found.value.in_(inner) if one.operator == "IN" else func.coalesce(found.value.in_(inner), 0) == 0
        return compared(self._text, one, found.field, found.value, self._today)


def _either(values: Sequence[ColumnElement[Any]]) -> ColumnElement[Any]:
    return values[0] if len(values) == 1 else func.coalesce(*values)
