"""The filter tree of a selection as a condition with bound values."""

from __future__ import annotations

from uuid import UUID

import sqlalchemy as sa

from connectors.sql.client import Client, Expression
from connectors.sql.tables import Relation
from hub.sdk import AllOf, AnyOf, Compare, FieldType, Filter, Operator, UnexpectedError, Value


def condition(client: Client, relation: Relation, tree: Filter) -> Expression:
    """The tree as SQL; its answer holds at least every record that the hub's own reading of it would select."""
    if isinstance(tree, AllOf):
        return sa.and_(sa.true(), *(condition(client, relation, part) for part in tree.parts))
    if isinstance(tree, AnyOf):
        return sa.or_(sa.false(), *(condition(client, relation, part) for part in tree.parts))
    return _compare(client, relation, tree)


def _compare(client: Client, relation: Relation, tree: Compare) -> Expression:
    meta, plain = relation.meta(tree.field), relation.column(tree.field)
    if tree.operator not in meta.field.operators:
        raise UnexpectedError(f"{relation.entity.name}.{tree.field} cannot be filtered by {tree.operator.value!r} here")
    if tree.operator is Operator.IS_NULL:
        return plain.is_(None)
    if tree.operator is Operator.NOT_NULL:
        return plain.is_not(None)
    left = client.compared(plain, meta)
    if meta.field.type is FieldType.UUID:
        tree = _uuids(tree)
    if tree.operator in (Operator.IN, Operator.NOT_IN):
        assert isinstance(tree.value, tuple)
        if any(each is None for each in tree.value) and tree.operator is Operator.NOT_IN:
            return sa.false()
        if not tree.value:
            return sa.false() if tree.operator is Operator.IN else sa.true()
        values = [client.bound(each, meta) for each in tree.value if each is not None]
        return left.in_(values) if tree.operator is Operator.IN else left.not_in(values)
    assert not isinstance(tree.value, tuple)
    right = client.bound(tree.value, meta)
    if tree.operator is Operator.EQ:
        return left == right
    if tree.operator is Operator.NE:
        return left != right
    if tree.operator in (Operator.LT, Operator.LE):
        return left < right if tree.operator is Operator.LT else left <= right
    return left > right if tree.operator is Operator.GT else left >= right


def _uuids(tree: Compare) -> Compare:
    """The comparison as IN, without the texts that are no UUID: no record can equal those."""
    listed = tree.value if isinstance(tree.value, tuple) else (tree.value,)
    return Compare(tree.field, Operator.IN, tuple(each for each in listed if _is_uuid(each)))


def _is_uuid(value: Value) -> bool:
    try:
        return isinstance(value, str) and UUID(value) is not None
    except ValueError:
        return False
