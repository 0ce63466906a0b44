"""From a closed tree to typed nodes: every name resolved, every type known, every refusal one sentence."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from sqlglot import exp

from hub.mappings.expressions.functions import REGISTRY, Call, Function
from hub.mappings.expressions.functions.casts import cast_node, type_named
from hub.mappings.expressions.functions.conversions import (
    MismatchError,
    coerce,
    moment_literal,
    number_literal,
    together,
)
from hub.mappings.expressions.functions.numbers import arithmetic, fit, negate
from hub.mappings.expressions.functions.texts import like_node
from hub.mappings.expressions.syntax import UNKNOWN_TYPE, parse, position_of
from hub.mappings.expressions.types import (
    BOOLEAN,
    TEXT,
    Expression,
    ExpressionError,
    Node,
    ValueType,
    literal,
)
from hub.sdk import FieldType

_COMPARISONS: Mapping[type[exp.Expr], str] = {
    exp.EQ: "eq",
    exp.NEQ: "ne",
    exp.LT: "lt",
    exp.LTE: "le",
    exp.GT: "gt",
    exp.GTE: "ge",
    exp.NullSafeEQ: "same",
    exp.NullSafeNEQ: "differs",
}
_ARITHMETIC: Mapping[type[exp.Expr], str] = {
    exp.Add: "add",
    exp.Sub: "subtract",
    exp.Mul: "multiply",
    exp.Div: "divide",
    exp.Mod: "mod",
}
_SYMBOLS = {"add": "+", "subtract": "-", "multiply": "*", "divide": "/", "mod": "%", "eq": "=", "ne": "<>",
            "lt": "<", "le": "<=", "gt": ">", "ge": ">=", "same": "IS NOT DISTINCT FROM",
            "differs": "IS DISTINCT FROM"}  # fmt: skip
_WITHOUT_PARENTHESES = {"current_date": "current_date", "current_timestamp": "now"}

AggregateHook = Callable[["Checker", exp.Anonymous], Node | None]


@dataclass
class Checker:
    """The names that can be used in one place, and what one text used of them."""

    text: str
    names: Mapping[str, ValueType]
    timezone: str
    functions: Mapping[str, Function]
    allow_reasons: bool = False
    aggregates: AggregateHook | None = None
    outside: Mapping[str, ValueType] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)
    reasons: int = 0

    def fail(self, message: str, at: exp.Expr | None = None) -> ExpressionError:
        """An error that knows its place in the text."""
        position = position_of(at, self.text) if at is not None else None
        return ExpressionError(message, text=self.text, position=position)

    def check(self, tree: exp.Expr) -> Node:
        """The typed node of a tree."""
        method = _CHECKS.get(type(tree))
        if method is None:
            raise self.fail(f"{tree.key.upper()} is not allowed here", tree)
        return method(self, tree)

    def condition(self, tree: exp.Expr, what: str) -> Node:
        """The node of a tree that must be true or false."""
        node = self.check(tree)
        if node.type.kind not in (FieldType.BOOLEAN, None):
            raise self.fail(f"{what} must be a condition, not {node.type}: compare it with something", tree)
        return coerce(node, BOOLEAN, self.timezone)

    def together(self, trees: Sequence[exp.Expr], nodes: Sequence[Node], what: str) -> list[Node]:
        """The nodes as one type; an error names the first that does not fit."""
        try:
            return together(nodes, self.timezone)
        except MismatchError as error:
            raise self.fail(f"{what}: {_mismatch(error)}", trees[0]) from None


def _mismatch(error: MismatchError) -> str:
    text = str(error)
    if " and " not in text or ":" in text:
        return text
    left, right = text.split(" and ", 1)
    return f"{left} and {right} do not go together; use cast(… as …) if that is meant"


def compile_expression(
    text: str,
    names: Mapping[str, ValueType],
    *,
    timezone: str = "UTC",
    expect: ValueType | None = None,
    allow_reasons: bool = False,
    functions: Mapping[str, Function] | None = None,
) -> Expression:
    """Parses, resolves and types one expression over `names`.

    `expect` is the type wanted: the value is converted where nothing is lost (a whole number to an integer included),
    else refused. `allow_reasons` admits `reasons(n)`, which reads the column `_reasons`; `functions` are further
    functions known in this place. ExpressionError, and no other, for whatever is wrong with the text.
    """
    check_timezone(timezone, text)
    known = {**REGISTRY.functions, **(functions or {})}
    checker = Checker(text, names, timezone, known, allow_reasons)
    tree = parse(text)
    node = checker.check(tree)
    if expect is not None:
        node = expected(checker, node, expect)
    joined = list(tree.unnest().flatten()) if node.op == "and" and isinstance(tree.unnest(), exp.And) else [tree]
    return finish(checker, node, parts=tuple(each.sql() for each in joined))


def finish(checker: Checker, node: Node, *, parts: tuple[str, ...] = ()) -> Expression:
    """The compiled expression of a checked node."""
    nodes = list(node.walk())
    return Expression(
        text=checker.text,
        type=node.type,
        columns=frozenset(str(each.params[0]) for each in nodes if each.op == "column"),
        functions=frozenset(checker.used),
        uses_now=any(each.op == "now" for each in nodes),
        tree=node,
        timezone=checker.timezone,
        reasons=checker.reasons,
        parts=parts,
    )


def expected(checker: Checker, node: Node, expect: ValueType) -> Node:
    """The node as the type that is wanted here."""
    try:
        return coerce(node, expect, checker.timezone)
    except MismatchError:
        pass
    fitted = fit(node, expect)
    if fitted is not None:
        return fitted
    if node.type.textual and expect.textual:
        return cast_node(node, expect, checker.timezone, lenient=False) or node
    raise checker.fail(f"the expression gives {node.type}, but {expect} is wanted here: {_way_out(node.type, expect)}")


def _way_out(given: ValueType, wanted: ValueType) -> str:
    if given.numeric and wanted.kind is FieldType.INTEGER:
        return "use round(…), floor(…) or ceil(…)"
    if given.numeric and wanted.kind is FieldType.DECIMAL:
        return f"use round(…, {wanted.digits[1]})"
    if wanted.kind is FieldType.BOOLEAN:
        return "compare it with something"
    return f"use cast(… as {wanted}) if that is meant"


def nearest(name: str, known: Sequence[str]) -> str:
    """` did you mean …` for the nearest known name, else nothing."""
    exact = [each for each in known if each.lower() == name.lower()]
    lowered = {each.lower(): each for each in known}
    close = exact or [lowered[each] for each in get_close_matches(name.lower(), list(lowered), n=1, cutoff=0.6)]
    if not close:
        last = [each for each in known if "." in each and each.rpartition(".")[2].lower() == name.lower()]
        close = last[:1]
    return f": did you mean {close[0]}?" if close else ""


@lru_cache(maxsize=64)
def _zone(name: str) -> bool:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError, TypeError):
        return False
    return True


def check_timezone(name: str, text: str = "") -> None:
    """ExpressionError for a timezone that is not in the tz database."""
    if not name or not _zone(name):
        raise ExpressionError(f"{name!r} is no timezone: write a name such as Europe/Berlin", text=text)


def _column(checker: Checker, tree: exp.Expr) -> Node:
    parts = list(tree.parts)  # type: ignore[attr-defined]
    name = ".".join(each.name for each in parts)
    if name in checker.names:
        return Node("column", checker.names[name], (), (name,))
    if len(parts) == 1 and not parts[0].args.get("quoted") and name.lower() in _WITHOUT_PARENTHESES:
        return _call_named(checker, _WITHOUT_PARENTHESES[name.lower()], (), tree)
    if name in checker.outside:
        raise checker.fail(f"field {name} has many values here: put it into count, sum, min, max, avg or stddev", tree)
    hint = nearest(name, [*checker.names, *checker.outside])
    if not hint and name.lower() in checker.functions:
        hint = f": the function is written {name}(…)"
    if not hint and parts[0].args.get("quoted"):
        hint = "; text goes between single quotes"
    raise checker.fail(f"unknown field {name}{hint}", tree)


def _literal(checker: Checker, tree: exp.Expr) -> Node:
    if tree.is_string:
        return literal(tree.name, TEXT)
    return _number(checker, tree, negative=False)


def _number(checker: Checker, tree: exp.Expr, *, negative: bool) -> Node:
    node = number_literal(tree.name, negative=negative)
    if node is None:
        raise checker.fail("this number is out of range or not written as a number", tree)
    return node


def _negative(checker: Checker, tree: exp.Expr) -> Node:
    inner = tree.this
    if isinstance(inner, exp.Literal) and not inner.is_string:
        return _number(checker, inner, negative=True)
    node = checker.check(inner)
    if not node.type.numeric and node.type.kind is not None:
        raise checker.fail(f"minus needs a number, not {node.type}", tree)
    return negate(node)


def _binary_arithmetic(checker: Checker, tree: exp.Expr) -> Node:
    op = _ARITHMETIC[type(tree)]
    left, right = checker.check(tree.this), checker.check(tree.expression)
    for side in (left, right):
        if not side.type.numeric and side.type.kind is not None:
            hint = "use ||" if op == "add" and side.type.textual else "use cast(… as real) if that is meant"
            hint = "use datediff or dateadd" if side.type.temporal else hint
            raise checker.fail(f"{_SYMBOLS[op]} needs numbers, not {side.type}: {hint}", tree)
    try:
        return arithmetic(op, left, right, checker.timezone)
    except MismatchError as error:
        raise checker.fail(str(error), tree) from None


def compare(checker: Checker, op: str, trees: tuple[exp.Expr, exp.Expr], nodes: tuple[Node, Node]) -> Node:
    """The comparison of two nodes as their common type."""
    left, right = checker.together(trees, nodes, f"{_SYMBOLS[op]} compares like with like")
    ordered = op not in ("eq", "ne", "same", "differs")
    if ordered and left.type.kind in (FieldType.BOOLEAN, FieldType.BYTES):
        raise checker.fail(f"{_SYMBOLS[op]} needs values with an order, not {left.type}", trees[0])
    if left.type.kind is None:
        left = right = literal(None, BOOLEAN)
    return Node(op, BOOLEAN, (left, right))


def _comparison(checker: Checker, tree: exp.Expr) -> Node:
    if isinstance(tree.this, exp.EQ | exp.LT | exp.LTE | exp.GT | exp.GTE | exp.NEQ):
        raise checker.fail("comparisons are not chained: write a < b and b < c", tree)
    nodes = (checker.check(tree.this), checker.check(tree.expression))
    return compare(checker, _COMPARISONS[type(tree)], (tree.this, tree.expression), nodes)


def _logic(checker: Checker, tree: exp.Expr) -> Node:
    op = "and" if isinstance(tree, exp.And) else "or"
    parts: list[exp.Expr] = []
    rest = [tree]
    while rest:
        each = rest.pop()
        if type(each) is type(tree):
            rest += [each.expression, each.this]
        else:
            parts.append(each)
    return Node(op, BOOLEAN, tuple(checker.condition(each, f"each side of {op.upper()}") for each in parts))


def _not(checker: Checker, tree: exp.Expr) -> Node:
    return Node("not", BOOLEAN, (checker.condition(tree.this, "what follows NOT"),))


def _is(checker: Checker, tree: exp.Expr) -> Node:
    node = checker.check(tree.this)
    if isinstance(tree.expression, exp.Null):
        return Node("is_null", BOOLEAN, (node,))
    if isinstance(tree.expression, exp.Boolean):
        wanted = literal(bool(tree.expression.this), BOOLEAN)
        return compare(checker, "same", (tree.this, tree.expression), (node, wanted))
    raise checker.fail("IS is followed by NULL, NOT NULL, TRUE or FALSE", tree)


def _in(checker: Checker, tree: exp.Expr) -> Node:
    listed = tree.expressions
    if not listed:
        raise checker.fail("IN needs a list of literals between parentheses", tree)
    nodes = [checker.check(each) for each in listed]
    for at, node in zip(listed, nodes, strict=True):
        if not node.constant and node.op != "null":
            raise checker.fail("IN takes literals only: join comparisons with OR for fields", at)
    subject = checker.check(tree.this)
    subject, *values = checker.together([tree.this, *listed], [subject, *nodes], "IN compares like with like")
    if subject.type.kind is None:
        return literal(None, BOOLEAN)
    return Node("in", BOOLEAN, (subject, *values))


def _between(checker: Checker, tree: exp.Expr) -> Node:
    trees = (tree.this, tree.args["low"], tree.args["high"])
    subject, low, high = (checker.check(each) for each in trees)
    above = compare(checker, "ge", (trees[0], trees[1]), (subject, low))
    below = compare(checker, "le", (trees[0], trees[2]), (subject, high))
    return Node("and", BOOLEAN, (above, below))


def _like(checker: Checker, tree: exp.Expr) -> Node:
    escape = None
    if isinstance(tree, exp.Escape):
        escape = tree.expression
        tree = tree.this
    if not isinstance(tree, exp.Like | exp.ILike):
        raise checker.fail("ESCAPE belongs after LIKE or ILIKE", tree)
    node = checker.check(tree.this)
    if not node.type.textual and node.type.kind is not None:
        raise checker.fail(f"LIKE needs text, not {node.type}: use cast(… as text)", tree)
    pattern = tree.expression
    if not isinstance(pattern, exp.Literal) or not pattern.is_string:
        raise checker.fail("the pattern after LIKE must be a text literal", tree)
    if escape is not None and not (isinstance(escape, exp.Literal) and escape.is_string and len(escape.name) == 1):
        raise checker.fail("ESCAPE is followed by one character in quotes", tree)
    mark = escape.name if escape is not None else ""
    made = like_node(coerce(node, TEXT, checker.timezone), pattern.name, mark, blind=isinstance(tree, exp.ILike))
    if made is None:
        raise checker.fail("the escape character must stand before %, _ or itself", tree)
    return made


def case_node(checker: Checker, tree: exp.Expr, pairs: Sequence[tuple[Node, Node]], otherwise: Node) -> Node:
    """A CASE of conditions and values, all values as one type."""
    values = [value for _, value in pairs] + [otherwise]
    same = checker.together([tree] * len(values), values, "all branches must give like values")
    flat = [each for (when, _), value in zip(pairs, same[:-1], strict=True) for each in (when, value)]
    return Node("case", same[-1].type, (*flat, same[-1]))


def _case(checker: Checker, tree: exp.Expr) -> Node:
    subject = checker.check(tree.this) if tree.this is not None else None
    pairs = []
    for branch in tree.args["ifs"]:
        if subject is None:
            when = checker.condition(branch.this, "what follows WHEN")
        else:
            when = compare(checker, "eq", (tree.this, branch.this), (subject, checker.check(branch.this)))
        pairs.append((when, checker.check(branch.args["true"])))
    default = tree.args.get("default")
    otherwise = checker.check(default) if default is not None else Node("null", pairs[0][1].type)
    return case_node(checker, tree, pairs, otherwise)


def _cast(checker: Checker, tree: exp.Expr) -> Node:
    lenient = isinstance(tree, exp.TryCast)
    if tree.args.get("format") or tree.args.get("action") or tree.args.get("default"):
        raise checker.fail("CAST takes a value and a type only: use to_date(x, 'DD.MM.YYYY') for a format", tree)
    target = tree.args["to"]
    params = [each.this for each in target.expressions if isinstance(each, exp.DataTypeParam)]
    sizes = [int(each.name) for each in params if isinstance(each, exp.Literal) and each.name.isdecimal()]
    wanted, length = type_named(target.this.value if hasattr(target.this, "value") else str(target.this), sizes)
    if wanted is None or len(sizes) != len(target.expressions) or target.args.get("nested"):
        raise checker.fail(UNKNOWN_TYPE, tree)
    node = checker.check(tree.this)
    if node.constant and node.type.kind is FieldType.TEXT and wanted.kind in _MOMENTS:
        read = moment_literal(str(node.params[0]), wanted)
        if read is not None:
            return read
        if isinstance(tree.this, exp.Literal) and not lenient:
            raise checker.fail(f"the text in quotes is no {wanted} in ISO form, such as {_MOMENTS[wanted.kind]}", tree)
    made = cast_node(node, wanted, checker.timezone, lenient=lenient, length=length)
    if made is None:
        raise checker.fail(f"{node.type} cannot be cast to {wanted}", tree)
    return made


_MOMENTS = {
    FieldType.DATE: "2024-12-31",
    FieldType.TIME: "23:59:00",
    FieldType.TIMESTAMP: "2024-12-31 23:59:00",
    FieldType.INSTANT: "2024-12-31 23:59:00+00:00",
}


def _concat(checker: Checker, tree: exp.Expr) -> Node:
    parts: list[exp.Expr] = []
    rest = [tree]
    while rest:
        each = rest.pop()
        if isinstance(each, exp.DPipe):
            rest += [each.expression, each.this]
        else:
            parts.append(each)
    return _call_named(checker, "concat", tuple(checker.check(each) for each in parts), tree)


def _extract(checker: Checker, tree: exp.Expr) -> Node:
    part = literal(tree.this.name.lower(), TEXT)
    return _call_named(checker, "date_part", (part, checker.check(tree.expression)), tree)


def _substring(checker: Checker, tree: exp.Expr) -> Node:
    trees = [tree.this, tree.args.get("start"), tree.args.get("length")]
    return _call_named(checker, "substr", tuple(checker.check(each) for each in trees if each is not None), tree)


_UNIT_FIRST = frozenset({"datediff", "dateadd", "date_trunc", "date_part", "timestampdiff", "timestampadd"})


def _call(checker: Checker, tree: exp.Expr) -> Node:
    name = tree.name.lower()
    args = tree.expressions
    if checker.aggregates is not None and isinstance(tree, exp.Anonymous):
        found = checker.aggregates(checker, tree)
        if found is not None:
            return found
    if name in ("position", "charindex") and len(args) == 1 and isinstance(args[0], exp.In):
        field_ = args[0].args.get("field")
        if field_ is not None:
            return _call_named(checker, name, (checker.check(args[0].this), checker.check(field_)), tree)
    if name in _UNIT_FIRST and args and isinstance(args[0], exp.Column) and len(args[0].parts) == 1:
        unit = literal(args[0].name.lower(), TEXT)
        return _call_named(checker, name, (unit, *(checker.check(each) for each in args[1:])), tree)
    if name == "reasons":
        return _reasons(checker, tree)
    if name not in checker.functions:
        known = sorted(checker.functions)
        raise checker.fail(f"unknown function {name}{nearest(name, known) or _no_function(name)}", tree)
    return _call_named(checker, name, tuple(checker.check(each) for each in args), tree)


def _no_function(name: str) -> str:
    if name in AGGREGATE_NAMES:
        return ": it is allowed only in the aggregate of a lookup"
    return ""


AGGREGATE_NAMES = frozenset({"count", "sum", "min", "max", "avg", "stddev"})


def _reasons(checker: Checker, tree: exp.Expr) -> Node:
    if not checker.allow_reasons:
        raise checker.fail("reasons(n) is allowed only where outputs are written (decide and write)", tree)
    args = tree.expressions
    wanted = checker.check(args[0]) if len(args) == 1 else None
    count = wanted.params[0] if wanted is not None and wanted.constant else None
    if not isinstance(count, int) or isinstance(count, bool) or not 1 <= count <= 20:
        raise checker.fail("reasons(n) takes one whole number from 1 to 20", tree)
    checker.reasons = max(checker.reasons, count)
    checker.used.add("reasons")
    return Node("reasons", TEXT, (), (count,))


def _call_named(checker: Checker, name: str, args: tuple[Node, ...], tree: exp.Expr) -> Node:
    function = checker.functions[name]
    call = Call(name, args, checker.timezone, checker.text, position_of(tree, checker.text))
    checker.used.add(function.name)
    try:
        return function.resolve(call)
    except MismatchError as error:
        raise call.fail(_mismatch(error)) from None


_CHECKS: Mapping[type[exp.Expr], Callable[[Checker, exp.Expr], Node]] = {
    exp.Column: _column,
    exp.Literal: _literal,
    exp.Boolean: lambda _, tree: literal(bool(tree.this), BOOLEAN),
    exp.Null: lambda _checker, _tree: Node("null", ValueType(None)),
    exp.Paren: lambda checker, tree: checker.check(tree.this),
    exp.Neg: _negative,
    **dict.fromkeys(_ARITHMETIC, _binary_arithmetic),
    **dict.fromkeys(_COMPARISONS, _comparison),
    exp.And: _logic,
    exp.Or: _logic,
    exp.Not: _not,
    exp.Is: _is,
    exp.In: _in,
    exp.Between: _between,
    exp.Like: _like,
    exp.ILike: _like,
    exp.Escape: _like,
    exp.Case: _case,
    exp.Cast: _cast,
    exp.TryCast: _cast,
    exp.DPipe: _concat,
    exp.Extract: _extract,
    exp.Substring: _substring,
    exp.Anonymous: _call,
}
