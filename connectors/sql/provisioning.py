"""Making the score fields: columns of the table, or a side table with the same key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import sqlalchemy as sa
from sqlalchemy.schema import CreateTable
from sqlalchemy.sql import quoted_name

from connectors.sql.client import Client
from connectors.sql.config import SqlConfig
from connectors.sql.tables import Native, Relation
from hub.sdk import Field, FieldType, RejectedError, UnexpectedError


class _Relations(Protocol):
    def __call__(self, *, fresh: bool = ...) -> Mapping[str, Relation]: ...


class SqlProvisioner:
    """The provisioner role over one client."""

    def __init__(self, client: Client, relations: _Relations, config: SqlConfig) -> None:
        self._client = client
        self._relations = relations
        self._config = config

    def provision(self, entity: str, fields: Sequence[Field]) -> None:
        """Creates the missing columns. RejectedError where one stands with another type."""
        relation = self._relations(fresh=True).get(entity)
        if relation is None or not relation.entity.key:
            raise UnexpectedError(f"{entity} is no table with a key that this login may see")
        for field in fields:
            _check(relation, field)
        missing = [each for each in fields if each.name not in relation.entity.by_name]
        if relation.side_name is not None and relation.side is None:
            self._client.execute(self._side_table(relation, missing))
        else:
            for field in missing:
                self._client.execute(self._column(relation, field))
        self._relations(fresh=True)

    def granted(self, entity: str, fields: Sequence[Field]) -> str:  # noqa: ARG002
        """Nothing: whoever makes a column may write it."""
        return ""

    def _column(self, relation: Relation, field: Field) -> sa.TextClause:
        if relation.target.view:
            raise UnexpectedError(f"{relation.entity.name} is a view; name a side table in `side_tables`")
        table = self._client.grant_name(relation.target.schema, relation.target.name)
        return _ddl(
            f"ALTER TABLE {table} ADD COLUMN {self._client.quoted(field.name)} {self._client.native_for(field)}"
        )

    def _side_table(self, relation: Relation, fields: Sequence[Field]) -> CreateTable:
        schema, _, name = (relation.side_name or "").rpartition(".")
        home = schema or self._client.default_schema
        metas = [relation.table.by_name[each] for each in relation.entity.key]
        table = sa.Table(
            quoted_name(name, True),
            sa.MetaData(),
            *(
                sa.Column(
                    quoted_name(each.name, True),
                    Native(each.native),
                    nullable=False,
                    primary_key=True,
                    autoincrement=False,
                )
                for each in metas
            ),
            *(sa.Column(quoted_name(each.name, True), Native(self._client.native_for(each))) for each in fields),
            schema=quoted_name(home, True) if home else None,
        )
        return CreateTable(table)


def _ddl(sql: str) -> sa.TextClause:
    # A colon in a quoted name would be taken for a bound value.
    return sa.text(sql.replace(":", "\\:"))


def _check(relation: Relation, field: Field) -> None:
    standing = relation.entity.by_name.get(field.name)
    if standing is None:
        return
    wider = standing.type is FieldType.TEXT and (standing.length is None or standing.length >= (field.length or 10**9))
    if standing.type is not field.type or (field.type is FieldType.TEXT and field.length and not wider):
        raise RejectedError(
            f"{relation.entity.name}.{field.name} stands with type {standing.type.value}"
            f"{f'({standing.length})' if standing.length else ''}; {field.type.value}"
            f"{f'({field.length})' if field.length else ''} is needed: rename the field or alter the column",
            field=field.name,
        )
