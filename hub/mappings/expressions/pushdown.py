"""What of a condition a far side can be asked: a filter that holds at least every record the condition is true for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from decimal import Decimal
from math import ceil, floor
from zoneinfo import ZoneInfo

import polars as pl

from hub.mappings.expressions.evaluation import evaluate
from hub.mappings.expressions.types import Expression, Node, Pushdown
from hub.sdk import AllOf, AnyOf, Compare, Field, FieldType, Filter, Operator, Value

_OPERATORS: Mapping[str, Operator] = {
    "eq": Operator.EQ,
    "ne": Operator.NE,
    "lt": Operator.LT,
    "le": Operator.LE,
    "gt": Operator.GT,
    "ge": Operator.GE,
}
_OPPOSITE = {"eq": "ne", "ne": "eq", "lt": "ge", "le": "gt", "gt": "le", "ge": "lt"}
_MIRRORED = {"eq": "eq", "ne": "ne", "lt": "gt", "le": "ge", "gt": "lt", "ge": "le"}
_EXACT_REAL = 2**53


@dataclass(frozen=True)
class _Asked:
    """A filter, and whether it holds no record more than the condition."""

    filter: Filter
    exact: bool


def to_filter(expression: Expression, fields: Mapping[str, Field], *, now: datetime) -> Pushdown:
    """The part of a condition that `fields` can be asked for, by the operators each declares.

    A record that the far side rules out is not looked at further, even where a part that stayed with the hub would
    have put it in error.
    """
    reader = _Reader(expression, fields, now)
    conjuncts = list(expression.tree.args) if len(expression.parts) > 1 else [expression.tree]
    asked = [reader.ask(each, wanted=True) for each in conjuncts]
    found = [each.filter for each in asked if each is not None]
    return Pushdown(
        pushed=None if not found else found[0] if len(found) == 1 else AllOf(tuple(found)),
        pushed_text=tuple(text for text, each in zip(expression.parts, asked, strict=True) if each is not None),
        kept_text=tuple(
            text for text, each in zip(expression.parts, asked, strict=True) if each is None or not each.exact
        ),
    )


@dataclass(frozen=True)
class _Reader:
    expression: Expression
    fields: Mapping[str, Field]
    now: datetime

    def ask(self, node: Node, *, wanted: bool) -> _Asked | None:
        """A filter for the records where the node is true (or false, if not `wanted`); None where there is none."""
        if node.op == "not":
            return self.ask(node.args[0], wanted=not wanted)
        if node.op in ("and", "or"):
            parts = [self.ask(each, wanted=wanted) for each in node.args]
            return _all(parts) if (node.op == "and") is wanted else _any(parts)
        if node.op in _OPERATORS:
            return self._compare(node.op if wanted else _OPPOSITE[node.op], node)
        if node.op == "is_null":
            return self._direct(node.args[0], Operator.IS_NULL if wanted else Operator.NOT_NULL, None)
        if node.op == "in":
            return self._in(node, wanted=wanted)
        if node.op in ("column", "same"):
            return self._truth(node, wanted=wanted)
        return None

    def _direct(self, node: Node, operator: Operator, value: Value | tuple[Value, ...]) -> _Asked | None:
        while node.op in ("to_real", "to_decimal", "as_text", "midnight", "wall_clock") and value is None:
            node = node.args[0]
        if node.op != "column":
            return None
        field = self.fields.get(str(node.params[0]))
        if field is None or operator not in field.operators:
            return None
        return _Asked(Compare(field.name, operator, value), exact=True)

    def _truth(self, node: Node, *, wanted: bool) -> _Asked | None:
        if node.op == "column":
            return self._direct(node, Operator.EQ, wanted)
        column, constant = node.args
        if not wanted or not constant.constant or column.type.kind is not FieldType.BOOLEAN:
            return None
        return self._direct(column, Operator.EQ, constant.params[0])

    def _in(self, node: Node, *, wanted: bool) -> _Asked | None:
        subject, *listed = node.args
        values = tuple(each.params[0] for each in listed if each.constant)
        if not values or (not wanted and len(values) < len(listed)):
            return None
        return self._direct(subject, Operator.IN if wanted else Operator.NOT_IN, values)

    def _compare(self, op: str, node: Node) -> _Asked | None:
        left, right = node.args
        if _reads(left) and not _reads(right):
            return self._against(op, left, right)
        if _reads(right) and not _reads(left):
            return self._against(_MIRRORED[op], right, left)
        return None

    def _against(self, op: str, side: Node, constant: Node) -> _Asked | None:
        value = self._value(constant)
        if value is None:
            return None
        if side.op == "column":
            return self._direct(side, _OPERATORS[op], value)
        column = side.args[0] if side.args else side
        if column.op != "column":
            return None
        if side.op in ("to_real", "to_decimal"):
            return self._number(op, column, value)
        if side.op == "midnight" and isinstance(value, datetime):
            bounds = _bounds(op, value.date(), value.date())
            return self._bounded(column, bounds)
        if side.op == "wall_clock" and isinstance(value, datetime):
            return self._bounded(column, _bounds(op, *_instants(value, self.expression.timezone)))
        return self._direct(column, _OPERATORS[op], value) if side.op == "as_text" else None

    def _number(self, op: str, column: Node, value: Value) -> _Asked | None:
        if isinstance(value, Decimal) and column.type.kind is FieldType.DECIMAL:
            return self._direct(column, _OPERATORS[op], value)
        if column.type.kind is not FieldType.INTEGER or not isinstance(value, Decimal | float):
            return None
        if not -_EXACT_REAL < value < _EXACT_REAL:
            return None
        whole = int(value)
        if whole == value:
            return self._direct(column, _OPERATORS[op], whole)
        edges: Mapping[str, Callable[[], tuple[Operator, int]]] = {
            "lt": lambda: (Operator.LE, floor(value)),
            "le": lambda: (Operator.LE, floor(value)),
            "gt": lambda: (Operator.GE, ceil(value)),
            "ge": lambda: (Operator.GE, ceil(value)),
        }
        return self._direct(column, *edges[op]()) if op in edges else None

    def _bounded(self, column: Node, bounds: Sequence[tuple[Operator, Value]]) -> _Asked | None:
        parts = [self._direct(column, operator, value) for operator, value in bounds]
        found = _all(parts) if parts else None
        return replace(found, exact=False) if found is not None else None

    def _value(self, node: Node) -> Value:
        if node.constant:
            return node.params[0]
        # What reads no field has one value for the whole run: now() and what is computed from it.
        alone = replace(self.expression, tree=node, type=node.type, parts=(), uses_now=True)
        done = evaluate(pl.DataFrame({"_row": [0]}), {"value": alone}, now=self.now)
        value: Value = done.values["value"][0]
        return value


def _reads(node: Node) -> bool:
    return any(each.op in ("column", "reasons") for each in node.walk())


def _all(parts: Sequence[_Asked | None]) -> _Asked | None:
    found = [each for each in parts if each is not None]
    if not found:
        return None
    exact = len(found) == len(parts) and all(each.exact for each in found)
    return found[0] if len(parts) == 1 else _Asked(AllOf(tuple(each.filter for each in found)), exact)


def _any(parts: Sequence[_Asked | None]) -> _Asked | None:
    found = [each for each in parts if each is not None]
    if len(found) < len(parts):
        return None
    return _Asked(AnyOf(tuple(each.filter for each in found)), all(each.exact for each in found))


def _bounds(op: str, low: date | datetime, high: date | datetime) -> list[tuple[Operator, Value]]:
    """Bounds that hold at least what `op` asks, where the value asked for lies between low and high."""
    lower: tuple[Operator, Value] = (Operator.GE, low)
    upper: tuple[Operator, Value] = (Operator.LE, high)
    return {"eq": [lower, upper], "gt": [lower], "ge": [lower], "lt": [upper], "le": [upper]}.get(op, [])


def _instants(wall: datetime, timezone: str) -> tuple[datetime, datetime]:
    """The first and last instant at which a clock of the zone may show this time."""
    zone = ZoneInfo(timezone)
    try:
        moments = sorted(wall.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))
    except OverflowError:
        edge = wall.replace(tzinfo=UTC)
        return edge, edge
    return moments[0], moments[-1]
