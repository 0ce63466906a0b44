"""From typed trees to one prepared polars plan: values, and per record the error that follows the branch taken."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import polars as pl

from hub.logs import Log
from hub.mappings.expressions.functions import REGISTRY, Check
from hub.mappings.expressions.types import NOW, REASONS, Evaluated, Expression, Node, as_utc
from hub.sdk import FieldType

_CODE = pl.UInt16()
_SPILL_BYTES = 1_500
"""A sub-expression that serialises to more is computed once into a column, since its parents repeat it."""

_SHARED = frozenset({"iso_parts", "iso_ticks", "iso_wall", "plain_number"})
"""Costly operations whose parents look at them many times over: computed once into a column, however small."""

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
    """Columns to compute layer by layer, the reasons behind the codes, and every check there is.

    `checks` holds the conditions of all operations, whatever branch they stand in: where none is true no record can
    be in error, and the exact codes need not be computed.
    """

    now: pl.Expr
    layers: list[list[pl.Expr]] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    checks: list[pl.Expr] = field(default_factory=list)
    _interned: dict[object, Node] = field(default_factory=dict)
    _canonical: dict[int, tuple[Node, Node]] = field(default_factory=dict)
    _operands: dict[int, _Operand] = field(default_factory=dict)
    _temporary: int = 0

    def code(self, reason: str) -> pl.Expr:
        """The literal that stands for a reason."""
        if reason not in self.reasons:
            self.reasons.append(reason)
        return pl.lit(self.reasons.index(reason), dtype=_CODE)

    def canonical(self, node: Node) -> Node:
        """The first node seen that equals this one: equal sub-trees of any of the expressions are computed once."""
        found = self._canonical.get(id(node))
        if found is None:
            # By identity of the parts: to hash or compare whole trees would take exponential time where they share.
            key = (node.op, node.type, node.params, tuple(id(self.canonical(each)) for each in node.args))
            found = (node, self._interned.setdefault(key, node))
            self._canonical[id(node)] = found
        return found[1]

    def operand(self, node: Node) -> _Operand:
        """The value and error of a node."""
        node = self.canonical(node)
        if id(node) not in self._operands:
            self._operands[id(node)] = self._spill(self._emit(node), always=node.op in _SHARED)
        return self._operands[id(node)]

    def _emit(self, node: Node) -> _Operand:
        if node.op == "attempt":
            return _attempt(self, node)
        operands = [self.operand(each) for each in node.args]
        lazy = _LAZY.get(node.op)
        return lazy(operands, node) if lazy else self._strict(node, operands)

    def _strict(self, node: Node, operands: Sequence[_Operand]) -> _Operand:
        value, checks = emit(node, operands, self.now)
        self.checks.extend(bad for bad, _ in checks)
        return _Operand(value, first([*(each.error for each in operands), self.codes(checks)]), top(operands))

    def codes(self, checks: Sequence[Check]) -> pl.Expr | None:
        """The code of the first check that holds."""
        return first([pl.when(bad).then(self.code(reason)) for bad, reason in checks])

    def _spill(self, made: _Operand, *, always: bool) -> _Operand:
        value, layer = self._column(made.value, made.layer, always=always)
        if made.error is None:
            return _Operand(value, None, layer)
        error, below = self._column(made.error, made.layer)
        return _Operand(value, error, max(layer, below))

    def _column(self, expr: pl.Expr, layer: int, *, always: bool = False) -> tuple[pl.Expr, int]:
        if not always and len(expr.meta.serialize()) <= _SPILL_BYTES:
            return expr, layer
        name = f"_x{self._temporary}"
        self._temporary += 1
        while len(self.layers) <= layer:
            self.layers.append([])
        self.layers[layer].append(expr.alias(name))
        return pl.col(name), layer + 1


def emit(node: Node, operands: Sequence[_Operand], now: pl.Expr) -> tuple[pl.Expr, Sequence[Check]]:
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
        return now, []
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


def _logic(operands: Sequence[_Operand], node: Node) -> _Operand:
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


def _case(operands: Sequence[_Operand], _node: Node) -> _Operand:
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


def _coalesce(operands: Sequence[_Operand], _node: Node) -> _Operand:
    """The first that is not null; those after it are not looked at."""
    error: pl.Expr | None = None
    for each in reversed(operands):
        if error is not None:
            error = pl.when(each.value.is_null()).then(error)
        error = first([each.error, error])
    return _Operand(pl.coalesce([each.value for each in operands]), error, top(operands))


def _attempt(plan: Plan, node: Node) -> _Operand:
    """try_cast: what the cast itself cannot do gives null; an error in what is cast stays one."""
    inner = node.args[0]
    below = [plan.operand(each) for each in inner.args]
    value, checks = emit(inner, below, plan.now)
    for bad, _ in checks:
        value = pl.when(bad).then(None).otherwise(value)
    return _Operand(value, first([each.error for each in below]), top(below))


_LAZY = {"and": _logic, "or": _logic, "case": _case, "coalesce": _coalesce}


@dataclass(frozen=True)
class _Built:
    """A plan that is ready to run: layers of columns, the values, the check of all checks, and the exact codes."""

    layers: tuple[tuple[pl.Expr, ...], ...]
    values: tuple[pl.Expr, ...]
    errors: Mapping[str, pl.Expr]
    suspect: pl.Expr | None
    reasons: tuple[str, ...]


def _build(expressions: Mapping[str, Expression], now: pl.Expr) -> _Built:
    plan = Plan(now)
    operands = {name: plan.operand(each.tree) for name, each in expressions.items()}
    errors = {name: each.error for name, each in operands.items() if each.error is not None}
    return _Built(
        layers=tuple(tuple(each) for each in plan.layers),
        values=tuple(operands[name].value.cast(each.type.dtype).alias(name) for name, each in expressions.items()),
        errors=errors,
        suspect=pl.any_horizontal(plan.checks).alias(_SUSPECT) if errors and plan.checks else None,
        reasons=tuple(plan.reasons),
    )


class Prepared:
    """A set of expressions as one plan, made once and run on frames of any size, by any number of threads."""

    def __init__(self, expressions: Mapping[str, Expression]) -> None:
        self.expressions: Mapping[str, Expression] = dict(expressions)
        self.uses_now = any(each.uses_now for each in expressions.values())
        self._any_time = _build(expressions, pl.col(NOW))
        self._at: tuple[datetime, _Built] | None = None
        self._no_error = pl.Series("errors", [None], pl.String)

    def evaluate(self, frame: pl.DataFrame, *, now: datetime) -> Evaluated:
        """Values and errors, row by row; the frame needs the columns that the expressions read, typed as declared.

        A row that polars refuses for a reason nobody foresaw is found by halving and put in error; the rest stands.
        """
        moment = as_utc(now).astimezone(UTC)
        try:
            return self._run(frame, moment)
        except _UNFORESEEN_ERRORS as error:
            # A column that is missing or of another type is the caller's fault, not that of some record.
            if frame.height == 0 or not self._typed(frame):
                raise
            _LOG.warning("expression_unforeseen", rows=frame.height, error=type(error).__name__)
            return self._halve(frame, moment)

    def _typed(self, frame: pl.DataFrame) -> bool:
        nodes = (node for each in self.expressions.values() for node in each.tree.walk() if node.op == "column")
        return all(frame.schema.get(str(node.params[0])) == node.type.dtype for node in nodes)

    def _run(self, frame: pl.DataFrame, now: datetime) -> Evaluated:
        few = frame.height < _FEW_ROWS
        built = self._any_time if few or not self.uses_now else self._bound(now)
        if self.uses_now and few:
            frame = frame.hstack([_moment(now, frame.height)])
        if built.layers:
            frame = _layered(frame, built.layers)
        wanted = built.values if built.suspect is None else [*built.values, built.suspect]
        out = _compute(frame, wanted)
        if built.suspect is None:
            return Evaluated(out, self._fine(frame.height))
        suspect = out.drop_in_place(_SUSPECT)
        return self._with_errors(built, frame, out) if suspect.any() else Evaluated(out, self._fine(frame.height))

    def _bound(self, now: datetime) -> _Built:
        # With the time as a constant what depends on nothing else is computed once, not for every row.
        found = self._at
        if found is None or found[0] != now:
            found = (now, _build(self.expressions, pl.lit(now, dtype=_INSTANT)))
            self._at = found
        return found[1]

    def _fine(self, height: int) -> pl.Series:
        return self._no_error if height == 1 else self._no_error.new_from_index(0, height)

    def _with_errors(self, built: _Built, frame: pl.DataFrame, out: pl.DataFrame) -> Evaluated:
        codes = _compute(frame, [each.alias(name) for name, each in built.errors.items()])
        numbers = range(len(built.reasons))
        reasons = [
            pl.col(name).replace_strict(
                numbers, [f"{name}: {each}" for each in built.reasons], return_dtype=pl.String, default=None
            )
            for name in built.errors
        ]
        masked = [
            pl.when(codes[name].is_null()).then(pl.col(name)).alias(name) if name in built.errors else pl.col(name)
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


_LOG = Log("expressions")
_UNFORESEEN_ERRORS = (
    pl.exceptions.PolarsError,
    pl.exceptions.PanicException,
    ArithmeticError,
    AttributeError,
    TypeError,
    ValueError,
)
_SUSPECT = "_suspect"
_INSTANT = pl.Datetime("us", "UTC")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _moment(now: datetime, height: int) -> pl.Series:
    # polars takes ten times as long to make a Series of an aware datetime as of a number.
    ticks = (now - _EPOCH) // timedelta(microseconds=1)
    return pl.Series(NOW, [ticks], pl.Int64).new_from_index(0, height).cast(_INSTANT)


def _layered(frame: pl.DataFrame, layers: Sequence[Sequence[pl.Expr]]) -> pl.DataFrame:
    lazy = frame.lazy()
    for layer in layers:
        lazy = lazy.with_columns_seq(layer) if frame.height < _FEW_ROWS else lazy.with_columns(layer)
    return lazy.collect(optimizations=_MANY if frame.height >= _FEW_ROWS else _LITTLE)


def chosen(frame: pl.DataFrame, wanted: Sequence[pl.Expr]) -> pl.DataFrame:
    """`frame.select(wanted)`: for few rows in this thread, since to wake others takes longer than the work."""
    return frame.select_seq(wanted) if frame.height < _FEW_ROWS else frame.select(wanted)


def _compute(frame: pl.DataFrame, wanted: Sequence[pl.Expr]) -> pl.DataFrame:
    few = frame.height < _FEW_ROWS
    out = frame.select_seq(wanted) if few else frame.lazy().select(wanted).collect(optimizations=_MANY)
    if out.height == frame.height or not out.width:
        return out
    # Expressions of literals only make one row: they get the height of the frame.
    return pl.DataFrame([each.new_from_index(0, frame.height) for each in out])


_MANY = pl.QueryOptFlags()
_LITTLE = pl.QueryOptFlags.none(comm_subexpr_elim=True)


def prepare(expressions: Mapping[str, Expression]) -> Prepared:
    """One plan for all the expressions, to be kept and used again."""
    return Prepared(expressions)


def evaluate(frame: pl.DataFrame, expressions: Mapping[str, Expression], *, now: datetime) -> Evaluated:
    """Values and errors of some expressions on a frame; `prepare` them where they are used more than once."""
    return Prepared(expressions).evaluate(frame, now=now)
