"""From one type to another: what happens by itself because nothing is lost, and what `cast` may fail at."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, time
from decimal import Decimal

from hub.mappings.expressions.types import (
    DATE,
    INSTANT,
    INTEGER_DIGITS,
    MAX_DIGITS,
    MAX_INTEGER,
    MIN_INTEGER,
    NULL,
    REAL,
    TEXT,
    TIMESTAMP,
    Node,
    ValueType,
    literal,
)
from hub.sdk import FieldType, Value


class MismatchError(Exception):
    """Two types that do not meet; the caller knows where in the text."""


def unify(types: Sequence[ValueType]) -> ValueType:
    """The narrowest type that holds all. MismatchError where there is none."""
    known = [each for each in types if each.kind is not None]
    if not known:
        return NULL
    found = known[0]
    for each in known[1:]:
        found = _both(found, each)
    return found


def _both(left: ValueType, right: ValueType) -> ValueType:
    if left == right:
        return left
    if left.numeric and right.numeric:
        if FieldType.REAL in (left.kind, right.kind):
            return REAL
        (p1, s1), (p2, s2) = left.digits, right.digits
        scale = max(s1, s2)
        return ValueType.decimal(min(MAX_DIGITS, max(p1 - s1, p2 - s2) + scale), scale)
    if left.textual and right.textual:
        return TEXT
    if left.temporal and right.temporal:
        # A date or wall clock beside an instant: the instant is read off the wall clock of the mapping's timezone.
        return TIMESTAMP
    raise MismatchError(f"{left} and {right}")


def coerce(node: Node, to: ValueType, timezone: str) -> Node:
    """The node as `to`, where that loses nothing (reals excepted, which round to the nearest). MismatchError if not."""
    given = node.type
    if given == to:
        return node
    if given.kind is None:
        return literal(None, to)
    if node.constant:
        folded = _fold(node.params[0], given, to)
        if folded is not None:
            return folded
    if to.kind is FieldType.REAL and given.numeric:
        return Node("to_real", to, (node,))
    if to.kind is FieldType.DECIMAL and given.kind in (FieldType.INTEGER, FieldType.DECIMAL):
        if given.digits[1] > to.digits[1]:
            raise MismatchError(f"{given} and {to}")
        return Node("to_decimal", to, (node,))
    if to.kind is FieldType.TEXT and given.textual:
        return Node("as_text", to, (node,))
    if to.kind is FieldType.TIMESTAMP and given.kind is FieldType.DATE:
        return Node("midnight", to, (node,))
    if to.kind is FieldType.TIMESTAMP and given.kind is FieldType.INSTANT:
        return Node("wall_clock", to, (node,), (timezone,))
    raise MismatchError(f"{given} and {to}")


def together(nodes: Sequence[Node], timezone: str) -> list[Node]:
    """All nodes as their common type; a text literal beside dates is read as a date."""
    temporal = next((each.type for each in nodes if each.type.temporal), None)
    if temporal is not None:
        nodes = [_as_moment(each, temporal) for each in nodes]
    plain = all(each.type.kind in (FieldType.INTEGER, None) for each in nodes)
    common = unify([each.type if plain else _width(each) for each in nodes])
    return [coerce(each, common, timezone) for each in nodes]


def _width(node: Node) -> ValueType:
    # 0 beside a decimal(10,2) is no reason to make room for nineteen digits.
    integral = node.constant and node.type.kind is FieldType.INTEGER
    return ValueType.decimal(*literal_digits(node)) if integral else node.type


def number_literal(text: str, *, negative: bool = False) -> Node | None:
    """A number as written: an integer where it fits, a decimal where exact, a real with an exponent. None if bad."""
    sign = "-" if negative else ""
    if "e" in text.lower():
        try:
            real = float(sign + text)
        except ValueError:
            return None
        return literal(real, REAL) if abs(real) != float("inf") else None
    if not text.replace(".", "", 1).isdecimal() or not text.isascii():
        return None
    value = Decimal(sign + text)
    if "." not in text and MIN_INTEGER <= value <= MAX_INTEGER:
        return literal(int(value), ValueType(FieldType.INTEGER))
    scale = len(text.partition(".")[2])
    precision = max(len(text.replace(".", "").lstrip("0")), scale, 1)
    return literal(value, ValueType.decimal(precision, scale)) if precision <= MAX_DIGITS else None


def moment_literal(text: str, kind: ValueType) -> Node | None:
    """A date, time, timestamp or instant written in ISO 8601; None where it is not one."""
    try:
        value: Value
        if kind.kind is FieldType.DATE:
            value = date.fromisoformat(text) if len(text) == 10 else None
        elif kind.kind is FieldType.TIME:
            value = time.fromisoformat(text)
            if value.tzinfo is not None:
                return None
        else:
            value = datetime.fromisoformat(text)
            if (value.tzinfo is None) is not (kind.kind is FieldType.TIMESTAMP):
                return None
    except ValueError:
        return None
    return None if value is None else literal(value, kind)


def _as_moment(node: Node, beside: ValueType) -> Node:
    if not node.constant or node.type.kind is not FieldType.TEXT:
        return node
    text = str(node.params[0]).strip()
    for kind in (DATE, TIMESTAMP, INSTANT):
        read = moment_literal(text, kind)
        if read is not None:
            return read
    raise MismatchError(f"the text in quotes is no date: write date '2024-12-31', not text, beside {beside}")


def _fold(value: Value, given: ValueType, to: ValueType) -> Node | None:
    if isinstance(value, bool):
        return None
    if to.kind is FieldType.REAL and isinstance(value, int | Decimal):
        return literal(float(value), to)
    if to.kind is FieldType.DECIMAL and isinstance(value, int | Decimal):
        precision, scale = to.digits
        exact = Decimal(value)
        fits = abs(exact) < Decimal(10) ** (precision - scale) and given.digits[1] <= scale
        return literal(exact, to) if fits else None
    if to.kind is FieldType.TEXT and isinstance(value, str):
        return literal(value, to)
    if to.kind is FieldType.TIMESTAMP and type(value) is date:
        return literal(datetime.combine(value, time()), to)
    return None


def literal_digits(node: Node) -> tuple[int, int]:
    """Digits in all and after the point that this node can have: of a literal, those it does have."""
    if node.constant and isinstance(node.params[0], int):
        return max(1, len(str(abs(node.params[0])))), 0
    return node.type.digits if node.type.kind is not FieldType.INTEGER else (INTEGER_DIGITS, 0)
