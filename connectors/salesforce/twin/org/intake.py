"""Rows as callers send them, made ready: names resolved, values read, what must not be written refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from connectors.salesforce.twin.org.access import EDIT, Rights
from connectors.salesforce.twin.org.ids import whole_id
from connectors.salesforce.twin.org.problems import Problem, RefusedError, no_such_column
from connectors.salesforce.twin.org.schema import Field, ObjectType, Schema
from connectors.salesforce.twin.org.values import NULL, Reader, WrongTypeError, reader, wrong_json, wrong_value

READ_ONLY = (
    "Unable to create/update fields: {}. Please check the security settings of this field and verify that it is"
    " read/write for your profile or permission set."
)


@dataclass(slots=True)
class Column:
    """One name that callers write, and what becomes of its values."""

    key: str
    field: Field
    read: Reader
    creatable: bool
    updatable: bool
    parent: ObjectType | None = None
    parent_key: Field | None = None
    """Where the value is an external id of the parent, not its id."""


@dataclass(slots=True)
class Row:
    """One record on its way: values by field name, and why it is refused, where it is."""

    values: dict[str, Any]
    id: str | None = None
    key: Any = None
    """The value of the external id that an upsert matches by."""
    creates: bool = True
    before: dict[str, Any] | None = None
    problems: list[Problem] = field(default_factory=list)
    by_key: list[tuple[Column, Field, Any]] = field(default_factory=list)
    """Parents that are named by an external id, still to be looked up."""


class Intake:
    """Reads rows for one object on behalf of one user. Rows with the same names are planned once."""

    def __init__(self, schema: Schema, rights: Rights, kind: ObjectType) -> None:
        self._schema = schema
        self._rights = rights
        self._kind = kind
        self._plans: dict[tuple[str, ...], list[Column]] = {}

    def from_json(self, given: Mapping[str, Any]) -> Row:
        """One record of a JSON body. RefusedError where it cannot be read at all."""
        names = tuple(name for name in given if name != "attributes")
        row = Row({})
        for column in self._plan(names):
            value = given[column.key]
            try:
                if column.parent is not None:
                    row.by_key.append((column, *_only(value, column.parent)))
                else:
                    self._take(row, column, value)
            except WrongTypeError:
                raise RefusedError("JSON_PARSER_ERROR", wrong_json(column.field, value)) from None
        return row

    def planned(self, names: Sequence[str]) -> list[Column]:
        """The columns of a CSV file. RefusedError where a name is no field."""
        return self._plan(tuple(names))

    def from_csv(self, columns: Sequence[Column], cells: Sequence[str]) -> Row:
        """One line of a CSV file: an empty cell leaves the field alone, #N/A is null."""
        row = Row({})
        if len(cells) != len(columns):
            row.problems.append(Problem("INVALID_NUMBER_OF_COLUMNS", "the line has another number of columns"))
            return row
        for column, cell in zip(columns, cells, strict=True):
            if cell == "":
                continue
            value = None if cell == NULL else cell
            try:
                self._take(row, column, value)
            except WrongTypeError:
                row.problems.append(wrong_value(column.field, value))
        return row

    def forbid(self, row: Row, columns: Sequence[Column], *, key: str | None = None) -> None:
        """Refuses the row where a value it has may not be written by what it is about to do."""
        wrong = [
            each.field.name
            for each in columns
            if each.field.name in row.values
            and each.field.name != key
            and not (each.creatable if row.creates else each.updatable)
        ]
        if wrong:
            message = READ_ONLY.format(", ".join(wrong))
            row.problems.append(Problem("INVALID_FIELD_FOR_INSERT_UPDATE", message, tuple(wrong)))

    def columns_of(self, given: Mapping[str, Any]) -> list[Column]:
        """The columns that a JSON record was read by."""
        return self._plan(tuple(name for name in given if name != "attributes"))

    def _take(self, row: Row, column: Column, value: Any) -> None:
        if column.field.type == "id":
            row.id = whole_id(value)
            if row.id is None and value not in (None, ""):
                row.problems.append(Problem("MALFORMED_ID", f"malformed id {value}", ("Id",)))
            return
        if column.parent is not None and column.parent_key is not None:
            row.by_key.append((column, column.parent_key, value))
            return
        made = column.read(value)
        if isinstance(made, Problem):
            row.problems.append(made)
        else:
            row.values[column.field.name] = made

    def _plan(self, names: tuple[str, ...]) -> list[Column]:
        made = self._plans.get(names)
        if made is None:
            made = self._plans[names] = [self._column(name) for name in names]
        return made

    def _column(self, name: str) -> Column:
        found = self._rights.field(self._kind, name)
        if found is None:
            return self._by_relation(name)
        may = self._rights.to(self._kind, found) == EDIT
        # What is put together or computed takes no value, whatever the rights are.
        return Column(name, found, reader(found), may and found.createable, may and found.updateable)

    def _by_relation(self, name: str) -> Column:
        relation, _, rest = name.partition(".")
        reference = self._kind.relation(relation)
        parent = self._schema.get(reference.references[0]) if reference and reference.references else None
        if reference is None or parent is None or not self._rights.to(self._kind, reference):
            raise no_such_column(name, self._kind.name)
        key = parent.field(rest) if rest else None
        if rest and (key is None or not (key.external or key.document.get("idLookup"))):
            raise no_such_column(name, self._kind.name)
        may = self._rights.to(self._kind, reference) == EDIT
        writes = (may and reference.createable, may and reference.updateable)
        return Column(name, reference, reader(reference), *writes, parent, key)


def _only(value: Any, parent: ObjectType) -> tuple[Field, Any]:
    """The key and the value in `{"Account": {"Key__c": "x"}}`."""
    named = [name for name in value if name != "attributes"] if isinstance(value, Mapping) else []
    key = parent.field(named[0]) if len(named) == 1 else None
    if key is None or not (key.external or key.document.get("idLookup")):
        raise WrongTypeError
    return key, value[named[0]]
