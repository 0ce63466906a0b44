"""Numbers: checked integers, exact decimals, finite reals, and the functions over them."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

import numpy as np
import polars as pl

from hub.mappings.expressions.functions.conversions import MismatchError, coerce, literal_digits, unify
from hub.mappings.expressions.functions.registry import Call, Check, Emitted, accept, function, operation
from hub.mappings.expressions.types import INTEGER, MAX_DIGITS, REAL, Node, ValueType
from hub.sdk import FieldType

OUT_OF_RANGE = "a result is out of range"
BY_ZERO = "division by zero"
GROUP = "Numbers"

_I128 = pl.Int128()
_ZERO = pl.lit(0, dtype=_I128)
"""polars cannot negate 128-bit integers, but can take them from zero."""


def arithmetic(op: str, left: Node, right: Node, timezone: str) -> Node:
    """The node of `left op right` by their types. MismatchError where a decimal result would need too many digits."""
    if left.type.kind is None and right.type.kind is None:
        left, right = (coerce(each, INTEGER, timezone) for each in (left, right))
    left = coerce(left, right.type, timezone) if left.type.kind is None else left
    right = coerce(right, left.type, timezone) if right.type.kind is None else right
    kinds = {left.type.kind, right.type.kind}
    if op == "divide" or FieldType.REAL in kinds:
        return Node(op, REAL, tuple(coerce(each, REAL, timezone) for each in (left, right)))
    if kinds == {FieldType.INTEGER}:
        return Node(op, INTEGER, (left, right))
    return _decimal_arithmetic(op, left, right, timezone)


def _decimal_arithmetic(op: str, left: Node, right: Node, timezone: str) -> Node:
    (p1, s1), (p2, s2) = literal_digits(left), literal_digits(right)
    if op == "multiply":
        scale, precision = s1 + s2, p1 + p2
        if scale > MAX_DIGITS:
            raise MismatchError(
                f"the product would have {scale} digits after the point, at most {MAX_DIGITS} are kept:"
                " round one side or cast it to real"
            )
        sides = [coerce(each, _as_decimal(each), timezone) for each in (left, right)]
    else:
        scale = max(s1, s2)
        precision = max(p1 - s1, p2 - s2) + scale + (op != "mod")
        common = unify([_as_decimal(left), _as_decimal(right)])
        sides = [coerce(each, common, timezone) for each in (left, right)]
    return Node(op, ValueType.decimal(min(precision, MAX_DIGITS), scale), tuple(sides), (precision <= MAX_DIGITS,))


def _as_decimal(node: Node) -> ValueType:
    return ValueType.decimal(*literal_digits(node))


def negate(node: Node) -> Node:
    """Minus a number."""
    node = Node("null", INTEGER) if node.type.kind is None else node
    return Node("negate", node.type, (node,))


def fit(node: Node, wanted: ValueType) -> Node | None:
    """A number that is rounded to what `wanted` holds, as `wanted`, checked for range; None for anything else."""
    if not node.type.numeric or not wanted.numeric or wanted.kind is FieldType.REAL:
        return None
    scale = 0 if wanted.kind is FieldType.INTEGER else wanted.digits[1]
    if _places(node) > scale:
        return None
    return Node("cast_number", wanted, (node,))


def _places(node: Node) -> float:
    """How many digits after the point a value of this node can have."""
    if node.type.kind is FieldType.INTEGER or node.op == "null":
        return 0
    if node.type.kind is FieldType.DECIMAL:
        return node.type.digits[1]
    if node.op in ("floor", "ceil"):
        return 0
    if node.op in ("round", "trunc"):
        digits = node.params[0] if node.params else 0
        assert isinstance(digits, int)
        return digits
    if node.op == "literal" and isinstance(node.params[0], float) and node.params[0].is_integer():
        return 0
    branches = {"case": [*node.args[1::2], node.args[-1]] if node.args else [], "coalesce": node.args}
    branches |= {"negate": node.args, "abs": node.args, "greatest": node.args, "least": node.args}
    branches |= {"to_real": node.args}
    inner = branches.get(node.op)
    return max(map(_places, inner)) if inner else float("inf")


def finite(value: pl.Expr) -> list[Check]:
    """The check that a real is neither NaN nor infinite."""
    return [(value.is_finite().not_(), OUT_OF_RANGE)]


def lost(value: pl.Expr, *inputs: pl.Expr) -> pl.Expr:
    """True where a conversion gave null for inputs that are not."""
    bad = value.is_null()
    for each in inputs:
        bad = bad & each.is_not_null()
    return bad


def _kind(node: Node) -> FieldType | None:
    return node.type.kind


def _checked(wide: pl.Expr, *inputs: pl.Expr) -> Emitted:
    # Integers are computed in 128 bits, where two of 64 cannot overflow, and brought back; what does not fit is null.
    value = wide.cast(pl.Int64, strict=False)
    return value, [(lost(value, *inputs), OUT_OF_RANGE)]


def _decimal(node: Node, left: pl.Expr, right: pl.Expr) -> Emitted:
    scale = node.type.digits[1]
    wide = pl.Decimal(MAX_DIGITS, scale)
    safe = bool(node.params[0])
    a, b, checks = left, right, []
    if not safe:
        x, y = left.cast(pl.Float64).abs(), right.cast(pl.Float64).abs()
        reach = x * y if node.op == "multiply" else x + y
        bad = reach >= float(Decimal(10) ** (MAX_DIGITS - scale)) * (1 - 1e-9)
        checks.append((bad, OUT_OF_RANGE))
        a = pl.when(bad).then(None).otherwise(left)
    a = a.cast(wide, strict=False)
    if not safe:
        checks.append((lost(a, left) & bad.not_(), OUT_OF_RANGE))
    result = {"add": lambda: a + b, "subtract": lambda: a - b, "multiply": lambda: a * b}[node.op]()
    return result.cast(node.type.dtype, strict=False), checks


@operation("add")
def _add(node: Node, left: pl.Expr, right: pl.Expr) -> Emitted:
    if _kind(node) is FieldType.INTEGER:
        return _checked(left.cast(_I128) + right.cast(_I128), left, right)
    if _kind(node) is FieldType.DECIMAL:
        return _decimal(node, left, right)
    return left + right, finite(left + right)


@operation("subtract")
def _subtract(node: Node, left: pl.Expr, right: pl.Expr) -> Emitted:
    if _kind(node) is FieldType.INTEGER:
        return _checked(left.cast(_I128) - right.cast(_I128), left, right)
    if _kind(node) is FieldType.DECIMAL:
        return _decimal(node, left, right)
    return left - right, finite(left - right)


@operation("multiply")
def _multiply(node: Node, left: pl.Expr, right: pl.Expr) -> Emitted:
    if _kind(node) is FieldType.INTEGER:
        return _checked(left.cast(_I128) * right.cast(_I128), left, right)
    if _kind(node) is FieldType.DECIMAL:
        return _decimal(node, left, right)
    return left * right, finite(left * right)


@operation("divide")
def _divide(node: Node, left: pl.Expr, right: pl.Expr) -> Emitted:
    value = left / right
    if node.args[1].constant and node.args[1].params[0] != 0:
        return value, finite(value)
    return value, [((right == 0) & left.is_not_null(), BY_ZERO), *finite(value)]


@operation("negate")
def _negate(node: Node, x: pl.Expr) -> Emitted:
    if _kind(node) is FieldType.INTEGER:
        return _checked(_ZERO - x.cast(_I128), x)
    return -x


@operation("to_real")
def _to_real(_node: Node, x: pl.Expr) -> Emitted:
    return x.cast(pl.Float64)


@operation("to_decimal")
def _to_decimal(node: Node, x: pl.Expr) -> Emitted:
    value = x.cast(node.type.dtype, strict=False)
    (p1, s1), (p2, s2) = literal_digits(node.args[0]), node.type.digits
    if p1 - s1 <= p2 - s2:
        return value
    return value, [(lost(value, x), OUT_OF_RANGE)]


def _remainder_type(call: Call) -> Node:
    if len(call.args) != 2:
        raise call.fail(f"{len(call.args)} arguments given, expected mod(x, y)")
    sides = [accept(call, each, "number", label) for each, label in zip(call.args, ("x", "y"), strict=True)]
    return arithmetic("mod", sides[0], sides[1], call.timezone)


@function(
    "mod",
    "x number, y number",
    None,
    group=GROUP,
    resolve=_remainder_type,
    rule="The remainder, also written x % y; it has the sign of x. By zero the record is in error.",
    examples=[("mod(7, 3)", "1"), ("-7 % 3", "-1"), ("mod(7.5, 2)", "1.5"), ("mod(1, 0)", "error: division by zero")],
)
def _mod(node: Node, left: pl.Expr, right: pl.Expr) -> Emitted:
    zero = (right == 0) & left.is_not_null()
    kind = _kind(node)
    if kind is FieldType.REAL:
        value = pl.map_batches([left, right], _fmod, return_dtype=pl.Float64(), is_elementwise=True)
        return value, [(zero, BY_ZERO), *finite(value)]
    a, b = (left.cast(_I128), right.cast(_I128)) if kind is FieldType.INTEGER else (left, right)
    rest = a.abs() % pl.when(right != 0).then(b.abs())
    value = pl.when(left < 0).then(_ZERO - rest if kind is FieldType.INTEGER else -rest).otherwise(rest)
    return value.cast(node.type.dtype, strict=False), [(zero, BY_ZERO)]


def _fmod(sides: Sequence[pl.Series]) -> pl.Series:
    # polars computes x - y * floor(x / y), which loses every digit where x is far larger than y.
    left, right = (each.to_numpy() for each in sides)
    with np.errstate(all="ignore"):
        rest = pl.Series(np.fmod(left, right), dtype=pl.Float64)
    known = sides[0].is_not_null() & sides[1].is_not_null()
    return pl.select(pl.when(known).then(rest)).to_series()


def _same(args: Sequence[Node]) -> ValueType:
    return args[0].type


@function(
    "abs",
    "x number",
    _same,
    group=GROUP,
    rule="The distance from zero, of the same type.",
    examples=[("abs(-3)", "3"), ("abs(-2.50)", "2.50")],
)
def _abs(node: Node, x: pl.Expr) -> Emitted:
    if _kind(node) is FieldType.INTEGER:
        return _checked(x.cast(_I128).abs(), x)
    return x.abs()


@function(
    "sign",
    "x number",
    INTEGER,
    group=GROUP,
    rule="-1, 0 or 1.",
    examples=[("sign(-2.5)", "-1"), ("sign(0)", "0")],
)
def _sign(_node: Node, x: pl.Expr) -> Emitted:
    return pl.when(x > 0).then(1).when(x < 0).then(-1).when(x == 0).then(0).cast(pl.Int64)


def _real(value: pl.Expr, bad: pl.Expr | None = None, why: str = "") -> Emitted:
    return value, [*([(bad, why)] if bad is not None else []), *finite(value)]


@function(
    "sqrt",
    "x real",
    REAL,
    group=GROUP,
    rule="The square root. Of a negative number the record is in error.",
    examples=[("sqrt(9)", "3.0"), ("sqrt(-1)", "error: square root of a negative number")],
)
def _sqrt(_node: Node, x: pl.Expr) -> Emitted:
    return _real(x.sqrt(), x < 0, "square root of a negative number")


@function(
    "exp",
    "x real",
    REAL,
    group=GROUP,
    rule="e to the power of x.",
    examples=[("exp(0)", "1.0"), ("exp(1000)", "error: a result is out of range")],
)
def _exp(_node: Node, x: pl.Expr) -> Emitted:
    return _real(x.exp())


NO_LOG = "logarithm of zero or a negative number"


@function(
    "ln",
    "x real",
    REAL,
    group=GROUP,
    rule="The natural logarithm. Of zero or less the record is in error.",
    examples=[("ln(1)", "0.0"), ("ln(0)", f"error: {NO_LOG}")],
)
def _ln(_node: Node, x: pl.Expr) -> Emitted:
    return _real(x.log(), x <= 0, NO_LOG)


@function(
    "log",
    "base real, x real",
    REAL,
    group=GROUP,
    rule="The logarithm of x to a base, which comes first. The base must be above 0 and not 1.",
    examples=[("log(10, 1000)", "3.0"), ("log(10, -1)", f"error: {NO_LOG}")],
)
def _log(_node: Node, base: pl.Expr, x: pl.Expr) -> Emitted:
    raw = x.log() / base.log()
    near = raw.round(0)
    # The quotient misses whole powers by one in the last place: log(10, 1000) would be 2.9999999999999996.
    value = pl.when(base.pow(near) == x).then(near).otherwise(raw)
    known = x.is_not_null() & base.is_not_null()
    odd = ((base <= 0) | (base == 1)) & known
    return value, [((x <= 0) & known, NO_LOG), (odd, "no logarithm to this base"), *finite(value)]


@function(
    "power",
    "x real, y real",
    REAL,
    group=GROUP,
    aliases=("pow",),
    rule="x to the power of y. Zero to a negative power, or a negative number to a broken one, is an error.",
    examples=[("power(2, 10)", "1024.0"), ("power(-8, 0.5)", "error: a result is out of range")],
)
def _power(_node: Node, x: pl.Expr, y: pl.Expr) -> Emitted:
    return _real(x.pow(y))


def _rounded_type(call: Call) -> Node:
    if len(call.args) not in (1, 2):
        raise call.fail(f"{len(call.args)} arguments given, expected {call.name}(x, [digits])")
    x = accept(call, call.args[0], "number", "x")
    digits = 0
    if len(call.args) == 2:
        value = call.args[1].params[0] if call.args[1].constant else None
        if not isinstance(value, int) or isinstance(value, bool) or not -18 <= value <= MAX_DIGITS:
            raise call.fail(f"digits must be a whole number from -18 to {MAX_DIGITS}, written as a literal")
        digits = value
    name = {"truncate": "trunc", "ceiling": "ceil"}.get(call.name, call.name)
    if x.type.kind is not FieldType.DECIMAL:
        return Node(name, x.type, (x,), (digits,))
    precision, scale = x.type.digits
    if digits >= scale:
        return x
    kept = max(digits, 0)
    return Node(name, ValueType.decimal(min(MAX_DIGITS, precision - scale + kept + 1), kept), (x,), (digits,))


def _whole_type(call: Call) -> Node:
    if len(call.args) != 1:
        raise call.fail(f"{len(call.args)} arguments given, expected {call.name}(x)")
    return _rounded_type(call)


def _to_step(x: pl.Expr, digits: int, *, half: bool) -> pl.Expr:
    """Whole numbers cut, or rounded half away from zero, at a power of ten, in 128 bits."""
    step = 10**-digits
    wide = x.cast(_I128)
    up = wide.abs() + (step // 2 if half else 0)
    cut = up - up % step
    return pl.when(x < 0).then(_ZERO - cut).otherwise(cut)


_LARGE = float(2**53)
"""From here on every real is whole."""


def _real_step(x: pl.Expr, digits: int, *, half: bool) -> pl.Expr:
    if digits > 15:
        return x
    if digits >= 0 and half:
        value = x.round(digits, mode="half_away_from_zero")
    else:
        scaled = x * 10.0**digits if digits >= 0 else x / 10.0**-digits
        cut = (
            scaled.round(0, mode="half_away_from_zero")
            if half
            else pl.when(scaled < 0).then(scaled.ceil()).otherwise(scaled.floor())
        )
        value = cut / 10.0**digits if digits >= 0 else cut * 10.0**-digits
    return pl.when(x.abs() >= _LARGE).then(x).otherwise(value) if digits > 0 else value


def _decimal_step(node: Node, x: pl.Expr, digits: int, *, half: bool) -> Emitted:
    dtype = node.type.dtype
    if digits < 0 or not half:
        # Cut off what is behind the digit first: it cannot reach the half of a step of ten or more.
        shifted = _to_step(x, digits, half=half) if digits <= 0 else None
        if shifted is not None:
            value = shifted.cast(dtype, strict=False)
            return value, [(lost(value, x), OUT_OF_RANGE)]
        near = half_away(node.args[0].type.digits, x, digits)
        ulp = pl.lit(Decimal(1).scaleb(-digits), dtype=pl.Decimal(MAX_DIGITS, digits))
        kept = near.cast(pl.Decimal(MAX_DIGITS, digits), strict=False)
        value = pl.when(kept.abs() > x.abs()).then(kept - pl.when(x < 0).then(-ulp).otherwise(ulp)).otherwise(kept)
        value = value.cast(dtype, strict=False)
        return value, [(lost(value, x), OUT_OF_RANGE)]
    value = half_away(node.args[0].type.digits, x, digits).cast(dtype, strict=False)
    return value, [(lost(value, x), OUT_OF_RANGE)]


def half_away(size: tuple[int, int], x: pl.Expr, digits: int) -> pl.Expr:
    """A decimal of that precision and scale, rounded; null where rounding up has no room, which makes polars raise."""
    precision, scale = size
    if precision >= MAX_DIGITS:
        edge = float(Decimal(10) ** (MAX_DIGITS - scale)) * (1 - 1e-9) - 1
        x = pl.when(x.cast(pl.Float64).abs() < edge).then(x)
    return x.round(digits, mode="half_away_from_zero")


def _stepped(node: Node, x: pl.Expr, *, half: bool) -> Emitted:
    digits = node.params[0]
    assert isinstance(digits, int)
    kind = _kind(node)
    if kind is FieldType.INTEGER:
        return x if digits >= 0 else _checked(_to_step(x, digits, half=half), x)
    if kind is FieldType.DECIMAL:
        return _decimal_step(node, x, digits, half=half)
    value = _real_step(x, digits, half=half)
    return (value, finite(value)) if digits < 0 else value


@function(
    "round",
    "x number, digits integer!?",
    None,
    group=GROUP,
    resolve=_rounded_type,
    rule="Rounds to so many digits after the point (0 if left out, negative for tens and hundreds), half away from"
    " zero. A decimal stays exact; a real is rounded as the binary number it is.",
    examples=[
        ("round(2.5)", "3"),
        ("round(-2.5)", "-3"),
        ("round(1.005, 2)", "1.01"),
        ("round(1250, -2)", "1300"),
        ("round(null)", "null"),
    ],
)
def _round(node: Node, x: pl.Expr) -> Emitted:
    return _stepped(node, x, half=True)


@function(
    "trunc",
    "x number, digits integer!?",
    None,
    group=GROUP,
    resolve=_rounded_type,
    aliases=("truncate",),
    rule="Cuts off behind so many digits after the point, towards zero.",
    examples=[("trunc(-2.79)", "-2"), ("trunc(2.79, 1)", "2.7"), ("trunc(1299, -2)", "1200")],
)
def _trunc(node: Node, x: pl.Expr) -> Emitted:
    return _stepped(node, x, half=False)


def _whole(node: Node, x: pl.Expr, *, up: bool) -> Emitted:
    kind = _kind(node)
    if kind is FieldType.INTEGER:
        return x
    if kind is FieldType.REAL:
        return x.ceil() if up else x.floor()
    cut = x.cast(_I128)
    # The whole part of a decimal always fits 128 bits, and so does one more.
    behind = x != cut.cast(x_type(node), strict=False)
    beyond = behind & ((x > 0) if up else (x < 0))
    value = (cut + pl.when(beyond).then(1 if up else -1).otherwise(0)).cast(node.type.dtype, strict=False)
    return value, [(lost(value, x), OUT_OF_RANGE)]


def x_type(node: Node) -> pl.DataType:
    """The polars type of the first argument."""
    return node.args[0].type.dtype


@function(
    "floor",
    "x number",
    None,
    group=GROUP,
    resolve=_whole_type,
    rule="The next whole number at or below.",
    examples=[("floor(2.7)", "2"), ("floor(-2.1)", "-3")],
)
def _floor(node: Node, x: pl.Expr) -> Emitted:
    return _whole(node, x, up=False)


@function(
    "ceil",
    "x number",
    None,
    group=GROUP,
    resolve=_whole_type,
    aliases=("ceiling",),
    rule="The next whole number at or above.",
    examples=[("ceil(2.1)", "3"), ("ceil(-2.7)", "-2")],
)
def _ceil(node: Node, x: pl.Expr) -> Emitted:
    return _whole(node, x, up=True)


def _width_type(call: Call) -> Node:
    if len(call.args) != 4:
        raise call.fail(f"{len(call.args)} arguments given, expected width_bucket(x, low, high, n)")
    sides = [accept(call, each, "real", label) for each, label in zip(call.args, ("x", "low", "high"), strict=False)]
    count = call.args[3].params[0] if call.args[3].constant else None
    if not isinstance(count, int) or isinstance(count, bool) or not 1 <= count <= 1_000_000:
        raise call.fail("n must be a whole number from 1 to 1,000,000, written as a literal")
    return Node("width_bucket", INTEGER, tuple(sides), (count,))


@function(
    "width_bucket",
    "x real, low real, high real, n integer!",
    None,
    group="Hashing and bucketing",
    resolve=_width_type,
    rule="The number of the bucket, from 1, of n equal ones between low and high; 0 below low, n + 1 from high on.",
    examples=[
        ("width_bucket(5, 0, 10, 5)", "3"),
        ("width_bucket(-1, 0, 10, 5)", "0"),
        ("width_bucket(10, 0, 10, 5)", "6"),
    ],
)
def _width_bucket(node: Node, x: pl.Expr, low: pl.Expr, high: pl.Expr) -> Emitted:
    count = node.params[0]
    assert isinstance(count, int)
    inside = ((x - low) / (high - low) * float(count)).floor().clip(0.0, float(count - 1)) + 1.0
    value = pl.when(x < low).then(0.0).when(x >= high).then(float(count + 1)).otherwise(inside)
    known = x.is_not_null() & low.is_not_null() & high.is_not_null()
    gap = ((low >= high) | (high - low).is_finite().not_()) & known
    return pl.when(known).then(value.cast(pl.Int64, strict=False)), [(gap, "width_bucket needs low below high")]
