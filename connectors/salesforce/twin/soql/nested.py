"""Queries within a query's fields: `(SELECT Id FROM Contacts)`, answered record by record."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from connectors.salesforce.twin.org.problems import RefusedError
from connectors.salesforce.twin.org.schema import Field, ObjectType
from connectors.salesforce.twin.soql.compile import Compiled, Compiler
from connectors.salesforce.twin.soql.lexer import pointed
from connectors.salesforce.twin.soql.shape import Nested, as_record
from connectors.salesforce.twin.soql.tree import Query
from connectors.salesforce.twin.soql.words import unknown_relationship

if TYPE_CHECKING:
    from connectors.salesforce.twin.org.org import Org


def nest(org: Org, user: str, compiled: Compiled, version: str) -> None:
    """Adds the children that the query asks for to the shape of its records."""
    for inner in compiled.children:
        child, reference, shown = _relationship(org, compiled.kind, inner)
        compiled.node.parts.append(Nested(shown, _answer(org, user, inner, child, reference, version)))


def _relationship(org: Org, parent: ObjectType, inner: Query) -> tuple[ObjectType, Field, str]:
    wanted = inner.entity.lower()
    for child, field in org.schema.children(parent.name):
        told = parent.document.get("childRelationships") or ()
        names = [
            each["relationshipName"]
            for each in told
            if each["childSObject"] == child.name and each["field"] == field.name
        ]
        for name in names or [child.document["labelPlural"]]:
            if name and name.lower() == wanted:
                return child, field, name
    words = unknown_relationship(inner.entity, "FROM part of query call")
    raise RefusedError("INVALID_TYPE", pointed(inner.text, inner.column, words))


def _answer(
    org: Org, user: str, inner: Query, child: ObjectType, reference: Field, version: str
) -> Callable[[str], dict[str, Any] | None]:
    from dataclasses import replace

    compiler = Compiler(org.schema, org.store, org.access.of(user), org.clock.now().date())
    made = compiler.compile(replace(inner, entity=child.name))

    def answer(record: str) -> dict[str, Any] | None:
        statement = made.statement.where(made.table.c[reference.name] == record)
        if inner.limit is not None:
            statement = statement.limit(inner.limit)
        with org.store.reading() as connection:
            rows = connection.execute(statement).all()
        records = [as_record(made.node, row, version) for row in rows]
        # No child is null, not an empty list.
        return {"totalSize": len(records), "done": True, "records": records} if records else None

    return answer
