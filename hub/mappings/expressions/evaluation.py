"""From typed trees to one prepared polars plan: values, and per record the error that follows the branch taken."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import polars as pl

from hub.mappings.expressions.functions import REGISTRY, Check
from hub.mappings.expressions.types import NOW, REASONS, Evaluated, Expression, Node, as_utc
from hub.sdk import FieldType

_CODE = pl.UInt16()
_SPILL_BYTES = 1_500
"""A sub-expression that serialises to more is computed once into a column, since its parents repeat it."""

_FEW_ROWS = 256
UNFORESEEN = "the expression could not be computed for this record"


@dataclass(frozen=True, slots=True)
class _Operand:
    """A node's value, its error code (None: it cannot fail) and the layer of columns that both need."""

    value: pl.Expr
    error: pl.Expr | None = None
    layer: int = 0


@dataclass
class Plan:
    """Columns to compute layer by layer, and the reasons behind the codes."""

    layers: list[list[pl.Expr]] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    _operands: dict[object, tuple[Node, _Operand]] = field(default_factory=dict)
    _known: dict[int, tuple[Node, object]] = field(default_factory=dict)
    _temporary: int = 0

    def code(self, reason: str) -> pl.Expr:
        """The literal that stands for a reason."""
        if reason not in self.reasons:
            self.reasons.append(reason)
        return pl.lit(self.reasons.index(reason), dtype=_CODE)

    def _key(self, node: Node) -> object:
        # Equal sub-trees of any of the expressions are computed once; a node is hashed by its parts' keys, not deeply.
        found = self._known.get(id(node))
        if found is None:
            key = (node.op, node.type, node.params, tuple(id(self.canonical(each)) for each in node.args))
            found = (node, key)
            self._known[id(node)] = found
        return found[1]

    def canonical(self, node: Node) -> Node:
        """The first node seen that equals this one."""
        key = self._key(node)
        return self._operands[key][0] if key in self._operands else self._emit(node, key)

    def _emit(self, node: Node, key: object) -> Node:
        lazy = _LAZY.get(node.op)
        operands = [self.operand(each) for each in node.args]
        made = lazy(self, node, operands) if lazy else self._strict(node, operands)
        self._operands[key] = (node, self._spill(made))
        return node

    def operand(self, node: Node) -> _Operand:
        """The value and error of a node."""
        return self._operands[self._key(self.canonical(node))][1]

    def _strict(self, node: Node, operands: Sequence[_Operand]) -> _Operand:
        value, checks = emit(node, operands)
        return _Operand(value, first([*(each.error for each in operands), self.codes(checks)]), top(operands))

    def codes(self, checks: Sequence[Check]) -> pl.Expr | None:
        """The code of the first check that holds."""
        return first([pl.when(bad).then(self.code(reason)) for bad, reason in checks])

    def _spill(self, made: _Operand) -> _Operand:
        value, layer = self._column(made.value, made.layer)
        if made.error is None:
            return _Operand(value, None, layer)
        error, below = self._column(made.error, made.layer)
        return _Operand(value, error, max(layer, below))

    def _column(self, expr: pl.Expr, layer: int) -> tuple[pl.Expr, int]:
        if len(expr.meta.serialize()) <= _SPILL_BYTES:
            return expr, layer
        name = f"_x{self._temporary}"
        self._temporary += 1
        while len(self.layers) <= layer:
            self.layers.append([])
        self.layers[layer].append(expr.alias(name))
        return pl.col(name), layer + 1


def emit(node: Node, operands: Sequence[_Operand]) -> tuple[pl.Expr, Sequence[Check]]:
    """The value of one strict operation and its own checks."""
    if node.op == "column":
        column = pl.col(str(node.params[0]))
        if node.type.kind is FieldType.REAL:
            return column, [(column.is_finite().not_(), f"field {node.params[0]!s} is not a finite number")]
        return column, []
    if node.op == "literal":
        return pl.lit(node.params[0], dtype=node.type.dtype), []
    if node.op == "null":
        return pl.lit(None, dtype=node.type.dtype), []
    if node.op == "now":
        return pl.col(NOW), []
    if node.op == "reasons":
        return pl.col(REASONS).list.head(int(str(node.params[0]))).list.join("; ", ignore_nulls=True), []
    made = REGISTRY.emitters[node.op](node, *(each.value for each in operands))
    return made if isinstance(made, tuple) else (made, [])


def first(errors: Sequence[pl.Expr | None]) -> pl.Expr | None:
    """The first error of several."""
    found = [each for each in errors if each is not None]
    return None if not found else found[0] if len(found) == 1 else pl.coalesce(found)


def top(operands: Sequence[_Operand]) -> int:
    """The highest layer needed."""
    return max((each.layer for each in operands), default=0)


_NONE = pl.lit(None, dtype=_CODE)


def _logic(_plan: Plan, node: Node, operands: Sequence[_Operand]) -> _Operand:
    """AND and OR look from left to right and stop where the answer is settled: what follows cannot fail then."""
    conjunction = node.op == "and"
    value = operands[0].value
    for each in operands[1:]:
        value = value & each.value if conjunction else value | each.value
    error: pl.Expr | None = None
    for each in reversed(operands):
        if error is not None:
            settled = each.value.not_() if conjunction else each.value
            error = pl.when(settled).then(_NONE).otherwise(error)
        error = first([each.error, error])
    return _Operand(value, error, top(operands))


def _case(_plan: Plan, _node: Node, operands: Sequence[_Operand]) -> _Operand:
    """The first condition that is true chooses; only conditions up to it and its own value can fail."""
    *branches, last = operands
    value, error = last.value, last.error
    for when, then in reversed(list(zip(branches[::2], branches[1::2], strict=True))):
        value = pl.when(when.value).then(then.value).otherwise(value)
        if then.error is not None or error is not None:
            chosen = then.error if then.error is not None else _NONE
            error = pl.when(when.value).then(chosen).otherwise(_NONE if error is None else error)
        error = first([when.error, error])
    return _Operand(value, error, top(operands))


def _coalesce(_plan: Plan, _node: Node, operands: Sequence[_Operand]) -> _Operand:
    """The first that is not null; those after it are not looked at."""
    error: pl.Expr | None = None
    for each in reversed(operands):
        if error is not None:
            error = pl.when(each.value.is_null()).then(error)
        error = first([each.error, error])
    return _Operand(pl.coalesce([each.value for each in operands]), error, top(operands))


def _attempt(plan: Plan, node: Node, _operands: Sequence[_Operand]) -> _Operand:
    """try_cast: what the cast itself cannot do gives null; an error in what is cast stays one."""
    inner = node.args[0]
    below = [plan.operand(each) for each in inner.args]
    value, checks = emit(inner, below)
    for bad, _ in checks:
        value = pl.when(bad).then(None).otherwise(value)
    return _Operand(value, first([each.error for each in below]), top(below))


_LAZY = {"and": _logic, "or": _logic, "case": _case, "coalesce": _coalesce, "attempt": _attempt}


@dataclass(frozen=True)
class Prepared:
    """A set of expressions as one plan, made once and run on frames of any size."""

    expressions: Mapping[str, Expression]
    uses_now: bool
    _layers: tuple[tuple[pl.Expr, ...], ...]
    _values: tuple[pl.Expr, ...]
    _errors: Mapping[str, pl.Expr]
    _failed: pl.Expr | None
    _reasons: tuple[str, ...]
    _names: tuple[str, ...]

    def evaluate(self, frame: pl.DataFrame, *, now: datetime) -> Evaluated:
        """Values and errors, row by row; the frame needs the columns that the expressions read, typed as declared.

        A row that polars refuses for a reason nobody foresaw is found by halving and put in error; the rest stands.
        """
        moment = as_utc(now).astimezone(UTC)
        try:
            return self._run(frame, moment)
        except pl.exceptions.PolarsError:
            if frame.height == 0:
                raise
            return self._halve(frame, moment)

    def _run(self, frame: pl.DataFrame, now: datetime) -> Evaluated:
        lazy = frame.lazy()
        if self.uses_now:
            lazy = lazy.with_columns(pl.lit(now, dtype=pl.Datetime("us", "UTC")).alias(NOW))
        for layer in self._layers:
            lazy = lazy.with_columns(layer)
        wanted = [*self._values, self._failed] if self._failed is not None else list(self._values)
        out = _compute(lazy, wanted, frame.height, self._names)
        if self._failed is None or not out[_FAILED].any():
            values = out if self._failed is None else out.drop(_FAILED)
            return Evaluated(values, pl.repeat(None, frame.height, dtype=pl.String, eager=True).alias("errors"))
        return self._with_errors(out, lazy)

    def _with_errors(self, out: pl.DataFrame, lazy: pl.LazyFrame) -> Evaluated:
        named = [each.alias(name) for name, each in self._errors.items()]
        codes = _compute(lazy, named, out.height, list(self._errors))
        numbers = range(len(self._reasons))
        reasons = [
            pl.col(name).replace_strict(
                numbers, [f"{name}: {each}" for each in self._reasons], return_dtype=pl.String, default=None
            )
            for name in self._errors
        ]
        masked = [
            pl.when(codes[name].is_null()).then(pl.col(name)).alias(name) if name in self._errors else pl.col(name)
            for name in self.expressions
        ]
        return Evaluated(out.select(masked), codes.select(pl.coalesce(reasons).alias("errors")).to_series())

    def _halve(self, frame: pl.DataFrame, now: datetime) -> Evaluated:
        if frame.height == 1:
            return self._unforeseen(frame, now)
        middle = frame.height // 2
        halves = [self.evaluate(each, now=now) for each in (frame[:middle], frame[middle:])]
        return Evaluated(pl.concat([each.values for each in halves]), pl.concat([each.errors for each in halves]))

    def _unforeseen(self, frame: pl.DataFrame, now: datetime) -> Evaluated:
        if len(self.expressions) > 1:
            singles = [prepare({name: each}).evaluate(frame, now=now) for name, each in self.expressions.items()]
            errors = [each.errors[0] for each in singles if each.errors[0] is not None]
            return Evaluated(
                pl.concat([each.values for each in singles], how="horizontal"),
                pl.Series("errors", errors[:1] or [None], pl.String),
            )
        schema = {name: each.type.dtype for name, each in self.expressions.items()}
        (name,) = schema
        return Evaluated(
            pl.DataFrame({name: [None]}, schema=schema), pl.Series("errors", [f"{name}: {UNFORESEEN}"], pl.String)
        )


_FAILED = "_failed"
_FEW = pl.QueryOptFlags.none()
_MANY = pl.QueryOptFlags()


def _compute(lazy: pl.LazyFrame, wanted: Sequence[pl.Expr], height: int, names: Sequence[str]) -> pl.DataFrame:
    # with_columns, not select alone: an expression of literals only must have the height of the frame.
    few = height < _FEW_ROWS
    return lazy.with_columns(wanted).select(names).collect(optimizations=_FEW if few else _MANY)


def prepare(expressions: Mapping[str, Expression]) -> Prepared:
    """One plan for all the expressions, to be kept and used again."""
    plan = Plan()
    operands = {name: plan.operand(each.tree) for name, each in expressions.items()}
    errors = {name: each.error for name, each in operands.items() if each.error is not None}
    failed = first(list(errors.values()))
    return Prepared(
        expressions=dict(expressions),
        uses_now=any(each.uses_now for each in expressions.values()),
        _layers=tuple(tuple(each) for each in plan.layers),
        _values=tuple(operands[name].value.cast(each.type.dtype).alias(name) for name, each in expressions.items()),
        _errors=errors,
        _failed=failed.is_not_null().alias(_FAILED) if failed is not None else None,
        _reasons=tuple(plan.reasons),
        _names=(*expressions, *([_FAILED] if failed is not None else [])),
    )


def evaluate(frame: pl.DataFrame, expressions: Mapping[str, Expression], *, now: datetime) -> Evaluated:
    """Values and errors of some expressions on a frame; `prepare` them where they are used more than once."""
    return prepare(expressions).evaluate(frame, now=now)
