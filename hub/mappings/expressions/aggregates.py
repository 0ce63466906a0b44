"""Aggregates of a lookup, folded page by page: partial results per key, merged as they come, finished once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from hashlib import sha256
from typing import Literal

import polars as pl
from sqlglot import exp

from hub.mappings.expressions.checking import AGGREGATE_NAMES, Checker, check_timezone, expected, finish, nearest
from hub.mappings.expressions.evaluation import Prepared, evaluate, prepare
from hub.mappings.expressions.functions import REGISTRY, Emitted, Function
from hub.mappings.expressions.functions.conversions import coerce
from hub.mappings.expressions.functions.numbers import OUT_OF_RANGE, finite, lost
from hub.mappings.expressions.functions.registry import operation
from hub.mappings.expressions.syntax import parse, split_order
from hub.mappings.expressions.types import (
    BOOLEAN,
    INTEGER,
    MAX_DIGITS,
    REAL,
    Evaluated,
    Expression,
    ExpressionError,
    Node,
    ValueType,
    literal,
)
from hub.sdk import FieldType

Kind = Literal["rows", "count", "distinct", "sum", "min", "max", "spread"]
_PENDING_ROWS = 50_000


@dataclass(frozen=True)
class Part:
    """One thing that is folded: which kind, of which value (None: of the rows themselves), under which column name."""

    name: str
    kind: Kind
    value: Expression | None


@dataclass(frozen=True)
class Aggregate:
    """A compiled aggregate: the parts to fold, and the expression over them that gives the result.

    `columns` are the fields read of the records looked up, `functions` those used inside and outside.
    """

    text: str
    type: ValueType
    columns: frozenset[str]
    functions: frozenset[str]
    uses_now: bool
    parts: tuple[Part, ...]
    result: Expression = field(repr=False)

    def partial(self, frame: pl.DataFrame, by: Sequence[str], *, now: datetime) -> pl.DataFrame:
        """The partial results of one page, one row per key."""
        return _partial(self.parts, prepare(_inner(self.parts)), frame, by, now)

    def merge(self, left: pl.DataFrame, right: pl.DataFrame, by: Sequence[str]) -> pl.DataFrame:
        """Two partial results as one."""
        return _merge(self.parts, pl.concat([left, right]), by)

    def finish(self, partial: pl.DataFrame, *, now: datetime) -> Evaluated:
        """The result per row of a partial frame, in a column `value`."""
        return _finish({"value": self}, partial, now)


@dataclass(frozen=True, slots=True)
class Folded:
    """Results of a fold: `keys` and, row for row beside them, `values` (one column per aggregate) and `errors`."""

    keys: pl.DataFrame
    values: pl.DataFrame
    errors: pl.Series


class Fold:
    """Some aggregates over the same records, by the same key; holds one row per key, whatever the number of pages.

    A record with a null in its key belongs to nobody and is left out. A key that never came has no row: its sums are
    null and its counts 0, as `empty` says. count(distinct x) holds the distinct values besides.
    """

    def __init__(self, aggregates: Mapping[str, Aggregate], by: Sequence[str], *, now: datetime) -> None:
        self._aggregates = dict(aggregates)
        self._by = list(by)
        self._now = now
        self._parts = tuple({part.name: part for each in aggregates.values() for part in each.parts}.values())
        self._inner = prepare(_inner(self._parts))
        self._folded: pl.DataFrame | None = None
        self._pending: list[pl.DataFrame] = []

    def add(self, frame: pl.DataFrame) -> None:
        """Takes one page in."""
        self._pending.append(_partial(self._parts, self._inner, frame, self._by, self._now))
        waiting = sum(each.height for each in self._pending)
        if self._folded is None or waiting >= max(_PENDING_ROWS, self._folded.height):
            self._settle()

    def result(self) -> Folded:
        """What all pages together give. A fold that never saw a page has no key columns to tell of: ValueError."""
        self._settle()
        if self._folded is None:
            raise ValueError("a fold has no result before its first page, which may be empty")
        done = _finish(self._aggregates, self._folded, self._now)
        return Folded(self._folded.select(self._by), done.values, done.errors)

    def empty(self) -> pl.DataFrame:
        """One row: what each aggregate is over no records at all."""
        row = pl.DataFrame({each.name: _none(each) for each in self._parts})
        return _finish(self._aggregates, row, self._now).values

    def _settle(self) -> None:
        frames = [*([self._folded] if self._folded is not None else []), *self._pending]
        if len(frames) > 1 or (frames and self._folded is None):
            self._folded = _merge(self._parts, pl.concat(frames), self._by)
        self._pending = []


def compile_aggregate(
    text: str,
    names: Mapping[str, ValueType],
    *,
    timezone: str = "UTC",
    expect: ValueType | None = None,
    functions: Mapping[str, Function] | None = None,
) -> Aggregate:
    """Compiles count, sum, min, max, avg and stddev of expressions over `names`, and any expression around them.

    Nulls are ignored; over no value at all a count is 0 and anything else null. ExpressionError, and no other.
    """
    check_timezone(timezone, text)
    known = {**REGISTRY.functions, **(functions or {})}
    collector = _Collector(names)
    checker = Checker(text, {}, timezone, known, aggregates=collector.take, outside=names)
    node = checker.check(parse(text, aggregate=True))
    if not collector.parts:
        raise ExpressionError("an aggregate is needed here: count, sum, min, max, avg or stddev", text=text)
    if expect is not None:
        node = expected(checker, node, expect)
    result = finish(checker, node)
    inner = [each.value for each in collector.parts.values() if each.value is not None]
    return Aggregate(
        text=text,
        type=node.type,
        columns=frozenset().union(*(each.columns for each in inner)),
        functions=result.functions | frozenset().union(*(each.functions for each in inner)),
        uses_now=result.uses_now or any(each.uses_now for each in inner),
        parts=tuple(collector.parts.values()),
        result=result,
    )


@dataclass
class _Collector:
    """Takes the aggregates out of a tree and leaves columns of the partial frame in their place."""

    names: Mapping[str, ValueType]
    parts: dict[str, Part] = field(default_factory=dict)

    def take(self, checker: Checker, tree: exp.Anonymous) -> Node | None:
        name = tree.name.lower()
        args = tree.expressions
        if name not in AGGREGATE_NAMES:
            return None
        checker.used.add(name)
        if len(args) != 1:
            raise checker.fail(f"{name} takes one argument", tree)
        if isinstance(args[0], exp.Star):
            if name != "count":
                raise checker.fail("'*' is allowed only in count(*)", tree)
            return self._count("rows", "*", None)
        if isinstance(args[0], exp.Distinct):
            if name != "count" or len(args[0].expressions) != 1:
                raise checker.fail("DISTINCT is allowed only in count(distinct x)", tree)
            return self._count("distinct", *self._inner(checker, args[0].expressions[0]))
        source, value = self._inner(checker, args[0])
        if name == "count":
            return self._count("count", source, value)
        return self._folded(checker, tree, name, source, value)

    def _inner(self, checker: Checker, tree: exp.Expr) -> tuple[str, Expression]:
        inside = Checker(checker.text, self.names, checker.timezone, checker.functions, aggregates=_nested)
        return tree.sql(), finish(inside, inside.check(tree))

    def _part(self, kind: Kind, source: str, value: Expression | None) -> str:
        # The same text inside two aggregates of a lookup is folded once.
        zone = value.timezone if value is not None else ""
        name = f"_{kind}_{sha256(f'{source}|{zone}'.encode()).hexdigest()[:16]}"
        self.parts.setdefault(name, Part(name, kind, value))
        return name

    def _count(self, kind: Kind, source: str, value: Expression | None) -> Node:
        return Node("folded_count", INTEGER, (_column(self._part(kind, source, value), INTEGER),))

    def _folded(self, checker: Checker, tree: exp.Expr, name: str, source: str, value: Expression) -> Node:
        given = value.type
        if name in ("min", "max"):
            if given.kind in (FieldType.BOOLEAN, FieldType.BYTES, None):
                raise checker.fail(f"{name} needs values with an order, not {given}", tree)
            column = _column(self._part("min" if name == "min" else "max", source, value), given)
            return Node("folded_extreme", given, (column,))
        if not given.numeric:
            raise checker.fail(f"{name} needs numbers, not {given}", tree)
        if name == "stddev":
            real = replace(value, type=REAL, tree=coerce(value.tree, REAL, checker.timezone))
            return Node("folded_spread", REAL, (_column(self._part("spread", source, real), REAL),))
        scale = given.digits[1]
        wide = ValueType.decimal(MAX_DIGITS, scale) if given.kind is FieldType.DECIMAL else given
        column = _column(self._part("sum", source, value), wide)
        if name == "sum":
            return Node("folded_sum", wide, (column,))
        count = self._count("count", source, value)
        none = Node("eq", BOOLEAN, (count, literal(0, INTEGER)))
        mean = Node("folded_mean", REAL, (column, count))
        return Node("case", REAL, (none, Node("null", REAL), mean))


def _nested(checker: Checker, tree: exp.Anonymous) -> Node | None:
    if tree.name.lower() in AGGREGATE_NAMES:
        raise checker.fail("an aggregate cannot stand inside another", tree)
    return None


def _column(name: str, kind: ValueType) -> Node:
    return Node("part", kind, (), (name,))


@operation("part")
def _part(node: Node) -> Emitted:
    return pl.col(str(node.params[0]))


@operation("folded_count")
@operation("folded_extreme")
def _folded_value(_node: Node, x: pl.Expr) -> Emitted:
    return x.struct.field("v")


def _decimal_of(ticks: pl.Expr, scale: int) -> pl.Expr:
    """A decimal of its unscaled 128-bit number; the two halves are added because there is no cast for it."""
    step = 10**scale
    size = pl.when(ticks < 0).then(pl.lit(0, dtype=pl.Int128) - ticks).otherwise(ticks)
    wide = pl.Decimal(MAX_DIGITS, scale)
    whole = (size // step).cast(wide, strict=False)
    value = whole
    if scale:
        rest = (size % step).cast(pl.Decimal(MAX_DIGITS, 0))
        value = whole + rest * pl.lit(Decimal(1).scaleb(-scale), dtype=wide)
    return pl.when(ticks < 0).then(-value).otherwise(value)


@operation("folded_sum")
def _folded_sum(node: Node, x: pl.Expr) -> Emitted:
    value = pl.when(x.struct.field("n") > 0).then(x.struct.field("v"))
    if node.type.kind is FieldType.REAL:
        return value, finite(value)
    if node.type.kind is FieldType.INTEGER:
        narrow = value.cast(pl.Int64, strict=False)
        return narrow, [(lost(narrow, value), OUT_OF_RANGE)]
    # Sums of decimals are made of their unscaled numbers, since polars wraps a decimal sum without a word; the sum of
    # their sizes in floating point tells when even 128 bits were not enough.
    beyond = x.struct.field("r") >= 10.0**MAX_DIGITS * (1 - 1e-9)
    return _decimal_of(pl.when(beyond.not_()).then(value), node.type.digits[1]), [(beyond, OUT_OF_RANGE)]


@operation("folded_mean")
def _folded_mean(node: Node, x: pl.Expr, count: pl.Expr) -> Emitted:
    kind = node.args[0].type
    total = x.struct.field("v").cast(pl.Float64)
    if kind.kind is FieldType.DECIMAL:
        total = total / 10.0 ** kind.digits[1]
    value = total / count
    checks = finite(value)
    if kind.kind is FieldType.DECIMAL:
        checks = [(x.struct.field("r") >= 10.0**MAX_DIGITS * (1 - 1e-9), OUT_OF_RANGE), *checks]
    return value, checks


@operation("folded_spread")
def _folded_spread(_node: Node, x: pl.Expr) -> Emitted:
    count = x.struct.field("n")
    value = (x.struct.field("q").clip(lower_bound=0.0) / (count - 1)).sqrt()
    return pl.when(count > 1).then(value), [((count > 1) & value.is_finite().not_(), OUT_OF_RANGE)]


def _inner(parts: Sequence[Part]) -> dict[str, Expression]:
    return {each.name: each.value for each in parts if each.value is not None}


def _partial(
    parts: Sequence[Part], prepared: Prepared, frame: pl.DataFrame, by: Sequence[str], now: datetime
) -> pl.DataFrame:
    frame = frame.filter(pl.all_horizontal(pl.col(each).is_not_null() for each in by)) if by else frame
    inner = prepared.expressions
    keys = frame.select(pl.col(name).alias(f"_k{at}") for at, name in enumerate(by))
    errors: dict[str, pl.Series] = {}
    if inner:
        done = prepared.evaluate(frame, now=now)
        if done.errors.null_count() < frame.height:
            # Whose record is in error matters to one aggregate, not to its neighbours.
            errors = {name: evaluate(frame, {name: each}, now=now).errors for name, each in inner.items()}
        keys = keys.hstack(done.values)
    else:
        keys = keys if keys.width else frame.select(pl.lit(0).alias("_row"))
    none = pl.lit(None, dtype=pl.String)
    keys = keys.with_columns(
        [(pl.lit(errors[name]).str.strip_prefix(f"{name}: ") if name in errors else none).alias(f"_e{name}")
         for name in inner]
    )  # fmt: skip
    grouped = [f"_k{at}" for at in range(len(by))]
    wanted = [_first_of(each).alias(each.name) for each in parts]
    out = keys.group_by(grouped, maintain_order=True).agg(wanted) if grouped else keys.select(wanted)
    return out.rename({f"_k{at}": name for at, name in enumerate(by)})


def _first_of(part: Part) -> pl.Expr:
    """The partial struct of one part over the rows of a group: `v` the value, `e` the first error, and more."""
    if part.kind == "rows":
        return pl.struct(pl.len().cast(pl.Int64).alias("v"), pl.lit(None, dtype=pl.String).alias("e"))
    x = pl.col(part.name)
    assert part.value is not None
    kind = part.value.type.kind
    error = pl.col(f"_e{part.name}").drop_nulls().first().alias("e")
    count = x.count().cast(pl.Int64)
    if part.kind == "count":
        return pl.struct(count.alias("v"), error)
    if part.kind == "distinct":
        return pl.struct(x.drop_nulls().unique(maintain_order=True).implode().alias("u"), error)
    if part.kind in ("min", "max"):
        return pl.struct((x.min() if part.kind == "min" else x.max()).alias("v"), error)
    if part.kind == "spread":
        mean = x.mean()
        squares = ((x - mean) ** 2).sum()
        return pl.struct(count.alias("n"), mean.fill_null(0.0).alias("m"), squares.alias("q"), error)
    total = {
        FieldType.INTEGER: lambda: x.cast(pl.Int128).sum(),
        FieldType.DECIMAL: lambda: x.to_physical().cast(pl.Int128).sum(),
        FieldType.REAL: x.sum,
    }[kind or FieldType.INTEGER]()
    size = [x.to_physical().cast(pl.Float64).abs().sum().alias("r")] if kind is FieldType.DECIMAL else []
    return pl.struct(total.alias("v"), count.alias("n"), *size, error)


def _merge(parts: Sequence[Part], frame: pl.DataFrame, by: Sequence[str]) -> pl.DataFrame:
    wanted = [_merged(each).alias(each.name) for each in parts]
    return frame.group_by(list(by), maintain_order=True).agg(wanted) if by else frame.select(wanted)


def _merged(part: Part) -> pl.Expr:
    def of(name: str) -> pl.Expr:
        return pl.col(part.name).struct.field(name)

    error = of("e").drop_nulls().first().alias("e")
    if part.kind in ("rows", "count"):
        return pl.struct(of("v").sum().alias("v"), error)
    if part.kind == "distinct":
        return pl.struct(of("u").list.explode().drop_nulls().unique(maintain_order=True).implode().alias("u"), error)
    if part.kind in ("min", "max"):
        return pl.struct((of("v").min() if part.kind == "min" else of("v").max()).alias("v"), error)
    if part.kind == "spread":
        # Chan, Golub and LeVeque (1983): squares about the common mean from those about each part's own.
        total = of("n").sum()
        mean = (of("m") * of("n")).sum() / pl.when(total > 0).then(total).otherwise(1)
        squares = of("q").sum() + (of("n") * (of("m") - mean) ** 2).sum()
        return pl.struct(total.alias("n"), mean.alias("m"), squares.alias("q"), error)
    assert part.value is not None
    size = [of("r").sum().alias("r")] if part.value.type.kind is FieldType.DECIMAL else []
    return pl.struct(of("v").sum().alias("v"), of("n").sum().alias("n"), *size, error)


def _none(part: Part) -> pl.Series:
    """The struct of a part over no rows."""
    schema = {part.name: part.value.type.dtype} if part.value is not None else {"_row": pl.Int64()}
    rows = pl.DataFrame(schema=schema).with_columns(pl.lit(None, dtype=pl.String).alias(f"_e{part.name}"))
    return rows.select(_first_of(part).alias(part.name)).to_series()


def _finish(aggregates: Mapping[str, Aggregate], partial: pl.DataFrame, now: datetime) -> Evaluated:
    distinct = {each.name for agg in aggregates.values() for each in agg.parts if each.kind == "distinct"}
    counted = [
        pl.struct(
            pl.col(name).struct.field("u").list.len().cast(pl.Int64).alias("v"), pl.col(name).struct.field("e")
        ).alias(name)
        for name in distinct
    ]
    frame = partial.with_columns(counted)
    done = prepare({name: each.result for name, each in aggregates.items()}).evaluate(frame, now=now)
    failed = {
        name: pl.coalesce([pl.col(part.name).struct.field("e") for part in each.parts])
        for name, each in aggregates.items()
    }
    inside = frame.select(each.alias(name) for name, each in failed.items())
    if all(inside[name].null_count() == inside.height for name in failed):
        return done
    errors = pl.coalesce([*(pl.lit(f"{name}: ") + pl.col(name) for name in failed), pl.lit(done.errors)])
    values = [pl.when(inside[name].is_null()).then(pl.col(name)).alias(name) for name in failed]
    return Evaluated(done.values.select(values), inside.select(errors.alias("errors")).to_series())


@dataclass(frozen=True, slots=True)
class OrderKey:
    """One column to order by; nulls come last whichever way, unless asked for first."""

    column: str
    descending: bool = False
    nulls_last: bool = True


def compile_order(text: str, names: Mapping[str, ValueType]) -> tuple[OrderKey, ...]:
    """Reads `CreatedDate desc, Id`: fields with asc or desc, and nulls first or last. ExpressionError if not that."""
    keys = []
    for part in split_order(text):
        words = part.split()
        nulls_last = True
        if len(words) > 2 and words[-2].lower() == "nulls" and words[-1].lower() in ("first", "last"):
            nulls_last = words[-1].lower() == "last"
            words = words[:-2]
        descending = len(words) > 1 and words[-1].lower() == "desc"
        if len(words) > 1 and words[-1].lower() in ("asc", "desc"):
            words = words[:-1]
        name = " ".join(words)
        name = name[1:-1].replace('""', '"') if len(name) > 1 and name[0] == name[-1] == '"' else name
        if name not in names:
            raise ExpressionError(
                f"order takes fields such as CreatedDate desc, and {name or 'nothing'} is none"
                f"{nearest(name, list(names))}",
                text=text,
            )
        if names[name].kind in (FieldType.BYTES, FieldType.JSON, None):
            raise ExpressionError(f"order: field {name} holds {names[name]}, which has no order", text=text)
        keys.append(OrderKey(name, descending, nulls_last))
    return tuple(keys)


_ROWS = "_rows"


class First:
    """The first record per key in an order, kept page by page; without an order, the first that came.

    Of equals the first that came is kept. `result` has the columns of the pages and `_rows`, the records of a key.
    """

    def __init__(self, order: Sequence[OrderKey], by: Sequence[str]) -> None:
        self._order = tuple(order)
        self._by = list(by)
        self._kept: pl.DataFrame | None = None
        self._pending: list[pl.DataFrame] = []

    def add(self, frame: pl.DataFrame) -> None:
        """Takes one page in; records with a null in their key belong to nobody."""
        known = frame.filter(pl.all_horizontal(pl.col(each).is_not_null() for each in self._by))
        self._pending.append(known.with_columns(pl.lit(1, dtype=pl.Int64).alias(_ROWS)))
        waiting = sum(each.height for each in self._pending)
        if self._kept is None or waiting >= max(_PENDING_ROWS, self._kept.height):
            self._settle()

    def result(self) -> pl.DataFrame:
        """One row per key. ValueError before the first page, which may be empty."""
        self._settle()
        if self._kept is None:
            raise ValueError("there is no result before the first page, which may be empty")
        return self._kept

    def _settle(self) -> None:
        frames = [*([self._kept] if self._kept is not None else []), *self._pending]
        self._pending = []
        if not frames:
            return
        frame = pl.concat(frames)
        if self._order:
            # NaN has no place in an order: it counts as null.
            columns = [
                pl.col(each.column).fill_nan(None) if frame.schema[each.column].is_float() else pl.col(each.column)
                for each in self._order
            ]
            frame = frame.sort(
                columns,
                descending=[each.descending for each in self._order],
                nulls_last=[each.nulls_last for each in self._order],
                maintain_order=True,
            )
        others = [pl.col(each).first() for each in frame.columns if each not in (*self._by, _ROWS)]
        grouped = frame.group_by(self._by, maintain_order=True).agg([*others, pl.col(_ROWS).sum()])
        self._kept = grouped.select(frame.columns)
