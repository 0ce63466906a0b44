"""Choosing: comparison, null tests, lists, and the functions that pick one of their arguments."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import polars as pl

from hub.mappings.expressions.functions.conversions import coerce, together
from hub.mappings.expressions.functions.numbers import arithmetic
from hub.mappings.expressions.functions.registry import REGISTRY, Call, Emitted, Function, accept, function, operation
from hub.mappings.expressions.types import BOOLEAN, INTEGER, NULL, Node, ValueType, literal
from hub.sdk import FieldType

GROUP = "Choosing"


@operation("eq")
def _eq(_node: Node, left: pl.Expr, right: pl.Expr) -> Emitted:
    return left == right


@operation("ne")
def _ne(_node: Node, left: pl.Expr, right: pl.Expr) -> Emitted:
    return left != right


@operation("lt")
def _lt(_node: Node, left: pl.Expr, right: pl.Expr) -> Emitted:
    return left < right


@operation("le")
def _le(_node: Node, left: pl.Expr, right: pl.Expr) -> Emitted:
    return left <= right


@operation("gt")
def _gt(_node: Node, left: pl.Expr, right: pl.Expr) -> Emitted:
    return left > right


@operation("ge")
def _ge(_node: Node, left: pl.Expr, right: pl.Expr) -> Emitted:
    return left >= right


@operation("same")
def _same(_node: Node, left: pl.Expr, right: pl.Expr) -> Emitted:
    return left.eq_missing(right)


@operation("differs")
def _differs(_node: Node, left: pl.Expr, right: pl.Expr) -> Emitted:
    return left.ne_missing(right)


@operation("not")
def _not(_node: Node, x: pl.Expr) -> Emitted:
    return x.not_()


@operation("is_null")
def _is_null(_node: Node, x: pl.Expr) -> Emitted:
    return x.is_null()


@operation("in")
def _in(node: Node, x: pl.Expr, *_values: pl.Expr) -> Emitted:
    subject, *listed = node.args
    constants = [each.params[0] for each in listed if each.constant]
    series = pl.Series(constants, dtype=subject.type.dtype)
    found = x.is_in(series.implode()) if constants else pl.when(x.is_not_null()).then(pl.lit(value=False))
    if len(constants) == len(listed):
        return found
    # SQL: not found in a list that holds a null is unknown, not false.
    return pl.when(found).then(pl.lit(value=True))


def _alike(name: str, least: int = 2) -> Callable[[Call], Node]:
    def resolve(call: Call) -> Node:
        if len(call.args) < least:
            raise call.fail(f"{len(call.args)} arguments given, at least {least} are needed")
        args = together(call.args, call.timezone)
        kind = args[0].type.kind
        if name in ("least", "greatest") and kind in (FieldType.BOOLEAN, FieldType.BYTES):
            raise call.fail(f"{args[0].type} values have no order")
        return Node(name, args[0].type, tuple(args))

    return resolve


def _extreme(pick: Callable[..., pl.Expr], node: Node, args: Sequence[pl.Expr]) -> Emitted:
    if node.type.kind is None:
        return args[0]
    known = args[0].is_not_null()
    for each in args[1:]:
        known = known & each.is_not_null()
    if node.type.textual:
        found = args[0]
        for each in args[1:]:
            better = each < found if node.op == "least" else each > found
            found = pl.when(better).then(each).otherwise(found)
        return pl.when(known).then(found)
    return pl.when(known).then(pick(*args))


@function(
    "least",
    "x any, more any*",
    None,
    group=GROUP,
    resolve=_alike("least", 1),
    rule="The smallest of its arguments; null where one of them is null.",
    examples=[("least(3, 1, 2)", "1"), ("least(1, null)", "null")],
)
def _least(node: Node, *args: pl.Expr) -> Emitted:
    return _extreme(pl.min_horizontal, node, args)


@function(
    "greatest",
    "x any, more any*",
    None,
    group=GROUP,
    resolve=_alike("greatest", 1),
    rule="The largest of its arguments; null where one of them is null.",
    examples=[("greatest(3, 1.5)", "3.0"), ("greatest(date '2024-01-01', date '2023-01-01')", "2024-01-01")],
)
def _greatest(node: Node, *args: pl.Expr) -> Emitted:
    return _extreme(pl.max_horizontal, node, args)


def _nullif_type(call: Call) -> Node:
    if len(call.args) != 2:
        raise call.fail(f"{len(call.args)} arguments given, expected nullif(x, y)")
    x, y = together(call.args, call.timezone)
    if x.type.kind is None:
        return literal(None, NULL)
    given = call.args[0].type
    kept = call.args[0] if given.kind is not None else coerce(call.args[0], x.type, call.timezone)
    return Node("nullif", kept.type, (kept, x, y))


@function(
    "nullif",
    "x any, y any",
    None,
    group=GROUP,
    resolve=_nullif_type,
    signature="nullif(x, y)",
    rule="x, but null where x equals y.",
    examples=[("nullif(5, 5)", "null"), ("nullif('a', 'b')", "a"), ("10 / nullif(0, 0)", "null")],
)
def _nullif(_node: Node, kept: pl.Expr, x: pl.Expr, y: pl.Expr) -> Emitted:
    return pl.when((x == y).fill_null(value=False).not_()).then(kept)


def _lazy(
    name: str,
    signature: str,
    rule: str,
    examples: Sequence[tuple[str, str]],
    resolve: Callable[[Call], Node],
    aliases: tuple[str, ...] = (),
) -> None:
    REGISTRY.add(Function(name, GROUP, signature, rule, tuple(examples), resolve, aliases))


def _case(condition: Node, then: Node, otherwise: Node, timezone: str) -> Node:
    same = together([then, otherwise], timezone)
    return Node("case", same[0].type, (coerce(condition, BOOLEAN, timezone), *same))


def _iff(call: Call) -> Node:
    if len(call.args) != 3:
        raise call.fail(f"{len(call.args)} arguments given, expected iff(condition, then, else)")
    condition = accept(call, call.args[0], "boolean", "the condition")
    return _case(condition, call.args[1], call.args[2], call.timezone)


def _zero(call: Call, node: Node) -> Node:
    taken = accept(call, node, "number", "x")
    return coerce(literal(0, INTEGER), taken.type, call.timezone)


def _zeroifnull(call: Call) -> Node:
    if len(call.args) != 1:
        raise call.fail(f"{len(call.args)} arguments given, expected zeroifnull(x)")
    x = accept(call, call.args[0], "number", "x")
    return Node("coalesce", x.type, (x, _zero(call, x)))


def _div0(call: Call) -> Node:
    if len(call.args) != 2:
        raise call.fail(f"{len(call.args)} arguments given, expected div0(x, y)")
    x, y = (accept(call, each, "number", label) for each, label in zip(call.args, "xy", strict=True))
    none = Node("eq", BOOLEAN, (y, _zero(call, y)))
    known = Node("not", BOOLEAN, (Node("is_null", BOOLEAN, (x,)),))
    value = arithmetic("divide", x, y, call.timezone)
    return _case(Node("and", BOOLEAN, (none, known)), literal(0.0, value.type), value, call.timezone)


_lazy(
    "coalesce",
    "coalesce(x, …)",
    "The first argument that is not null. Those after it are not computed, so they cannot put the record in error.",
    [("coalesce(null, 2)", "2"), ("coalesce(1, 1 / 0)", "1.0"), ("coalesce(null, null)", "null")],
    _alike("coalesce", 1),
    ("ifnull", "nvl"),
)
_lazy(
    "iff",
    "iff(condition, then, else)",
    "One of two values; the other is not computed. A condition that is null chooses the second.",
    [("iff(1 < 2, 'yes', 'no')", "yes"), ("iff(null, 1, 2)", "2"), ("iff(true, 1, 1 / 0)", "1.0")],
    _iff,
    ("if",),
)
_lazy("zeroifnull", "zeroifnull(x)", "0 where x is null.", [("zeroifnull(null)", "0")], _zeroifnull)
_lazy("div0", "div0(x, y)", "x / y, but 0 where y is 0.", [("div0(1, 0)", "0.0"), ("div0(1, 2)", "0.5")], _div0)


def null_of(kind: ValueType) -> pl.Expr:
    """A typed null."""
    return pl.lit(None, dtype=kind.dtype)
