"""Random expressions on random records, against a small interpreter that looks at one record at a time."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import polars as pl
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hub.mappings.expressions import ValueType, compile_expression, prepare
from hub.sdk import FieldType

NOW = datetime(2024, 6, 1, tzinfo=UTC)
NAMES = {
    "i": ValueType(FieldType.INTEGER),
    "j": ValueType(FieldType.INTEGER),
    "x": ValueType(FieldType.REAL),
    "y": ValueType(FieldType.REAL),
    "p": ValueType(FieldType.BOOLEAN),
    "q": ValueType(FieldType.BOOLEAN),
    "s": ValueType(FieldType.TEXT),
    "t": ValueType(FieldType.TEXT),
}
SCHEMA = {name: kind.dtype for name, kind in NAMES.items()}
EDGE = [0, 1, -1, 2, 7, -3, 10, 2**62, 2**63 - 1, -(2**63), 3 * 10**9]
REALS = [0.0, 1.0, -1.5, 0.5, 2.5, -0.0, 1e300, -1e300, 1e-300, 3.25, math.nan, math.inf]


class Failure(Exception):  # noqa: N818
    """This record is in error."""


@dataclass(frozen=True)
class Term:
    text: str
    kind: str
    run: Callable[[dict[str, Any]], Any]


def fail_unless(good: bool) -> None:
    if not good:
        raise Failure


def whole(value: int) -> int:
    fail_unless(-(2**63) <= value < 2**63)
    return value


def finite(value: float) -> float:
    fail_unless(math.isfinite(value))
    return value


def column(name: str, kind: str) -> Term:
    def run(row: dict[str, Any]) -> Any:
        value = row[name]
        return finite(value) if isinstance(value, float) else value

    return Term(name, kind, run)


def strict(kind: str, text: str, apply: Callable[..., Any], *args: Term) -> Term:
    def run(row: dict[str, Any]) -> Any:
        values = [each.run(row) for each in args]
        return None if any(each is None for each in values) else apply(*values)

    return Term(text.format(*(f"({each.text})" for each in args)), kind, run)


def fmod(a: Any, b: Any) -> Any:
    fail_unless(b != 0)
    return math.fmod(a, b) if isinstance(a, float) else int(math.copysign(1, a)) * (abs(a) % abs(b))


def divide(a: Any, b: Any) -> float:
    fail_unless(b != 0)
    return finite(float(a) / float(b))


def times(a: float, b: float) -> float:
    return finite(a * b)


def both(a: Term, b: Term) -> Term:
    def run(row: dict[str, Any]) -> Any:
        left = a.run(row)
        if left is False:
            return False
        right = b.run(row)
        return False if right is False else None if left is None or right is None else True

    return Term(f"({a.text}) and ({b.text})", "boolean", run)


def either(a: Term, b: Term) -> Term:
    def run(row: dict[str, Any]) -> Any:
        left = a.run(row)
        if left is True:
            return True
        right = b.run(row)
        return True if right is True else None if left is None or right is None else False

    return Term(f"({a.text}) or ({b.text})", "boolean", run)


def choose(c: Term, a: Term, d: Term, b: Term, e: Term) -> Term:
    def run(row: dict[str, Any]) -> Any:
        if c.run(row) is True:
            return a.run(row)
        return b.run(row) if d.run(row) is True else e.run(row)

    text = f"case when {c.text} then {a.text} when {d.text} then {b.text} else {e.text} end"
    return Term(text, a.kind, run)


def coalesce(a: Term, b: Term) -> Term:
    def run(row: dict[str, Any]) -> Any:
        found = a.run(row)
        return b.run(row) if found is None else found

    return Term(f"coalesce({a.text}, {b.text})", a.kind, run)


def nullif(a: Term, b: Term) -> Term:
    def run(row: dict[str, Any]) -> Any:
        left, right = a.run(row), b.run(row)
        return None if left is not None and right is not None and left == right else left

    return Term(f"nullif({a.text}, {b.text})", a.kind, run)


def is_null(a: Term) -> Term:
    return Term(f"({a.text}) is null", "boolean", lambda row: a.run(row) is None)


def half_away(value: float) -> float:
    down = math.floor(abs(value))
    return math.copysign(down + (abs(value) - down >= 0.5), value)


def literal(value: Any, kind: str) -> Term:
    shown = {None: "null", True: "true", False: "false"}.get(value) if kind == "boolean" or value is None else None
    text = shown or (f"cast({value!r} as real)" if kind == "real" else repr(value))
    return Term(text, kind, lambda _row: value)


def integers(depth: int) -> st.SearchStrategy[Term]:
    leaf = st.sampled_from([column("i", "integer"), column("j", "integer"), *(literal(n, "integer") for n in EDGE)])
    if depth == 0:
        return leaf
    n, b = integers(depth - 1), booleans(depth - 1)
    return st.one_of(
        leaf,
        st.builds(lambda a, c: strict("integer", "{} + {}", lambda p, q: whole(p + q), a, c), n, n),
        st.builds(lambda a, c: strict("integer", "{} - {}", lambda p, q: whole(p - q), a, c), n, n),
        st.builds(lambda a, c: strict("integer", "{} * {}", lambda p, q: whole(p * q), a, c), n, n),
        st.builds(lambda a, c: strict("integer", "{} % {}", fmod, a, c), n, n),
        st.builds(lambda a: strict("integer", "-{}", lambda p: whole(-p), a), n),
        st.builds(lambda a: strict("integer", "abs({})", lambda p: whole(abs(p)), a), n),
        st.builds(lambda a, c: strict("integer", "least({}, {})", min, a, c), n, n),
        st.builds(lambda a, c: strict("integer", "greatest({}, {})", max, a, c), n, n),
        st.builds(lambda a: strict("integer", "sign({})", lambda p: (p > 0) - (p < 0), a), reals(depth - 1)),
        st.builds(choose, b, n, b, n, n),
        st.builds(coalesce, n, n),
        st.builds(nullif, n, n),
    )


def reals(depth: int) -> st.SearchStrategy[Term]:
    leaf = st.sampled_from([column("x", "real"), column("y", "real"), literal(2.5, "real"), literal(0.0, "real")])
    if depth == 0:
        return leaf
    r, b, n = reals(depth - 1), booleans(depth - 1), integers(depth - 1)
    return st.one_of(
        leaf,
        st.builds(lambda a, c: strict("real", "{} + {}", lambda p, q: finite(p + q), a, c), r, r),
        st.builds(lambda a, c: strict("real", "{} - {}", lambda p, q: finite(p - q), a, c), r, r),
        st.builds(lambda a, c: strict("real", "{} * {}", times, a, c), r, r),
        st.builds(lambda a, c: strict("real", "{} / {}", divide, a, c), r, r),
        st.builds(lambda a, c: strict("real", "{} / {}", divide, a, c), n, n),
        st.builds(lambda a, c: strict("real", "mod({}, {})", fmod, a, c), r, r),
        st.builds(lambda a: strict("real", "round({})", half_away, a), r),
        st.builds(lambda a: strict("real", "floor({})", lambda p: float(math.floor(p)), a), r),
        st.builds(lambda a: strict("real", "ceil({})", lambda p: float(math.ceil(p)), a), r),
        st.builds(lambda a: strict("real", "trunc({})", lambda p: float(math.trunc(p)), a), r),
        st.builds(choose, b, r, b, r, r),
        st.builds(coalesce, r, r),
        st.builds(nullif, r, r),
    )


def texts(depth: int) -> st.SearchStrategy[Term]:
    leaf = st.sampled_from([column("s", "text"), column("t", "text"), literal("a", "text"), literal("Äb", "text")])
    if depth == 0:
        return leaf
    t, b, n = texts(depth - 1), booleans(depth - 1), integers(0)
    return st.one_of(
        leaf,
        st.builds(lambda a, c: strict("text", "{} || {}", lambda p, q: p + q, a, c), t, t),
        st.builds(lambda a, c: strict("text", "left({}, {})", lambda p, q: p[: max(q, 0)], a, c), t, n),
        st.builds(lambda a, c: strict("text", "right({}, {})", lambda p, q: p[-q:] if q > 0 else "", a, c), t, n),
        st.builds(lambda a, c: strict("text", "substr({}, {}, 2)", slice_of, a, c), t, n),
        st.builds(lambda a: strict("text", "replace({}, 'a', 'bb')", lambda p: p.replace("a", "bb"), a), t),
        st.builds(lambda a: strict("text", "split_part({}, 'b', 2)", lambda p: [*p.split("b"), ""][1], a), t),
        st.builds(choose, b, t, b, t, t),
        st.builds(coalesce, t, t),
    )


def slice_of(text: str, start: int) -> str:
    offset = start - 1 if start > 0 else 0 if start == 0 else len(text) + start
    return "" if offset < 0 else text[offset : offset + 2]


def booleans(depth: int) -> st.SearchStrategy[Term]:
    leaf = st.sampled_from(
        [column("p", "boolean"), column("q", "boolean"), *(literal(v, "boolean") for v in (True, False, None))]
    )
    if depth == 0:
        return leaf
    n, r, t, b = integers(depth - 1), reals(depth - 1), texts(depth - 1), booleans(depth - 1)
    compared = [
        st.builds(lambda a, c, op=op, f=f: strict("boolean", f"{{}} {op} {{}}", f, a, c), kind, kind)
        for op, f in {
            "=": lambda p, q: p == q,
            "<>": lambda p, q: p != q,
            "<": lambda p, q: p < q,
            ">=": lambda p, q: p >= q,
        }.items()
        for kind in (n, r, t)
    ]
    return st.one_of(
        leaf,
        *compared,
        st.builds(both, b, b),
        st.builds(either, b, b),
        st.builds(lambda a: strict("boolean", "not {}", lambda p: not p, a), b),
        st.builds(is_null, st.one_of(n, r, t, b)),
        st.builds(lambda a, c: strict("boolean", "contains({}, {})", lambda p, q: q in p, a, c), t, t),
        st.builds(lambda a: strict("boolean", "{} in (1, 7, -3)", lambda p: p in (1, 7, -3), a), n),
    )


rows = st.lists(
    st.fixed_dictionaries(
        {
            "i": st.sampled_from([None, *EDGE]),
            "j": st.sampled_from([None, *EDGE]),
            "x": st.sampled_from([None, *REALS]),
            "y": st.sampled_from([None, *REALS]),
            "p": st.sampled_from([None, True, False]),
            "q": st.sampled_from([None, True, False]),
            "s": st.sampled_from([None, "", "a", "ab", "Äbc", "b😀b"]),
            "t": st.sampled_from([None, "", "b", "aab"]),
        }
    ),
    min_size=1,
    max_size=12,
)


def same(left: Any, right: Any) -> bool:
    return left == right and type(left) is type(right)


@settings(max_examples=1000, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(st.lists(st.one_of(integers(3), reals(3), booleans(3), texts(3)), min_size=1, max_size=3), rows)
def test_every_record_gets_the_value_or_the_error_that_looking_at_it_alone_gives(
    terms: list[Term], records: list[dict[str, Any]]
) -> None:
    frame = pl.DataFrame(records, schema=SCHEMA)
    expressions = {f"e{at}": compile_expression(each.text, NAMES) for at, each in enumerate(terms)}
    done = prepare(expressions).evaluate(frame, now=NOW)
    assert done.values.schema == {name: each.type.dtype for name, each in expressions.items()}
    for at, record in enumerate(records):
        failed = None
        for name, term in zip(expressions, terms, strict=True):
            try:
                wanted = term.run(record)
            except Failure:
                failed = failed or name
                assert done.values[name][at] is None, (term.text, record)
                continue
            assert same(done.values[name][at], wanted), (term.text, record, done.values[name][at], wanted)
        error = done.errors[at]
        assert (error is None) == (failed is None), (error, failed, record)
        if error is not None:
            assert error.startswith(f"{failed}: ")
            assert "could not be computed" not in error
