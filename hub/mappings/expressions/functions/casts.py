"""`cast` and `try_cast`: which types can be read as which, and when a record's value cannot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import polars as pl

from hub.mappings.expressions.functions import moments
from hub.mappings.expressions.functions.conversions import MismatchError, coerce
from hub.mappings.expressions.functions.numbers import OUT_OF_RANGE, half_away, lost
from hub.mappings.expressions.functions.registry import Check, Emitted, operation
from hub.mappings.expressions.types import (
    BOOLEAN,
    DATE,
    INSTANT,
    INTEGER,
    MAX_DIGITS,
    REAL,
    TEXT,
    TIMESTAMP,
    Node,
    ValueType,
    literal,
)
from hub.sdk import FieldType

_NAMES: Mapping[str, ValueType] = {
    **dict.fromkeys(("TEXT", "VARCHAR", "NVARCHAR", "CHAR", "NCHAR", "NAME"), TEXT),
    **dict.fromkeys(("INT", "BIGINT", "SMALLINT", "TINYINT", "MEDIUMINT"), INTEGER),
    **dict.fromkeys(("DOUBLE", "FLOAT"), REAL),
    "BOOLEAN": BOOLEAN,
    "DATE": DATE,
    **dict.fromkeys(("TIMESTAMP", "TIMESTAMPNTZ", "DATETIME"), TIMESTAMP),
    **dict.fromkeys(("TIMESTAMPTZ", "TIMESTAMPLTZ"), INSTANT),
    "TIME": ValueType(FieldType.TIME),
    "UUID": ValueType(FieldType.UUID),
}


def type_named(name: str, sizes: Sequence[int]) -> tuple[ValueType | None, int | None]:
    """The type of a name after AS, and the length asked for of a text; None for a type that is not known."""
    if name == "DECIMAL":
        precision, scale = (*sizes, *(38, 0)[len(sizes) :])[:2]
        good = len(sizes) <= 2 and 1 <= precision <= MAX_DIGITS and 0 <= scale <= precision
        return (ValueType.decimal(precision, scale) if good else None), None
    kind = _NAMES.get(name)
    if kind is TEXT and len(sizes) == 1:
        return kind, sizes[0]
    return (None if sizes else kind), None


def cast_node(node: Node, wanted: ValueType, timezone: str, *, lenient: bool, length: int | None = None) -> Node | None:
    """The node of a cast; None where no value of the one type can be read as the other."""
    if node.type.kind is None:
        return literal(None, wanted)
    made = _cast(node, wanted, timezone)
    if made is None:
        return None
    if length is not None:
        inner = Node("attempt", made.type, (made,)) if lenient and made is not node else made
        made = Node("fit_text", TEXT, (inner,), (length,))
    return Node("attempt", made.type, (made,)) if lenient and made is not node else made


def _cast(node: Node, wanted: ValueType, timezone: str) -> Node | None:
    given = node.type
    if given == wanted:
        return node
    if wanted.kind is FieldType.TEXT and not given.textual:
        return None if given.kind is FieldType.BYTES else Node("write_text", TEXT, (node,), (timezone,))
    try:
        return coerce(node, wanted, timezone)
    except MismatchError:
        pass
    if given.numeric and wanted.numeric:
        return Node("cast_number", wanted, (node,))
    if given.textual:
        return _from_text(node, wanted, timezone)
    if given.kind is FieldType.BOOLEAN and wanted.numeric:
        return Node("from_boolean", wanted, (node,))
    if given.numeric and wanted.kind is FieldType.BOOLEAN:
        return Node("to_boolean", wanted, (node,))
    if wanted.kind is FieldType.INSTANT and given.temporal:
        return Node("to_instant", wanted, (coerce(node, TIMESTAMP, timezone),), (timezone,))
    if given.temporal and (wanted.temporal or wanted.kind is FieldType.TIME):
        return Node("cast_moment", wanted, (node,), (timezone,))
    return None


def _from_text(node: Node, wanted: ValueType, timezone: str) -> Node | None:
    if wanted.numeric:
        if wanted.kind is FieldType.DECIMAL:
            return Node("read_decimal", wanted, (node, Node("plain_number", TEXT, (node,))))
        return Node("read_number", wanted, (node,))
    if wanted.kind is FieldType.BOOLEAN:
        return Node("read_boolean", wanted, (node,))
    if wanted.temporal or wanted.kind is FieldType.TIME:
        parts = Node("iso_parts", TEXT, (node,))
        ticks = Node("iso_ticks", INTEGER, (parts,))
        if wanted.kind is not FieldType.INSTANT:
            return Node("read_moment", wanted, (node, parts, ticks))
        here = Node("lenient_instant", INSTANT, (Node("iso_wall", TIMESTAMP, (ticks,)),), (timezone,))
        return Node("read_instant", wanted, (node, parts, ticks, here))
    if wanted.kind is FieldType.UUID:
        return Node("read_uuid", wanted, (node,))
    return Node("as_text", wanted, (node,)) if wanted.textual else None


@operation("as_text")
def _as_text(_node: Node, x: pl.Expr) -> Emitted:
    return x


@operation("fit_text")
def _fit_text(node: Node, x: pl.Expr) -> Emitted:
    return x, [(x.str.len_chars() > node.params[0], "a text is longer than its type allows")]


@operation("cast_number")
def _cast_number(node: Node, x: pl.Expr) -> Emitted:
    given, wanted = node.args[0].type, node.type
    digits = 0 if wanted.kind is FieldType.INTEGER else wanted.digits[1]
    if given.kind is FieldType.REAL:
        value = _whole(x) if wanted.kind is FieldType.INTEGER else _decimal_of_real(x, *wanted.digits)
    else:
        rounded = half_away(given.digits, x, digits) if given.digits[1] > digits else x
        value = rounded.cast(wanted.dtype, strict=False)
    return value, [(lost(value, x), OUT_OF_RANGE)]


def _whole(x: pl.Expr) -> pl.Expr:
    return x.round(0, mode="half_away_from_zero").cast(pl.Int64, strict=False)


def _decimal_of_real(x: pl.Expr, precision: int, scale: int) -> pl.Expr:
    # polars raises for the whole frame where a real does not fit a decimal, and makes 1000.00000000000009 of 1000.0:
    # the shortest text that stands for the real does neither.
    wide = max(scale, MAX_DIGITS - 1 - (precision - scale))
    value = x.cast(pl.String).cast(pl.Decimal(MAX_DIGITS, wide), strict=False)
    if wide > scale:
        value = half_away((MAX_DIGITS, wide), value, scale)
    return value.cast(pl.Decimal(precision, scale), strict=False)


@operation("from_boolean")
def _from_boolean(node: Node, x: pl.Expr) -> Emitted:
    return x.cast(pl.Int64).cast(node.type.dtype, strict=False)


@operation("to_boolean")
def _to_boolean(_node: Node, x: pl.Expr) -> Emitted:
    return x != 0


_TRUE = ("true", "t", "yes", "y", "on", "1")
_FALSE = ("false", "f", "no", "n", "off", "0")


@operation("read_boolean")
def _read_boolean(_node: Node, x: pl.Expr) -> Emitted:
    word = x.str.strip_chars().str.to_lowercase()
    no = pl.when(word.is_in(_FALSE)).then(pl.lit(value=False))
    value = pl.when(word.is_in(_TRUE)).then(pl.lit(value=True)).otherwise(no)
    return value, [(lost(value, x), "a text cannot be read as true or false")]


@operation("read_uuid")
def _read_uuid(_node: Node, x: pl.Expr) -> Emitted:
    word = x.str.strip_chars().str.to_lowercase()
    form = "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"
    return word, [(word.str.contains(form).not_(), "a text cannot be read as a UUID")]


NO_NUMBER = "a text cannot be read as a number"


@operation("read_number")
def _read_number(node: Node, x: pl.Expr) -> Emitted:
    word = x.str.strip_chars()
    kind = node.type.kind
    if kind is FieldType.INTEGER:
        good = word.str.contains(r"^[+-]?[0-9]+$")
        value = pl.when(good).then(word).cast(pl.Int64, strict=False)
        return value, [(good.not_(), NO_NUMBER), (lost(value, x), OUT_OF_RANGE)]
    good = word.str.contains(r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,4})?$")
    value = pl.when(good).then(word).cast(pl.Float64, strict=False)
    return value, [(good.not_(), NO_NUMBER), (lost(value, x) | value.is_infinite(), OUT_OF_RANGE)]


@operation("plain_number")
def _plain_number(_node: Node, x: pl.Expr) -> Emitted:
    return x.str.strip_chars().str.extract(r"^([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+))$")


@operation("read_decimal")
def _read_decimal(node: Node, x: pl.Expr, plain: pl.Expr) -> Emitted:
    scale = node.type.digits[1]
    # One digit more than is kept decides how to round, and no digit behind it can change that.
    spare = min(scale + 1, MAX_DIGITS)
    short = plain.str.extract(rf"^([+-]?[0-9]*\.?[0-9]{{0,{spare}}})")
    wide = short.cast(pl.Decimal(MAX_DIGITS, spare), strict=False)
    value = half_away((MAX_DIGITS, spare), wide, scale).cast(node.type.dtype, strict=False)
    return value, [(x.is_not_null() & plain.is_null(), NO_NUMBER), (lost(value, x), OUT_OF_RANGE)]


@operation("write_text")
def _write_text(node: Node, x: pl.Expr) -> Emitted:
    kind = node.args[0].type.kind
    if kind is FieldType.BOOLEAN:
        return pl.when(x).then(pl.lit("true")).when(x.not_()).then(pl.lit("false"))
    if kind is FieldType.TIMESTAMP:
        return x.dt.strftime("%Y-%m-%d %H:%M:%S%.f")
    if kind is FieldType.INSTANT:
        zone = str(node.params[0])
        return x.dt.convert_time_zone(zone).dt.strftime("%Y-%m-%d %H:%M:%S%.f%:z"), moments.beyond_wall(x, zone)
    if kind is FieldType.DATE:
        return x.dt.strftime("%Y-%m-%d")
    if kind is FieldType.TIME:
        return x.dt.strftime("%H:%M:%S%.f")
    return x.cast(pl.String)


@operation("cast_moment")
def _cast_moment(node: Node, x: pl.Expr) -> Emitted:
    zone = str(node.params[0])
    given, wanted = node.args[0].type.kind, node.type.kind
    checks: list[Check] = []
    if given is FieldType.INSTANT:
        checks = moments.beyond_wall(x, zone)
        x = moments.wall(x, zone)
    if wanted is FieldType.DATE:
        return x.cast(pl.Date), checks
    if wanted is FieldType.TIME:
        return x.cast(pl.Datetime("us")).dt.time(), checks
    return x.cast(pl.Datetime("us")), checks


@operation("to_instant")
def _to_instant(node: Node, x: pl.Expr) -> Emitted:
    return moments.instant(x, str(node.params[0]))


@operation("lenient_instant")
def _lenient_instant(node: Node, x: pl.Expr) -> Emitted:
    made = moments.instant(x, str(node.params[0]))
    return made[0] if isinstance(made, tuple) else made


@operation("iso_parts")
def _iso_parts(_node: Node, x: pl.Expr) -> Emitted:
    return moments.iso_parts(x)


@operation("iso_ticks")
def _iso_ticks(_node: Node, parts: pl.Expr) -> Emitted:
    return moments.wall_ticks(parts)


@operation("iso_wall")
def _iso_wall(_node: Node, ticks: pl.Expr) -> Emitted:
    return pl.when(ticks.is_between(moments.FIRST, moments.LAST)).then(ticks).cast(moments.WALL)


@operation("read_moment")
def _read_moment(node: Node, x: pl.Expr, parts: pl.Expr, ticks: pl.Expr) -> Emitted:
    return moments.read_iso(x, parts, ticks, node.type.kind)


@operation("read_instant")
def _read_instant(_node: Node, x: pl.Expr, parts: pl.Expr, ticks: pl.Expr, here: pl.Expr) -> Emitted:
    return moments.read_instant(x, parts.struct[2], ticks, here)
