"""The nouns of the expression language: value types, typed trees, compiled expressions and what evaluation answers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Self

import polars as pl

from hub.sdk import Field, FieldType, Filter, Value

MAX_DIGITS = 38
"""Digits a decimal may have, as polars keeps them."""

INTEGER_DIGITS = 19
MIN_INTEGER, MAX_INTEGER = -(2**63), 2**63 - 1

NUMERIC = frozenset({FieldType.INTEGER, FieldType.DECIMAL, FieldType.REAL})
TEXTUAL = frozenset({FieldType.TEXT, FieldType.UUID, FieldType.JSON})
TEMPORAL = frozenset({FieldType.DATE, FieldType.TIMESTAMP, FieldType.INSTANT})

NOW = "_now"
"""The column that carries the run's logical time into a prepared plan."""

REASONS = "_reasons"
"""The column with rendered reasons, a list of text, best first, that `reasons(n)` reads."""


class ExpressionError(ValueError):
    """One sentence for the person who wrote the expression: what is wrong, where, and the nearest right name."""

    def __init__(self, message: str, *, text: str = "", position: int | None = None) -> None:
        self.message = message if position is None else f"{message} (at character {position + 1})"
        self.text = text
        self.position = position
        super().__init__(self.message)


@dataclass(frozen=True, slots=True)
class ValueType:
    """The type of a value. `kind` None is that of a bare null; `precision` and `scale` belong to decimals."""

    kind: FieldType | None
    precision: int | None = None
    scale: int | None = None

    @classmethod
    def of(cls, field: Field) -> Self:
        """The type of a field's values."""
        if field.type is not FieldType.DECIMAL:
            return cls(field.type)
        return cls(field.type, field.precision or MAX_DIGITS, 12 if field.scale is None else field.scale)

    @classmethod
    def decimal(cls, precision: int, scale: int) -> Self:
        """A decimal of so many digits, so many of them after the point."""
        return cls(FieldType.DECIMAL, precision, scale)

    @property
    def digits(self) -> tuple[int, int]:
        """Digits in all and after the point, of a decimal or an integer."""
        if self.kind is FieldType.INTEGER:
            return INTEGER_DIGITS, 0
        return self.precision or MAX_DIGITS, 12 if self.scale is None else self.scale

    @property
    def dtype(self) -> pl.DataType:
        """The polars type of a column of such values."""
        if self.kind is None:
            return pl.Null()
        if self.kind is FieldType.DECIMAL:
            return pl.Decimal(*self.digits)
        return Field("", self.kind).dtype

    @property
    def numeric(self) -> bool:
        return self.kind in NUMERIC

    @property
    def textual(self) -> bool:
        return self.kind in TEXTUAL

    @property
    def temporal(self) -> bool:
        return self.kind in TEMPORAL

    def __str__(self) -> str:
        if self.kind is None:
            return "null"
        if self.kind is FieldType.DECIMAL:
            return "decimal({},{})".format(*self.digits)
        return self.kind.value


NULL = ValueType(None)
TEXT = ValueType(FieldType.TEXT)
INTEGER = ValueType(FieldType.INTEGER)
REAL = ValueType(FieldType.REAL)
BOOLEAN = ValueType(FieldType.BOOLEAN)
DATE = ValueType(FieldType.DATE)
TIMESTAMP = ValueType(FieldType.TIMESTAMP)
INSTANT = ValueType(FieldType.INSTANT)


@dataclass(frozen=True, slots=True)
class Node:
    """One typed operation. `params` are its constants (a column's name, a literal's value, a unit), never null."""

    op: str
    type: ValueType
    args: tuple[Node, ...] = ()
    params: tuple[Value, ...] = ()

    def walk(self) -> Iterator[Node]:
        """This node and all below it, each once: a tree may hold one node in several places."""
        stack, seen = [self], {id(self)}
        while stack:
            node = stack.pop()
            yield node
            fresh = [each for each in node.args if id(each) not in seen]
            seen.update(id(each) for each in fresh)
            stack.extend(fresh)

    @property
    def constant(self) -> bool:
        """Whether this is a literal that is not null."""
        return self.op == "literal"


def literal(value: Any, kind: ValueType) -> Node:
    """A constant; None makes a null of that type."""
    return Node("null", kind) if value is None else Node("literal", kind, (), (value,))


@dataclass(frozen=True)
class Expression:
    """A text that was parsed and typed once; evaluation works on `tree` and never reads the text again.

    `columns` are the exact names read, `functions` the names of the functions used, `uses_now` whether the value moves
    with time, `reasons` how many reasons `reasons(n)` asks for (0: it is not used), `timezone` whose wall clock counts.
    `parts` are the texts of the conditions joined by AND, for `explain`.
    """

    text: str
    type: ValueType
    columns: frozenset[str]
    functions: frozenset[str]
    uses_now: bool
    tree: Node = field(compare=False, repr=False)
    timezone: str = "UTC"
    reasons: int = 0
    parts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Evaluated:
    """Values, and what went wrong, row by row.

    `values` has one column per expression, exactly of `Expression.type.dtype`, null where that expression is in error;
    `errors` says per row `name: reason` of the first expression in error, or null.
    """

    values: pl.DataFrame
    errors: pl.Series


@dataclass(frozen=True, slots=True)
class Pushdown:
    """What of a condition the far side is asked, never narrower than the condition itself, and what stays with the hub.

    The hub applies the whole condition again to whatever arrives; the two lists of text are for `explain`.
    """

    pushed: Filter | None
    pushed_text: tuple[str, ...] = ()
    kept_text: tuple[str, ...] = ()


def as_utc(moment: datetime) -> datetime:
    """The moment, which must be aware. ValueError for a naive one."""
    if moment.tzinfo is None:
        raise ValueError("now must be an aware datetime")
    return moment
